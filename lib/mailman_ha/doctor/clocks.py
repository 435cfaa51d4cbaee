"""Clocks: Mailman's locks expire by them, and fencing is compared with them."""

from __future__ import annotations

from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING, Finding
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation

CHECK = "clocks"

#: Mailman breaks another's lock this long after it has expired by its own clock (seconds).
GREATEST_SKEW = 10.0
#: From here on it is worth a word (seconds).
NOTABLE_SKEW = 5.0

_BREAKS = (
    "Mailman allows 10 s between clocks: beyond that it takes a short lock (15 s in Mailman 3) "
    "that a living process holds for expired and breaks it, and a lock taken after a fencing may "
    "look older than it"
)
_KEEP_TIME = "on that machine: chronyc makestep (and see that chrony or ntpd starts at boot)"


def findings(seen: Observation) -> Iterator[Finding]:
    """This node against the file server, and every node against every other."""
    offsets: dict[str, float] = {}
    here = seen.here
    on_server = bool(seen.places and seen.places[0].mount and _has_server(seen))
    if seen.skew is not None and on_server:
        if seen.skew.uncertainty > NOTABLE_SKEW:
            yield _unmeasured(f"the file server took {2 * seen.skew.uncertainty:.0f} s to answer")
        else:
            offsets[here] = seen.skew.offset
    elif seen.no_skew:
        yield _unmeasured(seen.no_skew)
    for node, facts in (seen.facts or {}).items():
        if facts is not None and facts.offset is not None and node != seen.here:
            offsets[node] = float(facts.offset)
    for node, offset in offsets.items():
        if abs(offset) >= NOTABLE_SKEW:
            way = "behind" if offset > 0 else "ahead of"
            yield Finding(
                CHECK, ERROR if abs(offset) >= GREATEST_SKEW else WARNING,
                f"the clock of {escape(node)} is {abs(offset):.0f} s {way} the file server's",
                _BREAKS, _KEEP_TIME,
            )
    if offsets:
        first = min(offsets, key=lambda one: offsets[one])
        last = max(offsets, key=lambda one: offsets[one])
        apart = offsets[last] - offsets[first]
        if apart >= GREATEST_SKEW and abs(offsets[first]) < GREATEST_SKEW > abs(offsets[last]):
            yield Finding(
                CHECK, ERROR,
                f"the clocks of {escape(first)} and {escape(last)} are {apart:.0f} s apart",
                _BREAKS, _KEEP_TIME,
            )
    yield from _kept(seen, here)


def _has_server(seen: Observation) -> bool:
    mount = seen.places[0].mount
    return mount is not None and mount.is_nfs


def _unmeasured(why: str) -> Finding:
    return Finding(
        CHECK, UNSEEN, f"the file server's clock could not be compared with this node's: {why}",
        _BREAKS, "as root, where the share is mounted: mailman-ha doctor; or compare `date` there",
    )


def _kept(seen: Observation, here: str) -> Iterator[Finding]:
    states = {here: seen.synchronised}
    for node, facts in (seen.facts or {}).items():
        if facts is not None and node != seen.here:
            states[node] = facts.synchronised
    for node, state in states.items():
        if state is False:
            yield Finding(
                CHECK, WARNING,
                f"nothing keeps the clock of {escape(node)} right: its kernel says unsynchronised",
                "clocks that nobody keeps drift apart; 10 s off, Mailman breaks locks in use",
                "on that node: apt-get install chrony (dnf install chrony), rtcsync in its "
                "configuration; wait a few minutes",
            )
