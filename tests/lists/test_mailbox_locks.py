"""Dot locks beside digests' mailboxes: who keeps whom from a mailbox, with Python's own mailbox
module as the other side, as Mailman 3 uses it."""

from __future__ import annotations

import mailbox
import subprocess
import sys
from pathlib import Path

import pytest
from mailman_ha.lists import mailbox_locks
from mailman_ha.lists.mailbox_locks import Changed, HeldMailbox, MailboxLock

POST = """
import mailbox, sys
box = mailbox.MMDF(sys.argv[1])
try:
    box.lock()
except mailbox.ExternalClashError as error:
    sys.exit(str(error))
box.unlock()
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    directory = tmp_path / "lists" / "l.example.org"
    directory.mkdir(parents=True)
    path = directory / "digest.mmdf"
    path.touch()
    return path


def found(box: Path) -> MailboxLock:
    (lock,) = mailbox_locks.find(str(box.parent.parent))
    return lock


def living(box: Path) -> MailboxLock:
    """What a look finds while a post is added; the post is over when this returns."""
    adding = mailbox.MMDF(box)
    adding.lock()
    try:
        return found(box)
    finally:
        adding.unlock()
        adding.close()


def dead(box: Path) -> MailboxLock:
    box.with_name("digest.mmdf.lock").touch()
    return found(box)


def post(box: Path) -> str:
    """Why a post that comes by now is shunted; '' where it is not."""
    return subprocess.run(
        [sys.executable, "-c", POST, str(box)], check=False, capture_output=True, text=True
    ).stderr.strip()


def test_mailbox_whose_living_process_has_given_it_up_is_not_locked(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = living(box)
    look, said = mailbox_locks._look, []

    def slowly(path: str, directory: int | None = None) -> object:
        said.append(post(box))
        return look(path, directory)

    monkeypatch.setattr(mailbox_locks, "_look", slowly)
    with pytest.raises(Changed) as refused, HeldMailbox(lock):
        pass
    assert said == [""]
    assert not refused.value.disturbed


def test_mailbox_that_was_locked_in_vain_is_said_to_be_disturbed(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process gives it up in the moment before."""
    lock = dead(box)
    look, said = mailbox_locks._look, []

    def gone_after_the_first(path: str, directory: int | None = None) -> object:
        if not said:
            said.append("")
            seen = look(path, directory)
            Path(lock.path).unlink()
            return seen
        said.append(post(box))
        return look(path, directory)

    monkeypatch.setattr(mailbox_locks, "_look", gone_after_the_first)
    with pytest.raises(Changed) as refused, HeldMailbox(lock):
        pass
    assert len(said) == 2 and "lock unavailable" in said[1]
    assert refused.value.disturbed
    assert post(box) == ""


def test_mailbox_of_a_dead_lock_is_nobodys_while_it_is_held(box: Path) -> None:
    with HeldMailbox(dead(box)):
        assert "lockf" in post(box)
        box.with_name("digest.mmdf.lock").unlink()
    assert post(box) == ""
