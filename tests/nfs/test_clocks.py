"""A client's clock that is off: measured, and the verdicts stay right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.nfs.laboratory import SHARES, NfsLab

from .hosts import Process, Scene, ahead_of_ours, set_clock

AHEAD = 9.0


@pytest.fixture(params=[AHEAD, -AHEAD], ids=["ahead", "behind"])
def shift(request: pytest.FixtureRequest, lab: NfsLab) -> Iterator[float]:
    """How far the clock of n2 is ahead of the others'."""
    guest = lab.clients["n2"]
    set_clock(guest, request.param)
    yield request.param
    set_clock(guest, -request.param)


def test_skew_of_a_clock_is_measured(
    shift: float, scene: Scene, measured: Callable[[str], None]
) -> None:
    client = scene.process("n2")
    offset, uncertainty = client.skew(scene.path)
    server_ahead, its_width = ahead_of_ours(Process(scene.lab.server))
    client_ahead, width = ahead_of_ours(client)
    truth = server_ahead - client_ahead
    assert abs(offset - truth) <= uncertainty + its_width + width
    assert abs(truth + shift) < 4.0  # else no clock was set; they boot some tenths apart
    measured(f"{offset:+.3f} s ± {uncertainty:.3f}, in truth {truth:+.3f} s")


def test_fencing_is_compared_with_the_lock_by_one_clock(shift: float, scene: Scene) -> None:
    before = scene.process("n1")
    assert before.take_within("2.1", scene.lock("before.lock"), 3600.0, 30.0)
    fenced_at = scene.fenced_now()
    after = scene.process("n1")
    assert after.take_within("2.1", scene.lock("after.lock"), 3600.0, 30.0)
    nodes = {"n1": {"online": False, "fenced_at": fenced_at}, "n2": {}}
    told = scene.process("n2", as_root=True).sweep("2.1", scene.path, nodes)
    assert told["released"] == [["before.lock", "fenced"]]
    assert scene.is_held_by("after.lock", after)


def test_lock_of_a_living_owner_is_kept_though_the_servers_clock_is_set_ahead(lab: NfsLab) -> None:
    # What the lock was stamped with lies before its owner's start, by the clock as it is now.
    scene = Scene(lab, SHARES[2])
    owner = scene.process("n1")
    assert owner.take_within("2.1", scene.lock("alpha.lock"), 3600.0, 30.0)
    sweeper = scene.process("n1", as_root=True)
    assert sweeper.sweep("2.1", scene.path, {"n1": {}, "n2": {}})["released"] == []
    set_clock(lab.server, 600.0)
    try:
        told = sweeper.sweep("2.1", scene.path, {"n1": {}, "n2": {}})
    finally:
        set_clock(lab.server, -600.0)
        scene.close()
    assert told["released"] == []
    assert told["kept"]["alpha.lock"][0] == "alive"
