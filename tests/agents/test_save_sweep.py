"""A sweep of half-finished saves: what it does with its time, and what it says where it cannot."""

from __future__ import annotations

import os
import pickle
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mailman_ha.agents.list_lock_janitor import save_sweep
from mailman_ha.evidence.cluster import Node

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


def mend(
    share: Share, seconds: float = 60.0, stuck_after: float = float("inf")
) -> tuple[str, ...]:
    return save_sweep.mend(
        share.call(seconds), share.installation, share.surroundings, str(share.top / "lists"),
        stuck_after)


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


# -- of a writer that is not proven dead

def written_by(directory: Path, writer: str) -> Path:
    """The list's half-finished save, as that of another writer, HOST.PID, some time ago."""
    (path,) = partial(directory)
    path = path.rename(directory / f"config.pck.tmp.{writer}")
    time.sleep(0.2)
    return path


@pytest.mark.parametrize("writer, why, way", [
    ("oldname.123", "no node of this cluster", 'host_map="NODE=oldname"'),
    ("oldname.123", "host oldname", "`mv -n {path} {directory}/config.pck`"),
    ("lost.7", "not fenced yet", "pcs stonith fence lost"),
    (f"{HERE}.{os.getpid()}", "not known as Mailman's", "`mv -n {path} {directory}/config.pck`"),
])
def test_newest_state_whose_writer_may_live_is_said_with_what_to_type(
    share: Share, writer: str, why: str, way: str
) -> None:
    share.nodes["lost"] = Node("lost", False, True)
    directory = make_list(share, "test", last=OLD, tmp=WHOLE)
    path = written_by(directory, writer)
    os.utime(path)  # by the living process of this test, too
    time.sleep(0.2)
    (problem,) = mend(share, stuck_after=0.1)
    for words in ("list test", str(path), why, way.format(path=path, directory=directory)):
        assert words in problem
    assert path.read_bytes() == WHOLE and not (directory / "config.pck").exists()
    assert mend(share, stuck_after=600.0) == (), "it may be just being written"


@pytest.mark.parametrize("files", [
    {"config": OLD, "tmp": WHOLE}, {"tmp": OLD, "last": WHOLE},
], ids=["beside a configuration", "older than the last one"])
def test_save_that_is_not_the_newest_state_is_left_without_a_word(
    share: Share, files: dict[str, bytes]
) -> None:
    path = written_by(make_list(share, "test", **files), "oldname.123")
    assert mend(share, stuck_after=0.1) == ()
    assert path.exists()


@pytest.mark.parametrize("writer", ["n2.7", "HERE.LIVE"], ids=["an online node's", "alive"])
def test_save_of_a_writer_in_good_hands_is_left_without_a_word(
    share: Share, writer: str
) -> None:
    with subprocess.Popen(
        ["mailman-ha-test-qrunner", "600"], executable="/bin/sleep", stdin=subprocess.DEVNULL
    ) as alive:
        try:
            directory = make_list(share, "test", last=OLD, tmp=WHOLE)
            path = written_by(
                directory, writer.replace("HERE.LIVE", f"{HERE}.{alive.pid}"))
            assert mend(share, stuck_after=0.1) == ()
            assert path.exists()
        finally:
            alive.kill()


def test_command_to_type_is_safe_to_type_whatever_the_list_is_called(share: Share) -> None:
    path = written_by(make_list(share, "x;touch $(id)\n", last=OLD, tmp=WHOLE), "oldname.123")
    (problem,) = mend(share, stuck_after=0.1)
    command = problem.split("`")[1]
    assert command.isprintable() and len(shlex.split(command)) == 4
    assert f"'{path.parent.parent}/x;touch $(id)" in command
