"""One lab for all tests; each test plays in a lock directory of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import flufl.lock
import pytest

from lab.nfs.laboratory import SHARES, NfsLab, Share

from .hosts import Process, Scene

#: Debian's user for mailing lists; it is the same on every Debian (tests/nfs/actor.py).
OWNER = (38, 38)

MEASURED = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs the lab, and may first have to build an image."""
    here = os.path.dirname(__file__) + os.sep
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.nfs)
            item.add_marker(pytest.mark.timeout(900))


def libraries() -> Path:
    """Where flufl.lock is."""
    return Path(flufl.lock.__file__).parents[2]


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[NfsLab]:
    with NfsLab(libraries(), OWNER) as lab:
        pytestconfig.stash.setdefault(MEASURED, []).append(
            f"server and {len(lab.clients)} clients up, {len(SHARES)} shares mounted on each: "
            f"{lab.up_after:.1f} s"
        )
        yield lab


@pytest.fixture(params=SHARES, ids=[share.name for share in SHARES])
def share(request: pytest.FixtureRequest) -> Share:
    return request.param


@pytest.fixture
def scene(lab: NfsLab, share: Share) -> Iterator[Scene]:
    scene = Scene(lab, share)
    yield scene
    scene.close()


@pytest.fixture(scope="session")
def scenes(lab: NfsLab) -> Iterator[Callable[[], list[Scene]]]:
    """Makes a scene on each share, for what takes long and is played on all at once."""
    made: list[Scene] = []

    def make() -> list[Scene]:
        new = [Scene(lab, share) for share in SHARES]
        made.extend(new)
        return new

    yield make
    for scene in made:
        scene.close()


@pytest.fixture(scope="session")
def mailman(lab: NfsLab) -> None:
    """The stand-in on each client."""
    for guest in lab.clients.values():
        process = Process(guest, as_root=True)
        process.install_mailman()
        process.close()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a line of what a test measured; all lines are printed at the end of the run."""
    lines = request.config.stash.setdefault(MEASURED, [])
    return lambda text: lines.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(line)
