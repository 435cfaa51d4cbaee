"""What a stop brings back of the messages that ended Mailman 3 runners have put aside."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
from mailman_ha.agents import drain

from tests.agents.agent_runs import Agents
from tests.installations import Installation, wait_until


def shunted_into(directory: Path, number: int, came_from: str) -> str:
    """Make a shunted message of the queue `came_from`; its file name."""
    name = f"{1795715790 + number}.25+{number:040x}.pck"
    message = pickle.dumps(Message()) + pickle.dumps({"whichq": came_from, "listid": "a.b"})
    (directory / name).write_bytes(message)
    return name


class Queues:
    """The queue directories of a Mailman 3, as its answer names them."""

    def __init__(self, top: Path) -> None:
        self.places = {name: top / name for name in ("in", "out", "shunt", "bad")}
        for place in self.places.values():
            place.mkdir()
        self.site = SimpleNamespace(
            answer=SimpleNamespace(
                queues=tuple((name, str(place)) for name, place in self.places.items())
            ),
            user=SimpleNamespace(uid=os.getuid(), gid=os.getgid()),
        )

    def shunt(self, number: int, came_from: str) -> str:
        """Put a message of the queue `came_from` into the shunt queue; its file name."""
        return shunted_into(self.places["shunt"], number, came_from)

    def held(self, queue: str) -> set[str]:
        return set(os.listdir(self.places[queue]))


@pytest.fixture
def queues(tmp_path: Path) -> Queues:
    return Queues(tmp_path)


def _now() -> float:
    """A moment that is clearly after what was written before and before what comes next: files
    are stamped by a clock that ticks some hundred times a second."""
    time.sleep(0.05)
    now = time.time()
    time.sleep(0.05)
    return now


def test_message_shunted_during_the_stop_is_back_in_its_queue(queues: Queues) -> None:
    began = _now()
    names = {"in": {queues.shunt(1, "in")}, "out": {queues.shunt(2, "out")}}
    drain.bring_back_since(queues.site, began)
    assert {queue: queues.held(queue) for queue in names} == names
    assert queues.held("shunt") == set()


def test_message_shunted_before_the_stop_is_left_to_the_operator(queues: Queues) -> None:
    name = queues.shunt(1, "in")
    drain.bring_back_since(queues.site, _now())
    assert queues.held("shunt") == {name}
    assert queues.held("in") == set()


@pytest.mark.parametrize("came_from", ["shunt", "bad", "../elsewhere", "none"])
def test_message_of_no_queue_that_is_served_stays_shunted(queues: Queues, came_from: str) -> None:
    began = _now()
    name = queues.shunt(1, came_from)
    drain.bring_back_since(queues.site, began)
    assert queues.held("shunt") == {name}
    assert queues.held("bad") == set()


def test_shunted_message_never_replaces_one_that_waits(queues: Queues) -> None:
    began = _now()
    name = queues.shunt(1, "in")
    (queues.places["in"] / name).write_bytes(b"waits")
    drain.bring_back_since(queues.site, began)
    assert queues.held("shunt") == {name}
    assert (queues.places["in"] / name).read_bytes() == b"waits"


def test_link_in_the_shunt_queue_is_not_followed(queues: Queues, tmp_path: Path) -> None:
    began = _now()
    name = queues.shunt(1, "in")
    outside = tmp_path / "outside"
    (queues.places["shunt"] / name).rename(outside)
    (queues.places["shunt"] / name).symlink_to(outside)
    drain.bring_back_since(queues.site, began)
    assert queues.held("in") == set()
    assert outside.exists()


def test_message_that_a_hanging_mail_server_holds_is_back_in_its_queue_after_the_stop(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """Its runner is never between two messages, so that its end breaks the delivery off."""
    installation = make_installation("mailman3")
    assert agents.master("start", installation).code == 0
    installation.sink.hold()
    sent = installation.post()
    installation.sink.wait_for_held(1)
    done = agents.master("stop", installation, timeout=16)
    assert done.code == 0, done.stderr
    assert not list((installation.queue_dir / "shunt").glob("*"))
    waiting = installation.queue_dir / "out"
    assert len(list(waiting.glob("*.pck"))) == 1
    installation.sink.release()
    assert agents.master("start", installation).code == 0
    wait_until(lambda: not list(waiting.glob("*+*")), 30, "the queue is empty")
    assert sent in {one.message_id for one in installation.sink.messages}


def test_stop_brings_back_what_is_shunted_while_it_ends_mailman(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """Of a queue whose runner no drain tells anything: none runs here."""
    installation = make_installation("mailman3")
    assert agents.master("start", installation).code == 0
    installation.wait_until_serving()
    shunt, virgin = (installation.queue_dir / name for name in ("shunt", "virgin"))
    with ThreadPoolExecutor(1) as beside:
        stop = beside.submit(agents.master, "stop", installation)
        shunted = set()
        while not stop.done():
            shunted.add(shunted_into(shunt, len(shunted), "virgin"))
            time.sleep(0.02)
    assert stop.result().code == 0
    back = shunted & set(os.listdir(virgin))
    assert back
    assert set(os.listdir(shunt)) == shunted - back
