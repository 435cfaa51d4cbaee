"""Queue entries by their names: ``TIME+SHA1HEX.ext`` (facts, section 3).

The name alone tells since when an entry waits and which slice it belongs to; nothing is opened
or stated, and names of any other form are left alone.
"""

from __future__ import annotations

import os

from mailman_ha.ocf.record import record
from mailman_ha.queues.slices import Slice, bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WAITING = ".pck"
IN_WORK = ".bak"

_HEX = frozenset("0123456789abcdef")
_AFTER_ALL_NAMES = ":"


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


def backlog(directory: str) -> Backlog:
    """What waits in the whole of `directory`. Raises OSError where it cannot be listed."""
    return backlogs(directory, 1)[0]


def backlogs(directory: str, count: int) -> tuple[Backlog, ...]:
    """What waits in each of `count` slices of `directory`, slice 0 first, in one listing.

    Raises OSError where the directory cannot be listed, ValueError where `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"a queue has no {count} slices: give 1 or more")
    return tuple(_listed(directory, [bounds(Slice(number, count))[1] for number in range(count)]))


def backlog_of(directory: str, slice: Slice) -> Backlog:
    """What waits in one slice of `directory`. Raises OSError where it cannot be listed."""
    lowest, highest = bounds(slice)
    if lowest == 0:
        return _listed(directory, [highest])[0]
    return _listed(directory, [lowest - 1, highest])[1]


def _listed(directory: str, ends: list[int]) -> list[Backlog]:
    from operator import attrgetter

    with os.scandir(directory) as listing:
        return _tallied(map(attrgetter("name"), listing), ends)


def _tallied(names: Iterable[str], ends: list[int]) -> list[Backlog]:
    """One Backlog for the entries up to each SHA-1 of `ends`, which ascend; beyond: not counted.

    As parse() reads the names, one by one, but in a fraction of its time where a name has the form
    that Mailman gives it since 2001, with ten digits before the point. There a greater name is
    never an earlier entry, and digests, all of one length, compare as they are.
    """
    import re
    from bisect import bisect_left

    usual = re.compile(r"[0-9]{10}(?:\.[0-9]+)?\+[0-9a-f]{40}\.(?:pck|bak)").fullmatch
    marks = [f"{end:040x}" for end in ends]
    waiting = [0] * (len(ends) + 1)
    in_work = [0] * (len(ends) + 1)
    first = [_AFTER_ALL_NAMES] * (len(ends) + 1)
    unusual: list[float | None] = [None] * (len(ends) + 1)
    for name in names:
        if usual(name):
            place = bisect_left(marks, name[-44:-4])
            if name < first[place]:
                first[place] = name
        else:
            entry = parse(name)
            if entry is None:
                continue
            place = bisect_left(marks, name[-44:-4])
            unusual[place] = _earlier(unusual[place], entry.since)
        if name[-3] == "p":
            waiting[place] += 1
        else:
            in_work[place] += 1
    tallied = []
    for place in range(len(ends)):
        entry = parse(first[place])
        oldest = unusual[place] if entry is None else _earlier(unusual[place], entry.since)
        tallied.append(Backlog(waiting[place], in_work[place], oldest))
    return tallied


def _earlier(one: float | None, other: float) -> float:
    return other if one is None or other < one else one
