"""One process of this host, told apart from any other that ever has the same pid.

A pid alone names nobody: it is reused. Pid *and* start time (clock ticks since boot, from
``/proc/PID/stat``) name one process for as long as the host is up. This module is on the
monitor's light path and reads /proc itself; tables of all processes come from
:mod:`.process_table`.
"""

from __future__ import annotations

import os
import time

from mailman_ha.ocf.record import record

_TICKS = os.sysconf("SC_CLK_TCK")

#: States in which a process no longer runs: zombie, dead, and "dead" as older kernels write it.
_ENDED = frozenset("ZXx")

#: PF_KTHREAD in the flags of /proc/PID/stat (the kernel's include/linux/sched.h).
_KERNEL_THREAD = 0x00200000


@record
class ProcessStat:
    """What /proc/PID/stat says. `started_ticks` is in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started_ticks: int
    kernel_thread: bool = False

    @property
    def ended(self) -> bool:
        """Whether it only waits to be reaped."""
        return self.state in _ENDED

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by SIGSTOP (T); a traced process (t) is not meant."""
        return self.state == "T"

    def started_at(self) -> float:
        """Start in seconds since the epoch, by the clock as it is set now."""
        return booted_at() + self.started_ticks / _TICKS


def read(pid: int) -> ProcessStat | None:
    """The process `pid`, or None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold any character.
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return ProcessStat(
        pid, fields[0].decode("ascii", "replace"), int(fields[1]), int(fields[2]),
        int(fields[3]), int(fields[19]), bool(int(fields[6]) & _KERNEL_THREAD),
    )


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process with this pid and this start still runs (a zombie does not)."""
    found = read(pid)
    return found is not None and found.started_ticks == started_ticks and not found.ended


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments of process `pid`; empty where it is gone or has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(65536)
    except OSError:
        return ()
    return tuple(os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def catches(pid: int, number: int) -> bool:
    """Whether the process `pid` has a handler for the signal `number`; False where it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except OSError:
        pass
    return False


def booted_at() -> float:
    """When this host booted, in seconds since the epoch by the clock as it is set now.

    The two clocks are read one after the other; a pause between the two readings would look like
    a clock that was set, so of a few tries the quickest counts.
    """
    quickest = booted = 0.0
    for _ in range(5):
        before = time.time()
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        took = time.time() - before
        if not booted or 0 <= took < quickest:
            quickest, booted = took, before + took / 2 - since_boot
        if 0 <= quickest < 0.0001:
            break
    return booted


def boot_id() -> str:
    """The kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def exists(pid: int) -> bool:
    """Whether any process has this pid, zombies included; true also where /proc hides it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
