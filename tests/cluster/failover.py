"""What the cluster tests have in common: traffic through an accident, and the promises after it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab import mailman21
from lab.client import Lab
from lab.sites import Standin21
from lab.traffic import Traffic

LIST = "test@lists.lab.example"
MAILMAN21_GIVEN = bool(os.environ.get(mailman21.VARIABLE))  # whether a real 2.1 takes part
BEFORE, AFTER = 10, 10  # posts that must be accepted before and after the accident


def subscribers_of(lab: Lab) -> tuple[str, ...]:
    """The subscribers of LIST."""
    return Standin21.subscribers  # the same names for every site


@dataclass
class Standing:
    """A lab at the beginning of a test; `began` in seconds since the epoch."""

    lab: Lab
    began: float

    def passive_node(self, active: str) -> str:
        """The other node of two."""
        (other,) = set(self.lab.node_names) - {active}
        return other

    def make_active(self, node: str) -> None:
        """Let the group move to this node, unless it is there."""
        if self.lab.active_node() == node:
            return
        other = self.passive_node(node)
        with self.on_standby(other):
            self.lab.wait_until(
                f"{node} has the group", lambda: self.lab.active_node() == node, 60
            )
        self.lab.wait_serving(60)

    @contextlib.contextmanager
    def on_standby(self, node: str) -> Iterator[None]:
        """Keep a node on standby for the length of a with block."""
        command = self.passive_node(node)
        self.lab.run(command, ["pcs", "node", "standby", node])
        try:
            yield
        finally:
            self.lab.run(command, ["pcs", "node", "unstandby", node])

    @contextlib.contextmanager
    def traffic(self, label: str) -> Iterator[Traffic]:
        """Posts to LIST, some of them accepted before the block begins, some as it ends.

        On leaving the block: one node serves, exactly one master and one runner on each slice, at
        no moment since the test began were there two, every accepted post was delivered to every
        subscriber, and the list has the subscribers it had.
        """
        lab = self.lab
        members = self.members(lab.wait_serving(60))
        traffic = Traffic(lab, LIST, subscribers_of(lab), label=label)
        with traffic.flowing():
            traffic.wait_accepted(BEFORE)
            yield traffic
            served = lab.wait_serving(90)
            traffic.wait_accepted(AFTER)
        tally = traffic.wait_delivered(60)
        if tally.lost:
            when = {identity: traffic.accepted[identity] - self.began for identity in tally.lost}
            raise AssertionError(
                f"lost of {tally.accepted} posts, with the seconds at which they were accepted: "
                f"{when}\nleft on the share:\n{self.queued(served)}"
            )
        assert tally.accepted >= BEFORE + AFTER
        assert lab.unmet_promise() == ""
        assert lab.doubles(self.began) == []
        assert self.members(served) == members
        assert set(members) == set(subscribers_of(lab))

    def members(self, node: str) -> list[str]:
        """The subscribers of LIST as Mailman lists them."""
        return self.lab.run(node, self.lab.site.list_members(LIST)).stdout.split()

    def queued(self, node: str) -> str:
        """What lies in the queues, and the locks with their verdicts, for the text of a failure."""
        top = self.lab.site.mount_point
        find = ["find", top, "-name", "*.pck*", "-o", "-name", "*.bak", "-o", "-name", "*.psv"]
        found = self.lab.run(node, find, check=False).stdout
        return found + self.lab.run(node, ["mailman-ha", "locks"], 30, check=False).stdout

    def released_locks(self, node: str) -> list[dict[str, Any]]:
        """The evidence of every lock released since the test began, as the share has it."""
        file = f"{self.lab.site.lock_directory()}/mailman-ha.quarantine/evidence.jsonl"
        text = self.lab.run(node, ["cat", file], check=False).stdout
        entries = [json.loads(line) for line in text.splitlines()]
        return [entry for entry in entries if self.is_new(entry)]

    def is_new(self, entry: dict[str, Any]) -> bool:
        """Whether an evidence entry was written in this test; its `time` has whole seconds."""
        written = datetime.strptime(entry["time"] + "+0000", "%Y-%m-%dT%H:%M:%SZ%z").timestamp()
        return written >= int(self.began)

    def fencing_of(self, node: str) -> float:
        """When this node was fenced in this test, in seconds since the epoch."""
        times = [
            event["time"]
            for event in self.lab.events()
            if event["event"] == "fenced" and event["node"] == node and event["time"] >= self.began
        ]
        assert times, f"{node} was not fenced"
        return float(times[0])

    def first_master_on(self, node: str) -> float:
        """When a master was first seen on this node in this test."""
        for observation in self.lab.observations():
            found = observation["daemons"].get(node, {}).get("master")
            if found and observation["time"] >= self.began:
                return float(observation["time"])
        raise AssertionError(f"no master was seen on {node}")
