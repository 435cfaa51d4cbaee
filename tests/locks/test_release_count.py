"""Counting releases in the evidence log: what is added counts once, what is none of ours never."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import release_count
from mailman_ha.locks.release_count import ReleaseCount, count
from mailman_ha.locks.verdict import RELEASABLE

from tests.locks.share import Share, dead_pid

NEVER = ReleaseCount()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An evidence log's place; `log.parent.parent` is the lock directory."""
    (tmp_path / "mailman-ha.quarantine").mkdir(mode=0o750)
    return tmp_path / "mailman-ha.quarantine" / "evidence.jsonl"


def line(state: str, time: str = "2026-01-02T03:04:05Z", **more: object) -> str:
    return json.dumps({"released": "x.lock", "state": state, "time": time, **more}) + "\n"


def counted(log: Path, before: ReleaseCount = NEVER) -> ReleaseCount:
    found, whole = count(str(log.parent.parent), before)
    assert whole
    return found


def by_state(found: ReleaseCount) -> dict[str, int]:
    return {state: n for state, n in zip(RELEASABLE, found.counts) if n}


def test_real_release_is_counted_with_its_time(either_share: Share) -> None:
    either_share.lock("test.lock", pid=dead_pid())
    assert either_share.sweep().released
    with ActingAs(either_share.user.uid, either_share.user.gid):
        found, whole = count(str(either_share.path), NEVER)
    (logged,) = either_share.evidence()
    assert whole and by_state(found) == {"dead here": 1}
    assert release_count._release(json.dumps(logged).encode()) == (0, found.latest)
    assert abs(found.latest - (either_share.quarantine / "evidence.jsonl").stat().st_mtime) < 2


def test_lock_directory_without_a_quarantine_has_no_releases(tmp_path: Path) -> None:
    assert count(str(tmp_path), NEVER) == (NEVER, True)


def test_what_was_added_since_counts_once(log: Path) -> None:
    log.write_text(line("fenced") + line("dead here"))
    first = counted(log)
    assert by_state(first) == {"fenced": 1, "dead here": 1} and first.latest == 1767323045.0
    assert counted(log, first) == first
    with open(log, "a") as file:
        file.write(line("fenced", "2026-01-02T03:04:15Z"))
    again = counted(log, first)
    assert by_state(again) == {"fenced": 2, "dead here": 1} and again.latest == 1767323055.0
    assert again == counted(log)


def test_half_a_line_counts_when_it_is_whole(log: Path) -> None:
    text = line("ended")
    log.write_text(line("fenced") + text[:30])
    first = counted(log)
    assert by_state(first) == {"fenced": 1}
    log.write_text(line("fenced") + text)
    assert by_state(counted(log, first)) == {"fenced": 1, "ended": 1}


@pytest.mark.parametrize("strange", [
    b"\n", b"\0" * 4096 + b"\n", b"{}\n", b"[1]\n", b"17\n", b"\xff\xfe\n", b"[" * 60_000 + b"\n",
    b"x" * 200_000 + b"\n", line("alive").encode(), line("<b>").encode(),
    json.dumps({"list_save": "x", "state": "fenced"}).encode() + b"\n",
    json.dumps({"released": "x", "state": ["fenced"]}).encode() + b"\n",
    json.dumps({"content": '"released": "x", "state": "fenced"'}).encode() + b"\n",
], ids=range(13))
def test_line_that_is_no_release_is_passed_over(log: Path, strange: bytes) -> None:
    log.write_bytes(strange + line("fenced").encode() + strange + line("fenced").encode())
    assert by_state(counted(log)) == {"fenced": 2}


def test_release_without_a_readable_time_counts_all_the_same(log: Path) -> None:
    log.write_text(line("fenced") + line("fenced", "yesterday") + line("fenced", 7))  # type: ignore
    found = counted(log)
    assert by_state(found) == {"fenced": 3} and found.latest == 1767323045.0


@pytest.mark.parametrize("how", ["cut", "replaced"])
def test_log_that_was_begun_anew_is_counted_anew(log: Path, how: str) -> None:
    log.write_text(line("fenced") * 5)
    before = counted(log)
    if how == "replaced":
        log.rename(log.with_name("old"))
        log.write_text(line("ended") * 9)
        assert by_state(counted(log, before)) == {"ended": 9}
    else:
        log.write_text(line("ended"))
        assert by_state(counted(log, before)) == {"ended": 1}


def test_long_log_is_read_piece_by_piece_and_says_so(log: Path) -> None:
    log.write_text(line("fenced") * 100)
    found, whole, rounds = NEVER, False, 0
    while not whole:
        found, whole = count(str(log.parent.parent), found, at_once=1000)
        rounds += 1
    assert by_state(found) == {"fenced": 100} and rounds > 5


def test_what_stands_in_the_place_of_the_log_is_refused_and_not_waited_for(log: Path) -> None:
    top = log.parent.parent
    (top / "elsewhere").write_text(line("fenced"))
    log.symlink_to(top / "elsewhere")
    with pytest.raises(OSError):
        counted(log)
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(OSError):
        counted(log)
    log.unlink()
    log.write_text(line("fenced"))
    os.chown(log, 4242, 4242)
    with pytest.raises(OSError):
        counted(log)
    log.parent.rename(top / "moved")
    (top / "mailman-ha.quarantine").symlink_to(top / "moved")
    with pytest.raises(OSError):
        counted(log)
