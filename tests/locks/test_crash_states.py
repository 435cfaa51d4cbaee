"""Every state in which a crash leaves the master lock (contract 1.3, A to L), as real files.

Of each: what one listing makes of it; that the lock of dead owners is released and everything of
it is gone from the directory and kept in quarantine; that a single living owner keeps it untouched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from mailman_ha.evidence.cluster import Node
from mailman_ha.locks import verdict
from mailman_ha.locks.grammar import Owner
from mailman_ha.ocf.escape import escape

from tests.locks.share import HERE, Share, dead_pid

LOCK = "master-qrunner"


@dataclass(frozen=True)
class Made:
    """A state on disk: the names that are there, and which of them the lock has as claims."""

    lock: str | None
    claims: tuple[str, ...]
    orphans: tuple[str, ...] = ()


#: Makes a state of locks of `host`, whose starter had the pid `parent`, its master `child`.
Build = Callable[[Share, str, int, int], Made]


def orphan(share: Share, host: str, parent: int, child: int) -> Made:
    """A: a claim alone, before link(2) or after the lock was unlinked."""
    names = (f"{LOCK}.{host}.{parent}.1", f"{LOCK}.{host}.{child}")
    share.write(names[0])
    share.write(names[1], content=b"")
    return Made(None, (), names)


def before_transfer(share: Share, host: str, parent: int, child: int) -> Made:
    """B: taken by mailmanctl, not yet handed to its child."""
    pair = share.lock(LOCK, host, pid=parent)
    return Made(LOCK, (pair.claim.name,))


def transfer_after_link(share: Share, host: str, parent: int, child: int) -> Made:
    """C: three names, the content still the parent's."""
    pair = share.lock(LOCK, host, pid=parent)
    share.link(LOCK, f"{LOCK}.{host}.{child}")
    return Made(LOCK, (pair.claim.name, f"{LOCK}.{host}.{child}"))


def transfer_after_truncate(share: Share, host: str, parent: int, child: int) -> Made:
    """D: three names, empty, the expiry fallen back to now."""
    made = transfer_after_link(share, host, parent, child)
    (share.path / LOCK).write_bytes(b"")
    return made


def transfer_after_write(share: Share, host: str, parent: int, child: int) -> Made:
    """E: three names, the content the child's."""
    made = transfer_after_link(share, host, parent, child)
    (share.path / LOCK).write_bytes(os.fsencode(share.path / made.claims[1]))
    return made


def transfer_after_unlink(share: Share, host: str, parent: int, child: int) -> Made:
    """F: the child's, with an expiry of now."""
    made = transfer_after_write(share, host, parent, child)
    (share.path / made.claims[0]).unlink()
    share.expire(share.path / LOCK, 0)
    return Made(LOCK, made.claims[1:])


def holder_dead(share: Share, host: str, parent: int, child: int) -> Made:
    """G and K: held by the child, expiry ahead; whether its pid is free or reused."""
    pair = share.lock(LOCK, host, pid=child, serial=None)
    return Made(LOCK, (pair.claim.name,))


def breaker_died(share: Share, host: str, parent: int, child: int) -> Made:
    """H: expired long ago, the expiry pushed by a breaker that died before it unlinked."""
    pair = share.lock(LOCK, host, pid=child, serial=None, expires_in=-90000)
    share.expire(pair.lock, 15)
    return Made(LOCK, (pair.claim.name,))


def claim_deleted(share: Share, host: str, parent: int, child: int) -> Made:
    """I: the lock alone, its claim removed by a cleaner."""
    pair = share.lock(LOCK, host, pid=child, serial=None)
    pair.claim.unlink()
    return Made(LOCK, ())


def content_lost(share: Share, host: str, parent: int, child: int) -> Made:
    """J: the content lost in a host crash."""
    pair = share.lock(LOCK, host, pid=child, serial=None, content=b"")
    return Made(LOCK, (pair.claim.name,))


def content_elsewhere(share: Share, host: str, parent: int, child: int) -> Made:
    """L: the content names another directory (the share was mounted elsewhere)."""
    claim = f"{LOCK}.{host}.{child}"
    old = b"/srv/old-mount/locks/" + claim.encode()
    share.lock(LOCK, host, pid=child, serial=None, content=old)
    return Made(LOCK, (claim,))


STATES: dict[str, Build] = {
    "A": orphan, "B": before_transfer, "C": transfer_after_link, "D": transfer_after_truncate,
    "E": transfer_after_write, "F": transfer_after_unlink, "G": holder_dead, "H": breaker_died,
    "I": claim_deleted, "J": content_lost, "L": content_elsewhere,
}

#: Which of (parent, child) a state names as owner.
NAMED = {
    "A": ("parent", "child"), "B": ("parent",), "C": ("parent", "child"),
    "D": ("parent", "child"), "E": ("parent", "child"), "F": ("child",), "G": ("child",),
    "H": ("child",), "I": ("child",), "J": ("child",), "L": ("child",),
}


@pytest.mark.parametrize("state", STATES)
def test_one_listing_pairs_lock_and_claims(share: Share, state: str) -> None:
    parent, child = dead_pid(), dead_pid()
    made = STATES[state](share, HERE, parent, child)
    listing = share.read()
    assert listing.odd == () and listing.ignored == 0
    assert {one.name for one in listing.orphans} == set(made.orphans)
    for one in listing.orphans:
        assert {owner.host for owner in one.owners()} >= {HERE}
    if made.lock is None:
        assert listing.locks == ()
        return
    (lock,) = listing.locks
    assert (lock.name, set(lock.claims)) == (made.lock, set(made.claims))
    assert lock.inode == os.stat(share.path / made.lock).st_ino
    pids = {"parent": parent, "child": child}
    expected = {Owner(HERE, pids[who]) for who in NAMED[state]} if made.claims else set()
    assert expected <= set(lock.owners)


@pytest.mark.parametrize("state", STATES)
def test_state_with_dead_owners_only_is_released_whole(share: Share, state: str) -> None:
    STATES[state](share, HERE, dead_pid(), dead_pid())
    before = share.names()
    report = share.sweep()
    assert share.names() == set(), [one.sentence() for one in report.kept]
    assert share.quarantined() == before
    assert report.kept == () and report.problems == ()
    assert len(share.evidence()) == (2 if state == "A" else 1)
    assert share.leftovers() == set()
    for line in share.evidence():
        assert line["state"] == verdict.DEAD_HERE and line["host"] == HERE


@pytest.mark.parametrize("state, living", [
    (state, who) for state, named in NAMED.items() for who in named
])
def test_state_with_a_living_owner_is_kept_untouched(
    share: Share, living_mailman: Callable[[], int], state: str, living: str
) -> None:
    pids = {"parent": dead_pid(), "child": dead_pid(), living: living_mailman()}
    made = STATES[state](share, HERE, pids["parent"], pids["child"])
    before = {name: os.stat(share.path / name) for name in share.names()}
    report = share.sweep()
    kept = {one.name: one.verdict.state for one in report.kept}
    if state == "A":  # each orphan is judged by itself
        own = (f".{pids[living]}", f".{pids[living]}.1")
        before = {name: old for name, old in before.items() if name.endswith(own)}
        assert len(before) == 1
    for name, old in before.items():
        now = os.stat(share.path / name)
        assert (now.st_ino, now.st_nlink, now.st_mtime_ns, now.st_ctime_ns) == (
            old.st_ino, old.st_nlink, old.st_mtime_ns, old.st_ctime_ns)
    assert kept[made.lock or next(iter(before))] == verdict.ALIVE
    assert len(share.evidence()) == (1 if state == "A" else 0)


def test_lock_whose_content_a_power_cut_left_as_nuls_is_released_as_an_empty_one_is(
    share: Share, living_mailman: Callable[[], int]
) -> None:
    """J too: the length of the content was on the disk, its bytes were not."""
    kept = {}
    for pid in (dead_pid(), living_mailman()):
        content = b"\0" * len(f"{share.path}/x.lock.{HERE}.{pid}.1")
        kept[pid] = share.lock(f"list{pid}.lock", pid=pid, content=content)
    share.sweep()
    dead, alive = kept.values()
    assert not dead.lock.exists() and len(share.evidence()) == 1
    assert alive.is_untouched()


def broken(share: Share, breaker: int, owner: int) -> set[str]:
    """Our own breaker has moved an expired lock to a claim's name of its own, and died."""
    pair = share.lock(LOCK, HERE, pid=owner)
    pair.lock.rename(share.path / f"{LOCK}.{HERE}.{breaker}.40")
    share.write(f"{LOCK}.{HERE}.{breaker}.4")
    return {pair.claim.name, f"{LOCK}.{HERE}.{breaker}.40", f"{LOCK}.{HERE}.{breaker}.4"}


def test_lock_whose_breaker_died_in_the_midst_of_it_is_released_whole(share: Share) -> None:
    names = broken(share, dead_pid(), dead_pid())
    report = share.sweep()
    assert share.names() == set(), [one.sentence() for one in report.kept]
    assert share.quarantined() == names
    assert report.kept == () and len(share.evidence()) == 2 and share.leftovers() == set()


@pytest.mark.parametrize("living", ["breaker", "owner"])
def test_broken_lock_is_kept_whole_as_long_as_its_owner_or_its_breaker_lives(
    share: Share, living_mailman: Callable[[], int], living: str
) -> None:
    pids = {"breaker": dead_pid(), "owner": dead_pid(), living: living_mailman()}
    names = broken(share, pids["breaker"], pids["owner"])
    share.sweep()
    claim = {f"{LOCK}.{HERE}.{pids['breaker']}.4"}
    assert share.names() == (names if living == "breaker" else names - claim)


def test_broken_lock_with_one_more_name_somewhere_is_kept(share: Share) -> None:
    breaker = dead_pid()
    broken(share, breaker, dead_pid())
    elsewhere = share.path / "no-claim"
    elsewhere.hardlink_to(share.path / f"{LOCK}.{HERE}.{breaker}.40")
    (kept,) = share.sweep().kept
    assert kept.verdict.state == verdict.UNKNOWN and "3 links, so it is in use" in kept.sentence()


@pytest.mark.parametrize("state", STATES)
def test_state_of_another_node_is_kept_until_that_node_is_fenced(
    share: Share, state: str
) -> None:
    """G' and its kin."""
    STATES[state](share, "n2", 4242, 4243)
    before = share.names()
    share.nodes["n2"] = Node("n2", online=False, unclean=True)
    report = share.sweep()
    assert share.names() == before
    assert report.kept and {one.verdict.state for one in report.kept} == {verdict.LOST}
    for one in report.kept:
        assert "n2" in one.sentence() and "pcs stonith" in one.sentence()
        assert "4242" in one.sentence() or "4243" in one.sentence()
    share.nodes["n2"] = Node("n2", online=False, unclean=False, fenced_at=time.time() - 60)
    assert {one.verdict.state for one in share.sweep().kept} == {verdict.LOST}
    assert share.names() == before
    share.nodes["n2"] = Node("n2", online=False, unclean=False, fenced_at=time.time() + 5)
    report = share.sweep()
    assert share.names() == set(), [escape(one.sentence()) for one in report.kept]
    assert share.quarantined() == before
    assert {line["state"] for line in share.evidence()} == {verdict.FENCED}
