"""Ending an installation's processes on this host: master and orphaned runners, TERM before KILL.

What to do next is decided by :func:`next_step`, a pure function of the processes that are left,
what has been signalled and the time. Nothing here touches the share: it may be gone or hung.
"""

from __future__ import annotations

import signal
import time
from collections import Counter

from mailman_ha.evidence import process_table
from mailman_ha.ocf.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.mailman.processes import MailmanProcess, MailmanProcesses, Role
    from mailman_ha.ocf.call import Call

    Identity = tuple[int, int]

#: A runner whose master ended has had its TERM from the master; a second one would cut short a
#: Mailman 3 runner that is just putting its message aside (contract, section 5). It gets this
#: long (seconds) before it counts as forgotten.
FORWARDED = 5.0

#: So many runners of one slice a master may have had since it was told to end; as many for each
#: that it then had, where titles do not tell the slice. One that starts still more never ends: 2.1
#: starts a runner anew, without limit, whose program is gone with the share, for Python exits then
#: with the status that means a restart (contract, section 2).
RUNNERS_OF_A_SLICE = 3

#: How often the table is read while waiting (seconds).
POLL = 0.1


@record
class Signalled:
    """What was sent so far. Processes are named by (pid, start); times are monotonic seconds.

    `started` is every runner that a master was seen to have since it was told to end, by its role
    when it was first seen; `had` are the roles of those that were seen first.
    """

    terminated: frozenset[Identity] = frozenset()
    master_terminated: bool = False
    master_gone_at: float | None = None
    started: frozenset[tuple[Role, Identity]] = frozenset()
    had: tuple[Role, ...] = ()

    def having_seen(self, left: MailmanProcesses) -> Signalled:
        """The same, with the runners of these masters. The REST server's workers are none: they
        look like it, but are its children."""
        masters = {one.pid for one in left.masters}
        # A runner of Mailman 3 may set its title, and so change its role, between two looks.
        known = {one for _, one in self.started}
        seen = {
            (one.role, identity(one)) for one in left.runners
            if one.process.stat.parent in masters and identity(one) not in known
        }
        return replace(
            self, started=self.started | seen, had=self.had or tuple(role for role, _ in seen)
        )

    def master_never_ends(self) -> bool:
        """Whether a master has started more runners of one slice than any that ends would."""
        had = Counter(self.had)
        started = Counter(role for role, _ in self.started)
        return any(
            count > RUNNERS_OF_A_SLICE * max(had[role], 1) for role, count in started.items()
        )


@record
class Step:
    """What to do next: whom to send TERM (and CONT, where stopped) and whom KILL."""

    terminate: tuple[MailmanProcess, ...] = ()
    kill: tuple[MailmanProcess, ...] = ()
    done: bool = False


def identity(one: MailmanProcess) -> Identity:
    return (one.process.stat.pid, one.process.stat.started_ticks)


def next_step(left: MailmanProcesses, sent: Signalled, now: float, kill_from: float) -> Step:
    """Decide on the next step at `now`; from `kill_from` on (both monotonic seconds) by KILL.

    The master first, always: it starts a runner anew that dies before it (contract, section 2).
    Runners are left to the master that was told to stop; alone they get their own TERM.
    """
    if not left:
        return Step(done=True)
    if now >= kill_from:
        return Step(kill=left.masters + left.runners)
    if left.masters:
        if sent.master_never_ends():
            return Step(kill=left.masters)
        return Step(
            terminate=tuple(one for one in left.masters if identity(one) not in sent.terminated)
        )
    told_by_master = (
        sent.master_terminated
        and sent.master_gone_at is not None
        and now < sent.master_gone_at + FORWARDED
    )
    if told_by_master:
        return Step()
    return Step(
        terminate=tuple(one for one in left.runners if identity(one) not in sent.terminated)
    )


def end_all(
    call: Call, find: Callable[[], MailmanProcesses], reserve: float
) -> tuple[MailmanProcesses, bool]:
    """End what `find` finds until nothing is left or the deadline is near.

    KILL is used when no more than `reserve` seconds remain of the action's time, and on a master
    that never ends. Returns what is still there (nothing: done), and whether anything had to be
    killed.
    """
    sent = Signalled()
    killed: set[Identity] = set()
    kill_from = time.monotonic() + max(call.deadline.remaining() - reserve, 0.0)
    while True:
        left = find()
        call.deadline.doing(
            "waiting for Mailman to end: " + ", ".join(one.describe() for one in left.all[:8])
        )
        now = time.monotonic()
        if sent.master_terminated and sent.master_gone_at is None and not left.masters:
            sent = replace(sent, master_gone_at=now)
        if sent.master_terminated:
            sent = sent.having_seen(left)
        step = next_step(left, sent, now, kill_from)
        if step.done:
            return left, bool(killed)
        for one in step.terminate:
            call.log.info(f"sending SIGTERM to {one.describe()}")
            process_table.send(one.process.stat, signal.SIGTERM)
            # A stopped process would never hear it.
            process_table.send(one.process.stat, signal.SIGCONT)
        if step.terminate:
            sent = replace(
                sent,
                terminated=sent.terminated | {identity(one) for one in step.terminate},
                master_terminated=sent.master_terminated or bool(left.masters),
            )
        for one in step.kill:
            if identity(one) not in killed:
                call.log.warning(f"sending SIGKILL to {one.describe()}")
                killed.add(identity(one))
            process_table.send(one.process.stat, signal.SIGKILL)
        if not call.deadline.sleep(POLL):
            return find(), bool(killed)
