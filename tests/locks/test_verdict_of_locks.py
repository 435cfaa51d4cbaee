"""A lock with all its claims: who of them must be dead, and what speaks against a release."""

from __future__ import annotations

import errno
import os

import pytest
from mailman_ha.locks import directory, grammar, verdict
from mailman_ha.locks.directory import Inspection, LockFile
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, Owner
from mailman_ha.locks.verdict import Evidence, HostFacts, Verdict
from mailman_ha.ocf.record import replace

from tests.locks.specification import TOUCHED, Case, several

INODE = 77
DEAD, LIVING = Case("own", process="none"), Case("own", process="Mailman, older")
FENCED, ONLINE = Case("node", fenced="after"), Case("node", online=True)
LOST, FOREIGN = Case("node", unclean=True), Case("foreign")


def lock_of(name: str, *claims: str, format: str = FORMAT_21) -> LockFile:
    owners = tuple(
        owner for claim in claims for owner in grammar.owners_of_claim(format, name, claim)
    )
    return LockFile(name, INODE, claims, owners)


def seen_of(lock: LockFile, content: bytes | None = None, links: int | None = None) -> Inspection:
    """The lock as it stands on disk when nothing is wrong with it."""
    if content is None:
        content = b"/var/locks/" + os.fsencode(lock.claims[-1]) if lock.claims else b""
    return Inspection(
        lock.name, INODE, 1, len(lock.claims) + 1 if links is None else links,
        int((TOUCHED + 1800) * 1e9), int(TOUCHED * 1e9), content, True,
    )


def judge(lock: LockFile, seen: Inspection | OSError, evidence: Evidence) -> Verdict:
    return verdict.judge(lock, seen, FORMAT_21, evidence)


# -- ambiguous names

AMBIGUOUS = lock_of("x.lock", "x.lock.a.5.12")
HERE_A_5, THERE_A5_12 = Owner("a", 5), Owner("a.5", 12)


@pytest.mark.parametrize("second", [DEAD, FENCED], ids=str)
@pytest.mark.parametrize("first", [DEAD, FENCED], ids=str)
def test_ambiguous_name_is_released_when_both_known_hosts_are_dead(
    first: Case, second: Case
) -> None:
    evidence = several({HERE_A_5: first, THERE_A5_12: second})
    assert judge(AMBIGUOUS, seen_of(AMBIGUOUS), evidence).may_release


@pytest.mark.parametrize("alive", [LIVING, ONLINE, LOST, Case("ambiguous"), Case("no evidence")],
                         ids=str)
@pytest.mark.parametrize("dead", [DEAD, FENCED], ids=str)
@pytest.mark.parametrize("swapped", [False, True])
def test_ambiguous_name_is_kept_while_one_known_host_is_not_dead(
    alive: Case, dead: Case, swapped: bool
) -> None:
    first, second = (dead, alive) if swapped else (alive, dead)
    evidence = several({HERE_A_5: first, THERE_A5_12: second})
    found = judge(AMBIGUOUS, seen_of(AMBIGUOUS), evidence)
    assert not found.may_release
    assert found.owner == (THERE_A5_12 if swapped else HERE_A_5)


def test_reading_with_a_host_nobody_knows_does_not_keep_the_lock_of_a_dead_owner() -> None:
    for first, second in ((DEAD, FOREIGN), (FOREIGN, DEAD)):
        evidence = several({HERE_A_5: first, THERE_A5_12: second})
        assert judge(AMBIGUOUS, seen_of(AMBIGUOUS), evidence).may_release


def test_lock_whose_every_reading_is_a_strangers_is_kept() -> None:
    evidence = several({HERE_A_5: FOREIGN, THERE_A5_12: FOREIGN})
    assert judge(AMBIGUOUS, seen_of(AMBIGUOUS), evidence).state == verdict.STRANGER


# -- more than one claim

TWICE = lock_of("x.lock", "x.lock.a.5.12", "x.lock.b.6.1")


def test_second_claim_of_a_stranger_keeps_the_lock_of_a_dead_owner() -> None:
    """A stranger's *reading* of one claim may be dropped, a stranger's claim never."""
    evidence = several({
        HERE_A_5: DEAD, THERE_A5_12: FOREIGN, Owner("b", 6): FOREIGN, Owner("b.6", 1): FOREIGN,
    })
    found = judge(TWICE, seen_of(TWICE), evidence)
    assert found.state == verdict.STRANGER
    assert found.owner is not None and found.owner.host == "b"


def test_content_that_names_a_strangers_claim_keeps_the_lock_of_a_dead_owner() -> None:
    lock = lock_of("x.lock", "x.lock.a.5.12")
    evidence = several({
        HERE_A_5: DEAD, THERE_A5_12: FOREIGN, Owner("b", 6): FOREIGN, Owner("b.6", 1): FOREIGN,
    })
    found = judge(lock, seen_of(lock, b"/locks/x.lock.b.6.1"), evidence)
    assert found.state == verdict.STRANGER


@pytest.mark.parametrize("other", [LIVING, ONLINE, LOST], ids=str)
def test_content_that_names_another_living_claim_keeps_the_lock(other: Case) -> None:
    lock = lock_of("x.lock", "x.lock.a.5.12")
    evidence = several({
        HERE_A_5: DEAD, THERE_A5_12: FOREIGN, Owner("b", 6): other, Owner("b.6", 1): FOREIGN,
    })
    assert not judge(lock, seen_of(lock, b"/locks/x.lock.b.6.1"), evidence).may_release


def test_hand_over_is_released_when_parent_and_child_are_dead() -> None:
    lock = lock_of("master-qrunner", "master-qrunner.a.5.1", "master-qrunner.a.6")
    foreign = {Owner("a.5", 1): FOREIGN}
    both_dead = {Owner("a", 5): DEAD, Owner("a", 6): DEAD, **foreign}
    assert judge(lock, seen_of(lock), several(both_dead)).may_release
    for living in (5, 6):
        one_lives = {**both_dead, Owner("a", living): LIVING}
        assert judge(lock, seen_of(lock), several(one_lives)).state == verdict.ALIVE


# -- what the file itself says against it

SIMPLE = lock_of("x.lock", "x.lock.a.5.1")
ALL_DEAD = several({Owner("a", 5): DEAD, Owner("a.5", 1): FOREIGN})


def test_lock_of_a_dead_owner_is_released_where_nothing_speaks_against_it() -> None:
    assert judge(SIMPLE, seen_of(SIMPLE), ALL_DEAD).state == verdict.DEAD_HERE
    assert judge(SIMPLE, seen_of(SIMPLE, b""), ALL_DEAD).state == verdict.DEAD_HERE
    lonely = lock_of("x.lock")
    found = judge(lonely, seen_of(lonely, b"/elsewhere/x.lock.a.5.1"), ALL_DEAD)
    assert found.state == verdict.DEAD_HERE


DOUBTFUL = {
    "links that no name accounts for": seen_of(SIMPLE, links=3),
    "a claim that went away": seen_of(SIMPLE, links=1),
    "content of another lock": seen_of(SIMPLE, b"/locks/y.lock.a.5.1"),
    "content naming a system file": seen_of(SIMPLE, b"/etc/passwd"),
    "content ending in a slash": seen_of(SIMPLE, b"/locks/x.lock.a.5.1/"),
    "content with a newline": seen_of(SIMPLE, b"/locks/x.lock.a.5.1\n"),
    "content with a NUL": seen_of(SIMPLE, b"/locks/x.lock.a.5.1\0"),
    "content that begins with NULs": seen_of(SIMPLE, b"\0" * 7 + b"/locks/x.lock.a.5.1"),
    "NULs longer than any path": seen_of(SIMPLE, b"\0" * directory.CONTENT_LIMIT),
    "more NULs than are read": replace(seen_of(SIMPLE, b"\0" * 999), whole=False),
    "content that is no text": seen_of(SIMPLE, b"\xff\xfe\x1b[2J"),
    "content too long": replace(seen_of(SIMPLE), whole=False),
    "another inode than the listing's": replace(seen_of(SIMPLE), inode=INODE + 1),
    "no permission": OSError(errno.EACCES, "Permission denied"),
    "a link": OSError(errno.ELOOP, "Too many levels of symbolic links"),
    "no regular file": OSError(errno.EINVAL, "not a regular file"),
}


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_doubt_about_the_file_keeps_it_and_says_who_claims_it_and_what_to_do(doubt: str) -> None:
    found = judge(SIMPLE, DOUBTFUL[doubt], ALL_DEAD)
    assert found.state == verdict.UNKNOWN
    assert "pid 5 on host a" in found.why
    assert found.remedy
    assert found.sentence().isprintable() and found.sentence().isascii()


def test_content_of_which_a_power_cut_left_the_length_only_counts_as_empty() -> None:
    """Its bytes are NULs then, and only the claims' names tell who owned it."""
    torn = b"\0" * len("/var/locks/x.lock.a.5.1")
    assert judge(SIMPLE, seen_of(SIMPLE, torn), ALL_DEAD).state == verdict.DEAD_HERE
    living = several({Owner("a", 5): LIVING, Owner("a.5", 1): FOREIGN})
    assert judge(SIMPLE, seen_of(SIMPLE, torn), living).state == verdict.ALIVE
    lonely = lock_of("x.lock")
    found = judge(lonely, seen_of(lonely, torn), ALL_DEAD)
    assert found.state == verdict.UNKNOWN and "nothing names its owner" in found.why


def test_live_lock_that_took_the_dead_ones_place_after_the_listing_is_kept() -> None:
    """Its content may still be empty: over NFS it is written late."""
    found = judge(SIMPLE, replace(seen_of(SIMPLE, b""), inode=INODE + 1), ALL_DEAD)
    assert found.state == verdict.UNKNOWN and "changed hands" in found.why


def test_empty_lock_without_a_claim_is_kept_with_a_way_out() -> None:
    found = judge(lock_of("dbcreate.lck"), seen_of(lock_of("dbcreate.lck")), ALL_DEAD)
    assert found.state == verdict.UNKNOWN and found.remedy


def test_expired_lock_is_noted_and_judged_no_differently() -> None:
    for evidence, state in (
        (ALL_DEAD, verdict.DEAD_HERE),
        (several({Owner("a", 5): LIVING, Owner("a.5", 1): FOREIGN}), verdict.ALIVE),
    ):
        seen = replace(seen_of(SIMPLE), expires_ns=int((TOUCHED - 50) * 1e9))
        found = judge(SIMPLE, seen, evidence)
        assert (found.state, found.expired) == (state, True)
        assert not judge(SIMPLE, seen_of(SIMPLE), evidence).expired


# -- files that only their own name tells about

def test_orphaned_claim_of_a_dead_waiter_is_released_and_of_a_living_one_kept() -> None:
    owners = (Owner("a", 5), Owner("a.5", 1))
    seen = replace(seen_of(SIMPLE), name="x.lock.a.5.1", links=1)
    assert verdict.judge_claim(owners, seen, ALL_DEAD).state == verdict.DEAD_HERE
    living = several({owners[0]: LIVING, owners[1]: FOREIGN})
    assert verdict.judge_claim(owners, seen, living).state == verdict.ALIVE


@pytest.mark.parametrize("seen", [seen_of(SIMPLE, links=2), DOUBTFUL["no permission"]], ids=str)
def test_claim_in_use_or_unreadable_is_kept_with_owner_and_way_out(
    seen: Inspection | OSError,
) -> None:
    found = verdict.judge_claim((Owner("a", 5),), seen, ALL_DEAD)
    assert found.state == verdict.UNKNOWN and found.remedy
    assert "pid 5 on host a" in found.why


def test_claim_of_nobody_is_kept() -> None:
    found = verdict.judge_claim((), replace(seen_of(SIMPLE), links=1), ALL_DEAD)
    assert found.state == verdict.UNKNOWN and found.remedy


def test_mailman_3_lock_is_judged_by_its_one_reading() -> None:
    name = "master.lck|mail1.example.org|5|9129"
    lock = lock_of("master.lck", name, format=FORMAT_3)
    for case, state in ((DEAD, verdict.DEAD_HERE), (LIVING, verdict.ALIVE), (ONLINE, "member")):
        evidence = several({Owner("mail1.example.org", 5): case})
        assert verdict.judge(lock, seen_of(lock), FORMAT_3, evidence).state == state


def test_two_nodes_that_present_one_name_make_every_lock_of_that_name_unknown() -> None:
    facts = HostFacts(verdict.AMBIGUOUS, why="this host calls itself localhost, but so may others")
    evidence = Evidence({"localhost": facts}, {5: None}, now=TOUCHED, booted_at=0.0)
    lock = lock_of("master.lck", "master.lck|localhost|5|1", format=FORMAT_3)
    found = verdict.judge(lock, seen_of(lock), FORMAT_3, evidence)
    assert found.state == verdict.UNKNOWN
    assert "localhost" in found.why and "host_map" in found.remedy


def test_what_the_content_holds_is_limited_and_escaped_in_the_sentence() -> None:
    lock = lock_of("x.lock", "x.lock.a.5.1")
    seen = seen_of(lock, b"\x1b]0;owned\x07" * 200)
    found = judge(lock, seen, ALL_DEAD)
    assert ": '\\x1b]0;owned\\x07" in found.why and len(found.sentence()) < 800
    assert len(seen.content) // 2 <= directory.CONTENT_LIMIT
