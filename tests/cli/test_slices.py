"""mailman-ha slices: who serves which part of which queue."""

from __future__ import annotations

import os
from typing import Any

import pytest
from mailman_ha.cli.lock_rows import LockRow
from mailman_ha.cli.slice_rows import (
    MOST_GEOMETRIES,
    MOST_OVERLAPS,
    Part,
    QueueSeen,
    ResourceOnQueue,
    Seen,
    geometries,
    parts,
)
from mailman_ha.queues.entries import Backlog
from mailman_ha.queues.slices import Slice, overlap

from tests.agents.agent_runs import ClusterPicture, NodePicture
from tests.agents.slice_fixture import COUNT, Sliced
from tests.cli.operator_runs import NOBODY, CommandRun, Operator, resource_xml, slices_xml
from tests.fuzz.surface import bounded


def rows(done: CommandRun) -> dict[tuple[str, int, int], dict[str, Any]]:
    """The slices of `slices --json` by queue, number and count."""
    return {
        (one["queue"], one["slice"], one["slices"]): one
        for one in done.json("slices")["slices"]
    }


def said(one: dict[str, Any]) -> str:
    return "; ".join(finding["what"] for finding in one["findings"])


@pytest.fixture
def operator_of_slices(sliced: Sliced, operator_of: Any) -> Operator:
    """At the shell of a node whose queue `in` is for four slices of the resource mailman-in."""
    operator: Operator = operator_of(sliced.installation)
    operator.configure(slices_xml("mailman-in", COUNT, **operator.parameters(queue="in")))
    return operator


@pytest.mark.slow
def test_running_slices_are_told_with_claim_depth_and_age(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    pids = [sliced.started(number) for number in range(4)]
    done = operator_of_slices.run("slices", "--json")
    told = rows(done)
    for number, pid in enumerate(pids):
        one = told["in", number, 4]
        assert one["claim"]["owner"]["pid"] == pid
        assert one["claim"]["verdict"] == "alive"
        assert one["resources"] == ["mailman-in"] and not one["by_master"]
        assert one["findings"] == []
    # Nobody has the master's lock, but in its queues nothing waits.
    assert done.code == 0, done.stdout
    table = operator_of_slices.run("slices").stdout
    assert "mailman-in" in table and f"{pids[2]} on n1" in table


def test_entries_are_counted_by_slice(sliced: Sliced, operator_of_slices: Operator) -> None:
    sliced.lay_entry(1, 120.0, ".pck")
    sliced.lay_entry(1, 500.0, ".bak")
    told = rows(operator_of_slices.run("slices", "--json"))
    one = told["in", 1, 4]
    assert (one["waiting"], one["in_work"]) == (1, 1)
    assert 499 < one["oldest_seconds"] < 600
    assert (told["in", 0, 4]["waiting"], told["in", 0, 4]["oldest_seconds"]) == (0, None)
    assert "8 min" in operator_of_slices.run("slices").stdout


def test_slice_without_a_runner_needs_a_human(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    done = operator_of_slices.run("slices", "--json")
    assert done.code == 1
    for number in range(4):
        one = rows(done)["in", number, 4]
        assert "no runner has its claim" in said(one) and one["needs_you"]
    assert "pcs resource cleanup mailman-in" in operator_of_slices.run("slices").stdout


@pytest.mark.slow
def test_stray_slice_of_no_resource_needs_a_human(
    sliced: Sliced, operator_of: Any
) -> None:
    pid = sliced.started(0)
    operator: Operator = operator_of(sliced.installation)
    operator.configure()  # no qfiles-slice resource any more
    done = operator.run("slices", "--json")
    one = rows(done)["in", 0, 4]
    assert done.code == 1 and said(one).startswith("stray")
    assert f"kill {pid}" in operator.run("slices").stdout


@pytest.mark.slow
def test_overlapping_geometries_need_a_human(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    sliced.started(0)
    # What a runner started by hand with its own claim would look like, on another node.
    operator_of_slices.installation.make_dead_lock("n2", 4242, lock=sliced.lock(0, 2), last="7")
    done = operator_of_slices.run("slices", "--json")
    told = rows(done)
    assert done.code == 1
    assert "overlap" in said(told["in", 0, 4]) and "in:0:2" in said(told["in", 0, 4])
    assert "overlap" in said(told["in", 0, 2])
    assert "overlap" not in said(told["in", 3, 4])


def test_claim_of_a_lost_node_tells_what_to_type(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    operator = operator_of_slices
    operator.installation.make_dead_lock("n2", 4242, lock=sliced.lock(2), last="7")
    operator.configure(
        slices_xml("mailman-in", 4, **operator.parameters(queue="in")), stuck_after="0"
    )
    operator.agents.cluster(
        ClusterPicture({"n1": NodePicture(), "n2": NodePicture(online=False, unclean=True)})
    )
    one = rows(operator.run("slices", "--json"))["in", 2, 4]
    assert one["claim"]["verdict"] == "lost"
    assert "pcs stonith fence n2" in operator.run("slices").stdout


def test_master_serves_the_queues_without_slices(operator: Operator) -> None:
    installation = operator.installation
    installation.start_by_hand()
    done = operator.run("slices", "--json")
    told = rows(done)
    queue = installation.in_queue.name
    mine = [one for key, one in told.items() if key[0] == queue]
    assert mine and all(one["by_master"] for one in mine)
    assert {one["claim"]["owner"]["pid"] for one in mine} == {installation.master_pid()}
    assert done.code == 0, operator.run("slices").stdout


def test_queue_of_a_master_that_runs_nowhere_needs_a_human_once_entries_wait(
    operator: Operator,
) -> None:
    operator.installation.lock_dir.mkdir(exist_ok=True)
    assert operator.run("slices").code == 0
    operator.installation.post()
    done = operator.run("slices")
    assert done.code == 1 and "nobody has the master's lock" in done.stdout


def test_master_and_slices_on_one_queue_contradict_each_other(operator: Operator) -> None:
    operator.installation.lock_dir.mkdir(exist_ok=True)
    operator.configure(slices_xml("mailman-in", 2, **operator.parameters(queue="in")))
    done = operator.run("slices", "--json")
    assert done.code == 1
    assert "the master is configured to run this queue" in said(rows(done)["in", 0, 2])


def test_single_resources_that_leave_a_slice_out_are_incomplete(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    operator = operator_of_slices
    operator.configure("".join(
        resource_xml("qfiles-slice", f"in-{number}",
                     **operator.parameters(queue="in", slice=str(number), slices="4"))
        for number in (0, 1, 3)
    ))
    told = rows(operator.run("slices", "--json"))
    assert said(told["in", 2, 4]).startswith("no resource is configured for it")
    assert told["in", 3, 4]["resources"] == ["in-3"]


def test_disabled_slices_need_a_human_only_once_entries_wait(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    operator = operator_of_slices
    operator.configure(slices_xml("mailman-in", 4, True, **operator.parameters(queue="in")))
    assert "disabled" in said(rows(operator.run("slices", "--json"))["in", 0, 1])
    assert operator.run("slices").code == 0
    sliced.lay_entry(0, 5.0, ".pck")
    assert operator.run("slices").code == 1


def test_cluster_down_is_told(sliced: Sliced, operator_of_slices: Operator) -> None:
    operator = operator_of_slices
    operator.cluster_down()
    done = operator.run("slices", *operator.options())
    assert "which resources are configured is not known" in done.stdout
    told = rows(operator.run("slices", "--json", *operator.options()))
    assert "is not known" in said(told["in", 0, 1])


def test_queue_that_may_not_be_read_is_told(
    sliced: Sliced, operator_of_slices: Operator
) -> None:
    operator = operator_of_slices
    sliced.lay_entry(0, 5.0, ".pck")
    operator.run("slices")
    os.chmod(operator.installation.lock_dir, 0o755)
    os.chmod(operator.installation.queue_dir / "in", 0o700)
    done = operator.run("slices", "--json", uid=NOBODY)
    one = rows(done)["in", 0, 4]
    assert one["waiting"] is None and "cannot be listed: Permission denied" in said(one)


# -- the judging alone: no I/O

def row(verdict: str, pid: int = 7, needs_you: bool = False) -> LockRow:
    return LockRow("l", "lock", verdict, "why", "do", needs_you, host="n2", node="n2", pid=pid)


def seen(
    claims: dict[tuple[str, Slice], LockRow] | None = None,
    resources: tuple[ResourceOnQueue, ...] | None = (),
    master_slices: int = 0,
    instances: int | None = None,
    entries: int = 0,
    master: LockRow | None = None,
) -> tuple[Part, ...]:
    backlogs = {
        count: (Backlog(entries, 0, 10.0 if entries else None),) * count for count in (1, 2, 4, 8)
    }
    queue = QueueSeen("in", master_slices, instances, backlogs)
    return parts(Seen((queue,), claims or {}, master, resources, 100.0))


def all_said(told: tuple[Part, ...]) -> str:
    return "; ".join(finding.what for part in told for finding in part.findings)


def clone(count: int | None = 2, name: str = "r", **more: bool) -> ResourceOnQueue:
    return ResourceOnQueue(name, "in", count, tuple(range(count or 0)), **more)


BOTH = {("in", Slice(0, 2)): row("member"), ("in", Slice(1, 2)): row("member", 8)}

CASES = {
    "all is well": (seen(BOTH, (clone(),), instances=2), False, ""),
    "instances differ": (seen(BOTH, (clone(),), instances=4), True, "goes by instances"),
    "two resources": (
        seen(BOTH, (clone(), clone(name="s"))), True, "configured for the same slice",
    ),
    "two geometries": (seen(BOTH, (clone(), clone(4, "s"))), True, "divides the queue into 4"),
    "untold slices": (seen(BOTH, (clone(), clone(None, "s"))), True, "cannot be told"),
    "dead claim": (
        seen({**BOTH, ("in", Slice(1, 2)): row("fenced")}, (clone(),)), False, "is dead",
    ),
    "dead claim overlaps nobody": (
        seen({**BOTH, ("in", Slice(0, 4)): row("fenced")}, (clone(),)), False, "is dead",
    ),
    "dead master": (seen(master_slices=1, master=row("fenced"), entries=3), False, "is dead"),
    "doubtful master": (seen(master_slices=1, master=row("lost", needs_you=True)), True, "why"),
    "master and claims": (seen(BOTH, (clone(),), master_slices=1), True, "as well"),
    "nobody, nothing waits": (seen(), False, "nobody is configured"),
    "nobody, entries wait": (seen(entries=1), True, "nobody is configured"),
    "not known": (seen(resources=None, entries=1), False, "not known"),
    "claims and no cluster's word": (seen(BOTH, None), False, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_judging_of_slices(case: str) -> None:
    told, needs_you, words = CASES[case]
    assert any(part.needs_you for part in told) == needs_you, all_said(told)
    assert words in all_said(told)
    if not words:
        assert not all_said(told)


def test_every_slice_that_anybody_means_is_told() -> None:
    told = seen({**BOTH, ("in", Slice(5, 8)): row("alive")}, (clone(4),))
    assert [(part.slice.number, part.slice.count) for part in told] == [
        (0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4), (5, 8),
    ]


def test_claims_of_absurd_geometries_cost_nothing() -> None:
    hostile = {
        ("in", Slice(number, 10**9 - 1 - number)): row("alive") for number in range(300)
    }
    told = seen(hostile, ())
    assert len(told) == 300
    assert all(part.waiting is None for part in told)


@pytest.mark.parametrize("overlapping", [True, False])
def test_thousands_of_planted_claims_are_told_of_at_once(overlapping: bool) -> None:
    """Whoever may write into the lock directory can make as many claims as he likes."""
    row = LockRow("x", "lock", "unknown", "why", "remedy", True, "far.example", None, 5)
    claims = {
        ("in", Slice(0, number + 1) if overlapping else Slice(number, 4000)): row
        for number in range(4000)
    }
    with bounded(3.0):
        told = parts(Seen((QueueSeen("in", 0, None, {}),), claims, None, (), 0.0))
        assert len(geometries("in", 0, claims, ())) <= MOST_GEOMETRIES
    assert len(told) == 4000
    found = [finding for part in told for finding in part.findings if "overlap" in finding.what]
    assert bool(found) == overlapping and len(found) <= MOST_OVERLAPS * len(told)


def test_claim_that_overlaps_many_others_is_found_from_either_side() -> None:
    row = LockRow("x", "lock", "alive", "why", "", False, "n1", "n1", 5)
    slices = [Slice(0, 1), *(Slice(number, 64) for number in range(64)), Slice(1, 3)]
    claims = {("in", slice): row for slice in slices}
    for part in parts(Seen((QueueSeen("in", 0, None, {}),), claims, None, (), 0.0)):
        beside = [finding for finding in part.findings if finding.what.startswith("overlap")]
        others = [one for one in slices if one != part.slice and overlap(one, part.slice)]
        assert len(beside) == min(len(others), MOST_OVERLAPS) > 0
