"""Mailman's own answers, its programs' first lines, and command lines of whatever runs."""

from __future__ import annotations

import json
import os
import tempfile

from hypothesis import strategies as st
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.evidence.process_table import Process
from mailman_ha.mailman import asking, processes
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location

from tests.fuzz.surface import Surface, as_bytes, mutated

ANSWER = json.dumps({
    "lock_dir": "/l", "queue_dir": "/q", "lists_dir": "/i", "var_dir": "/v", "pid_file": "/p",
    "bin_dir": "/b", "log_dir": "/g", "master_lock": "/l/master.lck", "release": "3.3.10",
    "config": "/c", "queues": {"in": "/q/in"}, "runners": [["in", 4]], "instances": [["in", 4]],
    "user": "list", "group": "list",
}).encode()
_WORDS = (
    b'"runners": ', b'"queues": ', b"null", b"true", b"[]", b"{}", b'[["in", 4096]]', b'["ab"]',
    b"\\ud800", b"\\u0000", b"\\n", b"\\u001b[2J", b"1e999", b"-1", b"NaN", b"Infinity", b"9" * 30,
    b"9" * 5000, b"../..", b'"', b"[" * 50,
)
_PLACE = Location("3", ("/usr/lib/mailman3/bin",), config="/etc/mailman.cfg")
_PLACE_21 = Location("2.1", ("/usr/lib/mailman/bin",), prefix="/usr/lib/mailman")


def an_answer(content: bytes) -> None:
    """Mailman's configuration, every text of which can be handed to the system and kept in a file
    of lines; or one line on what is wrong."""
    text = content.decode("utf-8", "replace")
    try:
        answer = asking.parse(text)
    except asking.CannotAsk as error:
        assert str(error).isprintable() and len(str(error)) < 1500
        return
    for path in (answer.lock_dir, answer.queue_dir, answer.master_lock, answer.var_dir):
        assert path.startswith("/") and os.path.normpath(path) == path
    names = [name for pair in (answer.runners, answer.instances) for name, _ in pair]
    for one in (*names, *(part for pair in answer.queues for part in pair), answer.user):
        os.fsencode(one)
        assert "\0" not in one and "\n" not in one
    site = Installation(_PLACE, answer, User("list", 1, 1), answer.lock_dir)
    assert len(site.expected_runners()) < 100_000
    for name in names:
        site.queue_directory(name)
    site.runners_by_queue()


def first_lines(content: bytes) -> None:
    """The interpreter in a program's first line."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(content)
        file.flush()
        try:
            words = asking.interpreter(file.name)
        except asking.CannotAsk as error:
            assert str(error)
            return
    assert words and all("\n" not in word for word in words)


def _process(arguments: tuple[str, ...], pid: int) -> Process:
    return Process(ProcessStat(pid, "S", pid // 2, 1, 1, 5), arguments, 0, "/v")


def command_lines(table: list[list[str]]) -> None:
    """Every process has one role or none, and a table of any size is sorted quickly."""
    for arguments in table:
        for place in (_PLACE, _PLACE_21):
            role = processes.classify(arguments, place)
            if role is not None:
                assert processes.may_be_daemon(arguments)
                assert 0 <= role.slice < 10**6 and 0 <= role.slices < 10**6
        processes.classify_title(arguments)
        processes.looks_like_mailman(arguments, _PLACE_21)
    found = processes.select(
        [_process(tuple(one), pid) for pid, one in enumerate(table, 2)], (_PLACE, _PLACE_21), None,
        "/v", processes.RememberedMaster(1, 1, 0),
    )
    assert len(found.all) <= len(table)
    for one in found.all:
        assert one.describe()


_ARGUMENTS = (
    "/usr/bin/python3", "-E", "-W", "-X", "/usr/lib/mailman3/bin/runner",
    "/usr/lib/mailman3/bin/master",
    "/usr/lib/mailman/bin/qrunner", "/usr/lib/mailman/bin/mailmanctl", "start", "-C",
    "/etc/mailman.cfg", "--config=", "--config=/etc/mailman.cfg", "--runner=in:0:4",
    "--runner=in:999999:٣", "--runner=", "--runner=::", "-r", "--runner", "in:1:2",
    "mailman: master", "mailman: runner [in:0:4]", "gunicorn: ", "mailman: runner [", "", "\n",
    "\udcff",
    "/", "//", "..", "\x1b[2J", "x" * 65_536,
)
_tables = st.lists(
    st.lists(st.one_of(st.sampled_from(_ARGUMENTS), st.text(max_size=20)), max_size=7), max_size=6,
)

SURFACES = (
    Surface("mailmans-answer", st.one_of(
        mutated(ANSWER, ANSWER.replace(b'["in", 4]', b'["\\ud800", 4]', 1), words=_WORDS),
        st.just(b"[" * 100_000),
        st.just(ANSWER.replace(b'"runners": [["in", 4]]', b'"runners": [%s]' % b",".join(
            [b'["in", 4096]'] * 50_000))),
    ), an_answer, decode=as_bytes, seeds=(ANSWER,), words=_WORDS),
    Surface("interpreters", mutated(b"#!/usr/bin/python3 -E\nx", words=(b"\0", b"\n", b"#!",
                                                                        b"\r")),
            first_lines, decode=as_bytes, seeds=(b"#!/usr/bin/python3 -S\n",), count=200),
    Surface("command-lines", _tables, command_lines, count=300),
    Surface("long-tables", st.just([["/usr/bin/python3", "/usr/lib/mailman/bin/qrunner"]] * 8000),
            command_lines, count=1),
)
