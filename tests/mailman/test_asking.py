"""Mailman's answer about itself: read where it is sound, refused with the field where it is not,
asked again when the configuration changed and only then."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.mailman import asking
from mailman_ha.mailman.asking import Answer, CannotAsk
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.record import replace

SOUND: dict[str, Any] = {
    "lock_dir": "/var/mm/locks", "queue_dir": "/var/mm/qfiles", "lists_dir": "/var/mm/lists",
    "var_dir": "/var/mm", "pid_file": "/var/mm/data/master.pid", "bin_dir": "/usr/lib/mm/bin",
    "log_dir": "/var/log/mm", "master_lock": "/var/mm/locks/master-qrunner", "release": "2.1.39",
    "config": "/usr/lib/mm/Mailman/mm_cfg.py", "user": "list", "group": "list",
    "runners": [["ArchRunner", 1], ["IncomingRunner", 4]], "instances": [["in", 4], ["out", 8]],
    "queues": {"IN": "/var/mm/qfiles/in", "OUT": "/var/mm/qfiles/out"},
}
PATHS = ("lock_dir", "queue_dir", "lists_dir", "var_dir", "pid_file", "master_lock")


def parse(**changes: Any) -> Answer:
    """Read the sound answer with some fields changed; `...` leaves one out."""
    fields = {**SOUND, **changes}
    return asking.parse(
        json.dumps({name: value for name, value in fields.items() if value is not ...})
    )


# -- the answer

def test_sound_answer_is_read() -> None:
    answer = parse()
    for name in (*PATHS, "bin_dir", "log_dir", "release", "config", "user", "group"):
        assert getattr(answer, name) == SOUND[name]
    assert answer.runners == (("ArchRunner", 1), ("IncomingRunner", 4))
    assert answer.instances == (("in", 4), ("out", 8))
    assert dict(answer.queues) == SOUND["queues"]


def test_answer_of_3_names_no_user() -> None:
    answer = parse(user=..., group=...)
    assert (answer.user, answer.group) == ("", "")


def test_paths_come_in_their_shortest_form() -> None:
    answer = parse(lock_dir="/var//mm/./x/../locks/", queues={"IN": "/q//in/"})
    assert answer.lock_dir == "/var/mm/locks" and answer.queues == (("IN", "/q/in"),)


WRONG_PATHS = ["", "locks", "./locks", "$var_dir/locks", "/a\0b", "/a\nb", "/a\ud800b", None, 5,
               True, ["/x"], {"x": "/x"}, ...]


@pytest.mark.parametrize("field", PATHS)
@pytest.mark.parametrize("value", WRONG_PATHS, ids=repr)
def test_path_that_is_none_is_refused_with_its_name(field: str, value: Any) -> None:
    with pytest.raises(CannotAsk) as refusal:
        parse(**{field: value})
    assert field in str(refusal.value) and str(refusal.value).isprintable()


@pytest.mark.parametrize("field, value", [
    ("runners", ...), ("runners", None), ("runners", 5), ("runners", "in"), ("runners", ["in"]),
    ("runners", [["in"]]), ("runners", [["in", 1, 2]]), ("runners", [["in", "1"]]),
    ("runners", [["in", 1.5]]), ("runners", [["in", True]]), ("runners", [["in", -1]]),
    ("runners", [["in", 10**9]]), ("runners", [[5, 1]]), ("runners", [[None, 1]]),
    ("runners", [["in", float("inf")]]), ("runners", [["in", float("nan")]]),
    ("runners", {"in": 1}), ("instances", ...), ("instances", [["in", "1"]]),
    ("queues", ...), ("queues", None), ("queues", "x"), ("queues", [1]),
    ("queues", {"IN": 5}), ("queues", {"IN": None}), ("queues", {"IN": "relative"}),
    ("queues", {"IN": "/a\0b"}), ("queues", [["IN", "/x"]]),
    ("user", 5), ("user", None), ("user", "a\0b"), ("user", "a\nb"), ("group", ["x"]),
    ("working_dir", 5), ("working_dir", "x"), ("working_dir", ["/x"]), ("working_dir", "/a\0b"),
    ("bin_dir", 5), ("bin_dir", "/a\0b"), ("release", ""), ("config", None), ("log_dir", ...),
], ids=repr)
def test_field_that_cannot_be_right_is_refused_with_its_name(field: str, value: Any) -> None:
    with pytest.raises(CannotAsk) as refusal:
        parse(**{field: value})
    said = str(refusal.value)
    assert field in said or field.rstrip("s") in said
    assert said.isprintable() and len(said) < 400


@pytest.mark.parametrize("text", [
    "", "null", "5", "[]", '"x"', "{", "{}", "[" * 200_000, '{"a":' * 100_000, "NaN", "\0",
    "9" * 100_000, "\ud800",
], ids=lambda text: repr(text[:12]))
def test_what_is_no_answer_at_all_is_refused(text: str) -> None:
    with pytest.raises(CannotAsk):
        asking.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.sampled_from(("/x", "/a/../b", "")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(SOUND)), json_values, max_size=4))
def test_no_answer_does_more_than_be_refused(changes: dict[str, Any]) -> None:
    try:
        answer = parse(**changes)
    except CannotAsk:
        return
    for name in PATHS:
        path = getattr(answer, name)
        assert os.path.isabs(path) and os.path.normpath(path) == path
        os.fsencode(path)
    assert all(isinstance(name, str) and 0 <= count <= asking.GREATEST_SLICES
               for name, count in answer.runners)


# -- asking a program



@pytest.fixture
def install(tmp_path: Path) -> Callable[[str], Location]:
    """Makes what looks like a 2.1 to the question; the argument is the text of its mm_cfg.py."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "Mailman").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "bin" / "mailmanctl").write_text(f"#!{sys.executable} -S\n")
    (tmp_path / "bin" / "paths.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
    )
    (tmp_path / "Mailman" / "__init__.py").write_text("")

    def write(text: str = "") -> Location:
        top = str(tmp_path)
        (tmp_path / "Mailman" / "mm_cfg.py").write_text(f"""
import os
VAR_PREFIX = {top!r}
PREFIX = {top!r}
LOCK_DIR = os.path.join(VAR_PREFIX, 'locks')
QUEUE_DIR = os.path.join(VAR_PREFIX, 'qfiles')
INQUEUE_DIR = os.path.join(QUEUE_DIR, 'in')
OUTQUEUE_DIR = os.path.join(QUEUE_DIR, 'out')
LIST_DATA_DIR = os.path.join(VAR_PREFIX, 'lists')
PIDFILE = os.path.join(VAR_PREFIX, 'data', 'master-qrunner.pid')
BIN_DIR = os.path.join(PREFIX, 'bin')
LOG_DIR = os.path.join(VAR_PREFIX, 'logs')
MAILMAN_USER = MAILMAN_GROUP = 'mailman-ha-test'
VERSION = '2.1.39'
QRUNNERS = [('ArchRunner', 1), ('IncomingRunner', 2)]
{text}
""")
        return Location("2.1", (f"{top}/bin",), prefix=top)

    return write


def ask(place: Location, seconds: float = 20.0) -> Answer:
    return asking.ask(place, os.path.join(place.prefix, "state"), seconds, None, None)


def test_configuration_is_asked_from_mailman_itself(
    install: Callable[..., Location], tmp_path: Path
) -> None:
    answer = ask(install("MASTER_LOCK_FILE = LOCK_DIR + '/our master \"lock\"'"))
    assert answer.lock_dir == str(tmp_path / "locks")
    assert answer.master_lock == str(tmp_path / "locks" / 'our master "lock"')
    assert answer.runners == (("ArchRunner", 1), ("IncomingRunner", 2))
    assert dict(answer.queues) == {"IN": str(tmp_path / "qfiles" / "in"),
                                   "OUT": str(tmp_path / "qfiles" / "out")}
    assert (answer.user, answer.release) == ("mailman-ha-test", "2.1.39")
    assert not (tmp_path / "Mailman" / "__pycache__").exists(), "asking wrote into the installation"


def test_without_a_setting_the_master_lock_is_the_old_default(
    install: Callable[..., Location], tmp_path: Path
) -> None:
    assert ask(install()).master_lock == str(tmp_path / "locks" / "master-qrunner")


def test_what_mailman_prints_before_its_answer_is_passed_over(
    install: Callable[..., Location]
) -> None:
    answer = ask(install("import sys; sys.stdout.write('hello\\nmailman-ha-answer:{}\\n')"))
    assert answer.release == "2.1.39"


def test_answer_is_kept_until_the_configuration_changes(
    install: Callable[..., Location], tmp_path: Path
) -> None:
    count = "open(os.path.join(VAR_PREFIX, 'asked'), 'a').write('x')"
    place = install(count)
    asked = tmp_path / "asked"
    assert ask(place) == ask(place) == ask(place)
    assert asked.read_text() == "x"
    assert asking.last_answer(place, str(tmp_path / "state")) == ask(place)
    place = install(count + "\nVERSION = '2.1.40'")
    assert ask(place).release == "2.1.40" and asked.read_text() == "xx"
    (tmp_path / "Mailman" / "Defaults.py").write_text("")
    ask(place)
    assert asked.read_text() == "xxx"


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b"null", b'{"signature": 1}', b"\xff",
                                     b'{"links": 1}', b'{"links": [1, "\\u0000", null, {}]}',
                                     b"[" * 100_000], ids=repr)
def test_kept_answer_that_cannot_be_read_is_asked_anew(
    install: Callable[..., Location], tmp_path: Path, rubbish: bytes
) -> None:
    place = install()
    answer = ask(place)
    kept = Path(asking.kept_answer_path(place, str(tmp_path / "state")))
    kept.write_bytes(rubbish)
    assert asking.last_answer(place, str(tmp_path / "state")) is None
    assert ask(place) == answer
    assert asking.last_answer(place, str(tmp_path / "state")) == answer


def test_kept_answer_of_another_version_of_this_suite_is_asked_anew(
    install: Callable[..., Location], tmp_path: Path
) -> None:
    place = install()
    answer = ask(place)
    kept = Path(asking.kept_answer_path(place, str(tmp_path / "state")))
    content = json.loads(kept.read_text())
    del content["answer"]["queues"]
    kept.write_text(json.dumps(content))
    assert asking.last_answer(place, str(tmp_path / "state")) is None
    assert ask(place) == answer


def test_working_directory_is_known_without_its_links_once_it_is_there(
    install: Callable[..., Location], tmp_path: Path
) -> None:
    """Asked on a node without the share, it is found when the share is there, which is not looked
    at again; a link that leads elsewhere is seen all the same."""
    count = "open(os.path.join(PREFIX, 'asked'), 'a').write('x')"
    place = replace(install(f"{count}\nVAR_PREFIX = PREFIX + '/outer/var'"), prefix="")
    state = str(tmp_path / "state")

    def ask() -> Answer:
        return asking.ask(place, state, 20.0, None, None)

    (tmp_path / "outer").symlink_to("share")
    assert ask().working_dir == ""
    share = tmp_path / "share"
    (share / "real").mkdir(parents=True)
    (share / "var").symlink_to("../share/./real/")
    assert ask().working_dir == str(share / "real")
    last = asking.last_answer(place, state)
    assert last is not None and last.var_dir == str(share / "real")
    before = os.stat(asking.kept_answer_path(place, state))
    assert ask() == replace(last, var_dir=str(tmp_path / "outer" / "var"))
    assert os.stat(asking.kept_answer_path(place, state)).st_ino == before.st_ino
    assert (tmp_path / "asked").read_text() == "x"
    other = tmp_path / "other"
    (other / "var").mkdir(parents=True)
    (tmp_path / "outer").unlink()
    (tmp_path / "outer").symlink_to(other)
    assert ask().working_dir == str(other / "var")


@pytest.mark.parametrize("target", ["loop", "../loop", "loop/x"])
def test_links_that_lead_nowhere_are_no_working_directory(
    install: Callable[..., Location], tmp_path: Path, target: str
) -> None:
    (tmp_path / "loop").symlink_to(target)
    place = replace(install("VAR_PREFIX = PREFIX + '/loop/var'"), prefix="")
    state = str(tmp_path / "state")
    assert asking.ask(place, state, 20.0, None, None).working_dir == ""


@pytest.mark.parametrize("text, said", [
    ("raise SystemExit(3)", "status 3"),
    ("raise RuntimeError('oops')", "oops"),
    ("this is no python", "SyntaxError"),
    ("del LOCK_DIR", "LOCK_DIR"),
    ("LOCK_DIR = 'relative'", "lock_dir"),
    ("LOCK_DIR = '/a\\nb'", "no JSON"),
    ("QRUNNERS = [('IncomingRunner', 10**9)]", "slices"),
    ("import os; os.close(1)", "status"),
    ("import os; os._exit(0)", "something else than its configuration"),
    ("import os, sys; sys.stdout.write('mailman-ha-answer:'); sys.stdout.flush(); os._exit(0)",
     "no JSON"),
    ("import os; os.kill(os.getpid(), 9)", "status -9"),
], ids=lambda value: value[:30])
def test_installation_in_trouble_is_refused_with_what_it_said(
    install: Callable[..., Location], tmp_path: Path, text: str, said: str
) -> None:
    place = install(text)
    with pytest.raises(CannotAsk) as refusal:
        ask(place)
    assert said in str(refusal.value) and str(refusal.value).isprintable()
    assert os.listdir(tmp_path / "state") == []


@pytest.mark.parametrize("text", [
    "import time; time.sleep(60)",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    "while True: print('x' * 1000)",
])
def test_installation_that_hangs_or_floods_is_given_up_in_time(
    install: Callable[..., Location], text: str
) -> None:
    place = install(text)
    began = time.monotonic()
    with pytest.raises(CannotAsk):
        ask(place, 1.0)
    assert time.monotonic() - began < 4.0


@pytest.mark.parametrize("line, words", [
    (b"#!/usr/bin/python2\n", ["/usr/bin/python2"]),
    (b"#! /usr/bin/python2 -S\n", ["/usr/bin/python2", "-S"]),
    (b"#!/usr/bin/env python3\nmore", ["/usr/bin/env", "python3"]),
])
def test_interpreter_is_the_programs_own(tmp_path: Path, line: bytes, words: list[str]) -> None:
    (tmp_path / "program").write_bytes(line)
    assert asking.interpreter(str(tmp_path / "program")) == words


@pytest.mark.parametrize("line", [b"", b"#!\n", b"#!   \n", b"import os\n", b"\x7fELF\x02\x01",
                                  b"#!/usr/bin/python", b"#!/" + b"x" * 600 + b"\n",
                                  b"#!/usr/bin/py\0thon\n", b"#!/usr/bin/python -\0\n"], ids=repr)
def test_program_without_an_interpreter_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "program").write_bytes(line)
    with pytest.raises(CannotAsk, match=str(tmp_path / "program")):
        asking.interpreter(str(tmp_path / "program"))
    with pytest.raises(CannotAsk, match="cannot be read"):
        asking.interpreter(str(tmp_path / "nothing"))


def test_answer_with_more_runners_than_can_be_counted_is_refused() -> None:
    runners = [[f"r{number}", asking.GREATEST_SLICES] for number in range(50_000)]
    with pytest.raises(CannotAsk, match="have more than"):
        parse(runners=runners)


@pytest.mark.parametrize("name", ["in\ud800", "in\0", "in\nlock_dir=/"])
def test_names_that_cannot_be_handed_to_the_system_are_refused(name: str) -> None:
    with pytest.raises(CannotAsk, match="lacks its runners"):
        parse(runners=[[name, 1]])
    with pytest.raises(CannotAsk, match="lacks its queues"):
        parse(queues={name: "/q"})


def test_refusal_of_a_number_of_thousands_of_digits_is_a_short_sentence() -> None:
    with pytest.raises(CannotAsk) as refused:
        asking.parse(json.dumps(SOUND).replace('["ArchRunner", 1]', f'["a", {"9" * 4000}]'))
    assert len(str(refused.value)) < 200
