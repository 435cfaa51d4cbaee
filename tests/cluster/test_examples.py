"""The examples as an administrator would use them: loaded by the real pcs and the real crm of both
Debian releases, in the node images of the lab, and played through by their Pacemaker.

No cluster runs for that: each tool works on a file, in a view of the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mailman_ha.topology import cib_xml, shape
from mailman_ha.topology.site import Site

from lab import image
from tests.topology import pacemaker_tools, sites
from tests.topology.pacemaker_tools import Loaded

SUITES = ("bookworm", "trixie")

#: Those whose script for pcs is run as a whole besides, which takes long: the shortest, and one
#: with all that pcs has commands for.
IN_FULL = ("janitor-alone", "two-nodes-drbd")

#: What the operator's command makes of each node's loss, on the machine that the image is.
SIMULATE = """
for node in $NAMES; do
    /project/lib/mailman_ha/cli/mailman-ha simulate --json /project/crm-examples/{0}.yaml \\
        --lose $node > simulated-$node.json || [ $? = 1 ]
done
"""


@dataclass(frozen=True)
class Example:
    """An example on a suite: what is described, what was loaded, what the command told."""

    name: str
    site: Site
    loaded: Mapping[str, Loaded]
    simulated: Mapping[str, Any]


@pytest.fixture(scope="module", params=SUITES)
def root(request: pytest.FixtureRequest) -> str:
    """The tree of a suite's node image."""
    return str(image.node_image(request.param))


@pytest.fixture(scope="module", params=sites.NAMES)
def example(
    root: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Example:
    """Each example, loaded once on each suite."""
    site, path = sites.example(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    nodes = [node.name for node in site.nodes]
    files = sites.rendered(site, path)
    if request.param in IN_FULL:
        files["pcs in full"] = files["pcs"]
    loaded = pacemaker_tools.load(directory, nodes, files, root, SIMULATE.format(request.param))
    simulated = {
        node: json.loads(Path(directory, f"simulated-{node}.json").read_text()) for node in nodes
    }
    return Example(request.param, site, loaded, simulated)


def test_example_means_the_same_to_pcs_crm_and_cibadmin(example: Example) -> None:
    pacemaker_tools.assert_all_mean(example.loaded, cib_xml.tree(shape.build(example.site)))


def test_survivors_take_over_and_nobody_else_is_troubled(example: Example) -> None:
    """A lost node's slices are taken by the others, whose own stay; one that joins moves none."""
    played = example.loaded["cib"].played
    place = {
        resource: node for resource, action, node in pacemaker_tools.done_at(played, "start")
        if action == "start" and resource.startswith(("mailman-in", "mailman-out"))
    }
    names = [node.name for node in example.site.nodes]
    if example.site.queues:
        assert len(place) == sum(queue.slices for queue in example.site.queues)
        assert set(place.values()) == set(names), "not spread"
    for node in names:
        done = pacemaker_tools.done_at(played, f"--node-fail {node}")
        taken = {resource for resource, where in place.items() if where == node}
        assert {(resource, action) for resource, action, _ in done if resource in place} == {
            (resource, "start") for resource in taken}
        assert node not in {where for _, _, where in done}
        place.update({resource: where for resource, _, where in done if resource in taken})
        back = pacemaker_tools.done_at(played, f"--node-up {node}")
        kept = {"mailman", "mailman-address", *place}
        assert not {resource for resource, _, _ in back} & kept, (
            "a node that joins must not trouble what runs on the others"
        )


def test_simulation_of_the_command_tells_what_pacemaker_does(example: Example) -> None:
    for node, told in example.simulated.items():
        assert told["missing"] == []
        assert [step["node"] for step in told["steps"] if step["action"] == "fence"] == [node]
        assert node not in {place for places in told["after"].values() for place in places}
    first = example.site.nodes[0].name
    done = pacemaker_tools.done_at(example.loaded["cib"].played, f"--node-fail {first}")
    told = example.simulated[first]["steps"]
    assert sorted(done) == sorted(
        (step["resource"], step["action"], step["node"]) for step in told
        if step["action"] in ("start", "promote", "stop")
    )
