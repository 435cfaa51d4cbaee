"""The quarantine directory: what is put there and how, and all that can be wrong with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory, holding, release
from mailman_ha.locks.release import Quarantine, QuarantineError
from mailman_ha.locks.release_count import ReleaseCount, count

from tests.locks.interposed_os import interpose
from tests.locks.mount_namespace import in_mount_namespace, mount
from tests.locks.share import HERE, Share, dead_pid

LOCK = "test.lock"
NOBODY = 65534


def refusal(share: Share) -> str:
    """Why the sweep released nothing; everything must be as it was."""
    pair = share.lock(LOCK)
    report = share.sweep(seconds=10.0)
    assert pair.is_untouched() and report.released == ()
    kept = report.kept_lock(LOCK)
    assert kept is not None and kept.verdict.remedy
    (problem,) = report.problems
    assert problem in kept.sentence()
    assert os.geteuid() == 0
    return problem


# -- what is put there

def test_released_lock_and_claims_lie_there_with_their_content_and_one_line_of_evidence(
    either_share: Share,
) -> None:
    share = either_share
    pid = dead_pid()
    pair = share.lock(LOCK, pid=pid)
    content, inode = pair.claim.read_bytes(), pair.lock.stat().st_ino
    report = share.sweep()
    assert [name for name, _ in report.released] == [LOCK]
    assert share.names() == set()
    (line,) = share.evidence()
    assert {os.stat(share.quarantine / name).st_ino for name in line["moved_to"]} == {inode}
    assert {(share.quarantine / name).read_bytes() for name in line["moved_to"]} == {content}
    assert {name.split(".", 2)[2] for name in line["moved_to"]} == {LOCK, pair.claim.name}
    assert (line["released"], line["host"], line["pid"]) == (LOCK, HERE, pid)
    assert (line["state"], line["by_node"], line["by_resource"]) == ("dead here", "n1", "janitor")
    assert line["inode"] == inode and line["content"] == os.fsdecode(content)
    assert abs(line["changed_at"] - time.time()) < 60 and line["expires_at"] > time.time()
    assert time.strptime(line["time"], "%Y-%m-%dT%H:%M:%SZ")


def test_quarantine_belongs_to_mailmans_user_and_nobody_else_may_write_there(share: Share) -> None:
    old = os.umask(0)
    try:
        share.lock(LOCK)
        share.sweep()
    finally:
        os.umask(old)
    status = share.quarantine.stat()
    assert (status.st_uid, status.st_gid) == (share.user.uid, share.user.gid)
    assert status.st_mode & 0o022 == 0
    log = (share.quarantine / "evidence.jsonl").stat()
    assert log.st_uid == share.user.uid and log.st_mode & 0o022 == 0


def test_many_releases_make_a_line_each_and_leave_nothing_else(share: Share) -> None:
    made = {share.lock(f"list{number}.lock").lock.name for number in range(40)}
    report = share.sweep()
    assert {name for name, _ in report.released} == made
    assert {line["released"] for line in share.evidence()} == made
    assert len(share.evidence()) == 40 and share.leftovers() == set()


@pytest.mark.parametrize("torn", [b'{"by_node": "n2", "cont', b"\0" * 300, b"\n\0"])
def test_what_a_power_cut_left_of_a_line_does_not_spoil_the_next_one(
    share: Share, torn: bytes
) -> None:
    share.lock("one.lock")
    share.sweep()
    log = share.quarantine / "evidence.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + torn)
    share.lock(LOCK)
    share.sweep()
    *_, last = log.read_bytes().splitlines()
    assert json.loads(last)["released"] == LOCK
    assert log.read_bytes().startswith(whole + torn)


def test_note_and_evidence_are_on_the_disk_before_what_comes_after_them(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut keeps what was synced and, of the rest, whatever it likes."""
    share.lock(LOCK)
    calls = interpose(monkeypatch, {}).made
    share.sweep()
    first_move = calls.index("rename")
    assert "fsync" in calls[:first_move], "the note"
    after = calls[len(calls) - calls[::-1].index("rename"):]
    assert "unlink" in after[after.index("fsync"):], "the evidence, before the note goes"


@pytest.mark.parametrize("name", [
    "l" * 200 + ".lock", "ü" * 100 + ".lock", "\udcff" * 190 + ".lock",
], ids=["long", "long in UTF-8", "long and no UTF-8"])
def test_names_too_long_for_a_time_in_front_keep_their_end(share: Share, name: str) -> None:
    pair = share.lock(name, host="h", pid=4_000_000, serial=5)
    share.release(pair)
    assert share.names() == set()
    (line,) = share.evidence()
    assert len(line["moved_to"]) == 2
    for kept, whole in zip(sorted(line["moved_to"], key=len), (name, pair.claim.name)):
        assert len(os.fsencode(kept)) <= 255
        assert (share.quarantine / kept).exists()
        end = os.fsencode(kept).split(b".", 2)[2]
        assert os.fsencode(whole).endswith(end)


@pytest.mark.parametrize("mode", [0o664, 0o644], ids=["writable for the group", "its owner's only"])
@pytest.mark.parametrize("expires_in", [36_000.0, 20.0, -3600.0])
def test_lock_of_a_cgi_that_belongs_to_the_web_servers_user_is_released(
    share: Share, expires_in: float, mode: int
) -> None:
    """Only its owner may set its expiry to a time of choice."""
    pair = share.lock(LOCK, expires_in=expires_in)
    os.chown(pair.lock, NOBODY, share.user.gid)
    pair.lock.chmod(mode)
    report = share.sweep()
    assert [name for name, _ in report.released] == [LOCK], report
    assert share.names() == set() and len(share.evidence()) == 1


@pytest.mark.parametrize("ahead", [-3600.0, -9.0, 9.0, 3600.0])
def test_expired_lock_of_a_cgi_is_released_whatever_this_hosts_clock_shows(
    share: Share, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Touched without a time of choice, a file bears the file server's."""
    pair = share.lock(LOCK, expires_in=-7200.0)
    os.chown(pair.lock, NOBODY, share.user.gid)
    server_time, server_time_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: server_time() + ahead)
    monkeypatch.setattr(time, "time_ns", lambda: server_time_ns() + int(ahead * 1e9))
    report = share.sweep()
    assert [name for name, _ in report.released] == [LOCK], report
    assert share.names() == set() and share.leftovers() == set()


# -- what can be wrong with it

def planted(share: Share, what: str) -> Path:
    """Something else in the place of the quarantine directory; returns a directory outside."""
    there = share.top / "outside"
    there.mkdir(mode=0o777)
    os.chown(there, share.user.uid, share.user.gid)
    place = share.quarantine
    if what == "a link to a directory":
        place.symlink_to(there)
    elif what == "a dangling link":
        place.symlink_to(there / "nothing")
    elif what == "a file":
        place.write_text("x")
    elif what == "a FIFO":
        os.mkfifo(place)
    elif what == "another user's directory":
        place.mkdir(mode=0o775)
        os.chown(place, NOBODY, share.user.gid)
    elif what == "a directory that everybody may write":
        place.mkdir()
        os.chown(place, share.user.uid, share.user.gid)
        place.chmod(0o777)
    elif what == "root's directory":
        place.mkdir(mode=0o755)
    return there


@pytest.mark.parametrize("what", [
    "a link to a directory", "a dangling link", "a file", "a FIFO", "another user's directory",
    "a directory that everybody may write", "root's directory",
])
def test_what_somebody_planted_in_its_place_is_refused_with_a_reason(
    share: Share, what: str
) -> None:
    there = planted(share, what)
    began = time.monotonic()
    problem = refusal(share)
    assert time.monotonic() - began < 3.0
    assert directory.QUARANTINE in problem
    assert os.listdir(there) == []
    if what not in ("a file", "a FIFO", "a dangling link", "a link to a directory"):
        assert os.listdir(share.quarantine) == []


def test_directory_in_which_mailmans_user_may_not_write_is_a_reason_not_a_crash(
    share: Share,
) -> None:
    os.chown(share.path, 0, 0)
    share.path.chmod(0o755)
    assert "Permission denied" in refusal(share)


def test_read_only_share_is_a_reason_not_a_crash(share: Share) -> None:
    pair = share.lock(LOCK)

    def work() -> None:
        mount("--bind", str(share.path), str(share.path))
        mount("-o", "remount,ro,bind", str(share.path))
        report = share.sweep(seconds=10.0)
        assert report.released == () and "Read-only file system" in report.problems[0]

    in_mount_namespace(work)
    assert pair.is_untouched()


EVIDENCE_PLANTED = ("a link", "a dangling link", "a FIFO", "a directory")


@pytest.mark.parametrize("what", EVIDENCE_PLANTED)
def test_what_somebody_planted_as_evidence_log_is_not_written(share: Share, what: str) -> None:
    """The lock goes all the same, which is said; once the log can be written, so is the line."""
    share.lock("first.lock")
    share.sweep()
    log = share.quarantine / "evidence.jsonl"
    log.unlink()
    victim = share.top / "victim"
    victim.write_text("precious\n")
    os.chown(victim, share.user.uid, share.user.gid)
    if what == "a link":
        log.symlink_to(victim)
    elif what == "a dangling link":
        log.symlink_to(share.top / "nothing")
    elif what == "a FIFO":
        os.mkfifo(log, 0o666)
    else:
        log.mkdir()
    share.lock(LOCK)
    began = time.monotonic()
    report = share.sweep()
    assert time.monotonic() - began < 3.0
    assert [name for name, _ in report.released] == [LOCK] and share.names() == set()
    assert f"{log} could not be written" in report.problems[0]
    assert "move aside what stands there" in report.problems[0]
    assert victim.read_text() == "precious\n" and not (share.top / "nothing").exists()
    assert "evidence.jsonl could not be written" in share.sweep().problems[0]
    assert "ended the interrupted release" not in (share.top / "log").read_text()
    log.rmdir() if what == "a directory" else log.unlink()
    assert share.sweep().problems == ()
    (line,) = share.evidence()
    assert line["released"] == LOCK and len(line["moved_to"]) == 2
    assert share.leftovers() == set()


def test_evidence_log_that_a_backup_has_by_another_name_goes_on_and_the_backup_stays(
    share: Share,
) -> None:
    """cp -al and rsnapshot link what has not changed. What was counted stays counted."""
    log, counted = share.quarantine / "evidence.jsonl", ReleaseCount()
    for number in range(3):
        share.lock(LOCK)
        assert share.sweep().problems == ()
        assert len(share.evidence()) == number + 1 and log.stat().st_nlink == 1
        with ActingAs(share.user.uid, share.user.gid):
            counted, _ = count(str(share.path), counted)
        assert sum(counted.counts) == number + 1
        os.link(log, share.top / f"backup{number}")
    for number in range(3):
        assert len((share.top / f"backup{number}").read_text().splitlines()) == number + 1
    assert {name for name in names_in(share) if not name[0].isdigit()} == {"evidence.jsonl"}


def test_file_that_somebody_linked_to_the_evidence_logs_name_is_not_written(share: Share) -> None:
    share.lock("first.lock")
    share.sweep()
    victim = share.write("victim", b"precious\n")
    log = share.quarantine / "evidence.jsonl"
    log.unlink()
    os.link(victim, log)
    share.lock(LOCK)
    assert share.sweep().problems == ()
    assert victim.read_text() == "precious\n" and victim.stat().st_nlink == 1
    assert json.loads(log.read_text().splitlines()[-1])["released"] == LOCK


def test_full_share_at_every_size_loses_neither_lock_nor_evidence(share: Share) -> None:
    """A file system that runs full after so many more pages: claim, note, log."""

    def work() -> None:
        seen = set()
        for free in range(8):
            mount("-t", "tmpfs", "-o", "size=256k,mode=2775", "tmpfs", str(share.path))
            os.chown(share.path, share.user.uid, share.user.gid)
            pair = share.lock(LOCK)
            filler = share.path / "filler"
            fill(filler)
            os.truncate(filler, filler.stat().st_size - free * 4096)
            report = share.sweep(seconds=10.0)
            if pair.lock.exists():
                assert pair.is_untouched(), free
                assert "No space left on device" in report.kept_lock(LOCK).sentence(), free
                assert not share.leftovers(), free
                assert share.evidence() == [], free
                seen.add("refused")
            elif report.problems:
                assert [name for name, _ in report.released] == [LOCK]
                assert "evidence.jsonl could not be written: No space" in report.problems[0], free
                seen.add("without its line")
            else:
                seen.add("released")
            filler.unlink()
            assert share.sweep(seconds=10.0).problems == ()
            assert share.names() == set() and len(share.evidence()) == 1, free
            assert not share.leftovers(), free
            mount_off(share.path)
        assert seen == {"refused", "without its line", "released"}

    in_mount_namespace(work)


def fill(path: Path) -> None:
    """Write a file until nothing fits any more."""
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096) == 4096:
                pass
        except OSError:
            pass
        file.truncate(file.tell() // 4096 * 4096)


def mount_off(path: Path) -> None:
    import subprocess

    subprocess.run(["umount", str(path)], check=True)


# -- purging

def names_in(share: Share) -> set[str]:
    return set(os.listdir(share.quarantine))


def purge(share: Share, keep: float) -> int:
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1") as quarantine:
        return quarantine.purge(keep)


def aged(seconds: float, rest: str) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - seconds)) + f".{rest}"


def test_purge_removes_what_was_kept_long_enough_and_nothing_else(share: Share) -> None:
    share.lock(LOCK)
    share.sweep()
    fresh = names_in(share)
    day = 86400.0
    old = {aged(31 * day, "1.a.lock"), aged(30 * day + 60, "22.b\n.lock"), aged(400 * day, "3.x")}
    kept = {aged(29 * day, "1.a.lock"), aged(-day, "4.ahead"), "README", "20200101.1.x",
            "20200101T000000Z", "20200101T000000Z.x.y", "2020-01-01T00:00:00Z.1.x",
            "²0200101T000000Z.1.x"}
    for name in (*old, *kept):
        path = share.quarantine / name
        path.write_text("x")
        os.chown(path, share.user.uid, share.user.gid)
    assert purge(share, 30 * day) == len(old)
    assert names_in(share) == fresh | kept
    assert purge(share, 30 * day) == 0


def test_purge_goes_on_past_what_it_cannot_remove(share: Share) -> None:
    share.lock(LOCK)
    share.sweep()
    planted = share.quarantine / aged(1e6, "1.directory")
    planted.mkdir()
    (share.quarantine / aged(1e6, "2.old")).write_text("x")
    os.symlink("/etc/passwd", share.quarantine / aged(1e6, "3.link"))
    assert purge(share, 60.0) == 2
    assert planted.is_dir() and Path("/etc/passwd").exists()


# -- the guard

def test_guard_outlives_many_releases(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that releases for longer than the guard's lifetime keeps it."""
    monkeypatch.setattr(release, "GUARD_LIFETIME", 0.4)
    pairs = [share.lock(f"list{number}.lock") for number in range(12)]
    seen = [share.inspect(pair.lock.name) for pair in pairs]
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1") as quarantine:
        for pair, judged in zip(pairs, seen):
            time.sleep(0.1)
            result = quarantine.release(judged, (pair.claim.name,), {}, lambda now: True)
            assert result.done, result.why
            expires = os.stat(share.quarantine / release.GUARD).st_mtime
            assert expires > time.time() + 0.2


def test_release_without_the_guard_is_refused(share: Share) -> None:
    pair = share.lock(LOCK)
    judged = share.inspect(LOCK)
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1") as quarantine:
        os.unlink(share.quarantine / release.GUARD)
        result = quarantine.release(judged, (pair.claim.name,), {}, lambda now: True)
    assert not result.done and "guard" in result.why
    assert pair.is_untouched() and share.evidence() == []


def test_second_release_waits_for_the_first_and_then_gives_up(share: Share) -> None:
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1"):
        began = time.monotonic()
        with pytest.raises(QuarantineError, match="another release is under way"):
            Quarantine(str(share.path), "n2", wait=0.3).__enter__()
        assert 0.25 < time.monotonic() - began < 2.0
    assert share.leftovers() == set()


def test_guard_is_given_back_when_the_work_under_it_fails(share: Share) -> None:
    acting = ActingAs(share.user.uid, share.user.gid)
    with pytest.raises(ZeroDivisionError), acting, Quarantine(str(share.path), "n1"):
        assert "release.lock" in share.leftovers()
        _ = 1 / 0
    assert share.leftovers() == set() and os.geteuid() == 0


def test_claims_on_the_guard_of_the_killed_are_forgotten_and_those_of_waiters_are_not(
    share: Share,
) -> None:
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1"):
        pass
    for name, expires_in in (("release.lock|n2|5|1", -400.0), ("release.lock|n2|6|2", 5.0)):
        path = share.quarantine / name
        path.write_text("x")
        share.expire(path, expires_in)
    with ActingAs(share.user.uid, share.user.gid), Quarantine(str(share.path), "n1"):
        pass
    assert share.leftovers() == {"release.lock|n2|6|2"}


# -- the last look

def test_owner_that_counts_as_alive_at_the_last_moment_keeps_its_lock(share: Share) -> None:
    for expires_in in (36_000.0, -60.0):
        pair = share.lock(f"x{expires_in}.lock", expires_in=expires_in)
        asked: list[object] = []

        def still_dead(seen: object, asked: list[object] = asked) -> bool:
            asked.append(seen)
            return False

        judged = share.inspect(pair.lock.name)
        result = share.release(pair, judged, still_dead=still_dead)
        assert not result.done and "no longer counts as dead" in result.why
        assert asked == [judged]
        assert pair.is_untouched() and share.leftovers() == set()


def change_content(share: Share, lock: Path) -> None:
    lock.write_bytes(b"/locks/test.lock.other.5.1")


def change_times(share: Share, lock: Path) -> None:
    share.expire(lock, 5.0)


def change_links(share: Share, lock: Path) -> None:
    os.link(lock, share.path / "another")


def change_file(share: Share, lock: Path) -> None:
    lock.unlink()
    share.write(lock.name)


def remove_file(share: Share, lock: Path) -> None:
    lock.unlink()


@pytest.mark.parametrize(
    "change", [change_content, change_times, change_links, change_file, remove_file],
    ids=lambda change: change.__name__,
)
def test_lock_that_changed_after_it_was_judged_is_left_as_it_is(
    share: Share, change: Callable[[Share, Path], None]
) -> None:
    pair = share.lock(LOCK)
    judged = share.inspect(LOCK)
    change(share, pair.lock)
    before = {name: os.stat(share.path / name) for name in share.names()}
    result = share.release(pair, judged)
    assert not result.done and result.why
    assert {name: os.stat(share.path / name).st_ctime_ns for name in share.names()} == {
        name: status.st_ctime_ns for name, status in before.items()
    }
    assert share.evidence() == [] and share.leftovers() == set()


def test_lock_about_to_expire_is_safe_from_claimants_while_it_is_released(share: Share) -> None:
    pair = share.lock(LOCK, expires_in=-3600.0)
    seen: list[float] = []

    def still_dead(judged: object) -> bool:
        seen.append(os.stat(pair.lock).st_mtime)
        return False

    share.release(pair, still_dead=still_dead)
    assert seen[0] > time.time() + release.PUSH / 2 > time.time() + holding.CLOCK_SLOP


@pytest.mark.parametrize("days", [30_000, 375_000, 401_500, 500_000, 630_000, 999_999, 10**18 - 1])
def test_nothing_is_removed_where_all_is_to_be_kept_for_centuries(share: Share, days: int) -> None:
    """The year 926, 1,100 years ago, has three digits and compares as a later one."""
    refusal_free = share.lock(LOCK)
    share.sweep()
    assert not refusal_free.lock.exists()
    (share.quarantine / aged(5000 * 86400.0, "7.old.lock")).write_text("")
    before = names_in(share)
    assert purge(share, days * 86400.0) == 0
    assert names_in(share) == before
