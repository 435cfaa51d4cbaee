"""A run removes what killed runs have left, and nothing that another run uses."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.private_directory import private_directory

USES = """
import sys, time
from tests.private_directory import private_directory
with private_directory(sys.argv[1]) as place:
    print(place, flush=True)
    time.sleep(600)
"""


def kill(user: subprocess.Popen[str], place: Path) -> None:
    """Until the process in the other namespace, which is no child of ours, has let go as well."""
    user.kill()
    if place.is_dir():
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.close(descriptor)


@pytest.mark.parametrize("killed", [False, True], ids=["in use", "killed"])
def test_directory_of_a_run_is_removed_once_that_run_is_gone(killed: bool) -> None:
    """In a namespace of processes of its own, as in CI: its pid says nothing here."""
    prefix = f"mailman-ha-test-{uuid.uuid4().hex}-"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
         sys.executable, "-c", USES, prefix],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    ) as other:
        assert other.stdout is not None
        place = Path(other.stdout.readline().strip())
        try:
            assert place.is_dir() and place.name.startswith(prefix)
            if killed:
                kill(other, place)
            with private_directory(prefix) as own:
                assert own.is_dir()
                assert place.exists() != killed
        finally:
            kill(other, place)
    with private_directory(prefix) as own:
        pass
    assert not own.exists() and not place.exists()
