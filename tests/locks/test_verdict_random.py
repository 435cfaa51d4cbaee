"""Random evidence and random locks: nothing is ever released that has an owner not proven dead."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from mailman_ha.locks import grammar, verdict
from mailman_ha.locks.directory import Inspection, LockFile
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, Owner
from mailman_ha.locks.verdict import Evidence, HostFacts, ProcessFacts

HOSTS = ("a", "b", "a.5", "b.example.org", "localhost")
NOW = 1_700_000_000.0

#: Moments on both sides of a lock's last touch, close to it and far from it.
seconds = st.sampled_from(
    [NOW + shift for shift in (-90.0, -30.0, -2.0, -0.4, 0.0, 0.4, 2.0, 30.0, 90.0)]
)
KINDS = (
    verdict.THIS_HOST, verdict.THIS_HOST, verdict.NODE, verdict.NODE, verdict.FOREIGN,
    verdict.FOREIGN, verdict.AMBIGUOUS, verdict.NO_EVIDENCE, None,
)
host_facts = st.builds(
    lambda kind, online, unclean, fenced_at: kind and HostFacts(
        kind, "n1", online, unclean, fenced_at, "why"
    ),
    st.sampled_from(KINDS), st.booleans(), st.booleans(), st.none() | seconds,
)
process = st.none() | st.builds(
    ProcessFacts, pid=st.just(5), started_at=seconds, is_mailman=st.booleans(),
    command=st.just("command"),
)
evidences = st.builds(
    Evidence,
    hosts=st.lists(host_facts, min_size=len(HOSTS), max_size=len(HOSTS)).map(
        lambda facts: {host: one for host, one in zip(HOSTS, facts) if one}
    ),
    processes=st.lists(process, min_size=5, max_size=5).map(
        lambda found: dict(enumerate(found, 1))
    ),
    now=st.just(NOW),
    booted_at=seconds,
    clock_offset=st.sampled_from((0.0, 0.0, 60.0, -60.0)),
    clock_uncertainty=st.sampled_from((0.05, 1.0)),
    clock_stepped_at=st.none() | seconds,
    fencing_enabled=st.sampled_from((True, True, False)),
    allow_unfenced=st.booleans(),
)


@st.composite
def locks(draw: st.DrawFn) -> tuple[str, LockFile, Inspection]:
    """A lock and what was seen of it: mostly in order, sometimes with one thing wrong."""
    format = draw(st.sampled_from((FORMAT_21, FORMAT_3)))
    name = draw(st.sampled_from(("x.lock", "master")))
    claim = st.builds(
        lambda host, pid, serial, handed: (
            f"{name}.{host}.{pid}" if handed and format == FORMAT_21
            else grammar.claim_name(format, name, host, pid, serial)
        ),
        st.sampled_from(HOSTS), st.integers(1, 6), st.sampled_from((0, 5, 99)), st.booleans(),
    )
    claims = tuple(draw(st.lists(claim, unique=True, max_size=2)))
    owners = tuple(
        owner for one in claims for owner in grammar.owners_of_claim(format, name, one)
    )
    wrong = draw(st.sampled_from(("inode", "links", "content", "long", *[""] * 6)))
    content = draw(st.sampled_from((*claims, "") if claims else ("",)))
    if not claims or wrong == "content":
        content = draw(st.one_of(claim, st.sampled_from(("", "passwd", "x.lock.", "x.lock|a|b|c"))))
    seen = Inspection(
        name, 8 if wrong == "inode" else 7, 1,
        len(claims) + (2 if wrong == "links" else 1),
        int(draw(seconds) * 1e9), int(draw(seconds) * 1e9),
        b"/locks/" + os.fsencode(content) if content else b"", wrong != "long",
    )
    return format, LockFile(name, 7, claims, owners), seen


def proven_dead(owner: Owner, touched: float, evidence: Evidence) -> bool:
    """Whether the evidence proves that `owner` cannot hold a file last touched at `touched`."""
    host = evidence.hosts.get(owner.host)
    here = touched - evidence.clock_offset
    doubt = evidence.clock_uncertainty
    stepped = evidence.clock_stepped_at
    if host is None or host.kind not in (verdict.THIS_HOST, verdict.NODE):
        return False
    if host.kind == verdict.NODE:
        if not evidence.fencing_enabled:
            return evidence.allow_unfenced and not host.online
        return (
            host.fenced_at is not None
            and host.fenced_at - here > doubt
            and (stepped is None or host.fenced_at - stepped > doubt)
        )
    if owner.pid not in evidence.processes:
        return False
    found = evidence.processes[owner.pid]
    if found is None:
        return True
    comparable = stepped is None or here - stepped > doubt
    return comparable and max(found.started_at, evidence.booted_at) - here > doubt


@settings(max_examples=250, deadline=None)
@given(locks(), evidences)
def test_lock_with_a_known_owner_not_proven_dead_is_never_released(
    lock_seen: tuple[str, LockFile, Inspection], evidence: Evidence
) -> None:
    format, lock, seen = lock_seen
    judged = verdict.judge(lock, seen, format, evidence)
    if not judged.may_release:
        assert judged.remedy or judged.state == verdict.ALIVE
        return
    named = seen.named_claim()
    claims = {*lock.claims, *((named,) if named else ())}
    assert claims, "released although nobody is known to own it"
    assert seen.inode == lock.inode and seen.links == len(lock.claims) + 1
    for claim in claims:
        readings = grammar.owners_of_claim(format, lock.name, claim)
        assert readings, "released although a claim on it cannot be read"
        known = [
            owner for owner in readings
            if evidence.hosts.get(owner.host) is None
            or evidence.hosts[owner.host].kind != verdict.FOREIGN
        ]
        assert known, f"released although only strangers can own {claim}"
        for owner in known:
            assert proven_dead(owner, seen.changed_at, evidence), owner


@settings(max_examples=150, deadline=None)
@given(locks(), evidences, st.sampled_from(HOSTS), st.integers(1, 6))
def test_one_more_living_claim_never_makes_a_lock_releasable(
    lock_seen: tuple[str, LockFile, Inspection], evidence: Evidence, host: str, pid: int
) -> None:
    format, lock, seen = lock_seen
    more = grammar.claim_name(format, lock.name, host, pid, 99)
    owners = grammar.owners_of_claim(format, lock.name, more)
    known = [
        owner for owner in owners
        if evidence.hosts.get(owner.host) is None
        or evidence.hosts[owner.host].kind != verdict.FOREIGN
    ]
    if all(proven_dead(owner, seen.changed_at, evidence) for owner in known or owners):
        return
    bigger = LockFile(lock.name, lock.inode, (*lock.claims, more), (*lock.owners, *owners))
    grown = Inspection(
        seen.name, seen.inode, seen.device, seen.links + 1, seen.expires_ns, seen.changed_ns,
        seen.content, seen.whole,
    )
    assert not verdict.judge(bigger, grown, format, evidence).may_release


@settings(max_examples=150, deadline=None)
@given(locks(), evidences)
def test_orphan_with_a_known_owner_not_proven_dead_is_never_released(
    lock_seen: tuple[str, LockFile, Inspection], evidence: Evidence
) -> None:
    format, lock, seen = lock_seen
    for claim in lock.claims:
        owners = grammar.owners_of_claim(format, lock.name, claim)
        judged = verdict.judge_claim(owners, seen, evidence)
        if judged.may_release:
            assert seen.links == 1
            known = [
                owner for owner in owners
                if evidence.hosts.get(owner.host) is None
                or evidence.hosts[owner.host].kind != verdict.FOREIGN
            ]
            assert known and all(
                proven_dead(owner, seen.changed_at, evidence) for owner in known
            )
