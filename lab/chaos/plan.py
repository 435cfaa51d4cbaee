"""The plan of a campaign: a pure function of the seed and the number of rounds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .faults import FAULTS, Fault


@dataclass(frozen=True)
class Field:
    """A kind of cluster on which rounds take place."""

    site: str
    suite: str
    nodes: int

    @property
    def name(self) -> str:
        """How the report calls it."""
        return f"{self.site}-{self.suite}-{self.nodes}"


FIELDS = (
    Field("mailman3", "bookworm", 2),
    Field("standin21", "trixie", 2),
    Field("mailman3", "trixie", 3),
    Field("standin21-slices", "bookworm", 3),
)


def with_real_mailman21(fields: Sequence[Field]) -> tuple[Field, ...]:
    """The same clusters with the site's own Mailman 2.1 in the place of its stand-in."""
    return tuple(
        replace(field, site=field.site.replace("standin21", "mailman21")) for field in fields
    )


@dataclass(frozen=True)
class Round:
    """One round: this fault on this field, with what is left to chance decided by `seed`."""

    number: int
    field: Field
    fault: Fault
    seed: str

    def chance(self) -> random.Random:
        """The round's own randomness; the same in every repetition."""
        return random.Random(self.seed)


def plan(seed: int, count: int, fields: Sequence[Field] = FIELDS) -> list[Round]:
    """The rounds 0 to count-1 of a seed.

    Fields take turns; on each, every fault it can have comes once before any comes again, in an
    order that the seed decides. So a longer campaign begins with the rounds of a shorter one.
    """
    decks: dict[Field, list[Fault]] = {field: [] for field in fields}
    shuffle = {field: random.Random(f"{seed}:{field.name}") for field in fields}
    rounds = []
    for number in range(count):
        field = fields[number % len(fields)]
        if not decks[field]:
            decks[field] = [fault for fault in FAULTS if fault.fits(field.site, field.nodes)]
            shuffle[field].shuffle(decks[field])
        rounds.append(Round(number, field, decks[field].pop(), f"{seed}:{number}"))
    return rounds


def left_to_play(rounds: Sequence[Round], played: Iterable[Mapping[str, Any]]) -> list[Round]:
    """The rounds that have not been played, or whose last play broke a promise."""
    last = {(each["seed"], each["field"]): each for each in played}
    kept = {key for key, each in last.items() if not each["violations"]}
    return [each for each in rounds if (each.seed, each.field.name) not in kept]
