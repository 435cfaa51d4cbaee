"""Taking, keeping and giving up a lock, against the real protocols of other processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import flufl.lock._lockfile as flufl
import pytest
from mailman_ha.locks import directory, holding
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21
from mailman_ha.locks.holding import Holding, NotHeldError

from tests.locks.interposed_os import interpose
from tests.locks.peer import Peer, make_impatient
from tests.locks.share import Share

LOCK = "contended.lck"


def take(share: Share, name: str = LOCK, lifetime: float = 60.0, wait: float = 0.0,
         format: str = FORMAT_3) -> Holding:
    there = directory.open_lock_directory(str(share.path))
    return holding.take(there, str(share.path), name, "here", lifetime, wait, format)


# -- mutual exclusion

def contend(kind: str, path: str, turns: int, start: Any) -> None:
    """Take and give back the lock at `path` `turns` times; under it, work that only one may do."""
    make_impatient()
    holding.POLL = 0.0005
    top = os.path.dirname(os.path.dirname(path))
    counter, marker = Path(top, "counter"), Path(top, "marker")
    there = directory.open_lock_directory(os.path.dirname(path))
    start.wait(20)
    for _ in range(turns):
        give_back: Callable[[], object]
        if kind == "ours":
            held = holding.take(there, os.path.dirname(path), LOCK, "here", 60.0, 30.0)
            give_back = held.give_up
        else:
            other = flufl.Lock(path, lifetime=timedelta(seconds=60))
            other.lock(timeout=timedelta(seconds=30))
            give_back = other.unlock
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        value = int(counter.read_text())
        counter.write_text(str(value + 1))
        os.unlink(marker)
        give_back()


@pytest.mark.parametrize("kinds", [
    ("ours", "ours", "ours"), ("ours", "ours", "3", "3"),
], ids=" ".join)
def test_no_two_hold_it_at_once_in_thousands_of_turns(share: Share, kinds: tuple[str, ...]) -> None:
    """2.1's protocol is left out: its waiters take a lock that just vanished for an expired one
    and delete the next holder's (contract 1.3, "Bug")."""
    turns = 2400 // len(kinds)
    (share.top / "counter").write_text("0")
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [
        context.Process(target=contend, args=(kind, str(share.path / LOCK), turns, start))
        for kind in kinds
    ]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    still = [worker for worker in workers if worker.is_alive()]
    for worker in still:
        worker.kill()
        worker.join()
    assert not still, "a contender hangs"
    assert [worker.exitcode for worker in workers] == [0] * len(kinds)
    assert (share.top / "counter").read_text() == str(turns * len(kinds))
    assert share.names() == set(), "locks or claims were left behind"


# -- expiry

@pytest.mark.parametrize("kind", ["3", "2.1"])
def test_lock_of_another_is_broken_a_slop_after_its_expiry_and_not_before(
    share: Share, peer: Peer, kind: str
) -> None:
    path = share.path / LOCK
    assert peer.take(kind, str(path))
    share.expire(path, -holding.CLOCK_SLOP + 2.0)
    with pytest.raises(NotHeldError, match=r"contended\.lck is held by"):
        take(share)
    assert peer.holds()
    share.expire(path, -holding.CLOCK_SLOP - 2.0)
    ours = take(share, wait=1.0)
    assert ours.is_ours() and not peer.holds()
    assert share.names() == {LOCK, ours.claim_name}
    peer.unlock()
    assert ours.is_ours(), "the robbed owner took our lock with it"
    ours.give_up()
    assert share.names() == set()


@pytest.mark.parametrize("kind", ["3", "2.1", "ours"])
def test_lock_of_ours_is_broken_by_others_after_its_expiry_and_we_know(
    share: Share, peer: Peer, kind: str
) -> None:
    ours = take(share)
    assert not peer.take(kind, str(share.path / LOCK))
    assert ours.is_ours()
    share.expire(share.path / LOCK, -holding.CLOCK_SLOP - 5.0)
    assert peer.take(kind, str(share.path / LOCK))
    assert not ours.is_ours()
    with pytest.raises(NotHeldError, match="was taken from"):
        ours.refresh()
    ours.give_up()
    assert peer.holds(), "giving up took the lock of another"
    peer.unlock()
    assert share.names() == set()


def test_refresh_pushes_the_expiry_one_lifetime_ahead(share: Share) -> None:
    ours = take(share, lifetime=50.0)
    share.expire(share.path / LOCK, 3.0)
    ours.refresh()
    assert abs(os.stat(share.path / LOCK).st_mtime - time.time() - 50.0) < 2.0
    ours.give_up()


def test_expired_lock_of_another_user_is_broken_all_the_same(share: Share) -> None:
    """A CGI's lock belongs to the web server's user, and only that may touch it."""
    pair = share.lock(LOCK, host="n2", pid=5, expires_in=-60.0)
    os.chown(pair.lock, 65534, 65534)
    pair.lock.chmod(0o444)
    os.setegid(share.user.gid)
    os.seteuid(share.user.uid)
    try:
        ours = take(share, wait=1.0, format=FORMAT_21)
        assert ours.is_ours()
        ours.give_up()
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert share.names() == set()


def test_path_in_the_content_of_an_expired_lock_is_not_removed(share: Share) -> None:
    """Mailman would unlink whatever path the lock holds; we only a claim on this lock, here."""
    victim = share.top / "victim"
    victim.write_text("precious")
    other = share.lock("other.lock", host="n2", pid=5)
    for content in (os.fsencode(victim), os.fsencode(other.lock), os.fsencode(other.claim)):
        share.write(LOCK, content, expires_in=-60.0)
        take(share, wait=1.0).give_up()
        assert victim.read_text() == "precious" and other.is_untouched()
    assert share.names() == {other.lock.name, other.claim.name}


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_something_hostile_in_the_locks_place_is_no_lock_and_holds_nothing_up(
    share: Share, what: str
) -> None:
    victim = share.top / "victim"
    victim.write_text("precious")
    path = share.path / LOCK
    {"link": lambda: path.symlink_to(victim), "fifo": lambda: os.mkfifo(path),
     "directory": path.mkdir}[what]()
    began = time.monotonic()
    with pytest.raises((NotHeldError, OSError)):
        take(share, wait=0.2)
    assert time.monotonic() - began < 2.0
    assert victim.read_text() == "precious" and share.names() == {LOCK}


# -- others at every moment

@pytest.mark.parametrize("kind", ["ours", "3", "2.1"])
def test_breaking_an_expired_lock_never_takes_it_from_who_broke_it_first(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The other breaker comes before any one system call of ours, whole; then one of us has it."""
    number = ours_won = 0
    while True:
        share = make_share()
        path = share.path / LOCK
        share.lock(LOCK, host="n2", pid=4242, expires_in=-3600.0)
        taken: list[bool] = []

        def act(path: Path = path, taken: list[bool] = taken) -> None:
            taken.append(peer.take(kind, str(path)))

        with monkeypatch.context() as patched:
            stand_in = interpose(patched, {number: act})
            try:
                ours = take(share, wait=0.05)
            except NotHeldError:
                ours = None
        if not taken:
            ours.give_up()
            break
        moment = f"before call {number} ({stand_in.made[number]})"
        holders = [ours is not None and ours.is_ours(), taken[0] and peer.holds()]
        assert sum(holders) == 1, f"{moment}: held by {holders}"
        assert not taken[0] or holders[1], f"{moment}: the first breaker was robbed"
        ours_won += holders[0]
        if ours is not None:
            ours.give_up()
            assert peer.holds() == taken[0], moment
        peer.unlock()
        left = {name for name in share.names() if ".n2." not in name}
        assert not left, f"{moment}: left behind: {left}"
        number += 1
    assert number > 12 and ours_won


def test_two_that_break_the_same_lock_step_by_step_do_not_both_have_it(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2.1's breaker is stopped when it has decided and touched the lock, and goes on before a
    later system call of ours: what it has taken by then is not removed as the expired lock."""
    monkeypatch.setattr(holding, "POLL", 0.001)
    number = robbed = 0
    while True:
        began: list[bool] = []
        for later in range(1, 14):
            share = make_share()
            path = share.path / LOCK
            share.lock(LOCK, host="n2", pid=4242, expires_in=-3600.0)
            began, taken = [], []

            def begin(path: Path = path, began: list[bool] = began) -> None:
                began.append(peer.start_taking(str(path), ("break", "touch")))

            def go_on(began: list[bool] = began, taken: list[bool] = taken) -> None:
                if began and began[0]:
                    taken.append(peer.go_on())

            with monkeypatch.context() as patched:
                interpose(patched, {number: begin, number + later: go_on})
                try:
                    ours = take(share, wait=0.002)
                except NotHeldError:
                    ours = None
            if taken and taken[0]:
                where = f"stopped before call {number}, went on {later} later"
                robbed += not peer.holds()
                assert peer.holds() or ours is None or not ours.is_ours(), where
                assert peer.holds(), f"{where}: we removed the lock it had taken"
            if ours is not None:
                ours.give_up()
            if began and began[0] and not taken:
                peer.go_on()
            peer.unlock()
            if not began:
                break
        if not began:
            break
        number += 1
    assert number > 8 and not robbed


@pytest.mark.parametrize("expires_in", [60.0, -3600.0])
def test_giving_up_never_takes_the_lock_of_who_came_meanwhile(
    make_share: Callable[..., Share], peer: Peer, monkeypatch: pytest.MonkeyPatch,
    expires_in: float,
) -> None:
    number = came = 0
    while True:
        share = make_share()
        path = share.path / LOCK
        ours = take(share)
        share.expire(path, expires_in)
        taken: list[bool] = []
        with monkeypatch.context() as patched:
            stand_in = interpose(
                patched,
                {number: lambda path=path, taken=taken: taken.append(peer.take("3", str(path)))},
            )
            ours.give_up()
        if not taken:
            break
        moment = f"before call {number} ({stand_in.made[number]})"
        came += taken[0]
        assert peer.holds() == taken[0], f"{moment}: giving up took another's lock"
        peer.unlock()
        assert share.names() == set(), moment
        number += 1
    assert number > 5
    assert came or expires_in > 0


class Interrupted(BaseException):
    """As SIGTERM's exception: it can come anywhere."""


def test_interrupted_anywhere_it_leaves_neither_lock_nor_claim(
    make_share: Callable[..., Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 0
    while True:
        share = make_share()

        def interrupt() -> None:
            raise Interrupted

        with monkeypatch.context() as patched:
            stand_in = interpose(patched, {number: interrupt})
            try:
                take(share)
            except Interrupted:
                pass
            else:
                break
        where = f"interrupted before call {number} ({stand_in.made[number]})"
        assert not share.names(), f"{where}: {share.names()}"
        number += 1
    assert number > 8 and "link" in stand_in.made


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("error", [errno.EIO, errno.EEXIST])
def test_link_that_fails_and_has_taken_effect_is_believed_by_the_claim_alone(
    share: Share, monkeypatch: pytest.MonkeyPatch, error: int, effect: bool
) -> None:
    """A soft mount's EIO, or EEXIST after a lost reply (facts, section 6)."""
    stand_in = interpose(monkeypatch, {})

    def link(*arguments: Any, **named: Any) -> None:
        if effect:
            os.link(*arguments, **named)
        raise OSError(error, os.strerror(error))

    stand_in.link = link  # type: ignore[attr-defined]
    if effect:
        ours = take(share)
        assert ours.is_ours()
        ours.give_up()
    else:
        with pytest.raises(NotHeldError):
            take(share)
    assert share.names() == set()


def test_waiting_is_bounded_and_leaves_no_claim(share: Share, peer: Peer) -> None:
    assert peer.take("3", str(share.path / LOCK))
    before = share.names()
    began = time.monotonic()
    with pytest.raises(NotHeldError) as refusal:
        take(share, wait=0.3)
    assert 0.25 < time.monotonic() - began < 2.0
    assert Path(peer.claim()).name in str(refusal.value)
    assert share.names() == before
    peer.unlock()


def test_claim_is_named_and_filled_as_mailman_does(share: Share) -> None:
    for format, start in ((FORMAT_3, "x.lock|here|"), (FORMAT_21, "x.lock.here.")):
        ours = take(share, "x.lock", format=format)
        assert ours.claim_name.startswith(f"{start}{os.getpid()}")
        assert (share.path / "x.lock").read_text() == str(share.path / ours.claim_name)
        listing = directory.read(str(share.path), format, "master")
        assert listing.locks[0].claims == (ours.claim_name,)
        ours.give_up()
