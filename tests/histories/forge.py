"""Makes nodes: namespaces of processes, of host name and of /proc, with an init that starts what it
is told to.  Killing the init is the power cut: the kernel takes everything in the node with it.

    python -m tests.histories.forge DESCRIPTOR

Forked from one small process, so a node costs a few milliseconds and a claimant one.
"""

from __future__ import annotations

import ctypes
import gc
import json  # noqa: F401 - so that no sweep has to load it anew
import os
import signal
import socket
import sys
import time

from mailman_ha.agents import lock_evidence
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log

from tests.histories import boundaries, claimant, sweeper
from tests.histories.line import Ended, Line
from tests.histories.schedule import install_clock, shift_clock

_CLONE = 0x00020000 | 0x04000000 | 0x20000000  # mount, uts, pid
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(descriptor: int) -> None:
    line = Line.of_descriptor(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    install_clock()
    claimant.make_impatient()
    for module in (*claimant.MODULES, *sweeper.MODULES):
        boundaries.of(module)  # once, and not in each process
    gc.freeze()
    while True:
        try:
            (host, gid), (end,) = line.hear()
        except Ended:
            return
        if os.fork() == 0:
            line.close()
            try:
                _power_supply(end, host, gid)
            finally:
                os._exit(1)
        os.close(end)


def _power_supply(end: int, host: str, gid: int) -> None:
    """Starts the node's init, and keeps the line open until all of the node is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _check(_LIBC.unshare(_CLONE))
    socket.sethostname(host)
    init = os.fork()
    if init == 0:
        try:
            _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
            _check(_LIBC.mount(b"proc", b"/proc", b"proc", 0, None))
            _Init(Line.of_descriptor(end), gid).serve()
        except Ended:
            pass
        finally:
            os._exit(0)
    line = Line.of_descriptor(end)
    line.tell(("booted", init))
    os.waitpid(init, 0)
    os._exit(0)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class _Init:
    """The first process of a node."""

    def __init__(self, line: Line, gid: int) -> None:
        self._line = line
        self._gid = gid
        # Against the kernel's boot: that is how times of boot and of starts are compared.
        self._booted_at = time.clock_gettime(time.CLOCK_BOOTTIME)

    def serve(self) -> None:
        while True:
            (order, *arguments), descriptors = self._line.hear()
            answer = getattr(self, f"do_{order}")(*arguments, *descriptors)
            self._line.tell(answer)

    def do_spawn(self, pid: int | None, uid: int, end: int) -> int:
        """A claimant of the user `uid`, with the pid wanted where that is free."""
        if pid is not None:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        return self._fork(end, lambda line: claimant.serve(line, uid, self._gid))

    def do_sweep(self, order: sweeper.Order, end: int) -> int:
        return self._fork(end, lambda line: sweeper.serve(line, order, self._booted_at))

    def _fork(self, end: int, work: object) -> int:
        child = os.fork()
        if child == 0:
            try:
                self._line.close()
                work(Line.of_descriptor(end))  # type: ignore[operator]
            finally:
                os._exit(0)
        os.close(end)
        return child

    def do_kill(self, pid: int) -> bool:
        """End a process and wait until it is gone, with its pid."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        os.waitpid(pid, 0)
        return True

    def do_probe(self, state: str) -> None:
        """The part of a probe that is about locks."""
        lock_evidence.note_clock(Call(
            action="monitor", instance="janitor", parameters={}, deadline=Deadline(20.0),
            log=Log({"HA_LOGFACILITY": "none"}), node=None, state_path=state, is_probe=True,
        ))

    def do_clock(self, shift: float) -> None:
        shift_clock(shift)


if __name__ == "__main__":
    main(int(sys.argv[1]))
