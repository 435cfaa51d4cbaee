"""What Mailman's own configuration must say for a site: paragraphs for the head of a rendered file.

A paragraph that begins with two blanks is a line of the configuration, to be kept as it is.
"""

from __future__ import annotations

from mailman_ha.mailman.installation import USUAL_DIRECTORIES_21
from mailman_ha.topology.site import SITE, VERSION_21

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.topology.site import Site

_CLASSES = {
    "postgresql": "mailman.database.postgresql.PostgreSQLDatabase",
    "mysql": "mailman.database.mysql.MySQLDatabase",
    "sqlite": "mailman.database.sqlite.SQLiteDatabase",
}
_RUNNERS_ON_A_LINE = 4


def notes(site: Site) -> Iterator[str]:
    """The paragraphs; none where Mailman's usual configuration will do."""
    if site.mailman.run_by == SITE:
        return
    if site.mailman.version == VERSION_21:
        if site.queues:
            yield from _notes_21(site)
    elif site.queues or site.mailman.database:
        yield from _notes_3(site)


def _notes_21(site: Site) -> Iterator[str]:
    taken = [queue.name for queue in site.queues]
    runners = [
        runner for queue, runner in sorted(USUAL_DIRECTORIES_21.items()) if queue not in taken
    ]
    left_out = [USUAL_DIRECTORIES_21[name] for name in taken]
    yield (
        "mm_cfg.py, the same for all nodes: the master leaves "
        f"{_and([f'the queue {name}' for name in taken])} to ocf:mailman:qfiles-slice."
    )
    lines = [
        ", ".join(f"('{runner}', 1)" for runner in runners[at : at + _RUNNERS_ON_A_LINE]) + ","
        for at in range(0, len(runners), _RUNNERS_ON_A_LINE)
    ]
    if lines:
        lines[-1] += f"     # no {_and(left_out, 'no')}"
    yield "  QRUNNERS = ["
    for line in lines:
        yield f"      {line}"
    yield "  ]"
    yield (
        "The number of slices stands in the resources alone (clone-max, or slices), and any "
        "number will do."
    )


def _notes_3(site: Site) -> Iterator[str]:
    database = site.mailman.database
    if site.queues:
        yield (
            "Several nodes run Mailman 3 at once, so its database must be a server that all of "
            "them reach. mailman.cfg, the same on every node:"
        )
    else:
        yield "mailman.cfg, the same on every node:"
    kind = next(name for name in _CLASSES if database.startswith(name))
    yield "  [database]"
    yield f"  class: {_CLASSES[kind]}"
    yield f"  url: {database}"
    if not site.queues:
        return
    if site.address is not None:
        yield "  [mta]"
        yield (
            f"  lmtp_host: {site.address.ip}       # the address: LMTP is served where it is, as "
            "is the REST API:"
        )
        yield "  [webservice]"
        yield f"  hostname: {site.address.ip}"
    for queue in site.queues:
        number = "slices" if queue.prefer else f"clone-max of mailman-{queue.name}-clone"
        yield f"  [runner.{queue.name}]"
        yield "  start: no                   # not by the master, but by ocf:mailman:qfiles-slice"
        yield f"  {f'instances: {queue.slices}':<27} # {number}; a power of two"


def _and(words: list[str], last: str = "and") -> str:
    if len(words) < 2:
        return "".join(words)
    joint = " and " if last == "and" else f", {last} "
    return ", ".join(words[:-1]) + joint + words[-1]
