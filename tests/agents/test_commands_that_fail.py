"""Every external command missing, failing, printing rubbish and hanging: the action ends before
its timeout, with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents, identity
from tests.installations import Installation

pytestmark = [pytest.mark.slow, pytest.mark.no_posts]

WAYS = {
    "failing": "echo it is broken >&2; exit 1",
    "printing rubbish": "head -c 100000 /dev/urandom; exit 0",
    "hanging": "trap '' TERM; sleep 600 & wait; sleep 600",
    "hanging with a child that keeps the output": "sleep 600 & exit 1",
}


@pytest.mark.parametrize("way", ["missing", *WAYS])
def test_crm_mon_in_trouble_means_no_release_and_a_reason(
    agents: Agents, make_installation: Callable[..., Installation], way: str
) -> None:
    installation = make_installation("standin")
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    if way == "missing":
        agents.without("crm_mon")
    else:
        agents.program("crm_mon", WAYS[way])
    done = agents.master("start", installation, timeout=6, whole_path=way != "missing")
    assert done.code == 1
    assert done.seconds < 6
    assert "n2" in done.reason and "crm_mon" in done.reason, done.stderr
    assert identity(dead.lock) == before
    assert agents.janitor("start", installation, timeout=6, whole_path=way != "missing").code == 0
    assert identity(dead.lock) == before


def replace_starter(installation: Installation, agents: Agents, script: str) -> dict[str, str]:
    """Put `script` (Python) in the place of mailmanctl or mailman; parameters that use it."""
    parameters = dict(installation.agent_parameters())
    if installation.version == "2.1":
        program = Path(parameters["prefix"]) / "bin" / "mailmanctl"
    else:
        bindir = agents.directory / "bindir"
        bindir.mkdir()
        real = Path(parameters["bindir"])
        for name in ("master", "runner", "mailman"):
            (bindir / name).write_text((real / name).read_text())
            (bindir / name).chmod(0o755)
        program = bindir / "mailman"
        parameters["bindir"] = str(bindir)
    first = program.read_text().splitlines()[0]
    program.write_text(f"{first}\n{script}\n")
    return parameters


STARTERS = {
    "failing": "import sys; sys.exit('it is broken')",
    "printing rubbish": "import os; os.write(1, os.urandom(100000))",
    "failing after much else": "import sys; print('noise\\n' * 300000); sys.exit('it is broken')",
    "hanging": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "time.sleep(600)",
    "refusing with status 0": "print('The master qrunner lock could not be acquired')",
}


@pytest.mark.parametrize("way", STARTERS)
def test_start_command_in_trouble_fails_the_start_in_time(
    agents: Agents, installation: Installation, way: str
) -> None:
    parameters = replace_starter(installation, agents, STARTERS[way])
    parameters["host_map"] = f"n1={installation.host}"
    done = agents.master("start", parameters, timeout=9)
    assert done.code == 1, done.stderr
    assert done.seconds < 9
    said = {
        "failing": "it is broken", "printing rubbish": "did not start", "hanging": "not up after",
        "failing after much else": "it is broken",
        "refusing with status 0": "could not be acquired",
    }
    assert said[way] in done.reason
    assert agents.master("stop", parameters).code == 0


def test_lock_directory_that_is_not_mailmans_is_told_with_mailmans_own(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    other = str(installation.log_dir)
    done = agents.master("start", installation, timeout=6, lock_dir=other)
    assert done.code == 1
    for word in (other, str(installation.master_lock), "lock_dir"):
        assert word in done.reason, done


@pytest.mark.parametrize("way", ["failing", "printing rubbish", "hanging"])
def test_mailman_that_does_not_tell_its_configuration_fails_the_start_in_time(
    agents: Agents, installation21: Installation, way: str
) -> None:
    paths = Path(installation21.agent_parameters()["prefix"]) / "bin" / "paths.py"
    paths.write_text(STARTERS[way])
    for compiled in paths.parent.glob("paths.pyc"):
        compiled.unlink()
    done = agents.master("start", installation21, timeout=6)
    assert done.code == 1, done.stderr
    assert done.seconds < 6
    assert "configuration" in done.reason
    assert agents.master("monitor", installation21, interval=0, timeout=6).code == 7
    assert agents.master("stop", installation21, timeout=6).code == 0


def test_mailman21_whose_user_is_not_given_is_asked_by_nobody_and_started_by_its_user(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """Its configuration is a program, which its user can change: root must not run it."""
    installation = make_installation(
        "standin", settings="import os\nif os.getuid() == 0: raise SystemExit('run by root')\n"
    )
    given = {**installation.agent_parameters(), "host_map": f"n1={installation.host}"}
    del given["user"], given["group"]
    for action in ("start", "monitor", "stop"):
        done = agents.master(action, given)
        assert done.code == 0, done
        if action == "monitor":
            owners = {os.stat(f"/proc/{one.pid}").st_uid for one in installation.processes()}
            assert owners == {installation.uid}


def test_missing_start_command_is_refused_with_where_it_was_looked_for(
    agents: Agents, installation21: Installation
) -> None:
    program = Path(installation21.agent_parameters()["prefix"]) / "bin" / "mailmanctl"
    program.unlink()
    done = agents.master("start", installation21)
    assert done.code == 5 and str(program) in done.reason


def test_start_beside_a_broken_interpreter_line_is_refused(
    agents: Agents, installation21: Installation
) -> None:
    program = Path(installation21.agent_parameters()["prefix"]) / "bin" / "mailmanctl"
    program.write_text("#!/nonexistent/python2\n")
    done = agents.master("start", installation21)
    assert done.code == 1 and "python2 cannot be run" in done.reason, done.stderr
