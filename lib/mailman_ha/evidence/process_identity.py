"""One process of this host, told apart from any other that ever has the same pid.

A pid alone names nobody: it is reused. Pid *and* start time (clock ticks since boot, from
``/proc/PID/stat``) name one process for as long as the host is up. This module is on the
janitor's light path and stands on `posix`; tables of all processes come from
:mod:`.process_table`.
"""

from __future__ import annotations

import posix
import sys

from mailman_ha.evidence.last_seen import ENDED, TICKS, stat_fields
from mailman_ha.evidence.last_seen import booted_at as booted_at
from mailman_ha.evidence.last_seen import is_alive as is_alive
from mailman_ha.ocf.record import record

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

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
        return self.state.encode() in ENDED

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by SIGSTOP (T); a traced process (t) is not meant."""
        return self.state == "T"

    def started_at(self) -> float:
        """Start in seconds since the epoch, by the clock as it is set now."""
        return booted_at() + self.started_ticks / TICKS


def read(pid: int) -> ProcessStat | None:
    """The process `pid`, or None where there is none."""
    fields = stat_fields(pid)
    if not fields:
        return None
    return ProcessStat(
        pid, fields[0].decode("ascii", "replace"), int(fields[1]), int(fields[2]),
        int(fields[3]), int(fields[19]), bool(int(fields[6]) & _KERNEL_THREAD),
    )


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments of process `pid`; empty where it is gone or has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(65536)
    except OSError:
        return ()
    if not raw:
        return ()
    return tuple(part.decode(_ENCODING, _ERRORS) for part in raw.rstrip(b"\0").split(b"\0"))


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


def boot_id() -> str:
    """The kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def exists(pid: int) -> bool:
    """Whether any process has this pid, zombies included; true also where /proc hides it."""
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
