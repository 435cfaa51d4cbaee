"""The return of posts that were shunted for a dot lock on their list's digest: all of them, also
where a sweep is killed, meets an error or has no time left (agents/mailbox_sweep.py)."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from mailman_ha.agents import mailbox_sweep
from mailman_ha.lists import mailbox_locks
from mailman_ha.locks.release import Quarantine
from mailman_ha.mailman.location import VERSION_3
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.queues import returns, shunted

AROUND = SimpleNamespace(
    maintenance=False, this_host=SimpleNamespace(node="n1", hostname="n1.example.org")
)


class Killed(BaseException):
    pass


class Steps(Deadline):
    """Time that passes with each look at it: a hundred of the action's looks are left."""

    def __init__(self, left: float = 100.0) -> None:
        super().__init__(60.0)
        self.left = left

    def remaining(self) -> float:
        self.left -= 1
        return max(self.left, 0.0)


class Site:
    """Mailman's directories, and one sweep of them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.queues = {name: top / name for name in ("pipeline", "digest", "shunt")}
        for directory in (*self.queues.values(), top / "lists", top / "locks"):
            directory.mkdir()
        self.site = SimpleNamespace(
            location=SimpleNamespace(version=VERSION_3), lock_dir=str(top / "locks"),
            user=SimpleNamespace(uid=os.getuid(), gid=os.getgid()),
            answer=SimpleNamespace(
                lists_dir=str(top / "lists"),
                queues=tuple((name, str(path)) for name, path in self.queues.items()),
            ),
        )
        self.posts = 0

    def lock(self, list_id: str = "a.example.org") -> Path:
        directory = self.top / "lists" / list_id
        directory.mkdir(exist_ok=True)
        (directory / "digest.mmdf").touch()
        (directory / "digest.mmdf.lock").touch()
        return directory / "digest.mmdf.lock"

    def shunt(self, list_id: str = "a.example.org", queue: str = "pipeline") -> str:
        self.posts += 1
        name = f"{1795715790 + self.posts}.25+{self.posts:040x}.pck"
        (self.queues["shunt"] / name).write_bytes(
            pickle.dumps("a post") + pickle.dumps({"whichq": queue, "listid": list_id})
        )
        return name

    def held(self, queue: str) -> set[str]:
        return set(os.listdir(self.queues[queue]))

    def sweep(self, deadline: Deadline | None = None) -> tuple[str, ...]:
        log = SimpleNamespace(info=lambda text: None)
        call = SimpleNamespace(deadline=deadline or Deadline(60.0), log=log)
        return mailbox_sweep.release_dead(
            call, self.site, lambda: AROUND  # type: ignore[arg-type, return-value]
        )

    def notes(self) -> list[str]:
        return [path.name for path in (self.top / "locks/mailman-ha.quarantine").glob("return.*")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(mailbox_sweep, "LOOK_AGAIN", 0.0)
    return Site(tmp_path)


def test_posts_shunted_for_a_dead_lock_are_back_and_those_of_others_are_not(site: Site) -> None:
    before = site.shunt()
    time.sleep(0.05)  # files are stamped by a clock that ticks some hundred times a second
    site.lock()
    back = {site.shunt(), site.shunt()}
    others = {site.shunt("b.example.org"), site.shunt(queue="out"), before}
    assert site.sweep() == ()
    assert site.held("pipeline") == back
    assert site.held("shunt") == others


def test_post_that_its_runner_shunts_only_after_the_lock_is_gone_is_back_after_the_next_sweep(
    site: Site,
) -> None:
    lock = site.lock()
    assert site.sweep() == () and not lock.exists()
    late = site.shunt()
    assert site.sweep() == ()
    assert site.held("pipeline") == {late}
    assert site.notes() == []
    left = site.shunt()
    assert site.sweep() == ()
    assert site.held("shunt") == {left}


def test_post_that_is_shunted_long_after_the_lock_is_gone_is_left_to_the_operator(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returns, "LATE", 0.0)
    site.lock()
    assert site.sweep() == ()
    left = site.shunt()
    assert site.sweep() == ()
    assert site.held("shunt") == {left} and site.notes() == []


def kill(*arguments: object) -> NoReturn:
    raise Killed


@pytest.mark.parametrize("place", [
    (Quarantine, "adopt"), (Quarantine, "log"), (returns, "carry_out"), (returns, "forget"),
    (shunted, "put_back"),
])
def test_posts_are_back_after_a_sweep_that_was_killed_anywhere(
    site: Site, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str]
) -> None:
    site.lock()
    posts = {site.shunt() for _ in range(3)}
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(*place, kill)
        site.sweep()
    assert site.sweep() == ()
    assert site.held("pipeline") == posts


@pytest.mark.parametrize("trouble", ["no queue", "queue not configured", "shunt is no directory"])
def test_posts_that_cannot_be_returned_are_said_and_are_back_once_they_can(
    site: Site, trouble: str
) -> None:
    lock = site.lock()
    post = site.shunt()
    queues = site.site.answer.queues
    if trouble == "no queue":
        site.queues["pipeline"].rmdir()
    elif trouble == "queue not configured":
        site.site.answer.queues = tuple(one for one in queues if one[0] != "pipeline")
    else:
        site.queues["shunt"].rename(site.top / "aside")
        site.queues["shunt"].touch()
    for _ in range(2):
        (problem,) = site.sweep()
        assert "could not be returned" in problem and "mailman unshunt" in problem
        assert not lock.exists()
    if trouble == "no queue":
        site.queues["pipeline"].mkdir()
    elif trouble == "queue not configured":
        site.site.answer.queues = queues
    else:
        site.queues["shunt"].unlink()
        (site.top / "aside").rename(site.queues["shunt"])
    assert site.sweep() == ()
    assert site.held("pipeline") == {post} and site.notes() == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_message_that_vanishes_from_the_shunt_queue_does_not_keep_the_others_there(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    site.lock()
    posts = sorted(site.shunt() for _ in range(20))
    scandir = os.scandir

    class Vanishing:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name = entry.name
            self.entry = entry

        def stat(self, follow_symlinks: bool = True) -> os.stat_result:
            if self.name == posts[5]:
                raise OSError(code, os.strerror(code))
            return self.entry.stat(follow_symlinks=follow_symlinks)

    class Listing:
        def __init__(self, path: str) -> None:
            self.listing = scandir(path)

        def __enter__(self) -> None:
            pass

        def __iter__(self) -> Iterator[Vanishing]:
            return map(Vanishing, self.listing)

        def __exit__(self, *exception: object) -> None:
            self.listing.close()

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", lambda path: (
            Listing(path) if path == str(site.queues["shunt"]) else scandir(path)
        ))
        assert site.sweep() == ()
    assert site.held("pipeline") == {*posts} - {posts[5]}


def test_posts_are_not_returned_while_their_lock_stands(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be shunted once more by every sweep."""
    site.lock()
    post = site.shunt()

    def refuse(*arguments: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Quarantine, "adopt", refuse)
        site.sweep()
        assert site.held("shunt") == {post}
    site.sweep()
    assert site.held("pipeline") == {post}


def test_post_that_met_the_sweep_itself_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock goes in the moment in which the sweep takes the mailbox."""
    lock = site.lock()
    look, looks = mailbox_locks._look, []

    def at_the_last_look_gone(path: str, directory: int | None = None) -> os.stat_result | None:
        looks.append(path)
        if len(looks) == 3:
            lock.unlink()
            site.shunt()
        return look(path, directory)

    monkeypatch.setattr(mailbox_locks, "_look", at_the_last_look_gone)
    assert site.sweep() == ()
    assert len(site.held("pipeline")) == 1


def test_shunt_queue_is_read_once_for_all_locks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        site.lock(f"l{number}.example.org")
    for number in range(20):
        site.shunt(f"l{number}.example.org")
    read = []
    origin = shunted.origin_of
    monkeypatch.setattr(shunted, "origin_of", lambda path: (read.append(path), origin(path))[1])
    assert site.sweep() == ()
    assert len(read) == 20
    assert len(site.held("pipeline")) == 10


@pytest.mark.parametrize("make", ["locks", "posts"])
def test_sweep_ends_before_its_time_is_over_says_so_and_the_next_ones_do_the_rest(
    site: Site, make: str
) -> None:
    for number in range(100 if make == "locks" else 1):
        site.lock(f"l{number}.example.org")
    for _ in range(1 if make == "locks" else 100):
        site.shunt("l0.example.org")
    rest: list[int] = []
    for _ in range(10):
        deadline = Steps(230.0 if make == "posts" else 100.0)
        problems = site.sweep(deadline)
        assert deadline.left >= 20
        if not problems:
            break
        assert any("the next sweep" in problem for problem in problems)
        rest.append(len(list(site.top.glob("lists/*/*.lock"))) + len(site.held("shunt")))
    assert len(rest) >= 2 and rest == sorted(set(rest), reverse=True)
    assert problems == ()
    assert list(site.top.glob("lists/*/*.lock")) == [] and site.held("shunt") == set()


def test_messages_of_others_do_not_keep_a_sweep_from_getting_on(site: Site) -> None:
    """Each looks through those after the ones that the last has looked through."""
    site.lock()
    for number in range(100):
        site.shunt(f"other{number}.example.org")
    post = site.shunt()
    for _ in range(10):
        if site.sweep(Steps(230.0)) == ():
            break
    assert site.held("pipeline") == {post}


Plant = Callable[[Path], object]


@pytest.mark.parametrize("plant", [
    lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, Path.mkdir, Path.touch,
    lambda path: path.write_text("[" * 50_000), lambda path: path.write_text('{"queue": 1}'),
    lambda path: path.write_text(
        '{"queue": "../locks", "list": "a", "since_ns": 1e999, "until_ns": 1}'),
])
def test_what_somebody_put_in_the_place_of_a_note_moves_nothing_and_stops_nothing(
    site: Site, plant: Plant
) -> None:
    site.lock()
    site.sweep()
    quarantine = site.top / "locks" / "mailman-ha.quarantine"
    shutil.rmtree(quarantine)
    quarantine.mkdir(0o750)
    plant(quarantine / "return.1.pipeline.a.example.org")
    left = site.shunt()
    site.lock("b.example.org")
    post = site.shunt("b.example.org")
    site.sweep()
    assert site.held("pipeline") == {post} and site.held("shunt") == {left}
