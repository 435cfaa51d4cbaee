"""Ending Mailman so that no message stays put aside: Mailman 3's runners are drained, all are
ended, and what that broke off goes back to its queue.

What needs the share is done in a child and for a part of the action's time, since the share may
hang: the end goes on whatever becomes of it.
"""

from __future__ import annotations

import signal
import time

from mailman_ha.agents import bounded_child, drain, mailman_end
from mailman_ha.agents import site as agent_site
from mailman_ha.agents.site import Absent
from mailman_ha.evidence import process_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.mailman.installation import Installation
    from mailman_ha.mailman.processes import MailmanProcesses
    from mailman_ha.ocf.call import Call

#: What is spent at the most on letting runners finish their messages, and on the return of those
#: that were broken off (seconds).
DRAIN_SECONDS = 20.0
RETURN_SECONDS = 5.0


def end(
    call: Call, find: Callable[[], MailmanProcesses], reserve: float, queue: str = ""
) -> tuple[MailmanProcesses, bool]:
    """End what `find` finds, which are the runners of `queue` or of all queues.

    A quarter of the action's time may pass until the first SIGTERM; KILL is used when no more
    than `reserve` seconds remain. Returns what is still there (nothing: done), and whether
    anything had to be killed.
    """
    began = time.time()
    drained = drain.wants_draining(find())
    if drained:
        _drain(call, find)
    left, killed = mailman_end.end_all(call, find, reserve)
    if drained and not left:
        _bring_back(call, began, queue)
    return left, killed


def _drain(call: Call, find: Callable[[], MailmanProcesses]) -> None:
    """Have the runners end between two messages, as far as the time for it allows."""
    call.deadline.doing("waiting for the runners to finish their messages")
    seconds = min(DRAIN_SECONDS, call.deadline.remaining() / 4)
    trouble = _in_child(
        call, seconds, lambda site: drain.drain(site, find, seconds / 2, seconds * 0.9)
    )
    if trouble:
        call.log.warning(f"the runners were not drained: {trouble}")
        for one in find().runners:  # none may stay halted by a drain that was cut off
            process_table.send(one.process.stat, signal.SIGCONT)


def _bring_back(call: Call, began: float, queue: str) -> None:
    """Return what runners that no drain had reached have put aside since `began`."""
    call.deadline.doing("bringing back what the runners put aside")
    seconds = min(RETURN_SECONDS, call.deadline.remaining() / 3)
    trouble = _in_child(call, seconds, lambda site: drain.bring_back_since(site, began, queue))
    if trouble:
        call.log.warning(f"what the runners put aside stays in the shunt queue: {trouble}")


def _in_child(call: Call, seconds: float, work: Callable[[Installation], None]) -> str:
    """Do `work` with the installation, where there is one; '' when it was done, or why not."""

    def with_installation() -> None:
        site = agent_site.find_installation(call)
        if not isinstance(site, Absent):
            work(site)

    return bounded_child.run(with_installation, seconds)
