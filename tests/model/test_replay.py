"""The model and the code are one: traces of the model, replayed on real files through the library.

MODEL_TRACES says how many traces (default 200).
"""

from __future__ import annotations

import os
import pickle
import pwd
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21

from model.__main__ import MUTANTS
from model.trace import SCOPES, SELDOM, Trace, counterexample, distinct, labels, leading_to
from tests.installations import test_user
from tests.model.broken_library import ALIKE, OTHERS
from tests.model.player import Played, Task
from tests.private_directory import private_directory

TRACES = int(os.environ.get("MODEL_TRACES", "200"))

#: Of each kind of step that simulations seldom come by, so many traces are looked for.
OF_SELDOM = 2

FORMATS = (FORMAT_21, FORMAT_3)

#: The hand-over has no words for its steps in the model.
PLAYED = {name: scope for name, scope in MUTANTS if "HANDOVER" not in scope}

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0, reason="gives out pids anew, in a namespace of processes"
    ),
    pytest.mark.timeout(max(300, 3 * TRACES)),
]


@pytest.fixture(scope="session")
def space() -> Iterator[Path]:
    """A directory that Mailman's user may enter."""
    with private_directory("mailman-ha-model-") as place:
        yield place


def play(tasks: list[Task], space: Path, until_wrong: bool = False) -> list[Played]:
    """Play them in a process of their own, which ends with all that it has started."""
    place = Path(tempfile.mkdtemp(dir=space))
    place.chmod(0o755)
    user = pwd.getpwnam(test_user()[0])
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount-proc",
         "--kill-child", sys.executable, "-m", "tests.model.player", "mailman", str(place)],
        input=pickle.dumps((tasks, (user.pw_uid, user.pw_gid), until_wrong)),
        stdout=subprocess.PIPE, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}"},
    )
    played: list[Played] = pickle.loads(done.stdout)
    failures = [one.failure for one in played if one.failure]
    assert not failures, failures[0]
    return played


def task(name: str, scope: tuple[str, ...], trace: Trace, format: str, mutant: str = "") -> Task:
    """`trace` was made with the definitions `scope`."""
    whole = "STALLED_BREAKER" not in scope and not mutant and name not in PLAYED
    return Task(name, format, trace, "NEAR" in scope, whole, mutant)


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, ...], Trace]]:
    """(name, definitions, trace)."""
    found = []
    for label, scope in SELDOM.items():
        ways = leading_to(label, SCOPES[scope], OF_SELDOM, tmp_path_factory.mktemp(label))
        found += [(f"{scope}, to {label}", SCOPES[scope], trace) for trace in ways]
    for scope, seed, trace in distinct(TRACES - len(found), tmp_path_factory.mktemp("spin")):
        found.append((f"{scope}, seed {seed}", SCOPES[scope], trace))
    return found


@pytest.fixture(scope="session")
def played(
    traces: list[tuple[str, tuple[str, ...], Trace]], space: Path
) -> dict[str, list[Played]]:
    """Every trace, on the files of each format."""
    def of_format(format: str) -> list[Played]:
        return play([task(*one, format) for one in traces], space)

    with ThreadPoolExecutor() as pool:
        return dict(zip(FORMATS, pool.map(of_format, FORMATS)))


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_what_the_model_says_after_every_step(
    played: dict[str, list[Played]], format: str
) -> None:
    assert len(played[format]) == TRACES
    wrong = [one.disagreement for one in played[format] if one.disagreement]
    assert not wrong, f"{len(wrong)} of {TRACES} traces; the first:\n{wrong[0]}"


@pytest.mark.parametrize("format", FORMATS)
def test_every_kind_of_step_of_the_model_was_played(
    played: dict[str, list[Played]], format: str
) -> None:
    steps: Counter[str] = sum((one.steps for one in played[format]), Counter())
    assert set(steps) == labels() - {"begin"}


@pytest.mark.parametrize("format", FORMATS)
def test_janitors_looked_at_names_that_their_node_saw_stale(
    played: dict[str, list[Played]], format: str
) -> None:
    assert sum(one.stale for one in played[format]) > 0


@pytest.mark.parametrize("format", FORMATS)
def test_sweeps_after_the_end_of_a_trace_were_made_and_changed_nothing(
    played: dict[str, list[Played]], format: str
) -> None:
    assert sum(one.idle for one in played[format]) > TRACES


@pytest.fixture(scope="session")
def wrong_ways(
    tmp_path_factory: pytest.TempPathFactory, space: Path
) -> dict[tuple[str, str], list[Played]]:
    """Of each mutant that is played the way to the promise that it breaks, as the library has gone
    it: by the mutant's name and by the name of what the library was broken like, '' for whole."""
    found = []
    for name, scope in PLAYED.items():
        trace = counterexample((*scope, name), tmp_path_factory.mktemp(name))
        found.append((name, (*scope, name), trace))
    done = play(
        [task(*one, format, broken) for one in found for format in FORMATS
         for broken in ("", *({one[0]} & set(ALIKE)))],
        space,
    )
    ways: dict[tuple[str, str], list[Played]] = defaultdict(list)
    for each in done:
        ways[each.task.name, each.task.mutant].append(each)
    return ways


@pytest.mark.parametrize("mutant", PLAYED)
def test_library_does_not_go_the_way_of_a_broken_model(
    wrong_ways: dict[tuple[str, str], list[Played]], mutant: str
) -> None:
    whole = wrong_ways[mutant, ""]
    assert len(whole) == len(FORMATS)
    for one in whole:
        assert one.disagreement, "the library follows the mutant to the broken promise"


@pytest.mark.parametrize("mutant", ALIKE)
def test_library_that_is_broken_alike_goes_the_way_of_the_broken_model(
    wrong_ways: dict[tuple[str, str], list[Played]], mutant: str
) -> None:
    broken = wrong_ways[mutant, mutant]
    assert len(broken) == len(FORMATS)
    for one in broken:
        assert not one.disagreement, one.disagreement


@pytest.fixture(scope="session")
def found_out(
    traces: list[tuple[str, tuple[str, ...], Trace]], space: Path
) -> dict[str, str]:
    """For each broken library the first disagreement with a trace; none where it was not found."""
    tasks = [task(*one, FORMAT_21, mutant) for mutant in OTHERS for one in traces]
    return {
        one.task.mutant: one.disagreement
        for one in play(tasks, space, until_wrong=True) if one.disagreement
    }


@pytest.mark.parametrize("mutant", OTHERS)
def test_library_that_is_broken_is_found_out_by_the_traces(
    found_out: dict[str, str], mutant: str
) -> None:
    assert mutant in found_out
