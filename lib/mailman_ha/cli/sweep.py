"""mailman-ha sweep: the janitor's sweep, now and by hand, or only what it would do."""

from __future__ import annotations

import os

from mailman_ha.cli import json_output, locks, table, target
from mailman_ha.cli.ending import FINE, NEEDS_YOU, CannotDo
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.cli.lock_rows import LockRow
    from mailman_ha.cli.target import Target
    from mailman_ha.locks.verdict import Verdict

NAME = "sweep"
HELP = "move the locks of dead owners aside, as the janitor does"
DESCRIPTION = (
    "Sweeps the lock directory once, as list-lock-janitor does at each monitor: what is proven "
    "dead is moved into mailman-ha.quarantine in the lock directory, with a line in "
    "evidence.jsonl there, and everything else is kept. Both are shown with the reason. "
    "Half-finished saves of lists (2.1) and dead locks on digests (3) are left to the "
    "janitor.\n\n"
    "Needs root, or Mailman's user. In maintenance mode nothing is released. With --dry-run "
    "nothing is changed; it tells what a sweep would do now.\n\n"
    "Ends with 1 where something stood in the way, or a kept lock needs you (see locks)."
)


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="only tell what a sweep would do"
    )
    target.declare(parser)


@record
class Swept:
    """What was done, or would be. `problems` are sentences on what stands in the way."""

    released: tuple[LockRow, ...]
    kept: tuple[LockRow, ...]
    problems: tuple[str, ...]
    around: Surroundings


def run(options: argparse.Namespace) -> int:
    from mailman_ha.cli import lock_rows

    with target.find(options, keep_log=not options.dry_run) as mailman:
        if options.dry_run:
            swept = _would(mailman)
        else:
            _check_identity(mailman)
            swept = _sweep(mailman)
    unseen = target.could_not_see(mailman.site)
    needs_you = bool(swept.problems) or any(row.needs_you for row in swept.kept)
    if options.json:
        json_output.write(NAME, {
            "installation": mailman.as_json(),
            "cluster": lock_rows.cluster_as_json(swept.around),
            "could_not_see": list(unseen),
            "dry_run": options.dry_run,
            "released": [lock_rows.as_json(row) for row in swept.released],
            "kept": [lock_rows.as_json(row) for row in swept.kept],
            "problems": list(swept.problems),
            "quarantine": escape(_quarantine(mailman)),
            "needs_you": needs_you,
        })
        return NEEDS_YOU if needs_you else FINE
    table.say(mailman.described(), table.FAINT)
    table.say(lock_rows.cluster_in_words(swept.around), table.FAINT)
    for sentence in unseen:
        table.say(sentence, table.DOUBT)
    done = "would release" if options.dry_run else "released"
    told = [(done, table.STRONG, row) for row in swept.released]
    told += [("kept", "", row) for row in swept.kept]
    table.say("")
    if told:
        table.show(
            (table.Column("Lock", least=12), table.Column("What", least=8),
             table.Column("Owner", least=9), table.Column("Age", least=5, right=True),
             table.Column("Verdict", least=8), table.Column("Why", least=20)),
            (_cells(what, look, row) for what, look, row in told),
        )
    else:
        table.say("no lock")
    for problem in swept.problems:
        table.say(problem, table.BAD)
    if swept.released and not options.dry_run:
        table.say(f"moved to {escape(_quarantine(mailman))}, evidence in evidence.jsonl there")
    for line in lock_rows.ways_out(swept.kept):
        table.say(line, table.STRONG)
    return NEEDS_YOU if needs_you else FINE


def _cells(what: str, look: str, row: LockRow) -> list[table.Text]:
    from mailman_ha.cli import lock_rows
    from mailman_ha.cli.words import span

    return [
        escape(row.name), table.Cell(what, look), lock_rows.owner(row), span(row.age),
        table.Cell(row.verdict, lock_rows.look_of(row)), lock_rows.in_short(row.why),
    ]


def _quarantine(mailman: Target) -> str:
    from mailman_ha.locks.directory import QUARANTINE

    return os.path.join(mailman.site.lock_dir, QUARANTINE)


def _check_identity(mailman: Target) -> None:
    """Raises CannotDo for anybody who is neither root nor Mailman's user."""
    user = mailman.site.user
    if os.geteuid() not in (0, user.uid):
        raise CannotDo(
            f"a sweep must run as root or as Mailman's user {escape(user.name)}, and this is uid "
            f"{os.geteuid()}: sudo mailman-ha sweep, or look with --dry-run"
        )


def _would(mailman: Target) -> Swept:
    """What a sweep would do now, by the same look and the same verdicts."""
    from mailman_ha.cli import lock_rows

    seen = locks.observe(mailman)
    # Here what is proven dead is about to go: whether a janitor would do it plays no part.
    rows = lock_rows.rows(seen.look, lock_rows.Standards(seen.stuck_after, swept=True))
    dead = tuple(row for row in rows if lock_rows.is_dead(row))
    kept = tuple(row for row in rows if not lock_rows.is_dead(row))
    problems = []
    if seen.look.interrupted:
        problems.append("a release was killed half-way; a sweep ends it first")
    if not seen.around.maintenance:
        return Swept(dead, kept, tuple(problems), seen.around)
    problems += [
        f"{escape(row.name)} could be released ({row.why}), but not while the cluster is in "
        "maintenance mode"
        for row in dead
    ]
    return Swept((), (*dead, *kept), tuple(problems), seen.around)


def _sweep(mailman: Target) -> Swept:
    """Sweep as the janitor does. Raises CannotDo where the lock directory cannot be listed."""
    import functools

    from mailman_ha.agents import lock_evidence, lock_sweep
    from mailman_ha.cli import lock_rows

    call = mailman.call
    around = functools.lru_cache(maxsize=1)(lambda: lock_evidence.look_around(call))
    try:
        report = lock_sweep.sweep(call, mailman.site, around)
    except OSError as error:
        raise CannotDo(locks.cannot_list(mailman, error)) from error
    surroundings = around()
    standards = lock_rows.Standards(
        call.seconds("stuck_after"), locks.is_swept(mailman, surroundings)
    )
    locks_there = {lock.name for lock in report.listing.locks}
    odd = set(report.listing.odd)

    def row(name: str, verdict: Verdict, age: float | None) -> LockRow:
        kind = (
            lock_rows.LOCK if name in locks_there
            else lock_rows.ODD if name in odd else lock_rows.CLAIM
        )
        return lock_rows.row_of(name, kind, verdict, (), age, None, None, standards)

    return Swept(
        tuple(row(name, verdict, None) for name, verdict in report.released),
        lock_rows.ordered(row(one.name, one.verdict, one.age) for one in report.kept),
        report.problems, surroundings,
    )
