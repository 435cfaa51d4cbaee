"""Who serves which part of each queue, and what is wrong with that: pure, from what was observed.

A part of a queue is served by a runner that has the claim on it (a qfiles-slice resource), or by
one of the master's, whose claim is the master's lock.
"""

from __future__ import annotations

import bisect
import itertools

from mailman_ha.cli import lock_rows
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record
from mailman_ha.queues.slices import Slice, bounds, overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from mailman_ha.cli.lock_rows import LockRow
    from mailman_ha.queues.entries import Backlog

#: More parts than this of one queue are not listed one by one.
MOST_PARTS = 4096

#: Claims may divide a queue in more ways than this, for anybody can make one; it is not listed
#: again for each.
MOST_GEOMETRIES = 16

#: So many claims that overlap one part are told.
MOST_OVERLAPS = 8


@record
class ResourceOnQueue:
    """A qfiles-slice resource of this share. `count` is None where it cannot be told; `numbers`
    are the slices it can run."""

    id: str
    queue: str
    count: int | None
    numbers: tuple[int, ...]
    disabled: bool = False


@record
class QueueSeen:
    """One queue as it was observed.

    `master_slices`: how many runners the master's configuration has for it (0: none).
    `instances`: what Mailman 3 divides by, None for 2.1. `backlogs` are by geometry: for each
    number of slices that anybody means, one Backlog for each slice; `trouble` says why there are
    none.
    """

    name: str
    master_slices: int
    instances: int | None
    backlogs: Mapping[int, tuple[Backlog, ...]]
    trouble: str = ""


@record
class Seen:
    """All that was observed. `claims` are the rows of the claim locks on slices, by queue and
    slice; `master` the row of the master's lock, None where nobody has it. `resources` is None
    where the cluster could not be asked. `now` is in seconds since the epoch."""

    queues: tuple[QueueSeen, ...]
    claims: Mapping[tuple[str, Slice], LockRow]
    master: LockRow | None
    resources: tuple[ResourceOnQueue, ...] | None
    now: float


@record
class Finding:
    """Something about a part of a queue, and the way out ('' where none is needed)."""

    what: str
    remedy: str = ""
    needs_you: bool = True


@record
class Part:
    """One part of a queue as it is told. `resources` are the ids of those configured for it;
    `by_master` whether the master has a runner for it. `oldest` is an age in seconds."""

    queue: str
    slice: Slice
    resources: tuple[str, ...]
    by_master: bool
    claim: LockRow | None
    waiting: int | None
    in_work: int | None
    oldest: float | None
    findings: tuple[Finding, ...]

    @property
    def needs_you(self) -> bool:
        return any(one.needs_you for one in self.findings)


def parts(seen: Seen) -> tuple[Part, ...]:
    """Every part of every queue that somebody serves, is configured to serve, or should."""
    told = []
    for queue in seen.queues:
        held = _Held(
            (slice, row) for (name, slice), row in seen.claims.items()
            if name == queue.name and not lock_rows.is_dead(row)
        )
        for part in _parts_of(queue, seen):
            told.append(_part(queue, part, seen, held))
    return tuple(told)


class _Held:
    """The claims on one queue whose owners are not proven dead, by the hashes that they hold: of
    thousands, those that overlap one part are found without looking at each."""

    def __init__(self, claims: Iterable[tuple[Slice, LockRow]]) -> None:
        self.claims = sorted(claims, key=lambda one: bounds(one[0]))
        self._lowest = [bounds(slice)[0] for slice, _ in self.claims]
        # The highest hash that any claim up to this one holds.
        highest = [bounds(slice)[1] for slice, _ in self.claims]
        self._reach = list(itertools.accumulate(highest, max))

    def beside(self, part: Slice) -> list[tuple[Slice, LockRow]]:
        """Those that overlap `part` and are not on just that; at most MOST_OVERLAPS."""
        lowest, highest = bounds(part)
        first = bisect.bisect_left(self._reach, lowest)
        end = bisect.bisect_right(self._lowest, highest)
        return list(itertools.islice(
            (one for one in self.claims[first:end] if one[0] != part and overlap(one[0], part)),
            MOST_OVERLAPS,
        ))


def geometries(name: str, master_slices: int, claims: Mapping[tuple[str, Slice], LockRow],
               resources: tuple[ResourceOnQueue, ...] | None) -> set[int]:
    """All numbers of slices that anybody divides the queue into; 1 where nobody does."""
    claimed = {slice.count for queue, slice in claims if queue == name}
    counts = {
        one.count for one in resources or ()
        if one.queue == name and one.count is not None and not one.disabled
    }
    if master_slices:
        counts.add(master_slices)
    counts |= set(sorted(claimed)[:MOST_GEOMETRIES])
    return {count for count in counts if 0 < count <= MOST_PARTS} or {1}


def _parts_of(queue: QueueSeen, seen: Seen) -> list[Slice]:
    found = {slice for name, slice in seen.claims if name == queue.name}
    for one in _on(queue, seen):
        if one.count is not None and not one.disabled:
            # Of an incomplete set the missing ones are told, too.
            found |= {Slice(number, one.count) for number in range(min(one.count, MOST_PARTS))}
    found |= {Slice(number, queue.master_slices) for number in range(queue.master_slices)}
    if not found:
        found = {Slice(0, 1)}
    return sorted(found, key=lambda slice: (slice.count, slice.number))


def _on(queue: QueueSeen, seen: Seen) -> tuple[ResourceOnQueue, ...]:
    return tuple(one for one in seen.resources or () if one.queue == queue.name)


def _part(queue: QueueSeen, part: Slice, seen: Seen, held: _Held) -> Part:
    mine = tuple(
        one for one in _on(queue, seen)
        if not one.disabled and one.count == part.count and part.number in one.numbers
    )
    by_master = queue.master_slices == part.count
    claim = seen.claims.get((queue.name, part))
    backlogs = queue.backlogs.get(part.count)
    backlog = backlogs[part.number] if backlogs and part.number < len(backlogs) else None
    entries = backlog.waiting + backlog.in_work if backlog is not None else 0
    findings = []
    if queue.trouble:
        findings.append(Finding(queue.trouble, "mend that; try as root"))
    findings += _claim_findings(claim, mine, part, queue, seen, held)
    findings += _configuration_findings(mine, by_master, part, queue, seen, held)
    if not mine and not by_master and claim is None:
        findings += _unserved(queue, part, entries, seen)
    if by_master and claim is None and not mine:
        findings += _master_findings(entries, seen)
    oldest = backlog.oldest if backlog is not None else None
    return Part(
        queue.name, part, tuple(one.id for one in mine), by_master,
        claim or (seen.master if by_master else None),
        None if backlog is None else backlog.waiting,
        None if backlog is None else backlog.in_work,
        None if oldest is None else max(seen.now - oldest, 0.0),
        tuple(findings),
    )


def _claim_findings(
    claim: LockRow | None, mine: tuple[ResourceOnQueue, ...], part: Slice, queue: QueueSeen,
    seen: Seen, held: _Held,
) -> list[Finding]:
    findings = []
    if claim is None:
        if mine:
            findings.append(Finding(
                f"no runner has its claim, though resource {_ids(mine)} is to serve it",
                f"see why in `pcs status --full`, then `pcs resource cleanup {mine[0].id}`",
            ))
        return findings
    if claim.needs_you:
        findings.append(Finding(claim.why, claim.remedy))
    elif lock_rows.is_dead(claim):
        findings.append(Finding(
            f"its runner is dead ({claim.why}); the janitor releases the claim", claim.remedy,
            needs_you=False,
        ))
    if not mine and seen.resources is not None and not lock_rows.is_dead(claim):
        findings.append(Finding(
            f"stray: {lock_rows.owner(claim)} works on it, but no resource of the cluster is "
            "configured for it",
            f"end that runner (there: kill {claim.pid}), or configure the resource again"
            if claim.pid is not None else "find out who made the claim",
        ))
    if not lock_rows.is_dead(claim):
        findings += [
            Finding(
                f"overlap: {lock_rows.owner(row)} works on "
                f"{queue.name}:{other.number}:{other.count}",
                "stop one of the two",
            )
            for other, row in held.beside(part)
        ]
    if queue.master_slices and not lock_rows.is_dead(claim):
        findings.append(_besides_the_master(queue))
    return findings


def _configuration_findings(
    mine: tuple[ResourceOnQueue, ...], by_master: bool, part: Slice, queue: QueueSeen, seen: Seen,
    held: _Held,
) -> list[Finding]:
    findings = []
    on_queue = [one for one in _on(queue, seen) if not one.disabled]
    if len(mine) > 1:
        findings.append(Finding(
            f"overlap: resources {_ids(mine)} are configured for the same slice",
            f"pcs resource disable {mine[1].id}",
        ))
    if mine:
        for other in on_queue:
            if other.count is None:
                findings.append(Finding(
                    f"which slices resource {escape(other.id)} serves cannot be told",
                    "set its slice and slices, or the clone's clone-max",
                ))
            elif other.count != part.count and any(
                overlap(Slice(number, other.count), part) for number in other.numbers
            ):
                findings.append(Finding(
                    f"overlap: resource {escape(other.id)} divides the queue into {other.count} "
                    "slices",
                    f"pcs resource disable {escape(other.id)}",
                ))
        if queue.instances is not None and queue.instances != part.count:
            findings.append(Finding(
                f"Mailman 3 goes by instances in its configuration, which is {queue.instances}, "
                f"not {part.count}",
                f"set instances: {part.count} in [runner.{queue.name}] on every node",
            ))
        if queue.master_slices and not held.claims:
            findings.append(_besides_the_master(queue))
    elif any(one.count == part.count for one in on_queue):
        findings.append(Finding(
            f"no resource is configured for it, though {_ids(tuple(on_queue))} "
            f"divides the queue into {part.count} slices",
            "configure the missing slice",
        ))
    return findings


def _besides_the_master(queue: QueueSeen) -> Finding:
    return Finding(
        "the master is configured to run this queue as well",
        f"take the runner of {queue.name} from the master's configuration ([runner.{queue.name}] "
        "start: no)" if queue.instances is not None else
        f"take the runner of {queue.name} out of QRUNNERS in mm_cfg.py",
    )


def _unserved(queue: QueueSeen, part: Slice, entries: int, seen: Seen) -> list[Finding]:
    disabled = [one for one in _on(queue, seen) if one.disabled]
    if disabled:
        return [Finding(
            f"resource {_ids(tuple(disabled))} is disabled and nobody else serves the queue",
            f"pcs resource enable {disabled[0].id}", needs_you=entries > 0,
        )]
    if seen.resources is None:
        return [Finding(
            "whether a resource serves it is not known: the cluster could not be asked",
            needs_you=False,
        )]
    return [Finding(
        "nobody is configured to serve it", "configure its runner" if entries else "",
        needs_you=entries > 0,
    )]


def _master_findings(entries: int, seen: Seen) -> list[Finding]:
    if seen.master is None:
        return [Finding(
            "nobody has the master's lock",
            "see `pcs status --full`", needs_you=entries > 0,
        )]
    if seen.master.needs_you:
        return [Finding(seen.master.why, seen.master.remedy)]
    if lock_rows.is_dead(seen.master):
        return [Finding(
            f"the master is dead ({seen.master.why})", seen.master.remedy, needs_you=False,
        )]
    return []


def _ids(resources: tuple[ResourceOnQueue, ...]) -> str:
    return ", ".join(escape(one.id) for one in resources)


def as_json(part: Part) -> dict[str, Any]:
    """The part as an element of the field `slices`."""
    return {
        "queue": escape(part.queue),
        "slice": part.slice.number,
        "slices": part.slice.count,
        "resources": [escape(one) for one in part.resources],
        "by_master": part.by_master,
        "claim": None if part.claim is None else lock_rows.as_json(part.claim),
        "waiting": part.waiting,
        "in_work": part.in_work,
        "oldest_seconds": None if part.oldest is None else round(part.oldest, 3),
        "findings": [
            {"what": one.what, "remedy": one.remedy or None, "needs_you": one.needs_you}
            for one in part.findings
        ],
        "needs_you": part.needs_you,
    }
