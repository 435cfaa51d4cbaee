"""One sweep of a lock directory: read it, judge every lock, release those of dead owners.

Used by the janitor for the whole directory and by the master for the few locks that its start
needs. The judging is :func:`mailman_ha.locks.verdict.judge`; here it is fed and carried out.
"""

from __future__ import annotations

import gc
import os
import time

from mailman_ha.agents import lock_evidence
from mailman_ha.agents.lock_evidence import UNMEASURED, Surroundings
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import grammar
from mailman_ha.locks import verdict as verdicts
from mailman_ha.locks.directory import Inspection, LockDirectory, LockFile, OrphanClaim
from mailman_ha.locks.holding import CLOCK_SLOP
from mailman_ha.locks.release import (
    GUARD_LIFETIME,
    Quarantine,
    QuarantineError,
    Released,
    has_unfinished,
)
from mailman_ha.locks.verdict import Evidence, Verdict
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, Union

    from mailman_ha.locks.grammar import Owner
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

    Seen = Union[Inspection, OSError]


#: A moment that no evidence is later than.
_NEVER = float("inf")

#: The part of an action's time that releasing leaves to what comes after it.
_LEFT_AFTER_RELEASING = 0.25


@record
class Kept:
    """A file that stays: its name, the verdict, and its age in seconds since the last touch
    (None where nobody looked)."""

    name: str
    verdict: Verdict
    age: float | None = None

    # Written out, here and below: one for every lock of a directory.
    def __init__(self, name: str, verdict: Verdict, age: float | None = None) -> None:
        fields = self.__dict__
        fields["name"] = name
        fields["verdict"] = verdict
        fields["age"] = age

    def sentence(self) -> str:
        return f"{escape(self.name)}: {self.verdict.sentence()}"


@record
class SweepReport:
    """What one sweep did. `problems` are sentences about what stood in the way."""

    listing: LockDirectory
    released: tuple[tuple[str, Verdict], ...] = ()
    kept: tuple[Kept, ...] = ()
    problems: tuple[str, ...] = ()

    def kept_lock(self, name: str) -> Kept | None:
        """The entry of the lock called `name` if it is still there."""
        for one in self.kept:
            if one.name == name:
                return one
        return None


@record
class _Candidate:
    """A lock or orphaned claim whose owner may turn out to be dead. `claims` are the other names on
    its inode, `claimants` of an orphan the owners of each name."""

    name: str
    claims: tuple[str, ...]
    owners: tuple[Owner, ...]
    lock: LockFile | None
    claimants: tuple[tuple[Owner, ...], ...] = ()

    def __init__(
        self, name: str, claims: tuple[str, ...], owners: tuple[Owner, ...],
        lock: LockFile | None, claimants: tuple[tuple[Owner, ...], ...] = (),
    ) -> None:
        fields = self.__dict__
        fields["name"] = name
        fields["claims"] = claims
        fields["owners"] = owners
        fields["lock"] = lock
        fields["claimants"] = claimants


def sweep(
    call: Call,
    site: Installation,
    around: Callable[[], Surroundings],
    only: Collection[str] | None = None,
) -> SweepReport:
    """Sweep the lock directory of `site`; `only` limits it to the locks of these names.

    `around` is called where the directory holds anything to judge. Raises OSError where the
    directory cannot be listed.
    """
    # What a sweep makes lives until its end, and walking over it again and again to find garbage
    # would cost a third of the time in a large directory.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _sweep(call, site, around, only)
    finally:
        if collecting:
            gc.enable()


def _sweep(
    call: Call,
    site: Installation,
    around: Callable[[], Surroundings],
    only: Collection[str] | None,
) -> SweepReport:
    call.deadline.doing(f"reading the lock directory {site.lock_dir}")
    with ActingAs(site.user.uid, site.user.gid):
        interrupted = has_unfinished(site.lock_dir)
    problems = _finish_interrupted(call, site, around()) if interrupted else ()
    with ActingAs(site.user.uid, site.user.gid):
        listing = lock_directory.read(site.lock_dir, site.format, site.master_lock)
    locks, orphans, settled = _chosen(listing, only)
    if not locks and not orphans:
        return SweepReport(listing, kept=_with_ages(site, settled), problems=problems)
    surroundings = around()
    near, far, distant = _divide(call, site, surroundings, locks, orphans)
    settled += [(one.name, verdict) for one, verdict in far]
    if not near:
        return SweepReport(listing, kept=_with_ages(site, settled), problems=problems)
    return _look_closely(call, site, surroundings, listing, near, settled, distant, problems)


def _chosen(
    listing: LockDirectory, only: Collection[str] | None
) -> tuple[list[LockFile], list[OrphanClaim], list[tuple[str, Verdict]]]:
    """What of the listing is to be judged, and what needs no judging: files that are no files."""
    locks = [lock for lock in listing.locks if only is None or lock.name in only]
    orphans = [orphan for orphan in listing.orphans if only is None or _may_claim(orphan, only)]
    odd = [
        (name, Verdict(verdicts.UNKNOWN, "it is no regular file",
                       "find out who put it there, then remove it"))
        for name in listing.odd
        if only is None or name in only
    ]
    return locks, orphans, odd


def _divide(
    call: Call,
    site: Installation,
    surroundings: Surroundings,
    locks: Collection[LockFile],
    orphans: Collection[OrphanClaim],
) -> tuple[list[_Candidate], list[tuple[LockFile | OrphanClaim, Verdict]], Evidence]:
    """Those that must be opened to be judged, those whose verdict stands without, and the evidence
    that it stands on."""
    owners = [owner for lock in locks for owner in lock.owners]
    for orphan in orphans:
        owners.extend(orphan.owners())
    distant = lock_evidence.gather(call, site, surroundings, owners, UNMEASURED)
    near = []
    far: list[tuple[LockFile | OrphanClaim, Verdict]] = []
    for lock in locks:
        verdict = _without_looking(lock.owners, distant)
        if verdict is None:
            near.append(_candidate(lock))
        else:
            far.append((lock, verdict))
    for orphan in orphans:
        verdict = _without_looking(orphan.owners(), distant)
        if verdict is None:
            near.append(_candidate(orphan))
        else:
            far.append((orphan, verdict))
    return near, far, distant


def _candidate(one: LockFile | OrphanClaim) -> _Candidate:
    if isinstance(one, LockFile):
        return _Candidate(one.name, one.claims, one.owners, one)
    return _Candidate(
        one.name, tuple([twin.name for twin in one.twins]) if one.twins else (), one.owners(), None,
        one.claimants(),
    )


@record
class Judged:
    """One file of a lock directory with its verdict. `claims` and `owners` are as the listing has
    them; `seen` is what opening it showed, None where that was not needed or not possible (then
    `trouble` says why). Times are in seconds since the epoch by the file server's clock; None
    where they could not be read."""

    name: str
    verdict: Verdict
    is_lock: bool
    claims: tuple[str, ...] = ()
    owners: tuple[Owner, ...] = ()
    changed_at: float | None = None
    expires_at: float | None = None
    seen: Inspection | None = None
    trouble: str = ""


@record
class Look:
    """What a sweep would judge, without its hands: nothing is released, nothing is mended.

    `evidence` and `surroundings` are None where the directory held nothing to judge.
    `interrupted`: a release was killed half-way, and the next sweep ends it.
    """

    listing: LockDirectory
    judged: tuple[Judged, ...] = ()
    evidence: Evidence | None = None
    surroundings: Surroundings | None = None
    interrupted: bool = False


def look(
    call: Call,
    site: Installation,
    around: Callable[[], Surroundings],
    only: Collection[str] | None = None,
    closely: bool = False,
) -> Look:
    """Judge the locks in the lock directory of `site` as :func:`sweep` does, and change nothing.

    With `closely` every file is opened, also those whose verdict stands without. Raises OSError
    where the directory cannot be listed.
    """
    call.deadline.doing(f"reading the lock directory {site.lock_dir}")
    with ActingAs(site.user.uid, site.user.gid):
        interrupted = has_unfinished(site.lock_dir)
        listing = lock_directory.read(site.lock_dir, site.format, site.master_lock)
    locks, orphans, odd = _chosen(listing, only)
    if not locks and not orphans and not odd:
        return Look(listing, interrupted=interrupted)
    surroundings = around()
    near, far, distant = _divide(call, site, surroundings, locks, orphans)
    seen, evidence = _examine(call, site, surroundings, near, distant)
    looked: list[tuple[_Candidate, Verdict, Inspection | os.stat_result | OSError]] = [
        (candidate, _judge(candidate, found, site, evidence), found)
        for candidate, found in zip(near, seen)
    ]
    unopened = [
        *((_candidate(one), verdict) for one, verdict in far),
        *((_Candidate(name, (), (), None), verdict) for name, verdict in odd),
    ]
    with ActingAs(site.user.uid, site.user.gid):
        opened: Sequence[Inspection | os.stat_result | OSError] = (
            _inspect_all(site.lock_dir, [candidate for candidate, _ in unopened])
            if closely else _stat_all(site.lock_dir, [one.name for one, _ in unopened])
        )
        looked += [(*one, found) for one, found in zip(unopened, opened)]
        # What may not be opened may still be stated.
        refused = [one.name for one, _, found in looked if isinstance(found, OSError)]
        stated = dict(zip(refused, _stat_all(site.lock_dir, refused)))
    judged = []
    for candidate, verdict, found in looked:
        status = stated.get(candidate.name, found)
        if not isinstance(status, OSError) or not lock_directory.is_gone(status):
            judged.append(_judged(candidate, verdict, found, status))
    return Look(listing, tuple(judged), evidence, surroundings, interrupted)


def _judged(
    candidate: _Candidate,
    verdict: Verdict,
    found: Inspection | os.stat_result | OSError,
    status: Inspection | os.stat_result | OSError,
) -> Judged:
    """`found` is what a look at the file showed, `status` the same, or its times where it could
    not be opened."""
    changed_at: float | None = None
    expires_at: float | None = None
    if isinstance(status, Inspection):
        changed_at, expires_at = status.changed_at, status.expires_at
    elif isinstance(status, os.stat_result):
        changed_at, expires_at = status.st_ctime, status.st_mtime
    return Judged(
        candidate.name, verdict, candidate.lock is not None, candidate.claims, candidate.owners,
        changed_at, expires_at,
        seen=found if isinstance(found, Inspection) else None,
        trouble=(found.strerror or str(found)) if isinstance(found, OSError) else "",
    )


def _stat_all(
    lock_dir: str, names: list[str]
) -> list[Inspection | os.stat_result | OSError]:
    found: list[Inspection | os.stat_result | OSError] = []
    directory = lock_directory.open_lock_directory(lock_dir)
    try:
        for name in names:
            try:
                found.append(os.stat(name, dir_fd=directory, follow_symlinks=False))
            except OSError as error:
                found.append(error)
    finally:
        os.close(directory)
    return found


def _finish_interrupted(
    call: Call, site: Installation, surroundings: Surroundings
) -> tuple[str, ...]:
    """End releases that were killed half-way; returns what stood in the way."""
    if surroundings.maintenance:
        return ()
    call.deadline.doing(f"ending an interrupted release in {site.lock_dir}")
    host = surroundings.this_host.node or surroundings.this_host.hostname
    problems = []
    with ActingAs(site.user.uid, site.user.gid):
        try:
            with Quarantine(site.lock_dir, host, _guard_wait(call)) as quarantine:
                problems += _finish_under_guard(call, quarantine)
        except QuarantineError as error:
            problems.append(f"an interrupted release could not be ended: {error}")
    return tuple(problems)


def _finish_under_guard(call: Call, quarantine: Quarantine) -> list[str]:
    """End the interrupted releases; returns what stood in the way."""
    problems = []
    try:
        for result in quarantine.finish_interrupted():
            name = escape(result.name)
            if result.why:
                problems.append(f"the interrupted release of {name}: {result.why}")
            else:
                call.log.info(f"ended the interrupted release of {name}")
    except OSError as error:
        problems.append(f"an interrupted release could not be ended: {error}")
    return problems


def _guard_wait(call: Call) -> float:
    """How long to wait for the guard (seconds): what a node leaves that died while it released is
    broken after GUARD_LIFETIME and Mailman's slop, and a start must not fail for that."""
    return min(GUARD_LIFETIME + CLOCK_SLOP + 2.0, call.deadline.remaining() / 2)


def _may_claim(orphan: OrphanClaim, only: Collection[str]) -> bool:
    return any(
        lock_name in only for one in (orphan, *orphan.twins) for lock_name, _ in one.readings
    )


def _without_looking(owners: tuple[Owner, ...], evidence: Evidence) -> Verdict | None:
    """The verdict where no look at the file can change it: an owner that nothing could prove
    dead whatever the file's times are. None where the file must be opened."""
    if not owners:
        return None
    for owner in verdicts.known_owners(owners, evidence):
        facts = evidence.hosts[owner.host]
        if facts.kind == verdicts.THIS_HOST:
            if evidence.processes.get(owner.pid) is None:
                continue
            return None
        if facts.kind == verdicts.NODE and (
            (facts.fenced_at is not None and evidence.fencing_enabled)
            or (not facts.online and evidence.allow_unfenced)
            or owner.pid in facts.ended
        ):
            continue
        return verdicts.judge_owner(owner, _NEVER, evidence)
    return None


def _with_ages(site: Installation, settled: list[tuple[str, Verdict]]) -> tuple[Kept, ...]:
    """What is kept by these verdicts, with the age of what may be stuck (anything but the living
    and other nodes' own)."""
    aged = []
    now = time.time()
    stat = os.stat
    with ActingAs(site.user.uid, site.user.gid):
        try:
            directory = lock_directory.open_lock_directory(site.lock_dir)
        except OSError:
            return tuple(Kept(name, verdict) for name, verdict in settled)
        try:
            for name, verdict in settled:
                if verdict.state in (verdicts.ALIVE, verdicts.MEMBER):
                    aged.append(Kept(name, verdict))
                    continue
                try:
                    changed_at = stat(name, dir_fd=directory, follow_symlinks=False).st_ctime
                except OSError:
                    continue  # gone meanwhile
                aged.append(Kept(name, verdict, now - changed_at))
        finally:
            os.close(directory)
    return tuple(aged)


def _look_closely(
    call: Call,
    site: Installation,
    surroundings: Surroundings,
    listing: LockDirectory,
    near: list[_Candidate],
    settled: list[tuple[str, Verdict]],
    distant: Evidence,
    found: tuple[str, ...],
) -> SweepReport:
    released = []
    kept = []
    problems = list(found)
    call.deadline.doing(f"looking at the locks in {site.lock_dir}")
    seen, evidence = _examine(call, site, surroundings, near, distant)
    server_now = evidence.now + evidence.clock_offset
    dead = []
    for candidate, look in zip(near, seen):
        if isinstance(look, OSError):
            if not lock_directory.is_gone(look):
                settled.append((candidate.name, _judge(candidate, look, site, evidence)))
            continue
        verdict = _judge(candidate, look, site, evidence)
        if not verdict.may_release:
            kept.append(Kept(candidate.name, verdict, server_now - look.changed_at))
        elif evidence.maintenance:
            kept.append(Kept(candidate.name, verdict, server_now - look.changed_at))
            problems.append(
                f"{escape(candidate.name)} could be released ({verdict.why}), but not while the "
                "cluster is in maintenance mode"
            )
        else:
            dead.append((candidate, look, verdict))
    if dead:
        # What a start waits for comes first, and claims that nothing waits for come last.
        dead.sort(key=lambda one: (one[0].name != site.master_lock, one[0].lock is None))
        results = _release_all(call, site, surroundings, evidence, dead, problems)
        later = dead[len(results) :]
        if later:
            problems.append(
                f"{len(later)} more locks and claims of dead owners in {site.lock_dir} are kept "
                "for now, as the time allowed was nearly over: the next sweep goes on"
            )
        for candidate, look, verdict in later:
            kept.append(Kept(candidate.name, verdict, server_now - look.changed_at))
        for candidate, look, verdict, result in results:
            if result.done:
                released.append((candidate.name, verdict))
                call.log.info(f"released {escape(candidate.name)}: {verdict.why}")
                if result.why:
                    problems.append(f"{escape(candidate.name)} was {result.why}")
            else:
                kept.append(
                    Kept(
                        candidate.name,
                        Verdict(verdicts.UNKNOWN, f"{verdict.why}, but {result.why}",
                                "the next look tries again", verdict.owner),
                        server_now - look.changed_at,
                    )
                )
    return SweepReport(
        listing, tuple(released), (*_with_ages(site, settled), *kept), tuple(problems)
    )


def _examine(
    call: Call,
    site: Installation,
    surroundings: Surroundings,
    near: list[_Candidate],
    distant: Evidence,
) -> tuple[list[Seen], Evidence]:
    """Open each of `near`; the evidence with measured clocks and with what their content names."""
    with ActingAs(site.user.uid, site.user.gid):
        seen = _inspect_all(site.lock_dir, near)
        skew = lock_evidence.measure_skew(site.lock_dir)
    more = [
        owner for candidate, found in zip(near, seen)
        for owner in _owners_by_content(site, candidate, found)
    ]
    named = lock_evidence.gather(call, site, surroundings, more, skew)
    return seen, replace(
        named,
        hosts={**distant.hosts, **named.hosts},
        processes={**distant.processes, **named.processes},
    )


def _inspect_all(lock_dir: str, near: list[_Candidate]) -> list[Seen]:
    seen: list[Seen] = []
    directory = lock_directory.open_lock_directory(lock_dir)
    try:
        for candidate in near:
            try:
                seen.append(lock_directory.inspect(directory, candidate.name))
            except OSError as error:
                seen.append(error)
    finally:
        os.close(directory)
    return seen


def _owners_by_content(
    site: Installation, candidate: _Candidate, look: Seen
) -> tuple[Owner, ...]:
    """Owners that only a lock's content names (its claim file is gone)."""
    if candidate.lock is not None and isinstance(look, Inspection):
        named = look.named_claim()
        if named is not None and named not in candidate.claims:
            return grammar.owners_of_claim(site.format, candidate.name, named)
    return ()


def _judge(
    candidate: _Candidate, look: Seen, site: Installation, evidence: Evidence
) -> Verdict:
    if candidate.lock is not None:
        return verdicts.judge(candidate.lock, look, site.format, evidence)
    owners, *twins = candidate.claimants
    return verdicts.judge_claim(owners, look, evidence, tuple(twins))


def _release_all(
    call: Call,
    site: Installation,
    surroundings: Surroundings,
    evidence: Evidence,
    dead: list[tuple[_Candidate, Inspection, Verdict]],
    problems: list[str],
) -> list[tuple[_Candidate, Inspection, Verdict, Released]]:
    """Release them in this order, at least one and then as many as there is time for."""
    results: list[tuple[_Candidate, Inspection, Verdict, Released]] = []
    call.deadline.doing(f"releasing locks in {site.lock_dir}")
    host = surroundings.this_host.node or surroundings.this_host.hostname
    with ActingAs(site.user.uid, site.user.gid):
        try:
            with Quarantine(site.lock_dir, host, _guard_wait(call)) as quarantine:
                # Of a release that was killed while we waited for the guard. Ours of the same lock
                # would find it changed, and take the note away by which it is to be ended.
                problems += _finish_under_guard(call, quarantine)
                for candidate, look, verdict in dead:
                    left_after = call.deadline.timeout * _LEFT_AFTER_RELEASING
                    if results and call.deadline.remaining() < left_after:
                        break

                    def still_dead(now: Inspection, candidate: _Candidate = candidate) -> bool:
                        by_content = _owners_by_content(site, candidate, now)
                        owners = candidate.owners + by_content
                        return _judge(
                            candidate, now, site, _fresh(site, evidence, owners)
                        ).may_release

                    try:
                        result = quarantine.release(
                            look, candidate.claims,
                            _as_line(call, surroundings, verdict, look), still_dead,
                        )
                    except OSError as error:
                        result = Released(
                            look.name, False, f"it could not be moved aside ({error.strerror})"
                        )
                    results.append((candidate, look, verdict, result))
        except QuarantineError as error:
            problems.append(str(error))
            for candidate, look, verdict in dead[len(results) :]:
                results.append(
                    (candidate, look, verdict, Released(look.name, False, str(error)))
                )
    return results


def _fresh(site: Installation, evidence: Evidence, owners: tuple[Owner, ...]) -> Evidence:
    """The evidence on `owners` with this host's processes looked at again, right before the
    release.

    They are looked at as root where we are root, since /proc may hide them from Mailman's user.
    """
    effective = os.geteuid()
    regained = effective != 0 and os.getuid() == 0
    if regained:
        os.seteuid(0)
    try:
        processes = {
            owner.pid: lock_evidence.process_facts(owner.pid, site)
            for owner in owners
            if owner.pid in evidence.processes
        }
    finally:
        if regained:
            os.seteuid(effective)
    return replace(evidence, processes=processes)


def _as_line(
    call: Call, surroundings: Surroundings, verdict: Verdict, look: Inspection
) -> dict[str, Any]:
    """The evidence of one release, as it is logged."""
    owner = verdict.owner
    line: dict[str, Any] = {
        "by_node": surroundings.this_host.node or surroundings.this_host.hostname,
        "by_resource": call.instance,
        "state": verdict.state,
        "why": verdict.why,
        "inode": look.inode,
        "links": look.links,
        "changed_at": look.changed_at,
        "expires_at": look.expires_at,
        "content": escape(os.fsdecode(look.content[:512])),
    }
    if owner is not None:
        line["host"] = owner.host
        line["pid"] = owner.pid
        if surroundings.cluster is not None:
            from mailman_ha.evidence.hosts import node_of

            node = node_of(
                owner.host, surroundings.this_host, surroundings.host_map,
                surroundings.cluster.nodes,
            )
            known = surroundings.cluster.nodes.get(node or "")
            if known is not None:
                line["node"] = known.name
                line["node_online"] = known.online
                line["node_fenced_at"] = known.fenced_at
    return line
