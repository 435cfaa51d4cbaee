"""A new user on a machine on which nothing is installed yet, with the checkout beside it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from lab.image import SUITES
from tests.packages.fresh_machine import FreshMachine, fresh_machine

from .commands import CHECKOUT

__all__ = ["SUITES", "Done", "Step", "session"]

SECONDS = 900.0  # for one step; on an idle machine the longest takes one minute

#: What of a checkout a new user does not have.
MADE = (".*", "build", "chaos", "__pycache__")

#: A user who is there answers questions.
ANSWERS = 'APT::Get::Assume-Yes "true";\n'


@dataclass(frozen=True)
class Step:
    """What is typed: `text` is a script for sh, in which $PROJECT is the checkout."""

    name: str
    text: str


@dataclass(frozen=True)
class Done:
    """How a step ended, and all that it said."""

    step: Step
    status: int
    said: str


def session(suite: str, steps: Sequence[Step]) -> list[Done]:
    """Type these one after the other on a fresh machine."""
    with fresh_machine(suite) as machine:
        machine.path("/etc/apt/apt.conf.d/90answers").write_text(ANSWERS, encoding="ascii")
        project = machine.path("/project")
        shutil.copytree(CHECKOUT, project, ignore=shutil.ignore_patterns(*MADE))
        return [_type(machine, step) for step in steps]


def _type(machine: FreshMachine, step: Step) -> Done:
    script = f"cd /root; exec 2>&1; PROJECT=/project\n{step.text}\n"
    done = machine.run("sh", "-e", "-c", script, check=False, timeout=SECONDS)
    return Done(step, done.returncode, done.stdout)
