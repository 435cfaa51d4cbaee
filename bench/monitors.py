"""Monitor at level 0: time and memory, against bare Python and other agents, and its growth."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import other_agents
from bench.measuring import BARE_PYTHON, GROWTH_LIMIT, Table, compare, linear
from bench.surroundings import AGENTS, in_memory, mailman_in_order

FEW, SOME, MANY = 10, 10_000, 100_000


def level_0(table: Table, top: Path, agents: Path) -> None:
    """Each agent beside `python3 -I -S -c pass` and beside the agents of resource-agents."""
    table.section(
        "A monitor at level 0, all well",
        "The agents as `make install` puts them there, beside an interpreter that does nothing "
        "(`python3 -I -S -c pass`) and beside the monitors of resource-agents' agents, each on a "
        "real resource: an address, a mounted tmpfs, a running PostgreSQL and a running Postfix.",
    )
    with mailman_in_order(top / "level0", agents) as ours:
        for name in AGENTS:
            compared = compare(ours[name].seconds, BARE_PYTHON.seconds, 60)
            table.ratio(name, "bare Python", "ms", compared, 1.3)
        for name in AGENTS:
            its, bare = ours[name].processor_seconds, BARE_PYTHON.processor_seconds
            table.ratio(name, "bare Python", "cpu ms", compare(its, bare, 60), 1.3)
        for name in AGENTS:
            compared = compare(ours[name].peak_memory, BARE_PYTHON.peak_memory, 5)
            table.ratio(name, "bare Python", "MiB", compared, 1.5)
        with other_agents.monitors(top) as others:
            for name in AGENTS:
                for other, its in others.items():
                    compared = compare(ours[name].seconds, its.seconds, 10)
                    table.ratio(name, f"{other}'s monitor", "ms", compared, 1.0)
    shutil.rmtree(top / "level0")


def growth(table: Table, top: Path, agents: Path) -> None:
    """Whether level 0 costs more where there are more locks."""
    table.section(
        "Level 0 with many locks",
        f"The lock directory holds {MANY:,} locks of lists beside the master's, all of a living "
        f"process. mailman-master and qfiles-slice look at one claim file; they are compared to "
        f"themselves with {FEW} locks. The janitor must look at each lock, since a lock does not "
        f"change when its holder dies; what {MANY:,} locks add to {FEW} is compared to "
        f"{MANY // SOME} times what {SOME:,} add. All in memory (tmpfs).",
    )
    place = top / "growth"
    place.mkdir()
    with (
        in_memory(place),
        mailman_in_order(place / "few", agents, FEW) as few,
        mailman_in_order(place / "some", agents, SOME) as some,
        mailman_in_order(place / "many", agents, MANY) as many,
    ):
        for name in AGENTS[:2]:
            compared = compare(
                many[name].processor_seconds, few[name].processor_seconds, 40
            )
            table.ratio(f"{name}, {MANY:,} locks", f"{FEW} locks", "cpu ms", compared, 1.1)
        janitors = [each[AGENTS[2]].processor_seconds for each in (few, some, many)]
        table.ratio(
            f"{AGENTS[2]}, added by {MANY:,} locks", f"{MANY // SOME} × by {SOME:,}", "cpu ms",
            linear(*janitors, MANY // SOME), GROWTH_LIMIT,
        )
