"""Run histories, and say what they came to.

    python -m tests.histories [--histories N] [--steps N] [--seed N] [--mutant NAME]

Needs root: each node is a set of namespaces.  Ends with 0 where every promise held; otherwise with
1, and the shortest history that was found to break one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories.machine import Tally, machine
from tests.histories.mutants import MUTANTS
from tests.histories.site import Forge

_PREFIX = "mailman-ha-histories-"


def make_space() -> Path:
    """A private directory, in memory where there is such a place; those of killed runs go."""
    parent = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if time.time() - left.stat().st_mtime > 86400:
            shutil.rmtree(left, ignore_errors=True)
    space = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    space.chmod(0o755)
    return space


def run(histories: int, steps: int, number: int, mutant: str, shrink: bool) -> tuple[Tally, str]:
    """Run so many histories; what they came to, and how a promise was broken ('': none was)."""
    space = make_space()
    forge = Forge()
    tally = Tally()
    phases = [Phase.generate, *((Phase.shrink,) if shrink else ())]
    chosen = machine(forge, space, tally, mutant)
    try:
        run_state_machine_as_test(
            seed(number)(chosen),
            settings=settings(
                max_examples=histories, stateful_step_count=steps, deadline=None, database=None,
                phases=phases, print_blob=False, report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        return tally, ""
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return tally, traceback.format_exc()
    finally:
        forge.close()
        shutil.rmtree(space, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20, help="the most steps of one history")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--mutant", default="", choices=("", *MUTANTS))
    parser.add_argument("--no-shrink", action="store_true", help="stop at the first one found")
    options = parser.parse_args()
    number = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    began = time.monotonic()
    tally, broken = run(
        options.histories, options.steps, number, options.mutant, not options.no_shrink
    )
    print(broken, end="", file=sys.stderr)
    print(json.dumps({
        "histories": tally.histories, "steps": tally.steps, "released": tally.released,
        "files_put_aside": tally.put_aside, "seconds": round(time.monotonic() - began, 1),
        "seed": number, "mutant": options.mutant, "broken": bool(broken),
        "kinds": dict(sorted(tally.kinds.items())),
    }))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
