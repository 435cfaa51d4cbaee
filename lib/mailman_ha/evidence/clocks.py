"""How this host's clock stands to the file server's, and whether it was set since boot.

A lock's times are the file server's (ctime, and mtime after a write), a process's start and a
fencing event are the cluster's. Before they are compared, the difference is measured: a file is
touched and its mtime compared with the clock around the touch (facts, section 6). That says
nothing of a lock that was stamped before the server's clock was set, so the last measurement is
remembered and compared with the next.
"""

from __future__ import annotations

import math
import os
import time

from mailman_ha.evidence import process_identity
from mailman_ha.ocf.record import record, replace

#: What the kernel's coarse file times and clock ticks may add (seconds).
GRANULARITY = 0.05

#: A change of the boot time that is more than measuring noise (seconds). A step that goes unseen
#: must be well below GRANULARITY, or a process could look younger than the lock it holds.
STEP = 0.02


#: How far two clocks that nobody sets may drift apart (seconds a second); quartz does half of it.
GREATEST_DRIFT = 0.0002

#: How often the clocks are compared for one measurement.
TOUCHES = 3


@record
class ClockSkew:
    """File server minus this host, and how far off that may be (seconds)."""

    offset: float
    uncertainty: float


def measure_skew(directory: int) -> ClockSkew:
    """Compare the clocks by a file that is touched and removed in the open `directory`.

    A touch without a time is stamped by the server's clock (facts, section 6) and needs no data
    on its disk: a busy disk must not make the clocks look uncertain. Of a few touches the quickest
    counts. Raises OSError where the directory takes no files.
    """
    name = f".clock.{os.getpid()}.{int.from_bytes(os.urandom(6), 'big')}"
    file = os.open(
        name,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=directory,
    )
    try:
        os.unlink(name, dir_fd=directory)  # at once, so that nothing stays if we are killed
        measured = []
        for _ in range(TOUCHES):
            before = time.time()
            os.utime(file)
            after = time.time()
            measured.append(judge_skew(before, os.fstat(file).st_mtime, after))
    finally:
        os.close(file)
    return min(measured, key=lambda skew: skew.uncertainty)


def judge_skew(before: float, written: float, after: float) -> ClockSkew:
    """The offset of a clock that showed `written` at some moment from `before` to `after`."""
    middle = (before + after) / 2
    return ClockSkew(written - middle, abs(after - before) / 2 + GRANULARITY)


@record
class ClockHistory:
    """What is remembered of this host's clock since boot.

    `booted_at` is the boot time as it looked last. `stepped_at` is the latest time that this clock
    may have shown before it was set for the last time (seconds since the epoch; None: it was never
    seen to be set): a clock that was set back shows the same times twice, and which of the two a
    time up to this one is of cannot be told.
    """

    boot_id: str
    booted_at: float
    stepped_at: float | None = None


def update_history(
    known: ClockHistory | None, boot_id: str, booted_at: float, now: float
) -> ClockHistory:
    """The history after one more look at the clock."""
    if known is None or known.boot_id != boot_id:
        return ClockHistory(boot_id, booted_at)
    ahead_before = known.booted_at - booted_at
    if abs(ahead_before) <= STEP:
        return known
    seen = now if known.stepped_at is None else max(now, known.stepped_at)
    return ClockHistory(boot_id, booted_at, max(seen, now + ahead_before))


def read_history(path: str) -> ClockHistory | None:
    """The history kept in the file `path`; None where there is none, or none that can be read."""
    try:
        with open(path, encoding="ascii") as file:
            fields = file.read(200).split()
        boot, booted_at, stepped_at = fields
        times = [float(text) for text in (booted_at, stepped_at) if text != "-"]
        if not all(map(math.isfinite, times)):
            return None
        return ClockHistory(boot, times[0], times[1] if stepped_at != "-" else None)
    except (OSError, ValueError, IndexError):
        return None


def remember(path: str) -> ClockHistory:
    """Look at the clock once more and keep the history in `path`."""
    known = read_history(path)
    history = update_history(
        known, process_identity.boot_id(), process_identity.booted_at(), time.time()
    )
    if history != known:
        _keep(path, history.boot_id, history.booted_at, history.stepped_at)
    return history


def _keep(path: str, boot_id: str, *times: float | None) -> None:
    """Write a line of `times` (seconds; None as ``-``) in one step."""
    words = ("-" if moment is None else f"{moment:.3f}" for moment in times)
    partial = f"{path}.{os.getpid()}"
    with open(partial, "w", encoding="ascii") as file:
        file.write(f"{boot_id} {' '.join(words)}\n")
    os.replace(partial, path)


@record
class ServerClock:
    """What is remembered of the clock of one file server.

    `booted_at` is when this host booted by that clock, as it was last measured, `uncertainty`
    seconds more or less; this host's own clock has no part in it. `measured_at` is in seconds
    since that boot; `stepped_at` when the server's clock was last seen to have been set (seconds
    since the epoch by this host's clock; None: never seen).
    """

    boot_id: str
    booted_at: float
    uncertainty: float
    measured_at: float
    stepped_at: float | None = None


def update_server(known: ServerClock | None, seen: ServerClock, now: float) -> ServerClock:
    """What is to be remembered after the measurement `seen`."""
    if known is None or known.boot_id != seen.boot_id:
        return seen
    elapsed = max(seen.measured_at - known.measured_at, 0.0)
    allowed = known.uncertainty + seen.uncertainty + GREATEST_DRIFT * elapsed
    was_set = abs(seen.booted_at - known.booted_at) > allowed
    return replace(seen, stepped_at=now if was_set else known.stepped_at)


def read_server(path: str) -> ServerClock | None:
    """What the file `path` remembers; None where there is nothing, or nothing that can be read."""
    try:
        with open(path, encoding="ascii") as file:
            boot, *numbers, stepped = file.read(200).split()
        booted_at, uncertainty, measured_at = map(float, numbers)
        stepped_at = None if stepped == "-" else float(stepped)
        if not all(map(math.isfinite, (booted_at, uncertainty, measured_at, stepped_at or 0.0))):
            return None
        return ServerClock(boot, booted_at, uncertainty, measured_at, stepped_at)
    except (OSError, ValueError):
        return None


def remember_server(path: str, skew: ClockSkew) -> ServerClock:
    """Keep in `path` how the server's clock was just measured, and whether it was set since."""
    seen = ServerClock(
        process_identity.boot_id(), process_identity.booted_at() + skew.offset, skew.uncertainty,
        time.clock_gettime(time.CLOCK_BOOTTIME),
    )
    clock = update_server(read_server(path), seen, time.time())
    _keep(
        path, clock.boot_id, clock.booted_at, clock.uncertainty, clock.measured_at,
        clock.stepped_at,
    )
    return clock
