"""Run histories, and say what they came to.

    python -m tests.histories [--histories N] [--seed N] [--mutant NAME] [--report FILE]
    python -m tests.histories --play STORY

Needs root: each node is a set of namespaces.  Ends with 0 where every promise held; otherwise with
1, and the shortest history that was found to break one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from tests.histories import machine, report, runs
from tests.histories.mutants import MUTANTS


def say(played: int) -> None:
    print(f"{played} histories", end="\r", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--mutant", default="", choices=("", *MUTANTS))
    parser.add_argument("--report", type=Path, help="write the report here (Markdown)")
    parser.add_argument(
        "--play", metavar="STORY", help="one history, by what a run calls it"
    )
    options = parser.parse_args()
    if options.play:
        broken = runs.play(machine.read(options.play), options.mutant)
        print("\n".join(broken[1:]) if broken else "every promise held")
        return 1 if broken else 0
    number = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    run = runs.run(options.histories, number, options.mutant, options.workers, say)
    print(report.spoken(run))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(report.written(run))
    return 0 if run.held else 1


if __name__ == "__main__":
    sys.exit(main())
