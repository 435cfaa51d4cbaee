"""Fixtures: private lock directories, and processes that look like Mailman's."""

from __future__ import annotations

import grp
import itertools
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21

from tests.installations import test_user
from tests.locks.peer import Peer
from tests.locks.share import Share
from tests.private_directory import private_directory


@pytest.fixture(scope="session")
def lock_space() -> Iterator[Path]:
    """A directory that Mailman's user may enter: these tests make some ten thousand small files."""
    with private_directory("mailman-ha-locks-") as space:
        yield space


@pytest.fixture
def make_share(lock_space: Path) -> Iterator[Callable[..., Share]]:
    top = Path(tempfile.mkdtemp(dir=lock_space))
    top.chmod(0o755)
    count = itertools.count()

    def make(format: str = FORMAT_21) -> Share:
        path = top / str(next(count))
        path.mkdir(mode=0o755)
        return Share(path, format)

    yield make
    shutil.rmtree(top)


@pytest.fixture
def share(make_share: Callable[..., Share]) -> Share:
    """A lock directory of Mailman 2.1."""
    return make_share()


@pytest.fixture(params=[FORMAT_21, FORMAT_3])
def either_share(request: pytest.FixtureRequest, make_share: Callable[..., Share]) -> Share:
    """A lock directory of either version."""
    return make_share(request.param)


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    """Another process, Mailman's user's, that contends for locks."""
    user, group = test_user()
    one = Peer(pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
    yield one
    one.close()


@pytest.fixture
def living_mailman() -> Iterator[Callable[[], int]]:
    """Starts a process that looks like one of Mailman's; returns its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        process = subprocess.Popen(
            ["mailman-ha-test-qrunner", "600"], executable="/bin/sleep", stdin=subprocess.DEVNULL
        )
        started.append(process)
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"mailman-ha-"):
            time.sleep(0.001)  # until it has become the program, it looks like this test
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()
