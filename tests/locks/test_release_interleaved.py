"""A release while others act: before every single system call of ours, a real peer does something.

Whatever it is and whenever: the lock of a living owner is never gone, and the dead owner's lock is
untouched, or in quarantine with exactly one line of evidence, or was removed by the peer itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mailman_ha.locks.directory import QUARANTINE, Inspection
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21
from mailman_ha.locks.release import GUARD, Quarantine, QuarantineError, Released

from tests.locks.interposed_os import InterposedOs, interpose
from tests.locks.peer import Peer
from tests.locks.share import Pair, Share

#: How far ahead of now a lock expires: long ago, about to, and not for hours (seconds).
EXPIRIES = {"expired": -3600.0, "about to expire": 30.0, "valid for hours": 36_000.0}


class Run:
    """One release of one dead owner's lock, and what became of it."""

    def __init__(self, share: Share, peer: Peer, expires_in: float, claims: int = 1) -> None:
        self.share = share
        self.peer = peer
        peer.forget()
        lock = share.master_lock
        self.pair: Pair = share.lock(lock, host="n2", pid=4242, expires_in=expires_in)
        for number in range(1, claims):
            extra = share.link(lock, share.claim_name(lock, "n2", 4242 + number))
            self.pair = Pair(self.pair.lock, (*self.pair.claims, extra))
        self.judged: Inspection = share.inspect(lock)
        self.result: Released | None = None
        self.refusal = ""

    @property
    def lock(self) -> str:
        return str(self.pair.lock)

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(str(claim) for claim in self.pair.claims)

    def release(self, monkeypatch: pytest.MonkeyPatch,
                actions: dict[int, Callable[[], object]]) -> InterposedOs:
        with monkeypatch.context() as patched:
            stand_in = interpose(patched, actions)
            try:
                self.result = self.share.release(self.pair, self.judged, wait=0.05)
            except QuarantineError as error:
                self.refusal = str(error)
        return stand_in

    def check(self, moment: str, taken: bool, most_lines: int = 1) -> None:
        """The promises, at the end; `taken`: the peer got the lock and did not give it back."""
        share, lock = self.share, self.pair.lock
        moved = share.quarantined()
        evidence = [line for line in share.evidence() if line["released"] == lock.name]
        if taken:
            assert lock.exists(), f"{moment}: the lock of a living owner is gone"
            assert self.peer.holds(), f"{moment}: a living owner has lost its lock"
            assert os.stat(lock).st_nlink == 2, moment
            assert lock.read_bytes() == os.fsencode(self.claim_of_peer()), moment
        untouched = not evidence and not moved
        if untouched:
            assert self.result is None or not self.result.done, moment
            if self.result is not None:
                assert self.result.why, f"{moment}: nothing done, and no reason"
        else:
            assert 1 <= len(evidence) <= most_lines, f"{moment}: {len(evidence)} lines of evidence"
            assert lock.name in moved, f"{moment}: logged but not in quarantine"
        if self.result is not None and self.result.done:
            assert not untouched, moment
        assert not share.leftovers(), f"{moment}: left behind: {share.leftovers()}"

    def claim_of_peer(self) -> str:
        claim = self.peer.claim()
        return claim if claim.startswith("/") else str(self.share.path / claim)


def every_moment(
    make_share: Callable[..., Share],
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Run], bool],
    format: str = FORMAT_21,
    expires_in: float = 36_000.0,
    claims: int = 1,
    most_lines: int = 1,
) -> list[Run]:
    """One release for each of its system calls, with `act` done before that call.

    `act` says whether the peer holds the lock from then on.
    """
    runs = []
    number = 0
    while True:
        run = Run(make_share(format), peer, expires_in, claims)
        holds: list[bool] = []
        stand_in = run.release(
            monkeypatch, {number: lambda run=run, holds=holds: holds.append(act(run))}
        )
        if not holds:
            break
        run.check(
            f"before call {number} ({stand_in.made[number]})", holds[0], most_lines
        )
        runs.append(run)
        number += 1
    assert number > 25, "the release was over before it had begun"
    return runs


@pytest.mark.parametrize("expiry", EXPIRIES)
@pytest.mark.parametrize(
    "format, holder", [(FORMAT_21, "2.1"), (FORMAT_3, "3"), (FORMAT_3, "ours")]
)
def test_claimant_that_breaks_and_takes_the_lock_at_any_moment_keeps_it(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    format: str, holder: str, expiry: str,
) -> None:
    runs = every_moment(
        make_share, peer, monkeypatch, lambda run: peer.take(holder, run.lock), format,
        EXPIRIES[expiry],
    )
    released = sum(1 for run in runs if run.result is not None and run.result.done)
    assert released, "no release ever came through"
    if expiry == "expired":
        assert released < len(runs), "no claimant ever came first"


@pytest.mark.parametrize("expiry", EXPIRIES)
@pytest.mark.parametrize("format, holder", [(FORMAT_21, "2.1"), (FORMAT_3, "3")])
def test_lock_removed_by_hand_and_taken_by_a_living_process_at_any_moment_is_kept(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    format: str, holder: str, expiry: str,
) -> None:
    def act(run: Run) -> bool:
        taken = peer.remove_and_take(holder, run.lock, *run.claims)
        assert taken
        return True

    every_moment(make_share, peer, monkeypatch, act, format, EXPIRIES[expiry])


@pytest.mark.parametrize("expiry", ["expired", "valid for hours"])
@pytest.mark.parametrize("what", ["lock", "claim", "both"])
def test_lock_removed_by_hand_at_any_moment_leaves_no_trouble(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    what: str, expiry: str,
) -> None:
    def act(run: Run) -> bool:
        paths = {"lock": (run.lock,), "claim": run.claims, "both": (run.lock, *run.claims)}
        peer.remove(*paths[what])
        return False

    every_moment(make_share, peer, monkeypatch, act, expires_in=EXPIRIES[expiry])


@pytest.mark.parametrize("format, holder", [(FORMAT_21, "2.1"), (FORMAT_3, "3")])
@pytest.mark.parametrize("again", [False, True], ids=["unlocks", "unlocks and takes it anew"])
def test_owner_that_was_thought_dead_and_unlocks_at_any_moment(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    format: str, holder: str, again: bool,
) -> None:
    """The judgement was wrong; what the owner takes afterwards is its own all the same."""
    number = 0
    while True:
        share = make_share(format)
        run = Run.__new__(Run)
        run.share, run.peer, run.result, run.refusal = share, peer, None, ""
        lock = share.path / share.master_lock
        peer.forget()
        assert peer.take(holder, str(lock), 36_000.0)
        run.pair = Pair(lock, (Path(run.claim_of_peer()),))
        run.judged = share.inspect(lock.name)
        done: list[bool] = []

        def act(lock: Path = lock, done: list[bool] = done) -> None:
            if again:
                done.append(peer.unlock_and_take(holder, str(lock)))
            else:
                peer.unlock()
                done.append(False)

        stand_in = run.release(monkeypatch, {number: act})
        if not done:
            break
        moment = f"before call {number} ({stand_in.made[number]})"
        if done[0]:
            assert lock.exists() and os.stat(lock).st_nlink == 2, moment
            assert peer.holds(), moment
        assert len(share.evidence()) == (lock.name in share.quarantined()), moment
        assert not share.leftovers(), moment
        number += 1
    assert number > 25


@pytest.mark.parametrize("expiry", EXPIRIES)
def test_somebody_who_touches_the_lock_at_any_moment_is_noticed_or_comes_too_late(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch, expiry: str
) -> None:
    def act(run: Run) -> bool:
        peer.touch(run.lock, 7200.0)
        return False

    runs = every_moment(make_share, peer, monkeypatch, act, expires_in=EXPIRIES[expiry])
    kept = [run for run in runs if not run.share.evidence()]
    assert kept
    for run in kept:
        assert run.pair.is_untouched()


@pytest.mark.parametrize("old_guard", [False, True], ids=["in turn", "after our guard expired"])
@pytest.mark.parametrize("expiry", ["expired", "valid for hours"])
def test_two_releases_of_one_lock_make_one_line_of_evidence(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    expiry: str, old_guard: bool,
) -> None:
    """Where one of them stalls until its guard has expired, and just before it writes the line,
    the other has written it already; then there are two."""
    said: list[str] = []

    def act(run: Run) -> bool:
        names = tuple(claim.name for claim in run.pair.claims)
        judged = run.share.inspect(run.pair.lock.name) if run.pair.lock.exists() else run.judged
        said.append(peer.release(str(run.share.path), judged, names, old_guard))
        return False

    runs = every_moment(
        make_share, peer, monkeypatch, act, expires_in=EXPIRIES[expiry], claims=2,
        most_lines=2 if old_guard else 1,
    )
    for run in runs:
        assert run.share.names() == set(), "between the two the lock was left"
    assert sum(len(run.share.evidence()) - 1 for run in runs) <= 6
    if not old_guard:
        assert any("another release is under way" in one for one in said)


def end_interrupted(run: Run) -> None:
    """What another node's sweep does first, when our guard has expired."""
    guard = run.share.path / QUARANTINE / GUARD
    if guard.exists():
        os.utime(guard, (0, 0))
    with Quarantine(str(run.share.path), "n3", 0.05) as quarantine:
        quarantine.finish_interrupted()


def test_release_that_stalls_until_another_sweep_forgets_its_note_has_its_evidence(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, met = 0, [True]
    while met:
        run, met = Run(make_share(FORMAT_21), peer, EXPIRIES["valid for hours"]), []
        run.release(monkeypatch, {
            number: lambda run=run, met=met: met.append(end_interrupted(run))})
        run.share.sweep()  # the next one
        run.check(f"before call {number}", taken=False, most_lines=2)
        number += 1
    assert number > 25


HOSTILE = {
    "a link": lambda run: os.symlink("/etc/passwd", run.lock),
    "a FIFO": lambda run: os.mkfifo(run.lock),
    "a directory": lambda run: os.mkdir(run.lock),
    "an empty file": lambda run: run.pair.lock.write_bytes(b""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_something_hostile_in_the_locks_place_at_any_moment_is_neither_followed_nor_lost(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    passwd = os.stat("/etc/passwd")

    def act(run: Run) -> bool:
        peer.remove(run.lock)
        HOSTILE[what](run)
        return False

    runs = every_moment(make_share, peer, monkeypatch, act)
    now = os.stat("/etc/passwd")
    assert (now.st_ctime_ns, now.st_nlink) == (passwd.st_ctime_ns, passwd.st_nlink)
    for run in runs:
        assert os.path.lexists(run.lock), "what was put there is gone"


STEPS = [("break", "touch"), ("break", "unlink-lock"), ("break", "unlink-claim"),
         ("lock", "link")]


@pytest.mark.parametrize("until", STEPS, ids=":".join)
def test_claimant_that_stops_in_the_midst_of_its_protocol_and_goes_on_later(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    until: tuple[str, str],
) -> None:
    """2.1's protocol up to `until` before one system call of ours, the rest before a later one."""
    taken = 0
    begun = 0
    number = 0
    while True:
        reached = False
        for later in (1, 2, 3, 5, 8, 1000):
            run = Run(make_share(), peer, EXPIRIES["expired"])
            events: list[Any] = []

            def begin(run: Run = run, events: list[Any] = events) -> None:
                events.append(peer.start_taking(run.lock, until))

            def end(events: list[Any] = events) -> None:
                if events and events[0]:
                    events.append(peer.go_on())

            run.release(monkeypatch, {number: begin, number + later: end})
            if not events:
                break
            reached = True
            begun += bool(events[0])
            if len(events) == 1:
                end()
            holds = len(events) > 1 and bool(events[1])
            taken += holds
            run.check(f"stopped before call {number}, went on {later} later", holds)
        if not reached:
            break
        number += 1
    assert number > 25 and begun > number and taken > number
