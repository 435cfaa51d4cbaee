"""Whole agents, as Pacemaker starts them, on hostile directories and in hostile environments: an
OCF code, one exit reason, and never a traceback."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.grammar import FORMAT_21

from tests.agents.agent_runs import REASON, AgentRun, Agents
from tests.fuzz.surfaces import configuration, lock_names
from tests.fuzz.surfaces.lock_directory import Planted, files, may_live, plant
from tests.fuzz.watch import state_of
from tests.installations import Installation
from tests.locks.share import Share

CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 190, 191}

_KINDS = ("pair", "pair", "file", "link", "symlink", "fifo", "directory", "socket", "stolen",
          "roots")
_LOCKS = ("test.lock", "master-qrunner", "creator", "qfiles:in:0:4.lock", "\x1b[2J.lock",
          "\udcff.lock")
_OWNERS = ("HERE.DEAD.1", "HERE.LIVE.1", "n2.7.1", "fenced.7", "far.example.7.3", "HERE.LIVE")
_CONTENTS = (b"OWN", b"", b"/etc/passwd", b"OUTSIDE/victim.lock", b"..", b"\0" * 5000,
             b"\xff\x1b[2J",
             b"x" * (1 << 20))


def orderly(done: AgentRun) -> None:
    """What Pacemaker and its administrator may see of any action."""
    assert done.code in CODES, done
    assert "Traceback" not in done.stderr and "defect" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith(REASON)] in ([], lines[-1:])
    assert all(line.isprintable() and len(line) < 8000 for line in lines), done.stderr
    assert (done.code in (0, 7)) or done.reason, done


def random_things(choose: random.Random) -> list[Planted]:
    return [
        Planted(
            choose.choice(_KINDS),
            choose.choice((
                choose.choice(_LOCKS), f"{choose.choice(_LOCKS)}.{choose.choice(_OWNERS)}",
                "".join(choose.choices(lock_names.WORDS, k=4))[:80].replace("/", "_"),
            )),
            choose.randrange(8), choose.choice(_CONTENTS),
        )
        for _ in range(10)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_agents_end_in_order_on_a_hostile_lock_directory(
    agents: Agents, make_installation: Callable[..., Installation], tmp_path: Path, seed: int
) -> None:
    mailman = make_installation("standin")
    share = Share.__new__(Share)  # the directory is the installation's
    share.path, share.top, share.format = mailman.lock_dir, mailman.directory, FORMAT_21
    share.user = type("User", (), {"uid": mailman.uid, "gid": mailman.gid})()
    share.quarantine = share.path / lock_directory.QUARANTINE
    outside = mailman.directory / "outside"
    outside.mkdir()
    (outside / "victim.lock").write_text("precious\n")
    (outside / "config.pck").write_text("precious\n")
    plant(share, outside, random_things(random.Random(seed)))
    there, before = state_of(outside), files(share)
    for action in ("start", "monitor"):
        orderly(agents.janitor(action, mailman))
    orderly(agents.janitor("monitor", mailman, level=10, stuck_after="1"))
    orderly(agents.master("monitor", mailman))
    orderly(agents.slice("monitor", mailman))
    assert state_of(outside) == there
    after = files(share)
    for inode, (names, _) in before.items():
        assert inode in after or not may_live(names), f"{names} was taken away"


@pytest.mark.parametrize("seed", range(6))
def test_agents_end_in_order_in_a_hostile_environment(agents: Agents, seed: int) -> None:
    choose = random.Random(seed)
    values = [value for value in configuration.VALUES
              if "\0" not in value and not any(0xD800 <= ord(one) < 0xDC80 for one in value)]
    environ = {
        name: choose.choice(values) for name in choose.sample(configuration.NAMES, 8)
        if name.startswith("OCF_RESKEY_") and "timeout" not in name
    }
    given = {name[len("OCF_RESKEY_"):]: value for name, value in environ.items()}
    for agent in configuration.AGENTS:
        for action in ("validate-all", "monitor"):  # a stop would end any Mailman of the machine
            done = agents.run(agent, action, {}, **given)
            orderly(done)
