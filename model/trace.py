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
    "near expiry, janitor killed": ("NEAR", "CRASH_J"),
    "all of these": ("NEAR", "NFS", "CRASH_J", "WORD"),
    "stalled breaker": ("NEAR", "STALLED_BREAKER"),
    "stalled breaker, janitor killed": ("NEAR", "STALLED_BREAKER", "CRASH_J"),
}

#: Steps that simulations seldom come by, and the scope in which the checker looks for them.
SELDOM = {
    "known": "near expiry, janitor killed", "reuse": "a node's own word",
    "absent": "stalled breaker", "back": "stalled breaker", "left": "stalled breaker",
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


def _spin(place: Path, *arguments: str, model: Path = MODEL) -> Trace:
    done = subprocess.run(
        ["spin", "-T", "-DTRACE", *arguments, str(model)],
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


def _make_checker(place: Path, model: Path, given: Iterable[str], *options: str) -> None:
    for command in (
        ["spin", *given, "-a", str(model)],
        ["cc", "-O0", "-w", "-DSAFETY", *options, "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)


def counterexample(definitions: Iterable[str], place: Path) -> Trace:
    """The way to the first broken promise of the model with these definitions.

    Raises CalledProcessError where the checker cannot be made, RuntimeError where it finds none.
    """
    model = place / MODEL.name
    model.write_text(MODEL.read_text())
    given = ["-DTRACE", *(f"-D{each}" for each in definitions)]
    _make_checker(place, model, given)
    subprocess.run(["./pan"], cwd=place, check=True, stdout=subprocess.DEVNULL)
    return _spin(place, "-t", *given[1:], model=model)


def leading_to(
    label: str, definitions: Iterable[str], number: int, place: Path
) -> Iterator[Trace]:
    """`number` distinct runs to the model's end with a step `label` in them, as the checker finds
    them in random searches: for what simulations seldom come by.

    Raises CalledProcessError where the checker cannot be made, RuntimeError where it finds none.
    """
    model = place / MODEL.name
    source = re.sub(
        rf'SAY\("{label}", \w+\)', r"\g<0>; reached = true", MODEL.read_text()
    )
    # Who has reached the goal stands there for ever, which the checker takes for an error.
    model.write_text(
        f"bool reached = false;\n{source}\nactive proctype Goal() {{ end: reached -> false }}\n"
    )
    given = ["-DTRACE", *(f"-D{each}" for each in definitions)]
    _make_checker(place, model, given, "-DT_RAND", "-DP_RAND")
    found: set[Trace] = set()
    for seed in range(1, 50 * number):
        subprocess.run(
            ["./pan", "-A", f"-RS{seed}"], cwd=place, check=True, stdout=subprocess.DEVNULL
        )
        trace = _spin(place, "-t", *given[1:], model=model)
        if trace not in found and any(step.what == label for step in trace):
            found.add(trace)
            yield trace
            if len(found) == number:
                return
    raise RuntimeError(f"the checker finds {len(found)} ways to {label}, not {number}")


def labels() -> frozenset[str]:
    """Every kind of step that the model says."""
    return frozenset(re.findall(r'SAY\("(\w+)"', MODEL.read_text()))
