"""The library, broken on purpose: each of these a machine that is worth its time must find."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mailman_ha.agents import lock_evidence, lock_sweep
from mailman_ha.locks import directory, grammar, release, verdict
from mailman_ha.locks.verdict import FENCED, NODE, Verdict
from mailman_ha.ocf.record import replace


def no_look_again() -> None:
    """A release moves what has the lock's name by then, and never looks."""
    release._identity = lambda seen: ()
    release.Quarantine._is_judged = lambda self, plan: True
    release._Plan.is_pushed = lambda self, seen: True
    carry_out = release.Quarantine._carry_out
    release.Quarantine._carry_out = lambda self, plan, now: carry_out(
        self, replace(plan, claims=()), now)


def lost_is_fenced() -> None:
    """Offline is taken for dead."""
    judge = verdict._judge_node

    def judge_node(owner: Any, facts: Any, changed: float, evidence: Any) -> Verdict:
        judged = judge(owner, facts, changed, evidence)
        return Verdict(FENCED, judged.why, owner=owner) if judged.state == verdict.LOST else judged

    verdict._judge_node = judge_node
    without = lock_sweep._without_looking
    lock_sweep._without_looking = lambda owners, evidence: (
        None if any(evidence.hosts[owner.host].kind == NODE for owner in owners)
        else without(owners, evidence))


def fencing_without_its_time() -> None:
    """A node that was ever fenced is taken for dead, whatever it has locked since."""
    judge = verdict._judge_node

    def judge_node(owner: Any, facts: Any, changed: float, evidence: Any) -> Verdict:
        if facts.fenced_at is not None and evidence.fencing_enabled:
            return Verdict(FENCED, "it was fenced once", owner=owner)
        return judge(owner, facts, changed, evidence)

    verdict._judge_node = judge_node


def content_is_trusted() -> None:
    """The owner is whom the lock's content names; the claims on its inode are not looked at."""
    judge = verdict.judge

    def by_content(lock: Any, seen: Any, format: str, evidence: Any) -> Verdict:
        if isinstance(seen, OSError) or not seen.named_claim():
            return judge(lock, seen, format, evidence)
        owners = grammar.owners_of_claim(format, lock.name, seen.named_claim())
        known = [owner for owner in owners if owner.host in evidence.hosts]
        if not known:
            return judge(lock, seen, format, evidence)
        return verdict.judge_owner(known[0], seen.changed_at, evidence)

    verdict.judge = by_content
    lock_sweep._without_looking = lambda owners, evidence: None


def one_reading_only() -> None:
    """Of an ambiguous claim name the first reading is believed."""
    owners = grammar.owners_of_claim
    grammar.owners_of_claim = lambda *what: owners(*what)[:1]
    locks = grammar.locks_claimed_by
    grammar.locks_claimed_by = lambda *what: tuple(
        (name, readings[:1]) for name, readings in locks(*what))


def no_expiry_push() -> None:
    """A lock about to expire is moved without pushing its expiry ahead: a breaker may be at it."""
    release.NEAR_EXPIRY = float("-inf")
    release._identity = lambda seen: (seen.inode, seen.content)


def nothing_is_noted() -> None:
    """An interrupted release leaves no note, so nobody ends it."""
    release.Quarantine._write_note = lambda self, plan: None


def nothing_is_logged() -> None:
    """Locks go without a line of evidence."""
    release.Quarantine.log = lambda self, line: None


def unlinked_not_kept() -> None:
    """A lock is removed instead of moved."""
    import os

    move = release.Quarantine._move

    def unlink(self: Any, name: str, target: str) -> None:
        move(self, name, target)
        if directory.inspect(self.quarantine, target).links == 1:
            os.unlink(target, dir_fd=self.quarantine)

    release.Quarantine._move = unlink


def a_pid_is_enough() -> None:
    """A process that has the pid is taken for the owner, whenever it started."""
    facts = lock_evidence.process_facts

    def old(pid: int, site: Any) -> Any:
        found = facts(pid, site)
        return found and replace(found, started_at=0.0)

    lock_evidence.process_facts = old


def no_process_is_here() -> None:
    """Processes that /proc does not show at once are taken for gone."""
    lock_evidence.process_facts = lambda pid, site: None


def silent() -> None:
    """What is kept is not reported."""
    sweep = lock_sweep._look_closely
    lock_sweep._look_closely = lambda *what: replace(sweep(*what), kept=())


def guard_is_nobodys() -> None:
    """Releases do not exclude each other."""
    release.Quarantine.holds_guard = lambda self: True
    take = release.holding.take

    def at_once(*what: Any, **named: Any) -> Any:
        lock = f"{what[2]}.{time.monotonic_ns()}"
        return take(what[0], what[1], lock, *what[3:], **named)

    release.holding.take = at_once


def stepped_clock_is_trusted() -> None:
    """Times from before and after the clock was set are compared."""
    gather = lock_evidence.gather
    lock_evidence.gather = lambda *what: replace(gather(*what), clock_stepped_at=None)


MUTANTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        no_look_again, lost_is_fenced, fencing_without_its_time, content_is_trusted,
        one_reading_only, nothing_is_noted, nothing_is_logged, unlinked_not_kept,
        a_pid_is_enough, no_process_is_here, silent, stepped_clock_is_trusted,
        no_expiry_push, guard_is_nobodys,
    )
}


def apply(name: str) -> None:
    """Break the library of this process; '' leaves it whole."""
    if name:
        MUTANTS[name]()
