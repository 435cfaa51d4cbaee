"""Is the owner of a lock alive? The one decision of this project, as a pure function.

What is known comes in as immutable records (:class:`HostFacts`, :class:`ProcessFacts`,
:class:`Evidence`); out comes a :class:`Verdict` with the state, the sentence an operator reads,
and what to type next. No file is opened here and no clock is read.

Only three states let a lock be released: :data:`DEAD_HERE`, :data:`ENDED` and :data:`FENCED`.
Doubt is always resolved toward alive (design, "Evidence and verdicts").
"""

from __future__ import annotations

import functools
import os
import time

from mailman_ha.locks import grammar
from mailman_ha.locks.directory import CONTENT_LIMIT, Inspection, LockFile
from mailman_ha.locks.grammar import Owner
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What an owner can be.
ALIVE = "alive"
DEAD_HERE = "dead here"
ENDED = "ended"
FENCED = "fenced"
LOST = "lost"
MEMBER = "member"
STRANGER = "stranger"
UNKNOWN = "unknown"

RELEASABLE = (DEAD_HERE, ENDED, FENCED)

#: Where owners disagree, the reading that is least safe to release speaks for the lock.
_MOST_ALIVE_FIRST = (ALIVE, MEMBER, UNKNOWN, LOST, STRANGER, ENDED, FENCED, DEAD_HERE)

# What a host name in a claim can stand for.
THIS_HOST = "this host"
NODE = "node"
FOREIGN = "foreign"
AMBIGUOUS = "ambiguous"
NO_EVIDENCE = "no evidence"


@record
class HostFacts:
    """What is known of the machine that a claim's host name stands for.

    `kind` is one of THIS_HOST, NODE (another cluster node), FOREIGN (no node has this name),
    AMBIGUOUS (more than one machine may present it) and NO_EVIDENCE (the cluster did not
    answer); `why` explains the last three. `fenced_at` is when the last successful fencing of
    the node completed, in seconds since the epoch by this node's clock; None where none is known.
    `ended` are the pids that the node itself says have ended by `ended_at` (same unit).
    """

    kind: str
    node: str = ""
    online: bool = False
    unclean: bool = False
    fenced_at: float | None = None
    why: str = ""
    ended_at: float | None = None
    ended: frozenset[int] = frozenset()


@record
class ProcessFacts:
    """A process of this host. `started_at` is in seconds since the epoch by this host's clock."""

    pid: int
    started_at: float
    is_mailman: bool
    command: str


@record
class Evidence:
    """All that is known besides the lock itself.

    `hosts` has an entry for every host name that is to be judged, `processes` one for every pid
    that this host's locks name (None: there is no such process).

    `clock_offset` is file server minus this host (seconds) and `clock_uncertainty` how far that
    may be wrong; both times of a lock are the server's. `booted_at` and `clock_stepped_at`
    (the latest time this host's clock may have shown before it was set, or when the server's was
    last seen to have been set; None: neither was) are by this host's clock.
    """

    hosts: Mapping[str, HostFacts]
    processes: Mapping[int, ProcessFacts | None]
    now: float
    booted_at: float
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.05
    clock_stepped_at: float | None = None
    fencing_enabled: bool = True
    allow_unfenced: bool = False
    maintenance: bool = False


@record
class Verdict:
    """`state` (see the module), why, what the operator may do, and the owner it is about."""

    state: str
    why: str
    remedy: str = ""
    owner: Owner | None = None
    expired: bool = False

    def __init__(  # written out: one for every lock of a sweep
        self, state: str, why: str, remedy: str = "", owner: Owner | None = None,
        expired: bool = False,
    ) -> None:
        fields = self.__dict__
        fields["state"] = state
        fields["why"] = why
        fields["remedy"] = remedy
        fields["owner"] = owner
        fields["expired"] = expired

    @property
    def may_release(self) -> bool:
        return self.state in RELEASABLE

    def sentence(self) -> str:
        """Why, and what to type, on one line."""
        return f"{self.why}; {self.remedy}" if self.remedy else self.why


def judge_owner(owner: Owner, changed_at: float, evidence: Evidence) -> Verdict:
    """The state of one reading's owner, for a file last linked or touched at `changed_at`
    (seconds since the epoch, the file server's clock)."""
    facts = evidence.hosts.get(owner.host)
    changed_here = changed_at - evidence.clock_offset
    if facts is None:
        return Verdict(
            UNKNOWN, f"held by pid {owner.pid} on host {owner.host}, of which nothing is known",
            _MOVE_ASIDE, owner,
        )
    if facts.kind == THIS_HOST:
        return _judge_process(owner, changed_here, evidence)
    if facts.kind == NODE:
        return _judge_node(owner, facts, changed_here, evidence)
    if facts.kind == FOREIGN:
        return Verdict(
            STRANGER,
            f"held by pid {owner.pid} on host {owner.host}, which is no node of this cluster",
            _way_out_for_stranger(owner.host),
            owner,
        )
    remedy = (
        f"set host_map so that {owner.host} belongs to one node, and give every node a host name "
        "of its own"
        if facts.kind == AMBIGUOUS
        else "start the cluster on this node (pcs cluster start), or see why crm_mon fails"
    )
    return Verdict(
        UNKNOWN, f"held by pid {owner.pid} on host {owner.host}: {facts.why}", remedy, owner
    )


def _judge_process(owner: Owner, changed_here: float, evidence: Evidence) -> Verdict:
    """An owner on this host: by its process, its start, and this host's boot."""
    where = f"pid {owner.pid} on this host ({owner.host})"
    process = evidence.processes.get(owner.pid)
    if process is None:
        if owner.pid not in evidence.processes:
            return Verdict(UNKNOWN, f"{where} was not looked at", _LOOK_AGAIN, owner)
        return Verdict(DEAD_HERE, f"{where} is gone", owner=owner)
    stepped = evidence.clock_stepped_at
    if stepped is not None and changed_here <= stepped + evidence.clock_uncertainty:
        return Verdict(
            UNKNOWN if not process.is_mailman else ALIVE,
            f"{where} exists and this host's clock was set after the lock was taken, or the file "
            "server's, so their times cannot be compared",
            f"see with `ps -fp {owner.pid}` whether it is Mailman's; if not, move the lock aside",
            owner,
        )
    margin = evidence.clock_uncertainty
    if evidence.booted_at > changed_here + margin:
        return Verdict(DEAD_HERE, f"{where} held it before this host booted", owner=owner)
    if process.started_at > changed_here + margin:
        return Verdict(
            DEAD_HERE,
            f"{where} is another process now ({process.command}), started after the lock was "
            "last touched",
            owner=owner,
        )
    if process.started_at > changed_here - margin and not process.is_mailman:
        return Verdict(
            UNKNOWN,
            f"{where} ({process.command}) started too close to the lock's last touch to tell",
            f"see with `ps -fp {owner.pid}` whether it is Mailman's",
            owner,
        )
    if process.is_mailman:
        return Verdict(
            ALIVE,
            f"{where} is alive: {process.command}",
            f"see with `ps -fp {owner.pid}` what it does; when it ends, so does its claim",
            owner,
        )
    return Verdict(
        UNKNOWN,
        f"{where} is {process.command}, which is not known as Mailman's but is older than the lock",
        f"see with `ps -fp {owner.pid}` whether it uses Mailman; end it, or move the lock aside",
        owner,
    )


def _judge_node(
    owner: Owner, facts: HostFacts, changed_here: float, evidence: Evidence
) -> Verdict:
    """An owner on another node: by fencing, or by that node's own word that it has ended."""
    where = f"pid {owner.pid} on node {facts.node}"
    if facts.node != owner.host:
        where += f" (host {owner.host})"
    proof = _proof(facts.node)
    fenced_at = facts.fenced_at if evidence.fencing_enabled else None
    stepped = evidence.clock_stepped_at
    # An event from before a clock was set bears a time that compares with nothing.
    across_step = (
        fenced_at is not None
        and stepped is not None
        and fenced_at <= stepped + evidence.clock_uncertainty
    )
    if (
        fenced_at is not None
        and not across_step
        and fenced_at > changed_here + evidence.clock_uncertainty
    ):
        return Verdict(FENCED, f"held by {where}, fenced since", owner=owner)
    ended_at = facts.ended_at if facts.online and owner.pid in facts.ended else None
    if (
        ended_at is not None
        and (stepped is None or ended_at > stepped + evidence.clock_uncertainty)
        and ended_at > changed_here + evidence.clock_uncertainty
    ):
        return Verdict(
            ENDED, f"held by {where}, which says that the process has ended since", owner=owner
        )
    too_close = (
        fenced_at is not None and fenced_at > changed_here - evidence.clock_uncertainty - 1.0
    )
    if facts.online:
        return Verdict(
            MEMBER,
            f"held by {where}, which is online: only that node can know whether the process lives",
            f"look there (ps -fp {owner.pid}); its own list-lock-janitor releases the lock of a "
            f"dead process (pcs resource refresh), or stop Mailman there",
            owner,
        )
    if across_step:
        return Verdict(
            UNKNOWN,
            f"held by {where}, which was fenced before this host's clock was set, or the file "
            "server's, so the times cannot be compared",
            proof if stepped is None or stepped <= evidence.now else (
                f"once this host's clock is past {_moment(stepped)}, {proof}"
            ),
            owner,
        )
    if too_close:
        return Verdict(
            UNKNOWN,
            f"held by {where}, fenced within the clocks' uncertainty of the lock's last touch",
            proof,
            owner,
        )
    if not evidence.fencing_enabled:
        if evidence.allow_unfenced:
            return Verdict(
                FENCED,
                f"held by {where}, which is offline; allow_unfenced=true takes that for dead",
                owner=owner,
            )
        return Verdict(
            LOST,
            f"held by {where}, which is offline, and stonith-enabled=false, so nothing proves that "
            "it is dead",
            "configure fencing, or set allow_unfenced=true if you accept two masters",
            owner,
        )
    if facts.unclean:
        state = "offline and not fenced yet"
    elif fenced_at is not None:
        state = "offline, and was last fenced before the lock was taken"
    else:
        state = "offline and was not fenced, though a node that left cleanly gives up its lock"
    return Verdict(LOST, f"held by {where}, which is {state}", proof, owner)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds + 1.0))


# A sentence is made once for all the locks of a host, of which there may be very many.


@functools.lru_cache(maxsize=64)
def _proof(node: str) -> str:
    return (
        f"fence it (pcs stonith fence {node}), or, when the machine is surely off, say so "
        f"(pcs stonith confirm {node})"
    )


@functools.lru_cache(maxsize=64)
def _way_out_for_stranger(host: str) -> str:
    return (
        f'if a node calls itself that, set host_map="NODE={host}"; if that machine is surely off, '
        "move the lock file aside by hand"
    )


def known_owners(owners: tuple[Owner, ...], evidence: Evidence) -> tuple[Owner, ...]:
    """Those of `owners` whose host is not foreign, or all where each host is.

    ``L.n1.5.1`` may be read as host ``n1.5``. Where ``n1`` is a machine we know and ``n1.5`` one
    nobody has heard of, the second reading is dropped: without this no 2.1 lock could ever be
    released. Where both are known, both count.
    """
    if len(owners) == 1:
        return owners
    known = []
    for owner in owners:
        facts = evidence.hosts.get(owner.host)
        if facts is None or facts.kind != FOREIGN:
            known.append(owner)
    return tuple(known) or owners


def judge(lock: LockFile, seen: Inspection | OSError, format: str, evidence: Evidence) -> Verdict:
    """The verdict on `lock`, of which :func:`~.directory.inspect` has returned or raised `seen`.

    Owners are those of every claim file on the lock's inode and the one that its content names.
    """
    if isinstance(seen, OSError):
        return _unreadable(seen, lock.owners)
    if seen.inode != lock.inode:
        # Listing and file are of two locks; over NFS the name may be the stale one (facts, 6).
        return _unsure(
            "it changed hands while it was looked at", lock.owners,
            "the next look will tell; do nothing",
        )
    # Each claim is one owner, however many ways there are to read its name.
    claims = (
        [lock.owners]
        if len(lock.claims) == 1
        else [grammar.owners_of_claim(format, lock.name, claim) for claim in lock.claims]
    )
    named = seen.named_claim()
    if named is not None and named not in lock.claims:
        claims.append(grammar.owners_of_claim(format, lock.name, named))
    if (named is None and not _is_empty(seen)) or () in claims:
        return _unsure(_contradiction(seen), lock.owners, _MOVE_ASIDE)
    if not claims:
        return _unsure(
            "it is empty and no claim file shares its inode, so nothing names its owner", (),
            _MOVE_ASIDE,
        )
    if len(lock.claims) + 1 != seen.links:
        return _unsure(
            f"it has {seen.links} links but {len(lock.claims) + 1} names in the directory",
            claims[0],
            "the next look will tell whether a Mailman is just taking it; if it stays so, find "
            f"its other name (find -inum {seen.inode})",
        )
    return _judge_claims(claims, seen, evidence)


def judge_claim(
    owners: tuple[Owner, ...],
    seen: Inspection | OSError,
    evidence: Evidence,
    twins: tuple[tuple[Owner, ...], ...] = (),
) -> Verdict:
    """The verdict on a file whose own name tells who wrote it: an orphaned claim file, or the
    half-written temporary file of a list. `twins` are the owners of each other claim's name that it
    is known to have; any further name is somebody's use of it."""
    if isinstance(seen, OSError):
        return _unreadable(seen, owners)
    if not owners:
        return _unsure("nothing names its owner", (), _MOVE_ASIDE)
    if seen.links != 1 + len(twins):
        return _unsure(f"it has {seen.links} links, so it is in use", owners, _LOOK_AGAIN)
    return _judge_claims([owners, *twins], seen, evidence)


def _judge_claims(
    claims: list[tuple[Owner, ...]], seen: Inspection, evidence: Evidence
) -> Verdict:
    """The verdict on a file with these claims, each a tuple of the readings of its name."""
    changed_at = seen.changed_ns / 1e9
    verdict = None
    for readings in claims:
        for owner in known_owners(readings, evidence) if len(readings) > 1 else readings:
            one = judge_owner(owner, changed_at, evidence)
            if verdict is None or _rank(one) < _rank(verdict):
                verdict = one
    if verdict is None:
        return _unsure("nothing names its owner", (), _MOVE_ASIDE)
    if seen.expires_ns / 1e9 >= evidence.now + evidence.clock_offset:
        return verdict
    return Verdict(verdict.state, verdict.why, verdict.remedy, verdict.owner, True)


def _rank(verdict: Verdict) -> int:
    return _MOST_ALIVE_FIRST.index(verdict.state)


#: A file may have as many names as a file system allows links; no sentence names more owners.
_MOST_TOLD = 4

_MOVE_ASIDE = "make sure that no Mailman uses it, then move it aside by hand"
_LOOK_AGAIN = (
    "the next look will tell; if it stays so, make sure that no Mailman uses it and move it aside "
    "by hand"
)


def _unsure(why: str, owners: tuple[Owner, ...], remedy: str) -> Verdict:
    """UNKNOWN for a reason that lies in the file, with whoever is known to have a claim on it."""
    if not owners:
        return Verdict(UNKNOWN, why, remedy)
    readings = " or ".join(f"pid {owner.pid} on host {owner.host}" for owner in owners[:_MOST_TOLD])
    if len(owners) > _MOST_TOLD:
        readings += f" or {len(owners) - _MOST_TOLD} others"
    return Verdict(UNKNOWN, f"{why} (claimed by {readings})", remedy, owners[0])


def _unreadable(error: OSError, owners: tuple[Owner, ...]) -> Verdict:
    return _unsure(
        f"cannot be read: {error.strerror or error}", owners,
        "look at it as root (ls -l, cat -v) and move it aside if no Mailman runs anywhere",
    )


def _is_empty(seen: Inspection) -> bool:
    """Whether the content is none, or of a path's length and all NULs: that is left where a power
    cut came after the length was on disk and before the content was, which nobody syncs."""
    return len(seen.content) < CONTENT_LIMIT and seen.whole and not seen.content.strip(b"\0")


def _contradiction(seen: Inspection) -> str:
    shown = escape(os.fsdecode(seen.content[:80]))
    return f"its content names no claim on it: '{shown}'" if seen.whole else (
        "its content is too long for a claim's path"
    )
