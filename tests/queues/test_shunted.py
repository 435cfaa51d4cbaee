"""Which queue and list a shunted message came from, also where the file is made to do harm."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.queues import shunted
from mailman_ha.queues.shunted import Origin

from tests.fuzz.surface import bounded


def entry(metadata: object, protocol: int = pickle.HIGHEST_PROTOCOL) -> io.BytesIO:
    message = Message()
    message["Subject"] = "pipeline"
    message.set_payload("text\n" * 100)
    return io.BytesIO(pickle.dumps(message, protocol) + pickle.dumps(metadata, protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_queue_of_a_shunted_entry_is_read_from_its_metadata(protocol: int) -> None:
    metadata = {"listid": "in", "version": 3, "whichq": "in"}
    assert shunted.origin(entry(metadata, protocol)) == Origin("in", "in")


@pytest.mark.parametrize("metadata", [{}, {"whichq": 7}, ["whichq", "in"], "whichq", None])
def test_entry_that_does_not_say_its_queue_has_none(metadata: object) -> None:
    assert shunted.origin(entry(metadata)).queue is None


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_code_in_a_shunted_entry_is_not_run(tmp_path: Path) -> None:
    harm = Harm(str(tmp_path / "harm"))
    file = io.BytesIO(pickle.dumps(harm) + pickle.dumps({"harm": harm, "whichq": "out"}))
    assert shunted.origin(file) == Origin("out")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(harm))
    assert (tmp_path / "harm").exists(), "the file was harmless in the first place"


@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_no_entry(garbage: bytes, after_a_message: bool) -> None:
    before = pickle.dumps("message") if after_a_message else b""
    assert shunted.origin(io.BytesIO(before + garbage)) == Origin()


# Entries that are made to hold the reader up, behind a message that is none.
BEFORE = b"N."
#: {((((), ()), ((), ())), ...): 1}, forty deep: the hash of the key takes 2^40 steps.
ENDLESS_HASH = b"}()" + b"2\x86" * 40 + b"K\x01s."
#: Puts None into place 2^26 of a memo of as many places.
GREAT_MEMO = b"Nr\x00\x00\x00\x04."


def test_key_whose_hash_never_ends_holds_nobody_up() -> None:
    with bounded():
        assert shunted.origin(io.BytesIO(BEFORE + ENDLESS_HASH)) == Origin()


def test_number_of_a_million_digits_and_a_million_lists_hold_nobody_up() -> None:
    with bounded():
        for metadata in (b"I" + b"9" * 1_000_000 + b"\n.", b"]" * 5_000_000 + b"."):
            assert shunted.origin(io.BytesIO(BEFORE + metadata)) == Origin()


@pytest.mark.parametrize("metadata", [GREAT_MEMO, b"\x8d" + (1 << 40).to_bytes(8,
                                                                               "little") + b"x."],
                         ids=["memo", "string"])
def test_ten_bytes_do_not_fill_the_memory(metadata: bytes) -> None:
    code = (
        "import io, sys; sys.path.insert(0, sys.argv[1]); "
        "from mailman_ha.queues import shunted; "
        "shunted.origin(io.BytesIO(bytes.fromhex(sys.argv[2]))); "
        # Its own peak: getrusage(2) would tell the parent's size, too, from before the exec.
        "print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    library = str(Path(shunted.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, library, (BEFORE + metadata).hex()],
        capture_output=True, text=True, check=True,
    )
    assert int(done.stdout.split()[1]) < 100_000, "kB"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_queue_is_found_where_its_name_stands_there_before(protocol: int) -> None:
    """A pickle writes the same text once, and then says where it was."""
    name = "in"
    for metadata in ({"a": name, "b": "whichq", "whichq": name}, {"whichq": "".join(("i", "n"))}):
        assert shunted.origin(entry(metadata, protocol)) == Origin("in")


def test_directory_that_is_called_like_a_shunted_entry_is_none(tmp_path: Path) -> None:
    for make in (os.mkdir, os.mkfifo):
        path = str(tmp_path / make.__name__)
        make(path)
        before = os.listdir("/proc/self/fd")
        assert shunted.origin_of(path) == Origin()
        assert len(os.listdir("/proc/self/fd")) == len(before), "a descriptor was left open"


def test_message_that_another_node_brought_back_meanwhile_is_no_error(tmp_path: Path) -> None:
    assert not shunted.put_back(str(tmp_path / "gone"), str(tmp_path), "name")


def test_queue_that_is_gone_is_told(tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.touch()
    with pytest.raises(FileNotFoundError):
        shunted.put_back(str(message), str(tmp_path / "no-queue"), "name")
    assert message.exists()
