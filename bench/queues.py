"""Depth and age of a queue, by slices, against a listing of its names."""

from __future__ import annotations

import os
import shutil
from hashlib import sha1
from pathlib import Path

from bench.measuring import PATH, Compared, Program, Table, compare
from bench.surroundings import CHECKOUT

SIZES = (1_000, 1_000_000)
SLICES = 8

DEPTH = """
import sys
sys.path.insert(0, sys.argv[1])
from mailman_ha.queues import entries
seen = entries.backlogs(sys.argv[2], int(sys.argv[3]))
found = sum(one.waiting for one in seen), sum(one.in_work for one in seen)
oldest = min(one.oldest for one in seen)
if found != (int(sys.argv[4]), int(sys.argv[5])) or oldest != 1700000000.0:
    sys.exit(f"{found} entries, the oldest {oldest}")
"""


def depth(table: Table, top: Path) -> None:
    """What a monitor at level 10 or 20 asks of a queue."""
    table.section(
        "Depth and age of a queue",
        f"Of each 100 names 80 wait, 17 are in work and 3 are no entries; counted for {SLICES} "
        "slices, in a process of its own. Beside `ls -f | wc -l`, which lists and sorts nothing. "
        "The limit for the great queue is twice that and a second.",
    )
    plain = {"PATH": PATH, "LC_ALL": "C"}
    counting = {}
    for size in SIZES:
        directory = top / f"queue{size}"
        waiting, in_work = fill(directory, size)
        counting[size] = Program(
            ["/usr/bin/python3", "-I", "-S", "-c", DEPTH, str(CHECKOUT / "lib"), str(directory),
             str(SLICES), str(waiting), str(in_work)],
            plain,
        )
        listing = Program(
            ["/bin/sh", "-c", 'ls -f "$1" | wc -l', "sh", str(directory)], plain
        )
        what, rounds = f"{size:,} entries", 5 if size == SIZES[-1] else 25
        compared = compare(counting[size].seconds, listing.seconds, rounds)
        table.ratio(what, "ls", "ms", compared)
        if size == SIZES[-1]:
            limit = 2 * compared.other + 1.0
            allowed = Compared(
                compared.one, limit, compared.one / limit, compared.one - limit
            )
            table.ratio(what, "2 × ls and 1 s", "ms", allowed, 1.0)
    small, great = (counting[size] for size in SIZES)
    table.ratio(
        f"{SIZES[1]:,} entries", f"{SIZES[0]:,} entries", "MiB",
        compare(great.peak_memory, small.peak_memory, 5), 1.1,
    )
    for size in SIZES:
        shutil.rmtree(top / f"queue{size}")


def fill(directory: Path, names: int) -> tuple[int, int]:
    """Make `names` names: of each 100 of them 80 wait, 17 are in work and 3 are no entries'.

    Answers how many wait and how many are in work. All are links to a few files: a listing does
    not see the difference, and a million files are made and removed sooner.
    """
    directory.mkdir()
    counts = {"pck": 0, "bak": 0, "psv": 0}
    for number in range(names):
        part = number % 100
        extension = "pck" if part < 80 else "bak" if part < 97 else "psv"
        counts[extension] += 1
        digest = sha1(b"%d" % number).hexdigest()
        name = directory / f"{1_700_000_000 + number / 64!r}+{digest}.{extension}"
        if number % 50_000 == 0:
            name.touch()
            linked = name
        else:
            os.link(linked, name)
    return counts["pck"], counts["bak"]
