"""Releasing the lock of a dead owner: moved aside with the evidence, never destroyed.

rename(2) takes a name, not an inode, so between the last look and the rename somebody could put a
live lock under that name. Four things close that gap:

* releases exclude each other over the whole share (a guard lock inside the quarantine directory,
  held by the hard-link protocol, so it also holds over NFS);
* Mailman breaks only expired locks, so a lock about to expire gets its expiry pushed ahead first;
* inode, times, content and owner are looked at again, immediately before the rename;
* after the rename the moved file is looked at once more. If it is not the judged one, it is put
  back by link(2), which never overwrites.

What is moved lands in ``LOCK_DIR/mailman-ha.quarantine``; each release adds one JSON line to
``evidence.jsonl`` there.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import holding
from mailman_ha.locks.directory import QUARANTINE, Inspection, is_gone
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

EVIDENCE_LOG = "evidence.jsonl"
GUARD = "release.lock"

#: Lifetime of the guard (seconds): a node that dies while releasing blocks others no longer.
GUARD_LIFETIME = 20.0

#: A lock that expires within this time gets its expiry pushed before it is moved (seconds).
NEAR_EXPIRY = 60.0

#: How far the expiry is pushed (seconds): enough for the rename, soon over if we die before it.
PUSH = 120.0

_NAME_LIMIT = 255


class QuarantineError(Exception):
    """The quarantine directory cannot be used; the text says why and what to do."""


@record
class Released:
    """What became of one release. `done` is False where the lock is as it was, and `why` says
    what had changed."""

    name: str
    done: bool
    why: str = ""
    moved: tuple[str, ...] = ()


class Quarantine:
    """The quarantine directory of one lock_dir, open and under the guard.

    A context manager: entering creates the directory if need be, checks that it is a real
    directory nobody else planted, and takes the guard. Raises QuarantineError.
    """

    def __init__(self, lock_dir: str, host: str, wait: float = 5.0) -> None:
        self.lock_dir = lock_dir
        self.path = os.path.join(lock_dir, QUARANTINE)
        self._host = host
        self._wait = wait
        self.directory = -1
        self.quarantine = -1
        self._guard: holding.Holding | None = None

    def __enter__(self) -> Quarantine:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _open(self) -> None:
        try:
            self.directory = lock_directory.open_lock_directory(self.lock_dir)
            try:
                os.mkdir(QUARANTINE, 0o770, dir_fd=self.directory)
            except FileExistsError:
                pass
            self.quarantine = os.open(
                QUARANTINE,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=self.directory,
            )
        except OSError as error:
            raise QuarantineError(
                f"{escape(self.path)} cannot be opened as a directory ({error.strerror}); it must "
                "be a directory that Mailman's user may write, not a link"
            ) from error
        owner = os.fstat(self.quarantine)
        if owner.st_uid not in (os.geteuid(), 0) or owner.st_mode & stat.S_IWOTH:
            raise QuarantineError(
                f"{escape(self.path)} belongs to uid {owner.st_uid} with mode "
                f"{stat.S_IMODE(owner.st_mode):04o}: somebody else made it; remove it"
            )
        try:
            self._guard = holding.take(
                self.quarantine, self.path, GUARD, self._host, GUARD_LIFETIME, self._wait
            )
        except holding.NotHeldError as error:
            raise QuarantineError(
                f"another release is under way in {escape(self.path)} ({escape(str(error))})"
            ) from error
        except OSError as error:
            raise QuarantineError(
                f"{escape(self.path)} cannot be written: {error.strerror}"
            ) from error

    def _close(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            try:
                guard.give_up()
            except OSError:
                pass  # it expires by itself
        for name in ("quarantine", "directory"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                setattr(self, name, -1)
                os.close(descriptor)

    def holds_guard(self) -> bool:
        """Whether the guard is still ours (it is not, after a long stall)."""
        return self._guard is not None and self._guard.is_ours()

    def release(
        self,
        judged: Inspection,
        claims: tuple[str, ...],
        evidence: Mapping[str, Any],
        still_dead: Callable[[Inspection], bool],
    ) -> Released:
        """Move the file `judged` (a lock, or an orphaned claim with no `claims`) into quarantine.

        `claims` are the claim files on the same inode, moved after it. `still_dead` is asked at
        the last moment, with the file as it is then. Raises OSError where the share does not
        allow the rename; then the lock is as it was.
        """
        try:
            now = self._unchanged(judged)
            if judged.expires_at < time.time() + NEAR_EXPIRY:
                now = self._push_expiry(now)
            if not still_dead(judged):
                return Released(judged.name, False, "its owner no longer counts as dead")
            if not self.holds_guard():
                return Released(judged.name, False, "the guard was lost meanwhile")
            last = self._look(judged.name)
            if _identity(last) != _identity(now):
                raise _ChangedError("it was touched while being released")
            target = self._move(judged.name, judged.inode)
        except _ChangedError as error:
            return Released(judged.name, False, str(error))
        moved = [target]
        if not self._is(target, judged.inode):
            return Released(judged.name, False, self._put_back(target, judged.name))
        for claim in claims:
            try:
                if self._look(claim).inode == judged.inode:
                    moved.append(self._move(claim, judged.inode))
            except (_ChangedError, OSError):
                continue  # an orphan now; the next sweep judges it by itself
        why = ""
        try:
            self.log({**evidence, "released": escape(judged.name), "moved_to": moved})
        except OSError as error:  # a full share: the lock is gone all the same, and must be said so
            why = f"released, but {EVIDENCE_LOG} could not be written: {error.strerror}"
        return Released(judged.name, True, why, moved=tuple(moved))

    def _look(self, name: str) -> Inspection:
        try:
            return lock_directory.inspect(self.directory, name)
        except OSError as error:
            if is_gone(error):
                raise _ChangedError("it is gone already") from error
            raise _ChangedError(f"it can no longer be read: {error.strerror}") from error

    def _unchanged(self, judged: Inspection) -> Inspection:
        now = self._look(judged.name)
        if _identity(now) != _identity(judged):
            raise _ChangedError("it changed after it was judged")
        return now

    def _push_expiry(self, now: Inspection) -> Inspection:
        """Push the expiry through a descriptor of this very inode; returns it as it is then."""
        later = time.time_ns() + int(PUSH * 1e9)
        try:
            file = os.open(
                now.name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=self.directory,
            )
        except OSError as error:
            raise _ChangedError(f"it went away: {error.strerror}") from error
        try:
            if os.fstat(file).st_ino != now.inode:
                raise _ChangedError("another file took its place")
            os.utime(file, ns=(later, later))
        finally:
            os.close(file)
        pushed = self._look(now.name)
        if (pushed.inode, pushed.content) != (now.inode, now.content):
            raise _ChangedError("another file took its place")
        if abs(pushed.expires_ns - later) > 2_000_000_000:
            raise _ChangedError("somebody else touched it at the same time")
        return pushed

    def _move(self, name: str, inode: int) -> str:
        prefix = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{inode}."
        room = _NAME_LIMIT - len(prefix)
        target = prefix + os.fsdecode(os.fsencode(name)[-room:])
        try:
            os.rename(name, target, src_dir_fd=self.directory, dst_dir_fd=self.quarantine)
        except OSError as error:
            if is_gone(error):
                raise _ChangedError("it is gone already") from error
            raise
        return target

    def _is(self, target: str, inode: int) -> bool:
        status = os.stat(target, dir_fd=self.quarantine, follow_symlinks=False)
        return status.st_ino == inode

    def _put_back(self, target: str, name: str) -> str:
        """Return a file that was moved by mistake; says what happened."""
        try:
            os.link(
                target, name, src_dir_fd=self.quarantine, dst_dir_fd=self.directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno == errno.EEXIST and self._is_same(target, name):
                pass
            else:
                return (
                    f"another lock took its place and could not be put back ({error.strerror}): "
                    f"see {escape(os.path.join(self.path, target))}"
                )
        os.unlink(target, dir_fd=self.quarantine)
        return "another lock took its place and was put back untouched"

    def _is_same(self, target: str, name: str) -> bool:
        moved = os.stat(target, dir_fd=self.quarantine, follow_symlinks=False)
        try:
            there = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return (moved.st_dev, moved.st_ino) == (there.st_dev, there.st_ino)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of JSON to the evidence log; a link planted under its name is refused."""
        import json  # 12 ms; only a release needs it

        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = json.dumps({"time": stamp, **line}, sort_keys=True) + "\n"
        file = os.open(
            EVIDENCE_LOG,
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            0o640,
            dir_fd=self.quarantine,
        )
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    def adopt(self, directory: int, name: str, inode: int) -> str:
        """Move `name` of another directory (a list's) into quarantine; returns its new name.

        Raises OSError; EXDEV where the list is on another file system.
        """
        prefix = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{inode}."
        target = prefix + os.fsdecode(os.fsencode(name)[-(_NAME_LIMIT - len(prefix)) :])
        os.rename(name, target, src_dir_fd=directory, dst_dir_fd=self.quarantine)
        return target

    def purge(self, keep: float) -> int:
        """Remove what was put in quarantine more than `keep` seconds ago; returns how many.

        Age is taken from the name that `release` gave. Files of any other name stay.
        """
        oldest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - keep))
        removed = 0
        for name in self._aged():
            if name[: len(oldest)] < oldest:
                os.unlink(name, dir_fd=self.quarantine)
                removed += 1
        return removed

    def _aged(self) -> Iterator[str]:
        for name in os.listdir(self.quarantine):
            stamp, _, rest = name.partition(".")
            if len(stamp) == 16 and stamp[8] == "T" and stamp[15] == "Z":
                digits = stamp[:8] + stamp[9:15]
                if digits.isascii() and digits.isdigit() and rest[:1].isdigit():
                    yield name


class _ChangedError(Exception):
    """The file is no longer what was judged."""


def _identity(seen: Inspection) -> tuple[int, int, int, int, int, bytes]:
    return (
        seen.device, seen.inode, seen.links, seen.expires_ns, seen.changed_ns, seen.content,
    )
