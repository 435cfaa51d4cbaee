"""Timing whole processes in pairs, and the table of what came out.

What is measured and what it is compared to run in turn (A B A B …), and the median of the pairs'
ratios counts: a machine that changes its speed changes both sides.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BARE = ("/usr/bin/python3", "-I", "-S", "-c", "pass")
ROUNDS = 25

#: Units of a row, by what one of them is in seconds or bytes.
UNITS = {"ms": 0.001, "cpu ms": 0.001, "s": 1.0, "cpu s": 1.0, "MiB": float(1 << 20)}

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Program:
    """A command with its environment; `codes`: how it may end."""

    command: Sequence[str]
    environment: Environment
    codes: Collection[int] = (0,)

    def seconds(self) -> float:
        """How long it takes. RuntimeError where it ends otherwise than it may."""
        return self._run()[0]

    def processor_seconds(self) -> float:
        """The processor time that it takes, with the children it waited for: what a busy machine
        does not make longer."""
        return self._run()[1]

    def _run(self) -> tuple[float, float]:
        before = time.perf_counter()
        pid = os.posix_spawn(
            self.command[0], self.command, self.environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            ],
        )
        _, status, used = os.wait4(pid, 0)
        seconds = time.perf_counter() - before
        if os.waitstatus_to_exitcode(status) not in self.codes:
            raise RuntimeError(
                f"{' '.join(self.command)} ended with {os.waitstatus_to_exitcode(status)}"
            )
        return seconds, used.ru_utime + used.ru_stime

    def peak_memory(self) -> float:
        """Its greatest resident size, in bytes.

        Asked from time(1), itself small: a process starts with its parent's size as its own peak,
        so a measuring program in Python would see itself.
        """
        done = subprocess.run(
            ["/usr/bin/time", "-q", "-f", "%M", *self.command], env=dict(self.environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode not in self.codes:
            raise RuntimeError(f"{' '.join(self.command)} ended with {done.returncode}")
        return int(done.stderr.split()[-1]) * 1024


BARE_PYTHON = Program(BARE, {"PATH": PATH})


@dataclass(frozen=True)
class Compared:
    """One thing beside another over all rounds: the medians of each (seconds, or bytes), and of
    the ratios and differences of the pairs."""

    one: float
    other: float
    ratio: float
    added: float


def of_pairs(pairs: Sequence[tuple[float, float]]) -> Compared:
    """The medians of pairs that were measured in turn."""
    return Compared(
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(one / other for one, other in pairs),
        statistics.median(one - other for one, other in pairs),
    )


def compare(
    one: Callable[[], float], other: Callable[[], float], rounds: int = ROUNDS
) -> Compared:
    """Measure `one` and `other` in turn, after one round that does not count."""
    return of_pairs([(one(), other()) for _ in range(rounds + 1)][1:])


#: What `linear` may read. What grew with the square would read 10.
GROWTH_LIMIT = 1.25


def linear(
    few: Callable[[], float], some: Callable[[], float], many: Callable[[], float], factor: int,
    rounds: int = 5,
) -> Compared:
    """What `many` takes more than `few`, beside `factor` times what `some` takes more.

    Of each the least of the rounds: whatever else the machine does only ever adds, and would be
    taken `factor` times.
    """
    taken = [(few(), some(), many()) for _ in range(rounds)]
    least, middle, most = (min(seconds) for seconds in zip(*taken))
    return of_pairs([(most - least, factor * (middle - least))])


@dataclass(frozen=True)
class Row:
    """A line of the table. `figure` is what the limit is for: a ratio, or, where `added`, what is
    more in the row's unit. Without a limit it is there to be seen."""

    what: str
    beside: str
    unit: str
    one: float
    other: float
    figure: float
    added: bool
    limit: float | None

    @property
    def missed(self) -> bool:
        return self.limit is not None and self.figure > self.limit

    def cells(self) -> tuple[str, ...]:
        places = 2 if self.unit in ("s", "cpu s") else 1
        sign = "+" if self.added else ""
        return (
            self.what, self.beside, self.unit, f"{self.one:.{places}f}",
            f"{self.other:.{places}f}", f"{self.figure:{sign}.2f}",
            "" if self.limit is None else f"{self.limit:{sign}.2f}",
            "" if self.limit is None else "MISSED" if self.missed else "ok",
        )


HEADINGS = ("what", "beside", "unit", "this", "that", "figure", "limit", "")


class Table:
    """Rows under headings, shown as they come and written out in the end."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str, list[Row]]] = []

    def section(self, title: str, about: str) -> None:
        """Begin a section; `about` says what is compared."""
        self.sections.append((title, about, []))
        print(f"\n{title}\n", flush=True)

    def ratio(
        self, what: str, beside: str, unit: str, compared: Compared, limit: float | None = None
    ) -> None:
        """A row whose figure is the ratio."""
        self._row(what, beside, unit, compared, compared.ratio, False, limit)

    def added(
        self, what: str, beside: str, unit: str, compared: Compared, limit: float | None = None
    ) -> None:
        """A row whose figure is the difference, in the row's unit."""
        self._row(
            what, beside, unit, compared, compared.added / UNITS[unit], True, limit
        )

    def _row(
        self, what: str, beside: str, unit: str, compared: Compared, figure: float, added: bool,
        limit: float | None,
    ) -> None:
        one, other = compared.one / UNITS[unit], compared.other / UNITS[unit]
        row = Row(what, beside, unit, one, other, figure, added, limit)
        self.sections[-1][2].append(row)
        what, beside, *figures = row.cells()
        print(f"{what:50s} {beside:38s} {'  '.join(f'{cell:>8s}' for cell in figures)}", flush=True)

    def missed(self) -> list[Row]:
        """The rows whose limit is broken."""
        return [row for _, _, rows in self.sections for row in rows if row.missed]

    def markdown(self) -> str:
        """The sections and their rows."""
        parts = []
        for title, about, rows in self.sections:
            lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(row.cells() for row in rows)]
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"## {title}\n\n{about}\n\n{body}\n")
        return "\n".join(parts)
