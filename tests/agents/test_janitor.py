"""The janitor: what it releases, keeps, mends, reports; on hostile directories too."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.agent_runs import (
    Agents,
    ClusterPicture,
    NodePicture,
    evidence,
    identity,
)
from tests.installations import Installation, free_pid

pytestmark = pytest.mark.no_posts

FENCED_N2 = NodePicture(online=False, fenced_at=time.time() + 86400)
LOST_N2 = NodePicture(online=False, unclean=True)


def cluster(n2: NodePicture, **options: bool) -> ClusterPicture:
    return ClusterPicture({"n1": NodePicture(), "n2": n2}, **options)


def lock_names(installation: Installation) -> set[str]:
    return {path.name for path in installation.lock_dir.iterdir() if path.is_file()}


def make_dead_claims(installation: Installation, count: int) -> None:
    """Claims on a list's lock of processes that are gone."""
    lock = installation.list_lock()
    for number in range(count):
        claim = Path(installation.claim_name(lock, installation.host, 3_000_000 + number, "0"))
        claim.touch()
        os.chown(claim, installation.uid, installation.gid)


def test_life_of_a_janitor(agents: Agents, installation: Installation) -> None:
    assert agents.janitor("monitor", installation, interval=0).code == 7
    assert agents.janitor("monitor", installation).code == 7
    assert agents.janitor("start", installation).code == 0
    for level in (0, 10):
        assert agents.janitor("monitor", installation, level=level).code == 0
    assert agents.janitor("reload-agent", installation, stuck_after="5").code == 0
    assert agents.janitor("stop", installation).code == 0
    assert agents.janitor("monitor", installation).code == 7
    assert agents.janitor("stop", installation).code == 0


def test_every_lock_of_a_fenced_node_is_released_when_the_janitor_starts(
    agents: Agents, installation: Installation
) -> None:
    installation.make_dead_lock("n2", 11)
    for number in range(5):
        installation.make_dead_lock(
            "n2", 100 + number, lock=installation.list_lock(f"list{number}"), last="7"
        )
    agents.cluster(cluster(FENCED_N2))
    done = agents.janitor("start", installation)
    assert done.code == 0, done.stderr
    assert not lock_names(installation)
    assert len(evidence(installation)) == 6
    assert all(line["state"] == "fenced" for line in evidence(installation))


def test_monitor_releases_what_died_since_and_keeps_the_living(
    agents: Agents, installation: Installation
) -> None:
    assert agents.janitor("start", installation).code == 0
    dead = installation.make_dead_lock(lock=installation.list_lock("dead"), last="1")
    with subprocess.Popen(["sleep", "600"], user=installation.user) as sleeper:
        try:
            alive = installation.make_dead_lock(
                pid=sleeper.pid, lock=installation.list_lock("alive"), last="2"
            )
            before = identity(alive.lock)
            seen = agents.janitor("monitor", installation)
            assert seen.code == 0, seen.stderr
            assert not dead.lock.exists() and not dead.claim.exists()
            assert identity(alive.lock) == before
        finally:
            sleeper.kill()


def test_stop_releases_this_hosts_dead_locks(agents: Agents, installation: Installation) -> None:
    assert agents.janitor("start", installation).code == 0
    dead = installation.make_dead_lock()
    assert agents.janitor("stop", installation).code == 0
    assert not dead.lock.exists()


def test_orphaned_claim_of_the_dead_is_put_aside_and_that_of_a_waiter_kept(
    agents: Agents, installation: Installation
) -> None:
    """A waiter's claim file lies beside the lock while it waits (facts, section 2)."""
    gone = installation.make_dead_lock(lock=installation.list_lock("one"), last="3")
    gone.lock.unlink()
    with subprocess.Popen(["python3", "-c", "import time; time.sleep(600)", "mailman"]) as waiter:
        try:
            time.sleep(0.2)
            waiting = installation.make_dead_lock(
                pid=waiter.pid, lock=installation.list_lock("two"), last="4"
            )
            waiting.lock.unlink()
            assert agents.janitor("start", installation).code == 0
            assert not gone.claim.exists()
            assert waiting.claim.exists()
        finally:
            waiter.kill()


def test_lock_that_stays_too_long_is_degraded_with_what_to_type(
    agents: Agents, installation: Installation
) -> None:
    agents.cluster(cluster(LOST_N2))
    assert agents.janitor("start", installation).code == 0
    dead = installation.make_dead_lock("n2", 4242, lock=installation.list_lock(), last="0")
    time.sleep(1.2)
    assert agents.janitor("monitor", installation, stuck_after="3600").code == 0
    seen = agents.janitor("monitor", installation, stuck_after="1")
    assert seen.code == 190
    for words in (dead.lock.name, "4242", "n2", "pcs stonith fence n2"):
        assert words in seen.reason
    # What the operator types is what turns doubt into proof.
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("monitor", installation, stuck_after="1").code == 0
    assert not dead.lock.exists()


def test_locks_of_a_member_are_its_own_janitors_business(
    agents: Agents, installation: Installation
) -> None:
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    assert agents.janitor("start", installation).code == 0
    time.sleep(1.2)
    assert agents.janitor("monitor", installation, stuck_after="1").code == 0
    assert identity(dead.lock) == before


def test_nothing_is_released_in_maintenance_and_it_is_said(
    agents: Agents, installation: Installation
) -> None:
    agents.cluster(cluster(FENCED_N2, maintenance=True))
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    assert agents.janitor("start", installation).code == 0
    seen = agents.janitor("monitor", installation)
    assert seen.code == 190 and "maintenance" in seen.reason
    assert identity(dead.lock) == before


def test_hostile_directory_neither_hangs_nor_harms(
    agents: Agents, installation: Installation
) -> None:
    agents.cluster(cluster(FENCED_N2))
    passwd = identity(Path("/etc/passwd"))
    lock_dir = os.fsencode(installation.lock_dir)
    victim = installation.directory / "victim"
    victim.write_text("precious")
    lock = os.fsencode(installation.list_lock("x").name)
    claim = os.fsencode(Path(installation.claim_name(
        installation.list_lock("x"), "n2", 5, "1")).name)

    def at(name: bytes) -> bytes:
        return os.path.join(lock_dir, name)

    os.symlink(os.fsencode(victim), at(b"link.lock"))
    os.symlink(b"/etc/passwd", at(b"pass.lock"))
    os.mkfifo(at(b"fifo.lock"))
    os.mkfifo(at(claim))
    os.mkdir(at(b"directory.lock"))
    os.mkdir(at(lock + b"2"))
    with open(at(b"sparse.lock"), "wb") as sparse:
        sparse.truncate(1 << 30)
    for strange in (
        b"new\nline.lock", b"esc\x1b[31mred.lock", b"\xff\xfe.lock", b"a" * 250 + b".lck",
    ):
        with open(at(strange), "wb") as file:
            file.write(b"/etc/passwd")
    with open(at(b"claims-passwd.lock"), "wb") as file:
        file.write(b"/etc/passwd")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(installation.directory / "s"))
    os.rename(installation.directory / "s", at(b"socket.lock"))
    before = {name: os.lstat(at(name)).st_ino for name in os.listdir(lock_dir)}
    done = agents.janitor("start", installation, timeout=30)
    assert done.code == 0, done.stderr
    assert done.seconds < 20
    for level in (0, 10):
        seen = agents.janitor("monitor", installation, timeout=30, level=level, stuck_after="600")
        assert seen.code in (0, 190)
    assert "\x1b" not in done.stderr + seen.stderr
    assert all(line.isprintable() for line in seen.stderr.splitlines())
    after = {name: os.lstat(at(name)).st_ino for name in os.listdir(lock_dir)}
    assert before.items() <= after.items()
    assert victim.read_text() == "precious"
    assert identity(Path("/etc/passwd")) == passwd
    server.close()


def test_thousands_of_claims_of_the_dead_make_no_action_late(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    dead = installation.make_dead_lock(lock=installation.list_lock("other"), last="1")
    make_dead_claims(installation, 3000)
    assert agents.janitor("start", installation, timeout=8).code == 0
    assert not dead.lock.exists()
    before = len(lock_names(installation))
    seen = agents.janitor("monitor", installation, timeout=8, stuck_after="0")
    left = len(lock_names(installation))
    assert left < before or not before
    assert seen.code == (190 if left else 0)
    assert not left or "the next sweep goes on" in seen.reason


def test_last_sweep_of_a_stop_ends_by_itself_however_much_there_is_to_release(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """Killed in the midst of it, it would leave its guard, for which the next start waits."""
    installation = make_installation("standin")
    assert agents.janitor("start", installation).code == 0
    make_dead_claims(installation, 8000)
    done = agents.janitor("stop", installation, timeout=8)
    assert (done.code, "no last sweep" in done.stderr) == (0, False), done.stderr[-500:]
    assert "the next sweep goes on" in done.stderr or not lock_names(installation)
    quarantine = installation.lock_dir / "mailman-ha.quarantine"
    assert not list(quarantine.glob("release.lock*"))


def test_planted_quarantine_is_refused_and_the_lock_kept(
    agents: Agents, installation: Installation
) -> None:
    agents.cluster(cluster(FENCED_N2))
    elsewhere = installation.directory / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    (installation.lock_dir / "mailman-ha.quarantine").symlink_to(elsewhere)
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    assert agents.janitor("start", installation).code == 0
    seen = agents.janitor("monitor", installation)
    assert seen.code == 190 and "mailman-ha.quarantine" in seen.reason
    assert identity(dead.lock) == before
    assert not list(elsewhere.iterdir())


# Half-finished saves (2.1)


def make_save(
    installation: Installation, host: str, pid: int, content: bytes, config: bytes | None
) -> Path:
    directory = installation.lists_dir / "test"  # type: ignore[attr-defined]
    directory.mkdir(exist_ok=True)
    os.chown(directory, installation.uid, installation.gid)
    for old in directory.glob("config.pck*"):
        old.unlink()
    if config is not None:
        (directory / "config.pck").write_bytes(config)
    partial = directory / f"config.pck.tmp.{host}.{pid}"
    partial.write_bytes(content)
    os.chown(partial, installation.uid, installation.gid)
    return partial


WHOLE = pickle.dumps({"members": ["anne@example.test"] * 50, "name": "test"})
OLD = pickle.dumps({"name": "old"})


class Bomb:
    """Unpickling this runs a program."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/mailman-ha-bomb-went-off",)


def test_whole_save_of_the_dead_becomes_the_missing_configuration(
    agents: Agents, installation21: Installation
) -> None:
    partial = make_save(installation21, "n2", 77, WHOLE, None)
    agents.cluster(cluster(FENCED_N2))
    done = agents.janitor("start", installation21)
    assert done.code == 0, done.stderr
    assert not partial.exists()
    assert (partial.parent / "config.pck").read_bytes() == WHOLE
    (line,) = evidence(installation21)
    assert line["done"] == "finished" and line["host"] == "n2"


def saves_put_aside(installation: Installation) -> list[bytes]:
    """What the half-finished saves in quarantine hold."""
    kept = (installation.lock_dir / "mailman-ha.quarantine").glob("*config.pck.tmp*")
    return [path.read_bytes() for path in kept]


@pytest.mark.parametrize("content", [WHOLE[:-20], b"", WHOLE + b"more"])
def test_torn_save_of_the_dead_is_put_aside(
    agents: Agents, installation21: Installation, content: bytes
) -> None:
    partial = make_save(installation21, "n2", 77, content, None)
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("start", installation21).code == 0
    assert not partial.exists()
    assert not (partial.parent / "config.pck").exists()
    assert saves_put_aside(installation21) == [content]


def test_save_beside_a_configuration_is_put_aside_and_that_kept(
    agents: Agents, installation21: Installation
) -> None:
    partial = make_save(installation21, "n2", 77, WHOLE, OLD)
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("start", installation21).code == 0
    assert not partial.exists()
    assert (partial.parent / "config.pck").read_bytes() == OLD


def test_save_older_than_the_last_configuration_is_put_aside(
    agents: Agents, installation21: Installation
) -> None:
    """Mailman removes no such file ever, and goes on from config.pck.last where it finds no
    config.pck."""
    partial = make_save(installation21, "n2", 77, WHOLE, None)
    last = partial.parent / "config.pck.last"
    last.write_bytes(OLD)
    written = time.time() - 3600
    os.utime(last, (written, written))
    os.utime(partial, (written - 86400, written - 86400))
    agents.cluster(cluster(FENCED_N2))
    done = agents.janitor("start", installation21)
    assert done.code == 0 and "older than config.pck.last" in done.stderr
    assert not partial.exists() and not (partial.parent / "config.pck").exists()
    assert last.read_bytes() == OLD
    assert saves_put_aside(installation21) == [WHOLE]


def test_of_several_saves_the_one_written_last_is_finished(
    agents: Agents, installation21: Installation
) -> None:
    """By what their writers did; the time of the last change is also that of a chown."""
    newer = make_save(installation21, "n2", 77, WHOLE, None)
    last, older = newer.with_name("config.pck.last"), newer.with_name("config.pck.tmp.n2.78")
    for age, path in ((300, last), (200, older), (100, newer)):
        if path != newer:
            path.write_bytes(OLD)
        os.chown(path, installation21.uid, installation21.gid)
        os.utime(path, (time.time() - age, time.time() - age))
    os.chown(older, installation21.uid, installation21.gid)
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("start", installation21).code == 0
    assert (newer.parent / "config.pck").read_bytes() == WHOLE
    assert last.read_bytes() == OLD and not newer.exists() and not older.exists()


@pytest.mark.parametrize("n2", [LOST_N2, NodePicture()], ids=["lost", "online"])
def test_save_of_a_writer_not_proven_dead_is_left(
    agents: Agents, installation21: Installation, n2: NodePicture
) -> None:
    partial = make_save(installation21, "n2", 77, WHOLE, None)
    agents.cluster(cluster(n2))
    assert agents.janitor("start", installation21).code == 0
    assert partial.read_bytes() == WHOLE
    assert not (partial.parent / "config.pck").exists()


def test_newest_state_of_a_lost_writer_is_degraded_with_what_to_type(
    agents: Agents, installation21: Installation
) -> None:
    partial = make_save(installation21, "n2", 77, WHOLE, None)
    agents.cluster(cluster(LOST_N2))
    assert agents.janitor("start", installation21).code == 0
    time.sleep(1.2)
    assert agents.janitor("monitor", installation21, level=10, stuck_after="3600").code == 0
    seen = agents.janitor("monitor", installation21, level=10, stuck_after="1")
    assert seen.code == 190
    for words in ("list test", partial.name, "n2", "pcs stonith fence n2"):
        assert words in seen.reason
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("monitor", installation21, level=10, stuck_after="1").code == 0
    assert (partial.parent / "config.pck").read_bytes() == WHOLE


def test_save_of_a_list_whose_lock_is_held_is_left(
    agents: Agents, installation21: Installation
) -> None:
    partial = make_save(installation21, "n2", 77, WHOLE, None)
    agents.cluster(cluster(FENCED_N2))
    with subprocess.Popen(["python3", "-c", "import time; time.sleep(600)", "mailman"]) as user:
        try:
            time.sleep(0.2)
            installation21.make_dead_lock(
                pid=user.pid, lock=installation21.list_lock("test"), last="0"
            )
            assert agents.janitor("start", installation21).code == 0
            assert partial.exists() and not (partial.parent / "config.pck").exists()
        finally:
            user.kill()


def test_pickle_that_runs_code_is_never_loaded(
    agents: Agents, installation21: Installation
) -> None:
    trace = Path("/tmp/mailman-ha-bomb-went-off")
    trace.unlink(missing_ok=True)
    make_save(installation21, "n2", 77, pickle.dumps(Bomb()), None)
    agents.cluster(cluster(FENCED_N2))
    assert agents.janitor("start", installation21).code == 0
    assert not trace.exists()


def test_own_dead_writers_save_is_finished_at_the_next_deep_monitor(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    assert agents.janitor("start", installation).code == 0
    partial = make_save(installation, installation.host, free_pid(), WHOLE, None)
    assert agents.janitor("monitor", installation, level=0).code == 0
    assert partial.exists()
    assert agents.janitor("monitor", installation, level=10).code == 0
    assert (partial.parent / "config.pck").read_bytes() == WHOLE


def test_quarantine_is_emptied_after_its_days(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    installation.make_dead_lock()
    assert agents.janitor("start", installation).code == 0
    quarantine = installation.lock_dir / "mailman-ha.quarantine"
    fresh = [path for path in quarantine.iterdir() if path.suffix != ".jsonl"]
    assert fresh
    old = fresh[0].with_name("20200101T000000Z" + fresh[0].name[16:])
    fresh[0].rename(old)
    foreign = quarantine / "operators-own-note"
    foreign.write_text("keep me")
    assert agents.janitor("monitor", installation, level=10, quarantine_keep="0").code == 0
    assert old.exists()
    assert agents.janitor("monitor", installation, level=10, quarantine_keep="30").code == 0
    assert not old.exists()
    assert foreign.exists() and all(path.exists() for path in fresh[1:])
    assert (quarantine / "evidence.jsonl").exists()
