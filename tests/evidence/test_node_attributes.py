"""Numbers for the cluster: what attrd_updater is told, and that it can do no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.evidence import node_attributes
from mailman_ha.evidence.command import GRACE_AFTER_KILL
from pytest_subprocess import FakeProcess

THREE = {"in-0-depth": "17", "in-0-oldest": "12.5", "in-0-bak": "0"}
UNSAFE_NAMES = ("", "-D", "0in", ".in", "a b", "a\nb", "in:0-depth", "é", "a/b", "a'", "a=b",
                "a\udcff", "x" * 256)
UNSAFE_VALUES = ("", "1++", "depth+=5", "+1", "1 2", "1\n", "$(id)", "\udcff", "²", "9" * 256)


def order(name: str, value: str) -> list[str]:
    return ["attrd_updater", f"--name={name}", f"--update={value}", "--delay=5s"]


# -- what is run; pytest-subprocess takes the program's place and refuses any other call

def test_each_attribute_is_set_once_with_its_dampening(fp: FakeProcess) -> None:
    for name, value in THREE.items():
        fp.register(order(name, value))
    assert node_attributes.publish(THREE, 5.0) == ""
    assert list(fp.calls) == [order(name, value) for name, value in THREE.items()]


def test_each_attribute_is_deleted_once(fp: FakeProcess) -> None:
    for name in THREE:
        fp.register(["attrd_updater", f"--name={name}", "--delete"])
    assert node_attributes.withdraw(iter(THREE), 5.0) == ""
    assert fp.call_count(["attrd_updater", fp.any()]) == 3


def test_nothing_to_say_runs_nothing(fp: FakeProcess) -> None:
    assert node_attributes.publish({}, 5.0) == "" == node_attributes.withdraw([], 5.0)
    assert not fp.calls


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_unsafe_name_is_refused_and_nothing_is_run_not_even_for_the_others(
    fp: FakeProcess, name: str
) -> None:
    for said in (
        node_attributes.publish({"safe": "1", name: "1"}, 5.0),
        node_attributes.withdraw(["safe", name], 5.0),
    ):
        assert "a name of ASCII letters" in said
        assert said.isprintable() and said.isascii() and len(said) < 250
    assert not fp.calls


@pytest.mark.parametrize("value", UNSAFE_VALUES)
def test_value_that_attrd_would_compute_with_or_a_program_could_misread_is_refused(
    fp: FakeProcess, value: str
) -> None:
    said = node_attributes.publish({"safe": "1", "odd": value}, 5.0)
    assert said == "node attribute odd was not set: its value is no plain word"
    assert not fp.calls


def test_value_that_looks_like_an_option_stays_a_value(fp: FakeProcess) -> None:
    fp.register(order("a", "-D"))
    assert node_attributes.publish({"a": "-D"}, 5.0) == ""


def test_first_failure_ends_it_with_what_the_program_said(fp: FakeProcess) -> None:
    fp.register(order("in-0-depth", "17"))
    fp.register(order("in-0-oldest", "12.5"), returncode=102,
                stderr=b"Could not update in-0-oldest=12.5: Connection refused (111)\n")
    assert node_attributes.publish(THREE, 5.0) == (
        "node attribute in-0-oldest was not set: attrd_updater ended with status 102: "
        "Could not update in-0-oldest=12.5: Connection refused (111)"
    )
    assert len(fp.calls) == 2


# -- real programs in its place

@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script called attrd_updater, and nothing else, in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def install(script: str) -> None:
        path = tmp_path / "bin" / "attrd_updater"
        path.write_text(f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\n")
        path.chmod(0o755)

    return install


def both(seconds: float) -> tuple[str, str]:
    return node_attributes.publish(THREE, seconds), node_attributes.withdraw(THREE, seconds)


def test_program_is_told_one_word_for_each_option(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(f'for word; do echo "[$word]" >> {tmp_path}/calls; done')
    assert both(10.0) == ("", "")
    assert (tmp_path / "calls").read_text().split("\n")[:3] == [
        "[--name=in-0-depth]", "[--update=17]", "[--delay=5s]",
    ]


@pytest.mark.parametrize("script, said", [
    ("exit 1", "attrd_updater ended with status 1"),
    (r"printf 'bad \033[2Jthing\n' >&2; exit 76", r"status 76: bad \x1b[2Jthing"),
    ("kill -9 $$", "status -9"),
    (None, "attrd_updater cannot be run (No such file or directory)"),
])
def test_program_in_trouble_is_told_in_one_harmless_sentence(
    program: Callable[[str], None], script: str | None, said: str
) -> None:
    if script is not None:
        program(script)
    for sentence in both(5.0):
        assert sentence.startswith("node attribute in-0-depth was not ") and said in sentence
        assert sentence.isprintable()


def test_program_that_hangs_is_given_up_once_and_for_all(program: Callable[[str], None]) -> None:
    program("trap '' TERM; sleep 60 & wait; sleep 60")
    began = time.monotonic()
    assert "in-0-depth was not set: attrd_updater did not end within 0." in (
        node_attributes.publish(THREE, 0.4)
    )
    assert time.monotonic() - began < 0.4 + GRACE_AFTER_KILL + 1.0


def test_time_is_for_all_of_them_together(program: Callable[[str], None]) -> None:
    program("sleep 0.4")
    began = time.monotonic()
    said = node_attributes.publish({f"a{number}": "1" for number in range(50)}, 1.0)
    assert time.monotonic() - began < 1.0 + GRACE_AFTER_KILL + 1.0
    assert "was not set: " in said and "node attribute a0 " not in said
    for sentence in both(0.0):
        assert "no time was left" in sentence
