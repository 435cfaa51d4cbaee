"""Queue directories and list directories: entry names, shunted messages, half-finished saves."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tempfile
from email.message import Message

from hypothesis import strategies as st
from mailman_ha.lists import half_saves
from mailman_ha.locks.grammar import GREATEST_PID
from mailman_ha.queues import entries, shunted, slices

from tests.fuzz.surface import Surface, as_bytes, is_harmless, mutated
from tests.fuzz.surfaces import lock_names
from tests.fuzz.watch import Watch

_NAME_WORDS = (
    "1700000000", "1700000000.123456", "17e8", "9" * 13, "0", "-1", ".", "+", "a" * 40, "0" * 40,
    "f" * 40, "F" * 40, "٣" * 40, ".pck", ".bak", ".psv", ".tmp", ".pck.tmp", "_", " ", "\n", "nan",
    "1_0", "²",
)
_queue_names = st.one_of(
    st.lists(st.sampled_from(_NAME_WORDS), max_size=7).map("".join),
    st.builds("{}{}+{}.{}".format, st.sampled_from(("1700000000", "5", "999999999999")),
              st.sampled_from(("", ".5", ".", "." + "9" * 190)),
              st.integers(0, 2**160 - 1).map("{:040x}".format), st.sampled_from(("pck", "bak"))),
    st.builds("1700000000.5+{:x}.pck".format, st.integers(0, 2**168)), lock_names.names,
)


def entry_names(names: list[str]) -> None:
    """Each name is an entry's or none, and counting them in one go finds the same as one by one."""
    parsed = [entries.parse(name) for name in names]
    for name, entry in zip(names, parsed):
        if entry is not None:
            assert 0 <= entry.since <= 10**12 and 0 <= entry.digest < 2**160
            assert name.endswith(f"+{entry.digest:040x}{entry.extension}")
    known = [entry for entry in parsed if entry is not None]
    for count in (1, 3, 4):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            for name in names:
                if len(os.fsencode(name)) < 256 and name not in ("", ".", "..") and "/" not in name:
                    os.close(os.open(os.path.join(directory, name), os.O_CREAT, 0o600))
            there = [entry for entry in map(entries.parse, os.listdir(directory)) if entry]
            for number, backlog in enumerate(entries.backlogs(directory, count)):
                mine = [one for one in there if slices.slice_of(one.digest, count) == number]
                assert backlog.waiting == sum(one.extension == ".pck" for one in mine)
                assert backlog.in_work == sum(one.extension == ".bak" for one in mine)
                assert backlog.oldest == min((one.since for one in mine), default=None)
    assert len(known) <= len(names)


def _message() -> bytes:
    message = Message()
    message["Subject"] = "whichq"
    message.set_payload("text\n" * 10)
    return pickle.dumps(message, 4)


#: A tuple of itself twice, forty times: its hash as a key takes 2^40 steps.
NESTED = b"}(" + b")" + b"2\x86" * 40 + b"K\x01u."
GREAT_MEMO = b"Nr\xff\xff\xff\x0f."
GREAT_STRING = b"\x8d" + struct.pack("<Q", 1 << 40) + b"x."
GREAT_BYTES = b"\x96" + struct.pack("<Q", 1 << 40) + b"x."
GREAT_NUMBER = b"I" + b"9" * 8_000 + b"\n."
NESTED_LISTS = b"]" * 5_000 + b"a" * 4_999 + b"."
LONG = b"]" * 2_000_000 + b"."
MESSAGE = _message()
PICKLES = (
    MESSAGE + pickle.dumps({"whichq": "in", "listid": "a.example.org"}, 4),
    MESSAGE + pickle.dumps({"a": "in", "whichq": "in"}, 0),
    b"N." + NESTED, b"N." + GREAT_STRING, b"N." + GREAT_MEMO, b"N." + GREAT_BYTES,
    b"N." + GREAT_NUMBER, NESTED_LISTS + b"N.",
    b"N." + b"}" + b"\x8c\x06whichq" + NESTED[:-1] + b"s.",
    b"cos\nsystem\n(S'id'\ntR.N.", b"(i__main__\nx\n.N.", b"P1\n.Q.", b"\x80\xffN.",
)
OPCODES = tuple(bytes([code]) for code in b"(.012FIJKLMNPQRSTUVX[]abcdeghijlopqrstu})"
                b"\x80\x81\x82\x85\x86\x87"
                b"\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98")


_LONG = (LONG, b"N." + LONG, b"N.I" + b"9" * 1_000_000 + b"\n.")


def shunted_entry(content: bytes) -> None:
    """The queue and the list, or none; nothing is imported, no object made, no memory filled."""
    with Watch():
        found = shunted.origin(io.BytesIO(content))
    assert all(one is None or isinstance(one, str) for one in (found.queue, found.list_id))


def half_save(content: bytes) -> None:
    """Whole or torn; nothing of it is executed."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        asked = []

        def go_on() -> bool:
            asked.append(None)
            return len(asked) < 1000

        with Watch():
            whole = half_saves.is_whole(file, go_on)
    assert not whole or content.endswith(b".")


def half_save_names(name: str) -> None:
    """A half-finished save names one host and one process, or is none."""
    for text in (name, f"config.pck.tmp.{name}"):
        writer = half_saves.writer_of(text)
        if writer is not None:
            assert text == f"config.pck.tmp.{writer.host}.{writer.pid}"
            assert 0 < writer.pid <= GREATEST_PID and is_harmless(writer.host, 255)


SURFACES = (
    Surface("queue-entries", st.lists(_queue_names, max_size=12), entry_names, count=150),
    Surface("shunted-messages", st.one_of(mutated(*PICKLES, words=OPCODES),
                                          st.sampled_from(_LONG)), shunted_entry, decode=as_bytes,
            seeds=PICKLES, words=OPCODES, count=500),
    Surface("half-saves", mutated(*PICKLES, words=OPCODES), half_save, decode=as_bytes,
            seeds=PICKLES,
            words=OPCODES, count=300),
    Surface("half-save-names", lock_names.names, half_save_names, lock_names.from_bytes,
            lock_names.SEEDS, count=200),
)
