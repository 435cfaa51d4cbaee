"""Runs of histories: batches of them in several processes, and what becomes of one that fails."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories import machine
from tests.histories.machine import BOUNDARIES, NEVER_REACHED, Tally
from tests.histories.scenarios import SCENARIOS
from tests.histories.site import Forge
from tests.private_directory import private_directory

#: Histories that one process plays before it begins anew.
BATCH = 50

#: The most steps of one history.
STEPS = 16

#: How long a history that failed is shortened (seconds).
SHORTENING = 90.0

#: What may become of a process at a boundary.
HOWS = ("die", "stand still")

Story = list[list[Any]]


@dataclass
class Run:
    """One run: what it was asked, and what came of it."""

    asked: int
    seed: int
    mutant: str
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    #: Whether somebody ended it before it was through.
    interrupted: bool = False
    #: The shortest history found that breaks a promise, how it does, and whether it does each time.
    shortest: tuple[Story, str] | None = None

    @property
    def held(self) -> bool:
        return self.tally.broken is None and not self.missed()

    def missed(self) -> list[str]:
        """What is wrong with where processes were interrupted, a sentence each."""
        if self.mutant:
            return []
        return [
            f"nothing was made to {how} at {boundary}" for boundary in BOUNDARIES for how in HOWS
            if boundary not in NEVER_REACHED and not self.tally.interrupted[boundary, how]
        ]


def space() -> AbstractContextManager[Path]:
    """A private directory; what is still under way in it when it goes is ended with the run."""
    return private_directory("mailman-ha-histories-", lenient=True)


@contextmanager
def forge() -> Iterator[Forge]:
    made = Forge()
    try:
        yield made
    finally:
        made.close()


def batch(place: Path, histories: int, number: int, mutant: str) -> Tally:
    """Play so many histories, or up to the first that breaks a promise."""
    tally = Tally()
    with forge() as made:
        try:
            run_state_machine_as_test(
                seed(number)(machine.machine(made, place, tally, mutant)),
                settings=settings(
                    max_examples=histories, stateful_step_count=STEPS, deadline=None,
                    database=None, phases=[Phase.generate], print_blob=False,
                    report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception:
            if tally.broken is None:
                raise
    return tally


def through_every_boundary(place: Path) -> Tally:
    """Interrupt a process at each boundary that any scenario comes by, in both ways."""
    whole = Tally()
    with forge() as made:
        # On a busy machine a wait may end too early for what was to come after it: so, some tries.
        come_by: dict[str, list[str]] = {}
        for name, scenario in list(SCENARIOS.items()) * 3:
            tally = played(scenario(None), "", made, place)
            whole.add(tally)
            for boundary in tally.reached:
                come_by.setdefault(boundary, []).append(name)
        for boundary, names in sorted(come_by.items()):
            for how in HOWS:
                for name in names * 3:
                    tally = played(SCENARIOS[name](((0, boundary), how)), "", made, place)
                    whole.add(tally)
                    if whole.broken is not None:
                        return whole
                    if tally.interrupted[boundary, how]:
                        break
    return whole


def play(story: Story, mutant: str = "") -> tuple[Story, str] | None:
    """Play one history; how it breaks a promise, None where it breaks none."""
    with space() as place, forge() as made:
        return played(story, mutant, made, place).broken


def played(story: Story, mutant: str, made: Forge, place: Path) -> Tally:
    """What comes of one history."""
    tally = Tally()
    machine.play(machine.machine(made, place, tally, mutant), story)
    return tally


def shorten(story: Story, mutant: str, seconds: float = SHORTENING) -> tuple[Story, str] | None:
    """A history that breaks a promise with as few of these steps as is found in so many seconds;
    None where it breaks none when it is played again."""
    until = time.monotonic() + seconds
    with space() as place, forge() as made:
        broken = None
        for _ in range(5):  # times fall out differently each time
            broken = broken or played(story, mutant, made, place).broken
        if broken is None:
            return None
        size = len(broken[0]) // 2
        while size:
            first = 1  # a history begins with its site
            while first < len(broken[0]) and time.monotonic() < until:
                shorter = broken[0][:first] + broken[0][first + size :]
                still = played(shorter, mutant, made, place).broken
                if still is None:
                    first += size
                else:
                    broken = still
            size //= 2
    return broken


def run(
    histories: int, number: int, mutant: str = "", workers: int = 4,
    progress: Callable[[int], None] = lambda played: None,
) -> Run:
    """Play so many random histories, or until one breaks a promise or Ctrl-C comes; and without a
    mutant those of the scenarios besides. `progress` is told how many are done."""
    began = time.monotonic()
    done = Run(histories, number, mutant)
    batches = -(-histories // BATCH)
    # Leaving the pool ends what is still under way in it.
    with space() as place, multiprocessing.get_context("spawn").Pool(min(workers, batches)) as pool:
        ordered = [
            (place, min(BATCH, histories - at * BATCH), _seed(number, at), mutant)
            for at in range(batches)
        ]
        conducted = None if mutant else pool.apply_async(through_every_boundary, (place,))
        try:
            for tally in pool.imap_unordered(_batch, ordered):
                done.tally.add(tally)
                progress(done.tally.histories)
                if tally.broken is not None:
                    break
        except KeyboardInterrupt:
            done.interrupted = True
        if conducted is not None and done.tally.broken is None:
            done.tally.add(conducted.get())
    if done.tally.broken is not None and not mutant:
        done.shortest = shorten(done.tally.broken[0], mutant)
    done.seconds = time.monotonic() - began
    return done


def _batch(ordered: tuple[Path, int, int, str]) -> Tally:
    return batch(*ordered)


def _seed(number: int, at: int) -> int:
    """The seed of a run's batch."""
    return int.from_bytes(hashlib.sha256(f"{number} {at}".encode()).digest()[:6], "big")
