"""Logging is compared, byte for byte, with the real ocf_log of the shell agents."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.ocf.log import Log

SHELL_LIBRARY = Path("/usr/lib/ocf/lib/heartbeat/ocf-shellfuncs")
LEVELS = {"err": "error", "warn": "warning", "info": "info", "debug": "debug"}
DATE = re.compile(rb"[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}/[0-9_:/]{14}")
PID = re.compile(rb"\[[0-9]+\]")
MESSAGE = "the lock of host a.example is held; see 'crm_mon' & \"wait\" $HOME `x` *"


@pytest.fixture(scope="module", autouse=True)
def shell_library() -> None:
    """Without the real thing there is nothing to compare with."""
    if not SHELL_LIBRARY.exists():
        pytest.skip(f"there is no {SHELL_LIBRARY}; apt-get install resource-agents")


def shell_command(directory: Path) -> list[str]:
    """A shell agent called `example` that logs MESSAGE at the level it is given."""
    agent = directory / "example"
    agent.write_text(
        f'#!/bin/sh\n. {SHELL_LIBRARY}\ncase $1 in reason) ocf_exit_reason "$2";;'
        ' *) ocf_log "$1" "$2";; esac\n'
    )
    return ["/bin/sh", str(agent)]


def python_command() -> list[str]:
    """The same by our own Log."""
    program = (
        "import os, sys\n"
        "from mailman_ha.ocf.log import Log\n"
        "from mailman_ha.ocf.environment import exit_reason_line\n"
        "log = Log(os.environ, 'example')\n"
        "if sys.argv[1] == 'reason':\n"
        "    log.exit_reason(sys.argv[2])\n"
        "    os.write(2, exit_reason_line(os.environ, sys.argv[2]))\n"
        "else:\n"
        f"    getattr(log, {LEVELS!r}[sys.argv[1]])(sys.argv[2])\n"
    )
    path = os.pathsep.join(sys.path)
    return ["/usr/bin/env", f"PYTHONPATH={path}", sys.executable, "-c", program]


def _normal(said: bytes) -> bytes:
    return PID.sub(b"[PID]", DATE.sub(b"DATE", said))


def _what_it_says(
    command: list[str], level: str, environ: Mapping[str, str], directory: Path, terminal: bool
) -> dict[str, bytes]:
    """All a logger writes: to stderr and to the files of its environment, made comparable."""
    files = {
        name: directory / value
        for name, value in environ.items()
        if name in ("HA_LOGFILE", "HA_DEBUGLOG")
    }
    full = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "OCF_ROOT": "/usr/lib/ocf",
        "OCF_RA_VERSION_MAJOR": "1",
        "OCF_RESOURCE_INSTANCE": "res",
        **environ,
        **{name: str(path) for name, path in files.items()},
    }
    primary, secondary = pty.openpty() if terminal else (-1, -1)
    try:
        done = subprocess.run(
            [*command, level, MESSAGE],
            env=full,
            stdin=secondary if terminal else subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=30,
        )
    finally:
        if terminal:
            os.close(primary)
            os.close(secondary)
    said = {"stdout": done.stdout, "stderr": _normal(done.stderr)}
    for path in set(files.values()):
        said[path.name] = _normal(path.read_bytes()) if path.exists() else b"never written"
        path.unlink(missing_ok=True)
    return said


ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"HA_LOGFACILITY": "none"},
    {"HA_LOGFACILITY": ""},
    {"HA_LOGFILE": "log"},
    {"HA_LOGFILE": "log", "HA_LOGFACILITY": "none"},
    {"HA_DEBUGLOG": "debug"},
    {"HA_LOGFILE": "log", "HA_DEBUGLOG": "debug"},
    {"HA_LOGFILE": "log", "HA_DEBUGLOG": "log"},
    {"HA_LOGFILE": "log", "HA_LOGTAG": "my tag"},
    {"HA_LOGFILE": "log", "HA_DEBUGLOG": "debug", "HA_DATEFMT": "%Y/%m/%d_%T "},
    {"HA_LOGFILE": "log", "HA_DEBUGLOG": "debug", "HA_DATEFMT": "%Y/%m/%d_%T"},
    {"HA_LOGTAG": "my tag"},
]


@pytest.mark.parametrize("terminal", [False, True], ids=["", "terminal"])
@pytest.mark.parametrize("debug", [None, "0", "1"])
@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=lambda environ: ",".join(environ) or "bare")
def test_log_writes_what_ocf_log_writes(
    tmp_path: Path, environ: dict[str, str], debug: str | None, terminal: bool
) -> None:
    if debug is not None:
        environ = {**environ, "HA_debug": debug}
    shell, ours = shell_command(tmp_path), python_command()
    for level in [*LEVELS, "reason"]:
        expected = _what_it_says(shell, level, environ, tmp_path, terminal)
        assert _what_it_says(ours, level, environ, tmp_path, terminal) == expected, level


def test_the_comparison_sees_every_level(tmp_path: Path) -> None:
    """The measure of the test above: the shell does write, and differently at each level."""
    environ = {"HA_LOGFILE": "log", "HA_DEBUGLOG": "debug", "HA_debug": "1"}
    shell = shell_command(tmp_path)
    said = [_what_it_says(shell, level, environ, tmp_path, False) for level in LEVELS]
    assert all(MESSAGE.encode() in one["debug"] for one in said)
    assert len({one["debug"] for one in said}) == len(LEVELS)
    assert said[0]["log"] == b"DATE  example(res)[PID]:    ERROR: " + MESSAGE.encode() + b"\n"


class SystemLog:
    """A system log of our own on /dev/log, for processes in a mount namespace of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "log"))
        self._socket.settimeout(10)
        (directory / "null").touch()

    def close(self) -> None:
        """Be gone."""
        self._socket.close()

    def heard_from(self, command: list[str], environ: Mapping[str, str]) -> bytes:
        """Run a command whose /dev/log this is, and return the one message it sends."""
        here = str(self._directory)
        script = (
            f"mount --bind /dev/null '{here}/null' && mount --rbind '{here}' /dev"
            ' && exec "$@" </dev/null'
        )
        subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "OCF_ROOT": "/usr/lib/ocf",
                "OCF_RA_VERSION_MAJOR": "1",
                "OCF_RESOURCE_INSTANCE": "res",
                **environ,
            },
            check=True,
            capture_output=True,
            timeout=30,
        )
        said = _normal(self._socket.recv(10_000))
        self._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._socket.recv(1)
        self._socket.settimeout(10)
        return said.rstrip(b"\n\0")


@pytest.fixture
def system_log(tmp_path: Path) -> Iterator[SystemLog]:
    """A system log that only this test writes to; it takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root may have a /dev/log of its own")
    directory = tmp_path / "dev"
    directory.mkdir()
    log = SystemLog(directory)
    yield log
    log.close()


@pytest.mark.parametrize("facility", ["daemon", "local3"])
@pytest.mark.parametrize("level", [*LEVELS, "reason"])
def test_system_log_gets_what_ocf_log_sends(
    tmp_path: Path, system_log: SystemLog, level: str, facility: str
) -> None:
    environ = {"HA_LOGFACILITY": facility, "HA_debug": "1"}
    words = [level, "the lock is held"]
    expected = system_log.heard_from([*shell_command(tmp_path), *words], environ)
    assert system_log.heard_from([*python_command(), *words], environ) == expected
    assert b"example(res)[PID]: " in expected


def test_unknown_facility_is_taken_for_daemon(system_log: SystemLog) -> None:
    heard = system_log.heard_from([*python_command(), "err", "x"], {"HA_LOGFACILITY": "nonsense"})
    known = system_log.heard_from([*python_command(), "err", "x"], {"HA_LOGFACILITY": "daemon"})
    assert heard == known


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_exactly_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / f"one-line-{os.getpid()}"
    Log({"HA_LOGFILE": str(file)}, "example").error(text)
    try:
        written = file.read_bytes()
    finally:
        file.unlink()
    assert written.count(b"\n") == 1 and written.endswith(b"\n")
    assert written.decode().rstrip("\n").isprintable()


@pytest.mark.parametrize("place", ["/proc/nowhere/log", "/", "{fifo}", "/dev/full"])
def test_log_that_cannot_be_written_is_passed_over(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    path = place.format(fifo=tmp_path / "fifo")
    Log({"HA_LOGFILE": path, "HA_DEBUGLOG": path}, "example").error("nobody hears this")
