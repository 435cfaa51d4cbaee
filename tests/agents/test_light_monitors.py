"""The light monitors: they settle what is plainly in order, and nothing else."""

from __future__ import annotations

import os
import posix
import pwd
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mailman_ha.agents.list_lock_janitor import quick as janitor
from mailman_ha.agents.list_lock_janitor import state_file as janitor_state
from mailman_ha.agents.mailman_master import quick as master
from mailman_ha.agents.mailman_master import state_file as master_state
from mailman_ha.agents.qfiles_slice import quick as runner
from mailman_ha.agents.qfiles_slice import state_file as slice_state
from mailman_ha.evidence import last_seen, process_identity
from mailman_ha.locks import grammar
from mailman_ha.ocf.deadline import Deadline

HOST = "mail.example.org"
LIGHT = {"master": master.quick_monitor, "slice": runner.quick_monitor,
         "janitor": janitor.quick_monitor}
SLICE = {"OCF_RESKEY_queue": "in", "OCF_RESKEY_CRM_meta_clone": "1",
         "OCF_RESKEY_CRM_meta_clone_max": "4"}


class Node:
    """A lock directory, and a process that holds locks in it."""

    def __init__(self, directory: Path, format: str) -> None:
        self.directory = directory
        self.format = format
        self.locks = directory / "locks"
        self.locks.mkdir()
        self.master_lock = "master.lck" if format == grammar.FORMAT_3 else "master-qrunner"
        self.environ = {"HA_RSCTMP": str(directory), "OCF_RESOURCE_INSTANCE": "one", **SLICE}
        self.processes: list[subprocess.Popen[bytes]] = []

    def process(self) -> subprocess.Popen[bytes]:
        """A process that lives until the test ends."""
        started = subprocess.Popen(["/bin/sleep", "60"], stdin=subprocess.DEVNULL)
        self.processes.append(started)
        # A lock that was touched in the tick in which its holder began might be another's.
        time.sleep(0.05)
        return started

    def lock(self, name: str, pid: int, host: str = HOST) -> Path:
        """Have `pid` on `host` hold a lock; its claim file."""
        claim = self.locks / grammar.claim_name(self.format, name, host, pid, 7)
        claim.write_text(str(claim))
        os.link(claim, self.locks / name)
        ahead = time.time() + 3600
        os.utime(claim, (ahead, ahead))
        return claim

    def remember(self, process: subprocess.Popen[bytes], claim: Path, started: int = 0) -> None:
        """Write all three agents' state files, for this process and its claim."""
        found = process_identity.read(process.pid)
        assert found is not None
        state = str(self.directory)
        common = (
            process.pid, started or found.started_ticks, os.getuid(), os.getgid(), str(claim),
            claim.stat().st_ino, str(self.locks),
        )
        master_state.write(master_state.path(state, "one"), master_state.MasterState(*common))
        slice_state.write(
            slice_state.path(state, "one"),
            slice_state.SliceState(*common, "in", "in", 1, 4),
        )
        janitor_state.write(
            janitor_state.path(state, "one"),
            janitor_state.Duty(
                str(self.locks), self.format, self.master_lock, os.getuid(), os.getgid(),
                (HOST, socket.gethostname()),
            ),
        )

    def looks_well(self, agent: str) -> bool:
        return LIGHT[agent](self.environ, Deadline(20.0))


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    made: list[Node] = []

    def make(format: str) -> Node:
        made.append(Node(tmp_path, format))
        return made[-1]

    yield make
    for node in made:
        for process in node.processes:
            process.kill()
            process.wait()


@pytest.fixture(params=[grammar.FORMAT_21, grammar.FORMAT_3])
def node(request: pytest.FixtureRequest, make_node: Callable[[str], Node]) -> Node:
    """A node whose master holds its lock, remembered by each agent."""
    made = make_node(request.param)
    process = made.process()
    made.remember(process, made.lock(made.master_lock, process.pid))
    return made


@pytest.mark.parametrize("agent", LIGHT)
def test_light_monitor_settles_what_is_in_order(node: Node, agent: str) -> None:
    assert node.looks_well(agent)


@pytest.mark.parametrize("agent", LIGHT)
def test_light_monitor_leaves_an_ended_holder_to_the_full_one(node: Node, agent: str) -> None:
    node.processes[0].kill()
    os.waitid(os.P_PID, node.processes[0].pid, os.WEXITED | os.WNOWAIT)
    assert not node.looks_well(agent), "a zombie"
    node.processes[0].wait()
    assert not node.looks_well(agent), "gone"


@pytest.mark.parametrize("agent", ["master", "slice"])
def test_light_monitor_leaves_another_process_with_the_same_pid_to_the_full_one(
    node: Node, agent: str
) -> None:
    claim = next(node.locks.glob("*7"))
    found = process_identity.read(node.processes[0].pid)
    assert found is not None
    node.remember(node.processes[0], claim, started=found.started_ticks - 1)
    assert not node.looks_well(agent)


@pytest.mark.parametrize("agent", ["master", "slice"])
def test_light_monitor_leaves_a_lost_claim_to_the_full_one(node: Node, agent: str) -> None:
    (node.locks / node.master_lock).unlink()
    assert not node.looks_well(agent), "the lock is gone: one link"
    claim = next(node.locks.glob("*7"))
    claim.rename(claim.with_name("other"))
    claim.write_text("")
    os.link(claim, node.locks / node.master_lock)
    assert not node.looks_well(agent), "another inode"


@pytest.mark.parametrize("agent", LIGHT)
def test_light_monitor_leaves_a_missing_or_torn_state_to_the_full_one(
    node: Node, agent: str
) -> None:
    files = list(node.directory.glob("*.state"))
    assert len(files) == len(LIGHT)
    for file in files:
        file.write_text("pid=\nuid=x\n")
    with pytest.raises((KeyError, ValueError)):
        node.looks_well(agent)
    for file in files:
        file.unlink()
    assert not node.looks_well(agent)


def test_light_monitor_leaves_a_runner_of_another_slice_to_the_full_one(node: Node) -> None:
    for name, value in {"CRM_meta_clone": "2", "CRM_meta_clone_max": "8", "queue": "out"}.items():
        kept = node.environ.copy()
        node.environ[f"OCF_RESKEY_{name}"] = value
        assert not node.looks_well("slice"), name
        node.environ = kept
    assert node.looks_well("slice")


def test_janitors_light_monitor_settles_list_locks_of_living_processes(node: Node) -> None:
    """In 2.1 a claim's name has a second reading, with a host that nobody knows."""
    for number in range(3):
        node.lock(f"list{number}.lock", node.process().pid)
    assert node.looks_well("janitor")


def test_janitors_light_monitor_leaves_a_list_lock_of_the_dead_to_the_full_one(
    node: Node,
) -> None:
    dead = node.process()
    node.lock("list.lock", dead.pid)
    assert node.looks_well("janitor")
    dead.kill()
    dead.wait()
    assert not node.looks_well("janitor")


def test_janitors_light_monitor_leaves_a_lock_older_than_its_holder_to_the_full_one(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid was used again: the process started after the lock was last touched."""
    node.lock("list.lock", node.process().pid)
    assert node.looks_well("janitor")
    true = last_seen.booted_at()
    monkeypatch.setattr(last_seen, "booted_at", lambda: true + 60)
    assert not node.looks_well("janitor")


def test_janitors_light_monitor_leaves_other_hosts_waiters_and_oddities_to_the_full_one(
    node: Node,
) -> None:
    claim = node.lock("far.lock", node.processes[0].pid, host="n2.example.org")
    assert not node.looks_well("janitor"), "another host's"
    claim.unlink()
    assert not node.looks_well("janitor"), "a lock without a claim"
    (node.locks / "far.lock").unlink()
    assert node.looks_well("janitor")
    waiter = node.locks / grammar.claim_name(
        node.format, "far.lock", HOST, node.processes[0].pid, 8
    )
    waiter.touch()
    assert not node.looks_well("janitor"), "a waiter's claim"
    waiter.unlink()
    os.mkfifo(node.locks / "list.lock")
    assert not node.looks_well("janitor"), "a FIFO"


@pytest.mark.parametrize("agent", LIGHT)
def test_light_monitor_is_watched_before_it_touches_the_share(
    node: Node, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a share that hangs would hang it without a word."""
    happened: list[str] = []

    def noted(opening: Callable[..., object]) -> Callable[..., object]:
        def call(path: str, *more: object, **named: object) -> object:
            if path.startswith(str(node.locks)):
                happened.append("looked")
            return opening(path, *more, **named)

        return call

    for opening in (posix.open, posix.scandir):
        monkeypatch.setattr(posix, opening.__name__, noted(opening))
    deadline = Deadline(20.0)
    monkeypatch.setattr(deadline, "watch", lambda: happened.append("watched"))
    assert LIGHT[agent](node.environ, deadline)
    assert happened[0] == "watched" and "looked" in happened, happened


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("agent", LIGHT)
def test_light_monitor_in_doubt_leaves_the_process_roots(node: Node, agent: str) -> None:
    """The full monitor follows in the same process."""
    nobody = pwd.getpwnam("nobody")
    for file in node.directory.glob("*.state"):
        text = file.read_text()
        for kind, own in (("uid", nobody.pw_uid), ("gid", nobody.pw_gid)):
            text = text.replace(f"{kind}={os.getuid()}\n", f"{kind}={own}\n")
        file.write_text(text)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    (node.locks / node.master_lock).unlink()
    with suppress(OSError):
        assert not node.looks_well(agent)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
