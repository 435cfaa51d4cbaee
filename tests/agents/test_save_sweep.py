"""A sweep of half-finished saves: what it does with its time, and what it says where it cannot."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailman_ha.agents.list_lock_janitor import save_sweep

from tests.locks.share import HERE, Share, dead_pid
from tests.private_directory import private_directory

pytestmark = pytest.mark.no_posts

WHOLE = pickle.dumps({"members": "newest"}, 1)
OLD = pickle.dumps({"members": "before"}, 1)


@pytest.fixture
def share() -> Iterator[Share]:
    """A lock directory of 2.1, with a directory for its lists beside it."""
    with private_directory("mailman-ha-saves-") as space:
        one = Share(space)
        (space / "lists").mkdir()
        os.chown(space / "lists", one.user.uid, one.user.gid)
        yield one


def make_list(share: Share, name: str, **files: bytes) -> Path:
    """A list's directory with these files, one written a second after the other: `tmp` is a save of
    a process that is gone, `last` is config.pck.last."""
    directory = share.top / "lists" / name
    directory.mkdir()
    os.chown(directory, share.user.uid, share.user.gid)
    for second, (what, content) in enumerate(files.items()):
        path = directory / {
            "tmp": f"config.pck.tmp.{HERE}.{dead_pid()}", "last": "config.pck.last",
            "config": "config.pck",
        }[what]
        path.write_bytes(content)
        os.chown(path, share.user.uid, share.user.gid)
        written = time.time() - 3600 + second
        os.utime(path, (written, written))
    return directory


def mend(share: Share, seconds: float = 60.0) -> tuple[str, ...]:
    return save_sweep.mend(
        share.call(seconds), share.installation, share.surroundings, str(share.top / "lists"))


def partial(directory: Path) -> list[Path]:
    return list(directory.glob("config.pck.tmp.*"))


# -- in time

def test_sweep_whose_time_is_over_leaves_the_newest_state_for_the_next(share: Share) -> None:
    directory = make_list(share, "test", last=OLD, tmp=WHOLE)
    (problem,) = mend(share, seconds=0.0)
    assert str(directory) in problem and "the next sweep goes on" in problem
    assert [path.read_bytes() for path in partial(directory)] == [WHOLE]
    assert not share.quarantined()
    assert mend(share) == ()
    assert (directory / "config.pck").read_bytes() == WHOLE


def test_save_that_could_not_be_read_to_its_end_in_time_is_left(share: Share) -> None:
    """And no older one of the list is finished in its place."""
    directory = make_list(share, "test", last=OLD, tmp=WHOLE)
    newest = directory / f"config.pck.tmp.{HERE}.{dead_pid()}"
    newest.write_bytes(b"N0" * 8_000_000 + b"N.")
    os.chown(newest, share.user.uid, share.user.gid)
    began = time.monotonic()
    (problem,) = mend(share, seconds=2.0)
    assert time.monotonic() - began < 1.9, "the action was not over by its timeout"
    assert "the next sweep goes on" in problem and "longer timeout" in problem
    assert len(partial(directory)) == 2 and not (directory / "config.pck").exists()
    assert not share.quarantined()


def test_lists_in_use_do_not_eat_the_time_of_a_list_without_configuration(share: Share) -> None:
    waiting = make_list(share, "a", last=OLD, tmp=WHOLE)
    for number in range(5):
        make_list(share, f"busy{number}", last=OLD, tmp=WHOLE)
        share.lock(f"busy{number}.lock", pid=os.getpid())
        make_list(share, f"used{number}", config=OLD, tmp=WHOLE)
        share.lock(f"used{number}.lock", pid=os.getpid())
    began = time.monotonic()
    assert mend(share, seconds=10.0) == ()
    assert time.monotonic() - began < 3.0
    assert (waiting / "config.pck").read_bytes() == WHOLE
    assert all(partial(share.top / "lists" / f"busy{number}") for number in range(5))


def test_quarantine_is_not_emptied_when_the_time_is_over(share: Share) -> None:
    share.quarantine.mkdir()
    os.chown(share.quarantine, share.user.uid, share.user.gid)
    old = share.quarantine / "20200101T000000Z.5.test.lock"
    old.write_bytes(b"")
    save_sweep.empty_quarantine(share.call(0.0), share.installation, 30)
    assert old.exists()
    save_sweep.empty_quarantine(share.call(), share.installation, 30)
    assert not old.exists()
