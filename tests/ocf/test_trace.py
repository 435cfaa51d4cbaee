"""OCF_TRACE_RA: the same switches and places as with shell agents, our calls in the trace."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from mailman_ha.ocf import codes

from .conftest import ExampleAgent


@pytest.mark.parametrize("switch", ["OCF_TRACE_RA", "trace_ra"])
@pytest.mark.parametrize("word", ["1", "yes", "on", "true"])
def test_trace_shows_calls_values_and_returns(agent: ExampleAgent, switch: str, word: str) -> None:
    trace = agent.place / "trace"
    ended = agent.run("start", **{switch: word}, OCF_TRACE_FILE=str(trace))
    assert (ended.code, agent.running) == (codes.SUCCESS, True)
    told = trace.read_text()
    assert re.search(r"^\+ \d\d:\d\d:\d\d: actions\.py:start:\d+: \(call=Call\(", told, re.M)
    assert re.search(r"actions\.py:start:\d+: -> Outcome\(code=0, reason='the file", told)
    assert "declaration.py:examine:" in told
    assert "record.py:" not in told, "what every record does drowns the rest"
    assert "+ env: OCF_RESKEY_label=a label\n" in told
    assert trace.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("word", ["0", "no", "off", "", "perhaps"])
def test_without_the_switch_there_is_no_trace(agent: ExampleAgent, word: str) -> None:
    trace = agent.place / "trace"
    agent.run("start", OCF_TRACE_RA=word, OCF_TRACE_FILE=str(trace))
    assert not trace.exists()


def test_trace_shows_how_a_crash_came_about(agent: ExampleAgent) -> None:
    trace = agent.place / "trace"
    ended = agent.run("start", mood="crash", OCF_TRACE_RA="1", OCF_TRACE_FILE=str(trace))
    assert ended.code == codes.ERR_GENERIC
    assert "KeyError" in ended.reason
    assert re.search(r"_in_a_mood:\d+: raises KeyError: KeyError\('a\\\\nb'\)", trace.read_text())


@pytest.mark.parametrize("action", ["start", "stop", "monitor", "validate-all", "status"])
def test_trace_changes_no_outcome(agent: ExampleAgent, action: str) -> None:
    plain = agent.run(action)
    agent.run("stop")
    traced = agent.run(action, OCF_TRACE_RA="1", OCF_TRACE_FILE=str(agent.place / "trace"))
    assert (traced.code, traced.stdout) == (plain.code, plain.stdout)
    assert (agent.place / "trace").read_text().count(": (call=") >= 1


def test_usual_place_is_that_of_shell_agents(agent: ExampleAgent) -> None:
    agent.run("start", OCF_TRACE_RA="1", trace_dir=str(agent.place / "traces"))
    (trace,) = (agent.place / "traces" / "example").iterdir()
    assert re.fullmatch(r"res\.start\.\d{4}-\d\d-\d\d\.\d\d:\d\d:\d\d", trace.name)
    assert ": (call=Call(" in trace.read_text()


def test_state_library_directory_is_used_without_a_trace_dir(agent: ExampleAgent) -> None:
    agent.run("start", OCF_TRACE_RA="1", HA_VARLIB=str(agent.place / "lib"))
    (trace,) = (agent.place / "lib/trace_ra/example").iterdir()
    assert trace.name.startswith("res.start.")


def test_trace_goes_to_an_open_file_descriptor(agent: ExampleAgent) -> None:
    environ = agent.environ(OCF_TRACE_RA="1", OCF_TRACE_FILE="7")
    trace = agent.place / "seven"
    done = subprocess.run(
        ["sh", "-c", f"exec {agent.path} start 7>{trace}"], env=environ, check=False
    )
    assert done.returncode == codes.SUCCESS
    assert ": (call=Call(" in trace.read_text()


@pytest.mark.parametrize(
    ("file", "warning"),
    [
        ("8", "file descriptor 8 is closed"),
        ("/proc/nowhere/trace", "cannot write /proc/nowhere/trace"),
        ("relative", "must be a file descriptor from 3 to 9 or an absolute path"),
        ("10", "must be a file descriptor from 3 to 9 or an absolute path"),
    ],
)
def test_trace_that_cannot_be_written_warns_and_the_action_goes_on(
    agent: ExampleAgent, file: str, warning: str
) -> None:
    ended = agent.run(
        "start", OCF_TRACE_RA="1", OCF_TRACE_FILE=file, trace_dir=str(agent.place / "traces")
    )
    assert (ended.code, agent.running) == (codes.SUCCESS, True)
    assert f"WARNING: {'OCF' if 'must' in warning else 'no trace'}" in ended.stderr
    assert warning in ended.stderr


def test_trace_into_a_fifo_nobody_reads_does_not_hang(agent: ExampleAgent) -> None:
    os.mkfifo(agent.place / "fifo")
    ended = agent.run("start", OCF_TRACE_RA="1", OCF_TRACE_FILE=str(agent.place / "fifo"))
    assert ended.code == codes.SUCCESS


def test_trace_is_one_printable_line_for_each_event(agent: ExampleAgent) -> None:
    trace = agent.place / "trace"
    agent.run("stop", label="a\n+ forged", size="x", OCF_TRACE_RA="1", OCF_TRACE_FILE=str(trace))
    lines = trace.read_text().splitlines()
    assert lines and all(line.startswith("+ ") and line.isprintable() for line in lines)
    assert not any(line.startswith("+ forged") for line in lines)


def test_function_in_a_loop_does_not_flood_the_trace(agent: ExampleAgent, tmp_path: Path) -> None:
    trace = agent.place / "trace"
    ended = agent.run("start", mood="loop", OCF_TRACE_RA="1", OCF_TRACE_FILE=str(trace))
    assert ended.code == codes.SUCCESS
    told = trace.read_text()
    assert told.count(":_step:") <= 202
    assert "[last one shown]" in told
    assert "actions.py:start:" in told
