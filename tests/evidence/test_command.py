"""Programs that fail, hang, flood and leave daemons behind: the run is over in time, always."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailman_ha.evidence import command
from mailman_ha.evidence.command import CommandResult

from tests.installations import PrivateSpace
from tests.private_processes import end_processes_of, processes_of


@pytest.fixture
def place(private_space: PrivateSpace) -> Iterator[Path]:
    """A directory whose processes are ended afterwards."""
    path = private_space.new_directory()
    yield path
    end_processes_of(path)


@pytest.fixture
def script(place: Path) -> Callable[[str], str]:
    """Writes a shell script and returns its path."""

    def write(text: str, name: str = "program") -> str:
        path = place / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write


def timed(bound: float, *arguments: object, **named: object) -> CommandResult:
    began = time.monotonic()
    result = command.run(*arguments, **named)  # type: ignore[arg-type]
    took = time.monotonic() - began
    assert took < bound, f"took {took:.1f} s"
    return result


def test_output_errors_and_status_are_told_apart(script: Callable[[str], str]) -> None:
    result = timed(5, [script("echo out; echo err >&2; exit 3")], 5.0)
    assert result == CommandResult("program", 3, b"out\n", b"err\n")
    assert result.complaint() == "program ended with status 3: err"


@pytest.mark.parametrize("what, missing", [
    ("no such program", True), ("no interpreter", True), ("a directory", False),
    ("no permission", False), ("no program at all", False),
])
def test_what_cannot_be_run_is_said_and_not_raised(
    place: Path, script: Callable[[str], str], what: str, missing: bool
) -> None:
    path = str(place / "nothing")
    if what == "no interpreter":
        path = script("")
        Path(path).write_text("#!/nonexistent/python2\n")
    elif what == "a directory":
        path = str(place)
    elif what == "no permission":
        path = script("")
        os.chmod(path, 0o644)
    elif what == "no program at all":
        path = script("")
        Path(path).write_bytes(b"\x7fELF rubbish")
    result = timed(5, [path], 5.0)
    assert result.code is None and result.missing == missing
    assert "cannot be run" in result.complaint() and result.complaint().isprintable()


def test_program_that_hangs_is_killed_with_all_it_started(
    place: Path, script: Callable[[str], str]
) -> None:
    path = script(f"trap '' TERM INT HUP\ncd {place}\nsleep 60 & sleep 60 & wait; sleep 60")
    result = timed(2.0, [path], 0.4)
    assert result.code is None
    assert result.complaint() == "program did not end within 0.4 s and was killed"
    give_up_at = time.monotonic() + 2
    while processes_of(place) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert processes_of(place) == []


def test_stopped_program_is_killed_in_time(script: Callable[[str], str]) -> None:
    assert timed(2.0, [script("kill -STOP $$; echo never")], 0.3).code is None


def test_daemon_that_keeps_the_streams_open_does_not_keep_us(
    place: Path, script: Callable[[str], str]
) -> None:
    """Mailman 3's start does that (facts, section 1); the daemon is meant to live on."""
    path = script(f"cd {place}; echo started; setsid sleep 60 &\nexit 0")
    result = timed(2.0, [path], 10.0)
    assert (result.code, result.output) == (0, b"started\n")
    give_up_at = time.monotonic() + 5
    while time.monotonic() < give_up_at:
        daemons = [one.arguments for one in processes_of(place)]
        if daemons == [("sleep", "60")]:  # before, setsid is about to become it
            break
        time.sleep(0.01)
    assert daemons == [("sleep", "60")]


def test_flood_is_read_up_to_a_limit(script: Callable[[str], str]) -> None:
    size = command.OUTPUT_LIMIT + 1_000_000
    result = timed(10, [script(f"head -c {size} /dev/zero")], 10.0)
    assert result.code == 0 and len(result.output) == command.OUTPUT_LIMIT


@pytest.mark.parametrize("stream", ["1", "2"])
@pytest.mark.parametrize("amount", ["head -c 100000000 /dev/zero; sleep 60", "yes"])
def test_flood_without_end_is_ended_before_it_fills_memory(
    script: Callable[[str], str], amount: str, stream: str
) -> None:
    """What a program prints lies in memory: here as long as the test runs 10 s."""
    result = timed(5.0, [script(f"exec >&{stream}; {amount}")], 10.0)
    assert result.code is None
    assert "printed more than 32 MiB and was killed" in result.complaint()
    assert len(result.output) <= command.OUTPUT_LIMIT


def test_nothing_can_be_typed_into_it(script: Callable[[str], str]) -> None:
    assert timed(5, [script("cat; echo over")], 5.0).output == b"over\n"


def test_only_a_bare_environment_is_handed_on(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCF_RESKEY_secret", "x")
    monkeypatch.setenv("PYTHONPATH", "/hostile")
    path = script("/usr/bin/env")
    lines = timed(5, [path], 5.0, environment={"MORE": "1"}).output.decode().split()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {"PATH", "LC_ALL", "MORE"}
    monkeypatch.delenv("PATH")
    assert b"PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in timed(5, [path], 5.0).output


def test_it_runs_in_a_session_of_its_own_without_our_files(script: Callable[[str], str]) -> None:
    with open("/etc/passwd", "rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        result = timed(5, [script(f"echo $$; cut -d' ' -f6 /proc/$$/stat; pwd; "
                                  f"test ! -e /proc/self/fd/{ours.fileno()}")], 5.0)
    assert result.code == 0, "a file of ours was handed on"
    pid, session = result.output.split()[:2]
    assert session == pid, "it leads a session of its own"
    assert result.output.endswith(b"/\n")


def test_as_another_user_it_has_that_users_rights_and_no_other(
    script: Callable[[str], str]
) -> None:
    result = timed(5, [script("id -u; id -g; id -G")], 5.0, uid=65534, gid=65534)
    assert result.output.split() == [b"65534", b"65534", b"65534"]


def test_what_it_said_is_one_harmless_line(script: Callable[[str], str]) -> None:
    path = script(r"printf 'first\n\033[2J\377bad\n' >&2; exit 1")
    complaint = timed(5, [path], 5.0).complaint()
    assert complaint == "program ended with status 1: \\x1b[2J\\xffbad"


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_without_time_left_it_is_over_at_once(
    script: Callable[[str], str], seconds: float
) -> None:
    assert timed(2.0, [script("sleep 60")], seconds).code is None


def test_program_is_killed_when_the_wait_is_interrupted(
    place: Path, script: Callable[[str], str]
) -> None:
    """SIGTERM from Pacemaker raises in the midst of the wait."""
    path = script(f"cd {place}; sleep 60")
    pid = os.fork()
    if pid == 0:
        class Ended(BaseException):
            pass

        def end(*_: object) -> None:
            raise Ended

        signal.signal(signal.SIGTERM, end)
        try:
            command.run([path], 30.0)
        except Ended:
            os._exit(7)
        os._exit(1)
    give_up_at = time.monotonic() + 5
    while not processes_of(place) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    give_up_at = time.monotonic() + 5  # killed is not yet gone
    while processes_of(place) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert processes_of(place) == []


def test_program_is_killed_at_whatever_moment_of_its_start_a_signal_comes(
    place: Path, script: Callable[[str], str]
) -> None:
    path = script(f"cd {place}; sleep 60")
    pid = os.fork()
    if pid == 0:
        class Ended(BaseException):
            pass

        def end(*_: object) -> None:
            raise Ended

        signal.signal(signal.SIGALRM, end)
        ended = 0
        for number in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 * (number + 1))
                command.run([path], 30.0)
            except Ended:
                ended += 1
        os._exit(7 if ended == 100 else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    time.sleep(0.3)  # one that was forgotten would be there by now
    assert processes_of(place) == []


def test_no_zombie_and_no_open_file_is_left(script: Callable[[str], str]) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for text, seconds in (("exit 0", 5.0), ("sleep 60", 0.1)):
        command.run([script(text)], seconds)
    assert set(os.listdir("/proc/self/fd")) == before
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "stat=,comm="], capture_output=True, text=True,
        check=False,
    ).stdout
    assert "program" not in children
