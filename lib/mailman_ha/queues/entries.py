"""Queue entries by their names: ``TIME+SHA1HEX.ext`` (facts, section 3).

The name alone tells since when an entry waits and which slice it belongs to; nothing is opened
or stated, and names of any other form are left alone.
"""

from __future__ import annotations

import os

from mailman_ha.ocf.record import record

WAITING = ".pck"
IN_WORK = ".bak"

_HEX = frozenset("0123456789abcdef")


@record
class Entry:
    """One entry. `since` is in seconds since the epoch (2.1: when it was received, 3: when it
    was put into this queue), `digest` the SHA-1 as an integer."""

    since: float
    digest: int
    extension: str


@record
class Backlog:
    """What waits in a queue directory. `oldest` is the earliest `since` of all entries,
    also of one that a runner has had in work all the time; None where there is none."""

    waiting: int = 0
    in_work: int = 0
    oldest: float | None = None


def parse(name: str) -> Entry | None:
    """The entry called `name`, or None where that is no entry's name."""
    stem, dot, extension = name.rpartition(".")
    if not dot or extension not in ("pck", "bak"):
        return None
    since, plus, digest = stem.partition("+")
    if not plus or len(digest) != 40 or not _HEX.issuperset(digest):
        return None
    whole, point, fraction = since.partition(".")
    if not (whole.isascii() and whole.isdigit()) or len(whole) > 12:
        return None
    if point and not (fraction.isascii() and fraction.isdigit()):
        return None
    return Entry(float(since), int(digest, 16), "." + extension)


def slice_of(digest: int, slices: int) -> int:
    """Which of `slices` slices an entry with this SHA-1 belongs to (facts, section 3)."""
    return digest * slices >> 160


def backlog(directory: str) -> Backlog:
    """Count the entries of `directory` in one listing. Raises OSError where it cannot be listed."""
    waiting = in_work = 0
    oldest: float | None = None
    with os.scandir(directory) as listing:
        for item in listing:
            entry = parse(item.name)
            if entry is None:
                continue
            if entry.extension == IN_WORK:
                in_work += 1
            else:
                waiting += 1
            if oldest is None or entry.since < oldest:
                oldest = entry.since
    return Backlog(waiting, in_work, oldest)
