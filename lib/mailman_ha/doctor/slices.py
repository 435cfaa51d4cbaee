"""Slices: each of a queue on exactly one resource, and Mailman configured to agree."""

from __future__ import annotations

from mailman_ha.doctor.configuration import SLICE, Resource
from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING, Finding
from mailman_ha.mailman.location import VERSION_3, VERSION_21
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_integer
from mailman_ha.queues import slices
from mailman_ha.queues.slices import Slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation
    from mailman_ha.mailman.installation import Installation

CHECK = "slices"

#: A queue of more slices than this is a mistake, and costs only time (slices).
_MOST = 4096

#: Queues without which no post gets through.
_VITAL = ("in", "pipeline", "out", "virgin")
#: Those that many sites have switched off.
_OPTIONAL = ("nntp", "news", "digest", "shunt", "bad")

_TWO = (
    "two runners on one part of a queue take messages out of each other's hands: some are lost, "
    "some are delivered twice"
)


@record
class _Configured:
    resource: Resource
    queue: str
    count: int
    numbers: tuple[int, ...]

    @property
    def off(self) -> bool:
        return self.resource.primitive.disabled


def findings(seen: Observation) -> Iterator[Finding]:
    """The slices in the CIB, against each other and against Mailman's own configuration."""
    if seen.configuration is None:
        return
    found: list[_Configured] = []
    for resource in seen.configuration.of(SLICE):
        one = _read(resource)
        if isinstance(one, Finding):
            yield one
        else:
            found.append(one)
            yield from _clone(one)
    queues: dict[tuple[str, ...], list[_Configured]] = {}
    for one in found:
        parameters = dict(one.resource.primitive.parameters)
        place = tuple(
            parameters.get(name, "") for name in ("prefix", "config", "lock_dir")
        )
        queues.setdefault((one.queue, *place), []).append(one)
    for (queue, *_), those in queues.items():
        yield from _queue(queue, those)
    if seen.site is not None:
        yield from _mailman(seen.site, found)
    elif found and not seen.from_file:
        yield Finding(
            CHECK, UNSEEN, "Mailman's own configuration is not known here, so that it could not be "
            "compared with the slices",
            "a queue that the master runs as well has two runners on each slice",
            "mailman-ha doctor on a node where Mailman can be asked",
        )


def _read(resource: Resource) -> _Configured | Finding:
    primitive = resource.primitive
    name = escape(primitive.id)
    parameters = dict(primitive.parameters)
    queue = parameters.get("queue", "")
    refused = "its start is refused, and that part of the queue is served by nobody"
    if not queue:
        return Finding(
            CHECK, ERROR, f"{name} names no queue", refused,
            f"crm_resource -r {name} -p queue -v in",
        )
    if primitive.clone:
        if not primitive.globally_unique or primitive.clone_max is None:
            clone = escape(resource.outermost)
            return Finding(
                CHECK, ERROR,
                f"the clone of {name} has no slices: it needs globally-unique=true and clone-max",
                refused,
                pcs=f"pcs resource meta {clone} globally-unique=true clone-max=4 clone-node-max=4",
                crm=f"crm resource meta {clone} set globally-unique true (also clone-max and "
                    "clone-node-max)",
            )
        count = primitive.clone_max
        if not 0 < count <= _MOST:
            return Finding(
                CHECK, ERROR, f"{name} divides queue {escape(queue)} into {count} slices", refused,
                "a clone-max of a few times the number of nodes is sensible",
            )
        return _Configured(resource, queue, count, tuple(range(count)))
    try:
        one = Slice(parse_integer(parameters["slice"]), parse_integer(parameters["slices"]))
    except (KeyError, ValueError):
        return Finding(
            CHECK, ERROR, f"{name} does not say which slice of how many it is", refused,
            f"crm_resource -r {name} -p slice -v 0; crm_resource -r {name} -p slices -v 4; or make "
            "it a globally-unique clone",
        )
    return _Configured(resource, queue, one.count, (one.number,))


def _clone(one: _Configured) -> Iterator[Finding]:
    primitive = one.resource.primitive
    if not primitive.clone or (primitive.clone_node_max or 1) >= one.count:
        return
    clone = escape(one.resource.outermost)
    yield Finding(
        CHECK, WARNING,
        f"{escape(primitive.id)}: clone-node-max is {primitive.clone_node_max or 1} and clone-max "
        f"{one.count}",
        "the nodes that are left cannot take all slices when others die: part of the queue stands "
        "still",
        pcs=f"pcs resource meta {clone} clone-node-max={one.count}",
        crm=f"crm resource meta {clone} set clone-node-max {one.count}",
    )


def _queue(queue: str, those: list[_Configured]) -> Iterator[Finding]:
    shown = escape(queue)
    running = [one for one in those if not one.off]
    # In the order in which they begin, each meets those alone that have not ended before it.
    parts = sorted(
        (*slices.bounds(Slice(number, one.count)), one.resource.id)
        for one in running for number in one.numbers
    )
    clashes: set[tuple[str, str]] = set()
    begun: list[tuple[int, str]] = []
    for lowest, highest, resource in parts:
        begun = [(end, other) for end, other in begun if end >= lowest]
        clashes.update((min(resource, other), max(resource, other)) for _, other in begun)
        begun.append((highest, resource))
    for first, second in sorted(clashes):
        yield Finding(
            CHECK, ERROR,
            f"{escape(first)} and {escape(second)} are configured for the same part of queue "
            f"{shown}",
            f"{_TWO}; the claim refuses the second start, so one of them fails",
            f"give each a slice of its own, with the same number of slices, or disable one: "
            f"crm_resource -r {escape(second)} --meta -p target-role -v Stopped",
        )
    reached = -1
    complete = True
    for lowest, highest, _ in parts:
        complete = complete and lowest <= reached + 1
        reached = max(reached, highest)
    if not complete or reached != 2 ** 160 - 1:
        counts = {one.count for one in those}
        missing = ""
        if len(counts) == 1:
            have = {number for one in running for number in one.numbers}
            lacking = [str(number) for number in range(counts.pop()) if number not in have]
            missing = f" (missing: {', '.join(lacking[:20])})"
        off = [escape(one.resource.id) for one in those if one.off]
        yield Finding(
            CHECK, ERROR,
            f"the slices of queue {shown} are not complete{missing}"
            + (f"; disabled: {', '.join(off)}" if off else ""),
            "the messages of the missing part wait for ever: no runner takes them, nothing says so",
            f"crm_resource -r {off[0]} --meta -d target-role" if off else
            "add a resource for each missing slice, or make the queue one globally-unique clone",
        )


def _mailman(site: Installation, found: list[_Configured]) -> Iterator[Finding]:
    by_queue = site.runners_by_queue()
    started = dict(site.answer.runners)
    instances = dict(site.answer.instances)
    version_3 = site.location.version == VERSION_3
    for one in found:
        if one.off:
            continue
        queue, name = escape(one.queue), escape(one.resource.id)
        runner = by_queue.get(one.queue)
        if runner is None:
            yield Finding(
                CHECK, ERROR, f"{name}: Mailman has no runner for a queue {queue}",
                "its start is refused", f"one of: {', '.join(sorted(map(escape, by_queue)))}",
            )
            continue
        if started.get(runner):
            yield Finding(
                CHECK, ERROR,
                f"Mailman's master is configured to run queue {queue} itself, beside {name}",
                _TWO,
                f"mailman.cfg on every node: [runner.{escape(runner)}] start: no" if version_3 else
                f"mm_cfg.py: take {escape(runner)} out of QRUNNERS",
            )
        if version_3 and one.count & (one.count - 1):
            yield Finding(
                CHECK, ERROR, f"{name}: {one.count} slices, which is no power of two",
                "Mailman 3 divides a queue only by a power of two: its start is refused",
                "clone-max (or slices) 2, 4, 8, ...",
            )
        elif version_3 and instances.get(runner) not in (None, one.count):
            yield Finding(
                CHECK, ERROR,
                f"{name} has {one.count} slices, Mailman's configuration says instances: "
                f"{instances[runner]}",
                "Mailman 3 goes by its own number: a runner would work on another part of the "
                "queue than its claim says",
                f"mailman.cfg on every node: [runner.{escape(runner)}] instances: {one.count}",
            )
    sliced = {one.queue for one in found}
    for queue, runner in sorted(by_queue.items()):
        if queue in sliced or started.get(runner) or queue in _OPTIONAL or (
            site.location.version == VERSION_21 and runner == "NewsRunner"
        ):
            continue
        yield Finding(
            CHECK, ERROR if queue in _VITAL else WARNING,
            f"queue {escape(queue)} is run neither by Mailman's master nor by a slice",
            "its messages wait for ever",
            f"mailman.cfg: [runner.{escape(runner)}] start: yes" if version_3 else
            f"mm_cfg.py: {escape(runner)} in QRUNNERS; or a qfiles-slice clone for the queue",
        )
