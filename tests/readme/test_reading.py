"""Nothing that the README gives to be typed is passed over."""

from __future__ import annotations

import re
import subprocess

import pytest
from mailman_ha.agents.qfiles_slice.declaration import DECLARATION as SLICE

from .commands import (
    CHECKOUT,
    MENTIONED,
    PLACES,
    README,
    TARGET,
    Block,
    all_blocks,
    all_within_sentences,
    blocks,
    place_of,
    within_sentences,
)

BLOCKS = all_blocks()
COMMANDS = all_within_sentences()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_every_block_is_commands_or_known_to_show_something(block: Block) -> None:
    assert block.kind, (
        f"{block.where}: is {block.first!r} to be typed? Then its program belongs into "
        "PROGRAMS of tests/readme/commands.py, else a pattern into SHOWN"
    )


def test_every_command_of_a_block_begins_with_a_program_that_is_known() -> None:
    for block in BLOCKS:
        if block.kind == "commands":
            for command in block.commands():
                assert Block("", "", command).kind == "commands", command


def test_blocks_for_pcs_hand_resources_over_with_all_their_constraints() -> None:
    """One that is created alone is started where it fails, and is banned."""
    made = [block.commands() for block in BLOCKS if "resource create" in block.text]
    assert len(made) == 2
    for first, *inside, last in made:
        assert first == "pcs cluster cib mailman.xml"
        assert all(command.startswith("pcs -f mailman.xml ") for command in inside)
        assert last == "pcs cluster cib-push mailman.xml --config"


def test_second_runner_of_a_slice_is_promised_by_the_level_that_looks_for_one() -> None:
    """Level 0 looks at its own runner alone (agents/qfiles_slice/quick.py)."""
    purposes = {
        action.depth: action.purpose for action in SLICE.actions if action.name == "monitor"
    }
    rows = (line.split("|") for line in README.read_text().splitlines() if line.startswith("|"))
    table = {row[1].strip(): row[3] for row in rows if row[1].strip() in ("0", "10")}
    for light, deep in ((purposes[0], purposes[10]), (table["0"], table["10"])):
        assert "second runner" not in light and "second runner" in deep


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_within_a_sentence_has_a_place(command: str) -> None:
    assert place_of(command), (
        f"`{command}` of the README is run nowhere: give it a rule in PLACES of "
        "tests/readme/commands.py"
    )


def test_few_commands_are_only_mentioned_and_no_rule_is_idle() -> None:
    mentioned = [one for one in COMMANDS if place_of(one) == MENTIONED]
    assert len(mentioned) < len(COMMANDS) / 3
    idle = [rule for rule, _ in PLACES if not any(re.fullmatch(rule, one) for one in COMMANDS)]
    assert idle == []


def targets() -> list[str]:
    """Every make command of the README."""
    inside = [one for one in COMMANDS if place_of(one) == TARGET]
    typed = [
        one for block in BLOCKS if block.kind == "commands" for one in block.commands()
        if one.startswith("make ")
    ]
    return list(dict.fromkeys([*typed, *inside]))


@pytest.mark.parametrize("command", targets())
def test_every_make_command_has_its_target(command: str) -> None:
    words = command.replace("…", "1").split()
    done = subprocess.run(
        [*words, "-n"], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_reader_finds_blocks_continuations_comments_and_spans() -> None:
    text = (
        "Type `pcs status`, or\n`crm\nstatus`.\n\n    pcs resource create a \\\n        b=c\n"
        "    make x   # why\n\n```yaml\nk: v\n```\n\n* an item\n  that goes `man y` on\n"
    )
    found = blocks(text, "p")
    assert [(block.kind, block.where) for block in found] == [("commands", "p:5"), ("yaml", "p:10")]
    assert [one.split("\n")[0] for one in found[0].commands()] == [
        "pcs resource create a \\", "make x"]
    assert "b=c" in found[0].commands()[0]
    assert within_sentences(text) == ["pcs status", "crm status", "man y"]
