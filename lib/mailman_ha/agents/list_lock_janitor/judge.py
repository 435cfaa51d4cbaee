"""Judging for list-lock-janitor: what one sweep says about the resource. Pure."""

from __future__ import annotations

from mailman_ha.locks import verdict as verdicts
from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.agents.lock_sweep import Kept, SweepReport

#: Verdicts with which a kept file is in good hands: a living process, or another node's own.
IN_GOOD_HANDS = (verdicts.ALIVE, verdicts.MEMBER)


def stuck_locks(report: SweepReport, stuck_after: float) -> list[Kept]:
    """The kept locks that need a human: neither in good hands nor releasable, and older than
    `stuck_after` seconds. The oldest first."""
    stuck = [
        one
        for one in report.kept
        if one.verdict.state not in IN_GOOD_HANDS
        and not one.verdict.may_release
        and one.age is not None
        and one.age > stuck_after
    ]
    return sorted(stuck, key=lambda one: (-(one.age or 0.0), one.name))


def sweep_outcome(
    report: SweepReport, stuck_after: float, problems: tuple[str, ...] = ()
) -> Outcome:
    """The outcome of a monitor after `report` and with the further `problems` it met."""
    stuck = stuck_locks(report, stuck_after)
    if stuck:
        more = f" (and {len(stuck) - 1} more)" if len(stuck) > 1 else ""
        return Outcome(
            codes.DEGRADED,
            f"{report.listing.path}/{stuck[0].sentence()} [kept for {stuck[0].age:.0f} s]{more}",
        )
    all_problems = (*report.problems, *problems)
    if all_problems:
        return Outcome(codes.DEGRADED, all_problems[0])
    return Outcome(codes.SUCCESS)
