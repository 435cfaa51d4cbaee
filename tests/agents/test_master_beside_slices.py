"""mailman-master on a node, or in a cluster, where qfiles-slice runs a part of the queues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents
from tests.installations import Installation, runner_of, wait_until

WITHOUT_INCOMING = "QRUNNERS = [one for one in QRUNNERS if one[0] != 'IncomingRunner']\n"


@pytest.fixture(params=["standin", "mailman3"])
def sliced(
    request: pytest.FixtureRequest, make_installation: Callable[..., Installation], agents: Agents
) -> Iterator[Installation]:
    """A Mailman whose master does not run the queue `in`; its slices 0 and 1 of 2 run."""
    options: dict[str, object] = {"settings": WITHOUT_INCOMING}
    if request.param == "mailman3":
        options = {"runners": ("pipeline", "out"), "slices": {"in": 2}}
    installation = make_installation(request.param, **options)
    for number in (0, 1):
        done = agents.slice("start", installation, number, 2)
        assert done.code == 0, done.stderr
    yield installation


def slice_runners(installation: Installation) -> set[int]:
    """Pids of runners that are their session's leaders: those of qfiles-slice."""
    return {one.pid for one in installation.runners() if one.pid == one.session}


def test_master_leaves_slices_alone(agents: Agents, sliced: Installation) -> None:
    slices = slice_runners(sliced)
    assert len(slices) == 2
    assert agents.master("monitor", sliced, interval=0).code == 7, "a probe takes them for its own"
    assert agents.master("start", sliced).code == 0
    assert slice_runners(sliced) == slices
    seen = agents.master("monitor", sliced, level=10)
    assert seen.code == 0, seen.stderr
    sliced.kill(sliced.master_pid() or 0)
    assert agents.master("monitor", sliced).code == 1
    assert agents.master("stop", sliced).code == 0
    assert {one.pid for one in sliced.processes()} == slices
    assert agents.master("monitor", sliced).code == 7
    assert all(agents.slice("monitor", sliced, number, 2).code == 0 for number in (0, 1))


def test_master_configured_for_a_sliced_queue_is_refused(
    agents: Agents, sliced: Installation
) -> None:
    let_the_master_run_the_queue(sliced)
    refused = agents.master("start", sliced)
    assert refused.code == 1
    assert "would run the queue in" in refused.reason and "qfiles:in:" in refused.reason
    assert not sliced.masters()
    for number in (0, 1):
        assert agents.slice("stop", sliced, number, 2).code == 0
    done = agents.master("start", sliced)
    assert done.code == 0, done.stderr


def test_slice_is_refused_while_the_master_still_runs_the_queue(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """The configuration was changed, but the master not yet restarted."""
    installation = make_installation("standin")
    assert agents.master("start", installation).code == 0
    change(installation, WITHOUT_INCOMING)
    refused = agents.slice("start", installation, 0, 2)
    assert refused.code == 1 and "kill" in refused.reason
    seen = agents.master("monitor", installation, level=10)
    assert seen.code == 1 and "no longer has them: IncomingRunner" in seen.reason
    assert agents.master("stop", installation).code == 0
    assert agents.master("start", installation).code == 0
    done = agents.slice("start", installation, 0, 2)
    assert done.code == 0, done.stderr
    served = {runner_of(one) for one in installation.runners()}
    assert ("IncomingRunner", 0, 2) in served and ("IncomingRunner", 0, 1) not in served


def let_the_master_run_the_queue(installation: Installation) -> None:
    """Change the configuration so that the master runs the queue `in`."""
    if installation.version == "2.1":
        change(installation, "QRUNNERS = QRUNNERS + [('IncomingRunner', 1)]\n")
        return
    path = Path(installation.agent_parameters()["config"])
    text = path.read_text()
    assert "[runner.in]\nstart: no\n" in text
    path.write_text(text.replace("[runner.in]\nstart: no\n", "[runner.in]\nstart: yes\n"))


def change(installation: Installation, settings: str) -> None:
    """Append to 2.1's configuration; seen as changed however coarse the clock is."""
    path = Path(installation.agent_parameters()["prefix"]) / "Mailman" / "mm_cfg.py"
    before = path.stat().st_mtime_ns
    with open(path, "a") as file:
        file.write("\n" + settings)
    wait_until(lambda: path.stat().st_mtime_ns != before, 5, f"it is {time.time()} or later")
