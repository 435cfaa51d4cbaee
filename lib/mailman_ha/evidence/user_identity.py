"""Touching Mailman's files as Mailman's user instead of root.

Lock directories, queues and list directories are written by CGI programs, and NFS servers squash
root; so whatever is done there is done with Mailman's effective user and group, and given back
afterwards. Only the effective ids change: the process stays root's and regains them.
On the monitors' light path, so on `posix` alone (see `ocf.runtime`).
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class ActingAs:
    """A context manager: inside it the effective user is `uid` and the only group `gid`.

    Does nothing where this process is not root (it then has no choice). Not reentrant.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self._uid = uid
        self._gid = gid
        self._groups: list[int] | None = None

    def __enter__(self) -> "ActingAs":
        if posix.geteuid() == 0 and self._uid != 0:
            self._groups = posix.getgroups()
            self._saved_gid = posix.getegid()
            try:
                posix.setgroups([self._gid])
                posix.setegid(self._gid)
                posix.seteuid(self._uid)
            except BaseException:  # ids that the system does not have
                self.__exit__(None, None, None)
                raise
        return self

    def keep(self) -> None:
        """Stay this user when the block ends: for a process that has nothing more to do.

        Each change is told to every thread (nptl(7)), so where a watchdog runs it is dear.
        """
        self._groups = None

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        value: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        if self._groups is not None:
            posix.seteuid(0)
            posix.setegid(self._saved_gid)
            posix.setgroups(self._groups)
            self._groups = None
