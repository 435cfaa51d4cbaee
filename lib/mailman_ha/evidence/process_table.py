"""All processes of this host, through psutil, and signals that can only hit the one meant."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

try:
    import psutil
except ModuleNotFoundError:
    # Agents start with -S, without which a monitor would cost twice as much; the distribution's
    # packages are put on the path only here.
    import site

    site.main()
    import psutil

from mailman_ha.evidence import process_identity
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.ocf.record import record


@record
class Process:
    """One process as it was when the table was read."""

    stat: ProcessStat
    arguments: tuple[str, ...]
    uid: int
    cwd: str

    @property
    def pid(self) -> int:
        return self.stat.pid


def read_all(
    wanted: Callable[[Sequence[str]], bool] | None = None,
) -> tuple[Process, ...]:
    """Every process of this host that has arguments: kernel threads and zombies have none.

    `wanted` may sort out by the arguments: what else there is to know of a process costs as much
    again, and most processes are strangers.
    """
    found = []
    for one in psutil.process_iter():
        # The start is read before the arguments and again after them: a pid that changed hands
        # in between is left out rather than described with two processes' halves.
        stat = process_identity.read(one.pid)
        if stat is None:
            continue
        try:
            arguments = _arguments(one, stat)
            if not arguments or (wanted is not None and not wanted(arguments)):
                continue
            uid = one.uids().effective
        except psutil.Error:
            continue
        try:
            cwd = one.cwd()
        except (psutil.Error, OSError):
            cwd = ""
        after = process_identity.read(one.pid)
        if after is None or after.started_ticks != stat.started_ticks:
            continue
        found.append(Process(after, arguments, uid, cwd))
    return tuple(found)


def _arguments(one: psutil.Process, stat: ProcessStat) -> tuple[str, ...]:
    """The arguments of a process. In the midst of exec it has none for a moment, and a runner
    that is just being started must not be missed; kernel threads and zombies never have any.

    (Session 0 would not tell them apart: in a container it is also that of a process whose
    session began outside.)
    """
    for _ in range(10):
        arguments = tuple(one.cmdline())
        if arguments or stat.kernel_thread or stat.ended:
            break
        time.sleep(0.001)
    return arguments


def send(process: ProcessStat, number: signal.Signals) -> bool:
    """Send a signal to this very process; False where it has ended.

    A pidfd is opened first and the identity checked after, so that a pid reused in between is
    never hit. Raises PermissionError where it is not ours to signal.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:
        return _send_by_pid(process, number)  # a kernel before 5.3
    try:
        if not process_identity.is_alive(process.pid, process.started_ticks):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _send_by_pid(process: ProcessStat, number: signal.Signals) -> bool:
    if not process_identity.is_alive(process.pid, process.started_ticks):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
