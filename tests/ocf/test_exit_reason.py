"""The exit reason: one line, the last on stderr, under the prefix Pacemaker asks for."""

from __future__ import annotations

from .conftest import PREFIX, ExampleAgent


def test_reason_is_one_printable_line(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="two lines")
    assert ended.reason == "the first and \\x1b[31mthe second"


def test_reason_comes_after_all_noise(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="noisy")
    assert ended.reason == "after the noise"
    assert "noise of the agent" in ended.stderr
    assert "WARNING: noise in the log" in ended.stderr
    assert ended.stdout == "more noise\n"


def test_reason_has_the_prefix_of_the_environment(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="refuse", OCF_EXIT_REASON_PREFIX="because:")
    assert ended.stderr == "because:the thing is not here; install it\n"


def test_reason_is_kept_in_the_log_file_too(agent: ExampleAgent) -> None:
    log = agent.place / "log"
    ended = agent.run("start", mood="refuse", HA_LOGFILE=str(log))
    assert ended.reason in log.read_text()
    assert "ERROR: the thing" in log.read_text()
    assert ended.stderr == f"{PREFIX}{ended.reason}\n"


def test_success_writes_no_exit_reason(agent: ExampleAgent) -> None:
    ended = agent.run("start")
    assert ended.code == 0
    assert PREFIX not in ended.stderr


def test_hostile_instance_name_cannot_forge_a_reason(agent: ExampleAgent) -> None:
    name = f"a\n{PREFIX}forged"
    ended = agent.run("start", OCF_RESOURCE_INSTANCE=name, size="x")
    assert ended.code == 6
    assert ended.stderr.splitlines()[-1].startswith(f"{PREFIX}parameter size")
    assert not any(line.startswith(f"{PREFIX}forged") for line in ended.stderr.splitlines())
