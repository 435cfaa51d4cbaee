"""Queue entries by their names alone."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path

import mailman_ha
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.queues import entries, slices
from mailman_ha.queues.entries import Backlog, Entry
from mailman_ha.queues.slices import Slice

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


# Slices

MOMENTS = (
    "1", "1.5", "1.50", "1.05", "15", "015", "0", "999999999", "999999999.9", "0999999999.9",
    "1000000000", "1000000000.0", "1000000000.25", "1700000000.1", "1700000000.10", "1700000000.01",
    "1700000000", "9999999999.999999", "10000000000", "00000000001.0", "999999999999", "9" * 13,
    "1700000000." + "3" * 150, "1700000000.", "1700000000.5.5", "17e8", "-1.0", "٣", "²", "",
)


def seams(count: int) -> list[int]:
    """The digests at both ends of every slice, and those that a shorter rule gets wrong."""
    ends = [slices.bounds(Slice(number, count)) for number in range(count)]
    return [digest for lowest, highest in ends for digest in (lowest, highest)]


def names_of_entries(count: int) -> st.SearchStrategy[str]:
    digest = st.one_of(
        st.sampled_from(seams(count)), st.integers(0, (1 << 160) - 1)
    ).map(lambda number: f"{number:040x}")
    return st.builds(
        "{}+{}.{}".format, st.one_of(st.sampled_from(MOMENTS), times.map(repr)), digest,
        st.sampled_from(("pck", "bak")),
    )


def spoiled(name: str, place: int, piece: str, length: int) -> str:
    """`name` with `piece` in place of `length` characters somewhere in it."""
    place %= len(name) + 1
    return name[:place] + piece + name[place + length :]


PIECES = (
    "\n", "\r", "+", ".", "A", "F", "g", "0", " ", "\udcff", "²", "٣", ".tmp", ".pck", ".bak", "",
)


def names_of_every_kind(count: int) -> st.SearchStrategy[str]:
    pieces = st.sampled_from(PIECES)
    return st.one_of(
        names_of_entries(count),
        st.builds(
            spoiled, names_of_entries(count), st.integers(0, 80), pieces, st.integers(0, 2)
        ),
        st.builds(
            str.__add__, names_of_entries(count),
            st.sampled_from((".tmp", "\n", "~", ".psv", ".pck", " ")),
        ),
        names_of_entries(count).map(lambda name: name[:-3] + "psv"),
        names_of_entries(count).map(str.upper),
        st.tuples(names_of_entries(count), names_of_entries(count)).map("\n".join),
        st.text(max_size=80),
        st.binary(max_size=80).map(os.fsdecode),
    ).filter(is_file_name)


def is_file_name(name: str) -> bool:
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return 0 < len(raw) < 256 and name not in (".", "..") and not {"/", "\0"} & set(name)


def slowly(names: Iterable[str], count: int) -> tuple[Backlog, ...]:
    """What parse() and slice_of(), one name after the other, make of `names`."""
    parts: list[list[Entry]] = [[] for _ in range(count)]
    for name in names:
        entry = entries.parse(name)
        if entry is not None:
            parts[slices.slice_of(entry.digest, count)].append(entry)
    return tuple(
        Backlog(
            sum(entry.extension == entries.WAITING for entry in part),
            sum(entry.extension == entries.IN_WORK for entry in part),
            min((entry.since for entry in part), default=None),
        )
        for part in parts
    )


@given(st.one_of(st.integers(1, 9), st.sampled_from((16, 37, 64))).flatmap(
    lambda count: st.tuples(
        st.just(count), st.lists(names_of_every_kind(count), max_size=25, unique=True)
    )
))
def test_listing_agrees_with_reading_name_by_name(case: tuple[int, list[str]]) -> None:
    count, names = case
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            with open(os.path.join(directory, name), "x"):
                pass
        expected = slowly(os.listdir(directory), count)
        assert entries.backlogs(directory, count) == expected
        for number in range(count):
            assert entries.backlog_of(directory, Slice(number, count)) == expected[number]
        assert entries.backlog(directory) == slowly(os.listdir(directory), 1)[0]


@pytest.mark.parametrize("sound", [
    "1700000000.25+" + "a" * 40 + ".pck", "1700000000+" + "0123456789" * 4 + ".bak",
])
def test_listing_agrees_with_reading_where_one_place_of_a_name_is_spoiled(
    tmp_path: Path, sound: str
) -> None:
    names = {
        spoiled(sound, place, piece, length)
        for place in range(len(sound) + 1) for piece in PIECES for length in range(3)
    }
    names = {name for name in names if is_file_name(name)}
    for name in names:
        (tmp_path / name).touch()
    expected = slowly(names, 2)
    assert 0 < sum(part.waiting + part.in_work for part in expected) < len(names) / 2
    assert entries.backlogs(str(tmp_path), 2) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 64])
def test_entries_at_the_seams_are_counted_in_one_slice_each(tmp_path: Path, count: int) -> None:
    for digest in set(seams(count)):
        (tmp_path / f"1700000000.5+{digest:040x}.pck").touch()
    assert entries.backlogs(str(tmp_path), count) == (Backlog(2, 0, 1700000000.5),) * count


@pytest.mark.parametrize("earlier, later", [
    ("999999999.5", "1000000000.5"), ("2.5", "10.5"), ("0000000003.5", "1700000000.5"),
    ("1700000000", "1700000000.5"), ("1700000000.05", "1700000000.5"),
    ("1700000000.5", "1700000000.55"), ("1700000000.5", "10000000000.5"),
])
def test_oldest_is_the_earliest_number_not_the_first_in_the_alphabet(
    tmp_path: Path, earlier: str, later: str
) -> None:
    for moment, digest in ((earlier, "f" * 40), (later, "0" * 40)):
        (tmp_path / f"{moment}+{digest}.pck").touch()
    assert entries.backlog(str(tmp_path)).oldest == float(earlier)
    assert [part.oldest for part in entries.backlogs(str(tmp_path), 2)] == [
        float(later), float(earlier),
    ]


@pytest.mark.parametrize("count", [0, -1])
def test_queue_of_no_slices_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="slices"):
        entries.backlogs(str(tmp_path), count)


def test_slice_of_a_queue_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        entries.backlog_of("/nonexistent/queue", Slice(0, 4))
    with pytest.raises(FileNotFoundError):
        entries.backlogs("/nonexistent/queue", 4)


def peak_of_listing(directory: Path) -> int:
    """The most bytes that Python held while it counted `directory`, in an interpreter of its
    own."""
    program = (
        "import sys, tracemalloc\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from mailman_ha.queues import entries\n"
        "entries.backlogs(sys.argv[2], 8)\n"  # imports, and the compiled expression
        "tracemalloc.start()\n"
        "entries.backlogs(sys.argv[2], 8)\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    library = str(Path(mailman_ha.__file__).parent.parent)
    done = subprocess.run(
        ["/usr/bin/python3", "-ISc", program, library, str(directory)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )
    return int(done.stdout)


def test_listing_holds_no_more_memory_for_many_entries_than_for_few(tmp_path: Path) -> None:
    for kind, number in (("few", 20), ("many", 10_000)):
        (tmp_path / kind).mkdir()
        first = tmp_path / kind / f"1700000000.5+{DIGEST}.pck"
        first.touch()
        for entry in range(1, number):
            digest = sha1(str(entry).encode()).hexdigest()
            os.link(first, tmp_path / kind / f"{1_700_000_000 + entry / 8!r}+{digest}.pck")
    assert peak_of_listing(tmp_path / "many") < peak_of_listing(tmp_path / "few") + 10_000
