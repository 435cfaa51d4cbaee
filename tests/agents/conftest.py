"""Fixtures of the tests of qfiles-slice."""

from __future__ import annotations

from tests.agents.slice_fixture import (
    make_node,
    outgoing,
    outgoing_by_kind,
    sliced,
    sliced_by_kind,
)

__all__ = ["make_node", "outgoing", "outgoing_by_kind", "sliced", "sliced_by_kind"]
