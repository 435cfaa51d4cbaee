"""mailman-ha locks: every lock, whose it is, and what the janitor thinks of it."""

from __future__ import annotations

from mailman_ha.cli import json_output, table, target
from mailman_ha.cli.ending import FINE, NEEDS_YOU, CannotDo
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.agents.lock_sweep import Look
    from mailman_ha.cli.target import Target

NAME = "locks"
HELP = "list the locks, their owners, and what is known of them"
DESCRIPTION = (
    "Lists every lock of Mailman's lock directory and every claim file that belongs to none, with "
    "its owner, its age since the last touch, when it expires, and the verdict of the janitor, "
    "which is made of the same evidence by the same code. Nothing is changed.\n\n"
    "Verdicts: alive (a Mailman process of this host), member (of another node that is online, "
    "which alone can know), dead here and fenced (proven dead: the next sweep moves it aside), "
    "lost (of a node that is gone and not fenced), stranger (of no node), unknown.\n\n"
    "Ends with 1 where a lock needs you: lost, stranger or unknown for longer than stuck_after "
    "(600 s, or as the janitor's resource says), or proven dead while nothing sweeps."
)


def declare(parser: argparse.ArgumentParser) -> None:
    target.declare(parser)


@record
class Seen:
    """What was observed."""

    look: Look
    around: Surroundings
    swept: bool
    stuck_after: float


def observe(
    mailman: Target, only: Collection[str] | None = None, closely: bool = False
) -> Seen:
    """See lock_sweep.look. Raises CannotDo where the lock directory cannot be listed."""
    import functools

    from mailman_ha.agents import lock_evidence, lock_sweep

    call = mailman.call
    around = functools.lru_cache(maxsize=1)(lambda: lock_evidence.look_around(call))
    try:
        look = lock_sweep.look(call, mailman.site, around, only, closely)
    except OSError as error:
        raise CannotDo(cannot_list(mailman, error)) from error
    surroundings = around()
    return Seen(look, surroundings, is_swept(mailman, surroundings), call.seconds("stuck_after"))


def is_swept(mailman: Target, around: Surroundings) -> bool:
    """Whether a janitor is configured that may release."""
    janitors = mailman.resources.of(target.JANITOR)
    return not around.maintenance and any(not one.disabled for one in janitors)


def cannot_list(mailman: Target, error: OSError) -> str:
    """Why the lock directory says nothing, and the way out."""
    way_out = (
        "run it as root" if isinstance(error, PermissionError) else "mend the share, then try again"
    )
    return f"{mailman.site.lock_dir} cannot be listed: {error.strerror}; {way_out}"


def run(options: argparse.Namespace) -> int:
    from mailman_ha.cli import lock_rows

    with target.find(options) as mailman:
        seen = observe(mailman)
    told = lock_rows.rows(seen.look, lock_rows.Standards(seen.stuck_after, seen.swept))
    needs_you = any(row.needs_you for row in told)
    unseen = target.could_not_see(mailman.site)
    if options.json:
        json_output.write(NAME, {
            "installation": mailman.as_json(),
            "cluster": lock_rows.cluster_as_json(seen.around),
            "could_not_see": list(unseen),
            "interrupted_release": seen.look.interrupted,
            "locks": [lock_rows.as_json(row) for row in told],
            "needs_you": needs_you,
        })
        return NEEDS_YOU if needs_you else FINE
    table.say(mailman.described(), table.FAINT)
    table.say(lock_rows.cluster_in_words(seen.around), table.FAINT)
    for sentence in unseen:
        table.say(sentence, table.DOUBT)
    table.say("")
    if told:
        table.show(lock_rows.COLUMNS, (lock_rows.cells(row) for row in told))
    else:
        table.say("no lock")
    if seen.look.interrupted:
        table.say("a release was killed half-way; the next sweep ends it", table.DOUBT)
    ways_out = lock_rows.ways_out(told)
    if ways_out:
        table.say("")
        for line in ways_out:
            table.say(line, table.STRONG)
    return NEEDS_YOU if needs_you else FINE
