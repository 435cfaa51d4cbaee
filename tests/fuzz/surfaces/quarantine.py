"""What an attacker who is Mailman's user, or in its group, puts into the quarantine directory:
notes of releases that never were, lines of evidence, links and directories in the place of our
files."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from mailman_ha.cli import explain
from mailman_ha.cli.target import Resources, Target
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.locks.release import EVIDENCE_LOG, GUARD

from tests.fuzz.surface import Surface, as_bytes, is_harmless, mutated
from tests.fuzz.surfaces.lock_directory import DEAD, files, hostile, living_mailman, may_live
from tests.fuzz.watch import Watch, state_of
from tests.locks.share import HERE, Share

_NAMES = (
    "test.lock", "live.lock", "dead.lock", "..", ".", "", "mailman-ha.quarantine", "../outside",
    "../outside/victim.lock", "/etc/passwd", "\ud800", "\udcff", "\0", "a\nb", "x" * 300,
    EVIDENCE_LOG,
    GUARD, "release.lock", "unfinished.INODE", 5, None, [], {}, True, f"live.lock.{HERE}.1",
)
_NUMBERS = ("INODE", "LIVE", 0, -1, 2, 2**70, 1.5, "5", None, [], True, 1e308)
_DEEP: Any = []
for _ in range(400):
    _DEEP = [_DEEP]
_VALUES = (None, {}, [], "", 5, _DEEP, {"a": _DEEP}, {"time": "\x1b[2J"}, "x" * 1000,
           {"released": 5})
_notes = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(_NAMES), "inode": st.sampled_from(_NUMBERS),
        "prefix": st.one_of(st.sampled_from(("PREFIX", "", ".", "..", "evidence.", "x" * 254,
                                             "x" * 260)),
                            st.sampled_from(_NAMES)),
        "claims": st.one_of(st.lists(st.sampled_from(_NAMES), max_size=3),
                            st.sampled_from(_VALUES)),
        "links": st.sampled_from((1, 2, *_NUMBERS)),
        "content": st.sampled_from(("CONTENT", "", "zz", "00" * 50, 5, None, [])),
        "expires_ns": st.one_of(st.lists(st.sampled_from(("EXPIRES", *_NUMBERS)), max_size=3),
                                st.sampled_from(_VALUES)),
        "line": st.sampled_from(_VALUES),
    },
)
_whole_notes = st.fixed_dictionaries({
    "name": st.sampled_from(_NAMES), "inode": st.sampled_from(("INODE", "LIVE")),
    "prefix": st.sampled_from(("PREFIX", "..", ".", "evidence.", "")),
    "claims": st.lists(st.sampled_from(_NAMES), max_size=2),
    "links": st.sampled_from((2, 1)), "content": st.just("CONTENT"),
    "expires_ns": st.just([0, "EXPIRES"]), "line": st.sampled_from(({}, {"a": _DEEP})),
})
_NOTE = (
    b'{"name": "live.lock", "inode": INODE, "prefix": "PREFIX", "claims": [], "links": 2, '
    b'"content": "CONTENT", "expires_ns": [1, EXPIRES], "line": {}}'
)
_WORDS = (b"INODE", b"LIVE", b"CONTENT", b"EXPIRES", b"PREFIX", b"null", b"[]", b"{}", b"NaN",
          b"1e999",
          b"9" * 5000, b"[" * 990, b'"\\ud800"', b'"\\u0000"', b'".."', b"\xff")

_contents = st.one_of(
    st.one_of(_notes, _whole_notes).map(lambda note: json.dumps(note).encode()),
    mutated(_NOTE, words=_WORDS),
    st.sampled_from((b"", b"[" * 100_000, b'{"name":' + b"9" * 400_000 + b"}", b"\0" * 5000)),
)
_planted = st.tuples(
    st.sampled_from(("note", "note", "note", "evidence", "guard", "kept")),
    st.sampled_from(("file", "file", "file", "roots", "others", "symlink", "directory", "fifo")),
    st.sampled_from(("INODE", "LIVE", "0", "", "\udcff", "x")),
    _contents,
)


def _put(share: Share, outside: Path, planted: tuple[str, str, str, bytes], filled: Any) -> None:
    what, kind, number, content = planted
    name = {"note": f"unfinished.{filled(number)}", "evidence": EVIDENCE_LOG, "guard": GUARD,
            "kept": "20200101T000000Z.5.test.lock"}[what]
    path = share.quarantine / name
    if os.path.lexists(path):
        return
    if kind == "symlink":
        path.symlink_to(outside / "victim.lock")
    elif kind == "directory":
        path.mkdir()
        (path / "x").write_text("x")
    elif kind == "fifo":
        os.mkfifo(path, 0o666)
    else:
        path.write_bytes(os.fsencode(filled(os.fsdecode(content))))
        if kind == "file":
            os.chown(path, share.user.uid, share.user.gid)
        elif kind == "others":
            os.chown(path, 65534, 65534)
    if what == "guard" and kind == "file":
        os.utime(path, (time.time() - 100,) * 2)


def a_quarantine(example: list[tuple[str, str, str, bytes]]) -> None:
    """Whatever lies in quarantine, a sweep raises nothing, touches nothing outside the lock
    directory, and takes no lock of the living away that nobody had pushed."""
    with hostile(FORMAT_21) as (share, outside):
        live = share.lock("live.lock", pid=living_mailman())
        dead = share.lock("dead.lock", pid=DEAD)
        share.quarantine.mkdir(mode=0o750)
        os.chown(share.quarantine, share.user.uid, share.user.gid)
        inodes = os.stat(dead.lock), os.stat(live.lock)

        def filled(text: str) -> str:
            for word, value in (
                ("INODE", inodes[0].st_ino), ("LIVE", inodes[1].st_ino),
                ("EXPIRES", inodes[0].st_mtime_ns), ("PREFIX",
                                                     f"20260101T000000Z.{inodes[0].st_ino}."),
                ("CONTENT", dead.claim.read_bytes().hex() if dead.claim.exists() else ""),
            ):
                text = text.replace(f'"{word}"', str(value) if word not in ("CONTENT", "PREFIX")
                                    else f'"{value}"').replace(word, str(value))
            return text

        for planted in example:
            _put(share, outside, planted, filled)
        there, before = state_of(outside), files(share)
        with Watch(share.path, (share.state, share.top / "log")):
            report = share.sweep(1.0)
        assert state_of(outside) == there
        for inode, (names, _) in before.items():
            if may_live(names):
                assert inode in files(share), f"{names} was taken away"
        for text in (*report.problems, *(one.sentence() for one in report.kept)):
            assert is_harmless(text, 6000), text
        assert not any("evidence" in name for name in share.names()), share.names()
        assert os.geteuid() == 0 or os.getuid() != 0


def evidence_told(content: bytes) -> None:
    """mailman-ha explain on a lock that is gone: by an evidence log that anybody may have
    written."""
    with hostile(FORMAT_21) as (share, outside):
        share.quarantine.mkdir(mode=0o750)
        os.chown(share.quarantine, share.user.uid, share.user.gid)
        (share.quarantine / EVIDENCE_LOG).write_bytes(content)
        os.chown(share.quarantine / EVIDENCE_LOG, share.user.uid, share.user.gid)
        target = Target(share.call(), share.installation, "found", "", Resources())
        there = state_of(outside)
        with Watch(share.path, (share.state,)):
            past = explain._released("test", target)
        assert state_of(outside) == there
        if past is None:
            return
        for as_json in (True, False):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                explain._tell_past(argparse.Namespace(json=as_json), target, "test", past)
            for line in out.getvalue().split("\n"):
                assert is_harmless(line)
            assert len(out.getvalue()) < 20_000
            if as_json:
                assert json.loads(out.getvalue())["released"]


_LINE = (
    b'{"time": "2026-01-01T00:00:00Z", "released": "test.lock", "state": "dead here", '
    b'"why": "gone", '
    b'"pid": 5, "host": "h", "moved_to": ["x"]}\n'
)
_LOG_WORDS = (b'"released": "test"', b"\\u001b[2J", b"\\ud800", b"\\n", b"[" * 500 + b"]" * 500,
              b"{}",
              b"1e999", b"NaN", b"9" * 4000, b"9" * 5000, b"\n", b"\r", b"\x0c", b"\x1c", b"\xff",
              b"null")
_LOGS = tuple(
    b'{"released": "test.lock", "why": ' + value + b"}\n"
    for value in (b"[" * 940 + b"]" * 940, b'"' + b"\\u00e9" * 600_000 + b'"', b"1e400",
                  b'"' + b"\\u001b" * 1000 + b'"')
) + ((b"[" * 980 + b"\n") * 4000, b'{"released": 5}\n' * 200_000)

SURFACES = (
    Surface("quarantines", st.lists(_planted, min_size=1, max_size=3), a_quarantine, count=100,
            bound=2.0),
    Surface("evidence-logs", mutated(_LINE, *_LOGS[:1], words=_LOG_WORDS), evidence_told,
            decode=as_bytes,
            seeds=(_LINE,), words=_LOG_WORDS, count=100),
    Surface("long-evidence-logs", st.sampled_from(_LOGS), evidence_told, count=8,
            bound=3.0),
)
