"""Three nodes: quorum decides who goes on, and the group finds one of the two that are left."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.client import Lab

from .conftest import bring_up
from .failover import Standing


@pytest.fixture(scope="module")
def three() -> Iterator[Lab]:
    """Three nodes of bookworm that serve the stand-in for 2.1."""
    lab = bring_up("bookworm", "standin21", nodes=3)
    try:
        yield lab
    finally:
        lab.down()


def test_partitioned_node_of_three_is_fenced_and_replaced(three: Lab) -> None:
    three.wait_members(60)
    standing = Standing(three, time.time())
    cut_off = three.wait_serving()
    with standing.traffic("three-partition"):
        three.partition(cut_off)
        try:
            others = set(three.node_names) - {cut_off}
            three.wait_until("another node serves", lambda: three.active_node() in others, 60)
        finally:
            three.heal(cut_off)
    taker = three.active_node()
    assert taker is not None
    assert standing.first_master_on(taker) > standing.fencing_of(cut_off)
    new = [each for each in three.events() if each["time"] >= standing.began]
    fenced = {each["node"] for each in new if each["event"] == "fenced"}
    assert fenced == {cut_off}


def test_second_power_cut_is_survived_by_the_third_node(three: Lab) -> None:
    """Each fenced node is booted again, so that the next loss finds a quorum."""
    for _ in range(2):
        three.wait_members(60)
        standing = Standing(three, time.time())
        lost = three.wait_serving()
        with standing.traffic("three-power"):
            three.kill(lost)
            others = set(three.node_names) - {lost}
            three.wait_until("another node serves", lambda n=others: three.active_node() in n, 60)
        taker = three.active_node()
        assert taker is not None
        assert standing.first_master_on(taker) > standing.fencing_of(lost)
