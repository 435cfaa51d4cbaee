"""What is told of each lock: a pure function of what a look at the lock directory showed."""

from __future__ import annotations

import re

from mailman_ha.cli import table
from mailman_ha.cli.words import span
from mailman_ha.locks import verdict as verdicts
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.agents.lock_sweep import Judged, Look
    from mailman_ha.locks.grammar import Owner
    from mailman_ha.locks.verdict import Evidence, Verdict

LOCK, CLAIM, ODD = "lock", "claim", "odd"

_SWEEP = "mailman-ha sweep moves it aside"

#: Kept, and in good hands: a living process, or another node's own.
_IN_GOOD_HANDS = (verdicts.ALIVE, verdicts.MEMBER)

_LOOKS = {
    verdicts.ALIVE: table.GOOD, verdicts.MEMBER: table.GOOD, verdicts.DEAD_HERE: table.FAINT,
    verdicts.ENDED: table.FAINT,
    verdicts.FENCED: table.FAINT, verdicts.LOST: table.BAD, verdicts.STRANGER: table.BAD,
    verdicts.UNKNOWN: table.DOUBT,
}

#: How the sentence of a verdict begins; the table has that in a column of its own.
_OWNER_FIRST = re.compile(
    r"(?:held by )?pid \d+ on (?:this host|node|host)(?: \([^)]*\)| \S+?(?: \(host [^)]*\))?)"
    r"(?=[,: ])[,:]? ?(?:which (?:is )?|is )?"
)


@record
class LockRow:
    """One file of a lock directory as it is told. Texts are as the file system has them, not
    escaped; spans are in seconds, None where they are not known. `kind` is LOCK, CLAIM (that
    shares its inode with no lock) or ODD (no regular file)."""

    name: str
    kind: str
    verdict: str
    why: str
    remedy: str
    needs_you: bool
    host: str | None = None
    node: str | None = None
    pid: int | None = None
    program: str = ""
    age: float | None = None
    expires_in: float | None = None

    @property
    def expired(self) -> bool:
        """Whether any Mailman may break it by its own rules."""
        return self.expires_in is not None and self.expires_in < 0


@record
class Standards:
    """When a lock needs a human: one kept for doubt, once it is older than `stuck_after` seconds
    (the janitor's parameter); one that could be released, where nobody does it (`swept`: a janitor
    is configured and not in maintenance)."""

    stuck_after: float
    swept: bool


def rows(look: Look, standards: Standards) -> tuple[LockRow, ...]:
    """Every lock and stray claim of the directory, those that need somebody first."""
    return ordered(_row(one, look.evidence, standards) for one in look.judged)


def ordered(told: Iterable[LockRow]) -> tuple[LockRow, ...]:
    """Those that need somebody first, those in good hands last, of each kind the oldest first."""
    return tuple(sorted(told, key=lambda row: (
        not row.needs_you, row.verdict in _IN_GOOD_HANDS, -(row.age or 0.0), row.name
    )))


def is_dead(row: LockRow) -> bool:
    """Whether the owner is proven dead, so that a sweep releases it."""
    return row.verdict in verdicts.RELEASABLE


def _row(judged: Judged, evidence: Evidence | None, standards: Standards) -> LockRow:
    verdict = judged.verdict
    age = expires_in = None
    if evidence is not None and judged.changed_at is not None and judged.expires_at is not None:
        server_now = evidence.now + evidence.clock_offset
        age = server_now - judged.changed_at
        expires_in = judged.expires_at - server_now
    kind = LOCK if judged.is_lock else CLAIM if judged.owners else ODD
    return row_of(
        judged.name, kind, verdict, judged.owners, age, expires_in, evidence, standards
    )


def row_of(
    name: str,
    kind: str,
    verdict: Verdict,
    owners: tuple[Owner, ...],
    age: float | None,
    expires_in: float | None,
    evidence: Evidence | None,
    standards: Standards,
) -> LockRow:
    """The row of one file with this verdict."""
    owner = verdict.owner or (owners[0] if owners else None)
    if verdict.may_release:
        needs_you = not standards.swept
    elif verdict.state in _IN_GOOD_HANDS:
        needs_you = False
    else:
        needs_you = age is None or age > standards.stuck_after
    facts = evidence.hosts.get(owner.host) if evidence is not None and owner else None
    process = None
    if evidence is not None and owner and facts and facts.kind == verdicts.THIS_HOST:
        process = evidence.processes.get(owner.pid)
    return LockRow(
        name, kind, verdict.state, verdict.why,
        verdict.remedy or (_SWEEP if verdict.may_release else ""), needs_you,
        host=owner.host if owner else None,
        node=(facts.node or None) if facts else None,
        pid=owner.pid if owner else None,
        program=process.command if process else "",
        age=age,
        expires_in=expires_in,
    )


def as_json(row: LockRow) -> dict[str, Any]:
    """The row as an element of the field `locks`."""
    return {
        "name": escape(row.name),
        "kind": row.kind,
        "owner": None if row.pid is None else {
            "host": escape(row.host or ""),
            "node": None if row.node is None else escape(row.node),
            "pid": row.pid,
            "program": row.program or None,
        },
        "age_seconds": _rounded(row.age),
        "expires_in_seconds": _rounded(row.expires_in),
        "expired": row.expired,
        "verdict": row.verdict,
        "why": row.why,
        "remedy": row.remedy or None,
        "needs_you": row.needs_you,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def look_of(row: LockRow) -> str:
    """How the verdict is to look in a table."""
    return _LOOKS[row.verdict]


COLUMNS = (
    table.Column("Lock", least=12),
    table.Column("Owner", least=9),
    table.Column("Age", least=5, right=True),
    table.Column("Expires", least=7, right=True),
    table.Column("Verdict", least=8),
    table.Column("Evidence", least=20),
)


def cells(row: LockRow) -> list[table.Text]:
    """The row for a table with COLUMNS."""
    return [
        escape(row.name),
        owner(row),
        span(row.age),
        table.Cell("expired", table.DOUBT) if row.expired else span(row.expires_in),
        table.Cell(row.verdict, look_of(row)),
        in_short(row.why),
    ]


def owner(row: LockRow) -> str:
    """``4242 on mail2``, or a dash where nobody is named."""
    if row.pid is None:
        return "-"
    return f"{row.pid} on {escape(row.node or row.host or '?')}"


def in_short(why: str) -> str:
    """The sentence of a verdict without the owner that it begins with."""
    return _OWNER_FIRST.sub("", why, count=1) or why


def ways_out(told: tuple[LockRow, ...], most: int = 5) -> list[str]:
    """What to type for the locks that need somebody: each remedy once, with the locks it is for."""
    by_remedy: dict[str, list[str]] = {}
    for row in told:
        if row.needs_you and row.remedy:
            by_remedy.setdefault(row.remedy, []).append(escape(row.name))
    lines = []
    for remedy, names in by_remedy.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        lines.append(f"{', '.join(names[:most])}{more}: {remedy}")
    return lines


def cluster_as_json(around: Surroundings) -> dict[str, Any]:
    """The field `cluster`: whether it answers, and what it says of itself."""
    cluster = around.cluster
    return {
        "state": "answers" if cluster else "silent" if around.no_cluster else "none",
        "trouble": around.no_cluster or None,
        "node": None if around.this_host.node is None else escape(around.this_host.node),
        "quorum": cluster.have_quorum if cluster else None,
        "fencing": cluster.fencing_enabled if cluster else None,
        "maintenance": around.maintenance if cluster else None,
    }


def cluster_in_words(around: Surroundings) -> str:
    """One line on the cluster."""
    if around.cluster is None:
        if around.no_cluster:
            return f"the cluster could not be asked: {around.no_cluster}"
        return "there is no cluster on this machine"
    cluster = around.cluster
    nodes = ", ".join(
        f"{escape(node.name)} "
        + ("unclean" if node.unclean else "pending" if node.pending else
           "online" if node.online else "offline")
        for node in cluster.nodes.values()
    )
    words = [
        f"nodes: {nodes}",
        "quorum" if cluster.have_quorum else "no quorum",
        "fencing on" if cluster.fencing_enabled else "fencing off (stonith-enabled=false)",
    ]
    if around.maintenance:
        words.append("in maintenance")
    return "; ".join(words)
