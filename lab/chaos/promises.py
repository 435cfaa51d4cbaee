"""What has to be true of a round at rest: pure functions of what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROOFS = frozenset({"dead here", "ended", "fenced", "unheld"})  # states that allow a release


@dataclass(frozen=True)
class Seen:
    """A round, as the watchers outside the nodes saw it. Times in seconds since the epoch."""

    fault_at: float
    accepted: Mapping[str, float]  # Message-ID → when
    lost: Sequence[str]  # accepted, and not delivered to everyone
    excused: tuple[float, float]  # posts accepted then may be lost by the file system
    doubles: Sequence[str]  # moments with two masters or two runners of one slice
    members_before: Sequence[str]
    members_after: Sequence[str]
    releases: Sequence[Mapping[str, Any]]  # evidence lines written in the round
    quarantined: Sequence[str]  # names in the quarantine that no evidence line explains
    states: Sequence[tuple[float, bool]]  # moments at which the set of daemons changed: complete?
    not_served: str  # why it never served again; '' if it did


def broken(seen: Seen) -> list[str]:
    """A sentence for each promise that was broken."""
    found = [f"never two: {text}" for text in seen.doubles]
    start, end = seen.excused
    for identity in seen.lost:
        if not start <= seen.accepted[identity] <= end:
            after = seen.accepted[identity] - seen.fault_at
            found.append(f"never lost: {identity}, accepted {after:+.1f} s from the fault")
    if sorted(seen.members_after) != sorted(seen.members_before):
        found.append(f"never lost: members were {seen.members_before}, are {seen.members_after}")
    for entry in seen.releases:
        if entry.get("state") not in PROOFS:
            found.append(f"released without proof: {entry}")
    found += [f"released without evidence: {name}" for name in seen.quarantined]
    if seen.not_served:
        found.append(f"never stuck: {seen.not_served}")
    return found


def excused_losses(seen: Seen) -> int:
    """How many posts went with the file system that had taken them."""
    start, end = seen.excused
    return sum(start <= seen.accepted[identity] <= end for identity in seen.lost)


def seconds_to_recovery(seen: Seen) -> float | None:
    """From the fault until one full set of daemons ran for good and posts were accepted again.

    The later of two: the last moment at which the set became complete, and the end of the longest
    pause of more than two seconds in which no post was accepted. 0 when neither was interrupted;
    None when it did not recover.
    """
    if seen.not_served:
        return None
    moments = [seen.fault_at]
    complete = True
    for moment, whole in seen.states:
        if moment >= seen.fault_at:
            if whole and not complete:
                moments.append(moment)
            complete = whole
    moments += pauses(seen.fault_at, seen.accepted.values())
    return max(moments) - seen.fault_at


def pauses(since: float, accepted: Iterable[float]) -> list[float]:
    """The end of each pause of more than two seconds between accepted posts since then."""
    times = [since, *sorted(moment for moment in accepted if moment > since)]
    return [later for earlier, later in zip(times, times[1:]) if later - earlier > 2]
