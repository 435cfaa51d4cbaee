"""The judging functions of the agents, which read nothing: snapshots in, outcomes out."""

from __future__ import annotations

import pytest
from mailman_ha.agents.list_lock_janitor import judge as janitor_judge
from mailman_ha.agents.lock_sweep import Kept, SweepReport
from mailman_ha.agents.mailman_end import (
    FORWARDED,
    RUNNERS_OF_A_SLICE,
    Signalled,
    Step,
    identity,
    next_step,
)
from mailman_ha.agents.mailman_master import judge
from mailman_ha.agents.mailman_master.observe import MasterLock, QueueSight, Snapshot
from mailman_ha.agents.site import Absent
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.evidence.process_table import Process
from mailman_ha.locks import verdict as verdicts
from mailman_ha.locks.directory import Inspection, LockDirectory, LockFile
from mailman_ha.locks.grammar import Owner
from mailman_ha.locks.verdict import Verdict
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.mailman.processes import MailmanProcess, MailmanProcesses, Role
from mailman_ha.ocf.record import replace
from mailman_ha.queues.entries import Backlog

NOW = 2_000_000_000.0
SITE = Installation(
    Location("3", ("/b",), config="/c"),
    Answer("/v/locks", "/v/queue", "/v/lists", "/v", "/v/pid", "/b", "/v/log",
           "/v/locks/master.lck", "3.3", "/c", (("in", 2), ("out", 1)), ()),
    User("list", 38, 38),
    "/v/locks",
)


def process(pid: int, kind: str, parent: int = 1, state: str = "S", **role: object):
    stat = ProcessStat(pid, state, parent, 10, 10, pid * 100)
    return MailmanProcess(Process(stat, ("x",), 38, "/v"), Role(kind, **role))


MASTER = process(10, "master")
RUNNERS = (
    process(11, "runner", 10, runner="in", slice=0, slices=2),
    process(12, "runner", 10, runner="in", slice=1, slices=2),
    process(13, "runner", 10, runner="out"),
)
CLAIM = Inspection("master.lck|h|10|1", 5, 1, 2, int((NOW + 1e5) * 1e9), 0, b"", True)
HELD = MasterLock(LockFile("master.lck", 5, (CLAIM.name,), (Owner("h", 10),)), CLAIM, (10,))
GOOD = Snapshot(SITE, "", MailmanProcesses((MASTER,), RUNNERS), None, HELD, (), NOW)


def titled(*pids: int) -> tuple[MailmanProcess, ...]:
    """Runners of `in` that tell no slice, and the one of `out`."""
    return (*(process(pid, "runner", 10, runner="in") for pid in pids), RUNNERS[2])


def lost_to(host: str) -> MasterLock:
    return MasterLock(
        LockFile("master.lck", 6, ("c",), (Owner(host, 99),)), replace(CLAIM, inode=6), (),
        ((host, 99),),
    )


MONITOR = {
    "all well": (GOOD, (0, 0, 0)),
    "nothing runs": (replace(GOOD, processes=MailmanProcesses()), (7, 7, 7)),
    "nothing runs, no share": (
        Snapshot(Absent("gone"), "gone", MailmanProcesses(), None, MasterLock()), (7, 7, 7)
    ),
    "orphans": (replace(GOOD, processes=MailmanProcesses((), RUNNERS)), (1, 1, 1)),
    "commands that a runner started": (
        replace(GOOD, processes=MailmanProcesses(
            (MASTER,), (*RUNNERS, process(20, "runner", 13), process(21, "runner", 13)),
        )), (0, 0, 0)
    ),
    "runner out of the configuration": (
        replace(GOOD, processes=MailmanProcesses(
            (MASTER,), (*RUNNERS, process(20, "runner", 10, runner="virgin")),
        )), (0, 1, 1)
    ),
    "share gone": (replace(GOOD, share_missing="gone"), (1, 1, 1)),
    "lock gone": (replace(GOOD, lock=MasterLock()), (1, 1, 1)),
    "lock unreadable": (replace(GOOD, lock=MasterLock(trouble="EIO")), (1, 1, 1)),
    "lock lost": (replace(GOOD, lock=lost_to("n2")), (1, 1, 1)),
    "claim has one link": (
        replace(GOOD, lock=replace(HELD, claim=replace(CLAIM, links=1))), (1, 1, 1)
    ),
    "claim has three links": (
        replace(GOOD, lock=replace(HELD, claim=replace(CLAIM, links=3))), (1, 1, 1)
    ),
    "claim is another inode": (
        replace(GOOD, lock=replace(HELD, claim=replace(CLAIM, inode=7))), (1, 1, 1)
    ),
    "two claims of one lock": (
        replace(GOOD, lock=replace(HELD, lock=replace(
            HELD.lock, claims=(CLAIM.name, "master.lck|h|10|2"),
        ))), (1, 1, 1)
    ),
    "lock of another pid here": (replace(GOOD, lock=replace(HELD, holders=(77,))), (1, 1, 1)),
    "second master": (
        replace(GOOD, processes=MailmanProcesses((MASTER, process(20, "master")), RUNNERS)),
        (1, 1, 1),
    ),
    "child before exec": (
        replace(GOOD, processes=MailmanProcesses((MASTER, process(20, "master", 10)), RUNNERS)),
        (0, 0, 0),
    ),
    "runner missing": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), RUNNERS[1:])), (0, 1, 1)
    ),
    "runner twice": (
        replace(GOOD, processes=MailmanProcesses(
            (MASTER,), (*RUNNERS, process(14, "runner", 1, runner="out")))), (0, 1, 1),
    ),
    "worker of a runner": (
        replace(GOOD, processes=MailmanProcesses(
            (MASTER,), (*RUNNERS, process(14, "runner", 13, runner="out")))), (0, 0, 0),
    ),
    "titles, which tell no slice": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), titled(11, 12))), (0, 0, 0)
    ),
    "titles beside a runner that has yet to set its own": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), (RUNNERS[1], *titled(11)))), (0, 0, 0)
    ),
    "titles, a runner missing": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), titled(11))), (0, 1, 1)
    ),
    "titles, a runner too many": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), titled(11, 12, 14))), (0, 1, 1)
    ),
    "a runner on all slices beside one on each": (
        replace(GOOD, processes=MailmanProcesses((MASTER,), (*RUNNERS[:2], *titled(14)))), (0, 1, 1)
    ),
    "runner stopped": (
        replace(GOOD, processes=MailmanProcesses(
            (MASTER,), (*RUNNERS[:2], process(13, "runner", 10, "T", runner="out")))), (0, 1, 1),
    ),
    "master stopped": (
        replace(GOOD, processes=MailmanProcesses((process(10, "master", state="T"),), RUNNERS)),
        (0, 1, 1),
    ),
    "not refreshed": (
        replace(GOOD, lock=replace(HELD, claim=replace(CLAIM, expires_ns=int((NOW + 60) * 1e9)))),
        (0, 190, 190),
    ),
    "queue stands still": (
        replace(GOOD, queues=(QueueSight("in", Backlog(3, 0, NOW - 500)),)), (0, 0, 1)
    ),
    "queue moves": (replace(GOOD, queues=(QueueSight("in", Backlog(3, 0, NOW - 50)),)), (0, 0, 0)),
}


@pytest.mark.parametrize("case", MONITOR)
@pytest.mark.parametrize("number", range(3), ids=["level 0", "level 10", "level 20"])
def test_monitor_says_what_the_snapshot_shows(
    case: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, expected = MONITOR[case]
    monkeypatch.setattr(ProcessStat, "started_at", lambda self: NOW - 10000)
    outcome = judge.monitor(snapshot, (0, 10, 20)[number], 100)
    assert outcome.code == expected[number], outcome
    assert bool(outcome.reason) == (outcome.code not in (0, 7)) or outcome.code == 7


def test_trouble_with_the_lock_is_said_also_where_nothing_runs() -> None:
    snapshot = replace(MONITOR["nothing runs"][0], lock=MasterLock(trouble="EIO"))
    outcome = judge.monitor(snapshot, 0, 100)
    assert outcome.code == 7 and "EIO" in outcome.reason


def test_queue_is_given_as_long_as_its_limit_after_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a failover the backlog is old, and the new master must have its time for it."""
    monkeypatch.setattr(ProcessStat, "started_at", lambda self: NOW - 50)
    assert judge.monitor(MONITOR["queue stands still"][0], 20, 100).code == 0


def test_start_ends_strays_first_and_is_a_success_beside_the_holder() -> None:
    assert judge.start(GOOD).outcome.code == 0
    for case in ("orphans", "lock gone", "lock lost", "second master"):
        plan = judge.start(MONITOR[case][0])
        assert plan.outcome is None and plan.end_first and plan.why, case
    plain = judge.start(MONITOR["nothing runs"][0])
    assert plain.outcome is None and not plain.end_first
    assert judge.start(MONITOR["nothing runs, no share"][0]).outcome.code == 5
    assert judge.start(replace(MONITOR["nothing runs"][0], share_missing="x")).outcome.code == 5


def test_kept_master_lock_refuses_the_start_and_other_locks_do_not() -> None:
    kept = Kept("master.lck", Verdict(verdicts.LOST, "held by n2", "fence it"))
    report = SweepReport(LockDirectory("/v/locks"), kept=(kept,))
    outcome = judge.after_sweep(report, "master.lck", SITE)
    assert outcome.code == 1 and "fence it" in outcome.reason
    assert judge.after_sweep(report, "other.lck", SITE) is None


def test_master_is_told_first_and_runners_are_left_to_it() -> None:
    everyone = MailmanProcesses((MASTER,), RUNNERS)
    first = next_step(everyone, Signalled(), 0, 100)
    assert first.terminate == (MASTER,) and not first.kill
    told = Signalled(frozenset({identity(MASTER)}), True)
    assert next_step(everyone, told, 1, 100).terminate == ()
    orphans = MailmanProcesses((), RUNNERS)
    gone = replace(told, master_gone_at=2.0)
    assert next_step(orphans, gone, 2.1, 100).terminate == ()
    assert next_step(orphans, gone, 2.1 + FORWARDED, 100).terminate == RUNNERS


def test_master_that_starts_runners_for_ever_after_its_term_is_killed() -> None:
    """One that starts a runner anew because it crashed at that moment is waited for."""
    everyone = MailmanProcesses((MASTER,), RUNNERS)
    sent = Signalled(frozenset({identity(MASTER)}), True).having_seen(everyone)
    for pid in range(20, 20 + RUNNERS_OF_A_SLICE):
        assert next_step(everyone, sent, 1, 100).kill == ()
        newcomer = process(pid, "runner", 10, runner="in", slice=1, slices=2)
        sent = sent.having_seen(replace(everyone, runners=(RUNNERS[0], newcomer, RUNNERS[2])))
    step = next_step(everyone, sent, 1, 100)
    assert step.kill == (MASTER,) and not step.terminate
    # its runners have had their TERM from it, or end by themselves
    gone = replace(sent, master_gone_at=2.0)
    assert next_step(MailmanProcesses((), RUNNERS), gone, 2.1, 100) == Step()


def test_runners_that_were_there_at_the_term_are_none_that_the_master_starts_after_it() -> None:
    """Titles do not tell the slice; a runner has its title only some time after its start."""
    pids = range(20, 29)
    starting = tuple(
        process(pid, "runner", 10, runner="in", slice=pid - 20, slices=len(pids)) for pid in pids
    )
    titles = tuple(process(pid, "runner", 10, runner="in") for pid in pids)
    sent = Signalled(frozenset({identity(MASTER)}), True)
    for first in (starting, titles):
        told = sent
        for runners in (first, titles):
            left = MailmanProcesses((MASTER,), runners)
            told = told.having_seen(left)
            assert next_step(left, told, 1, 100) == Step()
    # of so many of one name each may crash at the TERM, but not again and again
    for begin in (100, 200, 300):
        assert next_step(left, told, 1, 100) == Step()
        newcomers = tuple(
            process(begin + number, "runner", 10, runner="in") for number in range(len(pids))
        )
        left = MailmanProcesses((MASTER,), newcomers)
        told = told.having_seen(left)
    assert next_step(left, told, 1, 100).kill == (MASTER,)


@pytest.mark.parametrize("parent", [20, 1])
def test_workers_of_the_rest_server_and_orphans_are_no_runners_that_the_master_starts(
    parent: int,
) -> None:
    server = process(20, "runner", 10, runner="rest")
    workers = tuple(process(pid, "runner", parent, runner="rest") for pid in range(21, 30))
    left = MailmanProcesses((MASTER,), (server, *workers))
    sent = Signalled(frozenset({identity(MASTER)}), True).having_seen(left)
    assert next_step(left, sent, 1, 100) == Step()


def test_orphans_are_told_at_once_and_killed_when_the_time_is_over_master_first() -> None:
    assert next_step(MailmanProcesses((), RUNNERS), Signalled(), 0, 100).terminate == RUNNERS
    last = next_step(MailmanProcesses((MASTER,), RUNNERS), Signalled(), 100, 100)
    assert last.kill == (MASTER, *RUNNERS)
    assert next_step(MailmanProcesses(), Signalled(), 0, 100).done


@pytest.mark.parametrize("state", [
    verdicts.ALIVE, verdicts.MEMBER, verdicts.LOST, verdicts.STRANGER, verdicts.UNKNOWN,
])
@pytest.mark.parametrize("age", [None, 10.0, 1000.0])
def test_only_an_old_lock_in_nobodys_hands_is_worth_a_human(state: str, age: float | None) -> None:
    report = SweepReport(
        LockDirectory("/v/locks"), kept=(Kept("x.lock", Verdict(state, "why", "do"), age),)
    )
    outcome = janitor_judge.sweep_outcome(report, 600)
    stuck = state in (verdicts.LOST, verdicts.STRANGER, verdicts.UNKNOWN) and age == 1000.0
    assert outcome.code == (190 if stuck else 0)
    assert ("x.lock" in outcome.reason and "do" in outcome.reason) == stuck
