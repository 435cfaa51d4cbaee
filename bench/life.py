"""Start and stop of mailman-master beside Mailman's own, and monitors of levels 10 and 20."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import other_agents
from bench.measuring import BARE_PYTHON, Program, Table, compare, of_pairs
from tests.agents.agent_runs import Agents
from tests.installations import Installation, PrivateSpace, wait_until

#: Processes that have nothing to do with Mailman: an agent reads the table of all.
CROWD = 150
ADDED = 0.3
ROUNDS = 7


class Taken(NamedTuple):
    """What an action took: seconds on the clock, and of processor time (its own, with that of the
    commands it waited for; Mailman's daemons' is not counted)."""

    seconds: float
    processor: float


class Kind(NamedTuple):
    """A kind of installation; `lots`: its runners draw lots, and the clock says nothing of us."""

    title: str
    kind: str
    runners: Sequence[str] = ()
    lots: bool = False


FOUR_RUNNERS = Kind(
    "Mailman 3, four runners", "mailman3", ("in", "pipeline", "out", "lmtp"), lots=True
)
KINDS = (
    Kind("Mailman 3, one runner", "mailman3", ("in",)),
    FOUR_RUNNERS,
    Kind("stand-in of 2.1", "standin"),
)


@dataclass
class Mailman:
    """A private installation on a node, and the agents there."""

    installation: Installation
    cluster: Agents
    agents: Path

    def action(self, agent: str, action: str, codes: tuple[int, ...] = (0,), **how: int) -> Program:
        """An action of an agent as Pacemaker runs it."""
        environment = self.cluster.environment(action, self.installation, **how)
        return Program([str(self.agents / agent), action], environment, codes)

    def start_by_agent(self) -> Taken:
        """Until all of Mailman is up and the start has said so."""
        return self._until(self._serves, self.action("mailman-master", "start").seconds)

    def start_by_hand(self) -> Taken:
        """The same of Mailman's own command."""
        return self._until(self._serves, lambda: self._own(self.installation.start_command()))

    def stop_by_agent(self) -> Taken:
        """Until nothing of Mailman is left and the stop has said so."""
        return self._until(self._is_gone, self.action("mailman-master", "stop").seconds)

    def stop_by_hand(self) -> Taken:
        """The same of Mailman's own command."""
        return self._until(self._is_gone, lambda: self._own(self.installation.stop_command()))

    def _own(self, command: list[str]) -> None:
        done = self.installation.run(command)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _serves(self) -> None:
        self.installation.wait_until_serving()

    def _is_gone(self) -> None:
        wait_until(lambda: not self.installation.processes(), 60, "Mailman has ended")

    def _until(self, done: Callable[[], None], act: Callable[[], object]) -> Taken:
        used, before = _used_by_children(), time.perf_counter()
        act()
        used = _used_by_children() - used
        done()
        return Taken(time.perf_counter() - before, used)


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def mailman(kind: Kind, agents: Path) -> Iterator[Mailman]:
    """A private installation that is not running, beside a crowd of other processes."""
    options = {"runners": kind.runners} if kind.runners else {}
    space, cluster = PrivateSpace(), Agents()
    crowd = [
        subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL) for _ in range(CROWD)
    ]
    try:
        yield Mailman(space.installation(kind.kind, **options), cluster, agents)
    finally:
        for process in crowd:
            process.kill()
            process.wait()
        cluster.close()
        space.close()


def starts_and_stops(table: Table, agents: Path) -> None:
    """What start and stop add to Mailman's own commands."""
    table.section(
        "Start and stop of mailman-master",
        "From the command to the moment when it has returned and the master and all its runners "
        "are there and take signals, beside `mailman start` or `mailmanctl start`; and until the "
        "last of them is gone, beside `mailman stop` or `mailmanctl stop`. A private installation, "
        f"with {CROWD} other processes on the machine. As after a boot, the janitor's probe has "
        "asked Mailman for its configuration. Mailman 3's runners draw lots for the lock on the "
        "database and wait up to 2 s each time, so for four of them the clock has no limit.",
    )
    for kind in KINDS:
        with mailman(kind, agents) as one:
            one.action("list-lock-janitor", "monitor", (7,), interval=0).seconds()
            rounds = [
                (one.start_by_agent(), one.stop_by_agent(), one.start_by_hand(), one.stop_by_hand())
                for _ in range(ROUNDS + 1)
            ][1:]
        for place, action in enumerate(("start", "stop")):
            pairs = [(each[place], each[place + 2]) for each in rounds]
            for unit, field in (("s", "seconds"), ("cpu s", "processor")):
                table.added(
                    f"{action}, {kind.title}", f"Mailman's own {action}", unit,
                    of_pairs([
                        (getattr(ours, field), getattr(own, field)) for ours, own in pairs
                    ]),
                    None if kind.lots and unit == "s" else ADDED,
                )


def closer_monitors(table: Table, top: Path, agents: Path) -> None:
    """Monitors of levels 10 and 20, and the memory of every action."""
    table.section(
        "Closer monitors and memory",
        "Level 10 (every runner alive) and 20 (the queues move) of a running Mailman, with "
        f"{CROWD} other processes, beside `mailman status` (`mailmanctl` has none), bare Python "
        "and the monitors of pgsql and postfix, each on a running server of its own.",
    )
    with mailman(FOUR_RUNNERS, agents) as one, other_agents.monitors(top) as others:
        one.action("list-lock-janitor", "start").seconds()
        one.start_by_agent()
        status = [*one.installation.start_command()[:-1], "status"]

        def own_status() -> float:
            before = time.perf_counter()
            one.installation.run(status)
            return time.perf_counter() - before

        for agent, level in (
            ("mailman-master", 10), ("mailman-master", 20), ("list-lock-janitor", 10),
        ):
            monitor = one.action(agent, "monitor", level=level)
            what = f"{agent}, level {level}"
            table.ratio(what, "mailman status", "ms", compare(monitor.seconds, own_status, 5), 1.0)
            for other in ("pgsql", "postfix"):
                compared = compare(monitor.seconds, others[other].seconds, 10)
                table.ratio(what, f"{other}'s monitor", "ms", compared)
            table.ratio(
                what, "bare Python", "ms", compare(monitor.seconds, BARE_PYTHON.seconds, 10)
            )
            table.ratio(
                what, "bare Python", "MiB",
                compare(monitor.peak_memory, BARE_PYTHON.peak_memory, 3),
            )
        for action in ("start", "stop"):
            program = one.action("mailman-master", action)
            table.ratio(
                f"mailman-master, {action}", "bare Python", "MiB",
                compare(program.peak_memory, BARE_PYTHON.peak_memory, 1),
            )
