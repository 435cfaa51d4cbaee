"""What design.md says of a lock's owner ("Evidence and verdicts"), once more and on its own.

Written from the page, not from the code under test: a list of sentences, each with the condition
under which it holds, tried from the top.  `Case` is a situation in words; `records` turns it into
the records the code takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product

from mailman_ha.locks import verdict
from mailman_ha.locks.grammar import Owner
from mailman_ha.locks.verdict import Evidence, HostFacts, ProcessFacts
from mailman_ha.ocf.record import replace

#: The lock was last touched then, by the file server's clock (seconds since the epoch).
TOUCHED = 1_700_000_000.0
#: How far the measured difference of the clocks may be off (seconds).
UNCERTAINTY = 0.5
#: Clearly before and after the touch, and too close to it to tell (seconds).
FAR, NEAR = 10.0, 0.3

PID = 4711
HOST = "mail1.example.org"
NODE = "n1"

HOSTS = ("own", "node", "foreign", "ambiguous", "no evidence", "unlisted")
MOMENTS = ("never", "before", "within", "after")
PROCESSES = (
    "none", "not looked at",
    "Mailman, older", "Mailman, same moment", "Mailman, younger",
    "stranger, older", "stranger, same moment", "stranger, younger",
)
BOOTS = ("before", "within", "after")
STEPS = ("never", "before all", "between touch and fencing", "after all")


@dataclass(frozen=True)
class Case:
    """One situation.  `fenced` and `stepped` (the host's clock was set) are relative to the
    lock's last touch, `booted` tells on which side of it this host was started."""

    host: str = "own"
    online: bool = False
    unclean: bool = False
    fenced: str = "never"
    fencing_enabled: bool = True
    allow_unfenced: bool = False
    process: str = "none"
    booted: str = "before"
    stepped: str = "never"
    offset: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def specified(case: Case) -> str:
    """The state that the design gives to the owner in `case`."""
    touch_is_comparable = case.stepped in ("never", "before all")
    event_is_comparable = case.stepped != "after all" and not (
        case.stepped == "between touch and fencing" and case.fenced in ("before", "within")
    ) and not (case.stepped == "before all" and case.fenced == "before")
    younger = case.process.endswith("younger")
    mailman = case.process.startswith("Mailman")
    there = case.process not in ("none", "not looked at")
    own, node = case.host == "own", case.host == "node"
    sentences = (
        # this host; no such process
        (own and case.process == "none", verdict.DEAD_HERE),
        (own and case.process == "not looked at", verdict.UNKNOWN),
        # ... the host booted since, or the process started after the lock was last touched
        (own and there and touch_is_comparable and case.booted == "after", verdict.DEAD_HERE),
        (own and there and touch_is_comparable and younger, verdict.DEAD_HERE),
        # this host; the process exists, is Mailman, and started before
        (own and there and mailman, verdict.ALIVE),
        # doubt
        (own and there, verdict.UNKNOWN),
        # "stonith-enabled=false: nothing is ever fenced"; a fencing that completed after
        (
            node and case.fencing_enabled and case.fenced == "after" and event_is_comparable,
            verdict.FENCED,
        ),
        # an online cluster node: only that node can know
        (node and case.online, verdict.MEMBER),
        # times too close to tell
        (
            node and case.fencing_enabled and case.fenced != "never"
            and (case.fenced == "within" or not event_is_comparable),
            verdict.UNKNOWN,
        ),
        # "refuse, unless the operator set allow_unfenced"
        (node and not case.fencing_enabled and case.allow_unfenced, verdict.FENCED),
        # offline or unclean, not fenced; also a node that left cleanly
        (node, verdict.LOST),
        # no node of the cluster
        (case.host == "foreign", verdict.STRANGER),
        # two nodes with one name; the cluster does not answer; nothing is known
        (True, verdict.UNKNOWN),
    )
    return next(state for holds, state in sentences if holds)


def cases(host: str, offset: float = 0.0) -> Iterator[Case]:
    """Every situation of an owner on `host`; `offset` is file server minus this host (seconds).

    What cannot matter to a process (fencing) or to a node (a process, the boot) is varied all the
    same: that it does not matter is part of what is checked.
    """
    yes_no = (False, True)
    for situation in product(
        yes_no, yes_no, MOMENTS, yes_no, yes_no, PROCESSES, BOOTS, STEPS
    ):
        yield Case(host, *situation, offset=offset)


def records(case: Case, owner: Owner | None = None) -> tuple[Owner, float, Evidence]:
    """(owner, last touch by the server's clock, evidence) of a case."""
    owner = owner or Owner(HOST, PID)
    here = TOUCHED - case.offset  # the moment of the touch by this host's clock
    moments = {"before": here - FAR, "within": here + NEAR, "after": here + FAR}
    kinds = {
        "own": HostFacts(verdict.THIS_HOST, node=NODE, online=True),
        "node": HostFacts(
            verdict.NODE, node=NODE, online=case.online, unclean=case.unclean,
            fenced_at=moments.get(case.fenced),
        ),
        "foreign": HostFacts(verdict.FOREIGN),
        "ambiguous": HostFacts(verdict.AMBIGUOUS, node=NODE, why="two machines call themselves so"),
        "no evidence": HostFacts(verdict.NO_EVIDENCE, why="the cluster could not be asked"),
    }
    started = {"older": -FAR, "same moment": NEAR / 2, "younger": FAR}
    processes: dict[int, ProcessFacts | None] = {}
    if case.process == "none":
        processes[owner.pid] = None
    elif case.process != "not looked at":
        kind, _, when = case.process.partition(", ")
        processes[owner.pid] = ProcessFacts(
            owner.pid, here + started[when], kind == "Mailman", "/usr/bin/something --with words"
        )
    steps = {"before all": here - FAR / 2, "between touch and fencing": here + FAR / 2,
             "after all": here + 3 * FAR}
    evidence = Evidence(
        hosts={owner.host: kinds[case.host]} if case.host in kinds else {},
        processes=processes,
        now=here + 100.0,
        booted_at={**moments, "before": here - 1000.0}[case.booted],
        clock_offset=case.offset,
        clock_uncertainty=UNCERTAINTY,
        clock_stepped_at=steps.get(case.stepped),
        fencing_enabled=case.fencing_enabled,
        allow_unfenced=case.allow_unfenced,
    )
    return owner, TOUCHED, evidence


def several(cases_of: dict[Owner, Case]) -> Evidence:
    """The evidence on several owners at once; what is not about one owner is the first's."""
    merged: Evidence | None = None
    for owner, case in cases_of.items():
        _, _, one = records(case, owner)
        merged = one if merged is None else _with_more(merged, one)
    assert merged is not None
    return merged


def _with_more(known: Evidence, more: Evidence) -> Evidence:
    return replace(
        known,
        hosts={**known.hosts, **more.hosts},
        processes={**known.processes, **more.processes},
    )
