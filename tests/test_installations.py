"""The private installations themselves: their locks are believed, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installations import Installation, wait_until
from tests.private_processes import processes_of


def test_installation_delivers_a_post(installation: Installation) -> None:
    installation.start_by_hand()
    assert set(installation.runner_pids()) == installation.expected_runners()
    assert installation.lock_owner() == (installation.host, installation.master_pid())
    message_id = installation.post()
    (delivery,) = installation.sink.wait_for(1)
    assert delivery.message_id == message_id
    wait_until(lambda: not installation.waiting_entries(), 20, "empty queues")
    installation.stop_by_hand()
    assert installation.processes() == []
    assert not installation.master_lock.exists()


def test_dead_lock_of_another_host_refuses_a_start(installation: Installation) -> None:
    dead = installation.make_dead_lock("elsewhere", 4711)
    finished = installation.start_by_hand(wait=False)
    assert finished.returncode == (0 if installation.version == "2.1" else 2)
    assert "other host" in " ".join(finished.stderr.split()) or "host_mismatch" in finished.stderr
    assert installation.masters() == []
    assert dead.claim.samefile(dead.lock)


def test_installations_do_not_see_each_other(installation: Installation) -> None:
    other = subprocess.Popen(["sleep", "60"], cwd="/tmp")
    try:
        mine = installation.spawn(["sleep", "60"])
        assert [process.pid for process in installation.processes()] == [mine.pid]
        installation.end_processes()
        assert mine.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_process_in_a_directory_of_a_longer_name_belongs_to_another(tmp_path: Path) -> None:
    for name in ("2", "20"):
        (tmp_path / name).mkdir()
    program = [sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path / "20")]
    with subprocess.Popen(program, cwd="/tmp") as other:
        try:
            # right after exec(2) a process has no words yet
            wait_until(lambda: processes_of(tmp_path / "20"), 10, "the process is found")
            assert [process.pid for process in processes_of(tmp_path / "20")] == [other.pid]
            assert processes_of(tmp_path / "2") == []
        finally:
            other.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_stays_of_a_run_that_was_ended(how: int) -> None:
    """A test run that dies with its installation serving: the warden ends and removes all of it."""
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's job ignores it
        "from tests.installations import PrivateSpace\n"
        "space = PrivateSpace()\n"
        "installation = space.installation('standin')\n"
        "installation.start_by_hand()\n"
        "print(space.directory, flush=True)\n"
        "time.sleep(600)\n"
    )
    checkout = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "lib")},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        try:
            directory = Path(run.stdout.readline().strip())
            assert directory.is_absolute()
            assert len(processes_of(directory)) >= 9
            os.kill(run.pid, how)
            run.wait(20)
        finally:
            run.kill()
    wait_until(lambda: not directory.exists(), 30, "the directory is gone")
    assert processes_of(directory) == []
