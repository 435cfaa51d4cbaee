"""Watching what a piece of code opens, changes and starts, through Python's audit hook.

The hook cannot be taken out again; it looks only while a :class:`Watch` is on. It sees each name as
it was handed to the system, so it also notices a path outside that happens not to be there.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent

#: Whatever the library reads of the machine itself; nobody hostile writes there.
_READABLE = (
    "/proc/", "/dev/null", "/dev/urandom", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf",
    "/etc/host.conf", "/etc/localtime", "/usr/share/zoneinfo/", f"{CHECKOUT}/", f"{sys.prefix}/",
    f"{sys.base_prefix}/lib/", f"{sysconfig.get_paths()['stdlib']}/",
    f"{sys.base_prefix}/local/lib/",
)

#: Events of the audit hook: which arguments are names. (Python's "Audit events table".)
_NAMES = {
    "open": (0,), "os.listdir": (0,), "os.scandir": (0,), "os.remove": (0,), "os.rmdir": (0,),
    "os.mkdir": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "os.truncate": (0,),
    "os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (1,), "os.setxattr": (0,),
    "os.chflags": (0,), "os.chdir": (0,),
}
_STARTS = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.kill", "os.killpg",
    "socket.connect", "pickle.find_class", "ctypes.dlopen",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_on: Watch | None = None
_installed = False


class Watch:
    """While it is on, notes in `trespasses` whatever is done outside of `hostile`, a directory in
    which somebody hostile writes, and `own`, where only we do.

    A name below `hostile`, or one that is looked up in an open directory, must be opened without
    following a link.
    """

    def __init__(self, hostile: Path | None = None, own: tuple[Path, ...] = ()) -> None:
        self._hostile = None if hostile is None else str(hostile)
        self._own = tuple(map(str, own))
        self.trespasses: list[str] = []

    def __enter__(self) -> Watch:
        global _on, _installed
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True
        assert _on is None, "two watches at a time"
        _on = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _on
        _on = None
        if kind is None:
            assert not self.trespasses, self.trespasses

    def saw(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event."""
        if event == "os.kill" and arguments[1] == 0:
            return  # asks only whether there is such a process
        if event in _STARTS:
            self.trespasses.append(f"{event} {arguments!r:.200}")
            return
        for place in _NAMES.get(event, ()):
            name = arguments[place]
            if isinstance(name, int) or name is None:
                continue
            name = os.fsdecode(name)
            flags = arguments[2] if event == "open" else 0
            if not self._may(event, name, flags):
                self.trespasses.append(f"{event} {name!r:.300} flags {flags:o}")

    def _may(self, event: str, name: str, flags: int) -> bool:
        follows = event == "open" and not flags & (os.O_NOFOLLOW | os.O_DIRECTORY)
        if not name.startswith("/"):
            return "/" not in name and name not in ("", ".", "..") and not follows
        if os.path.normpath(name) != name.rstrip("/"):
            return False
        if any(_below(name, own) for own in self._own):
            return True
        if self._hostile is not None and _below(name, self._hostile):
            return not follows
        looks = event in ("os.listdir", "os.scandir") or (event == "open" and not flags & _WRITING)
        return looks and (name + "/").startswith(_READABLE)


def _below(name: str, directory: str) -> bool:
    return name == directory or name.startswith(directory + "/")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watch = _on
    if watch is not None and (event in _NAMES or event in _STARTS):
        watch.saw(event, arguments)


def state_of(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything about the files below a directory that a touch, a link or a write would change."""
    found: dict[str, tuple[object, ...]] = {}
    for top, directories, files in os.walk(path):
        for name in (*directories, *files):
            here = os.path.join(top, name)
            status = os.lstat(here)
            found[here] = (
                status.st_ino, status.st_nlink, status.st_size, status.st_mode, status.st_uid,
                status.st_mtime_ns, status.st_ctime_ns,
            )
    return found
