"""Stand-in and real Mailman 2.1 held to the same contract: every test runs on both.

The real one takes part where MAILMAN21_PREFIX names an installation.  States after a crash are made
by processes that really die between two system calls (program/Mailman/steps.py).
"""

from __future__ import annotations

import os
import pickle
import pickletools
import pwd
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.installation_fixture import KINDS21
from tests.installations import (
    LIFETIME_OF_MASTER_LOCK,
    Finished,
    Mailman21,
    free_pid,
    wait_until,
)
from tests.private_processes import PrivateProcess, read_process

Make = Callable[..., Mailman21]

ALREADY_RUNNING = "already running"
STALE = "stale master qrunner lock"
OTHER_HOST = "some other host"
CRASH = "MAILMAN_STANDIN_CRASH"
PAUSE = "MAILMAN_STANDIN_PAUSE"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refused(finished: Finished, why: str) -> bool:
    """Whether a start was refused as Mailman does it: nothing on stdout, status 0, a reason."""
    return (
        finished.returncode == 0
        and why in " ".join(finished.stderr.split())
        and ("Starting" not in finished.stdout)
    )


def crash_start(mailman: Mailman21, where: str, *, kill_child: bool = True) -> Path:
    """A `mailmanctl start` that dies at `where`; answers the name its claim had before the fork.

    A child looks at the lock only after that: it counts the lock's names before it reads the lock,
    and a transfer that fell in between would let it take a lock of three names for its own.
    """
    starter = mailman.spawn(
        [mailman.mailmanctl, "start"], environment={CRASH: where, PAUSE: "fork:child"}
    )
    assert starter.wait(20) == -signal.SIGKILL
    if kill_child:
        mailman.end_processes()
    for child in mailman.processes():
        wait_until(partial(stopped, child), 20, f"{child} stands still after the fork")
        child.send(signal.SIGCONT)
    return mailman.lock_dir / f"master-qrunner.{mailman.host}.{starter.pid}.1"


def stopped(process: PrivateProcess) -> bool:
    now = read_process(process.pid)
    assert now is not None, f"{process} has ended"
    return now.state == "T"


def new_claims(mailman: Mailman21) -> list[Path]:
    return [path for path in mailman.lock_dir.iterdir() if path != mailman.master_lock]


def links(path: Path) -> int:
    return path.stat().st_nlink


def log_text(mailman: Mailman21, kind: str) -> str:
    path = mailman.log_dir / kind
    return path.read_text(errors="replace") if path.exists() else ""


def master_of(mailman: Mailman21) -> PrivateProcess:
    (master,) = mailman.masters()
    return master


def runner_pid(mailman: Mailman21, runner: str = "IncomingRunner") -> int:
    (pid,) = mailman.runner_pids()[runner, 0, 1]
    return pid


def wait_for_new_runner(mailman: Mailman21, old: int, runner: str = "IncomingRunner") -> int:
    """Until another process than `old` runs the slice and takes signals."""
    found: list[int] = []

    def renewed() -> bool:
        found[:] = [pid for pid in mailman.runner_pids().get((runner, 0, 1), []) if pid != old]
        process = read_process(found[0]) if found else None
        return process is not None and process.catches(signal.SIGTERM)

    wait_until(renewed, 20, f"a new {runner}")
    return found[0]


@pytest.fixture
def mailman(installation21: Mailman21) -> Mailman21:
    return installation21


@pytest.fixture(params=KINDS21)
def make(request: pytest.FixtureRequest, make_installation: Callable[..., Mailman21]) -> Make:
    """Makes an installation of this kind with options."""
    return lambda **options: make_installation(request.param, **options)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another user than Mailman's."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


# Asking for the settings, and the exit status


def test_settings_are_asked_for_the_same_way(mailman: Mailman21) -> None:
    answer = mailman.asked(
        "LOCK_DIR",
        "DATA_DIR",
        "QUEUE_DIR",
        "INQUEUE_DIR",
        "SHUNTQUEUE_DIR",
        "BADQUEUE_DIR",
        "LIST_DATA_DIR",
        "LOG_DIR",
        "PIDFILE",
        "MASTER_LOCK_FILE",
        "QRUNNERS",
        "MAILMAN_USER",
        "MAILMAN_GROUP",
        "PREFIX",
        "VAR_PREFIX",
        "PYTHON",
        "VERSION",
        "LIST_LOCK_LIFETIME",
    )
    assert answer == {
        "LOCK_DIR": str(mailman.lock_dir),
        "DATA_DIR": str(mailman.prefix / "data"),
        "QUEUE_DIR": str(mailman.queue_dir),
        "INQUEUE_DIR": str(mailman.in_queue),
        "SHUNTQUEUE_DIR": str(mailman.queue_dir / "shunt"),
        "BADQUEUE_DIR": str(mailman.queue_dir / "bad"),
        "LIST_DATA_DIR": str(mailman.lists_dir),
        "LOG_DIR": str(mailman.log_dir),
        "PIDFILE": str(mailman.pid_file),
        "MASTER_LOCK_FILE": "master-qrunner",
        "QRUNNERS": [[name, 1] for name in mailman.QUEUES],
        "MAILMAN_USER": mailman.user,
        "MAILMAN_GROUP": mailman.group,
        "PREFIX": str(mailman.prefix),
        "VAR_PREFIX": str(mailman.prefix),
        "PYTHON": mailman.mailmanctl.read_text().splitlines()[0].lstrip("#! "),
        "VERSION": "2.1.39",
        "LIST_LOCK_LIFETIME": 18000,
    }


def test_unknown_command_does_nothing_and_exits_0(mailman: Mailman21) -> None:
    assert mailman.control("status") == Finished(0, "", "")


def test_no_command_and_unknown_option_exit_1(mailman: Mailman21) -> None:
    assert mailman.control().returncode == 1
    assert mailman.control("--frobnicate", "start").returncode == 1
    assert mailman.control("stop", "start").returncode == 1


def test_missing_site_list_exits_1(mailman: Mailman21) -> None:
    (mailman.lists_dir / "mailman").rename(mailman.lists_dir / "gone")
    finished = mailman.start_by_hand(wait=False)
    assert finished.returncode == 1
    assert "Site list is missing" in finished.stderr
    assert names(mailman.lock_dir) == []


def test_wrong_user_exits_1_and_touches_nothing(mailman: Mailman21) -> None:
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        [str(mailman.mailmanctl), "start"],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert names(mailman.lock_dir) == []


def test_root_becomes_mailmans_user(mailman: Mailman21) -> None:
    done = subprocess.run(
        [str(mailman.mailmanctl), "start"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    master = mailman.wait_until_serving()
    assert os.stat(f"/proc/{master}").st_uid == mailman.uid
    assert mailman.master_lock.stat().st_uid == mailman.uid


# A running Mailman as others see it


def test_running_mailman_leaves_the_agreed_marks(mailman: Mailman21) -> None:
    finished = mailman.start_by_hand()
    assert finished.returncode == 0
    master = master_of(mailman)
    claim = mailman.lock_dir / f"master-qrunner.{socket.gethostname()}.{master.pid}"
    assert names(mailman.lock_dir) == ["master-qrunner", claim.name]
    assert links(mailman.master_lock) == 2
    assert mailman.master_lock.samefile(claim)
    assert mailman.master_lock.read_text() == str(claim)
    assert stat.S_IMODE(claim.stat().st_mode) == 0o664
    assert mailman.master_lock.stat().st_mtime == pytest.approx(
        time.time() + LIFETIME_OF_MASTER_LOCK, abs=30
    )
    assert mailman.pid_file.read_text() == f"{master.pid}\n"
    assert stat.S_IMODE(mailman.pid_file.stat().st_mode) == 0o660

    python = mailman.mailmanctl.read_text().splitlines()[0].lstrip("#! ")
    assert master.arguments == (python, str(mailman.mailmanctl), "start")
    assert (master.session, master.group, master.directory) == (
        master.pid,
        master.pid,
        str(mailman.prefix),
    )
    assert {runner.arguments for runner in mailman.runners()} == {
        (python, str(mailman.prefix / "bin" / "qrunner"), f"--runner={name}:0:1", "-s")
        for name in mailman.QUEUES
    }
    for runner in mailman.runners():
        assert (runner.parent, runner.session, runner.group) == (master.pid,) * 3
    for descriptor in (0, 1, 2):
        assert os.readlink(f"/proc/{master.pid}/fd/{descriptor}") == "/dev/null"
    directories = set(mailman.QUEUES.values()) | {"shunt"}
    assert set(names(mailman.queue_dir)) >= directories
    assert stat.S_IMODE((mailman.queue_dir / "in").stat().st_mode) & 0o777 == 0o770


def test_inherited_descriptors_stay_open_in_master_and_runners(mailman: Mailman21) -> None:
    held = os.open(mailman.directory / "held", os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(held, True)
    try:
        starter = mailman.spawn([mailman.mailmanctl, "start"], pass_fds=(held,))
        assert starter.wait(20) == 0
        mailman.wait_until_serving()
        for process in mailman.processes():
            target = os.readlink(f"/proc/{process.pid}/fd/{held}")
            assert target == str(mailman.directory / "held")
    finally:
        os.close(held)


def test_second_start_is_refused_with_status_0(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    before = mailman.runner_pids()
    assert refused(mailman.start_by_hand(wait=False), ALREADY_RUNNING)
    assert refused(mailman.start_by_hand(force=True, wait=False), ALREADY_RUNNING)
    assert mailman.runner_pids() == before
    assert len(names(mailman.lock_dir)) == 2


def test_stop_gives_the_lock_back_and_leaves_the_pid_file(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    master = mailman.master_pid()
    assert mailman.stop_by_hand().returncode == 0
    assert names(mailman.lock_dir) == []
    assert mailman.pid_file.read_text() == f"{master}\n"

    again = mailman.control("stop")
    assert again.returncode == 0
    assert "Stale pid file removed" in again.stderr
    assert not mailman.pid_file.exists()

    assert mailman.control("stop").returncode == 0


def test_stop_does_not_wait(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held()
    assert mailman.stop_by_hand(wait=False).returncode == 0
    assert mailman.masters()
    mailman.sink.release()
    wait_until(lambda: not mailman.processes(), 20, "stopped")


def test_stop_signals_whoever_has_the_pid(mailman: Mailman21) -> None:
    own = mailman.spawn(["sleep", "600"])
    mailman.pid_file.write_text(f"{own.pid}\n")
    os.chmod(mailman.pid_file, 0o666)
    assert mailman.control("stop").returncode == 0
    assert own.wait(10) == -signal.SIGTERM


def test_stop_with_a_strangers_pid_is_a_traceback(
    mailman: Mailman21, stranger: subprocess.Popen[bytes]
) -> None:
    mailman.pid_file.write_text(f"{stranger.pid}\n")
    os.chmod(mailman.pid_file, 0o666)
    finished = mailman.control("stop")
    assert finished.returncode == 1
    assert "Operation not permitted" in finished.stderr
    assert stranger.poll() is None


# The crash states of the master's lock


def test_a_claims_of_dead_starters_do_not_hinder(mailman: Mailman21) -> None:
    empty = crash_start(mailman, "lock:create")
    full = crash_start(mailman, "lock:touch")
    assert (empty.read_text(), full.read_text()) == ("", str(full))
    assert names(mailman.lock_dir) == sorted([empty.name, full.name])
    assert mailman.start_by_hand().returncode == 0
    assert mailman.master_pid()
    mailman.stop_by_hand()
    assert names(mailman.lock_dir) == sorted([empty.name, full.name])


def test_a_claim_named_like_the_next_child_wrecks_a_start(mailman: Mailman21) -> None:
    probe = mailman.spawn(["true"])
    probe.wait()
    for pid in range(probe.pid + 1, probe.pid + 1500):
        claim = mailman.lock_dir / f"master-qrunner.{mailman.host}.{pid}"
        claim.write_text(str(claim))
        os.chown(claim, mailman.uid, mailman.gid)
    starter = mailman.spawn([mailman.mailmanctl, "start"])
    assert starter.wait(20) == 1
    # state B: the lock names the starter's first claim
    assert mailman.master_lock.read_text() == (
        f"{mailman.master_lock}.{mailman.host}.{starter.pid}.1"
    )
    assert links(mailman.master_lock) == 2
    (child,) = mailman.processes()
    assert child.session != child.pid
    assert not mailman.pid_file.exists()


@pytest.mark.parametrize("forced", [False, True])
def test_b_before_the_transfer_the_lock_reads_as_another_hosts(
    mailman: Mailman21, forced: bool
) -> None:
    claim = crash_start(mailman, "lock:touch-held")
    assert names(mailman.lock_dir) == ["master-qrunner", claim.name]
    assert links(mailman.master_lock) == 2
    assert mailman.master_lock.read_text() == str(claim)
    assert refused(mailman.start_by_hand(force=forced, wait=False), OTHER_HOST)
    assert mailman.master_lock.samefile(claim)


def test_c_three_names_read_as_another_hosts(mailman: Mailman21) -> None:
    claim = crash_start(mailman, "transfer:link")
    assert len(names(mailman.lock_dir)) == 3
    assert links(mailman.master_lock) == 3
    assert mailman.master_lock.read_text() == str(claim)
    for forced in (False, True):
        assert refused(mailman.start_by_hand(force=forced, wait=False), OTHER_HOST)
    assert "unexpected linkcount: 3" in log_text(mailman, "locks")


def test_d_an_emptied_lock_is_a_traceback_until_it_expires(mailman: Mailman21) -> None:
    crash_start(mailman, "transfer:truncate")
    assert links(mailman.master_lock) == 3
    assert mailman.master_lock.read_text() == ""
    # the claim was just written: anyone may break it 10 s from now
    assert abs(mailman.master_lock.stat().st_mtime - time.time()) < 10
    finished = mailman.start_by_hand(wait=False)
    assert finished.returncode == 1
    assert "ValueError" in finished.stderr
    os.utime(mailman.master_lock, (time.time() - 11, time.time() - 11))
    assert mailman.start_by_hand().returncode == 0
    assert len(names(mailman.lock_dir)) == 4


def test_e_rewritten_lock_of_a_dead_child_is_stale(mailman: Mailman21) -> None:
    old = crash_start(mailman, "transfer:write")
    assert links(mailman.master_lock) == 3
    assert mailman.lock_owner() is not None
    assert refused(mailman.start_by_hand(wait=False), STALE)
    assert mailman.start_by_hand(force=True).returncode == 0
    assert mailman.master_pid()
    assert old.exists()


def test_e_a_living_child_waits_for_ever(mailman: Mailman21) -> None:
    crash_start(mailman, "transfer:write", kill_child=False)
    (child,) = mailman.processes()
    owner = mailman.lock_owner()
    assert owner is not None and owner[1] == child.pid
    assert refused(mailman.start_by_hand(wait=False), ALREADY_RUNNING)
    assert refused(mailman.start_by_hand(force=True, wait=False), ALREADY_RUNNING)
    assert child.alive()
    assert not mailman.pid_file.exists()


def test_f_child_takes_over_a_lock_that_expires_at_once(mailman: Mailman21) -> None:
    crash_start(mailman, "transfer:unlink-old", kill_child=False)
    master = mailman.wait_until_serving()
    assert links(mailman.master_lock) == 2
    assert mailman.lock_owner() == (mailman.host, master)
    assert mailman.master_lock.stat().st_mtime < time.time() + 10
    os.utime(mailman.master_lock, (time.time() - 11, time.time() - 11))
    assert mailman.start_by_hand().returncode == 0
    assert len(mailman.masters()) == 2


def test_g_stale_lock_of_this_host(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock()
    assert refused(mailman.start_by_hand(wait=False), STALE)
    assert dead.claim.samefile(dead.lock)
    finished = mailman.start_by_hand(force=True)
    assert finished.returncode == 0
    assert mailman.master_pid()
    assert not dead.claim.exists()


@pytest.mark.parametrize("forced", [False, True])
def test_g_prime_lock_of_another_host(mailman: Mailman21, forced: bool) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711)
    assert refused(mailman.start_by_hand(force=forced, wait=False), OTHER_HOST)
    assert dead.claim.samefile(dead.lock)


@pytest.mark.parametrize("forced", [False, True])
def test_g_prime_expired_lock_is_broken_by_anyone(mailman: Mailman21, forced: bool) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711, expires_in=-12)
    assert mailman.start_by_hand(force=forced).returncode == 0
    assert mailman.master_pid()
    assert not dead.claim.exists()
    assert "lifetime has expired, breaking" in log_text(mailman, "locks")


def test_lock_within_the_slop_is_kept(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711, expires_in=-2)
    assert refused(mailman.start_by_hand(wait=False), OTHER_HOST)
    assert dead.claim.exists()


def test_h_a_breaker_that_dies_prolongs_the_dead_lock(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711, expires_in=-12)
    breaker = crash_start(mailman, "break:touch")
    assert dead.lock.stat().st_mtime == pytest.approx(time.time() + LIFETIME_OF_MASTER_LOCK, abs=30)
    assert breaker.exists() and links(breaker) == 1
    assert refused(mailman.start_by_hand(wait=False), OTHER_HOST)


def test_a_a_breaker_that_dies_between_its_unlinks_leaves_a_claim(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711, expires_in=-12)
    breaker = crash_start(mailman, "break:unlink-lock")
    assert names(mailman.lock_dir) == sorted([dead.claim.name, breaker.name])
    assert mailman.start_by_hand().returncode == 0


def test_a_forced_start_that_dies_between_its_unlinks_leaves_a_claim(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock()
    child = mailman.spawn(
        [mailman.mailmanctl, "-s", "start"], environment={CRASH: "clear:unlink-lock"}
    )
    assert child.wait(20) == -signal.SIGKILL
    assert not mailman.master_lock.exists()
    assert links(dead.claim) == 1
    assert mailman.start_by_hand().returncode == 0


def test_i_lock_without_claim(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock()
    dead.claim.unlink()
    assert links(dead.lock) == 1
    assert refused(mailman.start_by_hand(wait=False), STALE)
    first = mailman.start_by_hand(force=True, wait=False)
    assert first.returncode == 1
    assert "No such file or directory" in first.stderr
    assert not dead.lock.exists()
    assert mailman.start_by_hand(force=True).returncode == 0
    assert mailman.master_pid()


@pytest.mark.parametrize("forced", [False, True])
def test_j_empty_lock_is_a_traceback(mailman: Mailman21, forced: bool) -> None:
    dead = mailman.make_dead_lock(content=b"")
    finished = mailman.start_by_hand(force=forced, wait=False)
    assert finished.returncode == 1
    assert "ValueError" in finished.stderr
    assert dead.claim.samefile(dead.lock)


@pytest.mark.parametrize("forced", [False, True])
def test_k_pid_of_another_users_process_is_a_traceback(
    mailman: Mailman21, stranger: subprocess.Popen[bytes], forced: bool
) -> None:
    dead = mailman.make_dead_lock(pid=stranger.pid)
    finished = mailman.start_by_hand(force=forced, wait=False)
    assert finished.returncode == 1
    assert "Operation not permitted" in finished.stderr
    assert dead.claim.samefile(dead.lock)


@pytest.mark.parametrize("forced", [False, True])
def test_k_pid_of_any_process_of_mailmans_user_is_taken_for_a_master(
    mailman: Mailman21, forced: bool
) -> None:
    other = mailman.spawn(["sleep", "600"])
    mailman.make_dead_lock(pid=other.pid)
    assert refused(mailman.start_by_hand(force=forced, wait=False), ALREADY_RUNNING)
    other.kill()
    other.wait()


def test_l_content_that_names_another_directory_is_read_by_its_last_part(
    mailman: Mailman21,
) -> None:
    pid = free_pid()
    name = f"master-qrunner.{mailman.host}.{pid}"
    elsewhere = mailman.directory / name
    elsewhere.write_text("not a lock")
    dead = mailman.make_dead_lock(pid=pid, content=os.fsencode(elsewhere))
    assert mailman.start_by_hand(force=True).returncode == 0
    assert mailman.master_pid()
    assert elsewhere.exists()
    assert not dead.claim.exists()


# The lock while others want it


def test_claim_of_a_waiter_lies_beside_the_lock(mailman: Mailman21) -> None:
    dead = mailman.make_dead_lock("elsewhere", 4711, lock=mailman.list_lock())
    waiter = mailman.spawn([mailman.prefix / "bin" / "config_list", "-i", "/dev/null", "test"])
    claim = Path(f"{mailman.list_lock()}.{mailman.host}.{waiter.pid}.0")
    wait_until(claim.exists, 10, "a claim")
    wait_until(lambda: claim.read_text() == str(claim), 10, "its content")
    assert links(claim) == 1
    assert claim.stat().st_mtime == pytest.approx(time.time() + 5 * 3600, abs=30)
    assert links(dead.lock) == 2
    # as an operator does it
    dead.lock.unlink()
    dead.claim.unlink()
    assert waiter.wait(10) == 0
    assert names(mailman.lock_dir) == []


def test_waiter_breaks_an_expired_list_lock(mailman: Mailman21) -> None:
    mailman.make_dead_lock("elsewhere", 4711, lock=mailman.list_lock(), expires_in=-8)
    begin = time.monotonic()
    assert mailman.save_list().returncode == 0
    assert time.monotonic() - begin > 1.5
    assert names(mailman.lock_dir) == []


def test_saver_that_was_robbed_does_not_save(mailman: Mailman21) -> None:
    config = mailman.lists_dir / "test" / "config.pck"
    before = config.read_bytes()
    saver = mailman.spawn(
        [mailman.prefix / "bin" / "config_list", "-i", "/dev/null", "test"],
        environment={PAUSE: "lock:touch-held:test.lock"},
        stderr=subprocess.PIPE,
    )
    wait_for_stop(saver.pid)
    mailman.list_lock().unlink()
    robber = mailman.make_dead_lock("elsewhere", 4711, lock=mailman.list_lock())
    os.kill(saver.pid, signal.SIGCONT)
    _, errors = saver.communicate(timeout=20)
    assert saver.returncode == 1
    assert b"NotLockedError" in errors
    assert config.read_bytes() == before
    assert robber.lock.samefile(robber.claim)
    # Its own claim stays behind, an orphan of a process that ended on this host.
    own_claim = f"test.lock.{mailman.host}.{saver.pid}.0"
    assert names(mailman.lock_dir) == sorted([robber.lock.name, robber.claim.name, own_claim])


@pytest.mark.parametrize(
    ("where", "lock_links", "claim_links"),
    [
        ("lock:create", None, 1),
        ("lock:write", None, 1),
        ("lock:touch", None, 1),
        ("lock:link", 2, 2),
        ("lock:touch-held", 2, 2),
        ("unlock:touch", 2, 2),
        ("unlock:unlink-lock", None, 1),
        ("unlock:unlink-claim", None, None),
    ],
)
def test_holder_that_dies_leaves_the_agreed_files(
    mailman: Mailman21, where: str, lock_links: int | None, claim_links: int | None
) -> None:
    operation, _, step = where.partition(":")
    saver = mailman.spawn(
        [mailman.prefix / "bin" / "config_list", "-i", "/dev/null", "test"],
        environment={CRASH: f"{operation}:{step}:test.lock"},
    )
    assert saver.wait(20) == -signal.SIGKILL
    lock = mailman.list_lock()
    claim = Path(f"{lock}.{mailman.host}.{saver.pid}.0")
    found = {path: links(path) for path in mailman.lock_dir.iterdir()}
    expected = {lock: lock_links, claim: claim_links}
    assert found == {path: count for path, count in expected.items() if count is not None}
    if where == "lock:create":
        assert claim.read_text() == ""
    elif claim_links:
        assert claim.read_text() == str(claim)


def test_claimant_that_finds_its_own_name_gives_up(mailman: Mailman21) -> None:
    """Same host, pid and counter, as in two containers: it says so, and does not save."""
    config = mailman.lists_dir / "test" / "config.pck"
    before = config.read_bytes()
    saver = mailman.spawn(
        [mailman.prefix / "bin" / "config_list", "-i", "/dev/null", "test"],
        environment={PAUSE: "lock:touch:test.lock"},
        stderr=subprocess.PIPE,
    )
    wait_for_stop(saver.pid)
    claim = Path(f"{mailman.list_lock()}.{mailman.host}.{saver.pid}.0")
    os.link(claim, mailman.list_lock())
    os.kill(saver.pid, signal.SIGCONT)
    _, errors = saver.communicate(timeout=20)
    assert saver.returncode == 1
    assert b"AlreadyLockedError" in errors
    assert config.read_bytes() == before
    # The interpreter ends with the traceback and gives nothing back.
    assert names(mailman.lock_dir) == ["test.lock", claim.name]


def test_runner_that_finds_its_own_name_shunts_and_drops_the_lock(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    mailman.post()
    runner = mailman.spawn(
        qrunner_once(mailman, "IncomingRunner"), environment={PAUSE: "lock:touch:test.lock"}
    )
    wait_for_stop(runner.pid)
    (claim,) = mailman.lock_dir.iterdir()
    assert claim.name.startswith(f"test.lock.{mailman.host}.{runner.pid}.")
    os.link(claim, mailman.list_lock())
    runner.send_signal(signal.SIGCONT)
    assert runner.wait(20) == 0
    assert names(mailman.in_queue) == []
    assert len(names(mailman.queue_dir / "shunt")) == 1
    assert names(mailman.lock_dir) == []


def wait_for_stop(pid: int) -> None:
    """Until SIGSTOP has taken effect on `pid`."""

    def stopped() -> bool:
        process = read_process(pid)
        assert process is not None, "it ended instead"
        return process.state == "T"

    wait_until(stopped, 20, f"pid {pid} stands still")


def test_two_hosts_share_one_lock(mailman: Mailman21) -> None:
    """A master under another host name holds the lock against this host, dead or alive."""
    assert mailman.start_by_hand(host="nodeb").returncode == 0
    master = mailman.master_pid()
    assert mailman.lock_owner() == ("nodeb", master)
    assert refused(mailman.start_by_hand(force=True, wait=False), OTHER_HOST)
    mailman.end_processes()
    assert refused(mailman.start_by_hand(force=True, wait=False), OTHER_HOST)
    assert refused(mailman.start_by_hand(wait=False, host="nodeb"), STALE)


# The master


def test_killed_master_leaves_its_runners_working(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    master = master_of(mailman)
    master.send(signal.SIGKILL)
    wait_until(master.gone, 10, "master is dead")
    orphans = mailman.runners()
    assert len(orphans) == 8
    assert {(orphan.parent, orphan.session, orphan.group) for orphan in orphans} == {
        (1, master.pid, master.pid)
    }
    mailman.post()
    assert len(mailman.sink.wait_for(1)) == 1
    assert refused(mailman.start_by_hand(wait=False), STALE)
    assert mailman.start_by_hand(force=True).returncode == 0
    assert len(mailman.runners()) == 16
    assert set(map(len, mailman.runner_pids().values())) == {2}
    for orphan in orphans:
        orphan.send(signal.SIGTERM)
    wait_until(lambda: len(mailman.runners()) == 8, 20, "orphans obey SIGTERM")


def test_killed_runner_is_started_again(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    old = runner_pid(mailman)
    os.kill(old, signal.SIGKILL)
    new = wait_for_new_runner(mailman, old)
    process = read_process(new)
    assert process is not None and process.session == mailman.master_pid()


def test_terminated_runner_is_not_started_again(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    old = runner_pid(mailman)
    os.kill(old, signal.SIGTERM)
    wait_until(lambda: read_process(old) is None, 10, "the runner ends")
    wait_until(
        lambda: f"(pid: {old}, sig: None, sts: 15" in log_text(mailman, "qrunner"),
        10,
        "the master notes it",
    )
    time.sleep(0.5)
    assert ("IncomingRunner", 0, 1) not in mailman.runner_pids()
    assert mailman.master_pid()


def test_runner_is_given_up_after_ten_restarts(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    old = runner_pid(mailman)
    # An exit by SIGINT is started again and does not count.
    os.kill(old, signal.SIGINT)
    old = wait_for_new_runner(mailman, old)
    for _ in range(10):
        os.kill(old, signal.SIGKILL)
        old = wait_for_new_runner(mailman, old)
    os.kill(old, signal.SIGKILL)
    limit = "reached maximum restart limit of 10"
    wait_until(lambda: limit in log_text(mailman, "qrunner"), 10, "the limit")
    time.sleep(0.5)
    assert ("IncomingRunner", 0, 1) not in mailman.runner_pids()
    assert mailman.master_pid()
    assert len(mailman.runners()) == 7


def test_master_without_runners_gives_the_lock_back(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    for runner in mailman.runners():
        runner.send(signal.SIGTERM)
    wait_until(lambda: not mailman.processes(), 20, "all ended")
    assert names(mailman.lock_dir) == []
    assert mailman.pid_file.exists()


def test_restart_renews_every_runner(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    master = mailman.master_pid()
    before = mailman.runner_pids()
    assert mailman.control("restart").returncode == 0
    wait_until(
        lambda: (
            set(mailman.runner_pids()) == set(before)
            and not {pid for pids in before.values() for pid in pids}
            & {runner.pid for runner in mailman.runners()}
        ),
        20,
        "all runners are new",
    )
    assert mailman.master_pid() == master


def test_reopen_renews_nothing(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    before = mailman.runner_pids()
    log = mailman.log_dir / "qrunner"
    log.rename(log.with_suffix(".1"))
    assert mailman.control("reopen").returncode == 0
    wait_until(lambda: "SIGHUP" in log_text(mailman, "qrunner"), 10, "a new log")
    assert mailman.runner_pids() == before


def test_no_restart_is_an_option(mailman: Mailman21) -> None:
    assert mailman.control("-n", "start").returncode == 0
    mailman.wait_until_serving()
    old = runner_pid(mailman)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: f"(pid: {old}, sig: 9" in log_text(mailman, "qrunner"), 10, "noted")
    time.sleep(0.5)
    assert ("IncomingRunner", 0, 1) not in mailman.runner_pids()


def test_alarm_refreshes_the_lock(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    os.utime(mailman.master_lock, (time.time(), time.time() + 60))
    master_of(mailman).send(signal.SIGALRM)
    wait_until(lambda: mailman.master_lock.stat().st_mtime > time.time() + 3600, 10, "refreshed")
    assert mailman.master_pid()


def test_robbed_master_ends_at_its_next_alarm(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    master = master_of(mailman)
    own_claim = Path(mailman.master_lock.read_text())
    mailman.master_lock.unlink()
    thief = mailman.make_dead_lock("elsewhere", 4711)
    master.send(signal.SIGALRM)
    wait_until(lambda: not mailman.processes(), 20, "master and runners end")
    assert mailman.pid_file.read_text() == f"{master.pid}\n"
    assert thief.claim.samefile(thief.lock)
    assert not own_claim.exists()


def test_lock_is_refreshed_by_the_clock(make: Make) -> None:
    """The master touches its lock every `days(1)`, for `days(1) + hours(6)`."""
    mailman = make(settings="def days(n):\n    return 2 * n\ndef hours(n):\n    return n\n")
    mailman.start_by_hand()
    first = mailman.master_lock.stat().st_mtime
    assert first < time.time() + 9
    wait_until(lambda: mailman.master_lock.stat().st_mtime > first + 1, 10, "refreshed")


def test_lock_removed_under_a_live_master_gives_two_masters(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.master_lock.unlink()
    assert mailman.start_by_hand().returncode == 0
    assert len(mailman.masters()) == 2
    owner = mailman.lock_owner()
    assert owner is not None
    assert mailman.pid_file.read_text() == f"{owner[1]}\n"


def test_master_stopped_before_its_handlers_leaves_a_stale_lock(mailman: Mailman21) -> None:
    starter = mailman.spawn([mailman.mailmanctl, "start"], environment={PAUSE: "master:pid-file"})
    assert starter.wait(20) == 0
    wait_until(
        lambda: mailman.pid_file.exists() and mailman.pid_file.read_text() != "", 10, "a pid file"
    )
    pid = int(mailman.pid_file.read_text())
    wait_for_stop(pid)
    assert mailman.control("stop").returncode == 0
    master = read_process(pid)
    assert master is not None
    master.send(signal.SIGCONT)
    wait_until(master.gone, 10, "the master dies")
    assert not mailman.processes()
    assert mailman.lock_owner() == (mailman.host, pid)
    assert refused(mailman.start_by_hand(wait=False), STALE)


def test_runners_start_before_the_masters_handlers(mailman: Mailman21) -> None:
    """SIGTERM in that gap kills the master and orphans the runners."""
    starter = mailman.spawn([mailman.mailmanctl, "start"], environment={PAUSE: "master:runners"})
    assert starter.wait(20) == 0
    wait_until(
        lambda: (
            len(mailman.runners()) == 8
            and all(runner.catches(signal.SIGTERM) for runner in mailman.runners())
        ),
        20,
        "runners",
    )
    pid = int(mailman.pid_file.read_text())
    wait_for_stop(pid)
    mailman.control("stop")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: read_process(pid) is None, 10, "the master dies")
    assert len(mailman.runners()) == 8
    assert mailman.lock_owner() == (mailman.host, pid)


def test_runner_killed_during_a_stop_comes_back(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held()
    old = runner_pid(mailman, "OutgoingRunner")
    mailman.control("stop")
    wait_until(lambda: len(mailman.runners()) == 1, 20, "only the busy runner is left")
    os.kill(old, signal.SIGKILL)
    new = wait_for_new_runner(mailman, old, "OutgoingRunner")
    assert new != old
    assert mailman.masters()


# Queues


def test_message_passes_all_queues(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    message_id = mailman.post()
    (delivery,) = mailman.sink.wait_for(1)
    assert delivery.message_id == message_id
    assert sorted(delivery.recipients) == ["anne@example.test", "bart@example.test"]
    wait_until(lambda: not mailman.waiting_entries(), 20, "empty queues")
    assert names(mailman.queue_dir / "shunt") == []


def test_entry_is_named_by_time_and_hash(mailman: Mailman21) -> None:
    mailman.run([mailman.prefix / "bin" / "qrunner", "-r", "Incoming", "-o"])
    before = time.time()
    mailman.post()
    (entry,) = mailman.in_queue.iterdir()
    when, digest = entry.stem.split("+")
    assert before - 1 <= float(when) <= time.time() + 1
    assert len(digest) == 40 and int(digest, 16) < 2**160
    assert entry.suffix == ".pck"
    assert stat.S_IMODE(entry.stat().st_mode) == 0o660
    with open(entry, "rb") as file:
        for _ in range(2):
            *_, last = pickletools.genops(file)
            assert last[0].name == "STOP"
        assert file.read() == b""


def test_entry_is_a_bak_while_it_is_worked_on(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held()
    out = mailman.queue_dir / "out"
    assert [path.suffix for path in out.iterdir()] == [".bak"]
    mailman.sink.release()
    wait_until(lambda: names(out) == [], 10, "the entry is done")


def test_terminated_runner_finishes_its_message(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held()
    mailman.control("stop")
    time.sleep(0.5)
    assert read_process(runner_pid(mailman, "OutgoingRunner")) is not None
    mailman.sink.release()
    wait_until(lambda: not mailman.processes(), 20, "stopped")
    assert len(mailman.sink.messages) == 1
    assert names(mailman.queue_dir / "out") == []
    assert names(mailman.lock_dir) == []


def test_killed_delivery_is_repeated_by_the_next_runner(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held()
    old = runner_pid(mailman, "OutgoingRunner")
    os.kill(old, signal.SIGKILL)
    wait_for_new_runner(mailman, old, "OutgoingRunner")
    mailman.sink.release()
    assert len(mailman.sink.wait_for(2)) == 2
    wait_until(lambda: names(mailman.queue_dir / "out") == [], 10, "the entry is done")


def test_third_recovery_puts_the_entry_aside(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    mailman.post()
    (entry,) = mailman.in_queue.iterdir()
    for count in (1, 2):
        died = mailman.spawn(
            qrunner_once(mailman, "IncomingRunner"), environment={CRASH: "dequeue:rename:in"}
        )
        assert died.wait(20) == -signal.SIGKILL
        assert names(mailman.in_queue) == [entry.stem + ".bak"], count
    mailman.spawn(
        qrunner_once(mailman, "IncomingRunner"), environment={CRASH: "dequeue:rename:in"}
    ).wait(20)
    assert mailman.run(qrunner_once(mailman, "IncomingRunner")).returncode == 0
    assert names(mailman.in_queue) == []
    assert names(mailman.queue_dir / "bad") == [entry.stem + ".psv"]
    with open(mailman.queue_dir / "bad" / (entry.stem + ".psv"), "rb") as file:
        assert b"_bak_count" in file.read()


def qrunner_once(mailman: Mailman21, runner: str) -> list[str]:
    return [str(mailman.prefix / "bin" / "qrunner"), f"--runner={runner}:0:1", "-o"]


def test_unreadable_bak_is_put_aside(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    base = f"{time.time()!r}+{'0' * 40}"
    broken = mailman.in_queue / f"{base}.bak"
    broken.write_bytes(b"")
    os.chown(broken, mailman.uid, mailman.gid)
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    assert names(mailman.in_queue) == []
    assert names(mailman.queue_dir / "bad") == [f"{base}.psv"]


def test_recovery_keeps_to_its_own_slice(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    whole = mailman.post()
    assert whole
    (entry,) = mailman.in_queue.iterdir()
    content = entry.read_bytes()
    entry.unlink()
    slices = 3
    bases: dict[int, set[str]] = {}
    for number in range(slices):
        for edge in (2**160 * number // slices, 2**160 * (number + 1) // slices - 1):
            base = f"{time.time()!r}+{edge:040x}"
            path = mailman.in_queue / f"{base}.bak"
            path.write_bytes(content)
            os.chown(path, mailman.uid, mailman.gid)
            bases.setdefault(number, set()).add(base)
    qrunner = str(mailman.prefix / "bin" / "qrunner")
    died = mailman.spawn(
        [qrunner, f"--runner=IncomingRunner:1:{slices}", "-o"],
        environment={CRASH: "dequeue:rename:in"},
    )
    assert died.wait(20) == -signal.SIGKILL
    # Its own two were recovered; it died as it took the first of them.
    suffixes = {path.stem: path.suffix for path in mailman.in_queue.iterdir()}
    assert {base for base, suffix in suffixes.items() if suffix == ".pck"} < bases[1]
    assert len(suffixes) == 6
    for base in bases[0] | bases[2]:
        assert suffixes[base] == ".bak"


def test_every_entry_has_one_slice(make: Make) -> None:
    mailman = make(slices={"OutgoingRunner": 3})
    mailman.start_by_hand()
    assert ("OutgoingRunner", 2, 3) in mailman.runner_pids()
    sent = {mailman.post() for _ in range(12)}
    mailman.sink.wait_for(12)
    wait_until(lambda: not mailman.waiting_entries(), 20, "empty queues")
    assert sorted(delivery.message_id for delivery in mailman.sink.messages) == sorted(sent)


def start_runner_by_hand(mailman: Mailman21, runner: str) -> subprocess.Popen[bytes]:
    process = mailman.spawn([mailman.prefix / "bin" / "qrunner", f"--runner={runner}:0:1", "-s"])

    def ready() -> bool:
        found = read_process(process.pid)
        return found is not None and found.catches(signal.SIGTERM)

    wait_until(ready, 20, f"{runner} by hand")
    return process


def test_second_runner_on_a_slice_puts_the_firsts_entry_aside(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    first = runner_pid(mailman, "OutgoingRunner")
    start_runner_by_hand(mailman, "OutgoingRunner")
    (second,) = set(mailman.runner_pids()["OutgoingRunner", 0, 1]) - {first}
    out = mailman.queue_dir / "out"

    # The second lists X and Y and works on X; the first, woken later, takes Y and stands still.
    mailman.sink.hold()
    for pid in (first, second):
        os.kill(pid, signal.SIGSTOP)
        wait_for_stop(pid)
    mailman.post()
    mailman.post()
    wait_until(lambda: len(names(out)) == 2, 20, "two entries")
    os.kill(second, signal.SIGCONT)
    mailman.sink.wait_for_held(1)
    os.kill(first, signal.SIGCONT)
    mailman.sink.wait_for_held(2)
    os.kill(first, signal.SIGSTOP)
    wait_for_stop(first)
    assert [path.suffix for path in out.iterdir()] == [".bak", ".bak"]
    mailman.sink.release()
    bad = mailman.queue_dir / "bad"
    wait_until(lambda: bad.is_dir() and len(names(bad)) == 1, 20, "Y is put aside")
    assert names(bad)[0].endswith(".psv")
    os.kill(first, signal.SIGCONT)
    wait_until(lambda: "Failed to unlink" in log_text(mailman, "error"), 20, "the first misses Y")
    assert len({delivery.message_id for delivery in mailman.sink.wait_for(2)}) == 2
    assert names(out) == []


def test_second_runner_that_starts_delivers_the_firsts_entry_again(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.hold()
    mailman.post()
    mailman.sink.wait_for_held(1)
    start_runner_by_hand(mailman, "OutgoingRunner")
    mailman.sink.wait_for_held(2)
    mailman.sink.release()
    first, second = mailman.sink.wait_for(2)
    assert first.message_id == second.message_id


def test_strange_name_in_a_queue_crashes_the_runner(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    (mailman.in_queue / "strange.pck").write_bytes(b"")
    finished = mailman.run(qrunner_once(mailman, "IncomingRunner"))
    assert finished.returncode == 1
    assert "ValueError" in finished.stderr
    assert names(mailman.in_queue) == ["strange.pck"]


def test_entry_half_written_is_left_alone(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    half = mailman.in_queue / f"{time.time()!r}+{'0' * 40}.pck.tmp"
    half.write_bytes(b"half")
    assert mailman.run(qrunner_once(mailman, "IncomingRunner")).returncode == 0
    assert names(mailman.in_queue) == [half.name]


def test_unparsable_entry_is_put_aside(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    base = f"{time.time()!r}+{'0' * 40}"
    entry = mailman.in_queue / f"{base}.pck"
    entry.write_bytes(b"rubbish")
    os.chown(entry, mailman.uid, mailman.gid)
    assert mailman.run(qrunner_once(mailman, "IncomingRunner")).returncode == 0
    assert names(mailman.in_queue) == []
    assert names(mailman.queue_dir / "bad") == [f"{base}.psv"]


def test_entry_waits_while_the_list_is_locked(make: Make) -> None:
    mailman = make(settings="LIST_LOCK_TIMEOUT = 1\n")
    mailman.start_by_hand()
    dead = mailman.make_dead_lock("elsewhere", 4711, lock=mailman.list_lock())
    mailman.post()
    wait_until(
        lambda: [path.suffix for path in mailman.in_queue.iterdir()] == [".bak"], 10, "it is tried"
    )
    first = names(mailman.in_queue)
    wait_until(lambda: names(mailman.in_queue) not in (first, []), 10, "it is queued again")
    assert mailman.sink.messages == []
    dead.lock.unlink()
    dead.claim.unlink()
    mailman.sink.wait_for(1)


def test_dead_list_lock_hangs_a_stop_with_bounces(mailman: Mailman21) -> None:
    mailman.start_by_hand()
    mailman.sink.refuse_with = "550 nobody of that name"
    mailman.post()
    bounces = mailman.prefix / "data"
    wait_until(
        lambda: any(name.startswith("bounce-events-") for name in names(bounces)),
        20,
        "recorded bounces",
    )
    wait_until(lambda: not mailman.waiting_entries(), 20, "empty queues")
    dead = mailman.make_dead_lock("elsewhere", 4711, lock=mailman.list_lock())
    mailman.control("stop")
    wait_until(lambda: len(mailman.runners()) == 1, 20, "one runner is left")
    time.sleep(3)
    assert len(mailman.runners()) == 1
    assert mailman.masters()
    dead.lock.unlink()
    dead.claim.unlink()
    wait_until(lambda: not mailman.processes(), 20, "stopped")


def test_qrunner_without_a_slice_works_through_everything(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    for _ in range(3):
        mailman.post()
    mailman.spawn([mailman.prefix / "bin" / "qrunner", "-r", "Incoming"])
    wait_until(lambda: names(mailman.in_queue) == [], 20, "an empty queue")
    assert len(names(mailman.queue_dir / "out")) == 3


def test_qrunner_once_takes_one_entry(mailman: Mailman21) -> None:
    mailman.run(qrunner_once(mailman, "IncomingRunner"))
    mailman.post()
    mailman.post()
    assert mailman.run(qrunner_once(mailman, "IncomingRunner")).returncode == 0
    assert len(names(mailman.in_queue)) == 1
    assert len(names(mailman.queue_dir / "out")) == 1


def test_exit_statuses_of_a_runner(mailman: Mailman21) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start_runner_by_hand(mailman, "CommandRunner")
        process.send_signal(number)
        assert process.wait(20) == number
    unknown = mailman.run(
        [mailman.prefix / "bin" / "qrunner", "--runner=UnheardOfRunner:0:1", "-s"]
    )
    assert unknown.returncode == signal.SIGTERM
    assert mailman.run([mailman.prefix / "bin" / "qrunner"]).returncode == 1


# Saving a list


def list_files(mailman: Mailman21) -> dict[str, Path]:
    """Files of the list `test` by name, the writer's host and pid in a tmp's name cut off."""
    found = {}
    for path in (mailman.lists_dir / "test").iterdir():
        if path.name.startswith("config.pck"):
            mark = ".tmp." in path.name
            found["tmp" if mark else path.name] = path
    return found


def whole(path: Path) -> bool:
    """Whether the file is one complete pickle; nothing in it is run."""
    with open(path, "rb") as file:
        try:
            *_, last = pickletools.genops(file)
        except (ValueError, EOFError):
            return False
        return last[0].name == "STOP" and file.read() == b""


def crash_save(mailman: Mailman21, where: str) -> int:
    """A save of the list `test` that dies at `where`; answers the writer's pid."""
    assert mailman.save_list("info = 'first'\n").returncode == 0
    source = mailman.directory / "second"
    source.write_text("info = 'second'\n")
    writer = mailman.spawn(
        [mailman.prefix / "bin" / "config_list", "-i", source, "test"],
        environment={CRASH: f"save:{where}:test"},
    )
    assert writer.wait(20) == -signal.SIGKILL
    return writer.pid


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("create", {"config.pck", "config.pck.last", "tmp"}),
        ("write", {"config.pck", "config.pck.last", "tmp"}),
        ("unlink-last", {"config.pck", "tmp"}),
        ("keep-last", {"config.pck", "config.pck.last", "tmp"}),
        ("rename", {"config.pck", "config.pck.last"}),
    ],
)
def test_save_that_dies_leaves_the_agreed_files(
    mailman: Mailman21, where: str, left: set[str]
) -> None:
    pid = crash_save(mailman, where)
    files = list_files(mailman)
    assert set(files) == left
    assert b"second" in files["config.pck"].read_bytes() or where != "rename"
    assert b"first" in files["config.pck"].read_bytes() or where == "rename"
    if "tmp" in left:
        assert files["tmp"].name == f"config.pck.tmp.{mailman.host}.{pid}"
        assert whole(files["tmp"]) == (where != "create")
    if where == "keep-last":
        assert files["config.pck"].samefile(files["config.pck.last"])
    # The list's lock is left too, as a dead process leaves it.
    lock = mailman.list_lock()
    assert links(lock) == 2
    assert lock.read_text() == f"{lock}.{mailman.host}.{pid}.0"


def test_old_order_of_a_save_leaves_no_config(make_installation: Make) -> None:
    """Before 2.1.20 config.pck was renamed to .last: only the stand-in can show that."""
    mailman = make_installation("standin", settings="STANDIN_SAVE_RENAMES = True\n")
    crash_save(mailman, "keep-last")
    files = list_files(mailman)
    assert set(files) == {"config.pck.last", "tmp"}
    assert whole(files["tmp"])
    assert b"first" in files["config.pck.last"].read_bytes()


def test_torn_save_is_no_whole_pickle(make_installation: Make) -> None:
    """The stand-in can die in the middle of the write too."""
    mailman = make_installation("standin")
    crash_save(mailman, "half")
    files = list_files(mailman)
    assert set(files) == {"config.pck", "config.pck.last", "tmp"}
    assert files["tmp"].stat().st_size > 0
    assert not whole(files["tmp"])


def test_saved_list_is_one_whole_pickle(mailman: Mailman21) -> None:
    assert mailman.save_list("info = 'changed'\n").returncode == 0
    files = list_files(mailman)
    assert set(files) == {"config.pck", "config.pck.last"}
    assert whole(files["config.pck"])
    settings = pickle.loads(files["config.pck"].read_bytes(), encoding="latin-1")
    assert settings["info"] == "changed"
    assert stat.S_IMODE(files["config.pck"].stat().st_mode) == 0o660
    assert names(mailman.lock_dir) == []


@pytest.mark.parametrize("damage", ["empty", "truncated", "missing"])
def test_damaged_list_is_mended_from_last(mailman: Mailman21, damage: str) -> None:
    mailman.save_list("info = 'first'\n")
    mailman.save_list("info = 'second'\n")
    files = list_files(mailman)
    last = files["config.pck.last"].read_bytes()
    config = files["config.pck"]
    if damage == "missing":
        config.unlink()
    else:
        content = config.read_bytes()
        config.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    # Opening the list mends it; this save fails on its input, after that.
    mailman.save_list("subject_prefix = '[mended]'\n")
    files = list_files(mailman)
    assert files["config.pck.safety"].read_bytes() == last
    assert ("config.pck.corrupt" in files) == (damage != "missing")
    assert b"first" in files["config.pck"].read_bytes()
    assert names(mailman.lock_dir) == []


def test_list_with_both_files_damaged_stops_a_start(mailman: Mailman21) -> None:
    directory = mailman.lists_dir / "mailman"
    (directory / "config.pck").write_bytes(b"")
    (directory / "config.pck.last").write_bytes(b"")
    finished = mailman.start_by_hand(wait=False)
    assert finished.returncode == 1
    assert names(mailman.lock_dir) == []
