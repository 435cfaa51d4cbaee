"""The accident: two runners on one slice, as people start them today; the agents refuse it.

What happens is contract, section 3, "Two runners, one slice".
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.agents.agent_runs import NodePicture
from tests.agents.slice_fixture import Node, Sliced, accepted, picture, refused
from tests.installation_fixture import KINDS21
from tests.installations import wait_until
from tests.private_processes import read_process

pytestmark = pytest.mark.slow


def test_two_runners_by_hand_on_one_slice_deliver_a_message_twice(outgoing: Sliced) -> None:
    """B's start takes what A has in work for the remains of a dead runner."""
    (sent,) = accepted(outgoing, 1)
    sink = outgoing.installation.sink
    sink.hold()
    first = outgoing.by_hand(0, 1, "out")
    sink.wait_for_held(1)
    second = outgoing.by_hand(0, 1, "out")
    if not outgoing.is_3:  # there SQLite keeps the second waiting while the first delivers
        sink.wait_for_held(2)
    assert first.poll() is None and second.poll() is None
    sink.release()
    wait_until(lambda: outgoing.delivered().get(sent, 0) == 2, 20, "it was delivered twice")
    wait_until(lambda: not outgoing.entries_by_slice(1, "out")[0], 10, "the queue is empty")
    if not outgoing.is_3:
        wait_until(lambda: "Failed to unlink" in outgoing.errors(), 10, "the loser's error")


@pytest.mark.parametrize("outgoing", KINDS21, indirect=True)
def test_two_runners_by_hand_on_one_slice_lose_a_message_when_one_of_them_dies(
    outgoing: Sliced,
) -> None:
    """Both list an entry; A takes it; B, which finds it gone, puts A's copy aside; A dies."""
    sink = outgoing.installation.sink
    pause = {"MAILMAN_STANDIN_PAUSE": "dequeue:rename:out"}
    runners = [outgoing.by_hand(0, 1, "out", pause) for _ in range(2)]
    for one in runners:
        one.send_signal(signal.SIGSTOP)
    taker, robber = runners
    sent = accepted(outgoing, 2)
    directory = outgoing.installation.queue_dir / "out"

    def goes_on_until_it_has(runner: object, number: int) -> None:
        os.kill(runner.pid, signal.SIGCONT)  # type: ignore[attr-defined]
        wait_until(lambda: len(list(directory.glob("*.bak"))) == number, 10, f"{number} in work")

    goes_on_until_it_has(robber, 1)  # it has listed both
    goes_on_until_it_has(taker, 2)
    wait_until(
        lambda: all((p := read_process(one.pid)) is not None and p.state == "T" for one in runners),
        10, "both stand still after taking an entry",
    )
    os.kill(robber.pid, signal.SIGCONT)  # delivers its own, then comes to the other's
    bad = outgoing.installation.queue_dir / "bad"
    wait_until(lambda: len(list(bad.glob("*.psv"))) == 1, 20, "the other's copy was put aside")
    outgoing.installation.kill(taker.pid)
    sink.wait_for(1)
    outgoing.by_hand(0, 1, "out")  # whoever starts after that finds nothing
    wait_until(lambda: not outgoing.entries_by_slice(1, "out")[0], 10, "the queue is empty")
    assert set(outgoing.delivered()) < sent, "one of the two was lost"
    assert "unparseable" in outgoing.errors()


def test_with_the_agents_the_second_runner_is_refused_and_each_message_delivered_once(
    outgoing: Sliced,
) -> None:
    sent = accepted(outgoing, 5)
    sink = outgoing.installation.sink
    sink.hold()
    pid = outgoing.started(0, 1, queue="out")
    sink.wait_for_held(1)
    # The same slice for another resource, and for one of another state directory: both know it.
    refused(outgoing.start(0, 1, queue="out", clone=False), 1, str(pid))
    other = outgoing.agents.directory / "other-state"
    other.mkdir(exist_ok=True)
    refused(
        outgoing.start(0, 1, queue="out", clone=False, state_dir=other), 1, str(pid)
    )
    if not outgoing.is_3:
        refused(outgoing.start(2, 3, queue="out", clone=False), 1, str(pid))
    assert outgoing.pids(0, 1, "out") == [pid]
    sink.release()
    wait_until(lambda: not outgoing.entries_by_slice(1, "out")[0], 30, "the queue is empty")
    assert outgoing.delivered() == dict.fromkeys(sent, 1)
    assert outgoing.stop(0, 1, queue="out").code == 0
    assert outgoing.delivered() == dict.fromkeys(sent, 1)
    for name in ("bad", "shunt"):
        assert not list((outgoing.installation.queue_dir / name).glob("*"))
    for words in ("unparseable", "Failed to unlink", "SHUNTING"):
        assert words not in outgoing.errors()


@pytest.mark.parametrize("outgoing", KINDS21, indirect=True)
def test_with_the_agents_a_message_in_work_on_a_node_that_dies_is_delivered_by_the_next(
    outgoing: Sliced, make_node: Callable[[Sliced, str], Node]
) -> None:
    """The entry that the dead runner had in work is its slice's, and so the successor's."""
    assert outgoing.monitor(0, 1, queue="out").code == 7
    sent = accepted(outgoing, 3)
    sink = outgoing.installation.sink
    n1, n2 = make_node(outgoing, "n1"), make_node(outgoing, "n2")
    given = {"queue": "out", "host_map": f"n1={n1.host} n2={n2.host}"}
    sink.hold()
    done = n2.slice("start", outgoing.installation, 0, 1, **given)
    assert done.code == 0, done.stderr
    sink.wait_for_held(1)
    refused(n1.slice("start", outgoing.installation, 0, 1, **given), 1, "which is online")
    n2.cut_power()
    in_work = [path for path in outgoing.entries_by_slice(1, "out")[0] if path.suffix == ".bak"]
    assert len(in_work) == 1
    outgoing.agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 2)))
    done = n1.slice("start", outgoing.installation, 0, 1, **given)
    assert done.code == 0, done.stderr
    sink.release()
    wait_until(lambda: not outgoing.entries_by_slice(1, "out")[0], 30, "the queue is empty")
    # What was on its way to the server when the power went may come twice, but nothing is lost.
    times = outgoing.delivered()
    assert set(times) == sent
    assert sum(times.values()) <= len(sent) + 1
    assert n1.slice("stop", outgoing.installation, 0, 1, **given).code == 0
