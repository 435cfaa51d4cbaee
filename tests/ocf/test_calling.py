"""How an agent may be called: actions, arguments, environments, users, streams."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailman_ha.ocf import codes

from .conftest import ExampleAgent, built_tree

TELLING_ACTIONS = ["meta-data", "usage", "help", "--help", "-h"]


@pytest.mark.parametrize("action", TELLING_ACTIONS)
@pytest.mark.parametrize("user", [None, "nobody"])
def test_telling_actions_need_no_environment_and_no_rights(
    agent: ExampleAgent, action: str, user: str | None
) -> None:
    ended = agent.run_in({}, action, user=user)
    assert (ended.code, ended.stderr) == (0, "")
    assert "example" in ended.stdout


@pytest.fixture(scope="module")
def tree_without_actions() -> Iterator[Path]:
    """An installation in which only the declaration can be imported."""
    with built_tree() as tree:
        for module in ("actions", "quick"):
            (tree / f"example_agent/{module}.py").write_text("raise SystemExit(99)\n")
        for module in ("log", "trace"):
            assert (tree / f"lib/mailman_ha/ocf/{module}.py").exists()
        yield tree


@pytest.mark.parametrize("action", TELLING_ACTIONS)
def test_telling_actions_import_only_the_declaration(
    tree_without_actions: Path, tmp_path: Path, action: str
) -> None:
    agent = ExampleAgent(tree_without_actions, tmp_path)
    assert agent.run_in({}, action).code == 0
    assert "SystemExit" in agent.run("start").reason, "the trap does not work"


def test_metadata_ends_well_when_nobody_reads_it(agent: ExampleAgent) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {agent.path} meta-data | true"],
        env={},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_metadata_that_cannot_be_written_is_an_error(agent: ExampleAgent) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [agent.path, "meta-data"], env={}, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == codes.ERR_GENERIC
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    "action", ["promote", "demote", "migrate_to", "reload", "", "START", "stop\n", "start stop"]
)
def test_unknown_action_is_3_and_shows_the_usage(agent: ExampleAgent, action: str) -> None:
    ended = agent.run(action)
    if action == "":
        assert ended.code == codes.ERR_ARGS
    else:
        assert ended.code == codes.ERR_UNIMPLEMENTED
    assert ended.stderr.startswith("usage: example {start|stop|monitor|")
    assert "see the usage above" in ended.reason
    assert ended.stdout == ""


def test_no_action_is_2_and_shows_the_usage(agent: ExampleAgent) -> None:
    ended = agent.run()
    assert ended.code == codes.ERR_ARGS
    assert ended.stderr.startswith("usage: example")
    assert "no action" in ended.reason


@pytest.mark.parametrize("action", ["start", "monitor", "meta-data", "validate-all"])
def test_extra_arguments_are_ignored(agent: ExampleAgent, action: str) -> None:
    agent.run("start")
    plain = agent.run(action)
    assert plain.code == 0
    extra = agent.run(action, "stop", "--nonsense", "\n")
    assert (extra.code, extra.stdout) == (plain.code, plain.stdout)
    assert agent.running


def test_another_major_version_of_the_api_is_refused(agent: ExampleAgent) -> None:
    ended = agent.run("start", OCF_RA_VERSION_MAJOR="2")
    assert ended.code == codes.ERR_GENERIC
    assert "version 2" in ended.reason
    assert not agent.running


def test_agent_works_by_hand_without_any_variable_of_the_cluster(agent: ExampleAgent) -> None:
    environ = {"OCF_RESKEY_label": "x", "HA_RSCTMP": str(agent.state_dir)}
    assert agent.run_in(environ, "status").code == codes.NOT_RUNNING
    assert agent.run_in(environ, "start").code == codes.SUCCESS
    assert agent.run_in(environ, "status").stdout == "example is running\n"
    assert agent.run_in(environ, "stop").code == codes.SUCCESS


def test_undecodable_bytes_in_the_environment_are_survived(agent: ExampleAgent) -> None:
    ended = agent.run("start", directory="/a\udcff\udc80")
    assert ended.code == codes.ERR_CONFIGURED
    assert "'/a\\xff\\x80'" in ended.reason


def test_closed_streams_never_lead_a_reason_into_another_file(agent: ExampleAgent) -> None:
    environ = agent.environ(mood="write-and-fail", directory=str(agent.place))
    done = subprocess.run(
        ["sh", "-c", f"{agent.path} start <&- >&- 2>&-"], env=environ, check=False
    )
    assert done.returncode == codes.ERR_GENERIC
    assert (agent.place / "written").read_text() == "written by the agent\n"


def test_state_directory_is_made_for_root_alone_to_write(agent: ExampleAgent) -> None:
    missing = agent.place / "run" / "agents"
    environ = agent.environ(HA_RSCTMP=str(missing))
    command = f"umask 026; exec {agent.path} start"
    assert subprocess.run(["sh", "-c", command], env=environ, check=False).returncode == 0
    assert missing.stat().st_mode & 0o7777 == 0o755
    assert missing.stat().st_uid == 0


@pytest.mark.parametrize("trap", ["file", "world-writable", "nobody's"])
def test_state_directory_others_could_fill_is_refused(agent: ExampleAgent, trap: str) -> None:
    if trap == "file":
        agent.state_dir.rmdir()
        agent.state_dir.write_text("")
    elif trap == "world-writable":
        agent.state_dir.chmod(0o777)
    else:
        shutil.chown(agent.state_dir, "nobody")
    ended = agent.run("start")
    assert ended.code == codes.ERR_PERM
    assert str(agent.state_dir) in ended.reason


def test_sticky_state_directory_of_root_is_fine(agent: ExampleAgent) -> None:
    agent.state_dir.chmod(0o1777)
    assert agent.run("start").code == codes.SUCCESS


def test_state_directory_that_cannot_be_made_is_refused(agent: ExampleAgent) -> None:
    ended = agent.run("start", HA_RSCTMP="/proc/nowhere")
    assert ended.code == codes.ERR_PERM
    assert "/proc/nowhere" in ended.reason
