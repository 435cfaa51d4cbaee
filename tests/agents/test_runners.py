"""Master and runners under trouble: killed, stopped, given up, doubled, robbed of the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.evidence import process_identity

from tests.agents.agent_runs import Agents, identity, in_the_place_of_a_runner
from tests.installations import Installation, Mailman3, wait_until

pytestmark = pytest.mark.slow


def assert_one_runner_on_each_slice(installation: Installation) -> None:
    found = installation.runner_pids()
    assert set(found) == installation.expected_runners()
    assert {key: len(pids) for key, pids in found.items()} == dict.fromkeys(found, 1)


def test_killed_master_is_seen_its_runners_are_ended_and_one_set_is_started(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    installation.kill(installation.master_pid() or 0)
    assert installation.runners()
    seen = agents.master("monitor", installation)
    assert seen.code == 1 and "runners live on" in seen.reason
    assert agents.master("stop", installation).code == 0
    assert not installation.processes()
    assert agents.master("monitor", installation).code == 7
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr
    assert_one_runner_on_each_slice(installation)


def test_start_ends_orphaned_runners_before_it_starts_new_ones(
    agents: Agents, installation: Installation
) -> None:
    installation.start_by_hand()
    installation.kill(installation.master_pid() or 0)
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr
    assert_one_runner_on_each_slice(installation)


def test_all_killed_reads_as_not_running_and_starts_again(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    installation.end_processes()
    assert agents.master("monitor", installation).code == 7
    assert agents.master("start", installation).code == 0
    assert_one_runner_on_each_slice(installation)


def test_runner_that_the_master_gave_up_fails_level_10_and_not_level_0(
    agents: Agents, installation: Installation
) -> None:
    if installation.version == "3":
        config = Path(installation.agent_parameters()["config"])
        config.write_text(config.read_text() + "[runner.in]\nmax_restarts: 1\n")
    assert agents.master("start", installation).code == 0
    key = sorted(installation.expected_runners(), key=str)[0]
    if installation.version == "3":
        key = ("in", 0, 1)
    for _ in range(13):
        pids = installation.runner_pids().get(key)
        if not pids:
            break
        installation.kill(pids[0])
        gone = pids[0]
        wait_until(
            lambda gone=gone: gone not in installation.runner_pids().get(key, []), 10, "killed"
        )
        until = time.monotonic() + 5
        while time.monotonic() < until and not installation.runner_pids().get(key):
            time.sleep(0.05)
    assert not installation.runner_pids().get(key), "the master still restarts it"
    assert agents.master("monitor", installation).code == 0
    seen = agents.master("monitor", installation, level=10)
    assert seen.code == 1 and key[0] in seen.reason, seen.stderr
    assert agents.master("stop", installation).code == 0


#: In place of the package of this name: overwrites the process's arguments, as that does.
SETPROCTITLE = """
import ctypes

def setproctitle(title):
    fields = open('/proc/self/stat').read().rpartition(')')[2].split()
    start, end = int(fields[45]), int(fields[46])
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title.encode()[:end - start - 1], min(len(title), end - start - 1))
"""


@pytest.fixture(params=["var directory", "link to the var directory"])
def titled(
    request: pytest.FixtureRequest, make_installation: Callable[..., Installation]
) -> Installation:
    """A Mailman 3 whose processes set their titles; its var directory may be behind a link."""
    installation = make_installation("mailman3", runners=("in", "out"), slices={"in": 4})
    assert isinstance(installation, Mailman3)
    programs = installation.directory / "programs"
    programs.mkdir()
    (programs / "setproctitle.py").write_text(SETPROCTITLE)
    for name in ("mailman", "master", "runner"):
        first, _, rest = (installation.bindir / name).read_text().partition("\n")
        (programs / name).write_text(
            f"{first}\nimport sys\nsys.path.insert(0, {str(programs)!r})\n{rest}"
        )
        (programs / name).chmod(0o755)
    text = installation.config.read_text()
    text = text.replace(f"bin_dir: {installation.bindir}", f"bin_dir: {programs}")
    if request.param.startswith("link"):
        link = installation.directory / "link"
        link.symlink_to(installation.var_dir)
        text = text.replace(f"var_dir: {installation.var_dir}", f"var_dir: {link}")
    installation.config.write_text(text)
    installation.bindir = programs
    return installation


@pytest.mark.no_posts
def test_processes_with_titles_are_started_told_and_ended_in_good_order(
    agents: Agents, titled: Installation
) -> None:
    done = agents.master("start", titled, timeout=30)
    assert done.code == 0, done.stderr
    titles = {"mailman: master": 1, "mailman: runner [in]": 4, "mailman: runner [out]": 1}
    wait_until(
        lambda: Counter(" ".join(one.arguments).strip() for one in titled.processes()) == titles,
        20, "all have their titles",
    )
    assert agents.master("monitor", titled, level=10).code == 0
    # without what a start remembered, as on a node where it was started by hand
    remembered = agents.state_dir / "mailman-master-mailman.state"
    remembered.unlink()
    assert agents.master("monitor", titled, interval=0).code == 0
    remembered.unlink()
    done = agents.master("stop", titled)
    assert done.code == 0 and "SIGKILL" not in done.stderr, done.stderr
    assert not titled.processes()


def is_stopped(pid: int) -> bool:
    """A process that waits for the processor is not stopped before it gets it."""
    found = process_identity.read(pid)
    return found is not None and found.stopped


@pytest.mark.no_posts
def test_stopped_master_fails_level_10_and_is_ended_by_stop(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    master = installation.master_pid() or 0
    os.kill(master, signal.SIGSTOP)
    wait_until(lambda: is_stopped(master), 10, "the master is stopped")
    seen = agents.master("monitor", installation, level=10)
    assert seen.code == 1 and "SIGSTOP" in seen.reason
    assert agents.master("stop", installation, timeout=30).code == 0
    assert not installation.processes()
    assert not installation.master_lock.exists()


def test_process_that_ignores_sigterm_is_killed_within_the_timeout(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    assert agents.master("start", installation).code == 0
    deaf = installation.spawn(in_the_place_of_a_runner(
        installation,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    ))
    time.sleep(0.3)
    seen = agents.master("monitor", installation, level=10)
    assert seen.code == 1 and "more than one runner" in seen.reason
    done = agents.master("stop", installation, timeout=10)
    assert done.code == 0, done.stderr
    assert done.seconds < 10
    assert deaf.wait(5) == -signal.SIGKILL
    assert not installation.processes()


@pytest.mark.no_posts
def test_lock_taken_by_another_node_fails_the_monitor_and_stop_leaves_it_alone(
    agents: Agents, installation: Installation
) -> None:
    """What ``--force`` on the other node does to the master here."""
    assert agents.master("start", installation).code == 0
    for name in list(installation.lock_dir.iterdir()):
        if name.name.startswith(installation.master_lock.name):
            name.unlink()
    robber = installation.make_dead_lock("n2", 4242)
    before = identity(robber.lock)
    seen = agents.master("monitor", installation)
    assert seen.code == 1
    assert "n2" in seen.reason and "4242" in seen.reason
    assert agents.master("stop", installation).code == 0
    assert not installation.processes()
    assert identity(robber.lock) == before
    assert robber.claim.exists()


@pytest.mark.no_posts
def test_lock_file_removed_by_hand_fails_the_monitor(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    installation.master_lock.unlink()
    seen = agents.master("monitor", installation)
    assert seen.code == 1 and "the lock is gone" in seen.reason
    assert agents.master("stop", installation).code == 0


def test_queue_that_stands_still_fails_level_20(
    agents: Agents, installation21: Installation
) -> None:
    """Its list locked by somebody who lives, the runner puts the message back time and again."""
    installation = installation21
    assert agents.master("start", installation).code == 0
    installation.make_dead_lock(lock=installation.list_lock(), pid=os.getpid(), last="0")
    time.sleep(1.2)
    assert agents.master("monitor", installation, level=20, max_queue_age="1").code == 0
    installation.post()
    wait_until(lambda: bool(list(installation.in_queue.glob("*+*"))), 10, "the message waits")
    time.sleep(1.5)

    seen = agents.master("monitor", installation, level=20, max_queue_age="1")
    assert seen.code == 1 and "IncomingRunner stands still" in seen.reason, seen.stderr
    assert agents.master("monitor", installation, level=20, max_queue_age="0").code == 0
    assert agents.master("monitor", installation, level=20, max_queue_age="3600").code == 0
    assert agents.master("stop", installation, timeout=30).code == 0


@pytest.mark.no_posts
def test_lock_that_was_not_refreshed_is_degraded_with_the_command_that_refreshes_it(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    soon = time.time() + 3600
    os.utime(installation.master_lock, (soon, soon))
    seen = agents.master("monitor", installation, level=10)
    assert seen.code == 190
    command = seen.reason[seen.reason.index("kill -ALRM"):].strip("`").split("`")[0]
    subprocess.run(command.split(), check=True)
    wait_until(
        lambda: os.stat(installation.master_lock).st_mtime > soon + 3600, 5, "it was refreshed"
    )
    assert agents.master("monitor", installation, level=10).code == 0


@pytest.mark.no_posts
def test_master_killed_during_stop_leaves_no_lock_behind(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    installation.kill(installation.master_pid() or 0)
    assert agents.master("stop", installation).code == 0
    assert not installation.master_lock.exists()


def test_master_started_with_a_relative_path_is_known(
    agents: Agents, installation21: Installation
) -> None:
    """The operator's ``cd /usr/local/mailman; bin/mailmanctl start``."""
    prefix = installation21.agent_parameters()["prefix"]
    done = installation21.run(["sh", "-c", 'cd "$1" && exec bin/mailmanctl start', "sh", prefix])
    assert done.returncode == 0
    installation21.wait_until_serving()
    master = installation21.master_pid()
    assert agents.master("monitor", installation21, level=10).code == 0
    assert agents.master("start", installation21).code == 0
    assert installation21.master_pid() == master
    os.kill(master or 0, signal.SIGSTOP)
    assert agents.master("stop", installation21, timeout=30).code == 0
    assert not installation21.processes()


@pytest.mark.parametrize(
    ("posts", "timeout", "in_work"), [(1, 60, 0), (40, 60, 0), (100, 6, 3)],
    ids=["one message", "a backlog", "a backlog and no time"],
)
def test_stop_of_mailman3_puts_no_message_aside(
    agents: Agents, make_installation: Callable[..., Installation], posts: int, timeout: int,
    in_work: int,
) -> None:
    """A runner told to stop while it works shunts its message (contract, section 5).

    Ended between passing a post on and its own note of that, a runner passes it on again. With time
    to finish none is ended there; without, each of the three may be.
    """
    installation = make_installation("mailman3")
    assert agents.master("start", installation).code == 0
    installation.wait_until_serving()
    sent = {installation.post() for _ in range(posts)}
    wait_until(
        lambda: any(installation.queue_dir.glob("*/*.bak")) or not installation.waiting_entries(),
        20, "a message is in work",
    )
    assert agents.master("stop", installation, timeout=timeout).code == 0
    assert not installation.processes()
    assert not list((installation.queue_dir / "shunt").glob("*"))
    assert not list((installation.queue_dir / "bad").glob("*"))
    assert agents.master("start", installation).code == 0
    wait_until(lambda: not installation.waiting_entries(), 60, "the queues have run empty")
    delivered = Counter(
        (one.message_id, recipient)
        for one in installation.sink.messages
        for recipient in one.recipients
    )
    assert {message_id for message_id, _ in delivered} == sent
    twice = {message_id for (message_id, _), times in delivered.items() if times > 1}
    assert len(twice) <= in_work, f"{len(twice)} posts were delivered twice"
