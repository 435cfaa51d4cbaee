"""What the agents remember in HA_RSCTMP, as a crash, another version or a clumsy hand may leave
it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from mailman_ha.agents import printed_output, state_lines
from mailman_ha.agents.list_lock_janitor import quick
from mailman_ha.agents.list_lock_janitor import state_file as duties
from mailman_ha.agents.mailman_master import quick as master_quick
from mailman_ha.agents.mailman_master import state_file as masters
from mailman_ha.agents.qfiles_slice import quick as slice_quick
from mailman_ha.agents.qfiles_slice import state_file as slice_states
from mailman_ha.evidence import clocks, process_identity
from mailman_ha.mailman import asking
from mailman_ha.mailman.location import Location

from tests.fuzz.surface import Surface, as_bytes, is_harmless, look_lightly, mutated
from tests.fuzz.surfaces.mailman import ANSWER

_PID = os.getpid()
_STATE = (
    f"pid={_PID}\nstarted_ticks=5\nuid=0\ngid=0\nclaim=x.lock.h.5.1\nclaim_inode=7\n"
    "lock_dir=/nonexistent\nqueue=in\nrunner=in\nslice=0\nslices=4\nformat=2.1\n"
    "master_lock=master-qrunner\nown_hosts=n1 n1.example.org\n"
).encode()
_NOBODY = _STATE.replace(b"uid=0", b"uid=4294967295")
_NO_GROUP = _STATE.replace(b"gid=0", b"gid=-1")
_CLOCK = b"7f2c-boot 1700000000.123 1700000001.5\n"
_WORDS = (
    b"pid=", b"uid=", b"=", b"\n", b"-1", b"-", b"9" * 20, b"9" * 5000, b"4294967295", b"nan",
    b"inf",
    b"1e999", b"\xff", b"\0", b"0x10", b"1_0", b" 5 ", b"\xd9\xa3", b"..", b"/etc/passwd",
    b"lock_dir=/proc/self/root",
)

_READERS = (duties, masters, slice_states)
_INSTANCE = "mailman"


def a_state_file(content: bytes) -> None:
    """It is understood or taken for none; numbers are ones that the system has."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        for module in _READERS:
            path = module.path(directory, _INSTANCE)
            Path(path).write_bytes(content)
            state = module.read(path)
            if state is None:
                continue
            for name in ("uid", "gid", "pid", "claim_inode", "started_ticks"):
                number = getattr(state, name, 0)
                assert 0 <= number < 2**64, f"{name} is {number}"
            assert state.uid < 2**32 - 1 and state.gid < 2**32 - 1
            module.write(path, state)
            assert module.read(path) in (state, None)
        slice_states.read_all(directory)
        before = os.geteuid(), os.getegid(), os.getgroups()
        for one in (quick, master_quick, slice_quick):
            look_lightly(
                one.quick_monitor, {"HA_RSCTMP": directory, "OCF_RESOURCE_INSTANCE": _INSTANCE}
            )
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def a_clock(content: bytes) -> None:
    """What is remembered of the clock: finite times, or nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/clock"
        Path(path).write_bytes(content)
        known = clocks.read_history(path)
        if known is not None:
            assert math.isfinite(known.booted_at)
            assert known.stepped_at is None or math.isfinite(known.stepped_at)
        history = clocks.remember(path)
        assert history.boot_id == process_identity.boot_id()
        assert clocks.read_history(path) is not None


def a_kept_answer(content: bytes) -> None:
    """Mailman's kept answer, read back or asked for anew."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        place = Location("3", ("/nonexistent/bin",), config="/nonexistent/cfg")
        Path(asking.kept_answer_path(place, directory)).write_bytes(content)
        answer = asking.last_answer(place, directory)
        assert answer is None or answer.lock_dir.startswith("/")
        try:
            asking.ask(place, directory, 1.0, None, None)
        except asking.CannotAsk as error:
            assert str(error)


def printed(content: bytes) -> None:
    """What a daemon printed, in a sentence."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/printed"
        Path(path).write_bytes(content)
        assert is_harmless(printed_output.said(path, "it", 1), 1000)
    assert state_lines.read(f"{directory}/none") is None


_KEPT = json.dumps({
    "signature": [["/nonexistent/cfg", None], ["/nonexistent/bin/mailman", None]],
    "answer": json.loads(ANSWER),
}).encode()
_KEPT_WORDS = (b"null", b"[]", b"{}", b'"', b"[[[[", b"\\ud800", b"\\u0000", b"1e999", b"NaN",
               b"9" * 5000)
_DEEP = tuple(b'{"answer": ' + b"[" * depth + b"]" * depth + b"}" for depth in (900, 950, 980,
                                                                                100_000))

SURFACES = (
    Surface("state-files", mutated(_STATE, _NOBODY, _NO_GROUP, words=_WORDS),
            a_state_file, decode=as_bytes, seeds=(_STATE, _NOBODY, _NO_GROUP),
            words=_WORDS, count=200),
    Surface("clock-files", mutated(_CLOCK, words=_WORDS), a_clock, decode=as_bytes, seeds=(_CLOCK,),
            words=_WORDS, count=150),
    Surface("kept-answers", st.one_of(mutated(_KEPT, words=_KEPT_WORDS), st.sampled_from(_DEEP)),
            a_kept_answer, decode=as_bytes, seeds=(_KEPT, *_DEEP[:3]), words=_KEPT_WORDS,
            count=150),
    Surface("printed-output", mutated(b"Traceback\n  x\nKeyError: 'a'\n", words=_WORDS), printed,
            decode=as_bytes, seeds=(b"Traceback\n",), words=_WORDS, count=100),
)
