"""Measure what the suite costs: `make bench`.  Ends with status 1 where a limit is broken.

Needs root, the virtual environment of the tests, PostgreSQL and Postfix as packages, and
resource-agents.  Runs in process ids of its own (`unshare --pid`), so that no other Mailman of the
machine is seen.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "lib"))

from bench import life, locks, monitors, queues  # noqa: E402
from bench.measuring import Table  # noqa: E402
from bench.surroundings import installed_agents  # noqa: E402

Part = Callable[[Table, Path, Path], None]
PARTS: dict[str, Part] = {
    "level-0": monitors.level_0,
    "growth": monitors.growth,
    "closer": life.closer_monitors,
    "life": lambda table, top, agents: life.starts_and_stops(table, agents),
    "judging": lambda table, top, agents: locks.judging(table, top),
    "sweeps": lambda table, top, agents: locks.sweeps(table, agents),
    "queues": lambda table, top, agents: queues.depth(table, top),
}

INTRODUCTION = """\
# What it costs

Written by `make bench WRITE=docs/bench.md`. Whole processes are timed from outside, each in turn
with what stands beside it (A B A B …). *This* and *that* are medians; *figure* is the median of
the pairs' ratios, or, with a sign, of their differences: so a machine that changes its speed
changes both sides. How cost grows is told from the least of the rounds. A limit that is broken
reads MISSED, and the run ends with status 1.

"""


def machine() -> str:
    """What it was measured on."""
    with open("/usr/lib/os-release", encoding="utf-8") as file:
        system = dict(line.rstrip().split("=", 1) for line in file if "=" in line)["PRETTY_NAME"]
    version = os.popen("/usr/bin/python3 -V").read().strip()
    return (
        f"{version}, {system.strip(chr(34))}, Linux {platform.release().partition('-')[0]}, "
        f"{os.cpu_count()} cores; {os.getloadavg()[1]:.1f} processes were ready to run on average "
        "over the last five minutes."
    )


def main() -> int:
    """Measure the parts asked for, or all."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the table, as Markdown")
    options = parser.parse_args()
    # Ended from outside, it still removes what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    top = Path(tempfile.mkdtemp(prefix="mailman-ha-bench-"))
    top.chmod(0o755)
    table = Table()
    try:
        agents = installed_agents(top)
        for name, part in PARTS.items():
            if options.parts and name not in options.parts:
                continue
            part(table, top, agents)
            if options.write:
                options.write.write_text(f"{INTRODUCTION}{machine()}\n\n{table.markdown()}")
    finally:
        shutil.rmtree(top, ignore_errors=True)
    print(f"\n{machine()}")
    for row in table.missed():
        print(f"MISSED: {row.what}, beside {row.beside}: {row.figure:.2f}, limit {row.limit:.2f}")
    return 1 if table.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
