"""Queue entries by their names alone."""

from __future__ import annotations

import os
from hashlib import sha1
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.queues import entries
from mailman_ha.queues.entries import Backlog, Entry

times = st.floats(0.0, 99_999_999_999.0, allow_nan=False, allow_subnormal=False).map(
    lambda moment: round(moment, 6)
).filter(lambda moment: "e" not in repr(moment))
digests = st.binary(max_size=8).map(lambda content: sha1(content).hexdigest())
DIGEST = sha1(b"x").hexdigest()


@given(times, digests, st.sampled_from(("pck", "bak")))
def test_name_is_read_as_mailman_writes_it(moment: float, digest: str, extension: str) -> None:
    name = f"{moment!r}+{digest}.{extension}"
    assert entries.parse(name) == Entry(moment, int(digest, 16), f".{extension}")


@pytest.mark.parametrize("name", [
    f"1.5+{DIGEST}.pck.tmp", f"1.5+{DIGEST}.psv", f"1.5+{DIGEST}.txt", f"1.5+{DIGEST}",
    f"1.5+{DIGEST}.", f"1.5+{DIGEST}..pck", f"1.5{DIGEST}.pck", f"+{DIGEST}.pck", "1.5+.pck",
    f"1.5+{DIGEST[1:]}.pck", f"1.5+{DIGEST}0.pck", f"1.5+{DIGEST.upper()}.pck",
    f"1.5+{DIGEST[:-1]}g.pck", f"1.5+{'٣' * 40}.pck", f"-1.5+{DIGEST}.pck", f"1,5+{DIGEST}.pck",
    f"1.+{DIGEST}.pck", f".5+{DIGEST}.pck", f"1.5.5+{DIGEST}.pck", f"1e9+{DIGEST}.pck",
    f"inf+{DIGEST}.pck", f"nan+{DIGEST}.pck", f"١+{DIGEST}.pck", f"²+{DIGEST}.pck",
    f"1_0+{DIGEST}.pck", f" 1+{DIGEST}.pck", f"{'9' * 13}+{DIGEST}.pck", f"0x1+{DIGEST}.pck",
    f"1.5+{DIGEST}+{DIGEST}.pck", "README", ".pck", "", ".", "..", ".nfs000123",
])
def test_name_of_any_other_form_is_no_entry(name: str) -> None:
    assert entries.parse(name) is None


@given(st.one_of(
    st.text(max_size=80),
    st.binary(max_size=80).map(os.fsdecode),
    st.lists(
        st.sampled_from(("1", ".", "5", "+", DIGEST, DIGEST[:39], "pck", "bak", "\n", "²", "e9",
                         "9" * 400, "\udcff")), max_size=7,
    ).map("".join),
))
def test_no_name_raises_and_what_is_read_is_sound(name: str) -> None:
    entry = entries.parse(name)
    if entry is not None:
        assert 0 <= entry.since < 10**12 and 0 <= entry.digest < 1 << 160
        assert name.endswith(entry.extension)


def test_backlog_counts_entries_and_finds_the_oldest(tmp_path: Path) -> None:
    for moment, extension in ((300.5, "pck"), (100.25, "bak"), (200.0, "pck"), (5.0, "psv")):
        (tmp_path / f"{moment!r}+{sha1(str(moment).encode()).hexdigest()}.{extension}").touch()
    (tmp_path / f"1.0+{DIGEST}.pck.tmp").touch()
    (tmp_path / "README").touch()
    assert entries.backlog(str(tmp_path)) == Backlog(waiting=2, in_work=1, oldest=100.25)


def test_empty_queue_has_no_oldest(tmp_path: Path) -> None:
    assert entries.backlog(str(tmp_path)) == Backlog(0, 0, None)


def test_queue_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        entries.backlog("/nonexistent/queue")


def test_no_entry_is_opened_or_followed(tmp_path: Path) -> None:
    """A FIFO would hold us up, a link to nowhere would fail: by its name each is an entry."""
    os.mkfifo(tmp_path / f"1.0+{DIGEST}.pck")
    (tmp_path / f"2.0+{DIGEST}.pck").symlink_to("/nonexistent")
    (tmp_path / f"3.0+{DIGEST}.bak").mkdir()
    (tmp_path / os.fsdecode(b"\xff\n\x1b[2J.pck")).touch()
    assert entries.backlog(str(tmp_path)) == Backlog(2, 1, 1.0)
