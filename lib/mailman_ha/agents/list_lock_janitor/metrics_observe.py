"""Observing for the metrics: releases, quarantine, queues, processes, and what should run."""

from __future__ import annotations

import os
import time

from mailman_ha.agents import site as agent_site
from mailman_ha.agents.list_lock_janitor.metrics import MOST_SLICES, Observed, QueueSeen
from mailman_ha.agents.qfiles_slice import observe as slice_observe
from mailman_ha.agents.qfiles_slice import state_file as slice_state
from mailman_ha.evidence import cib
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import release_count
from mailman_ha.locks.release_count import ReleaseCount
from mailman_ha.mailman.installation import (
    QUEUES_WITHOUT_RUNNER_3,
    WAITING_QUEUES,
    Installation,
)
from mailman_ha.mailman.processes import RUNNER, MailmanProcess, MailmanProcesses, Role
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record
from mailman_ha.queues import entries
from mailman_ha.queues.entries import Backlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.agents.list_lock_janitor.metrics import Part
    from mailman_ha.agents.lock_sweep import SweepReport
    from mailman_ha.ocf.call import Call

#: What asking for the resources of the CIB may take at the most (seconds).
CIB_SECONDS = 5.0


@record
class Sight:
    """What was observed, how far the evidence log was read (None: it was not), and sentences on
    what could not be looked at."""

    seen: Observed
    releases: ReleaseCount | None
    troubles: tuple[str, ...]


def observe(
    call: Call, site: Installation, report: SweepReport, swept_at: float, before: ReleaseCount
) -> Sight:
    """Look at everything but the locks, of which `report` tells; `before` is the last count of the
    releases. Never raises OSError: what cannot be looked at is left out, and said."""
    troubles: list[str] = []
    releases, whole = _releases(site, before, troubles)
    expected = _expected(call, site, troubles)
    states = slice_state.read_all(call.state_dir)
    found = agent_site.own_processes(call, site, with_slices=True)
    seen = Observed(
        release=site.answer.release,
        lock_dir=site.lock_dir,
        report=report,
        swept_at=swept_at,
        stuck_after=call.seconds("stuck_after"),
        releases=releases if whole else None,
        in_quarantine=_in_quarantine(site, troubles),
        queues=_queues(call, site, expected, troubles),
        expected=expected,
        processes=MailmanProcesses(found.masters, _as_started(found.runners, states)),
        now=time.time(),
    )
    return Sight(seen, releases, tuple(troubles))


def _releases(
    site: Installation, before: ReleaseCount, troubles: list[str]
) -> tuple[ReleaseCount | None, bool]:
    try:
        with ActingAs(site.user.uid, site.user.gid):
            return release_count.count(site.lock_dir, before)
    except OSError as error:
        troubles.append(f"the evidence log cannot be read: {error.strerror}")
        return None, False


def _in_quarantine(site: Installation, troubles: list[str]) -> int | None:
    """How many released files are kept: those whose name begins with the time of the release."""
    try:
        with ActingAs(site.user.uid, site.user.gid):
            directory = os.open(
                os.path.join(site.lock_dir, lock_directory.QUARANTINE),
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
            try:
                return sum(name[:8].isdigit() for name in os.listdir(directory))
            finally:
                os.close(directory)
    except FileNotFoundError:
        return 0
    except OSError as error:
        troubles.append(f"the quarantine cannot be listed: {error.strerror}")
        return None


def _expected(call: Call, site: Installation, troubles: list[str]) -> tuple[Part, ...]:
    """The master's runners, and those of the cluster's qfiles-slice resources on this share. The
    cluster is asked only where the master leaves a queue to others."""
    expected = dict.fromkeys(site.expected_runners())
    by_queue = site.runners_by_queue()
    masters = {runner for runner, _, _ in expected}
    if masters.issuperset(by_queue.values()):
        return tuple(expected)
    try:
        resources = cib.ask(min(CIB_SECONDS, call.deadline.remaining()))
    except NoClusterEvidence as error:
        if not error.none_here or call.node is not None:
            troubles.append(f"which slices are configured is not known: {error}")
        return tuple(expected)
    for resource in resources:
        parameters = dict(resource.parameters)
        runner = by_queue.get(parameters.get("queue", ""))
        if (
            resource.agent == "ocf:mailman:qfiles-slice"
            and runner is not None
            and not resource.disabled
            and slice_observe.same_share(call, site, parameters)
        ):
            slices = slice_observe.slices_of(resource)
            for number in slices.numbers:
                expected[runner, number, slices.count or 1] = None
    return tuple(expected)


def _queues(
    call: Call, site: Installation, expected: tuple[Part, ...], troubles: list[str]
) -> tuple[QueueSeen, ...]:
    """Every queue in the slices that its runners have; one that nobody serves as a whole."""
    counts = {runner: count for runner, _, count in expected}
    seen = []
    for name, directory, runner in _directories(site):
        count = counts.get(runner, 1)
        if count > MOST_SLICES:
            count = 1
        waits = name in WAITING_QUEUES or runner in WAITING_QUEUES
        try:
            with ActingAs(site.user.uid, site.user.gid):
                backlogs = entries.backlogs(directory, count)
        except FileNotFoundError:
            backlogs = (Backlog(),) * count  # made when the first message is put there
        except OSError as error:
            troubles.append(f"{escape(directory)} cannot be listed: {error.strerror}")
            continue
        seen.append(QueueSeen(name, backlogs, waits))
    return tuple(seen)


def _directories(site: Installation) -> list[tuple[str, str, str]]:
    """(name, directory, runner) of each queue, the shunt queue (which has no runner) too."""
    found = [
        (name, directory, runner)
        for name, runner in site.runners_by_queue().items()
        if (directory := site.queue_directory(runner)) is not None
    ]
    shunt = QUEUES_WITHOUT_RUNNER_3[0]
    found += [
        (shunt, directory, "") for name, directory in site.answer.queues if name.lower() == shunt
    ]
    return sorted(found)


def _as_started(
    runners: tuple[MailmanProcess, ...], states: tuple[slice_state.SliceState, ...]
) -> tuple[MailmanProcess, ...]:
    """The runners, those of resources with the slice that each was started for: a process that has
    set its title tells none."""
    known = {state.identity: state for state in states}
    told = []
    for one in runners:
        state = known.get((one.pid, one.process.stat.started_ticks))
        if state is not None:
            role = Role(RUNNER, state.runner, state.slice, state.slices)
            one = MailmanProcess(one.process, role)
        told.append(one)
    return tuple(told)
