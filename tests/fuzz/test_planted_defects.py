"""A surface that cannot fail proves nothing: each of these defects, planted in the library, is
found by the examples that the tests play."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.planted import planted
from tests.fuzz.surfaces import SURFACES

BY_NAME = {surface.name: surface for surface in SURFACES}


@dataclass(frozen=True)
class Defect:
    """What is wrong, in which module, and the surface that must notice."""

    what: str
    surface: str
    module: str
    sound: str
    wrong: str


DEFECTS = (
    Defect("links are followed", "lock-directories", "mailman_ha.locks.directory",
           "_HARMLESS = os.O_RDONLY | os.O_NOFOLLOW |", "_HARMLESS = os.O_RDONLY |"),
    Defect("a living process counts as dead", "lock-directories", "mailman_ha.locks.verdict",
           "            ALIVE,\n            f\"{where} is alive",
           "            DEAD_HERE,\n            f\"{where} is alive"),
    Defect("all owners of a lock are told", "lock-directories", "mailman_ha.locks.verdict",
           "for owner in owners[:_MOST_TOLD]", "for owner in owners"),
    Defect("names are told as they are", "lock-directories", "mailman_ha.agents.lock_sweep",
           "return f\"{escape(self.name)}: {self.verdict.sentence()}\"",
           "return f\"{self.name}: {self.verdict.sentence()}\""),
    Defect("any name in a note is taken", "quarantines", "mailman_ha.locks.release",
           "def _is_name(text: object) -> bool:",
           "def _is_name(text: object) -> bool:\n    return True\n\n\ndef _was(text: object)"
           " -> bool:"),
    Defect("a pid has no bound", "names-of-claims", "mailman_ha.locks.grammar",
           "    return number if number <= GREATEST_PID else 0", "    return number"),
    Defect("a host has any characters", "names-of-claims", "mailman_ha.locks.grammar",
           "    return bool(text) and text.isascii() and not", "    return True or not"),
    Defect("backslashes are not doubled", "names-shown", "mailman_ha.ocf.escape",
           "    if byte == 0x5C:", "    if False:"),
    Defect("declarations are expanded", "crm-mon", "mailman_ha.evidence.cluster",
           "    if b\"<!\" in document.replace(b\"<!--\", b\"\") or b\"\\0\" in document:",
           "    if b\"\\0\" in document:"),
    Defect("an offset has no bound", "fencing-times", "mailman_ha.evidence.cluster",
           "if int(hours) > 23 or int(minutes) > 59:", "if False:"),
    Defect("nesting has no bound", "site-yaml", "mailman_ha.topology.document",
           "if self._depth >= GREATEST_DEPTH:", "if False:"),
    Defect("mistakes have no bound", "site-yaml", "mailman_ha.topology.document",
           "if len(mistakes) >= MOST_MISTAKES:", "if False:"),
    Defect("names are not looked at", "mailmans-answer", "mailman_ha.mailman.asking",
           "type(count) is not int or not _is_clean(name):", "type(count) is not int:"),
    Defect("a uid has no bound", "state-files", "mailman_ha.agents.state_lines",
           "len(text) <= 20) or int(text) > greatest:", "len(text) <= 20):"),
    Defect("a digest has any length", "queue-entries", "mailman_ha.queues.entries",
           "len(digest) != 40 or not", "not"),
    Defect("a complaint is printed as it was typed", "typed-words", "mailman_ha.cli.main",
           "super().error(one_line(message))", "super().error(message)"),
)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.what)
def test_planted_defect_is_found(defect: Defect) -> None:
    """And nothing else: the library as it is keeps its promises for the same example."""
    surface = BY_NAME[defect.surface]
    played: list[object] = []

    @settings(
        max_examples=surface.count * 4, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )
    @given(surface.examples)
    def plays(example: object) -> None:
        played.append(example)
        surface.check(example)

    with planted(defect.module, defect.sound, defect.wrong), pytest.raises(Exception):  # noqa: B017
        plays()
    surface.check(played[-1])
