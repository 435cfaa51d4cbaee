"""Which metrics a sweep and a look at queues and processes make. Pure; see docs/metrics.md.

No label is taken from a file in a lock directory or a queue, or from the arguments of a process:
how many samples there are goes by the configuration alone.
"""

from __future__ import annotations

from mailman_ha import __version__
from mailman_ha.agents.list_lock_janitor import judge
from mailman_ha.agents.list_lock_janitor.exposition import COUNTER, GAUGE, Family
from mailman_ha.locks import verdict as verdicts
from mailman_ha.mailman.processes import workers
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Union

    from mailman_ha.agents.list_lock_janitor.exposition import Sample
    from mailman_ha.agents.lock_sweep import SweepReport
    from mailman_ha.locks.release_count import ReleaseCount
    from mailman_ha.mailman.processes import MailmanProcesses
    from mailman_ha.queues.entries import Backlog

    #: A runner's name, its slice, and of how many.
    Part = tuple[str, int, int]
    Number = Union[int, float]

#: In the order of the documentation: the living first.
STATES = (
    verdicts.ALIVE, verdicts.MEMBER, verdicts.LOST, verdicts.STRANGER, verdicts.UNKNOWN,
    verdicts.DEAD_HERE, verdicts.ENDED, verdicts.FENCED,
)

#: Of a queue or runner in more slices than this only the sum is told.
MOST_SLICES = 256


@record
class QueueSeen:
    """A queue by its directory's name, with one Backlog for each slice. `waits_by_design`: how old
    its entries are says nothing."""

    name: str
    backlogs: tuple[Backlog, ...]
    waits_by_design: bool = False


@record
class Observed:
    """All that the metrics are made of.

    `releases` and `in_quarantine` are None where they could not be read. `expected` are the runners
    that the master's configuration or a qfiles-slice resource asks for, on any node; `processes`
    are this node's. `swept_at` and `now` are in seconds since the epoch, `stuck_after` in seconds.
    """

    release: str
    lock_dir: str
    report: SweepReport
    swept_at: float
    stuck_after: float
    releases: ReleaseCount | None
    in_quarantine: int | None
    queues: tuple[QueueSeen, ...]
    expected: tuple[Part, ...]
    processes: MailmanProcesses
    now: float


def families(seen: Observed) -> tuple[Family, ...]:
    """Every metric."""
    return (
        Family(
            "mailman_ha_info", GAUGE, "Which mailman-ha watches which Mailman; always 1.",
            (({"version": __version__, "mailman": seen.release, "lock_dir": seen.lock_dir}, 1),),
        ),
        _plain("mailman_ha_metrics_timestamp_seconds", "When this file was written.", seen.now),
        _plain(
            "mailman_ha_last_sweep_timestamp_seconds",
            "When the sweep began that these numbers are of.", seen.swept_at,
        ),
        *_of_locks(seen),
        *_of_queues(seen.queues, seen.now),
        *_of_processes(seen),
    )


def _plain(name: str, help: str, value: Number, kind: str = GAUGE) -> Family:
    return Family(name, kind, help, (({}, value),))


def _of_locks(seen: Observed) -> Iterator[Family]:
    orphans = {orphan.name for orphan in seen.report.listing.orphans}
    number = {(kind, state): 0 for kind in ("lock", "claim") for state in STATES}
    # A member's lock is not opened, so nothing is known of its age: that node's janitor tells it.
    oldest = {state: 0.0 for state in STATES if state != verdicts.MEMBER}
    for one in seen.report.kept:
        state = one.verdict.state
        number["claim" if one.name in orphans else "lock", state] += 1
        if state in oldest and one.age is not None:
            oldest[state] = max(oldest[state], one.age)
    yield Family(
        "mailman_ha_locks", GAUGE,
        "Locks, and claim files without a lock, that a sweep kept, by the verdict on the owner.",
        tuple(({"kind": kind, "state": state}, n) for (kind, state), n in number.items()),
    )
    yield Family(
        "mailman_ha_oldest_lock_age_seconds", GAUGE,
        "Age of the oldest of them since its last touch; 0: there is none.",
        tuple(({"state": state}, age) for state, age in oldest.items()),
    )
    yield _plain(
        "mailman_ha_stuck_locks",
        "Locks kept for doubt for longer than the parameter stuck_after.",
        len(judge.stuck_locks(seen.report, seen.stuck_after)),
    )
    yield _plain(
        "mailman_ha_sweep_problems",
        "What stood in the sweep's way: releases that failed, or were due in maintenance mode.",
        len(seen.report.problems),
    )
    if seen.releases is not None:
        yield Family(
            "mailman_ha_lock_releases_total", COUNTER,
            "Locks and claims of the dead that were released on this share, by any node.",
            tuple(
                ({"state": state}, n)
                for state, n in zip(verdicts.RELEASABLE, seen.releases.counts)
            ),
        )
        yield _plain(
            "mailman_ha_last_release_timestamp_seconds",
            "When the last of them was released; 0: never.", seen.releases.latest,
        )
    if seen.in_quarantine is not None:
        yield _plain(
            "mailman_ha_quarantine_files", "Files in quarantine.", seen.in_quarantine
        )


def _of_queues(queues: Iterable[QueueSeen], now: float) -> Iterator[Family]:
    depth: list[Sample] = []
    age: list[Sample] = []
    for queue in queues:
        for number, backlog in enumerate(queue.backlogs):
            labels = {
                "queue": queue.name, "slice": str(number), "slices": str(len(queue.backlogs)),
            }
            depth.append(({**labels, "kind": "waiting"}, backlog.waiting))
            depth.append(({**labels, "kind": "in_work"}, backlog.in_work))
            if not queue.waits_by_design:
                since = now if backlog.oldest is None else backlog.oldest
                age.append((labels, max(now - since, 0.0)))
    yield Family("mailman_ha_queue_entries", GAUGE, "Entries of a queue's slice.", tuple(depth))
    yield Family(
        "mailman_ha_queue_oldest_entry_age_seconds", GAUGE,
        "Age of the oldest entry of a queue's slice, also of one in work; 0: there is none.",
        tuple(age),
    )


def _of_processes(seen: Observed) -> Iterator[Family]:
    running, unexpected = runners(seen.processes, seen.expected)
    configured: dict[Part, int] = {}
    alive: dict[Part, int] = {}
    for part in seen.expected:
        told = (part[0], 0, 1) if part[2] > MOST_SLICES else part
        configured[told] = configured.get(told, 0) + 1
        alive[told] = alive.get(told, 0) + running[part]
    yield _plain(
        "mailman_ha_master_running", "Whether a master runs on this node.",
        int(bool(seen.processes.masters)),
    )
    yield Family(
        "mailman_ha_runners", GAUGE, "Runners of a slice that live on this node.", _parts(alive)
    )
    yield Family(
        "mailman_ha_runners_configured", GAUGE,
        "Runners that a slice must have, on all nodes together.", _parts(configured),
    )
    yield _plain(
        "mailman_ha_runners_unexpected",
        "Runners on this node that neither the master's configuration nor a resource asks for.",
        unexpected,
    )


def _parts(numbers: dict[Part, int]) -> tuple[Sample, ...]:
    return tuple(
        ({"runner": runner, "slice": str(number), "slices": str(count)}, n)
        for (runner, number, count), n in sorted(numbers.items())
    )


def runners(
    processes: MailmanProcesses, expected: Iterable[Part]
) -> tuple[dict[Part, int], int]:
    """How many runners live on each of the `expected` parts, and how many on none of them.

    A process of which only a title is seen does not tell its slice (Role); it is taken for one that
    lacks its runner, and is unexpected where none does.
    """
    found: dict[Part, int] = {}
    working = workers(processes.runners)
    for one in processes.runners:
        # Without a name it is a command that a runner started, as nntp's does with gatenews.
        if one.role.runner and one.pid not in working:
            part = (one.role.runner, one.role.slice, one.role.slices)
            found[part] = found.get(part, 0) + 1
    running = {part: found.pop(part, 0) for part in expected}
    for part in running:
        untold = (part[0], 0, 1)
        if not running[part] and found.get(untold, 0):
            running[part] = 1
            found[untold] -= 1
    return running, sum(found.values())
