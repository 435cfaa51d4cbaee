"""Processes told apart by pid and start, and signals that hit only the one that is meant."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from mailman_ha.agents import lock_evidence
from mailman_ha.evidence import last_seen, process_identity, process_table
from mailman_ha.mailman.location import Location

LIBRARY = Path(process_table.__file__).resolve().parents[2]
SLEEP = "/bin/sleep"
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that sleeps; `name` is how it calls itself."""
    started: list[subprocess.Popen[bytes]] = []

    def sleeping(name: str = "sleep", *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [name, "60", *arguments], executable=SLEEP, stdin=subprocess.DEVNULL
        )
        started.append(process)
        give_up_at = time.monotonic() + 5
        while time.monotonic() < give_up_at:  # in the midst of exec it has no arguments
            if process_identity.command_line(process.pid)[:1] == (name,):
                return process
            time.sleep(0.001)
        pytest.fail(f"{name} did not start")

    yield sleeping
    for process in started:
        process.kill()
        process.wait()


def wait_for_state(pid: int, state: str) -> None:
    give_up_at = time.monotonic() + 5
    while time.monotonic() < give_up_at:
        found = process_identity.read(pid)
        if found is not None and found.state == state:
            return
        time.sleep(0.005)
    pytest.fail(f"process {pid} never came into state {state}")


def no_such_pid() -> int:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    return process.pid


# -- one process

def test_own_process_is_read_as_the_kernel_shows_it() -> None:
    found = process_identity.read(os.getpid())
    assert found is not None
    assert (found.pid, found.parent, found.group, found.session) == (
        os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
    assert not found.ended and not found.stopped
    assert found.started_at() == pytest.approx(psutil.Process().create_time(), abs=1.5)
    assert process_identity.is_alive(os.getpid(), found.started_ticks)
    assert not process_identity.is_alive(os.getpid(), found.started_ticks + 1)


def test_start_is_between_the_moments_before_and_after_it(start: Start) -> None:
    for _ in range(5):
        before = time.time()
        process = start()
        after = time.time()
        found = process_identity.read(process.pid)
        assert found is not None
        assert before - 0.02 <= found.started_at() <= after + 0.01


@pytest.mark.parametrize("name", [
    ")", "a) R 1 (b", "x y z", "(", "\n", "\x1b[2J", ") Z 1 1 1", "ü",
], ids=repr)
def test_a_process_that_calls_itself_anything_is_read_all_the_same(
    start: Start, tmp_path: Path, name: str
) -> None:
    program = tmp_path / name.replace("/", "")
    program.write_bytes(Path(SLEEP).read_bytes())
    program.chmod(0o755)
    process = subprocess.Popen([str(program), "60"], stdin=subprocess.DEVNULL)
    try:
        found = process_identity.read(process.pid)
        assert found is not None and found.parent == os.getpid() and not found.ended
        # In the midst of exec a process has no arguments for a moment.
        give_up_at = time.monotonic() + 10
        while not process_identity.command_line(process.pid) and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert process_identity.command_line(process.pid) == (str(program), "60")
    finally:
        process.kill()
        process.wait()


def test_zombie_has_ended_but_its_pid_is_taken(start: Start) -> None:
    process = start()
    known = process_identity.read(process.pid)
    assert known is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for_state(process.pid, "Z")
    found = process_identity.read(process.pid)
    assert found is not None and found.ended and found.started_ticks == known.started_ticks
    assert not process_identity.is_alive(process.pid, known.started_ticks)
    assert process_identity.exists(process.pid)
    assert process_identity.command_line(process.pid) == ()
    process.wait()
    assert process_identity.read(process.pid) is None
    assert not process_identity.exists(process.pid)


def test_stopped_process_is_alive_and_said_to_be_stopped(start: Start) -> None:
    process = start()
    os.kill(process.pid, signal.SIGSTOP)
    wait_for_state(process.pid, "T")
    found = process_identity.read(process.pid)
    assert found is not None and found.stopped and not found.ended
    assert process_identity.is_alive(process.pid, found.started_ticks)
    os.kill(process.pid, signal.SIGCONT)
    wait_for_state(process.pid, "S")


def test_no_process_is_none_and_does_not_exist() -> None:
    pid = no_such_pid()
    assert process_identity.read(pid) is None
    assert not process_identity.exists(pid)
    assert process_identity.command_line(pid) == ()
    assert not process_identity.is_alive(pid, 1)
    assert process_identity.exists(1), "init exists"


PF_KTHREAD = 0x00200000  # linux/sched.h


def is_kernel_thread(pid: int) -> bool:
    """As the flags in /proc/PID/stat say, the seventh field after the name."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return bool(int(fields[6]) & PF_KTHREAD)
    return False


def test_kernel_thread_has_no_arguments() -> None:
    kernel = [pid for pid in psutil.pids() if is_kernel_thread(pid)]
    if not kernel:
        pytest.skip("no kernel threads are seen from inside a pid namespace")
    assert process_identity.command_line(kernel[0]) == ()
    assert process_identity.read(kernel[0]) is not None


def test_boot_time_is_the_kernels_and_does_not_waver() -> None:
    seen = [process_identity.booted_at() for _ in range(200)]
    assert max(seen) - min(seen) < 0.01
    assert seen[0] == pytest.approx(psutil.boot_time(), abs=1.5)
    assert process_identity.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_pause_between_two_clocks_does_not_look_like_a_clock_that_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loaded host stops us between two readings; the next try counts."""
    true = process_identity.booted_at()
    readings = iter([0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    def late_time() -> float:
        return time.time() + next(readings, 0.0)

    monkeypatch.setattr(last_seen, "time", SimpleNamespace(
        time=lambda: time.time(), CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        clock_gettime=lambda clock: (time.sleep(next(readings, 0.0) / 10),
                                     time.clock_gettime(clock))[1],
    ))
    for _ in range(3):
        assert process_identity.booted_at() == pytest.approx(true, abs=0.01)


# -- all processes

def test_table_holds_every_process_with_arguments(start: Start) -> None:
    ours = start("mailman-ha-table", "0.5")
    stopped = start("mailman-ha-stopped")
    os.kill(stopped.pid, signal.SIGSTOP)
    dead = start("mailman-ha-dead")
    os.kill(dead.pid, signal.SIGKILL)
    wait_for_state(dead.pid, "Z")
    wait_for_state(stopped.pid, "T")
    table = {one.pid: one for one in process_table.read_all()}
    found = table[ours.pid]
    assert found.arguments == ("mailman-ha-table", "60", "0.5")
    assert (found.uid, found.cwd) == (os.geteuid(), os.getcwd())
    assert found.stat == process_identity.read(ours.pid)
    assert table[stopped.pid].stat.stopped
    assert dead.pid not in table, "what has ended has no arguments and runs nothing"
    assert all(one.arguments and not one.stat.ended for one in table.values())
    assert os.getpid() in table


def test_table_holds_what_is_wanted_of_it_and_nothing_else(start: Start) -> None:
    ours = start("mailman-ha-wanted")
    start("mailman-ha-unwanted")
    table = process_table.read_all(lambda arguments: arguments[0] == "mailman-ha-wanted")
    assert [(one.pid, one.arguments[0]) for one in table] == [(ours.pid, "mailman-ha-wanted")]


def test_process_in_the_midst_of_exec_is_not_missed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no arguments then, for a fraction of a millisecond."""
    process = start("mailman-ha-exec")
    original = psutil.Process.cmdline
    looks = iter(range(100))

    def cmdline(self: psutil.Process) -> list[str]:
        return [] if self.pid == process.pid and next(looks) < 3 else original(self)

    monkeypatch.setattr(psutil.Process, "cmdline", cmdline)
    assert process.pid in {one.pid for one in process_table.read_all()}


def test_process_whose_session_began_outside_its_container_is_no_kernel_thread() -> None:
    """Its session is 0 then, as a kernel thread's is."""
    program = (
        "import os; from mailman_ha.evidence import process_identity; "
        "found = process_identity.read(os.getpid()); "
        "print(found.session, found.kernel_thread)"
    )
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program],
        env={"PYTHONPATH": str(LIBRARY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 False\n"


def test_table_is_read_while_processes_come_and_go() -> None:
    churn = subprocess.Popen(
        ["/bin/sh", "-c", "while :; do /bin/true; done"], stdin=subprocess.DEVNULL
    )
    try:
        for _ in range(5):
            assert os.getpid() in {one.pid for one in process_table.read_all()}
    finally:
        churn.kill()
        churn.wait()


# -- signals

def test_signal_reaches_the_process_that_is_meant(start: Start) -> None:
    process = start()
    found = process_identity.read(process.pid)
    assert found is not None
    assert process_table.send(found, signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM
    assert not process_table.send(found, signal.SIGTERM)


@pytest.mark.parametrize("way", ["by pidfd", "by pid, on an old kernel"])
def test_signal_is_not_sent_to_a_zombie_or_to_another_start(
    start: Start, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way != "by pidfd":
        def no_pidfd(pid: int) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(process_table.os, "pidfd_open", no_pidfd)
    from mailman_ha.ocf.record import replace

    process = start()
    found = process_identity.read(process.pid)
    assert found is not None
    other = replace(found, started_ticks=found.started_ticks - 5)
    assert not process_table.send(other, signal.SIGKILL)
    assert process_identity.is_alive(found.pid, found.started_ticks)
    assert process_table.send(found, signal.SIGKILL)
    wait_for_state(process.pid, "Z")
    assert not process_table.send(found, signal.SIGKILL)


def test_signal_to_a_process_that_is_not_ours_is_an_error_not_a_success() -> None:
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        code = 1
        try:
            found = process_identity.read(1)
            assert found is not None
            process_table.send(found, signal.SIGTERM)
        except PermissionError:
            code = 7
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


# -- what a verdict is told of a process

PLACE = Location("2.1", ("/srv/mm/bin",), prefix="/srv/mm")
SITE: Any = SimpleNamespace(location=PLACE)


def test_verdict_is_told_of_start_and_looks(start: Start) -> None:
    for name, mailman in (("/srv/mm/bin/qrunner", True), ("Mailman-something", True),
                          ("sleep", False)):
        process = start(name)
        facts = lock_evidence.process_facts(process.pid, SITE)
        assert facts is not None
        assert facts.is_mailman == mailman and name in facts.command
        assert abs(facts.started_at - time.time()) < 5
    hostile = start("x\n\x1b[2J" + "y" * 500)
    facts = lock_evidence.process_facts(hostile.pid, SITE)
    assert facts is not None and facts.command.isprintable() and len(facts.command) <= 120


def test_verdict_is_told_that_a_zombie_and_a_free_pid_are_nobody(start: Start) -> None:
    process = start()
    os.kill(process.pid, signal.SIGKILL)
    wait_for_state(process.pid, "Z")
    assert lock_evidence.process_facts(process.pid, SITE) is None
    process.wait()
    assert lock_evidence.process_facts(process.pid, SITE) is None


# -- in a pid namespace of its own, where pids can be reused at will and /proc hidden

@pytest.fixture(scope="module")
def in_namespace() -> dict[str, Any]:
    """What the program beside this file found out, by scenario."""
    done = subprocess.run(
        ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc",
         sys.executable, str(Path(__file__).with_name("reuse_of_pids.py"))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_reused_pid_is_another_process(in_namespace: dict[str, Any]) -> None:
    found = in_namespace["reused"]
    assert found["same_pid"], "the pid was not reused"
    assert not found["old_alive"] and found["new_alive"]
    assert found["verdict_start_differs"]


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_signal_never_hits_who_reused_the_pid(in_namespace: dict[str, Any], when: str) -> None:
    """The pid changes hands before the signal is asked for, or on either side of pidfd_open."""
    found = in_namespace[f"signal {when}"]
    assert found["same_pid"] and found["new_lives"]
    assert found["sent"] is (when == "never")


def test_pid_reused_while_the_table_is_read_is_not_described_by_halves(
    in_namespace: dict[str, Any],
) -> None:
    found = in_namespace["table"]
    assert found["same_pid"] and found["halves"] == []


@pytest.mark.parametrize("level", ["1", "2"])
def test_hidden_process_counts_as_existing_and_as_mailmans(
    in_namespace: dict[str, Any], level: str
) -> None:
    """hidepid: an unprivileged look must never take what it cannot see for dead."""
    found = in_namespace[f"hidepid {level}"]
    assert found["hidden"], "it was not hidden"
    assert found["exists"] and found["facts_are_mailman"]
    assert found["table_readable"] and found["root_sees_it"]
