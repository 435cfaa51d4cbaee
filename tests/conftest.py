"""Fixtures that every part of the tests may use."""

from __future__ import annotations

from tests.agents.agent_runs import agents_fixture
from tests.installation_fixture import (
    installation,
    installation21,
    make_installation,
    private_space,
)

__all__ = ["agents", "installation", "installation21", "make_installation", "private_space"]

agents = agents_fixture
