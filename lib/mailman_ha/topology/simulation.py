"""Play a configuration through with crm_simulate: all nodes online, then one thing happens."""

from __future__ import annotations

import os
import tempfile
from xml.etree import ElementTree

from mailman_ha.evidence import command
from mailman_ha.ocf.record import record
from mailman_ha.topology import cib_xml, shape, transition
from mailman_ha.topology.transition import FAIL, LOSE, STANDBY, Event, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailman_ha.topology.resources import Configuration
    from mailman_ha.topology.site import Site

#: How long one crm_simulate may take (seconds); it takes a tenth of one.
SECONDS = 60.0

#: How many transitions may follow one another until nothing more is to be done.
MOST_ROUNDS = 8


#: What a CIB of Pacemaker 2.1 says it can; later ones take it, too.
FEATURES = "3.10.0"


class CannotSimulate(Exception):
    """crm_simulate is missing or failed; the text says which, and the way out."""


class NoSuchThing(Exception):
    """The event is about something that the site does not have; the text says what it has."""


@record
class Simulation:
    """What came of an event. `before` and `after`: the nodes of each resource that runs, with its
    role where that is not Started. `missing`: what does not run any more and should."""

    event: Event
    before: Mapping[str, tuple[str, ...]]
    steps: tuple[Step, ...]
    after: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]


def simulate(site: Site, kind: str, thing: str, node: str = "") -> Simulation:
    """Let a site lose the node `thing` (LOSE), put it on STANDBY, or let the resource `thing` FAIL,
    on `node` where it runs on several. Raises NoSuchThing and CannotSimulate."""
    configuration = shape.build(site)
    names = [one.name for one in site.nodes]
    if kind in (LOSE, STANDBY) and thing not in names:
        raise NoSuchThing(f"it has no such node; its nodes: {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="mailman-ha-simulate-") as directory:
        path = os.path.join(directory, "cib.xml")
        ElementTree.ElementTree(nodes_online(configuration, names)).write(path)
        before, _ = _settle(path, [])
        if kind == FAIL:
            node = _place_of(configuration, thing, node, before)
        event = Event(kind, node or thing, thing if kind == FAIL else "")
        arguments = []
        if kind == LOSE:
            arguments = ["--node-fail", thing]
        elif kind == STANDBY:
            _set_standby(path, thing)
        else:
            primitive = transition.primitive_named(configuration, thing)
            assert primitive is not None
            interval = min(each.interval for each in primitive.operations if each.interval)
            arguments = ["--op-inject", f"{thing}_monitor_{interval}000@{node}=1"]
        after, graphs = _settle(path, arguments)
    steps = transition.read(graphs, configuration, event)
    missing = tuple(
        name for name in transition.instances(configuration)
        if name in before and name not in after
    )
    return Simulation(event, before, steps, after, missing)


def nodes_online(configuration: Configuration, names: Sequence[str]) -> ElementTree.Element:
    """The CIB of a cluster whose nodes are all online and run nothing yet. Where a resource can be
    promoted, it is ready for that on each."""
    root = cib_xml.tree(configuration)
    root.set("have-quorum", "1")
    # Of no CIB, or a much older one, Pacemaker would count failures in an older way.
    root.set("crm_feature_set", FEATURES)
    nodes, status = root.find("./configuration/nodes"), root.find("./status")
    assert nodes is not None and status is not None
    for number, name in enumerate(names, 1):
        identity = {"id": str(number), "uname": name}
        ElementTree.SubElement(nodes, "node", identity)
        state = ElementTree.SubElement(status, "node_state", {
            **identity, "in_ccm": "true", "crmd": "online", "join": "member",
            "expected": "member",
        })
        lrm = ElementTree.SubElement(state, "lrm", id=str(number))
        ElementTree.SubElement(lrm, "lrm_resources")
        attributes = ElementTree.SubElement(
            ElementTree.SubElement(state, "transient_attributes", id=str(number)),
            "instance_attributes", id=f"status-{number}",
        )
        ElementTree.SubElement(attributes, "nvpair", {
            "id": f"status-{number}-drbd", "name": f"master-{shape.DRBD_RESOURCE}",
            "value": "10000",
        })
    return root


def _settle(
    path: str, arguments: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], list[ElementTree.Element]]:
    """Play transitions until nothing is left to do; what runs then, and their graphs."""
    graphs = []
    more = list(arguments)
    for _ in range(MOST_ROUNDS):
        saved = f"{path}.graph"
        done = command.run(
            ["crm_simulate", "-x", path, "-S", "-O", path, "-G", saved, "--output-as=xml", *more],
            SECONDS,
            # Where a user who is not root finds no programs of Pacemaker's.
            environment={"PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"},
        )
        if done.missing:
            raise CannotSimulate(
                "crm_simulate is not installed here; apt-get install pacemaker-cli-utils "
                "(dnf install pacemaker-cli)"
            )
        if done.code != 0:
            raise CannotSimulate(f"{done.complaint()}; is this Pacemaker 2.1 or later?")
        try:
            said = ElementTree.fromstring(done.output)
            graph = ElementTree.parse(saved).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise CannotSimulate(
                f"crm_simulate answered with something that is no XML ({error}); is this "
                "Pacemaker 2.1 or later?"
            ) from error
        more = []
        if graph.find("synapse") is None:
            break
        graphs.append(graph)
    status = said.find("./revised_cluster_status")
    if status is None:
        status = said.find("./cluster_status")
    return _running(status), graphs


def _running(status: ElementTree.Element | None) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for resource in () if status is None else status.iter("resource"):
        if resource.get("active") != "true":
            continue
        for node in resource.iter("node"):
            role = resource.get("role", "Started")
            promoted = " (promoted)" if role in ("Promoted", "Master") else ""
            found.setdefault(resource.get("id", ""), []).append(
                f"{node.get('name', '')}{promoted}"
            )
    return {name: tuple(sorted(nodes)) for name, nodes in found.items()}


def _place_of(
    configuration: Configuration, thing: str, node: str, before: Mapping[str, tuple[str, ...]]
) -> str:
    """The node on which a resource fails."""
    places = [place.partition(" ")[0] for place in before.get(thing, ())]
    if not places or transition.primitive_named(configuration, thing) is None:
        raise NoSuchThing(f"it has no such resource; its resources: {', '.join(sorted(before))}")
    if node and node not in places:
        raise NoSuchThing(f"{thing} does not run on {node}, but on {', '.join(places)}")
    return node or places[0]


def _set_standby(path: str, node: str) -> None:
    tree = ElementTree.parse(path)
    for element in tree.iterfind("./configuration/nodes/node"):
        if element.get("uname") == node:
            attributes = ElementTree.SubElement(
                element, "instance_attributes", id=f"nodes-{element.get('id')}"
            )
            ElementTree.SubElement(
                attributes, "nvpair", id=f"nodes-{element.get('id')}-standby", name="standby",
                value="on",
            )
    tree.write(path)
