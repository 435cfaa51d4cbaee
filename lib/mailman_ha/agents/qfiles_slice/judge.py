"""Judging for qfiles-slice: pure functions of a snapshot. No I/O, no clock."""

from __future__ import annotations

import os

from mailman_ha.agents.site import Absent
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome
from mailman_ha.queues import slices
from mailman_ha.queues.slices import Slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from mailman_ha.agents.lock_sweep import SweepReport
    from mailman_ha.agents.qfiles_slice.observe import Claim, ConfiguredSlices, Snapshot
    from mailman_ha.agents.qfiles_slice.settings import Wanted
    from mailman_ha.agents.qfiles_slice.state_file import SliceState
    from mailman_ha.mailman.processes import MailmanProcess

#: How many of a kind a sentence names.
_SHOWN = 6


def monitor(snapshot: Snapshot, wanted: Wanted, level: int, max_queue_age: float) -> Outcome:
    """The outcome of a monitor at `level` (0, 10 or 20); `max_queue_age` in seconds, 0: none."""
    own, remembered = snapshot.own, snapshot.remembered
    same = same_slice(snapshot, wanted)
    if own is None or remembered is None:
        if same:
            return Outcome(
                codes.ERR_GENERIC,
                f"{_named(same)} was not started by this resource and holds no claim on the "
                "slice; stop ends it",
            )
        return Outcome(codes.NOT_RUNNING)
    site = snapshot.site
    if isinstance(site, Absent) or snapshot.share_missing:
        return Outcome(
            codes.ERR_GENERIC,
            f"{own.describe()} runs here but cannot use its data: {snapshot.share_missing}",
        )
    if (remembered.queue, remembered.slice, remembered.slices) != (
        wanted.queue, wanted.slice.number, wanted.slice.count
    ):
        return Outcome(
            codes.ERR_GENERIC,
            f"{own.describe()} runs, but the resource is configured for {wanted.text} now",
        )
    if not holds(snapshot.claim, remembered):
        return Outcome(
            codes.ERR_GENERIC,
            f"{own.describe()} runs here but does not hold {wanted.lock_name}: "
            f"{holder(snapshot.claim)}",
        )
    if same:
        return Outcome(
            codes.ERR_GENERIC,
            f"besides {own.describe()} a second runner works on the slice: {_named(same)}; stop "
            "ends both",
        )
    if level >= 10:
        if own.process.stat.stopped:
            return Outcome(codes.ERR_GENERIC, f"{own.describe()} is stopped (SIGSTOP)")
        trouble = rival_trouble(snapshot, wanted)
        if trouble:
            return Outcome(codes.ERR_GENERIC, trouble)
    if level >= 20 and max_queue_age > 0:
        trouble = queue_trouble(snapshot, own, wanted, max_queue_age)
        if trouble:
            return Outcome(codes.ERR_GENERIC, trouble)
    return Outcome(codes.SUCCESS)


def holds(claim: Claim, remembered: SliceState) -> bool:
    """Whether the slice's lock is held by the claim file that the runner was started with: two
    names in the directory and two links by the claim file itself, on the inode it had."""
    return (
        claim.lock is not None
        and claim.claim is not None
        and claim.lock.claims == (os.path.basename(remembered.claim),)
        and claim.claim.inode == claim.lock.inode == remembered.claim_inode
        and claim.claim.links == 2
    )


def holder(claim: Claim) -> str:
    """In words, whose the slice's lock is."""
    if claim.trouble:
        return claim.trouble
    if claim.lock is None:
        return "the lock is gone"
    if claim.lock.owners:
        owner = claim.lock.owners[0]
        return f"it is held by pid {owner.pid} on {owner.host}"
    return "its holder cannot be told"


def same_slice(snapshot: Snapshot, wanted: Wanted) -> tuple[MailmanProcess, ...]:
    """Runners here, of no resource, on exactly this slice: a stop ends them too."""
    return tuple(
        one for one in snapshot.others
        if (one.role.slice, one.role.slices) == (wanted.slice.number, wanted.slice.count)
    )


def strays(snapshot: Snapshot, wanted: Wanted) -> tuple[MailmanProcess, ...]:
    """Runners here, of no resource, that work on a part of the slice."""
    instances = 0
    if not isinstance(snapshot.site, Absent):
        runner = snapshot.site.runners_by_queue().get(wanted.queue, "")
        instances = dict(snapshot.site.answer.instances).get(runner, 0)
    return tuple(
        one for one in snapshot.others
        if _may_overlap(one.role.slice, one.role.slices, wanted.slice)
        # Mailman 3 goes by `instances`, whatever the command line says (facts, section 3).
        or (instances and _may_overlap(one.role.slice, instances, wanted.slice))
    )


def rival_trouble(snapshot: Snapshot, wanted: Wanted) -> str:
    """Which other runner here works on a part of the slice, and the way out; '' where none does."""
    found = strays(snapshot, wanted)
    if found:
        return (
            f"{_named(found)}, started by no resource of the cluster, works on a part of "
            f"{wanted.text} on this node: end it with "
            f"`kill {' '.join(str(one.pid) for one in found[:_SHOWN])}`, then clean up this "
            "resource"
        )
    # Their claims tell as well, but those may have been removed by hand.
    siblings = tuple(
        one for one in snapshot.siblings
        if _may_overlap(one.role.slice, one.role.slices, wanted.slice)
    )
    if siblings:
        return (
            f"{_named(siblings)}, started by another resource, works on a part of {wanted.text} on "
            "this node: stop that resource, then clean up this one"
        )
    return ""


def claimed_by(stray: MailmanProcess) -> Slice:
    """The slice to be claimed in the name of a stray: the whole queue where it is not told."""
    number, count = stray.role.slice, stray.role.slices
    return Slice(number, count) if 0 <= number < count else Slice(0, 1)


def _may_overlap(number: int, count: int, wanted: Slice) -> bool:
    if not 0 <= number < count:
        return True
    return slices.overlap(Slice(number, count), wanted)


def queue_trouble(
    snapshot: Snapshot, own: MailmanProcess, wanted: Wanted, max_queue_age: float
) -> str:
    """Why the slice stands still: its oldest entry is older than `max_queue_age` seconds, and the
    runner has had as long to work on it."""
    backlog = snapshot.backlog
    if backlog is None or backlog.oldest is None:
        return ""
    age = snapshot.now - backlog.oldest
    if age <= max_queue_age or snapshot.now - own.process.stat.started_at() < max_queue_age:
        return ""
    return (
        f"slice {wanted.text} stands still: {backlog.waiting} entries wait, {backlog.in_work} are "
        f"in work, the oldest is {age:.0f} s old (max_queue_age {max_queue_age:.0f})"
    )


def configuration_trouble(site: Installation, wanted: Wanted) -> Outcome | None:
    """Why this Mailman cannot run the slice as it is configured, with the way out; None if it can.

    ERR_CONFIGURED for what is wrong on every node alike. A node's own configuration of Mailman may
    be an old one, while another node can serve the slice: ERR_INSTALLED.
    """
    queues = site.runners_by_queue()
    runner = queues.get(wanted.queue)
    if runner is None:
        return Outcome(
            codes.ERR_CONFIGURED,
            f"Mailman has no runner for a queue {wanted.queue}; queues that can have slices: "
            + ", ".join(sorted(queues)),
        )
    count = wanted.slice.count
    is_3 = site.location.version == VERSION_3
    if is_3 and count & (count - 1):
        return Outcome(
            codes.ERR_CONFIGURED,
            f"Mailman 3 divides a queue only by a power of two, not into {count} slices: set "
            f"slices (in a clone: clone-max) to {1 << (count.bit_length() - 1)} or "
            f"{1 << count.bit_length()}",
        )
    if dict(site.answer.runners).get(runner, 0) > 0:
        way_out = (
            f"set start: no in [runner.{runner}] of {site.location.config}"
            if is_3
            else f"take {runner} out of QRUNNERS in mm_cfg.py"
        )
        return Outcome(
            codes.ERR_INSTALLED,
            f"Mailman's master is configured to run the queue {wanted.queue} itself: {way_out}, "
            "restart mailman-master, then clean up this resource",
        )
    if is_3:
        instances = dict(site.answer.instances).get(runner, 1)
        if instances != count:
            return Outcome(
                codes.ERR_INSTALLED,
                f"Mailman 3 goes by instances in its configuration, which is {instances} for "
                f"[runner.{runner}] in {site.location.config}, not by the {count} slices of this "
                f"resource: set instances: {count} there on every node",
            )
    return None


def conflict(wanted: Wanted, others: Collection[ConfiguredSlices]) -> str:
    """Which other resource of the cluster is configured for a part of the slice, and the way out;
    '' where none is."""
    for other in others:
        if other.count is None:
            return (
                f"resource {other.resource} serves the same queue {wanted.queue}, but not which "
                "slice of how many can be told: set its slice and slices (in a clone: clone-max), "
                f"or disable it with `pcs resource disable {other.resource}`"
            )
        if other.count != wanted.slice.count:
            return (
                f"resource {other.resource} divides the queue {wanted.queue} into {other.count} "
                f"slices, this one into {wanted.slice.count}: all must use the same number; "
                f"correct one, or disable it with `pcs resource disable {other.resource}`"
            )
        if wanted.slice.number in other.numbers:
            return (
                f"resource {other.resource} is configured for slice {wanted.text} as well: give "
                "each slice to one resource, or disable one with "
                f"`pcs resource disable {other.resource}`"
            )
    return ""


def start(
    snapshot: Snapshot, wanted: Wanted, others: Collection[ConfiguredSlices], not_told: str
) -> Outcome | None:
    """Whether `start` is done or must be refused before the claims are looked at; None to go on.

    `not_told` says why the cluster's resources are not known.
    """
    site = snapshot.site
    if isinstance(site, Absent):
        return Outcome(site.code, site.why)
    if snapshot.share_missing:
        return Outcome(codes.ERR_INSTALLED, snapshot.share_missing)
    unfit = configuration_trouble(site, wanted)
    if unfit is not None:
        return unfit
    seen = monitor(snapshot, wanted, 0, 0)
    if seen.code == codes.SUCCESS:
        return seen
    if snapshot.own is not None:
        return Outcome(codes.ERR_GENERIC, f"{seen.reason}; stop the resource first")
    trouble = rival_trouble(snapshot, wanted)
    if trouble:
        return Outcome(codes.ERR_GENERIC, trouble)
    if not_told:
        return Outcome(
            codes.ERR_GENERIC,
            f"it is not known which other resources serve the queue {wanted.queue}: {not_told}",
        )
    trouble = conflict(wanted, others)
    if trouble:
        return Outcome(codes.ERR_CONFIGURED, trouble)
    if snapshot.claim.trouble:
        return Outcome(codes.ERR_GENERIC, snapshot.claim.trouble)
    return None


def after_sweep(
    report: SweepReport, overlapping: Collection[str], site: Installation, wanted: Wanted
) -> Outcome | None:
    """Whether the claims allow a start: None, or the refusal."""
    for kept in report.kept:
        if kept.name in overlapping:
            also = f" ({report.problems[0]})" if report.problems else ""
            return Outcome(
                codes.ERR_GENERIC,
                f"a runner may work on {wanted.text}: the claim {site.lock_dir}/{kept.name} is "
                f"kept: {kept.verdict.sentence()}{also}",
            )
    return None


def _named(processes: tuple[MailmanProcess, ...]) -> str:
    text = ", ".join(one.describe() for one in processes[:_SHOWN])
    more = len(processes) - _SHOWN
    return f"{text} and {more} more" if more > 0 else text
