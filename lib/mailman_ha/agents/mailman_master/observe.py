"""Observing for mailman-master: one immutable snapshot of what is the case on this node."""

from __future__ import annotations

import os
import time

from mailman_ha.agents import site as agent_site
from mailman_ha.agents.mailman_master import state_file
from mailman_ha.agents.mailman_master.state_file import MasterState
from mailman_ha.agents.site import Absent
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.directory import Inspection, LockFile
from mailman_ha.mailman.installation import WAITING_QUEUES, Installation
from mailman_ha.mailman.processes import MailmanProcesses, RememberedMaster
from mailman_ha.ocf.record import record
from mailman_ha.queues import entries
from mailman_ha.queues.entries import Backlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call


@record
class MasterLock:
    """The master lock as it stands. `holders` are pids of *this* host that a claim on it names,
    `others` the (host, pid) that are not this host's; `claim` is the claim file looked at, None
    where the lock stands alone. `trouble` is set where it could not be read."""

    lock: LockFile | None = None
    claim: Inspection | None = None
    holders: tuple[int, ...] = ()
    others: tuple[tuple[str, int], ...] = ()
    trouble: str = ""


@record
class QueueSight:
    """One queue with its backlog."""

    runner: str
    backlog: Backlog


@record
class Snapshot:
    """What is the case on this node: the installation, the share, processes, lock and queues.

    `share_missing` says why Mailman's data are not here ('' where they are). `queues` is filled
    for level 20 only, `now` in seconds since the epoch.
    """

    site: Installation | Absent
    share_missing: str
    processes: MailmanProcesses
    remembered: MasterState | None
    lock: MasterLock
    queues: tuple[QueueSight, ...] = ()
    now: float = 0.0


def snapshot(call: Call, with_queues: bool = False, starting: bool = False) -> Snapshot:
    """Look at everything that a verdict on this node's Mailman needs.

    The processes come first and without the share, so that a share that hangs cannot hide them
    from the reason that the watchdog gives.
    """
    remembered = state_file.read(state_file.path(call.state_dir, call.instance))
    site = agent_site.find_installation(call)
    if isinstance(site, Absent):
        found = agent_site.own_processes(call, None, as_master(remembered))
        return Snapshot(site, site.why, found, remembered, MasterLock(), now=time.time())
    found = agent_site.own_processes(call, site, as_master(remembered))
    call.deadline.doing(f"looking for the share at {site.lock_dir}")
    if starting:
        agent_site.make_lock_dir(call, site)
    missing = agent_site.share_unusable(site)
    lock = MasterLock() if missing else look_at_master_lock(call, site)
    queues = _look_at_queues(call, site) if with_queues and not missing else ()
    return Snapshot(site, missing, found, remembered, lock, queues, time.time())


def as_master(state: MasterState | None) -> RememberedMaster | None:
    """The remembered state as what tells its processes."""
    return RememberedMaster(state.pid, state.started_ticks, state.uid) if state else None


def look_at_master_lock(call: Call, site: Installation) -> MasterLock:
    """Who holds the master lock: from the directory's listing and the holder's own claim file,
    both of which are right at once over NFS (facts, section 6)."""
    here = agent_site.this_host(call)
    mapped, _ = agent_site.read_host_map(call)
    own_names = {*here.names, *(host for host, node in mapped.items() if node == here.node)}
    call.deadline.doing(f"reading the lock directory {site.lock_dir}")
    with ActingAs(site.user.uid, site.user.gid):
        try:
            listing = lock_directory.read(site.lock_dir, site.format, site.master_lock)
            lock = listing.lock(site.master_lock)
            if lock is None:
                return MasterLock()
            claim = None
            if lock.claims:
                directory = lock_directory.open_lock_directory(site.lock_dir)
                try:
                    claim = lock_directory.inspect(directory, lock.claims[-1])
                finally:
                    os.close(directory)
        except OSError as error:
            return MasterLock(trouble=f"{site.lock_dir} cannot be read: {error.strerror}")
    return MasterLock(
        lock,
        claim,
        tuple(owner.pid for owner in lock.owners if owner.host in own_names),
        tuple((owner.host, owner.pid) for owner in lock.owners if owner.host not in own_names),
    )


def _look_at_queues(call: Call, site: Installation) -> tuple[QueueSight, ...]:
    seen = []
    for runner, _ in site.answer.runners:
        directory = site.queue_directory(runner)
        if directory is None or runner in WAITING_QUEUES:
            continue
        call.deadline.doing(f"listing the queue {directory}")
        try:
            with ActingAs(site.user.uid, site.user.gid):
                seen.append(QueueSight(runner, entries.backlog(directory)))
        except FileNotFoundError:
            continue  # made when the first message is put there
    return tuple(seen)
