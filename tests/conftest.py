"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import signal

from tests.agents.agent_runs import agents_fixture
from tests.installation_fixture import (
    installation,
    installation21,
    make_installation,
    private_space,
)

__all__ = ["agents", "installation", "installation21", "make_installation", "private_space"]

agents = agents_fixture


def pytest_configure() -> None:
    """Heed Ctrl-C again, as must the programs that tests start and interrupt: what a script or a
    CI system starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
