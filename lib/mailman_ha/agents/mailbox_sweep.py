"""Putting aside what a dead process left locked of a list's digests (Mailman 3), so that the posts
of the list are not shunted for ever; those that were come back."""

from __future__ import annotations

import os
import time

from mailman_ha.evidence import mounts
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.lists import mailbox_locks
from mailman_ha.lists.mailbox_locks import HeldMailbox, MailboxLock
from mailman_ha.locks.directory import QUARANTINE
from mailman_ha.locks.release import Quarantine, QuarantineError
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.ocf.escape import escape
from mailman_ha.queues import returns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.evidence.mounts import Mount
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call
    from mailman_ha.queues.returns import Return

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
    messages that were shunted for it to their queue; also those that an earlier sweep had to leave.

    Takes half of the action's time at most. Answers what needs a human: what could not be done, and
    locks that are held for more than `stuck_after` seconds.
    """
    if site.location.version != VERSION_3:
        return ()
    lists_dir = site.answer.lists_dir
    call.deadline.doing(f"looking for locked mailboxes in {lists_dir}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            found = list(mailbox_locks.find(lists_dir))
            noted = returns.are_noted(os.path.join(site.lock_dir, QUARANTINE))
        mount = mounts.of_path(os.path.realpath(lists_dir), mounts.read()) if found else None
    except OSError as error:
        return (f"{escape(lists_dir)} cannot be listed: {error.strerror}",)
    if not (found or noted) or around().maintenance:
        return ()
    sweep = _Sweep(call, site, around().this_host.node or around().this_host.hostname)
    if mount is None or mount.keeps_lockf_to_itself:
        sweep.kept = [(lock, _unprovable(lock, mount)) for lock in found]
        found = []
    if found:
        call.deadline.sleep(LOOK_AGAIN)
    if found or noted:
        with ActingAs(site.user.uid, site.user.gid):
            sweep.work(found)
    stuck = [why for lock, why in sweep.kept if _age(lock) > stuck_after]
    return (*stuck, *sweep.problems)


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


class _Sweep:
    """One sweep. `kept` are the locks that stay, and why; `problems` is what else is to be said."""

    def __init__(self, call: Call, site: Installation, host: str) -> None:
        self._call = call
        self._site = site
        self._host = host
        self._reserve = call.deadline.remaining() / 2
        self.kept: list[tuple[MailboxLock, str]] = []
        self.problems: list[str] = []

    def work(self, found: list[MailboxLock]) -> None:
        try:
            with Quarantine(self._site.lock_dir, self._host) as quarantine:
                earlier = tuple(returns.read(quarantine.quarantine))
                self._put_aside(quarantine, found)
                self._bring_back(quarantine.quarantine, earlier)
        except QuarantineError as error:
            self.problems.append(str(error))
        except OSError as error:
            self.problems.append(
                "posts that were shunted while the digest of their list was locked could not be "
                f"returned: {error.strerror}; the next sweep tries again, and so does: mailman "
                "unshunt"
            )

    def _is_enough(self) -> bool:
        return self._call.deadline.remaining() <= self._reserve

    def _put_aside(self, quarantine: Quarantine, found: list[MailboxLock]) -> None:
        self._call.deadline.doing("putting the dead locks of mailboxes aside")
        for done, lock in enumerate(found):
            if self._is_enough() or not quarantine.holds_guard():
                self.kept += [(each, "") for each in found[done:]]
                self.problems.append(
                    f"{len(found) - done} more locks on digests in "
                    f"{escape(self._site.answer.lists_dir)} could not be looked at in the time of "
                    "this action: the next sweep goes on"
                )
                return
            why = self._put_one_aside(quarantine, lock)
            if why:
                self.kept.append((lock, why))

    def _put_one_aside(self, quarantine: Quarantine, lock: MailboxLock) -> str:
        """Put one dot lock aside if nobody holds it; why not, in words, where it stays."""
        try:
            with HeldMailbox(lock) as held:
                # First: if we are killed after the move, the next sweep must know of the posts.
                self._note(quarantine, lock)
                moved_to = quarantine.adopt(held.directory, lock.name, lock.inode)
        except mailbox_locks.Changed as changed:
            if changed.disturbed:
                self._note(quarantine, lock)
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
        why = "no process has the mailbox locked, on any node"
        self._call.log.info(f"put the dead lock {escape(lock.path)} aside: {why}")
        try:
            quarantine.log(
                {"mailbox_lock": escape(lock.path), "state": "unheld", "by_node": self._host,
                 "why": why, "moved_to": [moved_to]}
            )
        except OSError as error:
            self.problems.append(
                f"{escape(lock.path)} was put aside, but its evidence could not be written: "
                f"{error.strerror}"
            )
        return ""

    def _note(self, quarantine: Quarantine, lock: MailboxLock) -> None:
        returns.write(quarantine.quarantine, lock.queue, lock.list_id, lock.changed_ns)

    def _bring_back(self, quarantine: int, earlier: tuple[Return, ...]) -> None:
        """Return what was shunted for the locks that are gone. A note of this sweep stays for the
        next one: a runner that has just met the lock, or us, shunts its post only now."""
        locked = {(lock.queue, lock.list_id) for lock, _ in self.kept}
        due = [
            one for one in returns.read(quarantine) if (one.queue, one.list_id) not in locked
        ]
        if not due:
            return
        self._call.deadline.doing("returning posts from the shunt queue")
        done = returns.carry_out(
            quarantine, due, [one for one in due if one in earlier],
            dict(self._site.answer.queues), self._is_enough,
        )
        for (queue, list_id), count in done.back.items():
            self._call.log.info(
                f"{count} posts of {escape(list_id)}, shunted while its digest was locked, are "
                f"back in the queue {escape(queue)}"
            )
        for (queue, list_id), why in done.failed.items():
            self.problems.append(
                f"posts of {escape(list_id)} that were shunted while its digest was locked could "
                f"not be returned to the queue {escape(queue)}: {why}; the next sweep tries again, "
                "and so does: mailman unshunt"
            )
        if done.left:
            self.problems.append(
                f"{done.left} more shunted messages are to be looked through for posts of lists "
                "whose digest was locked: the next sweep goes on"
            )
