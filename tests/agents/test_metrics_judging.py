"""The metrics as a pure function of what was observed, and their text."""

from __future__ import annotations

import subprocess

import pytest
from mailman_ha.agents.list_lock_janitor import exposition, metrics
from mailman_ha.agents.list_lock_janitor.exposition import GAUGE, Family
from mailman_ha.agents.list_lock_janitor.metrics import Observed, QueueSeen
from mailman_ha.agents.lock_sweep import Kept, SweepReport
from mailman_ha.locks import verdict as verdicts
from mailman_ha.locks.directory import LockDirectory, OrphanClaim
from mailman_ha.locks.release_count import ReleaseCount
from mailman_ha.locks.verdict import Verdict
from mailman_ha.mailman.processes import MailmanProcesses
from mailman_ha.ocf.record import replace
from mailman_ha.queues.entries import Backlog
from prometheus_client.parser import text_string_to_metric_families

from tests.agents.test_judging import MASTER, NOW, RUNNERS, process

EXPECTED = (("in", 0, 2), ("in", 1, 2), ("out", 0, 1))
SEEN = Observed(
    "3.3.10", "/v/locks", SweepReport(LockDirectory("/v/locks")), NOW - 1, 600.0,
    ReleaseCount(1, 2, (1, 2, 3), NOW - 60), 4, (), EXPECTED,
    MailmanProcesses((MASTER,), RUNNERS), NOW,
)


def text(seen: Observed) -> str:
    return exposition.render(metrics.families(seen), {"resource": "janitor"}).decode()


def value(seen: Observed, metric: str, **labels: str) -> float | None:
    """The one sample of `metric` that has these labels."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text(seen))
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    ]
    assert len(found) < 2, found
    return found[0] if found else None


def with_kept(*kept: Kept, orphans: tuple[str, ...] = ()) -> Observed:
    listing = LockDirectory(
        "/v/locks", orphans=tuple(OrphanClaim(name, 1, ()) for name in orphans)
    )
    return replace(SEEN, report=SweepReport(listing, kept=kept))


def kept(name: str, state: str, age: float | None) -> Kept:
    return Kept(name, Verdict(state, "why", "what to type"), age)


def checked_by_promtool(content: bytes) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=content, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )
    assert done.returncode == 0 and done.stdout == b"", done.stdout.decode()


# Locks


@pytest.mark.parametrize("state", metrics.STATES)
def test_each_verdict_is_counted_under_its_own_name(state: str) -> None:
    seen = with_kept(kept("a", state, 5.0), kept("b", state, 7.0), kept("c", state, 6.0),
                     orphans=("c",))
    assert value(seen, "mailman_ha_locks", kind="lock", state=state) == 2
    assert value(seen, "mailman_ha_locks", kind="claim", state=state) == 1
    age = value(seen, "mailman_ha_oldest_lock_age_seconds", state=state)
    assert age == (None if state == "member" else 7.0)
    others = set(metrics.STATES) - {state}
    assert all(value(seen, "mailman_ha_locks", kind="lock", state=one) == 0 for one in others)


def test_states_are_those_of_the_verdicts() -> None:
    assert set(metrics.STATES) == set(verdicts._MOST_ALIVE_FIRST)


@pytest.mark.parametrize(("state", "age", "stuck"), [
    ("lost", 601.0, 1), ("lost", 599.0, 0), ("stranger", 601.0, 1), ("unknown", 601.0, 1),
    ("alive", 1e6, 0), ("member", None, 0), ("fenced", 1e6, 0), ("unknown", None, 0),
])
def test_lock_is_stuck_as_the_monitor_has_it(state: str, age: float | None, stuck: int) -> None:
    assert value(with_kept(kept("a", state, age)), "mailman_ha_stuck_locks") == stuck


def test_lock_whose_age_nobody_knows_makes_no_age() -> None:
    seen = with_kept(kept("a", "lost", None))
    assert value(seen, "mailman_ha_oldest_lock_age_seconds", state="lost") == 0
    assert value(seen, "mailman_ha_locks", kind="lock", state="lost") == 1


def test_releases_are_told_by_state_and_left_out_where_they_are_not_known() -> None:
    told = [value(SEEN, "mailman_ha_lock_releases_total", state=one) for one in verdicts.RELEASABLE]
    assert told == [1, 2, 3]
    assert value(SEEN, "mailman_ha_last_release_timestamp_seconds") == NOW - 60
    unknown = replace(SEEN, releases=None, in_quarantine=None)
    for name in ("mailman_ha_lock_releases_total", "mailman_ha_last_release_timestamp_seconds",
                 "mailman_ha_quarantine_files"):
        assert name not in text(unknown)


# Queues


def test_depth_and_age_of_each_slice_are_told() -> None:
    seen = replace(SEEN, queues=(
        QueueSeen("in", (Backlog(3, 1, NOW - 90), Backlog())),
        QueueSeen("out", (Backlog(1, 0, NOW + 90),)),
        QueueSeen("retry", (Backlog(9, 0, NOW - 9e5),), waits_by_design=True),
    ))

    def told(queue: str, slice: str) -> tuple[float | None, ...]:
        return (
            value(seen, "mailman_ha_queue_entries", queue=queue, slice=slice, kind="waiting"),
            value(seen, "mailman_ha_queue_entries", queue=queue, slice=slice, kind="in_work"),
            value(seen, "mailman_ha_queue_oldest_entry_age_seconds", queue=queue, slice=slice),
        )

    assert told("in", "0") == (3, 1, 90)
    assert told("in", "1") == (0, 0, 0)
    assert told("out", "0") == (1, 0, 0), "an entry of the future is no age below 0"
    assert told("retry", "0") == (9, 0, None)


# Runners


def runner(pid: int, name: str, number: int = 0, count: int = 1, parent: int = 10):
    return process(pid, "runner", parent, runner=name, slice=number, slices=count)


RUNNING = {
    "all": (RUNNERS, (1, 1, 1), 0),
    "none": ((), (0, 0, 0), 0),
    "one is missing": (RUNNERS[1:], (0, 1, 1), 0),
    "two on a slice": ((*RUNNERS, runner(20, "in", 1, 2)), (1, 2, 1), 0),
    "workers of a runner": ((*RUNNERS, runner(20, "out", parent=13)), (1, 1, 1), 0),
    "a command that a runner started": ((*RUNNERS, runner(20, "", parent=13)), (1, 1, 1), 0),
    "another number of slices": ((*RUNNERS, runner(20, "in", 1, 4)), (1, 1, 1), 1),
    "another queue": ((*RUNNERS, runner(20, "virgin")), (1, 1, 1), 1),
    "a queue of an enemy's": ((*RUNNERS, runner(20, '"} 1\n')), (1, 1, 1), 1),
    "titles alone": ((runner(11, "in"), runner(12, "in"), RUNNERS[2]), (1, 1, 1), 0),
    "titles alone, one missing": ((runner(11, "in"), RUNNERS[2]), (1, 0, 1), 0),
    "titles alone, one too many": (
        (runner(11, "in"), runner(12, "in"), runner(14, "in"), RUNNERS[2]), (1, 1, 1), 1
    ),
}


@pytest.mark.parametrize("case", RUNNING)
def test_runners_are_counted_by_slice(case: str) -> None:
    running, numbers, unexpected = RUNNING[case]
    seen = replace(SEEN, processes=MailmanProcesses((), running))
    told = tuple(
        value(seen, "mailman_ha_runners", runner=name, slice=str(number), slices=str(count))
        for name, number, count in EXPECTED
    )
    assert told == numbers
    assert value(seen, "mailman_ha_runners_unexpected") == unexpected
    assert value(seen, "mailman_ha_master_running") == 0
    assert value(seen, "mailman_ha_runners_configured", runner="in", slice="1", slices="2") == 1


def test_master_that_runs_is_told_as_one_also_while_its_starter_lives() -> None:
    assert value(SEEN, "mailman_ha_master_running") == 1
    two = replace(SEEN, processes=MailmanProcesses((MASTER, process(9, "master")), RUNNERS))
    assert value(two, "mailman_ha_master_running") == 1


def test_runner_in_very_many_slices_is_told_as_a_whole() -> None:
    count = metrics.MOST_SLICES * 2
    seen = replace(
        SEEN, expected=tuple(("in", number, count) for number in range(count)),
        processes=MailmanProcesses((), tuple(runner(20 + n, "in", n, count) for n in range(7))),
    )
    assert value(seen, "mailman_ha_runners", runner="in", slice="0", slices="1") == 7
    assert value(seen, "mailman_ha_runners_configured", runner="in", slice="0") == count
    assert text(seen).count("mailman_ha_runners{") == 1


# Text


HOSTILE = ('a"b', "back\\slash", "new\nline", "esc\x1b[31m", "\udcff\udcfe", "ü€", '"} 1\nx 2', "")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_label_of_any_name_is_one_sample_on_one_line(name: str) -> None:
    content = exposition.render(
        [Family("mailman_ha_x", GAUGE, "What\nit \\ is.", (({"name": name}, 1), ({}, 2)))],
        {"resource": name},
    )
    checked_by_promtool(content)
    (family,) = text_string_to_metric_families(content.decode())
    assert len(family.samples) == 2 and content.count(b"\n") == 4
    told = family.samples[0].labels["name"]
    assert told.isprintable() and family.samples[1].labels["resource"] == told


def test_names_that_differ_stay_different() -> None:
    contents = {
        exposition.render([Family("x", GAUGE, "x", (({"name": name}, 1),))], {})
        for name in (*HOSTILE, "\\udcff", "new\\nline", "\\xff", "\\\\xff")
    }
    assert len(contents) == len(HOSTILE) + 4


def test_family_without_samples_is_left_out() -> None:
    assert exposition.render([Family("x", GAUGE, "x", ())], {}) == b""


def test_all_metrics_pass_promtool() -> None:
    checked_by_promtool(text(replace(SEEN, queues=(QueueSeen("in", (Backlog(),)),))).encode())
