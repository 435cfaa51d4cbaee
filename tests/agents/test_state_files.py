"""State files that were cut short or scribbled on: taken for none, never for somebody's number."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from mailman_ha.agents.list_lock_janitor import state_file as duties
from mailman_ha.agents.mailman_master import state_file as masters
from mailman_ha.agents.qfiles_slice import state_file as slices

SOUND = {
    "pid": "5", "started_ticks": "7", "uid": "38", "gid": "38", "claim": "/l/x", "claim_inode": "9",
    "lock_dir": "/l", "queue": "in", "runner": "in", "slice": "0", "slices": "4", "format": "3",
    "master_lock": "master.lck", "own_hosts": "n1",
}


def state(module: ModuleType, directory: Path, **changes: str) -> object:
    path = directory / "state"
    path.write_text("".join(f"{name}={value}\n" for name, value in {**SOUND, **changes}.items()))
    return module.read(str(path))


@pytest.mark.parametrize("module", [duties, masters, slices], ids=lambda module: module.__name__)
@pytest.mark.parametrize("number", ["-1", "4294967295", "9" * 30, "9" * 5000, "1_0", "٣", "", "x"])
def test_user_that_the_system_cannot_have_makes_no_state(
    tmp_path: Path, module: ModuleType, number: str
) -> None:
    """setuid(-1) means: stay who you are, which is root."""
    assert state(module, tmp_path) is not None
    for field in ("uid", "gid"):
        assert state(module, tmp_path, **{field: number}) is None


@pytest.mark.parametrize("module", [masters, slices], ids=lambda module: module.__name__)
def test_greatest_inode_is_read_and_one_more_is_not(tmp_path: Path, module: ModuleType) -> None:
    assert state(module, tmp_path, claim_inode=str(2**64 - 1)) is not None
    assert state(module, tmp_path, claim_inode=str(2**64)) is None
    assert state(module, tmp_path, pid="-1") is None


@pytest.mark.parametrize("module", [duties, masters, slices], ids=lambda module: module.__name__)
def test_file_with_zeros_in_it_is_none(tmp_path: Path, module: ModuleType) -> None:
    """The monitor ended with a traceback: no path may hold a NUL."""
    assert state(module, tmp_path, lock_dir="/non\0existent") is None
