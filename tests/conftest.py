"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings

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
    # How long an example takes says how busy the machine is; growth has tests of its own.
    settings.register_profile(
        "any-machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any-machine")


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Python 3.11.2's collector dies of a segmentation fault, once in some ten runs, when it goes
    through all that thousands of tests have left, after they have passed and been told. What in the
    interpreter is broken then was not found; the process ends here, and nothing needs collecting.
    """
    gc.freeze()
