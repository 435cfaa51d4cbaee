"""A client's clock that is off: measured, and the verdicts stay right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab.nfs.guest import Guest
from lab.nfs.laboratory import NfsLab

from .hosts import Process, Scene

AHEAD = 9.0


def set_clock(guest: Guest, ahead: float) -> None:
    """Set the guest's clock, `ahead` seconds before where it is."""
    program = "import sys, time; time.clock_settime(0, time.time() + float(sys.argv[1]))"
    guest.run(["python3", "-c", program, str(ahead)])


def ahead_of_ours(process: Process) -> tuple[float, float]:
    """How far its guest's clock is ahead of this machine's, and how wrong that may be (seconds)."""
    looks = []
    for _ in range(8):
        before = time.time()
        there = process.clock()
        after = time.time()
        looks.append(((after - before) / 2, there - (before + after) / 2))
    width, ahead = min(looks)
    return ahead, width


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
