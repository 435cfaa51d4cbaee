"""A Mailman whose queue `in` is left to qfiles-slice, and nodes to run it on.

`sliced` is one installation of each kind with agents for it, shared by all tests of the run, since
asking Mailman 3 for its configuration takes seconds: each test gets it without processes, locks,
queue entries and state. `make_node` makes a second and a third node: process table and host name
are a node's own, and killing its first process is a power cut. `outgoing` is another installation
of each kind, whose queue `out` is left to qfiles-slice, which therefore delivers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import psutil
import pytest
from mailman_ha.queues import entries, slices
from mailman_ha.queues.slices import Slice

from tests.agents.agent_runs import AgentRun, Agents, ClusterPicture, NodePicture
from tests.installation_fixture import KINDS
from tests.installations import (
    Installation,
    Mailman21,
    PrivateSpace,
    RealMailman21,
    wait_until,
)
from tests.private_processes import read_process

#: Into how many slices Mailman 3's configuration divides `in`.
COUNT = 4

_ALL_BUT_OUTGOING = [name for name in Mailman21.QUEUES if name != "OutgoingRunner"]

#: Options of installations whose master leaves the queue `in` alone, and runs as little as can be.
OPTIONS: dict[str, dict[str, object]] = {
    "standin": {"without": _ALL_BUT_OUTGOING},
    "mailman21": {"without": _ALL_BUT_OUTGOING},
    "mailman3": {"runners": ("pipeline",), "slices": {"in": COUNT}},
}

#: Of those whose master leaves the queue `out` alone, whose runner delivers.
OUTGOING_OPTIONS: dict[str, dict[str, object]] = {
    "standin": {"without": list(Mailman21.QUEUES)},
    "mailman21": {"without": list(Mailman21.QUEUES)},
    "mailman3": {"runners": (), "slices": {"in": 1, "out": 1}},
}


class Sliced:
    """One installation, the agents on it, and what can be seen of its slices of `in`."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.agents = Agents()
        self.kind = installation.kind
        self.is_3 = installation.version == "3"
        self._by_hand: list[subprocess.Popen[bytes]] = []

    # Actions of the agent

    def start(self, number: int = 0, count: int = COUNT, **how: object) -> AgentRun:
        return self.agents.slice("start", self.installation, number, count, **how)

    def stop(self, number: int = 0, count: int = COUNT, **how: object) -> AgentRun:
        return self.agents.slice("stop", self.installation, number, count, **how)

    def monitor(self, number: int = 0, count: int = COUNT, **how: object) -> AgentRun:
        return self.agents.slice("monitor", self.installation, number, count, **how)

    def started(self, number: int = 0, count: int = COUNT, **how: object) -> int:
        """Start a slice, which must succeed; the pid of its one runner."""
        done = self.start(number, count, **how)
        assert done.code == 0, done.stderr
        (pid,) = self.pids(number, count, **({"queue": how["queue"]} if "queue" in how else {}))
        return pid

    # What is the case

    def runner_name(self, queue: str = "in") -> str:
        return queue if self.is_3 else {"in": "IncomingRunner", "out": "OutgoingRunner"}[queue]

    def pids(self, number: int = 0, count: int = COUNT, queue: str = "in") -> list[int]:
        """The runners on a slice, whoever started them."""
        key = (self.runner_name(queue), number, count)
        return self.installation.runner_pids().get(key, [])

    def lock(self, number: int = 0, count: int = COUNT, queue: str = "in") -> Path:
        return self.installation.lock_dir / f"qfiles:{queue}:{number}:{count}.lock"

    def claims(self) -> list[str]:
        """All names in lock_dir that have to do with slices."""
        return sorted(
            path.name for path in self.installation.lock_dir.iterdir()
            if path.name.startswith("qfiles:")
        )

    def claim_file(self, lock: Path) -> Path:
        """The claim file that holds `lock`, which has two names and whose content is the claim's
        path."""
        assert os.stat(lock).st_nlink == 2
        claim = Path(lock.read_text())
        assert claim.samefile(lock) and claim.name.startswith(lock.name)
        return claim

    def claimed_by(self, lock: Path) -> tuple[str, int]:
        """(host, pid) that the claim on `lock` names."""
        rest = self.claim_file(lock).name[len(lock.name) + 1 :]
        host, pid, _ = rest.split("|") if self.is_3 else rest.rsplit(".", 2)
        return host, int(pid)

    def entries_by_slice(self, count: int = COUNT, queue: str = "in") -> dict[int, set[Path]]:
        """The entries of a queue, waiting or in work, by their slice of `count`."""
        found: dict[int, set[Path]] = {number: set() for number in range(count)}
        directory = self.installation.queue_dir / queue
        for path in directory.iterdir() if directory.exists() else ():
            entry = entries.parse(path.name)
            if entry is not None:
                found[slices.slice_of(entry.digest, count)].add(path)
        return found

    def lay_entry(
        self, number: int, age: float, extension: str, count: int = COUNT, queue: str = "in"
    ) -> Path:
        """Lay a file under the name of an entry of a slice, `age` seconds old."""
        directory = self.installation.queue_dir / queue
        directory.mkdir(mode=0o770, parents=True, exist_ok=True)
        lowest, _ = slices.bounds(Slice(number, count))
        path = directory / f"{time.time() - age!r}+{lowest + 7:040x}{extension}"
        path.write_bytes(b"")
        for one in (directory, path):
            os.chown(one, self.installation.uid, self.installation.gid)
        return path

    # What people do by hand

    def runner_command(
        self, number: int = 0, count: int = COUNT, queue: str = "in"
    ) -> list[str]:
        given = self.installation.agent_parameters()
        role = f"--runner={self.runner_name(queue)}:{number}:{count}"
        if self.is_3:
            return [f"{given['bindir']}/runner", "-C", given["config"], role]
        return [f"{given['prefix']}/bin/qrunner", role, "-s"]

    def by_hand(
        self,
        number: int = 0,
        count: int = COUNT,
        queue: str = "in",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start Mailman's runner as a README tells people to; up and able to take signals."""
        runner = self.installation.spawn(
            self.runner_command(number, count, queue), environment=environment
        )
        self._by_hand.append(runner)
        wait_until(lambda: catches(runner.pid, signal.SIGTERM), 20, "the runner is up")
        return runner

    def errors(self) -> str:
        """Everything in Mailman's logs that tells of an error."""
        names = ("mailman.log", "runner.log", "error.log") if self.is_3 else ("error",)
        return "".join(
            path.read_text(errors="replace")
            for path in (self.installation.log_dir / name for name in names) if path.exists()
        )

    def delivered(self) -> dict[str, int]:
        """How often each message was delivered, counted by Message-ID at the busiest recipient."""
        count: dict[tuple[str, str], int] = {}
        for one in self.installation.sink.messages:
            for recipient in one.recipients:
                key = (one.message_id, recipient)
                count[key] = count.get(key, 0) + 1
        times: dict[str, int] = {}
        for (message_id, _), number in count.items():
            times[message_id] = max(times.get(message_id, 0), number)
        return times

    # Around a test

    def reset(self) -> None:
        """Back to an installation that nothing runs on."""
        self.installation.sink.release()
        self.end_processes()
        for runner in self._by_hand:
            runner.kill()
            runner.wait()
        self._by_hand.clear()
        self.installation.sink.messages.clear()
        self._clear()
        self.agents.forget_programs()

    def reset_processes(self) -> None:
        """End what runs and remove what it left; programs and cluster stay as they are."""
        self.end_processes()
        self._clear()

    def _clear(self) -> None:
        for directory in (self.installation.lock_dir, *self.installation.queue_dir.glob("*")):
            for path in directory.iterdir() if directory.is_dir() else ():
                _remove(path)
        for path in self.agents.state_dir.iterdir():
            if path.name.startswith(("qfiles-slice", "mailman-master", "list-lock-janitor")):
                _remove(path)
        if not self.installation.lock_dir.exists():
            self.installation.lock_dir.mkdir(0o775)
            os.chown(self.installation.lock_dir, self.installation.uid, self.installation.gid)
        for log in self.installation.log_dir.glob("*"):
            os.truncate(log, 0)

    def end_processes(self) -> None:
        """SIGKILL to all, until none lives; init takes its time to reap what it inherits."""

        def all_ended() -> bool:
            left = self.installation.processes()
            for process in left:
                process.send(signal.SIGKILL)
            return not left

        wait_until(all_ended, 20, "all processes have ended")

    def close(self) -> None:
        self.reset()
        self.installation.close()
        self.agents.close()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal `number`."""
    process = read_process(pid)
    return process is not None and process.catches(number)


def refused(done: AgentRun, code: int, *words: str) -> None:
    """The action ended with `code` and an exit reason that has all `words`."""
    assert done.code == code, (done.code, done.stderr)
    for word in words:
        assert word in done.reason, (word, done.stderr)


def resource_xml(
    name: str,
    parameters: Mapping[str, str],
    meta: Mapping[str, str] | None = None,
    agent: str = "qfiles-slice",
) -> str:
    """A primitive as the CIB has it."""
    return (
        f'<primitive id={quoteattr(name)} class="ocf" provider="mailman" type="{agent}">'
        f"{_pairs(name, 'instance_attributes', parameters)}"
        f"{_pairs(name, 'meta_attributes', meta or {})}</primitive>"
    )


def clone_xml(primitive: str, meta: Mapping[str, str]) -> str:
    """A clone of a primitive as the CIB has it."""
    attributes = _pairs("the-clone", "meta_attributes", meta)
    return f'<clone id="the-clone">{primitive}{attributes}</clone>'


def _pairs(name: str, kind: str, values: Mapping[str, str]) -> str:
    pairs = "".join(
        f'<nvpair id="{name}-{kind}-{key}" name="{key}" value={quoteattr(value)}/>'
        for key, value in values.items()
    )
    return f'<{kind} id="{name}-{kind}">{pairs}</{kind}>'


_FIRST_PROCESS = (
    "import signal, socket, sys; socket.sethostname(sys.argv[1]); "
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('up', flush=True)\n"
    "while True: signal.pause()"
)


class Node:
    """A node with a process table, a host name and a state directory of its own."""

    def __init__(self, agents: Agents, name: str) -> None:
        self.name = name
        self.host = f"{name}.test"
        self._agents = agents
        self.state_dir = agents.directory / f"state-{name}"
        shutil.rmtree(self.state_dir, ignore_errors=True)
        shutil.copytree(agents.state_dir, self.state_dir)  # Mailman's answers need no new asking
        self._unshare = subprocess.Popen(
            [
                "unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--uts", "--",
                sys.executable, "-ISc", _FIRST_PROCESS, self.host,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"up\n"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self._first = int(children.read_text())

    @property
    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", "-t", str(self._first), "-p", "-m", "-u", "--")

    def slice(
        self, action: str, installation: Installation, number: int = 0, count: int = COUNT,
        **how: object,
    ) -> AgentRun:
        """Run qfiles-slice on this node."""
        return self._agents.slice(
            action, installation, number, count, node=self.name, state_dir=self.state_dir,
            before=self._enter, **how,
        )

    def command(self, *words: str) -> bytes:
        """What a program prints that runs on this node, which must succeed."""
        return subprocess.run(
            [*self._enter, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
            timeout=20,
        ).stdout

    def cut_power(self) -> None:
        """End every process of the node at once, without a word to anyone."""
        if self._unshare.poll() is None:
            os.kill(self._first, signal.SIGKILL)
            self._unshare.kill()
        self._unshare.wait(20)
        if self._unshare.stdout is not None:
            self._unshare.stdout.close()


def picture(n2: NodePicture, **options: bool) -> ClusterPicture:
    """A cluster of n1, which is well, and `n2`."""
    return ClusterPicture({"n1": NodePicture(), "n2": n2}, **options)


def each_kind_once(
    space: PrivateSpace, options: Mapping[str, dict[str, object]]
) -> Iterator[Callable[[str], Sliced]]:
    """Gives the installation of a kind, made with its `options` when it is first asked for; all
    are closed in the end."""
    made: dict[str, Sliced] = {}

    def give(kind: str) -> Sliced:
        if kind == "mailman21" and RealMailman21.original() is None:
            pytest.skip("MAILMAN21_PREFIX names no installation of Mailman 2.1")
        if kind not in made:
            made[kind] = Sliced(space.installation(kind, **options[kind]))
        return made[kind]

    yield give
    for one in made.values():
        one.close()


@pytest.fixture(scope="session")
def sliced_by_kind(private_space: PrivateSpace) -> Iterator[Callable[[str], Sliced]]:
    yield from each_kind_once(private_space, OPTIONS)


@pytest.fixture(params=KINDS)
def sliced(
    request: pytest.FixtureRequest, sliced_by_kind: Callable[[str], Sliced]
) -> Iterator[Sliced]:
    """A Mailman with nothing running; one kind with
    `@pytest.mark.parametrize("sliced", ["standin"], indirect=True)`."""
    given = sliced_by_kind(request.param)
    yield given
    given.reset()


@pytest.fixture
def make_node() -> Iterator[Callable[[Sliced, str], Node]]:
    """Make a node; all lose their power at the end."""
    made: list[Node] = []

    def make(sliced: Sliced, name: str) -> Node:
        made.append(Node(sliced.agents, name))
        return made[-1]

    yield make
    for node in made:
        node.cut_power()


@pytest.fixture(scope="session")
def outgoing_by_kind(private_space: PrivateSpace) -> Iterator[Callable[[str], Sliced]]:
    yield from each_kind_once(private_space, OUTGOING_OPTIONS)


@pytest.fixture(params=KINDS)
def outgoing(
    request: pytest.FixtureRequest, outgoing_by_kind: Callable[[str], Sliced]
) -> Iterator[Sliced]:
    """A Mailman with nothing running, whose queue `out` is for qfiles-slice."""
    given = outgoing_by_kind(request.param)
    yield given
    print(given.errors())
    given.reset()


def accepted(outgoing: Sliced, posts: int) -> set[str]:
    """The Message-IDs of posts that wait in the queue `out`, having passed all before it."""
    sent = {outgoing.installation.post() for _ in range(posts)}
    upstream = ["in", "pipeline"] if outgoing.is_3 else ["in"]
    for queue in upstream:
        runner = outgoing.installation.spawn(outgoing.runner_command(0, 1, queue))
        waiting = outgoing.installation.queue_dir / queue
        wait_until(
            lambda waiting=waiting: waiting.exists() and not list(waiting.glob("*+*")), 30,
            f"the queue {queue} has run empty",
        )
        wait_until(
            lambda runner=runner: (found := read_process(runner.pid)) is not None
            and found.catches(signal.SIGTERM) and at_rest(runner.pid),
            20, "the runner takes signals, and has nothing to finish",
        )
        runner.terminate()
        runner.wait(20)
    wait_until(
        lambda: len(outgoing.entries_by_slice(1, "out")[0]) == posts, 10, "all wait in out"
    )
    return sent


def at_rest(pid: int) -> bool:
    """Whether a runner sleeps between two looks at its queue: a SIGTERM that falls into its last
    step with a message makes Mailman put that aside."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    for _ in range(6):
        if process.status() != psutil.STATUS_SLEEPING:
            return False
        time.sleep(0.05)
    return process.cpu_times() == before
