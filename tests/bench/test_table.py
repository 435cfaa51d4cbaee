"""The bench's table: figures of pairs, and limits that do break."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from bench.measuring import Program, Table, compare, linear, of_pairs


def test_figure_is_the_median_of_the_pairs_not_of_the_sides() -> None:
    """A machine that grows slower meanwhile changes both sides of each pair."""
    compared = of_pairs([(2.0, 1.0), (20.0, 10.0), (6.0, 2.0)])
    assert (compared.one, compared.other) == (6.0, 2.0)
    assert compared.ratio == 2.0
    assert compared.added == 4.0


def test_first_round_does_not_count() -> None:
    one, other = chain([100.0], repeat(3.0)), repeat(2.0)
    assert compare(one.__next__, other.__next__, 2).ratio == 1.5


def test_growth_is_told_from_what_every_run_costs() -> None:
    few, some, many = repeat(1.0), repeat(1.5), repeat(6.0)
    assert linear(few.__next__, some.__next__, many.__next__, 10).ratio == 1.0


def test_growth_is_told_from_the_rounds_that_nothing_disturbed() -> None:
    few = chain([1.0, 1.0], repeat(1.5))
    some, many = chain([1.5], repeat(2.0)), chain([9.0, 6.0], repeat(9.0))
    assert linear(few.__next__, some.__next__, many.__next__, 10).ratio == 1.0


@pytest.mark.parametrize("limit, verdict", [(1.5, "ok"), (1.49, "MISSED"), (None, "")])
def test_limit_that_is_broken_is_said(limit: float | None, verdict: str) -> None:
    table = Table()
    table.section("Title", "About.")
    table.ratio("this", "that", "ms", of_pairs([(0.003, 0.002)]), limit)
    (line,) = (line for line in table.markdown().splitlines() if line.startswith("| this"))
    assert line == (
        f"| this | that | ms | 3.0 | 2.0 | 1.50 | {'' if limit is None else format(limit, '.2f')} "
        f"| {verdict} |"
    )
    assert bool(table.missed()) == (verdict == "MISSED")


def test_difference_is_held_against_its_limit_in_seconds() -> None:
    table = Table()
    table.section("Title", "About.")
    table.added("start", "own", "s", of_pairs([(2.5, 2.0)]), 0.3)
    table.added("stop", "own", "s", of_pairs([(2.0, 2.5)]), 0.3)
    assert [row.what for row in table.missed()] == ["start"]
    assert "| start | own | s | 2.50 | 2.00 | +0.50 | +0.30 | MISSED |" in table.markdown()


def test_program_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        Program(["/bin/sh", "-c", "exit 3"], {}).seconds()
    assert Program(["/bin/sh", "-c", "exit 3"], {}, (3,)).seconds() > 0


def test_processor_time_is_that_of_the_program_and_its_children() -> None:
    busy = ["/usr/bin/python3", "-c", "import time\nwhile time.process_time() < 0.2: pass"]
    assert Program(["/bin/sh", "-c", '"$@"; true', "sh", *busy], {}).processor_seconds() > 0.2
    assert Program(["/bin/sleep", "0.3"], {}).processor_seconds() < 0.2
