"""Doing something as Mailman's user, and being root again afterwards, whatever happened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from mailman_ha.evidence.user_identity import ActingAs

from tests.installations import PrivateSpace, test_user

NOBODY = 65534


def identity() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), sorted(os.getgroups())


@pytest.fixture
def mine(private_space: PrivateSpace) -> Path:
    """A directory of Mailman's user."""
    assert test_user()
    return private_space.new_directory()


def test_files_are_mailmans_and_rights_are_mailmans(mine: Path) -> None:
    owner = mine.stat()
    before = identity()
    closed = mine / "closed"
    closed.write_text("root's")
    closed.chmod(0o600)
    with ActingAs(owner.st_uid, owner.st_gid):
        assert identity() == (owner.st_uid, owner.st_gid, [owner.st_gid])
        (mine / "file").write_text("x")
        with pytest.raises(PermissionError):
            closed.read_text()
        with pytest.raises(PermissionError):
            os.chown(mine / "file", 0, 0)
    assert identity() == before
    made = (mine / "file").stat()
    assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)


def test_root_is_root_again_after_an_error(mine: Path) -> None:
    owner = mine.stat()
    before = identity()
    with pytest.raises(ZeroDivisionError), ActingAs(owner.st_uid, owner.st_gid):
        _ = 1 / 0
    assert identity() == before
    with pytest.raises(KeyboardInterrupt), ActingAs(owner.st_uid, owner.st_gid):
        raise KeyboardInterrupt
    assert identity() == before


@pytest.mark.parametrize("uid, gid", [(1 << 40, 65534), (65534, 1 << 40), (-2, -2)])
def test_root_stays_root_where_there_are_no_such_ids(uid: int, gid: int) -> None:
    before = identity()
    with pytest.raises((OverflowError, OSError)), ActingAs(uid, gid):
        pass
    assert identity() == before


def test_it_can_be_done_again_and_again(mine: Path) -> None:
    owner = mine.stat()
    before = identity()
    acting = ActingAs(owner.st_uid, owner.st_gid)
    for _ in range(3):
        with acting:
            assert os.geteuid() == owner.st_uid
        assert identity() == before


def test_acting_as_root_changes_nothing() -> None:
    before = identity()
    with ActingAs(0, 0):
        assert identity() == before
    assert identity() == before


def test_who_is_not_root_stays_who_he_is(mine: Path) -> None:
    owner = mine.stat()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            before = identity()
            with ActingAs(owner.st_uid, owner.st_gid):
                assert identity() == before
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_identity_that_is_kept_outlasts_the_block(mine: Path) -> None:
    owner = mine.stat()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with ActingAs(owner.st_uid, owner.st_gid) as acting:
                acting.keep()
            assert identity() == (owner.st_uid, owner.st_gid, [owner.st_gid])
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_setgid_directory_hands_its_group_on(mine: Path) -> None:
    owner = mine.stat()
    mine.chmod(0o2775)
    with ActingAs(owner.st_uid, NOBODY):
        (mine / "file").write_text("x")
    made = (mine / "file").stat()
    assert made.st_gid == owner.st_gid and not made.st_mode & stat.S_ISGID
