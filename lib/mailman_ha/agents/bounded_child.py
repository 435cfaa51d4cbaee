"""Doing something that may hang in a child process, so that the action itself never does.

A share that is gone can hold a process in the kernel where nothing reaches it. What an action
may leave undone (the last sweep of a stop) is done by a child; the parent waits for so long.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from mailman_ha.evidence import process_identity
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_REASON_LIMIT = 4096


def run(work: Callable[[], object], seconds: float) -> str:
    """Do `work` in a child for at most `seconds`; '' when it was done, or why not in words."""
    if seconds <= 0:
        return "no time was left for it"
    # The reason comes back through a file in memory, which no hanging child can keep waiting.
    reason = os.memfd_create("reason")
    try:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException as error:  # whatever it is, the child must end here
                os.write(reason, escape(str(error) or type(error).__name__, 1000).encode())
            finally:
                os._exit(code)
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                if status == 0:
                    return ""
                os.lseek(reason, 0, os.SEEK_SET)
                return os.read(reason, _REASON_LIMIT).decode("ascii", "replace") or (
                    "the child that did it was killed"
                )
            time.sleep(0.01)
        _kill(child)
        return f"it did not end within {seconds:.1f} s (does the share answer?)"
    finally:
        os.close(reason)


def _kill(child: int) -> None:
    """Kill `child` and the programs that it runs: each leads a group of its own (evidence.command)
    and would live on."""
    os.kill(child, signal.SIGSTOP)
    time.sleep(0.01)  # it stands still by now, or hangs in the kernel: it starts no more of them
    for name in os.listdir("/proc"):
        one = process_identity.read(int(name)) if name.isdigit() else None
        if one is not None and one.parent == child:
            for kill in (os.killpg, os.kill):  # it may not lead its group yet
                with contextlib.suppress(OSError):
                    kill(one.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
