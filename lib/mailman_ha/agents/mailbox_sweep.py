"""Putting aside what a dead process left locked of a list's digests (Mailman 3), so that the posts
of the list are not shunted for ever; those that were come back."""

from __future__ import annotations

import os
import time

from mailman_ha.evidence import mounts
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.lists import mailbox_locks
from mailman_ha.lists.mailbox_locks import HeldMailbox, MailboxLock
from mailman_ha.locks.release import Quarantine, QuarantineError
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.ocf.escape import escape
from mailman_ha.queues import entries, shunted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.evidence.mounts import Mount
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: Mailman gives the lock on a mailbox up before it removes the dot lock: one that is still the same
#: after so long (seconds), with nobody's lock on the mailbox, is nobody's.
LOOK_AGAIN = 1.0


def release_dead(
    call: Call,
    site: Installation,
    around: Callable[[], Surroundings],
    stuck_after: float = float("inf"),
) -> tuple[str, ...]:
    """Put aside every dot lock on a digest's mailbox that no process holds any more, and return the
    messages that were shunted for it to their queue.

    Answers what needs a human: what could not be done, and locks that are held for more than
    `stuck_after` seconds.
    """
    if site.location.version != VERSION_3:
        return ()
    lists_dir = site.answer.lists_dir
    call.deadline.doing(f"looking for locked mailboxes in {lists_dir}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            found = list(mailbox_locks.find(lists_dir))
    except OSError as error:
        return (f"{escape(lists_dir)} cannot be listed: {error.strerror}",)
    if not found or around().maintenance:
        return ()
    mount = mounts.of_path(os.path.realpath(lists_dir), mounts.read())
    if mount is None or mount.keeps_lockf_to_itself:
        return tuple(_unprovable(lock, mount) for lock in found if _age(lock) > stuck_after)
    call.deadline.sleep(LOOK_AGAIN)
    host = around().this_host.node or around().this_host.hostname
    problems = []
    with ActingAs(site.user.uid, site.user.gid):
        try:
            with Quarantine(site.lock_dir, host) as quarantine:
                for lock in found:
                    problem = _release(call, site, quarantine, host, lock)
                    if problem and _age(lock) > stuck_after:
                        problems.append(problem)
        except QuarantineError as error:
            problems.append(str(error))
    return tuple(problems)


def _unprovable(lock: MailboxLock, mount: Mount | None) -> str:
    where = "its mount" if mount is None else f"{escape(mount.point)} ({escape(mount.kind)})"
    return (
        f"{escape(lock.path)} stops the posts of its list, and whether a process on another node "
        f"holds it cannot be told, as {where} may keep locks to each node: make sure "
        "that no Mailman runs elsewhere, move the file away, then: mailman unshunt; NFS: mount "
        "without nolock and local_lock"
    )


def _age(lock: MailboxLock) -> float:
    return time.time() - lock.changed_ns / 1e9


def _release(
    call: Call, site: Installation, quarantine: Quarantine, host: str, lock: MailboxLock
) -> str:
    """Put one dot lock aside if nobody holds it; why not, in words, where it stays."""
    try:
        with HeldMailbox(lock) as held:
            moved_to = quarantine.adopt(held.directory, lock.name, lock.inode)
            quarantine.log(
                {"mailbox_lock": escape(lock.path), "state": "unheld", "by_node": host,
                 "why": "no process has the mailbox locked, on any node",
                 "moved_to": [moved_to]}
            )
    except mailbox_locks.Changed:
        return ""
    except mailbox_locks.InUse as reason:
        return (
            f"{escape(lock.path)} stops the posts of its list: {reason}; `fuser -v` of "
            f"{escape(lock.mailbox)} shows who, on the node that has it; end that process"
        )
    except FileNotFoundError:
        return ""  # no mailbox: the next post makes one, and then this is looked at again
    except OSError as error:
        return (
            f"{escape(lock.path)} stops the posts of its list and could not be put aside: "
            f"{error.strerror}; where `fuser -v` of {escape(lock.mailbox)} shows nobody on any "
            "node, move it away, then: mailman unshunt"
        )
    back = _bring_back(site, lock)
    call.log.info(
        f"put the dead lock {escape(lock.path)} aside: no process has the mailbox locked"
        + (f"; {back} messages that were shunted for it are back in their queue" if back else "")
    )
    return ""


def _bring_back(site: Installation, lock: MailboxLock) -> int:
    """Return what was shunted since the lock was made, of its list and from the queue that needs
    the mailbox. What cannot be processed for another reason is shunted once more."""
    queues = dict(site.answer.queues)
    shunt, queue = queues.get("shunt"), queues.get(lock.queue)
    if shunt is None or queue is None:
        return 0
    back = 0
    for name in _entries_since(shunt, lock.changed_ns):
        path = os.path.join(shunt, name)
        found = shunted.origin_of(path)
        if (found.queue, found.list_id) == (lock.queue, lock.list_id):
            back += shunted.put_back(path, queue, name)
    return back


def _entries_since(directory: str, since_ns: int) -> list[str]:
    """Entries that were put there since then, both by the file server's clock."""
    found = []
    try:
        with os.scandir(directory) as listed:
            for one in listed:
                entry = entries.parse(one.name)
                if entry is None or entry.extension != entries.WAITING:
                    continue
                if one.stat(follow_symlinks=False).st_ctime_ns >= since_ns:
                    found.append(one.name)
    except FileNotFoundError:
        pass
    return sorted(found)
