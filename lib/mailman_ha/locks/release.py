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

A release that is killed half-way leaves a note there (``unfinished.INODE``). Without it the next
sweep could not know that the lock's ctime is our own push, or that a claim's second link is the
lock in quarantine, and would keep both for ever; :meth:`Quarantine.finish_interrupted` ends what
the note describes.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import grammar, holding
from mailman_ha.locks.directory import QUARANTINE, Inspection, is_gone
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

EVIDENCE_LOG = "evidence.jsonl"
_COPY_OF_LOG = f"{EVIDENCE_LOG}.new"
GUARD = "release.lock"
UNFINISHED = "unfinished."

#: Lifetime of the guard (seconds): a node that dies while releasing blocks others no longer.
GUARD_LIFETIME = 20.0

#: How long after its expiry a claim on the guard that nobody has is forgotten (seconds).
GUARD_CLAIM_KEPT = 300.0

#: A lock that expires within this time gets its expiry pushed before it is moved (seconds).
NEAR_EXPIRY = 60.0

#: How far the expiry is pushed (seconds): enough for the rename, soon over if we die before it.
PUSH = 120.0

#: As near as this, a time that was set and the one that a file shows are of one touch
#: (nanoseconds): some servers keep whole seconds.
_SAME_TOUCH = 2_000_000_000

_NAME_LIMIT = 255

#: A note is as long as its names; anything longer is none of ours (bytes).
_NOTE_LIMIT = 1 << 20

#: No dot lock and no list's configuration is as great (bytes).
_GREATEST_COPY = 64 << 20


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


@record
class _Plan:
    """One release as it was decided: what is to move where, and how the lock is known again.

    `prefix` goes before the names in quarantine. `expires_ns` are the expiries the lock may bear:
    as it was judged, and as we push it. `noted_ns` is when a plan that was read from a note was
    written there, by the file server's clock.
    """

    name: str
    inode: int
    prefix: str
    claims: tuple[str, ...]
    links: int
    content: bytes
    expires_ns: tuple[int, ...]
    line: Mapping[str, Any]
    noted_ns: int = 0

    @property
    def note(self) -> str:
        return f"{UNFINISHED}{self.inode}"

    @property
    def target(self) -> str:
        """What the lock is called in quarantine."""
        return _kept_as(self.prefix, self.name)

    def is_pushed(self, seen: Inspection) -> bool:
        """Whether `seen` is the judged lock, last touched by our own push and by nothing else."""
        if (seen.inode, seen.links, seen.content) != (self.inode, self.links, self.content):
            return False
        if seen.expires_ns in self.expires_ns[1:]:
            return True
        # Another user's file we could only set to the server's now (_touch), soon after the note.
        # No holder does that: what it sets lies ahead of the ctime.
        return (
            len(self.expires_ns) > 1
            and 0 <= seen.expires_ns - self.noted_ns <= PUSH * 1e9
            and abs(seen.expires_ns - seen.changed_ns) <= _SAME_TOUCH
        )


def has_unfinished(lock_dir: str) -> bool:
    """Whether a release in `lock_dir` was interrupted, as far as that can be seen."""
    try:
        return any(
            name.startswith(UNFINISHED) for name in os.listdir(os.path.join(lock_dir, QUARANTINE))
        )
    except OSError:
        return False


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
        self._refreshed = 0.0

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
                os.mkdir(QUARANTINE, 0o750, dir_fd=self.directory)
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
            self._refreshed = time.monotonic()
            self._remove_old_guard_claims()
        except holding.NotHeldError as error:
            raise QuarantineError(
                f"another release is under way in {escape(self.path)} ({escape(str(error))})"
            ) from error
        except OSError as error:
            raise QuarantineError(
                f"{escape(self.path)} cannot be written: {error.strerror}"
            ) from error

    def _remove_old_guard_claims(self) -> None:
        """Remove the claims on the guard of processes that were killed before they had it.

        One that still waits pushes its claim's expiry at every try.
        """
        oldest = time.time() - GUARD_CLAIM_KEPT
        for name in os.listdir(self.quarantine):
            if name.startswith(f"{GUARD}|"):
                try:
                    status = os.stat(name, dir_fd=self.quarantine, follow_symlinks=False)
                    if status.st_nlink == 1 and status.st_mtime < oldest:
                        os.unlink(name, dir_fd=self.quarantine)
                except OSError:
                    continue  # gone, or not ours to remove

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
        """Whether the guard is still ours (it is not, after a long stall); kept from expiring."""
        if self._guard is None:
            return False
        if time.monotonic() - self._refreshed < GUARD_LIFETIME / 4:
            return self._guard.is_ours()
        try:
            self._guard.refresh()
        except (holding.NotHeldError, OSError):
            return False
        self._refreshed = time.monotonic()
        return True

    def release(
        self,
        judged: Inspection,
        claims: tuple[str, ...],
        evidence: Mapping[str, Any],
        still_dead: Callable[[Inspection], bool],
    ) -> Released:
        """Move the file `judged` (a lock, or an orphaned claim with no `claims`) into quarantine.

        `claims` are the claim files on the same inode, moved after it. `still_dead` is asked at
        the last moment, with the file as it was judged. Raises OSError where the share does not
        allow the rename; then the lock is as it was, but for its expiry.
        """
        expires_ns = [judged.expires_ns]
        if judged.expires_at < time.time() + NEAR_EXPIRY:
            expires_ns.append(time.time_ns() + int(PUSH * 1e9))
        plan = _Plan(
            judged.name, judged.inode, _prefix(judged.inode), claims,
            judged.links, judged.content, tuple(expires_ns), evidence,
        )
        try:
            now = self._unchanged(judged)
            self._write_note(plan)
            if len(expires_ns) > 1:
                now = self._push_expiry(now, expires_ns[1])
            if not still_dead(judged):
                raise _ChangedError("its owner no longer counts as dead")
            return self._carry_out(plan, now)
        except _ChangedError as error:
            self._forget_note(plan.note)
            return Released(judged.name, False, str(error))
        except OSError:
            if len(expires_ns) == 1:  # a pushed lock's note is all that is left of its ctime
                self._forget_note(plan.note)
            raise

    def finish_interrupted(self) -> tuple[Released, ...]:
        """End what releases that were killed half-way have left; returns what was done.

        Each was judged and decided upon, its owner is dead for good; so nothing is judged again.
        What the share does not allow is left for the next time.
        """
        done = []
        for note in sorted(os.listdir(self.quarantine)):
            if not note.startswith(UNFINISHED):
                continue
            plan = self._read_note(note)
            if plan is None:
                self._forget_note(note)
                continue
            try:
                result = self._finish_one(plan)
            except OSError as error:
                result = Released(note, False, f"it could not be ended ({error.strerror})")
            if result is not None:
                done.append(result)
        return tuple(done)

    def _finish_one(self, plan: _Plan) -> Released | None:
        """End one interrupted release; None where it had not yet changed anything. Raises
        OSError, and the note stays."""
        try:
            os.stat(plan.target, dir_fd=self.quarantine, follow_symlinks=False)
            return self._after_move(plan, interrupted=True)
        except FileNotFoundError:
            pass
        try:
            now = self._look(plan.name)
            if plan.is_pushed(now):
                return self._carry_out(plan, now)
            result = None
        except _ChangedError as error:
            result = Released(plan.name, False, str(error))
        self._forget_note(plan.note)
        return result

    def _carry_out(self, plan: _Plan, now: Inspection) -> Released:
        """Move the lock, which must still be `now`, and all that follows. Raises _ChangedError."""
        if not self.holds_guard():
            raise _ChangedError("the guard was lost meanwhile")
        # Over NFS the lock's name may show a stale file; its claims, opened, tell (facts, 6).
        for claim in plan.claims:
            seen = self._look(claim)
            if (seen.inode, seen.links) != (now.inode, now.links):
                raise _ChangedError("its claim file changed while it was being released")
        if _identity(self._look(plan.name)) != _identity(now):
            raise _ChangedError("it was touched while being released")
        self._move(plan.name, plan.target)
        return self._after_move(plan)

    def _after_move(self, plan: _Plan, interrupted: bool = False) -> Released:
        """What follows the move of a lock: is it the right one, its claims, the evidence."""
        if not self._is_judged(plan):
            why = self._put_back(plan.target, plan.name)
            self._forget_note(plan.note)
            return Released(plan.name, False, why)
        names = [plan.target]
        try:
            for claim in plan.claims:
                if self._move_claim(plan, claim):
                    names.append(_kept_as(plan.prefix, claim))
            if not self.holds_guard():
                # After so long a stall somebody else has the guard. Our note he may have forgotten,
                # as of a release that had changed nothing yet.
                if not self._is_logged(plan.target):
                    self._write_note(plan)
                why = "released, but its evidence is left to the next sweep"
                return Released(plan.name, True, why, moved=tuple(names))
            if not (interrupted and self._is_logged(plan.target)):
                self.log({**plan.line, "released": escape(plan.name), "moved_to": names})
        except OSError as error:
            # A full share. The lock is gone all the same, and must be said so; the note stays, by
            # which a later sweep does the rest.
            why = (
                f"released, but {escape(os.path.join(self.path, EVIDENCE_LOG))} could not be "
                f"written: {error.strerror}; make room, or move aside what stands there, and the "
                "next sweep writes it"
            )
            return Released(plan.name, True, why, moved=tuple(names))
        self._forget_note(plan.note)
        return Released(plan.name, True, moved=tuple(names))

    def _move_claim(self, plan: _Plan, claim: str) -> bool:
        """Move a claim after its lock; whether it is in quarantine now (or was already)."""
        target = _kept_as(plan.prefix, claim)
        try:
            if self._look(claim).inode == plan.inode:
                self._move(claim, target)
                return True
        except _ChangedError:
            pass  # gone: moved before we were interrupted, or removed by somebody
        try:
            os.stat(target, dir_fd=self.quarantine, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _is_logged(self, target: str) -> bool:
        """Whether the log ends with the evidence on `target`: written before we were killed."""
        import json

        try:
            file = os.open(
                EVIDENCE_LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=self.quarantine,
            )
        except OSError:
            return False
        try:
            end = os.fstat(file).st_size
            tail = os.pread(file, _NOTE_LIMIT, max(end - _NOTE_LIMIT, 0))
        finally:
            os.close(file)
        return json.dumps(target).encode() in tail

    def _is_judged(self, plan: _Plan) -> bool:
        """Whether what was moved is the lock that was judged."""
        try:
            moved = lock_directory.inspect(self.quarantine, plan.target)
        except OSError:
            return False  # a link or a FIFO that took its place, or it is gone
        return (moved.inode, moved.content) == (plan.inode, plan.content)

    def _write_note(self, plan: _Plan) -> None:
        import json

        text = json.dumps(
            {
                "name": plan.name, "inode": plan.inode, "prefix": plan.prefix,
                "claims": plan.claims, "links": plan.links, "content": plan.content.hex(),
                "expires_ns": plan.expires_ns, "line": plan.line,
            }
        )
        self._forget_note(plan.note)
        file = os.open(
            plan.note,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=self.quarantine,
        )
        try:
            _write_whole(file, text.encode())
            os.fsync(file)  # a power cut must not keep the move and lose what it was for
        except OSError:
            self._forget_note(plan.note)
            raise
        finally:
            os.close(file)

    def _read_note(self, note: str) -> _Plan | None:
        """The plan in a note; None where it was cut short, or is none that we wrote."""
        import json

        try:
            file = os.open(
                note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=self.quarantine,
            )
        except OSError:
            return None
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
                return None
            found = json.loads(os.read(file, _NOTE_LIMIT))
            plan = _Plan(
                found["name"], found["inode"], found["prefix"], tuple(found["claims"]),
                found["links"], bytes.fromhex(found["content"]), tuple(found["expires_ns"]),
                dict(found["line"]), status.st_mtime_ns,
            )
            json.dumps(found)  # what is read may still be nested too deeply to be logged
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        finally:
            os.close(file)
        if not isinstance(plan.prefix, str) or not _is_prefix(plan.prefix):
            return None
        if not all(map(_is_name, (plan.name, *plan.claims))):
            return None
        return plan if plan.note == note else None

    def _forget_note(self, note: str) -> None:
        try:
            os.unlink(note, dir_fd=self.quarantine)
        except OSError:
            pass  # it is gone, or a directory somebody put there: no note of ours

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

    def _push_expiry(self, now: Inspection, later: int) -> Inspection:
        """Push the expiry to `later` (ns) through a descriptor of this very inode; returns it as
        it is then."""
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
            later = _touch(file, later)
        finally:
            os.close(file)
        pushed = self._look(now.name)
        if (pushed.inode, pushed.content) != (now.inode, now.content):
            raise _ChangedError("another file took its place")
        if later and abs(pushed.expires_ns - later) > _SAME_TOUCH:
            raise _ChangedError("somebody else touched it at the same time")
        return pushed

    def _move(self, name: str, target: str) -> None:
        try:
            os.rename(name, target, src_dir_fd=self.directory, dst_dir_fd=self.quarantine)
        except OSError as error:
            if is_gone(error):
                raise _ChangedError("it is gone already") from error
            raise

    def _put_back(self, target: str, name: str) -> str:
        """Return a file that was moved by mistake; says what happened."""
        try:
            os.link(
                target, name, src_dir_fd=self.quarantine, dst_dir_fd=self.directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno == errno.EPERM and self._is_directory(target):
                # No link is made to a directory; renamed, it takes no file's place either.
                os.rename(target, name, src_dir_fd=self.quarantine, dst_dir_fd=self.directory)
                return "a directory took its place and was put back untouched"
            if error.errno != errno.EEXIST or not self._is_same(target, name):
                return (
                    f"another lock took its place and could not be put back ({error.strerror}): "
                    f"see {escape(os.path.join(self.path, target))}"
                )
        os.unlink(target, dir_fd=self.quarantine)
        return "another lock took its place and was put back untouched"

    def _is_directory(self, target: str) -> bool:
        status = os.stat(target, dir_fd=self.quarantine, follow_symlinks=False)
        return stat.S_ISDIR(status.st_mode)

    def _is_same(self, target: str, name: str) -> bool:
        moved = os.stat(target, dir_fd=self.quarantine, follow_symlinks=False)
        try:
            there = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return (moved.st_dev, moved.st_ino) == (there.st_dev, there.st_ino)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of JSON to the evidence log; a link planted under its name is refused.

        It is on the disk when this returns. What a power cut left of an earlier line (half of it,
        or zeros) stays a line of its own. A log that has another name too is copied first: who has
        it by that (a backup by hard links: cp -al, rsnapshot) keeps it as it is. Raises OSError
        where it could not be written.
        """
        import json  # 12 ms; only a release needs it

        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = json.dumps({"time": stamp, **line}, sort_keys=True) + "\n"
        file = os.open(
            EVIDENCE_LOG,
            os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            0o640,
            dir_fd=self.quarantine,
        )
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EEXIST, "it is no regular file")
            if status.st_nlink != 1:
                self._copy_log(file)
                return self.log(line)
            torn = status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n"
            try:
                _write_whole(file, ("\n" + text if torn else text).encode())
                os.fsync(file)
            except OSError:
                os.ftruncate(file, status.st_size)  # half a line would spoil the next one
                raise
        finally:
            os.close(file)

    def _copy_log(self, log: int) -> None:
        """Put a copy of the open `log` in its place. Raises OSError."""
        self._forget_note(_COPY_OF_LOG)
        copy = os.open(
            _COPY_OF_LOG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o640,
            dir_fd=self.quarantine,
        )
        try:
            while part := os.read(log, _NOTE_LIMIT):
                _write_whole(copy, part)
            os.fsync(copy)
            os.rename(
                _COPY_OF_LOG, EVIDENCE_LOG,
                src_dir_fd=self.quarantine, dst_dir_fd=self.quarantine,
            )
        except OSError:
            self._forget_note(_COPY_OF_LOG)
            raise
        finally:
            os.close(copy)

    def adopt(self, directory: int, name: str, inode: int) -> str:
        """Move `name` of another directory (a list's) into quarantine; returns its new name.

        Where the list is on another file system, or on the same one mounted a second time, a copy
        is on the disk before the file goes. Raises OSError; ESTALE where `name` is another file
        than `inode` then, EFBIG where it is no small one.
        """
        target = _kept_as(_prefix(inode), name)
        try:
            os.rename(name, target, src_dir_fd=directory, dst_dir_fd=self.quarantine)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_by_copy(directory, name, inode, self.quarantine, target)
        return target

    def purge(self, keep: float) -> int:
        """Remove what was put in quarantine more than `keep` seconds ago; returns how many.

        Age is taken from the name that `release` gave. Files of any other name stay, and so does
        what cannot be removed (a directory that somebody put there).
        """
        # Before 1970 a year may have fewer digits than four, and would compare as a later one.
        oldest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(max(time.time() - keep, 0.0)))
        removed = 0
        for name in os.listdir(self.quarantine):
            if _is_prefix(name[: name.find(".", 17) + 1]) and name[: len(oldest)] < oldest:
                try:
                    os.unlink(name, dir_fd=self.quarantine)
                except OSError:
                    continue
                removed += 1
        return removed


def _move_by_copy(directory: int, name: str, inode: int, to: int, target: str) -> None:
    """Move a regular file between directories that rename(2) does not join. Raises OSError; then it
    is where it was, at least."""
    source = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        dir_fd=directory,
    )
    with open(source, "rb") as file:
        before = os.fstat(source)
        if before.st_ino != inode or not stat.S_ISREG(before.st_mode):
            raise OSError(errno.ESTALE, "another file took its place")
        if before.st_size > _GREATEST_COPY:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        content = file.read(before.st_size)
    copy = os.open(
        target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640,
        dir_fd=to,
    )
    try:
        with open(copy, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(copy)
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (now.st_ino, now.st_ctime_ns) != (inode, before.st_ctime_ns):
            raise OSError(errno.ESTALE, "it changed while it was copied")
    except BaseException:
        os.unlink(target, dir_fd=to)
        raise
    os.unlink(name, dir_fd=directory)


class _ChangedError(Exception):
    """The file is no longer what was judged."""


def _prefix(inode: int) -> str:
    """What goes before the name of a file that is put in quarantine now."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{inode}."


def _is_prefix(text: str) -> bool:
    """Whether `_prefix` may have made `text`."""
    stamp, _, inode = text[:-1].partition(".")
    return (
        text[-1:] == "."
        and len(stamp) == 16 and stamp[8] == "T" and stamp[15] == "Z"
        and grammar.is_number(stamp[:8]) and (stamp[9:15]).isdigit()
        and inode.isascii() and inode.isdigit() and len(inode) <= 20
    )


def _is_name(text: object) -> bool:
    """Whether `text` may be the name of a file in a directory, and of no other directory."""
    if not isinstance(text, str) or text in ("", ".", "..") or "/" in text or "\0" in text:
        return False
    try:
        return len(os.fsencode(text)) <= _NAME_LIMIT
    except UnicodeEncodeError:
        return False


def _kept_as(prefix: str, name: str) -> str:
    """Under which name `name` is kept in quarantine; of one that is too long, its end."""
    return prefix + os.fsdecode(os.fsencode(name)[-(_NAME_LIMIT - len(prefix)) :])


def _touch(file: int, later: int) -> int:
    """Push the expiry of an open lock to `later` (ns); returns the expiry set, 0 for none.

    A CGI's lock belongs to the web server's user, and only an owner may choose a time. Who may
    write the file may set it to now, by the file server's clock, which Mailman respects for
    CLOCK_SLOP; that is enough.
    """
    try:
        os.utime(file, ns=(later, later))
        return later
    except PermissionError:
        pass
    try:
        os.utime(file)
    except PermissionError:
        return 0
    return os.fstat(file).st_mtime_ns


def _identity(seen: Inspection) -> tuple[int, int, int, int, int, bytes]:
    return (
        seen.device, seen.inode, seen.links, seen.expires_ns, seen.changed_ns, seen.content,
    )


def _write_whole(file: int, content: bytes) -> None:
    """Write all of `content`; OSError where the share takes only a part of it."""
    if os.write(file, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
