"""Dot locks beside the mailboxes in which Mailman 3 gathers a list's digests.

Mailman 3 adds every post to ``LISTS/LIST-ID/digest.mmdf`` through Python's mailbox module, which
locks twice: with lockf(3) on the mailbox, then with a file ``digest.mmdf.lock`` beside it, made by
link(2), empty, without owner or lifetime. A process that dies with both leaves the file for good,
and from then on every post of the list is shunted: "dot lock unavailable" (seen on 3.3.10 after a
file system broke down under it). The lockf goes with its process: the kernel drops it, and over NFS
the server, as soon as the client's lease is over. So a dot lock whose mailbox nobody has locked is
nobody's, whatever node its maker was on; and as every Mailman takes the lockf first, that alone
keeps two from one mailbox while the file is moved away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MAILBOX = "digest"
_LOCK = ".mmdf.lock"

#: The queue whose runner adds to the mailbox of this name; the digest runner reads all others,
#: which are called ``digest.VOLUME.NUMBER.mmdf``.
_GATHERING = "digest.mmdf"


@record
class MailboxLock:
    """A dot lock as a look at the list's directory found it. `inode` and `changed_ns` (its ctime)
    tell it from one that is made later under the same name."""

    directory: str
    name: str
    inode: int
    changed_ns: int

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.name)

    @property
    def mailbox(self) -> str:
        """The name of the mailbox that it locks."""
        return self.name[: -len(".lock")]

    @property
    def list_id(self) -> str:
        """The list, as its directory and its messages name it."""
        return os.path.basename(self.directory)

    @property
    def queue(self) -> str:
        """The queue from which messages are shunted while the lock is there."""
        return "pipeline" if self.mailbox == _GATHERING else "digest"


def find(lists_dir: str) -> Iterator[MailboxLock]:
    """Every dot lock of a digest's mailbox under `lists_dir`; links are not followed.

    Raises OSError where `lists_dir` cannot be listed; nothing there yet is no error.
    """
    try:
        entries = os.scandir(lists_dir)
    except FileNotFoundError:
        return  # Mailman makes it with the first list
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _in_list(entry.path)


def _in_list(directory: str) -> Iterator[MailboxLock]:
    try:
        names = os.listdir(directory)
    except OSError:
        return  # removed meanwhile
    for name in names:
        if name.startswith(_MAILBOX) and name.endswith(_LOCK):
            seen = _look(os.path.join(directory, name))
            if seen is not None:
                yield MailboxLock(directory, name, seen.st_ino, seen.st_ctime_ns)


def _look(path: str, directory: int | None = None) -> os.stat_result | None:
    """The file as it is now; None where it is gone or no regular file."""
    try:
        seen = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return seen if stat.S_ISREG(seen.st_mode) else None


class InUse(Exception):
    """A process has the mailbox locked, or whether one has cannot be told; the text says which."""


class Changed(Exception):
    """The dot lock is no longer the one that was found: its maker lives, or somebody removed it.

    `disturbed` says whether we had the mailbox locked for a moment all the same, in which a post
    may have been shunted.
    """

    def __init__(self, text: str, disturbed: bool = False) -> None:
        super().__init__(text)
        self.disturbed = disturbed


class HeldMailbox:
    """A context manager that has the mailbox of `lock` locked as Mailman locks it, so that nobody
    else has; `directory` is the list's, opened.

    Only for a dot lock that is there: without one, a post that comes by would be shunted for it.
    Entering raises InUse, Changed, or OSError where the list's directory or mailbox cannot be
    opened.
    """

    def __init__(self, lock: MailboxLock) -> None:
        self._lock = lock
        self.directory = -1
        self._mailbox = -1

    def __enter__(self) -> HeldMailbox:
        try:
            self.directory = os.open(
                self._lock.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            self._mailbox = os.open(
                self._lock.mailbox,
                os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
                dir_fd=self.directory,
            )
            self._take()
        except BaseException:
            self._close()
            raise
        return self

    def _take(self) -> None:
        if not stat.S_ISREG(os.fstat(self._mailbox).st_mode):
            raise Changed("its mailbox is no regular file")
        if not self._is_there():
            raise Changed("it is another one now, or gone")
        try:
            fcntl.lockf(self._mailbox, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InUse("a process has the mailbox locked") from error
            raise InUse(f"whether one has the mailbox locked cannot be told: {error.strerror}") \
                from error
        if not self._is_there():
            raise Changed("it went away in this moment", disturbed=True)

    def _is_there(self) -> bool:
        now = _look(self._lock.name, self.directory)
        return now is not None and (now.st_ino, now.st_ctime_ns) == (
            self._lock.inode, self._lock.changed_ns
        )

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        for descriptor in (self._mailbox, self.directory):  # which gives the lock up
            if descriptor >= 0:
                os.close(descriptor)
        self._mailbox = self.directory = -1
