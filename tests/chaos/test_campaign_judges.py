"""What a campaign calls a broken promise, how it counts, and what it plans: no cluster needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.chaos.faults import FAULTS
from lab.chaos.plan import FIELDS, left_to_play, plan
from lab.chaos.promises import Seen, broken, excused_losses, seconds_to_recovery
from lab.chaos.report import last_plays, markdown, plot, read

GOOD = Seen(
    fault_at=100.0,
    accepted={f"<{number}@x>": 95.0 + number / 2 for number in range(40)},
    lost=(), excused=(0.0, 0.0), doubles=(),
    members_before=("a@x", "b@x"), members_after=("b@x", "a@x"),
    releases=({"released": "L", "state": "fenced"},), quarantined=(),
    states=((90.0, True), (101.0, False), (107.5, True)), not_served="",
)


def entry(number: int, violations: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    each = plan(7, number + 1)[number]
    return {"number": number, "seed": each.seed, "field": each.field.name,
            "fault": each.fault.name, "violations": list(violations), "recovery": 3.0 + number,
            "accepted": 10, **more}


# -- promises

def test_round_in_which_all_went_well_breaks_nothing() -> None:
    assert broken(GOOD) == []


@pytest.mark.parametrize("change,word", [
    ({"doubles": ("master on n1 and n2",)}, "never two"),
    ({"lost": ("<3@x>",)}, "never lost"),
    ({"members_after": ("a@x",)}, "members"),
    ({"members_after": ("a@x", "b@x", "b@x")}, "members"),
    ({"releases": ({"released": "L", "state": "lost"},)}, "without proof"),
    ({"releases": ({"released": "L"},)}, "without proof"),
    ({"quarantined": ("20260101T000000Z.7.L",)}, "without evidence"),
    ({"not_served": "not within 180 s"}, "never stuck"),
], ids=str)
def test_each_broken_promise_is_called_by_its_name(change: dict[str, Any], word: str) -> None:
    (sentence,) = broken(replace(GOOD, **change))
    assert word in sentence


def test_only_posts_accepted_in_the_file_systems_last_moments_are_excused() -> None:
    seen = replace(GOOD, lost=("<3@x>", "<30@x>"), excused=(96.0, 97.0))
    (sentence,) = broken(seen)
    assert "<30@x>" in sentence and excused_losses(seen) == 1


@pytest.mark.parametrize("change,seconds", [
    ({}, 7.5),
    ({"states": ((90.0, True),)}, 0.0),
    ({"states": ((90.0, True), (101.0, False), (103.0, True), (104.0, False), (109.0, True))}, 9.0),
    ({"states": (), "accepted": {"a": 99.0, "b": 101.0, "c": 112.0, "d": 113.0}}, 12.0),
    ({"not_served": "never"}, None),
], ids=["set complete again", "nothing interrupted", "twice", "no post for a time", "never"])
def test_recovery_is_the_last_thing_that_came_back(
    change: dict[str, Any], seconds: float | None
) -> None:
    assert seconds_to_recovery(replace(GOOD, **change)) == seconds


# -- the plan

def test_same_seed_makes_the_same_rounds_and_a_longer_campaign_begins_with_a_shorter_one() -> None:
    assert plan(5, 200)[:60] == plan(5, 60)
    assert plan(5, 60) != plan(6, 60)
    assert plan(5, 60)[17].chance().random() == plan(5, 60)[17].chance().random()


def test_every_fault_comes_on_every_field_that_can_have_it_before_any_comes_again() -> None:
    rounds = plan(3, 4 * len(FAULTS))
    for field in FIELDS:
        fitting = {fault.name for fault in FAULTS if fault.fits(field.site, field.nodes)}
        mine = [each.fault.name for each in rounds if each.field == field]
        assert set(mine[: len(fitting)]) == fitting and len(fitting) > 25


def test_campaign_that_goes_on_plays_what_is_missing_and_what_was_broken_last() -> None:
    rounds = plan(7, 5)
    played = [entry(0), entry(1, ("never two",)), entry(2, ("never two",)), entry(2), entry(3),
              entry(3, ("never lost",))]
    assert [each.number for each in left_to_play(rounds, played)] == [1, 3, 4]
    assert left_to_play(plan(8, 5), played) == plan(8, 5), "another seed's rounds are others"


# -- the report

def test_report_counts_the_last_play_and_names_the_broken_ones_before() -> None:
    plays = [entry(0), entry(1, ("never two: n1 and n2",)), entry(1), entry(2, ("never lost: x",))]
    assert [bool(each["violations"]) for each in last_plays(plays)] == [False, False, True]
    text = markdown(plays)
    assert "3 rounds, 1 with a broken promise, 30 posts accepted" in text
    now, before = text.split("## Broken promises")[1].split("## Broken before")
    assert "never lost: x" in now and "SEED=7 ONLY=2" in now and "never two" not in now
    assert "never two: n1 and n2" in before and "ONLY=1" in before
    (total,) = [line for line in text.splitlines() if line.startswith("| **all**")]
    assert [cell.strip() for cell in total.split("|")][2:6] == ["3", "3", "4.0", "5.0"]


def test_round_that_never_recovered_has_no_time_in_the_table() -> None:
    (line,) = [line for line in markdown([entry(0, ("never stuck",), recovery=None)]).splitlines()
               if line.startswith("| **all**")]
    assert [cell.strip() for cell in line.split("|")][2:6] == ["1", "0", "-", "-"]


def test_timeline_is_drawn_of_what_the_watchers_wrote(tmp_path: Path) -> None:
    line = {"accepted": [-2.0, 1.0, 9.0], "delivered": [-1.5, 9.5],
            "events": [[0.0, "power-cut", "n1"]],
            "daemons": [[-3.0, {"n1": [1, 8], "n2": [0, 0]}], [8.0, {"n2": [1, 8]}]]}
    place = tmp_path / "rounds.jsonl"
    place.write_text(json.dumps(entry(0, timeline=line)) + "\n")
    (each,) = read(place)
    plot(each, tmp_path / "a.svg")
    plot(each, tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in drawn and drawn == (tmp_path / "b.svg").read_bytes()
