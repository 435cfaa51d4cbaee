"""The master lock of a process of this very host: gone, reused, older, alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents, evidence, identity
from tests.installations import Installation, free_pid, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.no_posts]

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
LASTING = ("sleep", "600")


@contextmanager
def process_with_pid(pid: int, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start `arguments` so that they get just this pid, as after a wrap of the counter."""
    for _ in range(200):
        LAST_PID.write_text(str(pid - 1))
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if process.pid == pid:
            break
        process.kill()
        process.wait()
    else:
        pytest.fail(f"pid {pid} could not be had")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_lock_of_a_process_that_is_gone_is_released(
    agents: Agents, installation: Installation
) -> None:
    dead = installation.make_dead_lock()
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr
    (line,) = evidence(installation)
    assert (line["state"], line["pid"]) == ("dead here", dead.pid)
    assert agents.master("stop", installation).code == 0


def test_lock_whose_pid_another_program_has_now_is_released_and_the_program_lives(
    agents: Agents, installation: Installation
) -> None:
    pid = free_pid()
    installation.make_dead_lock(pid=pid)
    time.sleep(0.2)
    with process_with_pid(pid, LASTING) as stranger:
        done = agents.master("start", installation)
        assert done.code == 0, done.stderr
        assert "another process now" in evidence(installation)[0]["why"]
        assert agents.master("stop", installation).code == 0
        assert stranger.poll() is None


def test_lock_whose_pid_a_later_mailman_has_now_is_released_and_that_one_lives(
    agents: Agents, installation: Installation
) -> None:
    pid = free_pid()
    installation.make_dead_lock(pid=pid)
    time.sleep(0.2)
    other = [
        sys.executable, "-c", "import time; time.sleep(600)",
        "/opt/other/mailman/bin/qrunner", "--runner=IncomingRunner:0:1",
    ]
    with process_with_pid(pid, other) as later:
        done = agents.master("start", installation)
        assert done.code == 0, done.stderr
        assert agents.master("stop", installation).code == 0
        assert later.poll() is None


def test_lock_of_a_zombie_is_released(agents: Agents, make_installation) -> None:
    installation = make_installation("standin")
    zombie = subprocess.Popen(["true"])
    wait_until(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().split()[2] == "Z", 5, "ended")
    installation.make_dead_lock(pid=zombie.pid)
    try:
        done = agents.master("start", installation)
        assert done.code == 0, done.stderr
    finally:
        zombie.wait()


def test_lock_of_a_living_mailman_process_is_kept(
    agents: Agents, installation: Installation
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", "/usr/lib/mailman/cron/senddigests"]
    ) as holder:
        try:
            time.sleep(0.2)
            dead = installation.make_dead_lock(pid=holder.pid)
            before = identity(dead.lock)
            done = agents.master("start", installation)
            assert done.code == 1
            assert str(holder.pid) in done.reason and "alive" in done.reason
            assert identity(dead.lock) == before
        finally:
            holder.kill()


def test_lock_of_an_older_process_that_may_use_mailman_is_kept(
    agents: Agents, installation: Installation
) -> None:
    with subprocess.Popen(LASTING) as holder:
        try:
            time.sleep(0.2)
            dead = installation.make_dead_lock(pid=holder.pid)
            before = identity(dead.lock)
            done = agents.master("start", installation)
            assert done.code == 1
            assert str(holder.pid) in done.reason and "ps -fp" in done.reason
            assert identity(dead.lock) == before
        finally:
            holder.kill()


def test_lock_taken_before_this_host_booted_is_released(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """A time namespace in which the host has just booted; the pid is that of a process of now."""
    installation = make_installation("standin")
    with subprocess.Popen(LASTING) as process:
        try:
            time.sleep(0.2)
            installation.make_dead_lock(pid=process.pid)
            time.sleep(2)
            # Whole seconds, rounded down: the boot is put up to one second before this moment.
            uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
            wrapper = agents.directory / "after-boot"
            agent = Path(__file__).resolve().parent.parent.parent / "agents" / "mailman-master"
            wrapper.write_text(
                "#!/bin/sh\nexec unshare --time --fork --boottime "
                f"-{uptime} {agent} \"$@\"\n"
            )
            wrapper.chmod(0o755)
            done = agents.run(str(wrapper), "start", installation)
            assert done.code == 0, done.stderr
            assert "before this host booted" in evidence(installation)[0]["why"]
        finally:
            process.kill()


def test_start_beside_the_living_master_is_a_success_and_starts_nothing(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("start", installation).code == 0
    before = {process.pid for process in installation.processes()}
    assert agents.master("start", installation).code == 0
    assert {process.pid for process in installation.processes()} == before
    assert agents.master("monitor", installation, level=20).code == 0


def test_start_takes_over_a_master_that_was_started_by_hand(
    agents: Agents, installation: Installation
) -> None:
    installation.start_by_hand()
    master = installation.master_pid()
    assert agents.master("start", installation).code == 0
    assert installation.master_pid() == master
    assert agents.master("monitor", installation).code == 0
    assert agents.master("stop", installation).code == 0
    assert not installation.processes()


def test_name_that_every_host_may_have_is_refused_in_a_cluster(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """A lock signed ``localhost`` could after a failover be anyone's: say so before it is one."""
    installation = make_installation("standin")
    given = dict(installation.agent_parameters())
    done = agents.master("start", given)
    assert done.code == 5
    assert os.uname().nodename in done.reason and "host_map" in done.reason
    assert not installation.processes()
