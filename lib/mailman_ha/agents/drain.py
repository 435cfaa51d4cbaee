"""Telling Mailman 3's runners to stop when they hold no message.

On SIGTERM a Mailman 3 runner puts the message it is working on into the shunt queue, where it
waits for a human (contract, section 5): a post accepted and not delivered. Between two messages
the same signal costs nothing. So before the master is told to stop, the servers that take mail in
are, and then each runner at a moment when its slice of the queue has nothing in work.

Runs in a child of `stop`, for it reads the queues and the share may hang.
"""

from __future__ import annotations

import os
import signal
import time

from mailman_ha.evidence import process_table
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.queues import entries, slices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.mailman.installation import Installation
    from mailman_ha.mailman.processes import MailmanProcess, MailmanProcesses

#: Runners that take mail in from outside; they go first.
INTAKE = ("lmtp", "nntp")

#: How long a slice must have been empty, at two looks, for its runner to count as asleep (seconds).
QUIET = 0.1

#: How often a busy runner is looked at while its queue does not run empty (seconds).
BETWEEN_LOOKS = 0.02


def wants_draining(processes: MailmanProcesses) -> bool:
    """Whether any runner here is of the kind that puts its message aside (2.1's finish theirs)."""
    return any(not one.role.runner.endswith("Runner") for one in processes.runners)


def drain(
    site: Installation, find: Callable[[], MailmanProcesses], patience: float, seconds: float
) -> None:
    """Tell the runners of `site` to stop, each when it holds no message; at most `seconds`.

    For `patience` seconds each slice may run empty. After that a runner with a backlog is halted
    for a moment (SIGSTOP); with nothing in work it is told, otherwise it goes on. Who holds a
    message to the end is left to the master. Raises OSError where a queue cannot be listed.
    """
    if site.location.version != VERSION_3:
        return
    began = time.monotonic()
    left = []
    for runner in find().runners:
        if runner.role.runner in INTAKE:
            process_table.send(runner.process.stat, signal.SIGTERM)
        elif site.queue_directory(runner.role.runner) is not None:
            left.append(runner)
    quiet_since: dict[int, float] = {}
    while left and time.monotonic() - began < seconds:
        impatient = time.monotonic() - began > patience
        left = [
            runner
            for runner in left
            if not _told_when_quiet(site, runner, quiet_since)
            and not (impatient and _told_between_messages(site, runner))
        ]
        time.sleep(BETWEEN_LOOKS)


def _told_when_quiet(
    site: Installation, runner: MailmanProcess, quiet_since: dict[int, float]
) -> bool:
    now = time.monotonic()
    if _slice_has(site, runner, (entries.WAITING, entries.IN_WORK)):
        quiet_since.pop(runner.pid, None)
        return False
    if now - quiet_since.setdefault(runner.pid, now) < QUIET:
        return False
    process_table.send(runner.process.stat, signal.SIGTERM)
    return True


def _told_between_messages(site: Installation, runner: MailmanProcess) -> bool:
    if not process_table.send(runner.process.stat, signal.SIGSTOP):
        return True
    try:
        if _slice_has(site, runner, (entries.IN_WORK,)):
            return False
        process_table.send(runner.process.stat, signal.SIGTERM)
        return True
    finally:
        process_table.send(runner.process.stat, signal.SIGCONT)


def _slice_has(
    site: Installation, runner: MailmanProcess, extensions: tuple[str, ...]
) -> bool:
    directory = site.queue_directory(runner.role.runner)
    if directory is None:
        return False
    try:
        with ActingAs(site.user.uid, site.user.gid):
            names = os.listdir(directory)
    except FileNotFoundError:
        return False
    for name in names:
        entry = entries.parse(name)
        if (
            entry is not None
            and entry.extension in extensions
            and slices.slice_of(entry.digest, runner.role.slices) == runner.role.slice
        ):
            return True
    return False
