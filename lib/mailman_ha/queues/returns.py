"""The return of posts that were shunted for a lock. A note that they are to go back is written
before the lock goes, and outlasts a process that is killed before it has returned them.

Each is a small file of JSON in the quarantine, read without trust.
"""

from __future__ import annotations

import errno
import os
import stat

from mailman_ha.ocf.record import record
from mailman_ha.queues import entries, shunted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

_PREFIX = "return."
_NAME_LIMIT = 255
_NOTE_LIMIT = 1 << 16

#: So long after its note a post may still be shunted for the lock (seconds): its runner had met the
#: lock before, or us at work. What is shunted later has another reason and is the operator's.
LATE = 600.0


@record
class Return:
    """Posts of the list `list_id` that were shunted from `queue` between two moments of the file
    server's clock (ns since the epoch)."""

    queue: str
    list_id: str
    since_ns: int
    until_ns: int

    @property
    def note(self) -> str:
        start = f"{_PREFIX}{self.since_ns}.{self.queue}."
        return start + os.fsdecode(os.fsencode(self.list_id)[-(_NAME_LIMIT - len(start)) :])


def are_noted(quarantine: str) -> bool:
    """Whether the directory `quarantine` has notes, as far as that can be seen."""
    try:
        return any(name.startswith(_PREFIX) for name in os.listdir(quarantine))
    except OSError:
        return False


def write(directory: int, queue: str, list_id: str, since_ns: int, until_ns: int = 0) -> None:
    """Note that posts are to be returned, until `LATE` after now where `until_ns` does not say; on
    the disk when this returns. Raises OSError."""
    import json

    note = Return(queue, list_id, since_ns, 0).note
    forget(directory, note)
    descriptor = os.open(
        note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
        dir_fd=directory,
    )
    with open(descriptor, "w") as file:
        until_ns = until_ns or os.fstat(descriptor).st_mtime_ns + int(LATE * 1e9)
        json.dump(
            {"queue": queue, "list": list_id, "since_ns": since_ns, "until_ns": until_ns}, file
        )
        file.flush()
        os.fsync(descriptor)


def read(directory: int) -> Iterator[Return]:
    """Every whole note; those that were cut short stood for nothing yet and are removed. Raises
    OSError where they cannot be read."""
    for name in sorted(os.listdir(directory)):
        if name.startswith(_PREFIX):
            found = _read(directory, name)
            if found is None:
                forget(directory, name)
            else:
                yield found


def _read(directory: int, name: str) -> Return | None:
    import json

    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        text = os.read(descriptor, _NOTE_LIMIT)
    finally:
        os.close(descriptor)
    try:
        told = json.loads(text)
        found = Return(
            str(told["queue"]), str(told["list"]), int(told["since_ns"]), int(told["until_ns"])
        )
        return found if found.note == name else None
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def forget(directory: int, note: str) -> None:
    """Remove a note; one that is gone, or is somebody's directory, is no error."""
    try:
        os.unlink(note, dir_fd=directory)
    except OSError:
        pass


@record
class Returned:
    """What was done for some notes: how many posts went `back`, and for which the reason why some
    could not, both by queue and list; and how many shunted messages were `left` for want of time.
    """

    back: Mapping[tuple[str, str], int]
    failed: Mapping[tuple[str, str], str]
    left: int = 0


def carry_out(
    directory: int,
    notes: Collection[Return],
    settled: Collection[Return],
    queues: Mapping[str, str],
    enough: Callable[[], bool],
) -> Returned:
    """Return what `notes` tell of, in one walk through the shunt queue; the notes in `directory`
    are brought up to date, and the `settled`, to which nothing can come any more, forgotten.

    `queues` are their directories. Ends when there is `enough`. What cannot be processed for
    another reason is shunted once more. Raises OSError where the shunt queue cannot be listed, or a
    note not be written; then the notes still tell all.
    """
    wanted: dict[tuple[str | None, str | None], list[Return]] = {}
    for note in notes:
        wanted.setdefault((note.queue, note.list_id), []).append(note)
    back: dict[tuple[str, str], int] = {}
    failed: dict[tuple[str, str], str] = {}
    shunt = queues.get("shunt", "")
    waiting = _shunted_between(
        shunt, min(note.since_ns for note in notes), max(note.until_ns for note in notes), enough
    )
    for done, (changed_ns, name) in enumerate(waiting):
        if enough():
            _go_on_from(directory, [one for one in notes if _key(one) not in failed], changed_ns)
            return Returned(back, failed, len(waiting) - done)
        path = os.path.join(shunt, name)
        came_from = shunted.origin_of(path)
        for note in wanted.get((came_from.queue, came_from.list_id), ()):
            if note.since_ns <= changed_ns <= note.until_ns:
                try:
                    if shunted.put_back(path, queues[note.queue], name):
                        back[_key(note)] = back.get(_key(note), 0) + 1
                except KeyError:
                    failed[_key(note)] = "Mailman has no such queue"
                except OSError as error:
                    failed[_key(note)] = error.strerror or "unknown error"
                break
    for note in settled:
        if _key(note) not in failed:
            forget(directory, note.note)
    return Returned(back, failed)


def _key(note: Return) -> tuple[str, str]:
    return note.queue, note.list_id


def _go_on_from(directory: int, notes: Collection[Return], next_ns: int) -> None:
    """Note that what was shunted before `next_ns` is done."""
    for note in notes:
        if note.since_ns < next_ns:
            write(directory, note.queue, note.list_id, next_ns, note.until_ns)
            forget(directory, note.note)


def _shunted_between(
    directory: str, since_ns: int, until_ns: int, enough: Callable[[], bool]
) -> list[tuple[int, str]]:
    """When and under which name entries were put there, by the file server's clock, the earliest
    first; a directory that is not made yet has none. Raises OSError."""
    found = []
    try:
        listing = os.scandir(directory)
    except FileNotFoundError:
        return []
    with listing:
        for one in listing:
            if enough():
                raise TimeoutError(errno.ETIMEDOUT, "no time was left for it in this action")
            entry = entries.parse(one.name)
            if entry is None or entry.extension != entries.WAITING:
                continue
            try:
                changed_ns = one.stat(follow_symlinks=False).st_ctime_ns
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ESTALE):
                    continue  # another node, or a person, has taken it away
                raise
            if since_ns <= changed_ns <= until_ns:
                found.append((changed_ns, one.name))
    return sorted(found)
