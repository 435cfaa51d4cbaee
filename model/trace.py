"""Traces of the model: runs of locks.pml, step by step, each with the state that the model is in
after it.

A trace is a random simulation of spin or the way to a broken promise of a mutant. tests/model
replays traces on real files.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("locks.pml")

#: A simulation that goes on for longer than this many steps of spin's is cut off there.
MOST_STEPS = 2000

#: What simulations are made of, by name. In the last two a claimant may rest between finding a
#: lock expired and breaking it: only then can a release move a lock that it did not judge.
SCOPES: dict[str, tuple[str, ...]] = {
    "local": ("IDLE",),
    "near expiry": ("NEAR",),
    "NFS": ("NFS", "IDLE"),
    "janitor killed": ("CRASH_J",),
    "a node's own word": ("WORD", "IDLE"),
    "all of these": ("NEAR", "NFS", "CRASH_J", "WORD"),
    "stalled breaker": ("NEAR", "STALLED_BREAKER"),
    "stalled breaker, janitor killed": ("NEAR", "STALLED_BREAKER", "CRASH_J"),
}

_LINE = re.compile(
    r"@ (\w+) (\d) \| (\d) ([01]{3}) (\d) (\d) (\d+) ([01]{3}) ([01]{3}) (\d) (\d)$"
)


@dataclass(frozen=True)
class State:
    """The model's state, as far as files show it. Claimants are 1 to 3, nodes 0 and 1; an inode is
    known by the claimant that made it, 0 is none.

    `guard` is node + 1, or 0. `stale` is what each node goes on seeing under the lock's name, 0
    where it sees the truth: over NFS only.
    """

    lock: int
    claims: frozenset[int]
    guard: int
    note: int
    evidence: int
    locks_aside: frozenset[int]
    claims_aside: frozenset[int]
    stale: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """What was done, by which claimant or which node's janitor, and what is so then."""

    what: str
    who: int
    after: State


Trace = tuple[Step, ...]


def _members(bits: str) -> frozenset[int]:
    return frozenset(number for number, bit in enumerate(bits, 1) if bit == "1")


def parse(lines: Iterable[str]) -> Trace:
    """The steps among lines of spin's. Raises ValueError for a step that is not understood."""
    steps = []
    for line in lines:
        if not line.lstrip().startswith("@ "):
            continue
        found = _LINE.match(line.strip())
        if found is None:
            raise ValueError(f"not a step: {line!r}")
        what, who, lock, claims, guard, note, evidence, locks, aside, *stale = found.groups()
        state = State(
            int(lock), _members(claims), int(guard), int(note), int(evidence), _members(locks),
            _members(aside), (int(stale[0]), int(stale[1])),
        )
        steps.append(Step(what, int(who), state))
    return tuple(steps)


def _spin(place: Path, *arguments: str) -> Trace:
    done = subprocess.run(
        ["spin", "-T", "-DTRACE", *arguments, str(MODEL)],
        cwd=place, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    trace = parse(done.stdout.splitlines())
    if not trace:
        raise RuntimeError(f"spin said nothing of use:\n{done.stdout[:2000]}")
    return trace


def simulate(definitions: Iterable[str], seed: int, place: Path) -> Trace:
    """One random run of the model, up to its end or to a broken promise; the same for one seed."""
    return _spin(
        place, f"-n{seed}", f"-u{MOST_STEPS}", *(f"-D{each}" for each in definitions)
    )


def distinct(number: int, place: Path, first_seed: int = 1) -> Iterator[tuple[str, int, Trace]]:
    """So many simulations, no two alike, from each scope in turn: (scope, seed, trace)."""
    seen: set[Trace] = set()
    seed = first_seed
    while len(seen) < number:
        for scope, definitions in SCOPES.items():
            trace = simulate(definitions, seed, place)
            if trace not in seen and len(seen) < number:
                seen.add(trace)
                yield scope, seed, trace
        seed += 1


def labels() -> frozenset[str]:
    """Every kind of step that the model says."""
    return frozenset(re.findall(r'SAY\("(\w+)"', MODEL.read_text()))
