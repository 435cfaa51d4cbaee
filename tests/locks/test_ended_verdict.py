"""A process of another node that is online: its lock goes only on that node's own word."""

from __future__ import annotations

import pytest
from mailman_ha.locks import verdict
from mailman_ha.locks.verdict import Evidence, HostFacts
from mailman_ha.ocf.record import replace

from tests.locks.specification import FAR, NEAR, PID, TOUCHED, Case, records


def judged(ended_at: float | None, pid: int = PID, **case: object) -> str:
    owner, changed, evidence = records(Case(host="node", **{"online": True, **case}))
    assert isinstance(evidence, Evidence)
    hosts: dict[str, HostFacts] = {
        name: replace(facts, ended_at=ended_at, ended=frozenset((pid,)))
        for name, facts in evidence.hosts.items()
    }
    return verdict.judge_owner(owner, changed, replace(evidence, hosts=hosts)).state


def test_lock_of_a_process_that_its_node_says_has_ended_since_may_go() -> None:
    assert judged(TOUCHED + FAR) == verdict.ENDED
    assert verdict.ENDED in verdict.RELEASABLE


@pytest.mark.parametrize("ended_at", [None, TOUCHED - FAR, TOUCHED, TOUCHED + NEAR])
def test_lock_that_was_touched_since_then_or_about_then_is_kept(ended_at: float | None) -> None:
    assert judged(ended_at) == verdict.MEMBER


def test_word_on_another_process_does_not_count() -> None:
    assert judged(TOUCHED + FAR, PID + 1) == verdict.MEMBER


def test_word_of_a_node_that_is_gone_does_not_count() -> None:
    assert judged(TOUCHED + FAR, online=False) == verdict.LOST


@pytest.mark.parametrize("stepped", ["between touch and fencing", "after all"])
def test_word_from_before_this_hosts_clock_was_set_does_not_count(stepped: str) -> None:
    assert judged(TOUCHED + FAR / 4, stepped=stepped, fenced="after") in (
        verdict.MEMBER, verdict.FENCED)
