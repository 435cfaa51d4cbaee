"""The light monitor: does every lock belong to a living process of this very host?

That is how it is nearly always, and then there is nothing to judge. Anything else, and anything
unclear, is left to the full monitor.
"""

from __future__ import annotations

import os

from mailman_ha.agents.list_lock_janitor import state_file
from mailman_ha.evidence import process_identity
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.ocf import codes, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.locks.directory import LockDirectory
    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: Mapping[str, str], deadline: Deadline) -> int | None:
    """SUCCESS where no lock in the directory asks for a closer look; None where one does."""
    duty = state_file.read(
        state_file.path(
            environment.state_directory(environ),
            environment.instance(environ, "list-lock-janitor"),
        )
    )
    if duty is None:
        return None
    deadline.doing(f"reading the lock directory {duty.lock_dir}")
    try:
        with ActingAs(duty.uid, duty.gid):
            listing = lock_directory.read(duty.lock_dir, duty.format, duty.master_lock)
            touched = _touched(listing)
    except OSError:
        return None
    if listing.orphans or listing.odd or touched is None:
        return None
    for lock, changed_at in zip(listing.locks, touched):
        if len(lock.claims) != 1 or not lock.owners:
            return None
        owner = lock.owners[-1]
        if owner.host not in duty.own_hosts:
            return None
        found = process_identity.read(owner.pid)
        if found is None or found.ended or found.started_at() > changed_at:
            return None
    return codes.SUCCESS


def _touched(listing: LockDirectory) -> list[float] | None:
    """When each lock was last touched (seconds since the epoch); None where one has gone."""
    directory = lock_directory.open_lock_directory(listing.path)
    try:
        return [
            os.stat(lock.name, dir_fd=directory, follow_symlinks=False).st_ctime
            for lock in listing.locks
        ]
    except OSError:
        return None
    finally:
        os.close(directory)
