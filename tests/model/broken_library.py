"""The library broken as the model's mutants are: it must go the way of the broken model. And the
random histories' mutants, of which a replay must see what the model has a word for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mailman_ha.locks import release, verdict
from mailman_ha.locks.verdict import ENDED, Verdict

from tests.histories import mutants


def release_without_recheck() -> None:
    """Nothing is looked at again before the move."""
    unchanged = release.Quarantine._unchanged

    def never_changed(self: Any, judged: Any) -> Any:
        try:
            unchanged(self, judged)
        except release._ChangedError:
            pass
        return judged

    def carry_out(self: Any, plan: Any, now: Any) -> Any:
        self._move(plan.name, plan.target)
        return self._after_move(plan)

    carry_out.__code__ = carry_out.__code__.replace(
        co_name="_carry_out", co_filename=release.__file__
    )
    never_changed.__code__ = never_changed.__code__.replace(
        co_name="_unchanged", co_filename=release.__file__
    )
    release.Quarantine._unchanged = never_changed
    release.Quarantine._carry_out = carry_out
    # The model keeps apart what is moved twice for one inode; within a second the names are alike.
    release._prefix = lambda inode: f"{time.monotonic_ns()}.{inode}."


def old_word_is_trusted() -> None:
    """What a node has once said of a process counts for whatever that pid has locked since."""
    judge = verdict._judge_node

    def judge_node(owner: Any, facts: Any, changed: float, evidence: Any) -> Verdict:
        if facts.online and owner.pid in facts.ended:
            return Verdict(ENDED, "its node has said so once", owner=owner)
        return judge(owner, facts, changed, evidence)

    verdict._judge_node = judge_node


#: The mutant of the model, and the library that is broken alike.
ALIKE: dict[str, Callable[[], None]] = {
    "RELEASE_WITHOUT_RECHECK": release_without_recheck,
    "NO_EXPIRY_PUSH": mutants.no_expiry_push,
    "NO_NOTE": mutants.nothing_is_noted,
    "LOST_TAKEN_FOR_FENCED": mutants.lost_is_fenced,
    "TRUST_OLD_WORD": old_word_is_trusted,
}

#: What the traces of the model itself must find.
OTHERS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        mutants.no_look_again, mutants.nothing_is_logged, mutants.unlinked_not_kept,
        mutants.guard_is_nobodys, mutants.no_process_is_here,
    )
}


def apply(name: str) -> None:
    """Break the library of this process; '' leaves it whole."""
    if name:
        (ALIKE.get(name) or OTHERS[name])()
