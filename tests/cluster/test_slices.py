"""Queues in slices over three nodes: nothing is lost and no slice has two runners, whoever dies.

Mailman 3 with `in` in 4 slices and `out` in 8, and 2.1 with the same: the stand-in, and the
real one where it is given.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from lab.client import Lab, LabFailure, places_of
from lab.sites import slice_name
from lab.traffic import Traffic

from .conftest import FAILED, bring_up, show
from .failover import LIST, MAILMAN21_GIVEN
from .shared_queues import Cut, Entry, cut_power, entries, unknown_files

KINDS = [("trixie", "mailman3-slices"), ("bookworm", "standin21-slices")]
if MAILMAN21_GIVEN:
    KINDS.append(("trixie", "mailman21-slices"))

POSTS = 2000
RATE = 40.0  # posts a second at most; a machine of two cores takes less of Mailman 3
CONNECTIONS = 4
FIRST_CUT, SECOND_CUT = 200, 700  # posts accepted until a node is cut

SERVED_WITHIN = 90.0  # seconds from a cut until every slice runs again, with posts flowing
TAKEN_OVER_WITHIN = 45.0  # the same without posts, on the survivors alone; about 8 on two cores
DRAINED_WITHIN = 300.0  # seconds from the last post until nothing is queued


@dataclass
class Sliced:
    """A lab at the beginning of a test; `began` in seconds since the epoch."""

    lab: Lab
    began: float
    subscribers: tuple[str, ...]
    cuts: list[Cut] = field(default_factory=list)

    def slice_keys(self) -> list[str]:
        """All slices, as `in:0:4`."""
        return [f"{name}:{i}:{n}" for name, n in self.lab.site.slices.items() for i in range(n)]

    def node_of_master(self) -> str:
        """The node that has the master."""
        (node,) = self.lab.masters()
        return node

    def node_with_slices_only(self) -> str:
        """A node that runs slices and no master."""
        daemons = self.lab.daemons()
        nodes = sorted(node for node, found in daemons.items() if "master" not in found)
        assert nodes, f"no node runs slices without the master: {daemons}"
        return nodes[0]

    def cut(self, node: str) -> Cut:
        """Cut a node's power and note what it had in work."""
        cut = cut_power(self.lab, node)
        self.cuts.append(cut)
        return cut

    def wait_all_slices(self, cut: Cut) -> float:
        """Until every slice has one runner again; seconds since the cut, as the watcher saw it."""
        wanted = set(self.slice_keys())

        def first_whole() -> float:
            gone = False  # the cut node, which may be back before all of its slices are
            for seen in self.lab.observations():
                if seen["time"] > cut.time:
                    gone = gone or cut.node not in seen["daemons"]
                    if gone and wanted <= set(places_of(seen["daemons"])):
                        return float(seen["time"]) - cut.time
            return 0.0

        return self.lab.wait_until("every slice runs again", first_whole, SERVED_WITHIN)

    def wait_drained(self) -> list[Entry]:
        """Until no queue has an entry, or DRAINED_WITHIN, or only what nobody will take."""
        deadline = time.monotonic() + DRAINED_WITHIN
        while True:
            left = list(entries(self.lab))
            waiting = [each for each in left if each.queue not in ("shunt", "bad")]
            if not waiting or time.monotonic() > deadline:
                return left
            time.sleep(0.5)


class Held:
    """The lab of one kind; replaced when a test broke it."""

    def __init__(self, suite: str, site: str) -> None:
        self.kind = (suite, site)
        self.lab: Lab | None = None

    def serving(self) -> Lab:
        """The lab with all nodes members, all slices and the master running."""
        if self.lab is not None:
            try:
                self.lab.wait_members(60)
                self.lab.wait_serving(90)
            except LabFailure:  # an earlier test broke it, and has said so
                self.lab.down()
                self.lab = None
        if self.lab is None:
            self.lab = bring_up(*self.kind, nodes=3)
        return self.lab


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def held(request: pytest.FixtureRequest) -> Iterator[Held]:
    """One lab after the other: each goes down before the next comes up."""
    held = Held(*request.param)
    try:
        yield held
    finally:
        if held.lab is not None:
            held.lab.down()


@pytest.fixture
def sliced(held: Held, request: pytest.FixtureRequest) -> Iterator[Sliced]:
    """A lab that serves, with nothing on its slate."""
    lab = held.serving()
    began = time.time()
    members = lab.run(lab.wait_serving(), lab.site.list_members(LIST)).stdout.split()
    yield Sliced(lab, began, tuple(members))
    if FAILED in request.node.stash:
        show(lab, began)


Measured = Callable[[str], None]


@pytest.mark.timeout(420)
def test_depth_of_each_slice_is_an_attribute_of_the_node_that_runs_it(
    sliced: Sliced, measured: Measured
) -> None:
    lab = sliced.lab
    wanted = {
        (f"{slice_name(lab.site.queue_of(name))}-{number}-{what}", node)
        for name, count in lab.site.slices.items()
        for number in range(count)
        for node, _ in places_of(lab.daemons())[f"{name}:{number}:{count}"]
        for what in ("depth", "oldest", "bak")
    }
    assert len(wanted) == 3 * 12
    found = lab.wait_until(
        "all slices have published",
        lambda: attributes(lab) if set(attributes(lab)) >= wanted else {},
        60,
    )
    assert set(found) == wanted
    assert all(re.fullmatch("[0-9]+", value) for value in found.values()), found

    # An entry in work that no runner touches before it starts anew: the count must follow.
    top = lab.share() / lab.site.queue_directory() / "out"
    entry = top / f"{time.time() - 100:.6f}+{'f' * 40}.bak"  # the last slice's
    name = f"{slice_name('out')}-7"
    entry.write_bytes(b"")
    try:
        assert wait_value(lab, f"{name}-bak", "1")
        assert int(value_of(lab, f"{name}-oldest")) >= 100
        assert value_of(lab, f"{name}-depth") == "1"
    finally:
        entry.unlink()
    assert wait_value(lab, f"{name}-bak", "0")
    measured(f"{len(found)} node attributes of 12 slices")


@pytest.mark.timeout(900)
def test_no_post_is_lost_and_no_slice_runs_twice_while_nodes_are_cut(
    sliced: Sliced, measured: Measured
) -> None:
    lab = sliced.lab
    posted = time.monotonic()
    traffic = Traffic(lab, LIST, sliced.subscribers, RATE, "sliced", CONNECTIONS, POSTS)
    taken_over = []
    with traffic.flowing():
        for goal, choose in (
            (FIRST_CUT, sliced.node_with_slices_only),
            (SECOND_CUT, sliced.node_of_master),
        ):
            traffic.wait_accepted(max(1, goal - len(traffic.accepted)), 120)
            lab.wait_members(90)  # a second cut finds the first node back
            lab.wait_serving(90)
            assert traffic.is_alive(), "all posts were accepted before the cut"
            cut = sliced.cut(choose())
            taken_over.append(sliced.wait_all_slices(cut))
            lab.wait_serving(90)
        traffic.wait_all_accepted(300)
    accepted = time.monotonic() - posted
    left = sliced.wait_drained()
    tally = traffic.wait_delivered(10)
    delivered = time.monotonic() - posted
    lab.wait_members(90)
    lab.wait_serving(90)

    for cut, seconds in zip(sliced.cuts, taken_over):
        measured(
            f"{cut.node} with {len(cut.died)} of Mailman's processes cut, "
            f"{len(cut.hit())} posts in work: every slice runs again after {seconds:.1f} s"
        )
    measured(
        f"{tally.accepted} posts accepted in {accepted:.0f} s, delivered in {delivered:.0f} s "
        f"({POSTS / delivered:.1f} a second), {tally.copies} copies, "
        f"{len(tally.lost)} lost, {len(tally.duplicated)} twice"
    )
    for line in explanations(traffic, tally.duplicated, sliced):
        measured(line)
    partial = [name for name in unknown_files(lab) if not name.endswith(".pck.tmp")]

    assert tally.accepted == POSTS
    assert tally.lost == []
    assert lab.doubles(sliced.began) == []
    assert left == []
    assert partial == []
    assert lab.unmet_promise() == ""
    # A runner has one entry in work. What it had when its power was cut, it or its successor works
    # on again from the start, also where the next queue or the mail server already had it. A post
    # whose answer was lost is posted again. There is no third way to get a post twice.
    for cut in sliced.cuts:
        assert all(len(posts) <= 1 for posts in cut.in_work.values()), cut
    hit = set().union(*(cut.hit() for cut in sliced.cuts))
    assert set(tally.duplicated) <= hit | traffic.in_doubt
    assert len(tally.duplicated) <= sum(len(cut.died) for cut in sliced.cuts) + 2 * CONNECTIONS


@pytest.mark.timeout(300)
def test_slices_of_a_lost_node_run_on_the_survivors_each_exactly_once(
    sliced: Sliced, measured: Measured
) -> None:
    lab = sliced.lab
    lost = sliced.node_with_slices_only()
    before = places_of(lab.daemons())
    theirs = [key for key in sliced.slice_keys() if before[key][0][0] == lost]
    assert theirs
    with lab.staying_off(lost):
        cut = sliced.cut(lost)
        seconds = sliced.wait_all_slices(cut)
        after = places_of(lab.daemons())
    for key in sliced.slice_keys():
        assert len(after[key]) == 1, (key, after[key])
        if key not in theirs:
            assert after[key] == before[key], f"{key} of a survivor was moved or restarted"
    assert seconds <= TAKEN_OVER_WITHIN
    lab.wait_members(90)
    lab.wait_serving(90)
    assert lab.doubles(sliced.began) == []
    still = places_of(lab.daemons())
    for key in sliced.slice_keys():
        assert still[key] == after[key], f"{key} was restarted because {lost} came back"
    measured(f"{len(theirs)} slices of {lost} run on the survivors {seconds:.1f} s after the cut")


# ------------------------------------------------------------------ reading


def explanations(traffic: Traffic, duplicated: list[str], sliced: Sliced) -> Iterator[str]:
    """For each post that somebody got twice a line that says why."""
    copies: Counter[tuple[str, str]] = Counter()
    times: dict[str, list[float]] = {}
    for delivery in sliced.lab.deliveries():
        identity = delivery["message_id"]
        copies[identity, delivery["recipient"]] += 1
        times.setdefault(identity, []).append(delivery["time"])
    for identity in duplicated:
        most = max(count for (each, _), count in copies.items() if each == identity)
        why = "NOT EXPLAINED"
        if identity in traffic.in_doubt:
            why = "its answer was lost and it was posted again"
        for cut in sliced.cuts:
            for runner, posts in cut.in_work.items():
                if identity in posts:
                    first, last = (
                        each(times[identity], default=math.nan) - cut.time for each in (min, max)
                    )
                    why = (
                        f"{runner} on {cut.node} had it in work at the cut; "
                        f"copies came {first:+.1f} s to {last:+.1f} s from the cut"
                    )
        yield f"{most} copies of {identity}: {why}"


def attributes(lab: Lab) -> dict[tuple[str, str], str]:
    """The slices' node attributes: (name, node) → value, as crm_mon shows them."""
    status = lab.cluster_status()
    assert status is not None
    return {
        (attribute.get("name", ""), node.get("name", "")): attribute.get("value", "")
        for node in status.iterfind("./node_attributes/node")
        for attribute in node.iterfind("attribute")
        if "-slice-" in attribute.get("name", "")
    }


def value_of(lab: Lab, name: str) -> str:
    """The value of a node attribute that one node has, by attrd_updater."""
    query = ["attrd_updater", "--query", "--all", "--name", name]
    said = lab.run(next(iter(lab.inits())), query).stdout
    (value,) = re.findall(r'value="([^"]*)"', said)
    return str(value)


def wait_value(lab: Lab, name: str, value: str) -> bool:
    """Until a node attribute has this value."""
    return lab.wait_until(f"{name} is {value}", lambda: value_of(lab, name) == value, 60, 1.0)
