"""Telling Mailman 3's runners to stop so that no message is lost, put aside or half recorded.

On SIGTERM a Mailman 3 runner breaks off wherever it is (contract, section 5): a message in work
goes to the shunt queue, one that is just being read to the bad queue, and what a finished one
changed in the database is forgotten where it was not committed yet. Only a sleeping runner loses
nothing. So before the master is told to stop, the servers that take mail in are, and then each
runner when it sleeps. One that never does, since its queue never runs empty, is told at the moment
that does the least harm, and what it put aside for that is brought back to its queue.

Runs in a child of `stop`, for it reads the queues and the share may hang.
"""

from __future__ import annotations

import heapq
import os
import signal
import time

from mailman_ha.evidence import process_table
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.ocf.record import record
from mailman_ha.queues import entries, shunted, slices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.mailman.installation import Installation
    from mailman_ha.mailman.processes import MailmanProcess, MailmanProcesses

#: Runners that take mail in from outside; they go first.
INTAKE = ("lmtp", "nntp")

#: Runners whose messages change lists, requests and subscriptions. They remove a message from the
#: queue before they commit: between two messages is when a change gets lost, while a message that
#: is in work is rolled back whole.
COMMITTING = ("in", "command")

#: How long a slice must have been empty, at two looks, for its runner to count as asleep where the
#: kernel does not tell what it waits for (seconds).
QUIET = 0.1

#: How often a busy runner is looked at while its queue does not run empty (seconds).
BETWEEN_LOOKS = 0.02

#: Where a runner puts what it could not read, and what it could not process.
_BAD, _SHUNT = "bad", "shunt"
_PRESERVED = ".psv"

#: A runner takes the oldest entry first; the one it had in hands is one of these.
_OLDEST = 100


@record
class _Told:
    """A runner that was told to stop, the queue it serves, and the entries it may have had in
    hands then."""

    pid: int
    queue: str
    names: tuple[str, ...]


def wants_draining(processes: MailmanProcesses) -> bool:
    """Whether any runner here is of the kind that puts its message aside (2.1's finish theirs)."""
    return any(not one.role.runner.endswith("Runner") for one in processes.runners)


def drain(
    site: Installation, find: Callable[[], MailmanProcesses], patience: float, seconds: float
) -> None:
    """Tell the runners of `site` to stop, each when it loses least by it; at most `seconds`.

    For `patience` seconds each slice may run empty. Returns when the told ones have ended and
    what they put aside is back in its queue. Who could not be told is left to the master. Raises
    OSError where a queue cannot be listed.
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
    put_aside = {name: _names(site, name) for name in (_BAD, _SHUNT)}
    told: list[_Told] = []
    quiet_since: dict[int, float] = {}
    while left and time.monotonic() - began < seconds:
        impatient = time.monotonic() - began > patience
        left = [
            runner
            for runner in left
            if not _told_asleep(site, runner, quiet_since, impatient, told)
            and not (impatient and _told_busy(site, runner, told))
        ]
        time.sleep(BETWEEN_LOOKS)
    ending = {one.pid for one in told}
    while ending & {runner.pid for runner in find().runners}:
        if time.monotonic() - began > seconds:
            break  # it may still put something aside: the master's stop waits for it, we look now
        time.sleep(BETWEEN_LOOKS)
    with ActingAs(site.user.uid, site.user.gid):
        _bring_back(site, told, put_aside)


def bring_back_since(site: Installation, began: float, queue: str = "") -> None:
    """Return to their queues the messages that were shunted since `began` (seconds since the
    epoch), of all queues or only of `queue`: those of runners that no drain could tell in time, so
    that a SIGTERM broke them off.

    One that cannot be processed is put aside again by the next runner. Where the file server's
    clock is behind this host's, one that was shunted less than that after `began` is not seen and
    stays shunted. Raises OSError.
    """
    directory = dict(site.answer.queues).get(_SHUNT, "")

    def is_new(name: str) -> bool:
        try:
            return os.lstat(os.path.join(directory, name)).st_ctime >= began
        except FileNotFoundError:
            return False

    with ActingAs(site.user.uid, site.user.gid):
        names = set(filter(is_new, _names(site, _SHUNT)))
        served = set(dict(site.answer.queues)) - {_BAD, _SHUNT}
        _return_shunted(site, names, served & {queue} if queue else served)


def _told_asleep(
    site: Installation,
    runner: MailmanProcess,
    quiet_since: dict[int, float],
    impatient: bool,
    told: list[_Told],
) -> bool:
    now = time.monotonic()
    waiting, in_work = _slice(site, runner)
    asleep = _sleeps(runner.pid)
    if in_work or asleep is False or (waiting and not (asleep and impatient)):
        quiet_since.pop(runner.pid, None)
        return False
    if now - quiet_since.setdefault(runner.pid, now) < (0 if asleep else QUIET):
        return False
    _tell(site, runner, waiting, told)
    return True


def _told_busy(site: Installation, runner: MailmanProcess, told: list[_Told]) -> bool:
    if not process_table.send(runner.process.stat, signal.SIGSTOP):
        return True
    try:
        waiting, in_work = _slice(site, runner)
        if bool(in_work) != (runner.role.runner in COMMITTING):
            return False
        _tell(site, runner, waiting + in_work, told)
        return True
    finally:
        process_table.send(runner.process.stat, signal.SIGCONT)


def _tell(
    site: Installation, runner: MailmanProcess, names: list[str], told: list[_Told]
) -> None:
    oldest = heapq.nsmallest(_OLDEST, names, key=lambda name: float(name.partition("+")[0]))
    told.append(_Told(runner.pid, runner.role.runner, tuple(oldest)))
    process_table.send(runner.process.stat, signal.SIGTERM)


def _sleeps(pid: int) -> bool | None:
    """Whether the process is in its sleep between two looks at its queue; None: not known."""
    try:
        with open(f"/proc/{pid}/wchan", "rb") as file:
            waits_in = file.read(100)
    except OSError:
        return None
    return b"nanosleep" in waits_in if waits_in.strip(b"0") else None


def _slice(site: Installation, runner: MailmanProcess) -> tuple[list[str], list[str]]:
    """The names of what waits in the slice of `runner`, and of what it has in work."""
    waiting: list[str] = []
    in_work: list[str] = []
    for name in _names(site, runner.role.runner):
        entry = entries.parse(name)
        if (
            entry is not None
            and slices.slice_of(entry.digest, runner.role.slices) == runner.role.slice
        ):
            (waiting if entry.extension == entries.WAITING else in_work).append(name)
    return waiting, in_work


def _names(site: Installation, queue: str) -> set[str]:
    directory = dict(site.answer.queues).get(queue)
    if directory is None:
        return set()
    try:
        with ActingAs(site.user.uid, site.user.gid):
            return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _bring_back(site: Installation, told: list[_Told], before: dict[str, set[str]]) -> None:
    """Return to their queues the entries that told runners have put aside since `before`.

    One that is really unreadable or cannot be processed is put aside again by the next runner.
    """
    queues = dict(site.answer.queues)
    had = {name.rpartition(".")[0]: one.queue for one in told for name in one.names}
    for name in _names(site, _BAD) - before[_BAD]:
        stem, dot, extension = name.rpartition(".")
        if dot + extension == _PRESERVED and stem in had:
            path = os.path.join(queues[_BAD], name)
            shunted.put_back(path, queues[had[stem]], stem + entries.WAITING)
    told_queues = {one.queue for one in told}
    _return_shunted(site, _names(site, _SHUNT) - before[_SHUNT], told_queues)


def _return_shunted(site: Installation, names: set[str], origins: set[str]) -> None:
    """Move the shunted `names` back, each that came from one of the queues `origins`."""
    queues = dict(site.answer.queues)
    for name in names:
        entry = entries.parse(name)
        if entry is None or entry.extension != entries.WAITING:
            continue
        path = os.path.join(queues[_SHUNT], name)
        queue = shunted.origin_of(path).queue
        if queue in origins:
            shunted.put_back(path, queues[queue], name)
