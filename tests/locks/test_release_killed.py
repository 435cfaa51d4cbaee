"""A release whose process is killed before any one of its system calls: nothing alive is lost, and
once the guard has expired the next sweep ends what was begun, with one line of evidence.

The hard case is a fenced node's lock: only its ctime proves that it is older than the fencing, and
pushing its expiry or renaming it changes the ctime.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mailman_ha.evidence.cluster import Node
from mailman_ha.locks import directory, holding, release

from tests.fuzz.watch import Watch
from tests.locks.interposed_os import InterposedOs
from tests.locks.peer import Peer
from tests.locks.share import HERE, Pair, Share, dead_pid

LOCK = "master-qrunner"


def killed_before(
    number: int, share: Share, pair: Pair, before: Callable[[], object] | None = None
) -> bool:
    """Release `pair` in a process that SIGKILL ends before its system call `number`, and just
    before the call in front of that does `before`; False where it has no so many calls."""
    judged = share.inspect(pair.lock.name)
    child = os.fork()
    if child == 0:
        try:
            actions: dict[int, Callable[[], object]] = {
                number: lambda: os.kill(os.getpid(), signal.SIGKILL)
            }
            if before is not None:
                actions[number - 1] = before
            stand_in = InterposedOs(actions)
            for module in (directory, holding, release):
                module.os = stand_in  # type: ignore[attr-defined]
            share.release(pair, judged)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def let_the_guard_expire(share: Share) -> None:
    """As if some minutes had passed: GUARD_LIFETIME, Mailman's slop and GUARD_CLAIM_KEPT."""
    for name in share.leftovers():
        if name.startswith(release.GUARD):
            share.expire(share.quarantine / name, -600.0)


@dataclass(frozen=True)
class Scene:
    """What is to be released: `host` owns it, and it expires in so many seconds. A CGI's file is
    the web server's user's, and its group may write it."""

    host: str
    expires_in: float
    claims: int = 1
    is_cgis: bool = False

    def build(self, share: Share) -> Pair:
        pid = dead_pid() if self.host == HERE else 4242
        if self.claims == 0:
            claim = share.write(
                share.claim_name(LOCK, self.host, pid), expires_in=self.expires_in
            )
            return Pair(claim, ())
        pair = share.lock(LOCK, self.host, pid, expires_in=self.expires_in)
        for number in range(1, self.claims):
            extra = share.link(LOCK, share.claim_name(LOCK, self.host, pid + number, None))
            pair = Pair(pair.lock, (*pair.claims, extra))
        if self.is_cgis:
            os.chown(pair.lock, 65534, share.user.gid)
        return pair


SCENES = {
    "this host's": Scene(HERE, 36_000.0),
    "this host's, expired": Scene(HERE, -3600.0),
    "a fenced node's": Scene("n2", 36_000.0),
    "a fenced node's, expired": Scene("n2", -3600.0),
    "a fenced node's, half handed over, about to expire": Scene("n2", 20.0, claims=2),
    "a fenced node's CGI's, expired": Scene("n2", -3600.0, is_cgis=True),
    "a fenced node's orphaned claim": Scene("n2", 36_000.0, claims=0),
    "a fenced node's orphaned claim, expired": Scene("n2", -3600.0, claims=0),
}


def a_hundred(
    make_share: Callable[..., Share], scene: str
) -> tuple[list[tuple[Share, Pair]], float]:
    """As many directories with the scene, and when n2 was fenced after they were made."""
    made = []
    for _ in range(100):
        share = make_share()
        made.append((share, SCENES[scene].build(share)))
    time.sleep(0.2)
    fenced_at = time.time()
    time.sleep(0.1)
    return made, fenced_at


@pytest.mark.parametrize("scene", SCENES)
def test_next_sweep_ends_what_a_killed_release_began(
    make_share: Callable[..., Share], scene: str
) -> None:
    made, fenced_at = a_hundred(make_share, scene)
    for number, (share, pair) in enumerate(made):
        before = share.names()
        share.nodes["n2"] = Node("n2", False, False, fenced_at=fenced_at)
        if not killed_before(number, share, pair):
            break
        where = f"killed before call {number}"
        let_the_guard_expire(share)
        report = share.sweep()
        assert share.names() == set(), (where, [one.sentence() for one in report.kept])
        assert share.quarantined() == before, where
        assert len(share.evidence()) == 1, where
        assert not report.problems and not report.kept, where
        if share.leftovers():  # killed when all was done; the next release takes the guard away
            assert all(name.startswith(release.GUARD) for name in share.leftovers()), where
            share.lock("other.lock", pid=dead_pid())
            assert share.sweep().kept == () and not share.leftovers(), where
    else:
        pytest.fail("a release has more system calls than were tried")
    assert number > 25


def test_release_killed_while_it_copies_the_log_that_a_backup_has_too_loses_no_line(
    make_share: Callable[..., Share],
) -> None:
    for number in range(100):
        share = make_share()
        share.lock("first.lock")
        share.sweep()
        os.link(share.quarantine / "evidence.jsonl", share.top / "backup")
        pair = share.lock(LOCK)
        if not killed_before(number, share, pair):
            break
        let_the_guard_expire(share)
        assert share.sweep().problems == (), number
        assert [line["released"] for line in share.evidence()] == ["first.lock", LOCK], number
        assert (share.top / "backup").read_text().count("\n") == 1, number
    else:
        pytest.fail("a release has more system calls than were tried")
    assert number > 30


@pytest.mark.parametrize("scene", SCENES)
def test_sweep_that_waited_for_the_guard_of_a_release_that_was_killed_ends_it(
    make_share: Callable[..., Share], monkeypatch: pytest.MonkeyPatch, scene: str
) -> None:
    """Its own judgement is from before; what it judged has since been pushed, or moved."""
    made, fenced_at = a_hundred(make_share, scene)
    take = holding.take
    for number, (share, pair) in enumerate(made):
        before = share.names()
        share.nodes["n2"] = Node("n2", False, False, fenced_at=fenced_at)
        killed = []

        def take_after_the_other(
            *what: object, number: int = number, share: Share = share, pair: Pair = pair,
            killed: list[bool] = killed, **named: object
        ) -> holding.Holding:
            monkeypatch.setattr(holding, "take", take)
            killed.append(killed_before(number, share, pair))
            let_the_guard_expire(share)
            return take(*what, **named)

        monkeypatch.setattr(holding, "take", take_after_the_other)
        share.sweep()
        if not killed[0]:
            break
        where = f"killed before call {number}"
        assert share.names() == set(), where
        assert share.quarantined() == before, where
        assert len(share.evidence()) == 1, where
        assert not [name for name in share.leftovers() if name.startswith("unfinished.")], where
    else:
        pytest.fail("a release has more system calls than were tried")
    assert number > 25


def test_guard_of_a_killed_release_holds_others_off_until_it_expires(share: Share) -> None:
    pair = share.lock(LOCK, pid=dead_pid())
    assert killed_before(22, share, pair)
    assert "release.lock" in share.leftovers()
    report = share.sweep(seconds=1.0)
    assert "another release is under way" in report.problems[0]
    assert pair.is_untouched() and share.evidence() == []
    kept = report.kept_lock(LOCK)
    assert kept is not None and "another release is under way" in kept.sentence()
    let_the_guard_expire(share)
    assert share.sweep().kept == () and share.names() == set()


def test_guard_expires_within_half_a_minute() -> None:
    """A start that finds the guard of a dead node waits for it, and has 90 s."""
    assert release.GUARD_LIFETIME + holding.CLOCK_SLOP <= 30.0


@pytest.mark.parametrize("kind", ["2.1", "3"])
def test_living_owner_whose_lock_was_moved_by_a_killed_release_gets_it_back(
    make_share: Callable[..., Share], peer: Peer, kind: str
) -> None:
    """The claimant comes between the last look and the rename, the kill right after the rename."""
    held = back = 0
    for number in range(1, 100):
        share = make_share(kind)
        pair = share.lock(share.master_lock, pid=dead_pid(), expires_in=-3600.0)
        peer.forget()
        paths = (str(pair.lock), str(pair.claim))
        if not killed_before(
            number, share, pair, lambda paths=paths: peer.remove_and_take(kind, *paths)
        ):
            break
        gone = not pair.lock.exists()
        let_the_guard_expire(share)
        share.sweep()
        if not peer.believes():
            continue
        held += 1
        back += gone
        assert pair.lock.exists(), f"killed before call {number}: a living owner's lock is gone"
        assert peer.holds(), f"killed before call {number}: a living owner has lost its lock"
        assert Path(peer.claim()).read_text() == peer.claim()
        assert not [name for name in share.leftovers() if name.startswith("unfinished.")]
    assert held > 25 and back >= 1
    assert number > 25


def test_rubbish_and_planted_notes_release_nothing(share: Share) -> None:
    """Nobody but Mailman's own user can leave a note, and what it names stays in the directory."""
    living = share.lock("test.lock", pid=os.getpid())
    dead = share.lock(LOCK, pid=dead_pid())
    assert killed_before(30, share, dead)
    (note,) = [name for name in share.leftovers() if name.startswith("unfinished.")]
    whole = (share.quarantine / note).read_text()
    judged = share.inspect("test.lock")
    planted = whole.replace(f'"{LOCK}"', '"test.lock"').replace(
        str(dead.lock.stat().st_ino), str(judged.inode)
    )
    notes = {
        "unfinished.1": (b"", share.user.uid),
        "unfinished.2": (whole[: len(whole) // 2].encode(), share.user.uid),
        "unfinished.3": (b"[" * 100_000, share.user.uid),
        "unfinished.4": (b'{"name": "../../etc/passwd"}', share.user.uid),
        "unfinished.5": (whole.replace(f'"{LOCK}"', '"../test.lock"').encode(), share.user.uid),
        "unfinished.6": (planted.encode(), 65534),
    }
    for name, (text, uid) in notes.items():
        (share.quarantine / name).write_bytes(text)
        os.chown(share.quarantine / name, uid, uid)
    os.symlink("/etc/passwd", share.quarantine / "unfinished.7")
    os.mkfifo(share.quarantine / "unfinished.8")
    os.mkdir(share.quarantine / "unfinished.9")
    let_the_guard_expire(share)
    began = time.monotonic()
    share.sweep()
    assert time.monotonic() - began < 5.0
    assert living.is_untouched()
    assert share.leftovers() <= {"unfinished.9"}
    assert [line["released"] for line in share.evidence()] == [LOCK]


def test_maintenance_mode_leaves_an_interrupted_release_alone(share: Share) -> None:
    pair = share.lock(LOCK, pid=dead_pid(), expires_in=-3600.0)
    number = 20
    while killed_before(number, share, pair) and pair.lock.exists():
        let_the_guard_expire(share)
        number += 1
    let_the_guard_expire(share)
    assert not pair.lock.exists(), "the lock was never moved"
    before = share.leftovers()
    share.maintenance = True
    share.sweep()
    assert pair.claim.exists() and share.leftovers() == before
    share.maintenance = False
    share.sweep()
    assert share.names() == set() and len(share.evidence()) == 1


def note(share: Share, pair: Pair, **changes: object) -> Path:
    """A note as a release writes it, with what an attacker changes, and no release behind it."""
    status = os.stat(pair.lock)
    fields = {
        "name": LOCK, "inode": status.st_ino, "prefix": f"20260101T000000Z.{status.st_ino}.",
        "claims": [], "links": 2, "content": pair.lock.read_bytes().hex(),
        "expires_ns": [1, 2], "line": {}, **changes,
    }
    share.quarantine.mkdir(mode=0o750, exist_ok=True)
    os.chown(share.quarantine, share.user.uid, share.user.gid)
    path = share.quarantine / f"unfinished.{status.st_ino}"
    path.write_text(json.dumps(fields))
    os.chown(path, share.user.uid, share.user.gid)
    return path


@pytest.mark.parametrize("changes", [
    {"name": "\ud800"}, {"claims": ["\ud800"]}, {"prefix": "\ud800"}, {"name": ".."}, {"name": "."},
    {"name": "x" * 256}, {"claims": [".."]}, {"prefix": "x" * 300}, {"name": ""},
    {"prefix": "evidence.", "name": "jsonl"}, {"prefix": ".", "name": "."}, {"prefix": "",
                                                                             "name": "x"},
    {"inode": [1]}, {"inode": None},
], ids=lambda changes: repr(changes)[:40])
def test_planted_note_with_names_that_no_release_gives_is_forgotten(
    share: Share, changes: dict[str, object]
) -> None:
    """A name that is no name ended each sweep with a traceback; `..` opened the directory above."""
    pair = share.lock(LOCK, host="n2", pid=7)
    planted = note(share, pair, **changes)
    evidence = share.quarantine / "evidence.jsonl"
    evidence.write_text('{"released": "precious"}\n')
    os.chown(evidence, share.user.uid, share.user.gid)
    with Watch(share.path, (share.state, share.top / "log")):
        report = share.sweep(seconds=10.0)
    assert report.problems == () and pair.is_untouched()
    assert not planted.exists()
    assert share.evidence() == [{"released": "precious"}]
