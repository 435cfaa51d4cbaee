"""Fixtures of the tests of mailman-ha."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents
from tests.agents.slice_fixture import make_node, sliced, sliced_by_kind
from tests.cli.operator_runs import CHECKOUT, Operator
from tests.installations import Installation, PrivateSpace

__all__ = [
    "command", "make_node", "operator", "operator_of", "prefix", "sliced", "sliced_by_kind",
    "standin",
]


@pytest.fixture(scope="session")
def prefix(private_space: PrivateSpace) -> Path:
    """What `make install` installs, where any user may run it."""
    top = private_space.new_directory()
    done = subprocess.run(
        ["make", "-s", "install", f"PREFIX={top}/usr", f"OCF_ROOT={top}/ocf"], cwd=CHECKOUT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return top / "usr"


@pytest.fixture(scope="session")
def command(prefix: Path) -> Path:
    return prefix / "bin" / "mailman-ha"


@pytest.fixture
def operator(agents: Agents, installation: Installation, command: Path) -> Operator:
    """At the shell of a node with each kind of Mailman."""
    return Operator(agents, installation, command)


@pytest.fixture
def operator_of(agents: Agents, command: Path) -> Callable[[Installation], Operator]:
    return lambda installation: Operator(agents, installation, command)


@pytest.fixture
def standin(
    agents: Agents, make_installation: Callable[..., Installation], command: Path
) -> Operator:
    """At the shell of a node with the stand-in for 2.1, where the kind of Mailman does not
    matter."""
    return Operator(agents, make_installation("standin"), command)
