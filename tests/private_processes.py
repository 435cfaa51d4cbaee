"""The processes that belong to one private directory of a test, found in /proc, and their end.

A process belongs to a directory when a word of its command line or its working directory lies in
it, or when its environment carries MARK with the directory's name.  The names are random, so no
process of anybody else is ever meant.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "MAILMAN_HA_TEST_DIRECTORY"


@dataclass(frozen=True)
class PrivateProcess:
    """One living process (zombies are none) as /proc showed it."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks since boot: pid and this together name one process for good."""
    state: str
    arguments: tuple[str, ...]
    directory: str

    def alive(self) -> bool:
        now = read_process(self.pid)
        return now is not None and now.started == self.started

    def gone(self) -> bool:
        """Whether not even a zombie is left.  Init may take a second to reap an orphan, and until
        then kill(2) still finds the pid."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return True
        return int(fields[19]) != self.started

    def catches(self, number: int) -> bool:
        """Whether it has installed a handler for the signal `number`."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        for line in status.splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def send(self, number: int) -> None:
        """Signal this very process, never another one that got its pid; gone is no error."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


def read_process(pid: int) -> PrivateProcess | None:
    """The process `pid`, or None where there is none (any more) or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()
        state = fields[0].decode()
        if state in "ZX":
            return None
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return None
    try:
        directory = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        directory = ""
    return PrivateProcess(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
        state=state,
        arguments=tuple(map(os.fsdecode, words)),
        directory=directory,
    )


def processes_of(top: Path) -> list[PrivateProcess]:
    """All processes that belong to the directory `top`, but for this one."""
    return sorted(_belonging(str(top)), key=lambda process: process.pid)


def _belonging(top: str) -> Iterator[PrivateProcess]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _belongs(name, os.fsencode(top)):
            process = read_process(int(name))
            if process is not None:
                yield process


def _belongs(pid: str, top: bytes) -> bool:
    """The cheap looks first: this runs over every process of the machine, many times a second."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not words:
            return False  # the kernel's own, or a zombie
        if top in words and re.search(re.escape(top) + rb"(?!\w)", words):
            return True
        directory = os.readlink(f"/proc/{pid}/cwd".encode())
        if directory == top or directory.startswith(top + b"/"):
            return True
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    mark = os.fsencode(MARK) + b"=" + top
    return any(word == mark or word.startswith(mark + b"/") for word in environment)


def end_processes_of(top: Path, timeout: float = 20.0) -> None:
    """SIGKILL until none is left: parents first, so that no master starts a runner again.

    Returns when the pids of those that nobody waits for are free too.  TimeoutError names those
    that live on after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    ended: dict[int, PrivateProcess] = {}
    while True:
        left = processes_of(top)
        ended.update((process.pid, process) for process in left)
        if not left and all(process.gone() or _our_child(process) for process in ended.values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of {top} outlive SIGKILL: {left or ended}")
        for process in sorted(left, key=lambda process: process.pid != process.session):
            process.send(signal.SIGKILL)
        time.sleep(0.02)


def _our_child(process: PrivateProcess) -> bool:
    """Whether this process has to reap it, which is its owner's part, not this module's."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[1]) == os.getpid()
