"""Every surface, with a few hundred examples that hypothesis makes. `make fuzz` plays more."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.surface import Surface
from tests.fuzz.surfaces import SURFACES

#: How many times the usual number of examples are played.
TIMES = float(os.environ.get("FUZZ_TIMES", "1"))


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_foreign_input_keeps_every_promise(surface: Surface) -> None:
    @settings(
        max_examples=int(surface.count * TIMES), deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(surface.examples)
    def plays(example: object) -> None:
        surface.check(example)

    plays()


def test_surfaces_have_names_of_their_own() -> None:
    names = [surface.name for surface in SURFACES]
    assert len(set(names)) == len(names)
