"""What the cluster adds to Mailman's own cold start: from the fencing to the first delivery.

Two measurements on the same nodes, each beginning on a freshly booted one, while somebody outside
posts all the time:

* Mailman alone: no cluster, the disk mounted, the address up; from typing Mailman's own start
  command to the first delivery of a post that came in after it.
* The cluster: the active node loses its power and stays off; from the fencing, without which
  nothing may start, to the first such delivery.

What the second takes more than the first is Pacemaker's, Filesystem's, IPaddr2's and ours. How
long each start action took is asked from the CIB.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .client import Lab, LabFailure
from .cluster import DOMAIN, VIRTUAL_ADDRESS
from .sites import ADDRESS, FILESYSTEM, JANITOR, LMTP_PORT, MASTER, Standin21
from .traffic import Traffic

LIST = f"test@lists.{DOMAIN}"
RATE = 5.0  # posts a second
ADDED = 1.0  # seconds that a failover may add to Mailman's own cold start
STARTS = (FILESYSTEM, JANITOR, ADDRESS, MASTER)


@dataclass(frozen=True)
class ColdStart:
    """Seconds from Mailman's start command to each step."""

    master: float
    accepted: float
    delivered: float


@dataclass(frozen=True)
class Failover:
    """Seconds from the fencing to each step; `starts`: how long each resource's start took."""

    starts: dict[str, float]
    master: float
    accepted: float
    delivered: float


def measure(
    name: str, suite: str, site: str, rounds: int, say: Callable[[str], None]
) -> Comparison:
    """Both measurements in turn, `rounds` times."""
    lab = Lab(name, suite, 2, site, say)
    alone, taken_over = [], []
    try:
        lab.up(owned=True, boot=False)
        set_up(lab)
        for number in range(1, rounds + 1):
            alone.append(cold_start(lab))
            taken_over.append(failover(lab))
            say(f"round {number}: {alone[-1]}, {taken_over[-1]}")
    finally:
        lab.down()
    return Comparison(site, suite, alone, taken_over)


@contextlib.contextmanager
def without_cluster(lab: Lab) -> Iterator[str]:
    """A node, freshly booted, with the share and the address and no cluster; off again after."""
    node = "n1"
    lab.boot(node, cluster=False)
    lab.run(node, ["mount", "/dev/shared-disk", lab.site.mount_point])
    # No Mailman runs anywhere now: what the last failover's left is nobody's.
    lab.run(node, ["find", lab.site.lock_directory(), "-maxdepth", "1", "-type", "f", "-delete"])
    lab.run(node, ["ip", "address", "add", f"{VIRTUAL_ADDRESS}/24", "dev", "eth0"])
    lab.wait_until("the address answers", lambda: address_answers(lab), 30)
    try:
        yield node
        lab.wait_until("Mailman runs", lambda: not lab.unmet_promise(), 120)
        lab.run(node, ["kill", *map(str, lab.daemons()[node]["master"])])
        lab.wait_until("Mailman has ended", lambda: not lab.daemons(), 120)
        lab.run(node, ["umount", lab.site.mount_point])
    finally:
        lab.kill(node)


def set_up(lab: Lab) -> None:
    """The first start of all makes the database; then there is a list."""
    with without_cluster(lab) as node:
        lab.run(node, lab.site.start_command(force=False))
        lab.wait_until("Mailman runs", lambda: not lab.unmet_promise(), 120)
        for words in lab.site.create_list(LIST, Standin21.subscribers):
            lab.run(node, words, timeout=120)


def cold_start(lab: Lab) -> ColdStart:
    """Mailman alone, from its own start command."""
    with without_cluster(lab) as node, posts(lab) as traffic:
        began = time.time()
        lab.run(node, lab.site.start_command(force=False))
        return ColdStart(*steps(lab, traffic, node, began))


def failover(lab: Lab) -> Failover:
    """Boot the cluster and cut the active node's power; all nodes are off in the end."""
    for node in lab.node_names:
        lab.boot(node)
    lab.wait_members(180)
    active = lab.wait_serving(180)
    (survivor,) = set(lab.node_names) - {active}
    lab.request("stay-off", node=active, off=True)
    with posts(lab) as traffic:
        began = time.time()
        lab.kill(active)
        fenced = lab.wait_until("fenced", lambda: fencing(lab, active, began), 60, 0.05)
        found = steps(lab, traffic, survivor, fenced)
        lab.wait_serving(180)
        durations = start_durations(lab, survivor)
    lab.request("stay-off", node=active, off=False)
    lab.kill(survivor)
    return Failover(durations, *found)


def address_answers(lab: Lab) -> bool:
    """Whether the virtual address answers from outside, be it with a refusal."""

    def refused() -> bool:
        try:
            socket.create_connection((VIRTUAL_ADDRESS, LMTP_PORT), timeout=0.3).close()
        except OSError as trouble:
            return isinstance(trouble, ConnectionRefusedError)
        return True

    return lab.from_outside(refused)


@contextlib.contextmanager
def posts(lab: Lab) -> Iterator[Traffic]:
    """Posts for the length of a with block; all that were accepted must arrive."""
    traffic = Traffic(lab, LIST, Standin21.subscribers, RATE, label="start")
    with traffic.flowing():
        yield traffic
    tally = traffic.wait_delivered(120)
    if tally.lost:
        raise LabFailure(f"{len(tally.lost)} posts were lost")


def steps(lab: Lab, traffic: Traffic, node: str, began: float) -> tuple[float, float, float]:
    """Wait for the first delivery of a post accepted since `began`; seconds until a master was
    seen on the node, until that post was accepted, and until the first one was delivered."""

    def delivered() -> float:
        return min(
            (
                delivery["time"]
                for delivery in lab.deliveries()
                if traffic.accepted.get(delivery["message_id"], 0.0) > began
            ),
            default=0.0,
        )

    moment = lab.wait_until("a post is delivered", delivered, 180)
    master = next(
        seen["time"]
        for seen in lab.observations()
        if seen["time"] > began and seen["daemons"].get(node, {}).get("master")
    )
    accepted = min(when for when in traffic.accepted.values() if when > began)
    return master - began, accepted - began, moment - began


def fencing(lab: Lab, node: str, since: float) -> float:
    """When the node was fenced, in seconds since the epoch; 0.0: not yet."""
    return next(
        (
            float(event["time"])
            for event in lab.events()
            if event["event"] == "fenced" and event["node"] == node and event["time"] > since
        ),
        0.0,
    )


def start_durations(lab: Lab, node: str) -> dict[str, float]:
    """How long the last start action of each resource took on the node (seconds)."""
    done = lab.run(node, ["cibadmin", "--query", "--scope", "status"])
    found = {}
    for state in ElementTree.fromstring(done.stdout).iterfind("node_state"):
        for resource in state.iterfind(".//lrm_resource") if state.get("uname") == node else ():
            for operation in resource.iterfind("lrm_rsc_op[@operation='start']"):
                found[resource.get("id", "")] = int(operation.get("exec-time", "0")) / 1000
    return found


@dataclass(frozen=True)
class Comparison:
    """The medians of one site's rounds, in seconds."""

    site: str
    suite: str
    alone: list[ColdStart]
    taken_over: list[Failover]

    def added(self) -> float:
        """How much later than Mailman alone the cluster delivers: the median over the rounds."""
        return statistics.median(
            ours.delivered - own.delivered for own, ours in zip(self.alone, self.taken_over)
        )

    def missed(self) -> bool:
        return self.added() > ADDED

    def rows(self) -> list[tuple[str, str, str]]:
        """What, how long for Mailman alone, how long in the cluster."""
        found = [
            (f"start of {resource}", "", median(each.starts[resource] for each in self.taken_over))
            for resource in STARTS
        ]
        for field, what in STEPS.items():
            own, ours = (
                median(getattr(each, field) for each in side)
                for side in (self.alone, self.taken_over)
            )
            found.append((what, own, ours))
        verdict = "MISSED" if self.missed() else "ok"
        return [*found, (f"added, limit {ADDED:+.2f}", verdict, f"{self.added():+.2f}")]

    def markdown(self) -> str:
        """The rows as a table."""
        lines = [("seconds", "Mailman alone", "the cluster"), ("---", "---", "---"), *self.rows()]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.site} on {self.suite}, {len(self.alone)} rounds\n\n{body}\n"


STEPS = {
    "master": "until a master is seen",
    "accepted": "until a post is accepted",
    "delivered": "until it is delivered",
}

INTRODUCTION = f"""\
# What a failover adds to Mailman's own cold start

Written by `make bench-failover WRITE=docs/bench-failover.md`. *Mailman alone*: a freshly booted
node without a cluster, the disk mounted, the address up; from Mailman's own start command on.
*The cluster*: the active node's power is cut; from its fencing on, without which nothing may start
elsewhere. Both in turn on the same nodes, while posts come in all the time; only a post that was
accepted since counts as delivered. What the cluster adds is Pacemaker's, Filesystem's, IPaddr2's
and ours; the limit is {ADDED:.0f} s.

*Added* is the median over the rounds. Mailman 3 needs many: each of its runners takes the lock
`dbcreate.lck` when it starts, and sleeps for up to two seconds where another has it, so that one
start is seconds faster than the next.
"""


def median(seconds: Iterable[float]) -> str:
    """The median in two places."""
    return f"{statistics.median(seconds):.2f}"


def compare_sites(
    name: str, suite: str, sites: Sequence[str], rounds: int, written: Path | None,
    say: Callable[[str], None],
) -> int:
    """One lab after another; 1 where a failover added too much."""
    compared = []
    for site in sites:
        compared.append(measure(name, suite, site, rounds, say))
        for row in compared[-1].rows():
            say(f"  {row[0]:<30} {row[1]:>14} {row[2]:>14}".rstrip())
    if written:
        load = (
            f"{os.cpu_count()} cores; {os.getloadavg()[1]:.1f} processes were ready to run on "
            "average over the last five minutes.\n"
        )
        parts = [INTRODUCTION, load, *(each.markdown() for each in compared)]
        written.write_text("\n".join(parts), encoding="utf-8")
    return 1 if any(each.missed() for each in compared) else 0
