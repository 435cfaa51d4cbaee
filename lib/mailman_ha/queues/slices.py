"""Slices of a queue: which SHA-1 values each holds, and the name of the lock that claims one.

Slice i of n holds the entries whose SHA-1, as an integer, is in [2^160·i/n, 2^160·(i+1)/n), cut to
whole numbers as Mailman 2.1 does it (facts, section 3). Mailman 3 computes with floats: for its
n, the powers of two, that is the same, but for the first value of each slice, which it gives to
the slice before as well: one of 2^160 hashes for each seam.

The claim on a slice is a lock file in lock_dir. A colon is in no list's name, so it is no list's.
"""

from __future__ import annotations

from mailman_ha.ocf.record import record

_BITS = 160
_HASHES = 1 << _BITS
_PREFIX = "qfiles:"
_SUFFIX = ".lock"
_QUEUE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LONGEST_QUEUE = 64
_LONGEST_NUMBER = 9


@record
class Slice:
    """Slice `number`, from 0, of `count`. Raises ValueError where there is no such slice."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count <= _HASHES:
            raise ValueError(
                f"there is no slice {self.number} of {self.count}: give a number "
                "from 0 to one less than the number of slices"
            )


def bounds(slice: Slice) -> tuple[int, int]:
    """The lowest and the highest SHA-1, as integers, that belong to `slice`; both included."""
    return (
        _HASHES * slice.number // slice.count,
        _HASHES * (slice.number + 1) // slice.count - 1,
    )


def slice_of(digest: int, count: int) -> int:
    """Which of `count` slices an entry with this SHA-1 belongs to: exactly where bounds() says.

    d is in slice i where i is the least with d + 1 <= 2^160·(i+1)/count.
    """
    return (digest + 1) * count - 1 >> _BITS


def overlap(one: Slice, other: Slice) -> bool:
    """Whether some SHA-1 belongs to both."""
    lowest, highest = bounds(one)
    others_lowest, others_highest = bounds(other)
    return lowest <= others_highest and others_lowest <= highest


def lock_name(queue: str, slice: Slice) -> str:
    """The claim lock's file name in lock_dir, ``qfiles:in:0:4.lock``.

    Raises ValueError where `queue` is no queue's name (up to 64 ASCII letters, digits, _ and -), or
    the slices are a thousand million and more: such a name could not be read back.
    """
    name = f"{_PREFIX}{queue}:{slice.number}:{slice.count}{_SUFFIX}"
    if of_lock_name(name) != (queue, slice):
        raise ValueError(
            f"slice {slice.number} of {slice.count} of queue {queue!r} cannot be claimed: name the "
            "queue by its directory's name (letters, digits, _ and -, at most 64)"
        )
    return name


def of_lock_name(name: str) -> tuple[str, Slice] | None:
    """The queue and the slice that the lock `name` claims; None for every other name."""
    if not name.startswith(_PREFIX) or not name.endswith(_SUFFIX):
        return None
    parts = name[len(_PREFIX) : -len(_SUFFIX)].split(":")
    if len(parts) != 3 or not _is_queue(parts[0]):
        return None
    number, count = _number(parts[1]), _number(parts[2])
    if number is None or count is None or number >= count:
        return None
    return parts[0], Slice(number, count)


def _is_queue(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_QUEUE and _QUEUE_LETTERS.issuperset(text)


def _number(text: str) -> int | None:
    """A number written the one way: decimal digits, no zero in front."""
    if not (text.isascii() and text.isdigit()) or len(text) > _LONGEST_NUMBER:
        return None
    return int(text) if text == "0" or text[0] != "0" else None
