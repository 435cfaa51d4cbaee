"""The README's commands that ask a running cluster, typed on one: nodes and resources go by the
lab's names, all else is as it stands there. Afterwards Mailman serves, and nothing has failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from lab.client import Lab
from tests.cluster.conftest import bring_up

from .commands import CLUSTER, all_blocks, all_within_sentences, place_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: What the README's names are called in the lab.
NAMES = (
    (r"\bmail([12])\b", r"n\1"), (r"\bN\b", "n2"), (r"\bmailman-janitor\b", "janitor"),
    (r"\bmylist\b", "master"), (r"\b(NAME|LOCK)\b", "master"), (r"mail …", "true"),
)

#: The order in which they are typed: what only looks, what puts right what went before it, and
#: last what takes a node down.
ORDER = (
    r"mailman-ha doctor --publish", r"(crm_mon|crm_node|crm status|pcs status).*",
    r"mailman-ha .*", r".* (refresh|cleanup)( .*)?", r".* restart .*",
    r".* standby n2", r".* (unstandby|online) n2", r".* standby( n1)?",
    r".* (unstandby|online)( n1)?",
    r".* fence .*", r".*confirm.*",
)

#: The README's example is of slices, this site has none.
OF_SLICES = re.compile(r".*mailman-(in|out)-.*")
STATUS_1 = re.compile(r"mailman-ha (locks|explain|sweep|slices|doctor).*")  # something needs you


def in_lab(command: str) -> str:
    """The command with the lab's names; said dead is always n2, where we do not sit."""
    for written, called in NAMES:
        command = re.sub(written, called, command)
    return re.sub(r"\bn1$", "n2", command) if "confirm" in command else command


def commands() -> list[str]:
    """Each once, with the lab's names, in the order in which they are typed."""
    found = [
        command for block in all_blocks() if block.kind == "commands"
        for command in block.commands() if place_of(command) == CLUSTER
    ]
    found += [one for one in all_within_sentences() if place_of(one) == CLUSTER]
    named = dict.fromkeys(in_lab(one) for one in found if not OF_SLICES.fullmatch(one))

    def rank(command: str) -> int:
        return next(
            (number for number, rule in enumerate(ORDER) if re.fullmatch(rule, command)), -1
        )

    assert [one for one in named if rank(one) < 0] == [], "give it a place in ORDER"
    return sorted(named, key=rank)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes that serve Mailman 3."""
    lab = bring_up("trixie", "mailman3-few-runners", word="page")
    try:
        yield lab
    finally:
        lab.down()


def type_there(lab: Lab, node: str, command: str) -> tuple[int, str]:
    """Type a command at the node; on a terminal, and with yes for an answer, where it asks."""
    if "confirm" in command:
        command = f"yes y | head -n 3 | script -qec {shlex.quote(command)} /dev/null"
    done = lab.run(node, ["bash", "-c", command], timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_command_of_the_readme_works_on_a_cluster(lab: Lab) -> None:
    failed = []
    typed = commands()
    assert len(typed) > 25
    for command in typed:
        if "confirm" in command:
            # Said of a machine that is off, and whose fencing does not work.
            lab.wait_members(90)
            lab.fence_fails_first(100)
            lab.kill("n2")
            lab.wait_until("n2 is missed", lambda: "UNCLEAN" in lab.run(
                "n1", ["crm_mon", "-1"], check=False).stdout, 30)
        else:  # after a refresh, say, nothing counts as running until it has been probed
            lab.run("n1", ["crm_resource", "--wait", "--timeout", "60"], check=False)
        status, said = type_there(lab, "n1", command)
        if status not in ((0, 1) if STATUS_1.fullmatch(command) else (0,)):
            failed.append(f"$ {command}\n{said[-800:]}\n(exit status {status})")
        if "confirm" in command:
            lab.fence_fails_first(0)
            lab.boot("n2")
        elif " fence " in command:
            lab.wait_members(90)
    assert not failed, "\n\n".join(failed)
    lab.wait_members(90)
    lab.wait_serving(90)
    assert lab.failures() == []
