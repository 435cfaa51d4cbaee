"""Deadlines: an action ends before Pacemaker ends it, and says what it was doing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.ocf import codes
from mailman_ha.ocf.deadline import Deadline, margin, usual_timeout
from mailman_ha.ocf.outcome import Refusal

from .conftest import ExampleAgent

TIMEOUT_MS = "1500"
TIMEOUT = 1.5
EVERY_ACTION = ("start", "stop", "monitor", "reload-agent", "status")


def _wait_until_gone(pid: int) -> None:
    """Wait until a process has ended; as a zombie it has, whoever is to collect it."""
    patience = time.monotonic() + 5
    while _state(pid) not in ("", "Z"):
        assert time.monotonic() < patience, f"process {pid} was left behind"
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("action", "mood", "doing"),
    [
        *((action, "fifo", "while opening {place}/fifo") for action in EVERY_ACTION),
        ("start", "sleep", "while sleeping for an hour"),
        ("stop", "sleep", "while sleeping for an hour"),
        ("start", "wait", "while waiting for the moon"),
        ("monitor", "wait", "while waiting for the moon"),
        ("stop", "child", "while waiting for a child"),
    ],
)
def test_hanging_action_ends_before_its_timeout_and_says_where(
    agent: ExampleAgent, action: str, mood: str, doing: str
) -> None:
    os.mkfifo(agent.place / "fifo")
    ended = agent.run(action, mood=mood, directory=str(agent.place), CRM_meta_timeout=TIMEOUT_MS)
    assert ended.code == codes.ERR_GENERIC
    assert ended.seconds < TIMEOUT
    assert doing.format(place=agent.place) in ended.reason
    assert "of the 1.5 s allowed" in ended.reason
    if mood == "child":
        _wait_until_gone(int((agent.place / "child").read_text()))


def test_hanging_quick_monitor_ends_before_its_timeout(agent: ExampleAgent) -> None:
    fifo = agent.place / "fifo"
    os.mkfifo(fifo)
    ended = agent.run(
        "monitor", mood="quick-hangs", directory=str(fifo), CRM_meta_timeout=TIMEOUT_MS
    )
    assert ended.code == codes.ERR_GENERIC
    assert ended.seconds < TIMEOUT
    assert "while taking a quick look" in ended.reason


def test_action_that_hangs_in_an_import_ends_before_its_timeout(
    agent: ExampleAgent, tmp_path: Path
) -> None:
    package = tmp_path / "hanging_agent"
    package.mkdir()
    (package / "__init__.py").write_text("")
    os.mkfifo(package / "fifo")
    (package / "declaration.py").write_text(f"open({str(package / 'fifo')!r})\n")
    script = tmp_path / "hanging"
    script.write_text(
        "#!/usr/bin/python3 -IS\nimport sys\n"
        f"sys.path[:0] = [{str(tmp_path)!r}, {str(agent.path.parent / 'lib')!r}]\n"
        "from mailman_ha.ocf.runtime import main\n"
        "main('hanging', 'hanging_agent')\n"
    )
    script.chmod(0o755)
    agent.path = script
    ended = agent.run("start", CRM_meta_timeout=TIMEOUT_MS)
    assert ended.code == codes.ERR_GENERIC
    assert ended.seconds < TIMEOUT
    assert "not done after" in ended.reason


def test_hanging_log_does_not_outlast_the_timeout(agent: ExampleAgent) -> None:
    """A FIFO nobody reads, in the place of the log file, is passed over."""
    fifo = agent.place / "log"
    os.mkfifo(fifo)
    ended = agent.run("start", mood="refuse", HA_LOGFILE=str(fifo), CRM_meta_timeout=TIMEOUT_MS)
    assert (ended.code, ended.reason) == (5, "the thing is not here; install it")
    assert ended.seconds < TIMEOUT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signalled_action_tidies_up_and_says_why(
    agent: ExampleAgent, number: signal.Signals
) -> None:
    environ = agent.environ(mood="tidy", directory=str(agent.place))
    began = time.monotonic()
    process = agent.start_process("start", environ=environ)
    untidy = agent.place / "untidy"
    _wait_for(untidy)
    while _state(process.pid) != "S":
        assert time.monotonic() < began + 30
        time.sleep(0.01)
    process.send_signal(number)
    ended = agent.end_of(process, began)
    assert ended.code == codes.ERR_GENERIC
    assert f"start was ended by {number.name} while making a mess" in ended.reason
    assert not untidy.exists()


# the clockwork itself


@given(st.floats(min_value=0.001, max_value=10**7))
def test_margin_leaves_at_least_half_and_costs_at_most_two_seconds(timeout: float) -> None:
    assert 0 < margin(timeout) <= min(2.0, timeout / 2)
    if timeout >= 2:
        assert margin(timeout) >= 1


@given(st.text() | st.integers().map(str))
def test_timeout_of_the_environment_is_milliseconds_or_nothing(text: str) -> None:
    deadline = Deadline.from_environment({"OCF_RESKEY_CRM_meta_timeout": text}, "start")
    usable = text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0
    assert deadline.timeout == (int(text) / 1000 if usable else usual_timeout("start"))


@pytest.mark.parametrize(
    ("action", "seconds"),
    [("monitor", 20), ("status", 20), ("validate-all", 20), ("start", 60), ("stop", 60)],
)
def test_by_hand_looking_gets_20_seconds_and_acting_60(action: str, seconds: float) -> None:
    assert Deadline.from_environment({}, action).timeout == seconds
    assert Deadline.from_environment({}, action, 33.0).timeout == 33.0


def test_remaining_counts_down_to_zero_and_no_further() -> None:
    deadline = Deadline(0.2)
    assert 0.0 < deadline.remaining() <= 0.1
    assert not deadline.passed()
    time.sleep(0.11)
    assert deadline.remaining() == 0.0
    assert deadline.passed()


def test_check_refuses_once_the_deadline_has_passed() -> None:
    deadline = Deadline(0.1)
    deadline.check()
    deadline.doing("reading\nx")
    assert deadline.sleep(5) is False
    with pytest.raises(Refusal) as raised:
        deadline.check()
    assert raised.value.outcome.code == codes.ERR_GENERIC
    assert "while reading x;" in raised.value.outcome.reason


def test_sleep_never_goes_past_the_deadline() -> None:
    deadline = Deadline(0.4)
    began = time.monotonic()
    assert deadline.sleep(0.05) is True
    assert deadline.sleep(60) is False
    assert deadline.sleep(60) is False
    assert deadline.sleep(-1) is False
    assert time.monotonic() - began < 0.4


def test_more_time_may_be_allowed_never_less() -> None:
    deadline = Deadline(20)
    deadline.allow(60)
    assert 55 < deadline.remaining() <= 58
    deadline.allow(1)
    assert deadline.timeout == 60


def _in_a_child(act: str) -> tuple[int, bytes]:
    """Run a few lines with a watched deadline in a process of their own."""
    import subprocess
    import sys

    program = (
        "import time, sys, os\n"
        "from mailman_ha.ocf.deadline import Deadline\n"
        "deadline = Deadline(0.5, lambda reason: b'last words: ' + reason.encode())\n"
        "deadline.watch()\n"
        "deadline.watch()\n" + act
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def test_watchdog_strikes_in_a_system_call() -> None:
    code, said = _in_a_child("deadline.doing('reading a pipe')\nos.read(os.pipe()[0], 1)")
    assert code == 1
    assert said.startswith(b"last words: not done after 0.")
    assert b"while reading a pipe" in said


def test_watchdog_strikes_a_busy_loop() -> None:
    code, said = _in_a_child("while True: pass")
    assert (code, said[:11]) == (1, b"last words:")


@pytest.mark.parametrize("act", ["start", "monitor"])
def test_second_sigterm_does_not_interrupt_the_tidying_up(agent: ExampleAgent, act: str) -> None:
    environ = agent.environ(mood="tidy-slowly", directory=str(agent.place))
    began = time.monotonic()
    process = agent.start_process(act, environ=environ)
    _wait_for(agent.place / "untidy")
    process.send_signal(signal.SIGTERM)
    _wait_for(agent.place / "tidying")
    process.send_signal(signal.SIGTERM)
    ended = agent.end_of(process, began)
    assert ended.code == codes.ERR_GENERIC
    assert f"{act} was ended by SIGTERM" in ended.reason
    assert not (agent.place / "untidy").exists()


def _wait_for(path: Path) -> None:
    patience = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < patience, f"{path} never came"
        time.sleep(0.01)


def test_watchdog_is_silent_once_called_off() -> None:
    assert _in_a_child("deadline.finish()\ndeadline.finish()\ntime.sleep(0.8)") == (0, b"")


@pytest.mark.parametrize("action", ["stop", "monitor", "usage", "nonsense"])
def test_action_that_has_ended_is_never_struck(agent: ExampleAgent, action: str) -> None:
    """Who runs an action in his own process, as a test does, is not ended by it later."""
    if action == "monitor":
        agent.run("start")
    environ = agent.environ(CRM_meta_timeout="600")
    tree = str(agent.path.parent)
    code, said = _in_a_child(
        "deadline.finish()\n"
        f"sys.path.insert(0, {tree!r})\n"
        "from mailman_ha.ocf.runtime import run\n"
        f"code = run('example', 'example_agent', ['example', {action!r}], {environ!r})\n"
        "time.sleep(0.8)\n"
        "os.write(2, b'still here')\n"
        "sys.exit(code)"
    )
    assert said.endswith(b"still here")
    assert code == (codes.ERR_UNIMPLEMENTED if action == "nonsense" else codes.SUCCESS)


def test_watchdog_waits_for_time_allowed_later() -> None:
    assert _in_a_child("deadline.allow(10)\ntime.sleep(0.8)\ndeadline.finish()") == (0, b"")


def test_watchdog_calls_what_was_left_with_it_and_survives_its_errors() -> None:
    act = (
        "deadline.at_expiry(lambda: 1 / 0)\n"
        "deadline.at_expiry(lambda: os.write(2, b'first, '))\n"
        "deadline.at_expiry(lambda: os.write(2, b'never, '))()\n"
        "time.sleep(30)"
    )
    code, said = _in_a_child(act)
    assert code == 1
    assert said.startswith(b"first, last words:")
