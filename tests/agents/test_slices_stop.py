"""Stop of qfiles-slice: the runner ends, with its message done; then, and only then, its claim."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents, identity, in_the_place_of_a_runner
from tests.agents.slice_fixture import COUNT, OPTIONS, Sliced, accepted, refused
from tests.installation_fixture import KINDS21
from tests.installations import Installation, wait_until
from tests.private_processes import read_process

pytestmark = pytest.mark.slow

only_standin = pytest.mark.parametrize("sliced", ["standin"], indirect=True)
only_21 = pytest.mark.parametrize("sliced", KINDS21, indirect=True)
only_3 = pytest.mark.parametrize("sliced", ["mailman3"], indirect=True)


class ClaimWatcher:
    """Looks all the time whether a claim is gone while its runner lives."""

    def __init__(self, lock: Path, pid: int) -> None:
        self.gone_too_early = False
        self.looks = 0
        self._lock, self._pid = lock, pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.is_set():
            gone = not self._lock.exists()
            if gone and read_process(self._pid) is not None:
                self.gone_too_early = True
            self.looks += 1
            time.sleep(0.001)

    def __enter__(self) -> ClaimWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@only_21
def test_stop_lets_the_runner_finish_its_message_and_the_claim_goes_last(sliced: Sliced) -> None:
    """The runner waits for a list's lock, an entry in work, when the stop comes."""
    pid = sliced.started(0, 1)
    held = sliced.installation.make_dead_lock(
        lock=sliced.installation.list_lock(), pid=os.getpid(), last="0"
    )
    sliced.installation.post()
    in_work = sliced.installation.in_queue
    wait_until(lambda: bool(list(in_work.glob("*.bak"))), 10, "the entry is in work")

    def give_way() -> None:
        held.lock.unlink()
        held.claim.unlink()

    later = threading.Timer(1.5, give_way)
    later.start()
    with ClaimWatcher(sliced.lock(0, 1), pid) as watcher:
        done = sliced.stop(0, 1)
    later.join()
    assert done.code == 0 and done.seconds > 1, done
    assert watcher.looks > 100 and not watcher.gone_too_early
    assert not sliced.installation.processes() and not sliced.claims()
    assert not list(in_work.iterdir())
    assert len(list((sliced.installation.queue_dir / "out").glob("*.pck"))) == 1
    assert not list((sliced.installation.queue_dir / "shunt").glob("*"))


@only_3
def test_stop_in_the_middle_of_a_backlog_puts_no_message_aside(sliced: Sliced) -> None:
    for _ in range(40):
        sliced.installation.post()
    sent = sliced.entries_by_slice()[1]
    assert len(sent) > 2
    pid = sliced.started(1)
    with ClaimWatcher(sliced.lock(1), pid) as watcher:
        done = sliced.stop(1)
    assert done.code == 0, done.stderr
    assert watcher.looks > 20 and not watcher.gone_too_early
    assert not sliced.installation.processes() and not sliced.claims()
    for name in ("shunt", "bad"):
        assert not list((sliced.installation.queue_dir / name).glob("*"))
    left = sliced.entries_by_slice()[1]
    passed_on = list((sliced.installation.queue_dir / "pipeline").glob("*.pck"))
    assert all(path.suffix == ".pck" for path in left)
    assert len(left) + len(passed_on) == len(sent)


@only_3
def test_stops_of_a_runner_that_never_sleeps_put_no_message_aside(sliced: Sliced) -> None:
    """On SIGTERM Mailman 3's runner shunts what it has in work, and moves what it is just reading
    to the bad queue; both are brought back."""
    installation = sliced.installation
    sent = 300
    for _ in range(sent):
        installation.post()
    in_the_middle = 0
    for _ in range(6):
        sliced.started(1)
        assert sliced.stop(1, timeout=3).code == 0
        for name in ("shunt", "bad"):
            assert not list((installation.queue_dir / name).glob("*"))
        left = sliced.entries_by_slice()
        passed_on = list((installation.queue_dir / "pipeline").glob("*.pck"))
        waiting = [path for paths in left.values() for path in paths]
        assert all(path.suffix == ".pck" for path in waiting)
        assert len(waiting) + len(passed_on) >= sent
        in_the_middle += bool(left[1])
    assert in_the_middle, "the queue ran empty each time"


@pytest.mark.parametrize("outgoing", ["mailman3"], indirect=True)
def test_message_that_a_hanging_mail_server_holds_is_back_in_its_queue_after_the_stop(
    outgoing: Sliced,
) -> None:
    """Its runner is never between two messages, so that its end breaks the delivery off."""
    (sent,) = accepted(outgoing, 1)
    outgoing.installation.sink.hold()
    outgoing.started(0, 1, queue="out")
    outgoing.installation.sink.wait_for_held(1)
    done = outgoing.stop(0, 1, queue="out", timeout=8)
    assert done.code == 0, done.stderr
    assert not list((outgoing.installation.queue_dir / "shunt").glob("*"))
    assert len(outgoing.entries_by_slice(1, "out")[0]) == 1
    outgoing.installation.sink.release()
    outgoing.started(0, 1, queue="out")
    wait_until(lambda: not outgoing.entries_by_slice(1, "out")[0], 20, "the queue is empty")
    assert sent in outgoing.delivered()


def test_stop_of_a_slice_leaves_its_siblings_and_the_master_alone_and_the_other_way_round(
    sliced: Sliced,
) -> None:
    master = sliced.agents.master
    first, second = sliced.started(0), sliced.started(1)
    assert master("monitor", sliced.installation, interval=0).code == 7
    done = master("start", sliced.installation)
    assert done.code == 0, done.stderr
    assert (sliced.pids(0), sliced.pids(1)) == ([first], [second])
    assert master("monitor", sliced.installation, level=10).code == 0
    rest = set(sliced.installation.runner_pids()) - {
        (sliced.runner_name(), 0, COUNT), (sliced.runner_name(), 1, COUNT)
    }
    assert rest == sliced.installation.expected_runners()

    assert sliced.stop(0).code == 0
    assert (sliced.pids(0), sliced.pids(1)) == ([], [second])
    assert master("monitor", sliced.installation, level=10).code == 0
    assert sliced.monitor(0).code == 7
    assert master("stop", sliced.installation).code == 0
    assert [process.pid for process in sliced.installation.processes()] == [second]
    assert master("monitor", sliced.installation, interval=0).code == 7
    assert sliced.monitor(1, level=10).code == 0


@only_21
def test_stop_of_a_refused_resource_leaves_the_runner_of_another_on_the_same_slice_alone(
    sliced: Sliced,
) -> None:
    """Pacemaker stops what it could not start."""
    pid = sliced.started(1)
    refused(sliced.start(1, clone=False), 1, str(pid))
    assert sliced.stop(1, clone=False).code == 0
    assert sliced.monitor(1, level=10).code == 0
    assert sliced.pids(1) == [pid]


def test_stop_twice_is_a_success_and_after_kill_9_the_claim_goes_too(sliced: Sliced) -> None:
    assert sliced.stop(1).code == 0, "never started"
    pid = sliced.started(1)
    sliced.installation.kill(pid)
    assert sliced.lock(1).exists()
    assert sliced.stop(1).code == 0
    assert not sliced.claims()
    assert sliced.stop(1).code == 0
    assert sliced.monitor(1).code == 7


def test_stop_without_the_state_file_ends_the_runner_and_releases_its_claim(
    sliced: Sliced,
) -> None:
    pid = sliced.started(1)
    (state,) = sliced.agents.state_dir.glob("qfiles-slice-*.state")
    state.unlink()
    refused(sliced.monitor(1), 1, str(pid), "stop ends it")
    assert sliced.stop(1).code == 0
    assert not sliced.installation.processes() and not sliced.claims()
    assert sliced.monitor(1).code == 7


@pytest.mark.parametrize("sliced", ["standin", "mailman3"], indirect=True)
def test_stop_ends_a_stopped_runner(sliced: Sliced) -> None:
    pid = sliced.started(1)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: (found := read_process(pid)) is not None and found.state == "T", 5, "T")
    refused(sliced.monitor(1, level=10), 1, str(pid), "SIGSTOP")
    done = sliced.stop(1, timeout=20)
    assert done.code == 0, done.stderr
    assert not sliced.installation.processes() and not sliced.claims()


@only_standin
def test_stop_ends_the_runner_that_somebody_started_on_the_same_slice_too_and_no_other(
    sliced: Sliced,
) -> None:
    sliced.started(1)
    same, other = sliced.by_hand(1), sliced.by_hand(2)
    assert sliced.stop(1).code == 0
    assert same.wait(5) is not None
    assert other.poll() is None and not sliced.pids(1)


DEAF = (
    "#!/usr/bin/python3\nimport signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: None)\n"
    "while True: time.sleep(600)\n"
)


def test_runner_that_ignores_sigterm_is_killed_before_the_deadline(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin", **OPTIONS["standin"])
    in_the_place_of_a_runner(installation, DEAF)
    assert agents.slice("start", installation, 1).code == 0
    done = agents.slice("stop", installation, 1, timeout=6)
    assert done.code == 0 and 2 < done.seconds < 6, done
    assert "killed" in done.stderr
    assert not installation.processes()
    assert not list(installation.lock_dir.glob("qfiles:*"))


@contextmanager
def moved_away(directory: Path) -> Iterator[None]:
    """As after a lazy umount: the runner's files are reachable for nobody under their names."""
    shelter = directory.with_name(f"{directory.name}-away")
    directory.rename(shelter)
    directory.mkdir()
    try:
        yield
    finally:
        directory.rmdir()
        shelter.rename(directory)


def test_stop_ends_the_runner_with_the_share_unmounted_and_the_next_start_clears_its_claim(
    sliced: Sliced,
) -> None:
    pid = sliced.started(1)
    os.kill(pid, signal.SIGSTOP)  # else it may see what happened and end by itself
    share = sliced.installation.lock_dir.parent
    with moved_away(share):
        refused(sliced.monitor(1), 1, str(pid), "cannot use its data")
        done = sliced.stop(1, timeout=30)
        assert done.code == 0, done.stderr
        assert not sliced.installation.processes()
        assert sliced.monitor(1, interval=0).code == 7
        refused(sliced.start(1), 5, "share")
        assert not list(share.iterdir()), "nothing is made where the share is not mounted"
    assert sliced.lock(1).exists()
    sliced.started(1)
    assert sliced.stop(1).code == 0 and not sliced.claims()


def test_stop_ends_the_runner_with_the_share_hung(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """A FUSE server that was stopped: whoever asks for a file waits in the kernel."""
    installation = make_installation("standin", **OPTIONS["standin"])
    share = Path(installation.agent_parameters()["prefix"])
    real = share.with_name("real")
    share.rename(real)
    share.mkdir()
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "allow_other,attr_timeout=0,entry_timeout=0", str(real),
         str(share)],
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: os.path.ismount(share), 10, "the FUSE file system is mounted")
        done = agents.slice("start", installation, 1)
        assert done.code == 0, done.stderr
        (runner,) = installation.runners()
        server.send_signal(signal.SIGSTOP)
        seen = agents.slice("monitor", installation, 1, timeout=3)
        assert seen.code == 1 and seen.seconds < 3, seen
        assert str(share) in seen.reason, seen.stderr
        done = agents.slice("stop", installation, 1, timeout=9)
        assert done.seconds < 9
        # A process whose request the server had already read when it froze cannot be killed.
        assert (done.code == 0) == (not runner.alive()), (done, runner)
        if done.code:
            assert "hangs in the kernel" in done.reason and str(runner.pid) in done.reason
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", str(share)], check=False)
        installation.end_processes()
        share.rmdir()
        real.rename(share)


@only_standin
@pytest.mark.parametrize("parameters", [
    {"max_queue_age": "soon"}, {"prefix": "relative/path"}, {"host_map": "n1"},
    {"user": "nobody-such"}, {"queue": "other"}, {"queue": "a/b"},
])
def test_stop_with_wrong_parameters_still_ends_the_runner(
    sliced: Sliced, parameters: dict[str, str]
) -> None:
    sliced.started(1)
    done = sliced.stop(1, timeout=30, instance="slice-in:1", **parameters)
    assert done.code == 0, done.stderr
    assert not sliced.installation.processes() and not sliced.claims()


@only_standin
def test_stop_leaves_a_lock_that_another_node_took_alone(sliced: Sliced) -> None:
    sliced.started(1)
    for name in sliced.claims():
        (sliced.installation.lock_dir / name).unlink()
    robber = sliced.installation.make_dead_lock("n2", 4242, lock=sliced.lock(1))
    before = identity(robber.lock)
    refused(sliced.monitor(1), 1, "n2", "4242")
    assert sliced.stop(1).code == 0
    assert not sliced.installation.processes()
    assert identity(robber.lock) == before and robber.claim.exists()
