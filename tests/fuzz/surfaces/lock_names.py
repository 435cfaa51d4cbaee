"""Names of files in a lock directory: grammar of claims, and of the claims on slices."""

from __future__ import annotations

import os
import re

from hypothesis import strategies as st
from mailman_ha.locks import grammar
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, GREATEST_PID
from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.queues import slices

from tests.fuzz.surface import Surface, is_harmless

MASTERS = {FORMAT_21: "master-qrunner", FORMAT_3: "master.lck"}

WORDS = (
    "master-qrunner", "master.lck", "creator", "test", ".lock", ".lck", ".lock.", "mta", ".", "|",
    "..", "-", "n1", "n2", "n1.example.org", "1", "0", "5", "0012", "-1", "4194304", "4194305",
    "99999999999999999999", "٣", "²", "\n", "\x1b[2J", "\x7f", "\udcff", "\udc80", " ", "%s", ":",
    "qfiles:", "qfiles:in:0:4.lock", "config.pck.tmp.", ".nfs", "unfinished.", "release.lock",
    "mailman-ha.quarantine", "evidence.jsonl", "h" * 64, "x" * 200, "Ünï", "@", "\\", "'", '"',
    "$(",
)

#: As the kernel takes them: any bytes but / and NUL, at most 255.
names = st.one_of(
    st.builds(
        "{1}{0}{2}{0}{3}{0}{4}".format, st.sampled_from(".|"),
        st.sampled_from(("test.lock", "master-qrunner", "master.lck", "creator", "a.lock.lock")),
        st.sampled_from(("n1", "n1.example.org", "10.0.0.5", "a b", "\udcff", "", "h" * 64)),
        st.sampled_from(("1", "5", "05", "4194304", "4194305", "9999999", "-1", "٣", "")),
        st.sampled_from(("0", "1", "12", "4194305", "99999999999999999999", "")),
    ),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=10).map("".join),
    st.binary(min_size=1, max_size=255).map(os.fsdecode),
    st.text(st.sampled_from("abl.|0159-_:\n\x1b\udcff lock"), min_size=1, max_size=60),
).map(lambda name: from_bytes(os.fsencode(name)))


def from_bytes(content: bytes) -> str:
    """The name nearest to these bytes that a file can have."""
    name = content.replace(b"/", b"_").replace(b"\0", b"_")[:255]
    return os.fsdecode(b"x" + name if name in (b"", b".", b"..") else name)


#: For atheris.
SEEDS = (b"test.lock.n1.5.1", b"master-qrunner.n1.5", b"a.lock.lock.n1.5.0",
         b"master.lck|n1.x|5|12",
         b"qfiles:in:0:4.lock", b"config.pck.tmp.n1.example.org.4711")
_BYTES = tuple(os.fsencode(word) for word in WORDS)


def read(name: str) -> None:
    """Every reading of a name is of its own letters, and names a process that can be."""
    for format, master in MASTERS.items():
        grammar.is_lock_name(format, name, master)
        for lock, owners in grammar.locks_claimed_by(format, name, master):
            assert owners and name.startswith(lock) and len(lock) < len(name)
            assert owners == grammar.owners_of_claim(format, lock, name)
            for owner in owners:
                assert 0 < owner.pid <= GREATEST_PID
                assert owner.host in name and is_harmless(owner.host, 255)
                separator = "|" if format == FORMAT_3 else "."
                assert name.startswith(f"{lock}{separator}{owner.host}{separator}{owner.pid}")
    claimed = slices.of_lock_name(name)
    if claimed is not None:
        assert slices.lock_name(*claimed) == name


def _shown_again(text: str) -> bytes:
    """The bytes that `text`, as escape() writes them, stands for."""
    return re.sub(rb"\\(?:x([0-9a-f]{2})|\\)", lambda found: (
        bytes.fromhex(found[1].decode()) if found[1] else b"\\"), text.encode())


def shown(name: str) -> None:
    """Different names are shown differently, each on one line that no terminal obeys."""
    for raw in (name, os.fsencode(name)):
        text = escape(raw)
        assert is_harmless(text)
        assert _shown_again(text) == os.fsencode(name)
        assert is_harmless(escape(raw, 20), 20)
    told = one_line(f"the lock {name} is kept")
    assert told.isprintable() and one_line(told) == told


SURFACES = (
    Surface("names-of-claims", names, read, from_bytes, SEEDS, _BYTES, count=600),
    Surface("names-shown", names, shown, from_bytes, SEEDS, _BYTES, count=300),
)
