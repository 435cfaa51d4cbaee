"""Dot locks that dead processes leave on Mailman 3's digest mailboxes (lists/mailbox_locks.py).

Made by Python's own mailbox module in processes that are killed, as a power cut leaves them.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mailman_ha.locks.release import Quarantine

from tests.agents.agent_runs import Agents, ClusterPicture, NodePicture, evidence, identity
from tests.installations import Installation, wait_until
from tests.locks.mount_namespace import in_mount_namespace, mount

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

HOLDS = """
import mailbox, sys, time
held = mailbox.MMDF(sys.argv[1])
held.lock()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def mailman3(make_installation: Callable[..., Installation]) -> Installation:
    """A Mailman 3 whose list gathers digests, as lists do where nobody changed it."""
    made = make_installation("mailman3")
    with sqlite3.connect(made.var_dir / "data" / "mailman.db") as database:
        database.execute("UPDATE mailinglist SET digests_enabled = 1")
    database.close()
    made.lock_dir.mkdir(exist_ok=True)
    os.chown(made.lock_dir, made.uid, made.gid)
    return made


def mailbox_of(installation: Installation, name: str = "digest.mmdf") -> Path:
    directory = installation.var_dir / "lists" / installation.LIST_ID
    for made in (directory.parent, directory):
        made.mkdir(exist_ok=True)
        os.chown(made, installation.uid, installation.gid)
    return directory / name


@contextmanager
def holder(installation: Installation, mailbox: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Mailman's user that has the mailbox locked as Mailman locks it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(mailbox)], stdout=subprocess.PIPE,
        user=installation.user, group=installation.gid, cwd="/",
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def dead_lock(installation: Installation, name: str = "digest.mmdf") -> Path:
    """The dot lock that a killed process has left."""
    mailbox = mailbox_of(installation, name)
    with holder(installation, mailbox) as process:
        process.kill()
        process.wait()
    lock = mailbox.with_name(f"{name}.lock")
    assert lock.exists()
    return lock


def shunted(installation: Installation) -> list[str]:
    return [path.name for path in (installation.queue_dir / "shunt").glob("*.pck")]


@pytest.mark.parametrize("name", ["digest.mmdf", "digest.2.17.mmdf"])
def test_lock_on_a_digest_of_a_dead_process_is_put_aside_with_evidence(
    agents: Agents, mailman3: Installation, name: str
) -> None:
    lock = dead_lock(mailman3, name)
    inode = lock.stat().st_ino
    assert agents.janitor("start", mailman3).code == 0
    assert not lock.exists()
    assert lock.with_name(name).exists()
    line = evidence(mailman3)[-1]
    assert line["mailbox_lock"] == str(lock) and line["state"] == "unheld"
    kept = mailman3.lock_dir / "mailman-ha.quarantine" / str(line["moved_to"][0])
    assert kept.stat().st_ino == inode


@needs_root
@pytest.mark.parametrize("bound", ["lists", "locks", "lists and locks"])
def test_dead_lock_on_a_digest_is_put_aside_also_where_lists_and_locks_are_mounted_apart(
    agents: Agents, mailman3: Installation, bound: str
) -> None:
    """Two binds of one file system: rename(2) and link(2) give EXDEV between them."""
    lock = dead_lock(mailman3)

    def look() -> None:
        for directory in (lock.parent.parent, mailman3.lock_dir):
            if directory.name in bound:
                mount("--bind", str(directory), str(directory))
        assert agents.janitor("start", mailman3).code == 0
        assert not lock.exists()
        (kept,) = (mailman3.lock_dir / "mailman-ha.quarantine").glob("2*.digest.mmdf.lock")
        assert evidence(mailman3)[-1]["moved_to"] == [kept.name]

    in_mount_namespace(look)


@needs_root
def test_file_that_is_copied_into_quarantine_is_the_judged_one_whole_and_no_other(
    tmp_path: Path,
) -> None:
    apart, locks = tmp_path / "list", tmp_path / "locks"
    apart.mkdir()
    locks.mkdir()
    there = apart / "config.pck.tmp"
    content = os.urandom(3_000_001)

    def kept() -> dict[str, bytes]:
        files = (locks / "mailman-ha.quarantine").glob("2*")
        return {path.name: path.read_bytes() for path in files}

    def look() -> None:
        mount("--bind", str(apart), str(apart))
        directory = os.open(apart, os.O_RDONLY)
        there.write_bytes(content)
        with Quarantine(str(locks), "n1") as quarantine:
            with pytest.raises(OSError, match="another file took its place"):
                quarantine.adopt(directory, there.name, there.stat().st_ino + 1)
            there.rename(apart / "other")
            there.symlink_to("other")
            with pytest.raises(OSError):
                quarantine.adopt(directory, there.name, there.stat().st_ino)
            assert (apart / "other").read_bytes() == content and kept() == {}
            (apart / "other").rename(there)
            name = quarantine.adopt(directory, there.name, there.stat().st_ino)
            assert kept() == {name: content} and os.listdir(apart) == []
            os.truncate(os.open(there, os.O_CREAT | os.O_WRONLY), 1 << 40)
            with pytest.raises(OSError, match="too large"):
                quarantine.adopt(directory, there.name, there.stat().st_ino)
            assert kept() == {name: content} and there.exists()

    in_mount_namespace(look)


def test_lock_on_a_digest_of_a_living_process_is_kept_and_said_when_it_stays(
    agents: Agents, mailman3: Installation
) -> None:
    mailbox = mailbox_of(mailman3)
    with holder(mailman3, mailbox):
        lock = mailbox.with_name("digest.mmdf.lock")
        before = identity(lock)
        assert agents.janitor("start", mailman3).code == 0
        assert agents.janitor("monitor", mailman3, level=10).code == 0
        time.sleep(1)
        seen = agents.janitor("monitor", mailman3, level=10, stuck_after="1")
        assert seen.code == 190
        assert str(lock) in seen.reason and "fuser" in seen.reason
        assert identity(lock) == before


def test_lock_on_a_digest_is_kept_in_maintenance_mode(
    agents: Agents, mailman3: Installation
) -> None:
    lock = dead_lock(mailman3)
    before = identity(lock)
    agents.cluster(ClusterPicture({"n1": NodePicture()}, maintenance=True))
    assert agents.janitor("start", mailman3).code == 0
    assert identity(lock) == before


@pytest.mark.parametrize("planted", ["link", "fifo", "directory"])
def test_what_somebody_put_in_the_place_of_a_digests_lock_or_mailbox_is_left_alone(
    agents: Agents, mailman3: Installation, tmp_path: Path, planted: str
) -> None:
    mailbox = mailbox_of(mailman3)
    outside = tmp_path / "outside"
    outside.write_text("not Mailman's")
    for path in (mailbox, mailbox.with_name("digest.1.1.mmdf.lock")):
        if planted == "link":
            path.symlink_to(outside)
        elif planted == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    mailbox.with_name("digest.mmdf.lock").touch()
    mailbox.with_name("digest.1.1.mmdf").touch()
    before = sorted((path.name, path.lstat().st_ino) for path in mailbox.parent.iterdir())
    done = agents.janitor("start", mailman3, timeout=20)
    assert done.code == 0 and done.seconds < 15
    after = sorted((path.name, path.lstat().st_ino) for path in mailbox.parent.iterdir())
    assert after == before
    assert outside.read_text() == "not Mailman's"


@pytest.mark.slow
def test_master_starts_with_the_dead_locks_on_its_digests_gone(
    agents: Agents, mailman3: Installation
) -> None:
    """Without the janitor, too: the first post after a failover is delivered, not shunted."""
    lock = dead_lock(mailman3)
    assert agents.master("start", mailman3).code == 0
    assert not lock.exists()
    message = mailman3.post()
    assert message in {each.message_id for each in mailman3.sink.wait_for(1, 30)}
    assert not shunted(mailman3)


@pytest.mark.slow
def test_posts_shunted_for_a_dead_lock_on_a_digest_are_delivered_after_all(
    agents: Agents, mailman3: Installation
) -> None:
    """A killed runner is started again by the master: nothing of the agents' comes between."""
    assert agents.janitor("start", mailman3).code == 0
    assert agents.master("start", mailman3).code == 0
    lock = dead_lock(mailman3)
    message = mailman3.post()
    wait_until(lambda: len(shunted(mailman3)) == 1, 30, "Mailman shunts it")
    foreign = mailman3.queue_dir / "shunt" / f"{time.time()!r}+{'a' * 40}.pck"
    foreign.write_bytes(b"somebody else's, and no entry")
    assert agents.janitor("monitor", mailman3, level=10).code == 0
    assert not lock.exists()
    assert message in {each.message_id for each in mailman3.sink.wait_for(1, 30)}
    assert shunted(mailman3) == [foreign.name]
