"""A lock directory in which somebody hostile has written: nothing outside it is touched, nothing
hangs, and the locks of the dead that lie among it are released all the same."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.agents import lock_sweep
from mailman_ha.agents.list_lock_janitor import judge as janitor
from mailman_ha.agents.lock_sweep import SweepReport
from mailman_ha.locks import directory, release, verdict
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.ocf import codes
from mailman_ha.ocf.escape import escape

from tests.locks.interposed_os import InterposedOs
from tests.locks.share import HERE, Share, dead_pid

#: A sweep that is not held up takes a few hundredths of a second.
BOUND = 5.0


def outside(share: Share) -> Path:
    """A directory beside the lock directory with files that nobody has any business with."""
    path = share.top / "outside"
    path.mkdir()
    for name in ("passwd", "config.pck", "victim.lock"):
        (path / name).write_text(f"precious {name}\n")
        os.chown(path / name, share.user.uid, share.user.gid)
    os.chown(path, share.user.uid, share.user.gid)
    return path


def state_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Everything about the files of a directory that a touch, a link or a write would change."""
    found = {}
    for name in sorted(os.listdir(path)):
        status = os.stat(path / name, follow_symlinks=False)
        found[name] = (status.st_ino, status.st_nlink, status.st_size, status.st_mode,
                       status.st_mtime_ns, status.st_ctime_ns)
    return found


def timed_sweep(share: Share, bound: float = BOUND) -> SweepReport:
    began = time.monotonic()
    report = share.sweep()
    took = time.monotonic() - began
    assert took < bound, f"the sweep took {took:.1f} s"
    return report


# Each of these puts something hostile where a lock called `name` should be, and returns nothing.

def a_link(share: Share, name: str, there: Path) -> None:
    (share.path / name).symlink_to(there / "victim.lock")


def a_link_to_a_claim_of_the_dead(share: Share, name: str, there: Path) -> None:
    claim = share.write(share.claim_name(name, HERE, dead_pid()))
    (share.path / name).symlink_to(claim.name)


def a_dangling_link(share: Share, name: str, there: Path) -> None:
    (share.path / name).symlink_to(there / "nothing")


def a_fifo(share: Share, name: str, there: Path) -> None:
    os.mkfifo(share.path / name, 0o666)


def a_directory(share: Share, name: str, there: Path) -> None:
    (share.path / name).mkdir()
    (share.path / name / "x").write_text("x")


def a_socket(share: Share, name: str, there: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    old = os.getcwd()
    os.chdir(share.path)  # a socket's path must be short
    try:
        listening.bind(name)
    finally:
        os.chdir(old)
        listening.close()


def a_device(share: Share, name: str, there: Path) -> None:
    os.mknod(share.path / name, 0o666 | 0o020000, os.makedev(1, 8))  # /dev/random


IRREGULAR = (a_link, a_link_to_a_claim_of_the_dead, a_dangling_link, a_fifo, a_directory, a_socket,
             a_device)


@pytest.mark.parametrize("put", IRREGULAR, ids=lambda put: put.__name__)
@pytest.mark.parametrize("lock", ["test.lock", "master-qrunner"])
def test_what_is_no_regular_file_is_kept_and_reported_and_never_opened(
    share: Share, lock: str, put: Callable[[Share, str, Path], None]
) -> None:
    there = outside(share)
    put(share, lock, there)
    before, inside = state_of(there), os.stat(share.path / lock, follow_symlinks=False)
    report = timed_sweep(share)
    assert state_of(there) == before
    after = os.stat(share.path / lock, follow_symlinks=False)
    assert (after.st_ino, after.st_mode, after.st_ctime_ns) == (
        inside.st_ino, inside.st_mode, inside.st_ctime_ns)
    kept = report.kept_lock(lock)
    assert kept is not None and kept.verdict.state == verdict.UNKNOWN
    assert kept.verdict.remedy and kept.age is not None


@pytest.mark.parametrize("put", IRREGULAR, ids=lambda put: put.__name__)
def test_what_takes_a_locks_place_after_the_listing_is_not_followed(
    share: Share, put: Callable[[Share, str, Path], None]
) -> None:
    there = outside(share)
    put(share, "test.lock", there)
    before = state_of(there)
    began = time.monotonic()
    with pytest.raises(OSError):
        share.inspect("test.lock")
    assert time.monotonic() - began < 1.0
    assert state_of(there) == before


CONTENTS = {
    "a system file": b"/etc/passwd",
    "a file outside": None,
    "a path upwards": b"../outside/victim.lock",
    "the lock itself": b"test.lock",
    "a path with a newline": b"/x/test.lock.h.5.1\n/etc/passwd",
    "escape sequences": b"\x1b]0;x\x07\x1b[2J",
    "NULs": b"\0" * 4096,
    "not UTF-8": b"\xff\xfe/\xff",
    "a long line": b"A" * 10_000,
    "only slashes": b"////",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_path_in_a_locks_content_is_never_touched(share: Share, content: str) -> None:
    there = outside(share)
    text = CONTENTS[content] or os.fsencode(there / "victim.lock")
    pair = share.lock("test.lock", content=text)
    lonely = share.write("other.lock", text)
    before = state_of(there)
    passwd = Path("/etc/passwd").stat()
    report = timed_sweep(share)
    assert state_of(there) == before
    now = Path("/etc/passwd").stat()
    assert (now.st_ctime_ns, now.st_nlink, now.st_size) == (
        passwd.st_ctime_ns, passwd.st_nlink, passwd.st_size)
    assert pair.is_untouched() and lonely.exists()
    for one in report.kept:
        assert one.verdict.state == verdict.UNKNOWN
        assert one.sentence().isascii() and one.sentence().isprintable()
    assert {one.name for one in report.kept} == {"test.lock", "other.lock"}


def test_a_content_that_names_another_lock_releases_only_the_lock_it_is_in(share: Share) -> None:
    """State L: the base name counts, in this directory; what it names is left alone."""
    there = outside(share)
    pid = dead_pid()
    victim = share.lock("victim.lock", pid=os.getpid())
    share.lock("test.lock", pid=pid, content=os.fsencode(there / f"test.lock.{HERE}.{pid}.1"))
    before = state_of(there)
    timed_sweep(share)
    assert state_of(there) == before and victim.is_untouched()
    assert share.quarantined() == {"test.lock", f"test.lock.{HERE}.{pid}.1"}


def test_a_sparse_file_of_a_gigabyte_is_not_read(share: Share) -> None:
    big = share.path / f"test.lock.{HERE}.{dead_pid()}.1"
    with open(big, "wb") as file:
        file.truncate(1 << 30)
    share.link(big.name, "test.lock")
    lonely = share.path / "other.lock"
    with open(lonely, "wb") as file:
        file.truncate(1 << 30)
    report = timed_sweep(share)
    assert {one.name: one.verdict.state for one in report.kept} == {
        "test.lock": verdict.UNKNOWN, "other.lock": verdict.UNKNOWN}
    assert os.stat(big).st_nlink == 2


NAMES = (
    b"\x1b[2Jx.lock", b"\xff\xfe.lock", b"-rf.lock", b"..lock", b"x;reboot.lock",
    b"$(reboot).lock", b" .lock", "Ünïcode.lock".encode(), b"'\".lock", b"\\.lock", b"%s.lock",
    b"\x7f\x80.lock", b"x.lock.lock", b".lock",
)


def test_names_with_newlines_escapes_and_foreign_bytes_are_released_and_printed_safely(
    share: Share,
) -> None:
    pid = dead_pid()
    made = set()
    for raw in NAMES:
        name = os.fsdecode(raw)
        claim = f"{name}.{HERE}.{pid}.1"
        share.lock(name, pid=pid)
        made |= {name, claim}
    report = timed_sweep(share)
    assert {name for name, _ in report.released} == {os.fsdecode(raw) for raw in NAMES}
    assert share.names() == set() and share.quarantined() == made
    assert sorted(line["released"] for line in share.evidence()) == sorted(map(escape, NAMES))
    log = (share.quarantine / "evidence.jsonl").read_bytes()
    assert log.isascii() and log.count(b"\n") == len(NAMES)
    assert all(chr(byte).isprintable() or byte == 10 for byte in log)
    told = (share.top / "log").read_bytes()
    assert told.isascii() and b"\x1b" not in told


def test_names_are_printed_safely_where_they_are_kept(share: Share) -> None:
    for raw in NAMES:
        share.lock(os.fsdecode(raw), host="elsewhere.example")
    # A claim's path is one line: no list is called so, and whatever wrote it was no Mailman.
    share.lock("a\nb.lock")
    report = timed_sweep(share)
    assert len(report.kept) == len(NAMES) + 1
    for one in report.kept:
        assert one.sentence().isascii() and one.sentence().isprintable()


def test_a_lock_linked_into_another_directory_is_kept_and_that_file_untouched(
    share: Share,
) -> None:
    there = outside(share)
    pair = share.lock("test.lock")
    os.link(pair.lock, there / "stolen")
    os.link(there / "config.pck", share.path / "config.lock")
    before = state_of(there)
    report = timed_sweep(share)
    assert state_of(there) == before
    kept = report.kept_lock("test.lock")
    assert kept is not None and "3 links" in kept.verdict.why and str(HERE) in kept.verdict.why
    assert share.names() >= {"test.lock", pair.claim.name, "config.lock"}
    assert share.quarantined() == set()


def test_a_claim_linked_into_another_directory_is_kept(share: Share) -> None:
    there = outside(share)
    claim = share.write(share.claim_name("test.lock", HERE, dead_pid()))
    os.link(claim, there / "stolen")
    before = state_of(there)
    report = timed_sweep(share)
    assert state_of(there) == before and claim.exists()
    assert [one.verdict.state for one in report.kept] == [verdict.UNKNOWN]


def test_hundreds_of_names_on_one_file_hold_nothing_up(share: Share) -> None:
    pid = dead_pid()
    pair = share.lock("test.lock", pid=pid)
    for number in range(500):
        share.link("test.lock", f"test.lock.{HERE}.{pid}.{number + 10}")
    for number in range(500):
        share.link("test.lock", f"stranger-{number}")
    report = timed_sweep(share)
    assert report.kept_lock("test.lock") is not None and pair.lock.exists()


def test_the_share_of_another_user_is_read_with_mailmans_rights_only(share: Share) -> None:
    """Root's own files in the directory are not opened: what Mailman may not read stays unread."""
    pair = share.lock("test.lock")
    os.chown(pair.lock, 0, 0)
    pair.lock.chmod(0o600)
    report = timed_sweep(share)
    kept = report.kept_lock("test.lock")
    assert kept is not None and "cannot be read: Permission denied" in kept.verdict.why
    assert os.geteuid() == 0


def test_directory_that_mailmans_user_may_not_list_is_an_error_and_not_read_as_root(
    share: Share,
) -> None:
    share.lock("test.lock")
    os.chown(share.path, 0, 0)
    share.path.chmod(0o700)
    with pytest.raises(PermissionError):
        share.sweep()
    assert os.geteuid() == 0
    assert "test.lock" in share.names()


@pytest.mark.parametrize("strangers", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_the_locks_of_the_dead_are_found_among_very_many_strangers_files(
    share: Share, strangers: int
) -> None:
    pair = share.lock("test.lock")
    master = share.lock("master-qrunner", host="elsewhere.example", pid=5)
    there = os.open(share.path, os.O_RDONLY)
    try:
        for number in range(strangers // 2):
            for name in (f"stranger-{number}", f"l{number}.lock.far.example.{number % 9999 + 1}.0"):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=there))
    finally:
        os.close(there)
    began = time.monotonic()
    listing = directory.read(str(share.path), FORMAT_21, "master-qrunner")
    assert time.monotonic() - began < 0.5 + strangers * 50e-6
    assert listing.ignored == strangers // 2 and len(listing.orphans) == strangers // 2
    report = timed_sweep(share, 5.0 + strangers * 100e-6)  # it syncs, on a disk that others use
    assert [name for name, _ in report.released] == ["test.lock"]
    assert not pair.lock.exists() and master.is_untouched()
    assert len(report.kept) == strangers // 2 + 1
    assert len(share.names()) == strangers + 2


def test_sweep_with_too_much_to_release_ends_in_time_and_the_next_ones_do_the_rest(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there can leave any number of claims of the dead. The master lock goes
    first, then what stops a list, then those."""
    slow = InterposedOs({})
    monkeypatch.setattr(slow, "fsync", lambda file: time.sleep(0.02), raising=False)
    monkeypatch.setattr(release, "os", slow)
    pid = dead_pid()
    for number in range(60):
        share.write(f"x.lock.{HERE}.{pid}.{number}", b"")
    locks = {share.lock(name).lock.name for name in ("test.lock", "a.lock", "master-qrunner")}
    sweeps = 0
    while share.names():
        call = share.call(2.0)
        report = lock_sweep.sweep(call, share.installation, share.surroundings)
        assert call.deadline.remaining() > 0.25
        assert report.released, "each sweep gets on"
        if not sweeps:
            first = [name for name, _ in report.released][:3]
            assert first[0] == "master-qrunner" and set(first) == locks
        left = len(share.names())
        assert len(report.kept) == left and all(one.verdict.may_release for one in report.kept)
        outcome = janitor.sweep_outcome(report, 0.0)
        assert (outcome.code == codes.SUCCESS) == (left == 0)
        if left:
            assert report.problems == (outcome.reason,)
            assert f"{left} more" in outcome.reason and "next sweep" in outcome.reason
        sweeps += 1
    assert sweeps > 1 and len(share.evidence()) == 63 and share.leftovers() == set()


def test_sweep_that_is_late_already_releases_the_master_lock_all_the_same(share: Share) -> None:
    """A start must not be refused for that: it would be refused on each node in turn."""
    master = share.lock("master-qrunner")
    share.lock("test.lock")
    (kept,) = share.sweep(seconds=0.001).kept
    assert kept.name == "test.lock" and not master.lock.exists()


def test_lock_with_thousands_of_claims_is_told_of_in_a_sentence(share: Share) -> None:
    """An exit reason of a megabyte helps nobody, and Pacemaker would keep it in the CIB."""
    pid = dead_pid()
    share.lock("test.lock", pid=pid, content=b"/etc/passwd")
    for number in range(2000):
        share.link("test.lock", f"test.lock.{HERE}.{pid}.{number + 10}")
    (kept,) = timed_sweep(share).kept
    assert len(kept.sentence()) < 1000
    assert f"pid {pid} on host {HERE}" in kept.sentence() and "others" in kept.sentence()
