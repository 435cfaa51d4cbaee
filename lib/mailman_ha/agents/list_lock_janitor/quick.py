"""The light monitor: does every lock belong to a living process of this very host?

That is how it is nearly always, and then there is nothing to judge. Anything else, and anything
unclear, is left to the full monitor. It takes the lines that `state_file` wrote as they are.

Its cost grows with the number of locks: whether an owner lives can be seen neither from the
directory's times nor from what was seen last, so each lock is looked at, each time.
"""

import posix

from mailman_ha.agents import state_lines
from mailman_ha.evidence import last_seen
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.locks.directory import LockDirectory
    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: "Mapping[str, str]", deadline: "Deadline") -> bool:
    """Whether no lock in the directory asks for a closer look.

    Raises KeyError or ValueError where the state file cannot be understood, OSError where the
    directory cannot be read or changed meanwhile.
    """
    duty = state_lines.of_instance(environ, "list-lock-janitor")
    if duty is None:
        return False
    deadline.doing(f"reading the lock directory {duty['lock_dir']}")
    with ActingAs(int(duty["uid"]), int(duty["gid"])) as acting:
        deadline.watch()
        listing = lock_directory.read(duty["lock_dir"], duty["format"], duty["master_lock"])
        if not _is_in_order(listing, duty["own_hosts"].split()):
            return False
        acting.keep()
    return True


def _is_in_order(listing: "LockDirectory", own_hosts: list[str]) -> bool:
    """Whether each lock is that of a living process here.

    A process that only root may see (hidepid, proc(5)) is none here, and the full monitor looks.
    """
    if listing.orphans or listing.odd:
        return False
    changed = _changed_at(listing)
    started: dict[int, float | None] = {}
    for lock, changed_at in zip(listing.locks, changed):
        # In 2.1 a claim of ours may also be read as that of a host nobody knows: see
        # verdict.known_owners.
        pids = [owner.pid for owner in lock.owners if owner.host in own_hosts]
        if len(lock.claims) != 1 or not pids:
            return False
        for pid in pids:
            if pid not in started:
                started[pid] = last_seen.running_since(pid)
            since = started[pid]
            if since is None or since > changed_at:
                return False
    return True


def _changed_at(listing: "LockDirectory") -> list[float]:
    """When each lock was last touched (seconds since the epoch)."""
    directory = lock_directory.open_lock_directory(listing.path)
    try:
        return [
            posix.stat(lock.name, dir_fd=directory, follow_symlinks=False).st_ctime
            for lock in listing.locks
        ]
    finally:
        posix.close(directory)
