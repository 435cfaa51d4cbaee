"""Every situation of an owner, against the design: the state, and what the operator reads."""

from __future__ import annotations

from functools import cache

import pytest
from mailman_ha.locks import verdict
from mailman_ha.locks.grammar import Owner
from mailman_ha.locks.verdict import Verdict

from tests.locks.specification import HOST, HOSTS, NODE, PID, Case, cases, records, specified

REFUSED = (verdict.ALIVE, verdict.LOST, verdict.MEMBER, verdict.STRANGER, verdict.UNKNOWN)


@cache
def judged(host: str, offset: float = 0.0) -> tuple[tuple[Case, Verdict], ...]:
    """Every situation with the verdict of the code under test."""
    return tuple(
        (case, verdict.judge_owner(*records(case))) for case in cases(host, offset)
    )


@pytest.mark.parametrize("host", HOSTS)
def test_every_situation_gets_the_state_that_the_design_gives_it(host: str) -> None:
    wrong = [
        f"{found.state} instead of {specified(case)}: {case}"
        for case, found in judged(host)
        if found.state != specified(case)
    ]
    assert not wrong, f"{len(wrong)} of them, the first: {wrong[0]}"
    assert len(judged(host)) == 6144


@pytest.mark.parametrize("offset", [3600.0, -3600.0])
@pytest.mark.parametrize("host", ["own", "node"])
def test_a_file_server_with_another_clock_changes_no_verdict(host: str, offset: float) -> None:
    assert [found.state for _, found in judged(host, offset)] == [
        found.state for _, found in judged(host)
    ]


def test_the_table_reaches_every_state() -> None:
    states = {specified(case) for host in HOSTS for case, _ in judged(host)}
    assert states == {*REFUSED, verdict.DEAD_HERE, verdict.FENCED}


@pytest.mark.parametrize("host", HOSTS)
def test_only_dead_here_and_fenced_may_be_released(host: str) -> None:
    for case, found in judged(host):
        assert found.may_release == (found.state in ("dead here", "fenced")), case
        if found.may_release:
            assert host in ("own", "node"), case


@pytest.mark.parametrize("host", HOSTS)
def test_refusal_names_host_pid_and_what_to_do_next(host: str) -> None:
    refusals = [(case, found) for case, found in judged(host) if not found.may_release]
    assert refusals
    for case, found in refusals:
        assert HOST in found.why, case
        assert str(PID) in found.why, case
        assert found.remedy, f"nothing said of what to do next: {found.why} ({case})"
        assert found.sentence() == f"{found.why}; {found.remedy}"
        assert found.sentence().isprintable(), case
        assert found.owner == Owner(HOST, PID)


@pytest.mark.parametrize("unclean", [False, True])
@pytest.mark.parametrize("fenced", ["never", "before", "within"])
def test_refusal_of_a_lost_nodes_lock_names_the_command_that_turns_doubt_into_proof(
    unclean: bool, fenced: str
) -> None:
    found = verdict.judge_owner(*records(Case("node", unclean=unclean, fenced=fenced)))
    assert f"pcs stonith fence {NODE}" in found.remedy
    assert f"pcs stonith confirm {NODE}" in found.remedy


def test_refusal_with_fencing_disabled_names_the_parameter_that_accepts_it() -> None:
    found = verdict.judge_owner(*records(Case("node", fencing_enabled=False)))
    assert found.state == verdict.LOST
    assert "stonith-enabled=false" in found.why and "allow_unfenced=true" in found.remedy


def test_refusal_of_a_strangers_lock_names_host_map() -> None:
    found = verdict.judge_owner(*records(Case("foreign")))
    assert f'host_map="NODE={HOST}"' in found.remedy


def test_node_fenced_after_the_touch_is_dead_even_where_it_is_back() -> None:
    for online in (False, True):
        case = Case("node", online=online, fenced="after")
        assert verdict.judge_owner(*records(case)).state == verdict.FENCED


def test_reused_pid_is_told_from_its_owner_by_the_start_alone() -> None:
    """Also where the reuser is another Mailman."""
    for kind in ("Mailman", "stranger"):
        found = verdict.judge_owner(*records(Case("own", process=f"{kind}, younger")))
        assert found.state == verdict.DEAD_HERE
        assert "another process now" in found.why
