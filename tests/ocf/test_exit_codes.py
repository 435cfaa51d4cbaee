"""Every exit code an action can end with, and how it comes about."""

from __future__ import annotations

import pytest
from mailman_ha.ocf import codes

from .conftest import PREFIX, ExampleAgent

EVERY_CODE = [*range(10), 190, 191]


def test_codes_are_those_of_ocf_shellfuncs() -> None:
    with open("/usr/lib/ocf/lib/heartbeat/ocf-returncodes") as file:
        lines = [line.strip() for line in file]
    named = dict(line.split("=") for line in lines if line.startswith("OCF_") and "=" in line)
    compared = 0
    for name, number in named.items():
        ours = getattr(codes, name[len("OCF_") :].replace("MASTER", "PROMOTED"), None)
        if ours is not None:
            assert ours == int(number), name
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("code", EVERY_CODE)
def test_code_of_monitor_reaches_pacemaker_with_its_reason(agent: ExampleAgent, code: int) -> None:
    ended = agent.run("monitor", mood=f"say:{code}")
    assert ended.code == code
    if code == 0:
        assert PREFIX not in ended.stderr
        assert "INFO: it was told to say 0" in ended.stderr
    else:
        assert ended.reason == f"it was told to say {code}"


@pytest.mark.parametrize("code", EVERY_CODE)
def test_status_has_the_code_of_monitor_and_words(agent: ExampleAgent, code: int) -> None:
    ended = agent.run("status", mood=f"say:{code}")
    assert ended.code == code
    words = codes.status_words(code)
    assert ended.stdout == f"res is {words}: it was told to say {code}\n"


def test_status_words_differ_for_every_code() -> None:
    assert len({codes.status_words(code) for code in EVERY_CODE}) == len(EVERY_CODE)


@pytest.mark.parametrize("action", ["start", "stop", "monitor", "reload-agent"])
def test_code_without_a_reason_writes_none(agent: ExampleAgent, action: str) -> None:
    ended = agent.run(action, mood="say-nothing:1")
    assert (ended.code, ended.stderr) == (1, "")


def test_resource_starts_runs_and_stops(agent: ExampleAgent) -> None:
    assert agent.run("monitor").code == codes.NOT_RUNNING
    assert agent.run("start").code == codes.SUCCESS
    assert agent.running
    assert agent.run("start").code == codes.SUCCESS
    assert agent.run("monitor").code == codes.SUCCESS
    assert agent.run("reload-agent").code == codes.SUCCESS
    assert agent.run("stop").code == codes.SUCCESS
    assert not agent.running
    assert agent.run("stop").code == codes.SUCCESS


def test_probe_of_a_stopped_resource_is_7_without_an_exit_reason(agent: ExampleAgent) -> None:
    ended = agent.run("monitor", CRM_meta_interval="0")
    assert ended.code == codes.NOT_RUNNING
    assert PREFIX not in ended.stderr


def test_refusal_ends_the_action_with_its_code_and_reason(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="refuse")
    assert (ended.code, ended.reason) == (5, "the thing is not here; install it")


def test_crash_is_1_and_the_reason_names_error_place_and_occupation(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="crash")
    assert ended.code == codes.ERR_GENERIC
    assert "KeyError" in ended.reason
    assert "actions.py:" in ended.reason
    assert "while counting to a million" in ended.reason
    assert "please report" in ended.reason


def test_crash_leaves_its_traceback_in_the_log(agent: ExampleAgent) -> None:
    log = agent.place / "log"
    debug_log = agent.place / "debug"
    agent.run("start", mood="crash", HA_LOGFILE=str(log), HA_DEBUGLOG=str(debug_log), HA_debug="1")
    assert "ERROR: KeyError" in log.read_text()
    assert " in _in_a_mood < actions.py:" in log.read_text()
    assert "Traceback" not in log.read_text()
    debugged = debug_log.read_text()
    assert "DEBUG: Traceback (most recent call last):" in debugged
    assert 'raise KeyError("a\\nb")' in debugged


def test_os_error_is_1_and_names_the_file(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="open", directory="/no/such/place")
    assert ended.code == codes.ERR_GENERIC
    assert "/no/such/place/missing: No such file or directory" in ended.reason


def test_permission_error_is_4_for_an_ordinary_user(agent: ExampleAgent) -> None:
    ended = agent.run("start", mood="write", user="nobody")
    assert ended.code == codes.ERR_PERM
    assert "/etc/forbidden" in ended.reason
    assert "as root" in ended.reason


@pytest.mark.parametrize(
    ("action", "code"),
    [("start", codes.ERR_INSTALLED), ("monitor", codes.ERR_INSTALLED), ("stop", 1)],
)
def test_missing_python_module_is_named_with_its_package(
    agent: ExampleAgent, action: str, code: int
) -> None:
    ended = agent.run(action, mood="import")
    assert ended.code == code
    assert "python3-no_such_module" in ended.reason


@pytest.mark.parametrize("mood", ["exit", "number", "say:42"])
@pytest.mark.parametrize("action", ["start", "stop", "monitor"])
def test_agent_that_breaks_the_rules_never_looks_successful(
    agent: ExampleAgent, action: str, mood: str
) -> None:
    ended = agent.run(action, mood=mood)
    assert ended.code == codes.ERR_GENERIC
    assert "defect" in ended.reason


def test_declared_action_without_a_function_is_3(agent: ExampleAgent) -> None:
    ended = agent.run("notify")
    assert ended.code == codes.ERR_UNIMPLEMENTED
    assert "notify" in ended.reason
