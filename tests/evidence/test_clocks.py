"""Clocks that differ are measured, clocks that were set are remembered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.evidence import clocks, process_identity
from mailman_ha.evidence.clocks import STEP, ClockHistory, ClockSkew, ServerClock
from mailman_ha.locks import verdict
from mailman_ha.locks.grammar import Owner
from mailman_ha.locks.verdict import Evidence, HostFacts
from mailman_ha.ocf.record import replace

from tests.locks.interposed_os import InterposedOs

LIBRARY = Path(clocks.__file__).resolve().parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


# -- the file server's clock

def test_own_clock_differs_from_itself_by_nothing(directory: int, tmp_path: Path) -> None:
    skew = clocks.measure_skew(directory)
    assert abs(skew.offset) <= skew.uncertainty < 5.0
    assert os.listdir(tmp_path) == []


moments = st.floats(-1e9, 1e9).map(lambda second: 1.7e9 + second / 1e6)


@given(moments, st.floats(0, 100), st.floats(0, 1), st.floats(-1e5, 1e5))
def test_true_difference_lies_within_the_uncertainty(
    before: float, took: float, part: float, difference: float
) -> None:
    written = before + took * part + difference
    skew = clocks.judge_skew(before, written, before + took)
    assert abs(skew.offset - difference) <= skew.uncertainty
    assert clocks.GRANULARITY <= skew.uncertainty <= took / 2 + clocks.GRANULARITY + 1e-6


@given(moments, st.floats(0.1, 1e5))
def test_clock_set_back_in_the_midst_of_measuring_makes_it_more_uncertain_not_less(
    before: float, back: float
) -> None:
    skew = clocks.judge_skew(before, before, before - back)
    assert skew.uncertainty >= back / 2


def test_slow_share_makes_it_more_uncertain(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = InterposedOs({number: lambda: time.sleep(0.2) for number in range(30)})
    monkeypatch.setattr(clocks, "os", slow)
    skew = clocks.measure_skew(directory)
    assert 0.15 <= skew.uncertainty < 3.0 and abs(skew.offset) <= skew.uncertainty


def test_one_slow_answer_of_a_busy_share_does_not(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = InterposedOs({2: lambda: time.sleep(0.2)})
    monkeypatch.setattr(clocks, "os", slow)
    skew = clocks.measure_skew(directory)
    assert slow.made[2] == "utime"
    assert abs(skew.offset) <= skew.uncertainty < 0.15


def test_killed_in_the_midst_it_leaves_no_file(directory: int, tmp_path: Path) -> None:
    """But before it has the file's name removed, which is the very next thing it does."""
    number = 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                clocks.os = InterposedOs(  # type: ignore[attr-defined]
                    {number: lambda: os.kill(os.getpid(), signal.SIGKILL)}
                )
                clocks.measure_skew(directory)
            finally:
                os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        left = os.listdir(tmp_path)
        assert not left or number == 1, f"killed before call {number}: {left}"
        for name in left:
            os.unlink(tmp_path / name)
        number += 1
    assert number >= 5


def test_share_that_takes_no_files_cannot_be_measured() -> None:
    there = os.open("/proc/self", os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            clocks.measure_skew(there)
    finally:
        os.close(there)


# -- this host's clock

HISTORIES = [
    # known, boot id, booted at, now → new history
    (None, "a", 1000.0, 5000.0, ClockHistory("a", 1000.0)),
    (ClockHistory("a", 1000.0), "a", 1000.0, 5000.0, ClockHistory("a", 1000.0)),
    (ClockHistory("a", 1000.0), "a", 1000.0 + STEP / 2, 5000.0, ClockHistory("a", 1000.0)),
    (ClockHistory("a", 1000.0), "a", 1003.0, 5000.0, ClockHistory("a", 1003.0, 5000.0)),
    (ClockHistory("a", 1000.0), "a", 997.0, 5000.0, ClockHistory("a", 997.0, 5003.0)),
    (ClockHistory("a", 1000.0), "a", 1000.2, 5000.0, ClockHistory("a", 1000.2, 5000.0)),
    (ClockHistory("a", 997.0, 4000.0), "a", 997.0, 5000.0, ClockHistory("a", 997.0, 4000.0)),
    (ClockHistory("a", 997.0, 4000.0), "a", 1000.0, 5000.0, ClockHistory("a", 1000.0, 5000.0)),
    (ClockHistory("a", 997.0, 8000.0), "a", 1000.0, 5000.0, ClockHistory("a", 1000.0, 8000.0)),
    (ClockHistory("a", 997.0, 4000.0), "b", 2000.0, 5000.0, ClockHistory("b", 2000.0)),
]


@pytest.mark.parametrize("known, boot_id, booted_at, now, expected", HISTORIES)
def test_step_is_what_moves_the_boot_time_of_one_boot(
    known: ClockHistory | None, boot_id: str, booted_at: float, now: float, expected: ClockHistory
) -> None:
    assert clocks.update_history(known, boot_id, booted_at, now) == expected


def test_step_that_goes_unseen_is_smaller_than_any_uncertainty() -> None:
    """Or a process could be taken for younger than a lock that it holds."""
    assert clocks.judge_skew(0.0, 0.0, 0.0).uncertainty >= 2 * STEP


@given(st.lists(st.sampled_from((0.0, 0.005, 0.1, 5.0, -3600.0)), max_size=20))
def test_small_steps_that_add_up_are_seen(steps: list[float]) -> None:
    booted, history = 1000.0, ClockHistory("a", 1000.0)
    last_seen = booted
    for number, step in enumerate(steps):
        booted += step
        known, history = history, clocks.update_history(history, "a", booted, 5000.0 + number)
        if history is not known:
            last_seen = booted
        assert abs(booted - last_seen) <= STEP


@given(st.lists(
    st.tuples(st.sampled_from((0.0, -3600.0, -2.0, 2.0, 3600.0)), st.sampled_from((1.0, 100.0))),
    max_size=20,
))
def test_time_noted_before_a_clock_was_set_is_never_later_than_what_is_remembered(
    changes: list[tuple[float, float]]
) -> None:
    """A fencing seen before the clock was set back must not look younger than a later lock."""
    uptime, booted, history = 0.0, 1000.0, ClockHistory("a", 1000.0)
    shown: list[float] = []
    before_the_last = -1.0
    for step, passes in changes:
        if step:
            before_the_last = max(shown, default=-1.0)
        booted, uptime = booted + step, uptime + passes
        history = clocks.update_history(history, "a", booted, booted + uptime)
        shown.append(booted + uptime)
    if before_the_last > 0.0:
        assert history.stepped_at is not None and history.stepped_at >= before_the_last


def test_fencing_seen_before_the_clock_was_set_back_releases_nothing_locked_since() -> None:
    """The node is back and at work; its fencing bears a time that is still to come here."""
    back = 3600.0
    fenced_at, uptime = 10_000.0, 9_000.0
    history = clocks.update_history(None, "a", fenced_at - uptime, fenced_at)
    locked_at = fenced_at + 60.0 - back
    history = clocks.update_history(history, "a", locked_at - uptime - 60.0, locked_at)
    node = HostFacts(verdict.NODE, "n2", online=True, fenced_at=fenced_at)
    for since in (1.0, back + 1.0, 30 * 3600.0):
        judged = verdict.judge_owner(Owner("n2", 7), locked_at, Evidence(
            hosts={"n2": node}, processes={}, now=locked_at + since, booted_at=history.booted_at,
            clock_stepped_at=history.stepped_at,
        ))
        assert judged.state == verdict.MEMBER, judged
    # Gone again without a fencing: it says until when a new one would be of no use either.
    lost = verdict.judge_owner(Owner("n2", 7), locked_at, Evidence(
        hosts={"n2": replace(node, online=False)}, processes={}, now=locked_at + 1.0,
        booted_at=history.booted_at, clock_stepped_at=history.stepped_at,
    ))
    assert lost.state == verdict.UNKNOWN
    assert "once this host's clock is past 1970-01-01 02:47:41 UTC, fence it" in lost.remedy


def test_history_is_kept_in_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "clock")
    first = clocks.remember(path)
    assert first.stepped_at is None and first.boot_id == process_identity.boot_id()
    kept = clocks.read_history(path)
    assert kept is not None and kept.booted_at == pytest.approx(first.booted_at, abs=0.001)
    for _ in range(20):
        assert clocks.remember(path).stepped_at is None, "noise was taken for a step"
    assert os.listdir(tmp_path) == ["clock"]


SEEN_FROM_ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
from mailman_ha.evidence import clocks
print(clocks.remember(sys.argv[2]).stepped_at)
"""


@pytest.mark.parametrize("by", ["3600", "86400"])
def test_clock_that_was_set_is_seen_and_remembered(tmp_path: Path, by: str) -> None:
    """Really: in a time namespace the time since boot differs, as it does for a clock set."""
    path = str(tmp_path / "clock")
    assert clocks.remember(path).stepped_at is None
    done = subprocess.run(
        ["unshare", "--time", "--boottime", by, "--fork", sys.executable, "-c",
         SEEN_FROM_ELSEWHERE, str(LIBRARY), path],
        capture_output=True, text=True, check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no time namespaces here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    # Longer up than before: the clock was set back, and what it showed is still to come.
    assert abs(float(done.stdout) - (time.time() + float(by))) < 10
    # Set back again: that is another step, and it stays remembered.
    again = clocks.remember(path)
    assert again.stepped_at is not None and again.stepped_at >= float(done.stdout) - 1
    assert clocks.remember(path).stepped_at == pytest.approx(again.stepped_at, abs=0.001)


RUBBISH = ["", "x", "a b c", "a 1", "a 1 2 3", "a one -", "a 1 two", "\0\0\0", "a" * 10_000]


@pytest.mark.parametrize("text", RUBBISH, ids=lambda text: repr(text[:12]))
def test_history_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clock"
    path.write_text(text)
    assert clocks.read_history(str(path)) is None
    assert clocks.remember(str(path)).stepped_at is None
    assert clocks.read_history(str(path)) is not None


def test_history_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "clock")
    (tmp_path / "clock").write_text(f"{process_identity.boot_id()} 5.0 -\n")

    def replace(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    stand_in = SimpleNamespace(getpid=os.getpid, replace=replace)
    monkeypatch.setattr(clocks, "os", stand_in)
    with pytest.raises(OSError):
        clocks.remember(path)
    assert clocks.read_history(path) == ClockHistory(process_identity.boot_id(), 5.0)


def test_a_verdict_gets_the_skew_in_the_direction_in_which_it_uses_it() -> None:
    """Server minus this host: a server that is ahead shows later times."""
    assert clocks.judge_skew(100.0, 160.0, 100.0) == ClockSkew(60.0, clocks.GRANULARITY)


@pytest.mark.parametrize("line", ["boot 1700000000.123 1e999", "boot inf -", "boot nan nan",
                                  "boot - 5"])
def test_times_that_no_clock_shows_are_no_history(tmp_path: Path, line: str) -> None:
    (tmp_path / "clock").write_text(line)
    assert clocks.read_history(str(tmp_path / "clock")) is None


# -- the file server's clock, when it is set

def server(booted_at: float, measured_at: float = 0.0, stepped_at: float | None = None,
           boot_id: str = "b", uncertainty: float = 0.05) -> ServerClock:
    return ServerClock(boot_id, booted_at, uncertainty, measured_at, stepped_at)


def test_first_measurement_of_a_servers_clock_says_nothing_of_before() -> None:
    seen = server(1000.0)
    assert clocks.update_server(None, seen, 5.0) == seen
    assert clocks.update_server(server(900.0, stepped_at=4.0, boot_id="a"), seen, 5.0) == seen


@pytest.mark.parametrize("by", [0.5, -0.5, 600.0, -86400.0])
def test_servers_clock_that_was_set_is_noticed_and_remembered(by: float) -> None:
    noticed = clocks.update_server(server(1000.0), server(1000.0 + by, 120.0), 77.0)
    assert noticed == server(1000.0 + by, 120.0, 77.0)
    again = clocks.update_server(noticed, server(1000.0 + by, 240.0), 99.0)
    assert again.stepped_at == 77.0


def test_servers_clock_that_drifts_was_not_set() -> None:
    day = 86400.0
    assert clocks.update_server(
        server(1000.0), server(1000.0 + day * 1e-4, day), 5.0).stepped_at is None
    assert clocks.update_server(server(1000.0), server(1000.09, 1.0), 5.0).stepped_at is None
    # What a slow share measured says little.
    wide = server(1003.0, 1.0, uncertainty=4.0)
    assert clocks.update_server(server(1000.0), wide, 5.0).stepped_at is None


def test_own_clock_that_is_set_is_not_taken_for_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "server")
    clocks.remember_server(path, ClockSkew(3.0, 0.05))
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + 40.0)
    assert clocks.remember_server(path, ClockSkew(-37.0, 0.05)).stepped_at is None
    assert clocks.remember_server(path, ClockSkew(-30.0, 0.05)).stepped_at is not None
    assert clocks.read_server(path) is not None


@pytest.mark.parametrize("text", ["", "b 1 2", "b 1 2 x -", "b 1 2 3 4 5", "\xff", "b 1 nan 3 -"])
def test_memory_of_a_servers_clock_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "server").write_text(text, encoding="latin-1")
    assert clocks.read_server(str(tmp_path / "server")) is None
