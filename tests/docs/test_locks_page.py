"""docs/locks.md holds against real files, the real Mailman 3 and the code that judges.

Its listings are made into real directories and judged, its crash states are those that the tests of
the locks make, its messages are Mailman's, its lifetimes those of the programs.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mailman_ha.agents.qfiles_slice import launch
from mailman_ha.evidence.cluster import Node
from mailman_ha.locks import directory, grammar, holding, release, verdict
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, Owner
from mailman_ha.queues import slices

from tests.installations import LIFETIME_OF_MASTER_LOCK, Installation, Mailman21
from tests.locks.conftest import living_mailman, lock_space, make_share, share
from tests.locks.share import HERE, Share
from tests.locks.test_crash_states import STATES
from tests.mailman3_venv import ensure_mailman3

from .markdown import CHECKOUT, code_spans, fenced, section, tables

__all__ = ["living_mailman", "lock_space", "make_share", "share"]

PAGE = (CHECKOUT / "docs" / "locks.md").read_text()
LISTED = re.compile(
    r"^(?P<inode>\d+) -[rwx-]{9} (?P<links>\d+) \S+ \S+ (?P<size>\d+) (?P<mtime>\S+) (?P<name>\S+)$"
)
JUDGED = re.compile(
    r"^(?P<name>\S+) +(?P<pid>\d+) on (?P<node>\S+) +(?P<age>.+?)  +(?P<expires>.+?)  +"
    r"(?P<verdict>\w+) +(?P<why>.+)$"
)


def seconds(time_of_day: str) -> float:
    """A time of the page, which is UTC, in seconds since the epoch."""
    return time.mktime(time.strptime(time_of_day, "%Y-%m-%dT%H:%M:%S")) - time.timezone


def span(words: str) -> float:
    """A span of time as the page writes it: 30 h, 15 s, 1 d 5 h."""
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    parts = words.split()
    return float(sum(int(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2])))


@dataclass
class Session:
    """A block of the page in which a directory is listed and judged."""

    now: float = 0.0
    files: list[Mapping[str, str]] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    judged: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def format(self) -> str:
        return FORMAT_3 if any("|" in one["name"] for one in self.files) else FORMAT_21


def sessions() -> list[Session]:
    found = []
    for _, block in fenced(PAGE):
        one = Session()
        for line in block.splitlines():
            if listed := LISTED.match(line):
                one.files.append(listed.groupdict())
            elif judged := JUDGED.match(line):
                one.judged.append(judged.groupdict())
            elif line.startswith("nodes: "):
                words = line[len("nodes: "):].partition(";")[0]
                one.nodes = dict(pair.split() for pair in words.split(", "))  # type: ignore[misc]
            elif re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line):
                one.now = seconds(line)
        if one.files:
            found.append(one)
    return found


SESSIONS = sessions()


def test_page_shows_directories_of_both_versions_and_several_verdicts() -> None:
    assert {one.format for one in SESSIONS} == {FORMAT_21, FORMAT_3}
    assert {row["verdict"] for one in SESSIONS for row in one.judged} == {"alive", "lost"}
    assert all(one.judged and one.nodes and one.now for one in SESSIONS)


@pytest.mark.parametrize("shown", SESSIONS, ids=range(len(SESSIONS)))
def test_names_in_a_listing_are_read_as_the_page_says(shown: Session) -> None:
    master = {FORMAT_21: "master-qrunner", FORMAT_3: "master.lck"}[shown.format]
    for row in shown.judged:
        assert grammar.is_lock_name(shown.format, row["name"], master)
        (claim,) = [one for one in shown.files if one["name"].startswith(row["name"])
                    and one["name"] != row["name"]]
        owners = grammar.owners_of_claim(shown.format, row["name"], claim["name"])
        hosts = {owner.host.partition(".")[0] for owner in owners if owner.pid == int(row["pid"])}
        assert hosts == {row["node"]}
        (lock,) = [one for one in shown.files if one["name"] == row["name"]]
        assert (lock["inode"], lock["links"]) == (claim["inode"], "2")
        left = seconds(lock["mtime"]) - shown.now
        assert span(row["expires"]) <= left < span(row["expires"]) + 3600


@pytest.mark.parametrize("shown", SESSIONS, ids=range(len(SESSIONS)))
def test_listing_made_into_files_gets_the_verdict_that_the_page_shows(
    shown: Session, make_share: Callable[..., Share], living_mailman: Callable[[], int]
) -> None:
    share = make_share(shown.format)
    alive = {row["pid"]: str(living_mailman()) for row in shown.judged if row["verdict"] == "alive"}
    inodes: dict[str, str] = {}
    for one in sorted(shown.files, key=lambda file: -len(file["name"])):
        name = one["name"].replace(".lab.example", "")  # the domain that this machine is not in
        for pid, living in alive.items():  # the page was taken on the holder's own node
            name = re.sub(rf"([.|])n2[\w.]*?([.|]){pid}\b", rf"\g<1>{HERE}\g<2>{living}", name)
        if one["inode"] in inodes:
            share.link(inodes[one["inode"]], name)
        else:
            share.write(name, expires_in=seconds(one["mtime"]) - shown.now)
            inodes[one["inode"]] = name
    for name, state in shown.nodes.items():
        if name != "n1":
            share.nodes[name] = Node(name, state == "online", state == "unclean")
    report = share.sweep()
    assert {one.name: one.verdict.state for one in report.kept} == {
        row["name"]: row["verdict"] for row in shown.judged
    }
    if not alive:
        whys = [one.verdict.why for one in report.kept]
        assert all(row["why"] in why for row, why in zip(shown.judged, whys)), whys
    assert share.quarantined() == set()


def test_evidence_that_the_page_shows_is_what_a_release_writes(share: Share) -> None:
    line = re.search(r'^\{"by_node".*\}$', PAGE, re.MULTILINE)
    assert line
    shown = json.loads(line[0])
    share.lock("master-qrunner", "n2", pid=564)
    share.nodes["n2"] = Node("n2", False, False, fenced_at=time.time() + 60)
    share.sweep()
    (written,) = share.evidence()
    assert set(shown) == set(written)
    assert (shown["state"], shown["released"], shown["pid"]) == ("fenced", "master.lck", 564)
    assert shown["changed_at"] < shown["node_fenced_at"] < seconds(shown["time"].rstrip("Z"))
    listed = re.findall(rf"^{shown['inode']} (\S+)$", PAGE, re.MULTILINE)
    assert listed == shown["moved_to"]
    assert grammar.owners_of_claim(
        FORMAT_3, "master.lck", os.path.basename(shown["content"])
    ) == (Owner(shown["host"], shown["pid"]),)


# -- the tables


def rows(title: str, table: int = 0) -> list[list[str]]:
    return tables(section(PAGE, title))[table][1:]


def test_crash_states_are_those_that_are_made_and_judged_in_the_tests() -> None:
    assert [row[0] for row in rows("The states a crash leaves")] == sorted(STATES)[:-1]


@pytest.mark.parametrize("row", rows("The states a crash leaves"), ids=lambda row: row[0])
def test_crash_state_looks_as_the_page_says(share: Share, row: list[str]) -> None:
    state, names, links, content, *_ = row
    made = STATES[state](share, "n2", 4242, 4243)
    there = {
        name.replace("master-qrunner", "L").replace("n2", "H").replace("4242", "P").replace(
            "4243", "C") for name in share.names()
    }
    assert there == set(code_spans(names)), "A may be either of two" if state == "A" else ""
    for name in share.names():
        assert os.stat(share.path / name).st_nlink == int(links)
    held = {(share.path / name).read_bytes() for name in share.names()}
    claims = [os.fsencode(share.path / name) for name in made.claims or made.orphans]
    assert {
        "own path, or empty": lambda: held == {claims[0], b""},
        "the claim": lambda: held == {claims[-1]},
        "the first claim": lambda: held == {claims[0]},
        "the second claim": lambda: held == {claims[1]},
        "empty": lambda: held == {b""},
        "a path that is gone": lambda: not any(map(os.path.exists, held)),
    }[content]()


def test_empty_lock_is_judged_by_its_claim_file_and_unknown_without_as_the_page_says(
    make_share: Callable[..., Share]
) -> None:
    (row,) = [one for one in rows("What to type") if "empty `dbcreate.lck`" in one[0]]
    assert "with its claim file beside it the janitor releases it" in row[2]
    assert "Alone it is `unknown`" in row[2]
    share = make_share(FORMAT_3)
    share.lock("dbcreate.lck", content=b"")
    assert share.sweep().kept == () and share.quarantined() != set()
    share.write("dbcreate.lck", content=b"")
    (kept,) = share.sweep().kept
    assert (kept.name, kept.verdict.state) == ("dbcreate.lck", verdict.UNKNOWN)


def test_verdicts_are_those_of_the_code_and_those_that_release_are_told() -> None:
    told = {code_spans(row[0])[0]: row[2] for row in rows("How mailman-ha judges")}
    assert {state for state, released in told.items() if released == "yes"} == set(
        verdict.RELEASABLE)
    assert set(told) == {
        verdict.ALIVE, verdict.DEAD_HERE, verdict.FENCED, verdict.ENDED, verdict.LOST,
        verdict.MEMBER, verdict.STRANGER, verdict.UNKNOWN,
    }
    assert set(told.values()) == {"yes", "no"}


def test_claim_names_are_those_of_the_grammar() -> None:
    (claim, after, _) = rows("Names")
    owner = Owner("host.example.org", 4242)
    for format, cell in zip((FORMAT_21, FORMAT_3), claim[1:]):
        (pattern,) = code_spans(cell)
        name = pattern
        for word, value in (("LOCK", "a.lock"), ("HOST", owner.host), ("PID", "4242"),
                            ("COUNTER", "1"), ("RANDOM", "77")):
            name = name.replace(word, value)
        assert owner in grammar.owners_of_claim(format, "a.lock", name)
        assert name == grammar.claim_name(
            format, "a.lock", owner.host, 4242, 1 if format == FORMAT_21 else 77)
    (pattern,) = code_spans(after[1])
    assert owner in grammar.owners_of_claim(
        FORMAT_21, "L", pattern.replace("LOCK", "L").replace("HOST", owner.host).replace(
            "PID", "4242"))


def test_ambiguous_name_has_the_two_readings_that_the_page_gives() -> None:
    text = " ".join(section(PAGE, "Names").split())
    assert "`test.lock.web.5.12` is process 5 on `web`, or process 12 on a host called `web.5`" in (
        text)
    assert set(grammar.owners_of_claim(FORMAT_21, "test.lock", "test.lock.web.5.12")) == {
        Owner("web", 5), Owner("web.5", 12)}


LOCKS = [(row[0].split("**")[1], code_spans(row[0])[0], row[1])
         for row in rows("The locks, for how long, and whose")]


def test_locks_in_the_lock_directory_are_taken_for_locks() -> None:
    inside = [(version, name[len("locks/"):]) for version, name, _ in LOCKS
              if name.startswith("locks/")]
    assert len(inside) == len(LOCKS) - 1
    for version, name in inside:
        master = "master-qrunner" if version == "2.1" else "master.lck"
        assert grammar.is_lock_name(version, name, master), name


def constants_of_mailman3() -> dict[str, float]:
    """Lifetimes (seconds) by lock, from the source and the modules of the real Mailman 3."""
    python = ensure_mailman3() / "python"
    asked = subprocess.run(
        [python, "-c",
         "import inspect, json, re, datetime\n"
         "from flufl.lock import _lockfile as lock\n"
         "from mailman.bin import master\n"
         "from mailman.commands import cli_gatenews as gate\n"
         "hours = re.search(r'LOCK_LIFETIME = datetime.timedelta.hours=(.).', "
         "inspect.getsource(gate))[1]\n"
         "print(json.dumps({'master.lck': master.LOCK_LIFETIME.total_seconds(),"
         " 'refresh': master.SECONDS_IN_A_DAY, 'gatenews.lock': int(hours) * 3600,"
         " 'others': lock.DEFAULT_LOCK_LIFETIME.total_seconds(),"
         " 'slop': lock.CLOCK_SLOP.total_seconds()}))"],
        capture_output=True, text=True, check=True,
    )
    found: dict[str, float] = json.loads(asked.stdout)
    return found


def test_lifetimes_of_mailman_3_are_those_of_the_real_one() -> None:
    real = constants_of_mailman3()
    told = {name[len("locks/"):]: span(words) for version, name, words in LOCKS if version == "3"}
    assert told.pop("master.lck") == real["master.lck"] == LIFETIME_OF_MASTER_LOCK
    assert told.pop("gatenews.lock") == real["gatenews.lock"]
    assert set(told.values()) == {real["others"]} and len(told) >= 4
    assert real["refresh"] == span("24 h") and "touched once in 24 h" in PAGE
    assert real["slop"] == holding.CLOCK_SLOP == span("10 s")
    assert "broken by anyone 10 seconds after its expiry" in " ".join(PAGE.split())


def test_lifetimes_of_mailman_21_are_those_that_it_has(installation21: Mailman21) -> None:
    told = {name[len("locks/"):]: span(words) for version, name, words in LOCKS
            if version == "2.1"}
    assert told["master-qrunner"] == LIFETIME_OF_MASTER_LOCK
    asked = installation21.asked("LIST_LOCK_LIFETIME")
    assert told["LIST.lock"] == asked["LIST_LOCK_LIFETIME"]


def test_own_locks_are_called_as_the_page_says() -> None:
    assert slices.lock_name("in", slices.Slice(0, 4)) == "qfiles:in:0:4.lock"
    assert "`qfiles:QUEUE:SLICE:SLICES.lock`" in PAGE and span("30 h") == launch.LIFETIME
    assert f"`{release.GUARD}`" in PAGE and f"`{directory.QUARANTINE}`" in PAGE


# -- the messages


def quoted(table: int) -> list[str]:
    """Mailman's messages in the first column of a table, which stand in code spans."""
    return [
        span for row in rows("You came with a message", table) for span in code_spans(row[0])[:1]
        if not row[0].startswith("no message")
    ]


def said_by(*sources: Path) -> str:
    """Every text that these programs may print, white space made one blank."""
    texts = [
        node.value for source in sources for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(" ".join(text.split()) for text in texts)


def test_messages_of_mailman_3_are_in_the_real_ones_source() -> None:
    (packages,) = (ensure_mailman3().parent / "lib").glob("python3*/site-packages")
    told = said_by(
        packages / "mailman/bin/master.py", packages / "mailman/commands/cli_control.py",
        packages / "mailman/commands/cli_status.py", packages / "flufl/lock/_lockfile.py",
    )
    messages = quoted(0)
    assert len(messages) >= 8
    for message in messages:
        for state in ("host_mismatch", "stale_lock"):
            message = message.replace(f"({state})", "({})")
        for part in message.split("…"):
            assert " ".join(part.split()) in told, message


@pytest.mark.skipif(
    "MAILMAN21_PREFIX" not in os.environ, reason="2.1 is in no registry: set MAILMAN21_PREFIX"
)
def test_messages_of_mailman_21_are_in_the_real_ones_source() -> None:
    prefix = Path(os.environ["MAILMAN21_PREFIX"])
    told = " ".join(
        (prefix / "bin/mailmanctl").read_text().split()
        + (prefix / "Mailman/LockFile.py").read_text().split()
    )
    for message in quoted(1):
        for part in message.split("…"):
            assert " ".join(part.split()) in told, message


def test_real_mailman_3_refuses_another_hosts_lock_with_the_messages_of_the_page(
    make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("mailman3")
    installation.make_dead_lock("n2.lab.example", 564)
    started = installation.run(installation.start_command())
    assert started.returncode == 2
    assert quoted(0)[0] in started.stdout + started.stderr
    asked = installation.mailman("status")  # type: ignore[attr-defined]
    (message,) = [one for one in quoted(0) if "unexpected state" in one]
    pattern = re.escape(message).replace("…", r"\S+")
    assert asked.returncode == 3 and re.search(pattern, asked.stdout)
    assert "(exit status 3)" in PAGE and installation.masters() == []


def test_lock_moved_aside_as_the_page_says_is_out_of_the_way_and_kept_whole(
    make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("mailman3")
    dead = installation.make_dead_lock("n2.lab.example", 564)
    waiting = installation.lock_dir / "mta"
    waiting.touch()
    lines = re.findall(r"^    (.*)$", section(PAGE, "What to type"), re.MULTILINE)
    assert lines[0] == "cd /var/lib/mailman3/locks"
    commands = "\n".join([f"cd '{installation.lock_dir}'", *lines[1:]])
    done = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert installation.mailman("status").returncode == 0  # type: ignore[attr-defined]
    assert waiting.exists() and not dead.lock.exists()
    aside = installation.lock_dir.parent / "locks-aside"
    assert {path.name for path in aside.iterdir()} == {dead.lock.name, dead.claim.name}
    assert (aside / dead.lock.name).stat().st_nlink == 2
