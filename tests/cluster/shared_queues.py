"""The queues of a lab's share, seen from the host: what is left in them, and what a cut hit.

Written from Mailman's own rules, not with the suite's library, which is what the tests judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.client import Lab

ENTRY = re.compile(r"(?P<time>[0-9.e+]+)\+(?P<digest>[0-9a-f]{40})\.(?P<kind>pck|bak|psv)")
MESSAGE_ID = re.compile(rb"<[\w.-]+@outside\.lab\.example>")
HASHES = 2**160

# Mailman 2.1's runners whose queue has another name than their first word in small letters.
QUEUES_21 = {
    "ArchRunner": "archive",
    "BounceRunner": "bounces",
    "CommandRunner": "commands",
    "IncomingRunner": "in",
    "NewsRunner": "news",
    "OutgoingRunner": "out",
    "RetryRunner": "retry",
    "VirginRunner": "virgin",
}


@dataclass(frozen=True)
class Entry:
    """One file of a queue: waiting (pck), in work (bak) or put aside (psv)."""

    queue: str
    name: str
    kind: str
    digest: int

    def belongs_to(self, runner: str) -> bool:
        """Whether a runner, as `out:3:8`, would take it."""
        name, number, count = runner.split(":")
        if QUEUES_21.get(name, name) != self.queue:
            return False
        first, beyond = (HASHES * each // int(count) for each in (int(number), int(number) + 1))
        return first <= self.digest < beyond


def entries(lab: Lab) -> Iterator[Entry]:
    """All entries of all queues at this moment, the shunt queue and the bad ones among them."""
    top = lab.share() / lab.site.queue_directory()
    for queue in top.iterdir():
        for file in queue.iterdir():
            known = ENTRY.fullmatch(file.name)
            if known:
                digest = int(known["digest"], 16)
                yield Entry(queue.name, file.name, known["kind"], digest)


def unknown_files(lab: Lab) -> list[str]:
    """What lies in the queues and is no entry, as `in/NAME`."""
    top: Path = lab.share() / lab.site.queue_directory()
    return [
        f"{queue.name}/{file.name}"
        for queue in top.iterdir()
        for file in queue.iterdir()
        if not ENTRY.fullmatch(file.name)
    ]


@dataclass(frozen=True)
class Cut:
    """A power cut: when (seconds since the epoch), of which node, which of Mailman died with it."""

    time: float
    node: str
    died: tuple[str, ...]  # runners, as `out:3:8`, and `master`
    in_work: dict[str, set[str]]  # runner → Message-IDs of the entry it had in work

    def hit(self) -> set[str]:
        """Message-IDs of all posts that were in work at the cut."""
        return {each for posts in self.in_work.values() for each in posts}


def cut_power(lab: Lab, node: str) -> Cut:
    """Cut a node's power and look at once, before anybody takes over, what it had in work."""
    died = tuple(sorted(lab.daemons().get(node, {})))
    lab.kill(node)
    when = max(event["time"] for event in lab.events() if event["event"] == "power-cut")
    in_work: dict[str, set[str]] = {}
    top = lab.share() / lab.site.queue_directory()
    for entry in list(entries(lab)):
        for runner in died:
            if entry.kind == "bak" and runner != "master" and entry.belongs_to(runner):
                content = (top / entry.queue / entry.name).read_bytes()
                found = in_work.setdefault(runner, set())
                found |= {each.decode() for each in MESSAGE_ID.findall(content)}
    return Cut(when, node, died, in_work)
