"""Counting the releases that the evidence log tells of, from where the last count ended.

The log is only ever added to, so the count never falls while the log is there; whoever removes or
cuts the log begins a new one.
"""

from __future__ import annotations

import errno
import os
import stat

from mailman_ha.locks.directory import QUARANTINE
from mailman_ha.locks.release import EVIDENCE_LOG
from mailman_ha.locks.verdict import RELEASABLE
from mailman_ha.ocf.record import record

#: What is read at one time (bytes): some hundred thousand releases.
AT_ONCE = 64 << 20

#: A line is some hundred bytes; a longer one than this is read in pieces and not counted.
_LONGEST_LINE = 1 << 16


@record
class ReleaseCount:
    """What the log told so far. `counts` goes by the states in RELEASABLE; `latest` is when the
    last release was (seconds since the epoch, 0.0: never). The log whose inode is `inode` was
    read up to `offset`."""

    inode: int = 0
    offset: int = 0
    counts: tuple[int, ...] = (0,) * len(RELEASABLE)
    latest: float = 0.0


def count(lock_dir: str, before: ReleaseCount, at_once: int = AT_ONCE) -> tuple[ReleaseCount, bool]:
    """The count as the log in `lock_dir` has it now, and whether the log was read to its end (a
    later call reads on). To be called as Mailman's user.

    A line that is cut off counts when it is whole, one that is none of ours never. Raises OSError
    where the log cannot be read, or what stands in its place is none.
    """
    try:
        file = _open(lock_dir)
    except FileNotFoundError:
        return ReleaseCount(), True
    with os.fdopen(file, "rb") as log:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            raise OSError(errno.EEXIST, f"somebody else's file stands in place of {EVIDENCE_LOG}")
        if (status.st_ino, True) != (before.inode, status.st_size >= before.offset):
            before = ReleaseCount(status.st_ino)
        log.seek(before.offset)
        offset, counts, latest = before.offset, list(before.counts), before.latest
        while offset - before.offset < at_once:
            line = log.readline(_LONGEST_LINE)
            if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                return ReleaseCount(status.st_ino, offset, tuple(counts), latest), True
            offset += len(line)
            released = _release(line)
            if released is not None:
                counts[released[0]] += 1
                latest = released[1] or latest
        return ReleaseCount(status.st_ino, offset, tuple(counts), latest), False


def _open(lock_dir: str) -> int:
    quarantine = os.open(
        os.path.join(lock_dir, QUARANTINE),
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
    )
    try:
        return os.open(
            EVIDENCE_LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            dir_fd=quarantine,
        )
    finally:
        os.close(quarantine)


def _release(line: bytes) -> tuple[int, float] | None:
    """Of a line on a release: which state of RELEASABLE, and when (0.0: not told)."""
    import json
    from datetime import datetime

    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or "released" not in entry:
        return None
    if entry.get("state") not in RELEASABLE:
        return None
    try:
        when = datetime.fromisoformat(str(entry.get("time")).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        when = 0.0
    return RELEASABLE.index(entry["state"]), when
