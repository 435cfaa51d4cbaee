"""Which queue and list a shunted message came from, also where the file is made to do harm."""

from __future__ import annotations

import io
import os
import pickle
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.queues import shunted
from mailman_ha.queues.shunted import Origin


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
