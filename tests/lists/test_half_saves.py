"""What a crash leaves of a list's configuration: found, judged without running any of it, and
finished without ever overwriting one."""

from __future__ import annotations

import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailman_ha.lists import half_saves
from mailman_ha.lists.half_saves import FINISH, LEAVE, PUT_ASIDE, HalfSave
from mailman_ha.locks.grammar import GREATEST_PID, Owner

WRITER = Owner("n1.example.org", 4711)
NAME = "config.pck.tmp.n1.example.org.4711"

#: As Mailman 2.1 writes one: binary, protocol 1.
SETTINGS = {
    "real_name": "Test", "members": {f"member{n}@example.org": 0 for n in range(5)},
    "owner": ["owner@example.org"], "post_id": 1.0, "archive": True, "info": "ü" * 50,
    "_cookies": (1, None, 2**70, -5),
}


def go_on() -> bool:
    return True


def is_whole(content: bytes, tmp_path: Path) -> bool:
    path = tmp_path / NAME
    path.write_bytes(content)
    with open(path, "rb") as file:
        return half_saves.is_whole(file, go_on)


# -- whole or torn

@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_complete_pickle_is_whole_and_no_part_of_it_is(tmp_path: Path, protocol: int) -> None:
    whole = pickle.dumps(SETTINGS, protocol)
    assert is_whole(whole, tmp_path)
    for length in range(len(whole)):
        assert not is_whole(whole[:length], tmp_path), f"torn after {length} bytes"
    for more in (b"\0", b".", b"\n", whole):
        assert not is_whole(whole + more, tmp_path)


@pytest.mark.parametrize("lost", ["zeros", "ones"])
def test_pickle_whose_end_was_lost_in_a_host_crash_is_torn(tmp_path: Path, lost: str) -> None:
    """The size is there, the content is not: unsynced blocks read as zeros."""
    whole = pickle.dumps(SETTINGS, 1)
    for length in range(0, len(whole), 7):
        filler = (b"\0" if lost == "zeros" else b"\xff") * (len(whole) - length)
        assert not is_whole(whole[:length] + filler, tmp_path)


class Bomb:
    """A pickle that, when loaded, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_pickle_is_never_executed(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "executed"
    text = pickle.dumps({"members": Bomb(trap)}, protocol)
    assert is_whole(text, tmp_path), "it is whole: Mailman's own loading is Mailman's affair"
    assert not trap.exists()
    pickle.loads(text)
    assert trap.exists(), "the trap does not work, so the test shows nothing"


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_rubbish_is_torn_or_whole_but_no_error(content: bytes) -> None:
    assert half_saves.is_whole(_File(content), go_on) in (True, False)


class _File(io.BytesIO):
    """A file in memory with a descriptor to ask for its size."""

    def fileno(self) -> int:
        if not hasattr(self, "_descriptor"):
            self._descriptor = os.memfd_create("x")
            os.write(self._descriptor, self.getvalue())
        return self._descriptor

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def timed_out() -> bool:
    return False


def bounded(path: Path, seconds: float, asked: Callable[[], bool] = go_on) -> bool:
    began = time.monotonic()
    with open(path, "rb") as file:
        whole = half_saves.is_whole(file, asked)
    assert time.monotonic() - began < seconds
    return whole


@pytest.mark.parametrize("head", [
    b"", b"N" * 10, b"]", b"\x8e" + (1 << 29).to_bytes(8, "little"),
    b"T" + (1 << 28).to_bytes(4, "little"), b"V", b"S'", b"I", b"L",
], ids=["zeros", "nones", "list", "bytes8", "string", "unicode line", "string line", "int", "long"])
@pytest.mark.parametrize("size", [1 << 30, 200 << 20])
def test_sparse_giant_is_torn_at_once_and_not_read_into_memory(
    tmp_path: Path, head: bytes, size: int
) -> None:
    path = tmp_path / NAME
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
    assert not bounded(path, 3.0)


@pytest.mark.parametrize("code", [b"I", b"L", b"F", b"g", b"p"])
def test_number_of_a_million_digits_is_torn_at_once_on_every_python(
    tmp_path: Path, code: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 3.11 int() took hours for it, without `go_on` ever being asked."""
    if hasattr(sys, "set_int_max_str_digits"):
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
    try:
        path = tmp_path / NAME
        path.write_bytes(code + b"9" * 1_000_000 + b"\n.")
        assert not bounded(path, 1.0)
    finally:
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(limit)


def test_long_strings_of_a_real_list_are_no_reason_to_call_it_torn(tmp_path: Path) -> None:
    for protocol in (0, 1, 2):
        text = pickle.dumps({"digest_footer": "x" * 3_000_000, "n": 10**400}, protocol)
        assert is_whole(text, tmp_path)


def test_walk_that_the_end_of_the_time_breaks_off_calls_nothing_torn(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"N0" * 5_000_000 + b"N.")
    asked: list[int] = []

    def until_asked_three_times() -> bool:
        asked.append(1)
        return len(asked) < 3

    began = time.monotonic()
    with pytest.raises(half_saves.OutOfTime), open(path, "rb") as file:
        half_saves.is_whole(file, until_asked_three_times)
    assert len(asked) == 3 and time.monotonic() - began < 2.0


def test_read_error_is_an_error_and_calls_nothing_torn(tmp_path: Path) -> None:
    """As of a soft mount whose server does not answer."""
    path = tmp_path / NAME
    path.write_bytes(pickle.dumps(SETTINGS, 1))

    class Unanswered(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            raise TimeoutError("Connection timed out")

    with pytest.raises(TimeoutError), Unanswered(io.FileIO(path)) as file:
        half_saves.is_whole(file, go_on)


@pytest.mark.parametrize("what", ["fifo", "directory", "empty"])
def test_what_is_no_file_or_empty_is_torn(tmp_path: Path, what: str) -> None:
    path = tmp_path / NAME
    if what == "fifo":
        os.mkfifo(path)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "r+b", buffering=0) as file:
            assert not half_saves.is_whole(file, go_on)
    elif what == "directory":
        with io.FileIO(os.memfd_create("x"), "r+") as file:
            assert not half_saves.is_whole(file, go_on)  # type: ignore[arg-type]
    else:
        path.write_bytes(b"")
        assert not bounded(path, 1.0)


# -- by name

hosts = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}(\.[a-z0-9-]{1,8}){0,3}", fullmatch=True)


@given(hosts, st.integers(1, GREATEST_PID))
def test_writer_is_read_from_the_name_with_every_dot_in_the_host(host: str, pid: int) -> None:
    assert half_saves.writer_of(f"config.pck.tmp.{host}.{pid}") == Owner(host, pid)


@pytest.mark.parametrize("name", [
    "config.pck", "config.pck.last", "config.pck.tmp", "config.pck.tmp.", "config.pck.tmp.n1",
    "config.pck.tmp.5", "config.pck.tmp..5", "config.pck.tmp.n1.", "config.pck.tmp.n1.x",
    "config.pck.tmp.n1.0", "config.pck.tmp.n1.05", "config.pck.tmp.n1.-5", "config.pck.tmp.n 1.5",
    "config.pck.tmp.n1.99999999", "config.pck.tmp.\x1b.5", "config.pck.tmp.\udcff.5",
    "request.pck.tmp.n1.5", "pending.pck.tmp.5.123", "xconfig.pck.tmp.n1.5", "",
])
def test_other_names_are_nobodys(name: str) -> None:
    assert half_saves.writer_of(name) is None


@given(st.text(max_size=60))
def test_no_name_raises(name: str) -> None:
    for text in (name, f"config.pck.tmp.{name}", f"config.pck.tmp.n1.{name}"):
        writer = half_saves.writer_of(text)
        assert writer is None or 0 < writer.pid <= GREATEST_PID


def test_saves_are_found_in_lists_and_in_lists_of_virtual_hosts(tmp_path: Path) -> None:
    for where, name in (
        ("alpha", NAME), ("beta", NAME), ("lists.example.org/gamma", NAME),
        ("alpha", "config.pck.tmp.n2.5"), ("lists.example.org/delta", "config.pck"),
    ):
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        (tmp_path / where / name).write_bytes(b"x")
    (tmp_path / "beta" / "config.pck").write_bytes(b"x")
    found = {(one.list_name, one.name, one.writer, one.has_config)
             for one in half_saves.find(str(tmp_path))}
    assert found == {
        ("alpha", NAME, WRITER, False), ("alpha", "config.pck.tmp.n2.5", Owner("n2", 5), False),
        ("beta", NAME, WRITER, True), ("gamma@lists.example.org", NAME, WRITER, False),
    }
    for one in half_saves.find(str(tmp_path)):
        assert os.path.exists(os.path.join(one.directory, one.name))


def test_links_are_not_followed_and_odd_names_hold_nothing_up(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "list").mkdir(parents=True)
    (elsewhere / "list" / NAME).write_bytes(b"x")
    lists = tmp_path / "lists"
    (lists / "real").mkdir(parents=True)
    (lists / "linked").symlink_to(elsewhere / "list")
    (lists / "real" / "linked").symlink_to(elsewhere)
    (lists / "real" / "loop").symlink_to(lists)
    os.mkfifo(lists / "fifo")
    os.mkfifo(lists / "real" / "config.pck.tmp.n1.6")
    (lists / "a file").write_bytes(b"x")
    (lists / os.fsdecode(b"\xff\n\x1b")).mkdir()
    closed = lists / "closed"
    closed.mkdir(mode=0o000)
    assert [one.name for one in half_saves.find(str(lists))] == ["config.pck.tmp.n1.6"]


def test_directory_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        list(half_saves.find("/nonexistent/lists"))


# -- judging

@pytest.mark.parametrize("dead, has_config, newest, whole, decision", [
    (False, False, True, True, LEAVE), (False, False, True, False, LEAVE),
    (False, False, False, True, LEAVE), (False, True, True, True, LEAVE),
    (False, True, True, False, LEAVE), (True, False, True, True, FINISH),
    (True, False, True, False, PUT_ASIDE), (True, False, False, True, PUT_ASIDE),
    (True, False, False, False, PUT_ASIDE), (True, True, True, True, PUT_ASIDE),
    (True, True, True, False, PUT_ASIDE), (True, True, False, True, PUT_ASIDE),
])
def test_every_case_has_its_decision(
    dead: bool, has_config: bool, newest: bool, whole: bool, decision: str
) -> None:
    save = HalfSave("/lists/x", "x", NAME, WRITER, has_config)
    assert half_saves.judge(save, dead, newest, whole) == decision


@pytest.mark.parametrize("last, newest", [(None, True), (-1, True), (0, True), (1, False)])
def test_save_is_the_newest_state_only_when_it_is_no_older_than_the_last_one(
    a_list: tuple[int, HalfSave], tmp_path: Path, last: int | None, newest: bool
) -> None:
    """Written in the same second, as a file system of whole seconds has it, it is the newer: the
    dead writer still had the list's lock."""
    directory, _ = a_list
    if last is not None:
        (tmp_path / "config.pck.last").write_bytes(b"the state before")
        written_ns = (tmp_path / NAME).stat().st_mtime_ns + last
        os.utime(tmp_path / "config.pck.last", ns=(written_ns, written_ns))
    assert half_saves.is_newest(directory, (tmp_path / NAME).stat().st_mtime_ns) == newest


def test_configuration_is_there_whatever_has_its_name(
    a_list: tuple[int, HalfSave], tmp_path: Path
) -> None:
    directory, _ = a_list
    assert not half_saves.has_config(directory)
    (tmp_path / "config.pck").symlink_to(tmp_path / "nothing")
    assert half_saves.has_config(directory)


# -- finishing

@pytest.fixture
def a_list(tmp_path: Path) -> Iterator[tuple[int, HalfSave]]:
    """The directory of a list with a half-finished save, open."""
    (tmp_path / NAME).write_bytes(b"the newest state")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor, HalfSave(str(tmp_path), "x", NAME, WRITER, False)
    os.close(descriptor)


def test_finished_save_is_the_configuration(a_list: tuple[int, HalfSave], tmp_path: Path) -> None:
    assert half_saves.finish(*a_list)
    assert os.listdir(tmp_path) == ["config.pck"]
    assert (tmp_path / "config.pck").read_bytes() == b"the newest state"


@pytest.mark.parametrize("there", ["file", "link", "dangling link", "directory", "fifo"])
def test_finish_never_overwrites_what_is_there_after_all(
    a_list: tuple[int, HalfSave], tmp_path: Path, there: str
) -> None:
    config, other = tmp_path / "config.pck", tmp_path / "other"
    other.write_bytes(b"other")
    {
        "file": lambda: config.write_bytes(b"precious"), "link": lambda: config.symlink_to(other),
        "dangling link": lambda: config.symlink_to(tmp_path / "nothing"),
        "directory": config.mkdir, "fifo": lambda: os.mkfifo(config),
    }[there]()
    before = os.lstat(config)
    assert not half_saves.finish(*a_list)
    assert os.lstat(config).st_ino == before.st_ino and other.read_bytes() == b"other"
    assert (tmp_path / NAME).read_bytes() == b"the newest state"
    assert not (tmp_path / "nothing").exists()


def test_link_in_the_saves_place_is_not_followed(
    a_list: tuple[int, HalfSave], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(victim)
    half_saves.finish(*a_list)
    assert victim.stat().st_nlink == 1 and victim.read_bytes() == b"precious"


def test_save_that_went_away_is_an_error(a_list: tuple[int, HalfSave], tmp_path: Path) -> None:
    (tmp_path / NAME).unlink()
    with pytest.raises(FileNotFoundError):
        half_saves.finish(*a_list)
    assert os.listdir(tmp_path) == []
