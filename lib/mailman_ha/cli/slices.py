"""mailman-ha slices: each queue and slice, who serves it, and how much waits there."""

from __future__ import annotations

import os
import time

from mailman_ha.cli import json_output, locks, table, target
from mailman_ha.cli.ending import FINE, NEEDS_YOU, CannotDo
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.cli.slice_rows import Part, QueueSeen, ResourceOnQueue, Seen
    from mailman_ha.cli.target import Target
    from mailman_ha.mailman.installation import Installation

NAME = "slices"
HELP = "show each queue's slices: who serves them, and what waits"
DESCRIPTION = (
    "Shows every queue and slice of it: which resource is configured for it, or the master; who "
    "has the claim on it; how many entries wait, how old the oldest is, and how many are in work "
    "(.bak). Counted from names alone, nothing is opened or changed.\n\n"
    "Ends with 1 where a human is needed: a slice without a runner, a stray one that no resource "
    "is configured for, two that overlap, a claim whose owner is gone and not proven dead, a "
    "queue with entries that nobody serves, or a configuration that contradicts itself."
)


def declare(parser: argparse.ArgumentParser) -> None:
    target.declare(parser)


@record
class Observed:
    """What was observed; see slice_rows.Seen."""

    seen: Seen
    around: Surroundings


def run(options: argparse.Namespace) -> int:
    from mailman_ha.cli import lock_rows, slice_rows

    with target.find(options) as mailman:
        observed = _observe(mailman)
    told = slice_rows.parts(observed.seen)
    needs_you = any(part.needs_you for part in told)
    unseen = target.could_not_see(mailman.site)
    if options.json:
        json_output.write(NAME, {
            "installation": mailman.as_json(),
            "cluster": lock_rows.cluster_as_json(observed.around),
            "could_not_see": list(unseen),
            "slices": [slice_rows.as_json(part) for part in told],
            "needs_you": needs_you,
        })
        return NEEDS_YOU if needs_you else FINE
    table.say(mailman.described(), table.FAINT)
    table.say(lock_rows.cluster_in_words(observed.around), table.FAINT)
    if mailman.resources.trouble:
        table.say(
            f"which resources are configured is not known: {mailman.resources.trouble}",
            table.DOUBT,
        )
    for sentence in unseen:
        table.say(sentence, table.DOUBT)
    table.say("")
    table.show(
        (table.Column("Queue", least=5), table.Column("Slice", least=5),
         table.Column("Served by", least=6), table.Column("Claim", least=9),
         table.Column("Depth", right=True), table.Column("Oldest", right=True),
         table.Column(".bak", right=True), table.Column("State", least=16)),
        (_cells(part) for part in told),
    )
    ways_out: dict[str, list[str]] = {}
    for part in told:
        for finding in part.findings:
            if finding.remedy and finding.needs_you:
                ways_out.setdefault(finding.remedy, []).append(_called(part))
    if ways_out:
        table.say("")
    for remedy, names in ways_out.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        table.say(f"{', '.join(dict.fromkeys(names[:5]))}{more}: {remedy}", table.STRONG)
    return NEEDS_YOU if needs_you else FINE


def _called(part: Part) -> str:
    return f"{escape(part.queue)}:{part.slice.number}:{part.slice.count}"


def _cells(part: Part) -> list[table.Text]:
    from mailman_ha.cli import lock_rows
    from mailman_ha.cli.words import span

    servers = [escape(one) for one in part.resources] + (["master"] if part.by_master else [])
    if part.findings:
        state = table.Cell(
            "; ".join(one.what for one in part.findings),
            table.BAD if part.needs_you else table.FAINT,
        )
    elif part.claim is not None:
        state = table.Cell(part.claim.verdict, lock_rows.look_of(part.claim))
    else:
        state = table.Cell("")
    return [
        escape(part.queue),
        f"{part.slice.number}/{part.slice.count}",
        ", ".join(servers) or "-",
        "-" if part.claim is None else lock_rows.owner(part.claim),
        "?" if part.waiting is None else str(part.waiting + (part.in_work or 0)),
        "-" if part.oldest is None else span(part.oldest),
        "?" if part.in_work is None else str(part.in_work),
        state,
    ]


def _observe(mailman: Target) -> Observed:
    """Look at claims, queues and resources. Raises CannotDo where lock_dir cannot be listed."""
    from mailman_ha.cli import lock_rows
    from mailman_ha.cli.slice_rows import Seen, geometries
    from mailman_ha.evidence.user_identity import ActingAs
    from mailman_ha.queues import slices

    site = mailman.site
    mailman.call.deadline.doing(f"listing the lock directory {site.lock_dir}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            names = os.listdir(site.lock_dir)
    except OSError as error:
        raise CannotDo(locks.cannot_list(mailman, error)) from error
    claimed = {
        name: claim for name in names if (claim := slices.of_lock_name(name)) is not None
    }
    looked = locks.observe(mailman, frozenset((*claimed, site.master_lock)))
    standards = lock_rows.Standards(looked.stuck_after, looked.swept)
    rows = {
        row.name: row for row in lock_rows.rows(looked.look, standards)
        if row.kind == lock_rows.LOCK
    }
    claims = {claimed[name]: row for name, row in rows.items() if name in claimed}
    resources = _resources(mailman)
    queues = []
    for name, runner in sorted(site.runners_by_queue().items()):
        master_slices = dict(site.answer.runners).get(runner, 0)
        queues.append(_queue(
            mailman, name, runner, master_slices,
            geometries(name, master_slices, claims, resources),
        ))
    # A claim on a queue that Mailman does not know of is told all the same.
    known = {queue.name for queue in queues}
    queues += [
        _unknown(name) for name in sorted({queue for queue, _ in claims} - known)
    ]
    seen = Seen(tuple(queues), claims, rows.get(site.master_lock), resources, time.time())
    return Observed(seen, looked.around)


def _unknown(name: str) -> QueueSeen:
    from mailman_ha.cli.slice_rows import QueueSeen

    return QueueSeen(name, 0, None, {}, "Mailman has no runner for such a queue")


def _resources(mailman: Target) -> tuple[ResourceOnQueue, ...] | None:
    """The cluster's qfiles-slice resources for this share; None where they are not known."""
    from mailman_ha.agents.qfiles_slice import observe
    from mailman_ha.cli.slice_rows import ResourceOnQueue

    if mailman.resources.trouble:
        return None
    found = []
    for resource in mailman.resources.of(target.SLICE):
        parameters = dict(resource.parameters)
        if observe.same_share(mailman.call, mailman.site, parameters):
            configured = observe.slices_of(resource)
            found.append(ResourceOnQueue(
                resource.id, parameters.get("queue", ""), configured.count, configured.numbers,
                resource.disabled,
            ))
    return tuple(found)


def _queue(
    mailman: Target, name: str, runner: str, master_slices: int, counts: set[int]
) -> QueueSeen:
    from mailman_ha.cli.slice_rows import QueueSeen
    from mailman_ha.evidence.user_identity import ActingAs
    from mailman_ha.queues import entries
    from mailman_ha.queues.entries import Backlog

    site = mailman.site
    instances = _instances(site, runner)
    directory = site.queue_directory(runner)
    if directory is None:
        return QueueSeen(name, master_slices, instances, {})
    mailman.call.deadline.doing(f"listing the queue {directory}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            backlogs = {count: entries.backlogs(directory, count) for count in counts}
    except FileNotFoundError:
        backlogs = {count: (Backlog(),) * count for count in counts}
    except OSError as error:
        return QueueSeen(
            name, master_slices, instances, {},
            f"{escape(directory)} cannot be listed: {error.strerror}",
        )
    return QueueSeen(name, master_slices, instances, backlogs)


def _instances(site: Installation, runner: str) -> int | None:
    from mailman_ha.mailman.location import VERSION_3

    if site.location.version != VERSION_3:
        return None
    return dict(site.answer.instances).get(runner)
