"""The quick monitor: cheap, and never the one to say that something is wrong."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from mailman_ha.ocf import codes

from .conftest import ExampleAgent

QUICK_IMPORTS = {
    "mailman_ha",
    "mailman_ha.ocf",
    "mailman_ha.ocf.deadline",
    "mailman_ha.ocf.environment",
    "mailman_ha.ocf.runtime",
    "gc",
    "example_agent",
    "example_agent.quick",
}


@pytest.fixture
def running(agent: ExampleAgent) -> ExampleAgent:
    """The agent with its resource started."""
    assert agent.run("start").code == codes.SUCCESS
    return agent


def _imports(agent: ExampleAgent, **changes: str | None) -> set[str]:
    command = ["/usr/bin/python3", "-IS", "-X", "importtime", str(agent.path), "monitor"]
    done = subprocess.run(
        command, env=agent.environ(**changes), capture_output=True, text=True, check=True
    )
    bare = ["/usr/bin/python3", "-IS", "-X", "importtime", "-c", "pass"]
    start_up = subprocess.run(bare, capture_output=True, text=True, check=True)
    return _names(done.stderr) - _names(start_up.stderr)


def _names(report: str) -> set[str]:
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_quick_monitor_imports_only_what_a_look_needs(running: ExampleAgent) -> None:
    assert _imports(running) == QUICK_IMPORTS


def test_full_monitor_imports_more(running: ExampleAgent) -> None:
    """The measure of the test above: it does see what is imported."""
    assert _imports(running, OCF_CHECK_LEVEL="10") > QUICK_IMPORTS - {"example_agent.quick"}


def _asks_quickly(agent: ExampleAgent, **changes: str | None) -> bool:
    return "example_agent.quick" in _imports(agent, **changes)


def test_quick_monitor_is_asked_only_where_its_answer_counts(running: ExampleAgent) -> None:
    assert _asks_quickly(running)
    assert not _asks_quickly(running, CRM_meta_interval="0"), "a probe"
    assert not _asks_quickly(running, CRM_meta_interval=None), "a probe by hand"
    assert not _asks_quickly(running, OCF_CHECK_LEVEL="10"), "a closer look"
    trace = str(running.place / "trace")
    assert not _asks_quickly(running, OCF_TRACE_RA="1", OCF_TRACE_FILE=trace), "a trace"


@pytest.mark.parametrize("mood", ["quick-raises", "quick-fails"])
def test_quick_monitor_in_doubt_leaves_the_verdict_to_the_full_one(
    running: ExampleAgent, mood: str
) -> None:
    assert running.run("monitor", mood=mood).code == codes.SUCCESS
    running.run("stop")
    ended = running.run("monitor", mood=mood)
    assert (ended.code, ended.reason) == (codes.NOT_RUNNING, "there is no file")


def test_agent_without_a_quick_monitor_is_asked_in_full(
    agent_tree: Path, running: ExampleAgent, tmp_path: Path
) -> None:
    package = tmp_path / "plain_agent"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for module in ("declaration", "actions"):
        (package / f"{module}.py").write_text(f"from example_agent.{module} import *\n")
    script = tmp_path / "plain"
    script.write_text(
        (agent_tree / "example")
        .read_text()
        .replace("__file__.rpartition", f"{str(agent_tree / 'example')!r}.rpartition")
        .replace("[here,", f"[{str(tmp_path)!r}, here,")
        .replace('main("example", "example_agent")', 'main("example", "plain_agent")')
    )
    script.chmod(0o755)
    plain = ExampleAgent(agent_tree, tmp_path)
    plain.path = script
    assert plain.run("monitor").code == codes.SUCCESS
    plain.run("stop")
    assert plain.run("monitor").code == codes.NOT_RUNNING


def test_quick_monitor_costs_at_most_1_3_times_a_bare_interpreter(running: ExampleAgent) -> None:
    """Measured in turns, so that what else the machine does falls on both alike."""
    bare = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]
    quick = [str(running.path), "monitor"]
    environ = running.environ()

    def seconds(command: list[str]) -> float:
        began = time.perf_counter()
        code = os.spawnve(os.P_WAIT, command[0], command, environ)
        spent = time.perf_counter() - began
        assert code == 0
        return spent

    ratios = []
    for _attempt in range(3):
        pairs = [(seconds(bare), seconds(quick)) for _ in range(40)]
        ratio = statistics.median(q for _, q in pairs) / statistics.median(b for b, _ in pairs)
        ratios.append(ratio)
        if ratio <= 1.3:
            return
    pytest.fail(f"a quick monitor costs {ratios} times a bare interpreter")
