"""The judging functions of qfiles-slice, which read nothing: snapshots in, outcomes out."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from mailman_ha.agents.lock_sweep import Kept, SweepReport
from mailman_ha.agents.qfiles_slice import judge
from mailman_ha.agents.qfiles_slice.observe import Claim, ConfiguredSlices, Snapshot
from mailman_ha.agents.qfiles_slice.settings import Wanted, resource_id
from mailman_ha.agents.qfiles_slice.state_file import SliceState
from mailman_ha.agents.site import Absent
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.evidence.process_table import Process
from mailman_ha.locks import verdict as verdicts
from mailman_ha.locks.directory import Inspection, LockDirectory, LockFile
from mailman_ha.locks.grammar import Owner
from mailman_ha.locks.verdict import Verdict
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.mailman.processes import MailmanProcess, Role
from mailman_ha.ocf.record import replace
from mailman_ha.queues.entries import Backlog
from mailman_ha.queues.slices import Slice

NOW = 2_000_000_000.0
QUEUES_3 = tuple(
    (name, f"/v/queue/{name}")
    for name in ("in", "out", "retry", "lmtp", "rest", "task", "bad", "shunt")
)
SITE_3 = Installation(
    Location("3", ("/b",), config="/c"),
    Answer(
        "/v/locks", "/v/queue", "/v/lists", "/v", "/v/pid", "/b", "/v/log", "/v/locks/master.lck",
        "3.3", "/c", (("pipeline", 1),), QUEUES_3, instances=(("in", 4), ("out", 1)),
    ),
    User("list", 38, 38),
    "/v/locks",
)
SITE_21 = Installation(
    Location("2.1", ("/p/bin",), prefix="/p"),
    Answer(
        "/p/locks", "/p/qfiles", "/p/lists", "/p", "/p/pid", "/p/bin", "/p/logs",
        "/p/locks/master-qrunner", "2.1.39", "", (("ArchRunner", 1),),
        (("IN", "/p/qfiles/in"), ("OUT", "/p/qfiles/out")),
    ),
    User("list", 38, 38),
    "/p/locks",
)
WANTED = Wanted("slice-in", "in", Slice(1, 4))
STATE = SliceState(
    11, 1100, 38, 38, "/v/locks/qfiles:in:1:4.lock|h|11|1", 5, "/v/locks", "in", "in", 1, 4
)


def runner(pid: int, number: int = 1, count: int = 4, state: str = "S") -> MailmanProcess:
    stat = ProcessStat(pid, state, 1, pid, pid, pid * 100)
    return MailmanProcess(Process(stat, ("x",), 38, "/v"), Role("runner", "in", number, count))


CLAIM = Inspection(
    "qfiles:in:1:4.lock|h|11|1", 5, 1, 2, int((NOW + 1e5) * 1e9), 0, b"", True
)
LOCK = LockFile("qfiles:in:1:4.lock", 5, (CLAIM.name,), (Owner("h", 11),))
HELD = Claim(LOCK, CLAIM)
OWN = runner(11)
GOOD = Snapshot(SITE_3, "", STATE, OWN, (), HELD, Backlog(), NOW)
OFF = Snapshot(SITE_3, "", None, None, (), Claim(), None, NOW)
GONE = Absent("the share is gone")

MONITOR: dict[str, tuple[Snapshot, tuple[int, int, int], str]] = {
    "all well": (GOOD, (0, 0, 0), ""),
    "nothing runs": (OFF, (7, 7, 7), ""),
    "nothing runs, a state is remembered": (replace(OFF, remembered=STATE), (7, 7, 7), ""),
    "nothing runs, the claim stands": (replace(OFF, claim=HELD), (7, 7, 7), ""),
    "nothing runs, no share": (
        replace(OFF, site=GONE, share_missing="gone"), (7, 7, 7), ""
    ),
    "nothing runs but on another slice": (
        replace(OFF, others=(runner(20, 2), runner(21, 1, 8))), (7, 7, 7), ""
    ),
    "a stranger's on the slice": (replace(OFF, others=(runner(20),)), (1, 1, 1), "stop ends it"),
    "no share": (
        replace(GOOD, site=GONE, share_missing="it is gone", claim=Claim()), (1, 1, 1),
        "it is gone",
    ),
    "share not mounted": (
        replace(GOOD, share_missing="it is gone", claim=Claim()), (1, 1, 1), "it is gone"
    ),
    "started for another slice": (
        replace(GOOD, remembered=replace(STATE, slice=2)), (1, 1, 1), "configured for in:1:4 now"
    ),
    "started for another count": (
        replace(GOOD, remembered=replace(STATE, slices=8)), (1, 1, 1), "configured for in:1:4 now"
    ),
    "started for another queue": (
        replace(GOOD, remembered=replace(STATE, queue="out")), (1, 1, 1),
        "configured for in:1:4 now",
    ),
    "lock gone": (replace(GOOD, claim=Claim()), (1, 1, 1), "the lock is gone"),
    "lock unreadable": (replace(GOOD, claim=Claim(trouble="EIO")), (1, 1, 1), "EIO"),
    "lock of another": (
        replace(GOOD, claim=Claim(replace(
            LOCK, inode=6, claims=("qfiles:in:1:4.lock|n2|99|1",), owners=(Owner("n2", 99),)
        ), replace(CLAIM, inode=6))), (1, 1, 1), "pid 99 on n2",
    ),
    "second runner": (replace(GOOD, others=(runner(20),)), (1, 1, 1), "second runner"),
    "second on another slice": (replace(GOOD, others=(runner(20, 2),)), (0, 0, 0), ""),
    "second on a greater slice": (
        replace(GOOD, others=(runner(20, 0, 2),)), (0, 1, 1), "kill 20"
    ),
    "sibling of another slice": (replace(GOOD, siblings=(runner(20, 2),)), (0, 0, 0), ""),
    "sibling on a part": (
        replace(GOOD, siblings=(runner(20, 2, 8),)), (0, 1, 1), "stop that resource"
    ),
    "stopped": (replace(GOOD, own=runner(11, state="T")), (0, 1, 1), "SIGSTOP"),
    "stands still": (
        replace(GOOD, backlog=Backlog(3, 1, NOW - 500)), (0, 0, 1), "the oldest is 500 s old"
    ),
    "moves": (replace(GOOD, backlog=Backlog(3, 1, NOW - 50)), (0, 0, 0), ""),
    "not counted": (replace(GOOD, backlog=None), (0, 0, 0), ""),
}


@pytest.mark.parametrize("case", MONITOR)
@pytest.mark.parametrize("number", range(3), ids=["level 0", "level 10", "level 20"])
def test_monitor_says_what_the_snapshot_shows(
    case: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, expected, words = MONITOR[case]
    monkeypatch.setattr(ProcessStat, "started_at", lambda self: NOW - 10000)
    outcome = judge.monitor(snapshot, WANTED, (0, 10, 20)[number], 100)
    assert outcome.code == expected[number], outcome
    if outcome.code == 1:
        assert words in outcome.reason
    else:
        assert outcome.reason == ""


def test_slice_is_given_as_long_as_its_limit_after_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot, _, _ = MONITOR["stands still"]
    monkeypatch.setattr(ProcessStat, "started_at", lambda self: NOW - 50)
    assert judge.monitor(snapshot, WANTED, 20, 100).code == 0
    monkeypatch.setattr(ProcessStat, "started_at", lambda self: NOW - 10000)
    assert judge.monitor(snapshot, WANTED, 20, 0).code == 0


def test_claim_is_held_by_two_names_two_links_and_the_inode_and_by_nothing_less() -> None:
    """Every combination of what may be different from what was started with."""
    locks = [
        None, LOCK, replace(LOCK, inode=6), replace(LOCK, claims=()),
        replace(LOCK, claims=(CLAIM.name, "other")), replace(LOCK, claims=("other",)),
    ]
    claims = [
        None, CLAIM, replace(CLAIM, inode=6), replace(CLAIM, links=1), replace(CLAIM, links=3)
    ]
    states = [STATE, replace(STATE, claim_inode=6), replace(STATE, claim="/v/locks/other")]
    held = [
        (lock, claim, state)
        for lock, claim, state in itertools.product(locks, claims, states)
        if judge.holds(Claim(lock, claim), state)
    ]
    assert (LOCK, CLAIM, STATE) in held
    for lock, claim, state in held:
        assert lock is not None and claim is not None
        assert lock.inode == claim.inode == state.claim_inode
        assert claim.links == 2 and lock.claims == (state.claim.rpartition("/")[2],)
    assert len(held) == 3  # as started; the same on another inode; the same under another name


# Start


START: dict[str, tuple[Snapshot, int | None, str]] = {
    "nothing runs": (OFF, None, ""),
    "it runs": (GOOD, 0, ""),
    "no site": (replace(OFF, site=Absent("no Mailman", 5)), 5, "no Mailman"),
    "not to be asked": (replace(OFF, site=Absent("it hangs", 1)), 1, "it hangs"),
    "no share": (replace(OFF, share_missing="mount it"), 5, "mount it"),
    "runs without its claim": (replace(GOOD, claim=Claim()), 1, "stop the resource first"),
    "runs another slice": (
        replace(GOOD, remembered=replace(STATE, slice=0)), 1, "stop the resource first"
    ),
    "a stray": (replace(OFF, others=(runner(20),)), 1, "kill 20"),
    "a stray on a part": (replace(OFF, others=(runner(20, 3, 8),)), 1, "kill 20"),
    "strays": (
        replace(OFF, others=tuple(runner(pid) for pid in range(20, 30))), 1,
        "and 4 more",
    ),
    "a stray elsewhere": (replace(OFF, others=(runner(20, 3, 4),)), None, ""),
    "a sibling on a part": (replace(OFF, siblings=(runner(20, 2, 8),)), 1, "stop that resource"),
    "a sibling elsewhere": (replace(OFF, siblings=(runner(20, 2),)), None, ""),
    "lock_dir unreadable": (replace(OFF, claim=Claim(trouble="EIO")), 1, "EIO"),
}


@pytest.mark.parametrize("case", START)
def test_start_is_done_refused_or_goes_on(case: str) -> None:
    snapshot, code, words = START[case]
    outcome = judge.start(snapshot, WANTED, (), "")
    assert (outcome.code if outcome else None) == code, outcome
    assert outcome is None or words in outcome.reason


def test_start_that_does_not_know_the_other_resources_is_refused() -> None:
    refused = judge.start(OFF, WANTED, (), "cibadmin hangs")
    assert refused is not None and refused.code == 1 and "cibadmin hangs" in refused.reason
    done = judge.start(GOOD, WANTED, (), "cibadmin hangs")
    assert done is not None and done.code == 0, "what runs well is no worse for it"


@pytest.mark.parametrize("state", [
    verdicts.ALIVE, verdicts.MEMBER, verdicts.LOST, verdicts.STRANGER, verdicts.UNKNOWN,
])
def test_claim_that_is_kept_refuses_where_it_overlaps_and_only_there(state: str) -> None:
    kept = Kept("qfiles:in:0:2.lock", Verdict(state, "held by n2", "do this"))
    report = SweepReport(LockDirectory("/v/locks"), kept=(kept,), problems=("a problem",))
    outcome = judge.after_sweep(report, {"qfiles:in:0:2.lock"}, SITE_3, WANTED)
    assert outcome is not None and outcome.code == 1
    for words in ("/v/locks/qfiles:in:0:2.lock", "held by n2", "do this", "a problem", "in:1:4"):
        assert words in outcome.reason
    assert judge.after_sweep(report, {"qfiles:in:1:4.lock"}, SITE_3, WANTED) is None
    empty = SweepReport(LockDirectory("/v/locks"))
    assert judge.after_sweep(empty, {"qfiles:in:1:4.lock"}, SITE_3, WANTED) is None


# Other resources


def expected_conflict(wanted: Slice, other: ConfiguredSlices) -> bool:
    return other.count != wanted.count or wanted.number in other.numbers


def test_configured_slices_conflict_unless_they_are_other_slices_of_as_many() -> None:
    """All pairs of geometries up to 8, and whole clones."""
    slices = [Slice(number, count) for count in range(1, 9) for number in range(count)]
    for wanted in slices:
        want = Wanted("one", "in", wanted)
        for other in slices:
            configured = ConfiguredSlices("other", other.count, (other.number,))
            found = judge.conflict(want, (configured,))
            assert bool(found) == expected_conflict(wanted, configured), (wanted, other)
            assert not found or ("other" in found and "pcs resource disable other" in found)
        for count in range(1, 9):
            clone = ConfiguredSlices("other", count, tuple(range(count)))
            assert judge.conflict(want, (clone,)), "a clone takes them all"
        assert judge.conflict(want, (ConfiguredSlices("other", None, ()),))
        assert judge.conflict(want, ()) == ""


def test_one_conflict_among_many_resources_is_found() -> None:
    others = [ConfiguredSlices(f"other-{number}", 4, (number,)) for number in (0, 2, 3)]
    assert judge.conflict(WANTED, others) == ""
    assert "other-1" in judge.conflict(
        WANTED, [*others, ConfiguredSlices("other-1", 4, (1,))]
    )


# Strays


def test_strays_are_the_runners_that_share_a_hash_with_the_slice() -> None:
    """All pairs of geometries up to 8, by fractions of the hash space, for 2.1."""
    slices = [(number, count) for count in range(1, 9) for number in range(count)]
    snapshot = replace(OFF, site=SITE_21)
    for wanted in slices:
        want = Wanted("one", "in", Slice(*wanted))
        begin, end = Fraction(wanted[0], wanted[1]), Fraction(wanted[0] + 1, wanted[1])
        for stray in slices:
            one = runner(20, *stray)
            found = judge.strays(replace(snapshot, others=(one,)), want)
            apart = Fraction(stray[0] + 1, stray[1]) <= begin or end <= Fraction(*stray)
            assert (found == ()) == apart, (wanted, stray)
            assert judge.claimed_by(one) == Slice(*stray)


@pytest.mark.parametrize("role", [(4, 4), (1, 1), (0, 0), (7, 3)])
def test_stray_whose_slice_cannot_be_told_may_work_on_any(role: tuple[int, int]) -> None:
    one = runner(20, *role)
    for number in range(4):
        want = Wanted("one", "in", Slice(number, 4))
        assert judge.strays(replace(OFF, others=(one,)), want) == (one,)
    assert judge.claimed_by(one) == Slice(0, 1)


def test_stray_of_mailman3_works_by_the_configured_number_of_instances() -> None:
    """``in:1:8`` by hand is slice 1 of 4 where the configuration says 4 (facts, section 3)."""
    for stray, number in itertools.product(range(8), range(4)):
        want = Wanted("one", "in", Slice(number, 4))
        found = judge.strays(replace(OFF, others=(runner(20, stray, 8),)), want)
        by_its_words = stray // 2 == number
        by_the_configuration = stray == number or stray >= 4
        assert bool(found) == (by_its_words or by_the_configuration), (stray, number)


# Mailman's configuration


def site(base: Installation, **answer: object) -> Installation:
    return replace(base, answer=replace(base.answer, **answer))


TROUBLE: dict[str, tuple[Installation, str, Slice, tuple[str, ...]]] = {
    "3, as it should be": (SITE_3, "in", Slice(3, 4), ()),
    "3, one slice": (SITE_3, "out", Slice(0, 1), ()),
    "3, instances not said": (SITE_3, "retry", Slice(0, 1), ()),
    "3, instances not said, more wanted": (SITE_3, "retry", Slice(0, 2), ("instances: 2",)),
    "3, three": (SITE_3, "in", Slice(0, 3), ("power of two", "2 or 4")),
    "3, six": (SITE_3, "in", Slice(0, 6), ("power of two", "4 or 8")),
    "3, another number": (SITE_3, "in", Slice(0, 8), ("instances: 8", "[runner.in]", "/c")),
    "3, the master runs it": (
        site(SITE_3, runners=(("in", 4),)), "in", Slice(0, 4),
        ("start: no in [runner.in] of /c", "restart mailman-master"),
    ),
    "3, no runners of it": (site(SITE_3, runners=(("in", 0),)), "in", Slice(0, 4), ()),
    "3, lmtp": (SITE_3, "lmtp", Slice(0, 1), ("lmtp", "in, out, retry")),
    "3, shunt": (SITE_3, "shunt", Slice(0, 1), ("shunt", "in, out, retry")),
    "3, unknown": (SITE_3, "x", Slice(0, 1), ("queue x",)),
    "2.1, as it should be": (SITE_21, "in", Slice(2, 3), ()),
    "2.1, seven": (SITE_21, "out", Slice(6, 7), ()),
    "2.1, the master runs it": (
        site(SITE_21, runners=(("IncomingRunner", 1),)), "in", Slice(0, 4),
        ("take IncomingRunner out of QRUNNERS",),
    ),
    "2.1, the master runs another": (
        site(SITE_21, runners=(("OutgoingRunner", 1),)), "in", Slice(0, 4), ()
    ),
    "2.1, unknown": (SITE_21, "bad", Slice(0, 1), ("queue bad", "in, out")),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_configuration_that_cannot_run_the_slice_is_told_with_the_way_out(case: str) -> None:
    given, queue, slice, words = TROUBLE[case]
    trouble = judge.configuration_trouble(given, Wanted("one", queue, slice))
    assert (trouble is not None) == bool(words), trouble
    for word in words:
        assert trouble is not None and word in trouble.reason
    if words:
        assert judge.start(replace(OFF, site=given), Wanted("one", queue, slice), (), "") == trouble


def test_what_this_nodes_configuration_of_mailman_forbids_takes_the_slice_from_no_other_node(
) -> None:
    """6 would; what is wrong on every node alike may."""
    codes = {}
    for case, (given, queue, slice, _) in TROUBLE.items():
        trouble = judge.configuration_trouble(given, Wanted("one", queue, slice))
        if trouble is not None:
            codes[case] = trouble.code
    of_this_node = {case for case, code in codes.items() if code == 5}
    assert of_this_node == {
        "3, instances not said, more wanted", "3, another number", "3, the master runs it",
        "2.1, the master runs it",
    }
    assert {code for case, code in codes.items() if case not in of_this_node} == {6}


def test_mailman3_takes_exactly_the_powers_of_two() -> None:
    for count in range(1, 65):
        given = site(SITE_3, instances=(("in", count),))
        trouble = judge.configuration_trouble(given, Wanted("one", "in", Slice(0, count)))
        assert (trouble is not None) == (bin(count).count("1") != 1), count
        assert trouble is None or "power of two" in trouble.reason, count


@pytest.mark.parametrize(("instance", "expected"), [
    ("slice-in:3", "slice-in"), ("slice-in:12", "slice-in"), ("slice-in", "slice-in"),
    ("a:b", "a:b"), (":3", ":3"), ("a:", "a:"), ("a:b:3", "a:b"), ("a:٣", "a:٣"),
])
def test_instances_of_a_clone_are_known_by_their_number(instance: str, expected: str) -> None:
    assert resource_id(instance) == expected
