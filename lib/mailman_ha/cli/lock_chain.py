"""The chain of evidence on one lock, link by link: a pure function of what was observed.

Nothing is judged here: the verdict is the look's own (`locks.verdict`), and each link names what
that verdict was given, where it comes from, and when it was so.
"""

from __future__ import annotations

from mailman_ha.cli.words import moment, span
from mailman_ha.locks import verdict as verdicts
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.agents.lock_sweep import Judged
    from mailman_ha.locks.grammar import Owner
    from mailman_ha.locks.verdict import Evidence

#: With an uncertainty from here on (seconds) the file server's clock was not measured at all.
_NOT_MEASURED = 3600.0


@record
class FileFacts:
    """What lstat says of one name in the lock directory; times in seconds since the epoch by the
    file server's clock. `kind` is ``file``, ``directory``, ``link`` or ``other``."""

    name: str
    kind: str
    inode: int
    links: int
    mode: int
    uid: int
    gid: int
    size: int
    changed_at: float
    expires_at: float


@record
class Link:
    """One piece of evidence: on what, what was found, by which source, and when that was so
    (seconds since the epoch; None where it has no time)."""

    subject: str
    found: str
    source: str
    at: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject, "found": self.found, "source": self.source,
            "at": None if self.at is None else moment(self.at),
        }


@record
class Chain:
    """All that is known of one lock. `missing` are sentences on evidence that could not be had."""

    links: tuple[Link, ...]
    missing: tuple[str, ...]


def chain(
    judged: Judged,
    file: FileFacts | None,
    claims: tuple[FileFacts, ...],
    evidence: Evidence | None,
    around: Surroundings,
    lock_dir: str,
    unseen: tuple[str, ...],
) -> Chain:
    """The chain for the lock `judged`; `claims` are the claim files that share its inode."""
    links: list[Link] = []
    missing = list(unseen)
    now = evidence.now if evidence is not None else None
    if file is not None:
        links.append(_file(judged, file, lock_dir, now))
    else:
        missing.append("the file itself: it went while it was looked at")
    links += [_claim(one, file, lock_dir, now) for one in claims]
    if judged.is_lock and not claims:
        links.append(Link("claim file", "none shares the lock's inode", _listing(lock_dir), now))
    if judged.seen is not None:
        links.append(_content(judged, now))
    elif judged.trouble:
        missing.append(f"the file's content: {judged.trouble}")
    if evidence is not None:
        owners = list(dict.fromkeys(judged.owners))
        spoken = judged.verdict.owner
        if spoken is not None and spoken not in owners:
            owners.append(spoken)
        if len(owners) > 1:
            links.append(Link(
                "owner", f"{len(owners)} are possible; each must be dead: "
                + ", ".join(f"pid {one.pid} on {escape(one.host)}" for one in owners),
                "the names of the claim files", now,
            ))
        for owner in owners:
            links += _owner(owner, judged, evidence, around)
        links += _clocks(evidence, lock_dir)
        if evidence.clock_uncertainty >= _NOT_MEASURED:
            missing.append(
                f"the file server's clock: no file could be touched in {escape(lock_dir)}, so no "
                "times can be compared"
            )
    if around.cluster is not None:
        links += _options(around, now)
    elif around.no_cluster:
        missing.append(
            f"the cluster: {around.no_cluster}; so nothing is known of other nodes and of fencing"
        )
    else:
        links.append(Link(
            "cluster", "none on this machine", "crm_mon, and Pacemaker has never run here", now
        ))
    return Chain(tuple(links), tuple(missing))


def _listing(lock_dir: str) -> str:
    return f"listing of {escape(lock_dir)}"


def _file(judged: Judged, file: FileFacts, lock_dir: str, now: float | None) -> Link:
    what = "lock file" if judged.is_lock else "claim file" if judged.owners else "file"
    told = [
        f"{file.kind}, inode {file.inode}, {file.links} link{'' if file.links == 1 else 's'}, "
        f"mode {file.mode:04o}, uid {file.uid}, gid {file.gid}, {file.size} bytes",
        f"last touch {moment(file.changed_at)}",
        f"expires {moment(file.expires_at)}",
    ]
    return Link(what, "; ".join(told), f"lstat of {escape(lock_dir)}/{escape(file.name)}", now)


def _claim(one: FileFacts, file: FileFacts | None, lock_dir: str, now: float | None) -> Link:
    same = file is not None and one.inode == file.inode
    return Link(
        "claim file",
        f"{escape(one.name)}: inode {one.inode}{' (the same)' if same else ' (another!)'}, "
        f"{one.links} link{'' if one.links == 1 else 's'}",
        _listing(lock_dir), now,
    )


def _content(judged: Judged, now: float | None) -> Link:
    seen = judged.seen
    assert seen is not None
    named = seen.named_claim()
    if not seen.content:
        found = "empty: it names no claim"
    elif named is None:
        found = f"names no claim: {escape(seen.content[:80], 120)}"
    elif named in judged.claims:
        found = f"names the claim {escape(named)}"
    elif named == judged.name:
        found = "names itself"
    else:
        found = f"names {escape(named, 300)}, which is no claim file beside it"
    return Link("content", found, f"read of {escape(judged.name)}", now)


def _owner(
    owner: Owner, judged: Judged, evidence: Evidence, around: Surroundings
) -> list[Link]:
    facts = evidence.hosts.get(owner.host)
    host = f"host {escape(owner.host)}"
    if facts is None:
        return [Link(host, "nothing is known of it", "crm_mon", evidence.now)]
    mapped = owner.host in around.host_map
    by = "host_map" if mapped else "the names of the nodes (crm_mon) and of this host"
    if around.cluster is None:
        by = "host_map" if mapped else "this host's own names"
    if facts.kind == verdicts.THIS_HOST:
        named = f", node {escape(facts.node)}" if facts.node else ""
        return [
            Link(host, f"this host{named}", by, evidence.now),
            *_process(owner, judged, evidence),
        ]
    if facts.kind == verdicts.NODE:
        return [
            Link(host, f"node {escape(facts.node)}", by, evidence.now),
            *_node(facts.node, judged, evidence, around),
        ]
    found = {
        verdicts.FOREIGN: "no node of this cluster" if around.cluster else "not this host",
        verdicts.AMBIGUOUS: "more than one machine may call itself that",
        verdicts.NO_EVIDENCE: "not known",
    }[facts.kind]
    return [Link(host, f"{found}: {facts.why}" if facts.why else found, by, evidence.now)]


def _process(owner: Owner, judged: Judged, evidence: Evidence) -> list[Link]:
    source = f"/proc/{owner.pid}"
    subject = f"process {owner.pid}"
    process = evidence.processes.get(owner.pid)
    booted = Link(
        "this host", f"booted {moment(evidence.booted_at)}"
        + _beside(evidence.booted_at, judged, evidence),
        "the kernel's clock since boot", evidence.booted_at,
    )
    if process is None:
        return [Link(subject, "there is none", source, evidence.now), booted]
    kind = "Mailman's" if process.is_mailman else "not known as Mailman's"
    return [
        Link(
            subject,
            f"{process.command}; {kind}; started {moment(process.started_at)}"
            + _beside(process.started_at, judged, evidence),
            source, evidence.now,
        ),
        booted,
    ]


def _beside(moment_here: float, judged: Judged, evidence: Evidence) -> str:
    """How a moment of this host's clock stands to the file's last touch."""
    if judged.changed_at is None:
        return ""
    apart = moment_here - (judged.changed_at - evidence.clock_offset)
    if abs(apart) < 60:
        size = f"{abs(apart):.2f} s"
    else:
        size = span(apart)
    return f", {size} {'after' if apart > 0 else 'before'} the last touch"


def _node(
    name: str, judged: Judged, evidence: Evidence, around: Surroundings
) -> list[Link]:
    node = around.cluster.nodes.get(name) if around.cluster is not None else None
    if node is None:
        return []
    state = [
        "unclean" if node.unclean else "",
        "joining" if node.pending else "",
        "online" if node.online else "offline",
        "in standby" if node.standby else "",
        "in maintenance" if node.maintenance else "",
    ]
    links = [Link(
        f"node {escape(name)}", ", ".join(filter(None, state)), "crm_mon", evidence.now
    )]
    if node.fenced_at is None:
        links.append(Link(
            "fencing", f"no successful one of {escape(name)} is known",
            "crm_mon, fencing history", evidence.now,
        ))
    else:
        links.append(Link(
            "fencing", f"{escape(name)} was last fenced {moment(node.fenced_at)}"
            + _beside(node.fenced_at, judged, evidence),
            "crm_mon, fencing history", node.fenced_at,
        ))
    return links


def _clocks(evidence: Evidence, lock_dir: str) -> list[Link]:
    links = []
    if evidence.clock_uncertainty < _NOT_MEASURED:
        links.append(Link(
            "clocks",
            f"the file server's is {evidence.clock_offset:+.3f} s from this host's, give or take "
            f"{evidence.clock_uncertainty:.3f} s",
            f"a file touched in {escape(lock_dir)}", evidence.now,
        ))
    if evidence.clock_stepped_at is not None:
        links.append(Link(
            "clocks",
            "this host's clock, or the file server's, was set, so that times up to "
            f"{moment(evidence.clock_stepped_at)} compare with nothing",
            "the agents' memory since boot", evidence.clock_stepped_at,
        ))
    return links


def _options(around: Surroundings, now: float | None) -> list[Link]:
    cluster = around.cluster
    assert cluster is not None
    told = [
        f"stonith-enabled={str(cluster.fencing_enabled).lower()}",
        "with quorum" if cluster.have_quorum else "without quorum",
    ]
    if around.maintenance:
        told.append("in maintenance: nothing is released")
    if around.allow_unfenced:
        told.append("allow_unfenced=true: offline counts as dead where stonith-enabled=false")
    return [Link("cluster", ", ".join(told), "crm_mon", now)]
