"""Slices and entry names held against Mailman's own Switchboards: 2.1's, the stand-in's and 3's.

The queue directories hold entries at every seam and at random hashes, half of them waiting and half
in work; each Switchboard says which of them it would take. All of a test's questions go to one
run of Mailman's interpreter. The real 2.1 takes part where MAILMAN21_PREFIX names one.

Mailman 3 computes a slice's bounds with floats. For a power of two n its lower bound is exact; of
its upper bound, 2^160·(i+1)/n - 1, a float cannot hold the "- 1", and it is included. So each of
its slices also takes the first hash of the next slice, one of 2^160, and nothing else.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mailman_ha.queues import entries, slices
from mailman_ha.queues.entries import Backlog
from mailman_ha.queues.slices import Slice

from tests.installation_fixture import KINDS21
from tests.installations import Installation, Mailman21
from tests.mailman3_venv import ensure_mailman3

HASHES = 1 << 160
RANDOM_DIGESTS = 60
COUNTS_21 = (*range(1, 18), 23, 31, 32, 33, 37, 48, 63, 64, 97, 1000, 65537, 2**61 - 1)
COUNTS_3 = tuple(1 << power for power in (*range(8), 10, 16, 20, 40))
ASKED = 24

# Python 2.7 and 3 alike. 2.1's Switchboard hides what it computed: it is asked by what it lists.
ASK = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:0] = asked["path"]
if asked["kind"] == "mailman3":
    from mailman.core.switchboard import Switchboard
    def listed(directory, number, count, extension):
        return Switchboard("in", directory, number, count).get_files(extension)
elif asked["kind"] == "mailman21":
    import paths
    from Mailman.Queue.Switchboard import Switchboard
    def listed(directory, number, count, extension):
        return Switchboard(directory, number, count).files(extension)
else:
    import paths
    from Mailman.Switchboard import Switchboard
    def listed(directory, number, count, extension):
        return Switchboard(directory, number, count).entries(extension)
answers = []
for directory, count, numbers in asked["cases"]:
    answers.append([
        [listed(directory, number, count, extension) for extension in (".pck", ".bak")]
        for number in numbers
    ])
print(json.dumps(answers))
"""

ENQUEUE = """
import json, sys
asked = json.load(sys.stdin)
sys.path[:0] = asked["path"]
names = []
for number in range(asked["messages"]):
    text = "From: anne@example.test\\nSubject: %d\\n\\nHello.\\n" % number
    if asked["kind"] == "mailman3":
        from email import message_from_string
        from mailman.core.switchboard import Switchboard
        board = Switchboard("in", asked["directory"])
        names.append(board.enqueue(message_from_string(text), listid="test.example.test"))
    elif asked["kind"] == "mailman21":
        import paths
        import email
        from Mailman import Message
        from Mailman.Queue.Switchboard import Switchboard
        message = email.message_from_string(text, Message.Message)
        names.append(Switchboard(asked["directory"]).enqueue(message, listname="test"))
    else:
        import paths
        from Mailman.Switchboard import Switchboard
        board = Switchboard(asked["directory"])
        names.append(board.enqueue(text.encode(), {"listname": "test"}))
print(json.dumps(names))
"""


def moment(position: int) -> float:
    return 1_700_000_000.25 + position


def fill(directory: Path, digests: list[int]) -> None:
    """An entry for each digest, all at different times; every other one is in work."""
    directory.mkdir(parents=True)
    for position, digest in enumerate(digests):
        extension = "bak" if position % 2 else "pck"
        (directory / f"{moment(position)!r}+{digest:040x}.{extension}").touch()


def asked_slices(count: int, chance: random.Random) -> list[int]:
    """All slices where they are few; else the first, the last and some between."""
    if count <= 128:
        return list(range(count))
    return sorted({0, 1, count - 2, count - 1, *(chance.randrange(count) for _ in range(ASKED))})


def digests_for(count: int, numbers: list[int], chance: random.Random) -> list[int]:
    """Both ends of the slices, their neighbours beyond them, and some hashes in and outside."""
    digests = {chance.getrandbits(160) for _ in range(RANDOM_DIGESTS)}
    for number in numbers:
        lowest, highest = slices.bounds(Slice(number, count))
        digests.update((lowest, lowest + 1, highest - 1, highest, highest + 1, lowest - 1))
        digests.add(chance.randint(lowest, highest))
    found = [digest for digest in digests if 0 <= digest < HASHES]
    chance.shuffle(found)
    return found


def parsed(names: list[str], extension: str) -> set[int]:
    """The digests of base names that a Switchboard answered; each is an entry to parse() too."""
    read = [entries.parse(name + extension) for name in names]
    assert None not in read
    return {entry.digest for entry in read if entry is not None}


def asked_and_told(
    ask: Callable[[dict[str, Any]], Any], top: Path, counts: tuple[int, ...]
) -> list[tuple[Path, Slice, set[int], list[int], list[list[str]]]]:
    """For each slice: its directory, itself, what its Switchboard takes, what lies there, and that
    as base names: those that wait and those in work."""
    chance = random.Random(160)
    cases = []
    held = []
    for count in counts:
        numbers = asked_slices(count, chance)
        digests = digests_for(count, numbers, chance)
        fill(top / str(count), digests)
        cases.append((str(top / str(count)), count, numbers))
        held.append(digests)
    told = []
    for (directory, count, numbers), digests, answer in zip(cases, held, ask({"cases": cases})):
        assert len(answer) == len(numbers)
        for number, (waiting, in_work) in zip(numbers, answer):
            taken = parsed(waiting, ".pck") | parsed(in_work, ".bak")
            assert len(taken) == len(waiting) + len(in_work)
            told.append(
                (Path(directory), Slice(number, count), taken, digests, [waiting, in_work])
            )
    return told


def ask_21(installation: Installation, program: str, question: dict[str, Any]) -> Any:
    assert isinstance(installation, Mailman21)
    python = installation.mailmanctl.read_text().splitlines()[0].lstrip("#! ")
    whole = {
        "kind": installation.kind, "path": [str(installation.prefix / "bin")], **question,
    }
    done = installation.run([python, "-c", program], input_text=json.dumps(whole))
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def ask_3(program: str, question: dict[str, Any]) -> Any:
    done = subprocess.run(
        [str(ensure_mailman3() / "python"), "-c", program],
        input=json.dumps({"kind": "mailman3", "path": [], **question}),
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done
    return json.loads(done.stdout)


each_21 = pytest.mark.parametrize(
    "installation",
    # A real 2.1 that is not there is skipped with its reason, not left out.
    sorted({*KINDS21, "mailman21"}),
    indirect=True,
)


@each_21
def test_slices_are_those_of_21s_switchboard(installation: Installation) -> None:
    told = asked_and_told(
        lambda question: ask_21(installation, ASK, question),
        installation.directory / "queues", COUNTS_21,
    )
    assert {slice.count for _, slice, *_ in told} == set(COUNTS_21)
    for _, slice, taken, digests, _ in told:
        lowest, highest = slices.bounds(slice)
        assert taken == {digest for digest in digests if lowest <= digest <= highest}
        assert taken == {
            digest for digest in digests
            if slices.slice_of(digest, slice.count) == slice.number
        }


@each_21
def test_backlog_of_a_slice_is_what_21s_switchboard_would_take(installation: Installation) -> None:
    told = asked_and_told(
        lambda question: ask_21(installation, ASK, question),
        installation.directory / "queues", (1, 2, 3, 4, 7, 8, 37),
    )
    for directory, slice, taken, _, (waiting, in_work) in told:
        oldest = min(float(base.split("+")[0]) for base in waiting + in_work)
        expected = Backlog(len(waiting), len(in_work), oldest)
        assert taken and entries.backlog_of(str(directory), slice) == expected
        assert entries.backlogs(str(directory), slice.count)[slice.number] == expected


def test_slices_are_those_of_mailman_3s_switchboard_but_for_one_hash_at_each_seam(
    tmp_path: Path,
) -> None:
    told = asked_and_told(lambda question: ask_3(ASK, question), tmp_path / "queues", COUNTS_3)
    assert {slice.count for _, slice, *_ in told} == set(COUNTS_3)
    for _, slice, taken, digests, _ in told:
        lowest, highest = slices.bounds(slice)
        own = {digest for digest in digests if lowest <= digest <= highest}
        assert own <= taken
        # The last slice has no next one; and of one slice Mailman 3 asks no bounds.
        assert taken - own == ({highest + 1} if highest + 1 < HASHES else set())


def test_mailman_3_has_no_slices_but_powers_of_two(tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        "from mailman.core.switchboard import Switchboard\n"
        "asked = json.load(sys.stdin)\n"
        "refused = []\n"
        "for count in asked['counts']:\n"
        "    try:\n"
        "        Switchboard('in', asked['directory'], 0, count)\n"
        "    except AssertionError:\n"
        "        refused.append(count)\n"
        "print(json.dumps(refused))\n"
    )
    counts = list(range(1, 65))
    refused = ask_3(program, {"directory": str(tmp_path), "counts": counts})
    assert set(counts) - set(refused) == {1, 2, 4, 8, 16, 32, 64}


def entries_of(directory: Path, names: list[str], before: float) -> None:
    """Hold the names that Mailman gave messages against parse(), slices and backlogs."""
    assert len(set(names)) == 50
    read = [entries.parse(f"{name}.pck") for name in names]
    for entry in read:
        assert entry is not None and entry.extension == entries.WAITING
        assert before - 1 <= entry.since <= time.time() + 1
    for count in (1, 3, 4):
        parts = entries.backlogs(str(directory), count)
        for number, part in enumerate(parts):
            own = [
                entry.since for entry in read
                if entry is not None and slices.slice_of(entry.digest, count) == number
            ]
            assert part == Backlog(len(own), 0, min(own, default=None))


@each_21
def test_messages_that_21_enqueues_are_counted(installation: Installation) -> None:
    before = time.time()
    directory = installation.directory / "enqueued"
    names = ask_21(installation, ENQUEUE, {"directory": str(directory), "messages": 50})
    entries_of(directory, names, before)


def test_messages_that_mailman_3_enqueues_are_counted(tmp_path: Path) -> None:
    before = time.time()
    (tmp_path / "in").mkdir()
    names = ask_3(ENQUEUE, {"directory": str(tmp_path / "in"), "messages": 50})
    entries_of(tmp_path / "in", names, before)
