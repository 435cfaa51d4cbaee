"""Check the model of the lock protocol and its mutants: one line each; 1 if any is not as expected.

Needs spin and a C compiler. Everything is made in a temporary directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("locks.pml")
MEMORY = 3000  # megabytes that one check may take


@dataclass(frozen=True)
class Variant:
    """One check: the definitions it is made with, and whether spin should find a broken promise."""

    name: str
    definitions: tuple[str, ...]
    breaks: bool


SCOPES = (
    ("local", ()),
    ("near expiry", ("NEAR",)),
    ("NFS", ("NFS",)),
    ("janitor killed", ("CRASH_J", "IDLE")),
    ("a node's own word", ("WORD",)),
    ("mailmanctl's hand-over", ("HANDOVER", "CRASH_J")),
    ("all of these", ("NEAR", "NFS", "CRASH_J")),
)
MUTANTS = (
    ("RELEASE_WITHOUT_RECHECK", ("NEAR",)),
    ("TRUST_LOCK_CONTENT", ("NFS",)),
    ("NO_EXPIRY_PUSH", ("NEAR",)),
    ("LOST_TAKEN_FOR_FENCED", ()),
    ("NO_GUARD", ()),
    ("NO_NOTE", ("CRASH_J", "NEAR")),
    ("TRUST_DEATH_OF_NAME", ()),
    ("TRUST_OLD_WORD", ("WORD",)),
    ("ONE_CLAIM_COUNTS", ("HANDOVER",)),
)
VARIANTS = (
    *(Variant(name, scope, False) for name, scope in SCOPES),
    *(Variant(name, (*scope, name), True) for name, scope in MUTANTS),
    Variant("Mailman's own: STALLED_BREAKER", ("NEAR", "STALLED_BREAKER"), True),
)


@dataclass(frozen=True)
class Result:
    """What spin said."""

    broken: str  # the first broken promise; '' if none
    states: int
    depth: int
    complete: bool  # every state was looked at
    seconds: float


def check(variant: Variant, place: Path) -> Result:
    """Generate, compile and run the checker of a variant. CalledProcessError if it cannot be."""
    began = time.monotonic()
    definitions = [f"-D{each}" for each in variant.definitions]
    commands = (
        ["spin", *definitions, "-a", str(MODEL)],
        ["cc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY}", "-o", "pan", "pan.c"],
    )
    for command in commands:
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    limits = [] if variant.breaks else ["-m2000000"]
    run = subprocess.run(
        ["./pan", *limits], cwd=place, check=False, stdout=subprocess.PIPE, text=True
    )
    broken = re.search(r"^pan:\d+: (.*) \(at depth", run.stdout, re.M)
    states = re.search(r"^\s*(\d+) states, stored", run.stdout, re.M)
    depth = re.search(r"depth reached (\d+)", run.stdout)
    if states is None or depth is None:
        raise RuntimeError(f"{variant.name}: the checker said nothing of use:\n{run.stdout}")
    incomplete = "max search depth too small" in run.stdout or "Search not completed" in run.stdout
    return Result(
        broken.group(1) if broken else "",
        int(states.group(1)),
        int(depth.group(1)),
        not incomplete,
        time.monotonic() - began,
    )


def as_expected(variant: Variant, result: Result) -> bool:
    """A mutant breaks; what is no mutant does not, and was searched to the end."""
    if variant.breaks:
        return result.broken != ""
    return result.broken == "" and result.complete


def main() -> int:
    """Check every variant."""
    wrong = 0
    print(f"{'variant':32} {'states':>10} {'depth':>7} {'s':>6}  verdict")
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as place:
            result = check(variant, Path(place))
        good = as_expected(variant, result)
        wrong += not good
        verdict = f"broken: {result.broken}" if result.broken else "holds in every interleaving"
        if not result.complete and not result.broken:
            verdict = "NOT SEARCHED TO THE END"
        mark = "" if good else "   <- NOT AS EXPECTED"
        print(
            f"{variant.name:32} {result.states:>10} {result.depth:>7} {result.seconds:>6.1f}  "
            f"{verdict}{mark}",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
