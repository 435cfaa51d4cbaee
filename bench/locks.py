"""Sweeps of lock directories, against find and against flufl.lock's own look at each lock."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.measuring import GROWTH_LIMIT, PATH, Program, Table, compare, linear
from bench.surroundings import CHECKOUT, LockDirectory, in_memory
from tests.agents.agent_runs import Agents, ClusterPicture, NodePicture
from tests.installations import Installation, PrivateSpace

SIZES = (10, 1_000, 100_000)
RELEASES = (1, 100, 1_000, 10_000)
PLAIN = {"PATH": PATH, "LC_ALL": "C"}
LOST = NodePicture(online=False, unclean=True)
FENCED = NodePicture(online=False, fenced_at=time.time() + 86400)

#: Reads a lock directory and judges each owner, as an agent does where nothing is proven.
JUDGE = """
import gc, sys
gc.disable()
sys.path.insert(0, sys.argv[1])
from mailman_ha.locks import directory, verdict
from mailman_ha.locks.verdict import Evidence, HostFacts
listing = directory.read(sys.argv[2], "3", "master.lck")
evidence = Evidence(
    {"n2": HostFacts(verdict.NODE, "n2", online=False, unclean=True)}, {}, 0.0, 0.0
)
judged = [
    verdict.judge_owner(owner, float("inf"), evidence).may_release
    for lock in listing.locks for owner in lock.owners
]
if judged != [False] * int(sys.argv[3]):
    sys.exit(f"{len(judged)} judged, {sum(judged)} to be released")
"""

#: Asks flufl.lock for the state of each lock.
FLUFL = """
import os, sys
from flufl.lock import Lock
states = [
    Lock(os.path.join(sys.argv[1], name)).state.name
    for name in os.listdir(sys.argv[1]) if name.endswith(".lock")
]
if states != ["unknown"] * int(sys.argv[2]):
    sys.exit(f"{len(states)} locks: {sorted(set(states))}")
"""


def judging(table: Table, top: Path) -> None:
    """Reading and judging: the library's part of a sweep."""
    table.section(
        "Reading and judging a directory of locks",
        "Locks of a lost node, each with its claim file. Beside `find`, which looks at each name, "
        "and beside flufl.lock, asked for the state of each lock (`Lock(...).state`), each in a "
        f"process of its own. Growth, in memory (tmpfs): what {SIZES[-1]:,} locks add to "
        f"{SIZES[0]}, beside ten times what {SIZES[-1] // 10:,} add.",
    )
    for size in SIZES:
        directory, judge = _judging(top, size)
        what, rounds = f"{size:,} locks", 3 if size == SIZES[-1] else 15
        find = Program(["/usr/bin/find", str(directory.path), "-printf", "%i %n %T@\\n"], PLAIN)
        flufl = Program(
            [sys.executable, "-I", "-c", FLUFL, str(directory.path), str(size)], PLAIN
        )
        table.ratio(
            what, "find", "ms", compare(judge.seconds, find.seconds, rounds),
            3.0 if size == SIZES[-1] else None,
        )
        table.ratio(
            what, "flufl.lock's state", "ms", compare(judge.seconds, flufl.seconds, rounds), 1.0
        )
        table.ratio(
            what, "flufl.lock's state", "MiB", compare(judge.peak_memory, flufl.peak_memory, 3)
        )
        shutil.rmtree(directory.path)
    place = top / "judging"
    place.mkdir()
    with in_memory(place):
        few, some, many = (
            _judging(place, size)[1].processor_seconds
            for size in (SIZES[0], SIZES[-1] // 10, SIZES[-1])
        )
        table.ratio(
            f"added by {SIZES[-1]:,} locks", f"10 × by {SIZES[-1] // 10:,}", "cpu ms",
            linear(few, some, many, 10), GROWTH_LIMIT,
        )


def _judging(top: Path, size: int) -> tuple[LockDirectory, Program]:
    """A directory of so many locks of a lost node, and what reads and judges it."""
    directory = LockDirectory(top / f"locks{size}")
    directory.fill(size, "n2", 4242)
    command = ["/usr/bin/python3", "-I", "-S", "-c", JUDGE, str(CHECKOUT / "lib")]
    return directory, Program([*command, str(directory.path), str(size)], PLAIN)


def sweeps(table: Table, agents: Path) -> None:
    """The janitor's own sweeps, whole: process, settings, cluster, evidence."""
    table.section(
        "Sweeps by list-lock-janitor",
        "Whole actions against the stand-in of Mailman 2.1, with a crm_mon that answers at once: a "
        "monitor that keeps the locks of a lost node, beside flufl.lock's state of as many; and a "
        "start that releases those of a fenced node, beside `mv` of as many files. A release is "
        "two looks at the lock, a push of its expiry, a rename and a line of evidence that is on "
        "the disk before the next. Growth is that of sweeps in memory (tmpfs), where the disk has "
        "no part.",
    )
    space, cluster = PrivateSpace(), Agents()
    try:
        def keeping(installation: Installation, size: int) -> Program:
            fill(installation, size)
            janitor = _janitor(agents, cluster, installation, LOST)
            janitor["start"].seconds()
            return janitor["monitor"]

        def releasing(installation: Installation, size: int) -> _Releases:
            janitor = _janitor(agents, cluster, installation, FENCED)
            return _Releases(installation, janitor["start"], size)

        for size in SIZES:
            installation = space.installation("standin")
            monitor = keeping(installation, size)
            beside = LockDirectory(installation.directory / "flufl")
            beside.fill(size, "n2", 4242)
            states = Program(
                [sys.executable, "-I", "-c", FLUFL, str(beside.path), str(size)], PLAIN
            )
            compared = compare(monitor.seconds, states.seconds, 3 if size == SIZES[-1] else 10)
            table.ratio(f"keeps {size:,} locks", "flufl.lock's state", "ms", compared)
        for size in RELEASES:
            releases = releasing(space.installation("standin"), size)
            table.ratio(
                f"releases {size:,} locks", "mv", "ms",
                compare(releases.release, releases.move, 3),
            )
        with ExitStack() as memory:
            def installed() -> Installation:
                installation = space.installation("standin")
                memory.enter_context(in_memory(installation.lock_dir))
                return installation

            some, many = SIZES[-1] // 10, SIZES[-1]
            keep = [keeping(installed(), size).processor_seconds for size in (SIZES[0], some, many)]
            table.ratio(
                f"keeping: added by {many:,} locks", f"10 × by {some:,}", "cpu ms",
                linear(*keep, 10), GROWTH_LIMIT,
            )
            some, many = RELEASES[2:]
            release = [
                releasing(installed(), size).processor_seconds for size in (RELEASES[0], some, many)
            ]
            table.ratio(
                f"releasing: added by {many:,} locks", f"10 × by {some:,}", "cpu ms",
                linear(*release, 10, 3), GROWTH_LIMIT,
            )
    finally:
        cluster.close()
        space.close()


def fill(installation: Installation, count: int) -> None:
    """Locks of lists, held on n2."""
    for number in range(count):
        installation.make_dead_lock(
            "n2", 4242, lock=installation.list_lock(f"list{number:06d}"), last="7"
        )


def _janitor(
    agents: Path, cluster: Agents, installation: Installation, n2: NodePicture
) -> dict[str, Program]:
    """Its start and its monitor, in a cluster that sees n2 so."""
    state_dir = installation.directory / "state"
    state_dir.mkdir(exist_ok=True)
    cluster.cluster(ClusterPicture({"n1": NodePicture(), "n2": n2}))
    return {
        action: Program(
            [str(agents / "list-lock-janitor"), action],
            cluster.environment(action, installation, timeout=600, state_dir=state_dir),
        )
        for action in ("start", "monitor")
    }


class _Releases:
    """Locks that are made anew for each measurement."""

    def __init__(self, installation: Installation, start: Program, count: int) -> None:
        self.installation, self.start, self.count = installation, start, count

    def release(self) -> float:
        """Seconds until the janitor's start has released them all."""
        return self._released(self.start.seconds)

    def processor_seconds(self) -> float:
        """What that takes of the processor."""
        return self._released(self.start.processor_seconds)

    def _released(self, measured: Callable[[], float]) -> float:
        fill(self.installation, self.count)
        os.sync()  # or what fill has left to be written would be written by the release
        taken = measured()
        quarantine = self.installation.lock_dir / "mailman-ha.quarantine"
        released = len((quarantine / "evidence.jsonl").read_text().splitlines())
        if released != self.count:
            raise RuntimeError(f"{released} of {self.count} locks were released")
        shutil.rmtree(quarantine)
        return taken

    def move(self) -> float:
        """Seconds until `mv` has moved as many files."""
        fill(self.installation, self.count)
        directory = self.installation.lock_dir
        script = 'mkdir "$1/moved" && mv "$1"/list* "$1/moved"'
        taken = Program(["/bin/sh", "-c", script, "sh", str(directory)], PLAIN).seconds()
        shutil.rmtree(directory / "moved")
        return taken
