"""What a lab's cluster is configured with: corosync.conf and the CIB it starts from.

The nodes find both in place when they boot for the first time, so the cluster needs no loading
step and elects its DC within seconds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

NETWORK = ipaddress.ip_network("198.51.100.0/24")  # for documentation; never on the host
OUTSIDE = str(NETWORK[1])  # the SMTP sink, the database, and whoever posts
VIRTUAL_ADDRESS = str(NETWORK[100])
DOMAIN = "lab.example"
DATABASE = "mailman"  # on OUTSIDE, where a site has one: the database's name and its user's

TOKEN = 1000  # milliseconds without a token until corosync calls a node lost
FENCING_DELAY = 2  # seconds n1 is ahead of n2 when both want to fence each other


def address(node: str) -> str:
    """The address of node n1, n2, ...; also its number in the corosync node list."""
    return str(NETWORK[10 + int(node[1:])])


def hosts_file(nodes: Sequence[str]) -> str:
    """/etc/hosts of every node: gethostname() is n1, getfqdn() is n1.lab.example."""
    lines = ["127.0.0.1 localhost", f"{OUTSIDE} outside.{DOMAIN} outside"]
    lines += [f"{VIRTUAL_ADDRESS} lists.{DOMAIN} lists"]
    lines += [f"{address(node)} {node}.{DOMAIN} {node}" for node in nodes]
    return "\n".join(lines) + "\n"


def corosync_conf(name: str, nodes: Sequence[str]) -> str:
    """corosync.conf: knet, a token of one second; two nodes with two_node and wait_for_all."""
    members = "".join(
        f"    node {{\n        name: {node}\n        nodeid: {node[1:]}\n"
        f"        ring0_addr: {address(node)}\n    }}\n"
        for node in nodes
    )
    two_node = "    two_node: 1\n" if len(nodes) == 2 else "    wait_for_all: 1\n"
    return (
        f"totem {{\n    version: 2\n    cluster_name: {name}\n    transport: knet\n"
        f"    crypto_cipher: none\n    crypto_hash: none\n    token: {TOKEN}\n"
        f"    consensus: {TOKEN * 6 // 5}\n}}\n"
        f"system {{\n    move_to_root_cgroup: no\n}}\n"
        f"quorum {{\n    provider: corosync_votequorum\n{two_node}}}\n"
        f"nodelist {{\n{members}}}\n"
        f"logging {{\n    to_syslog: no\n    to_stderr: no\n    to_logfile: yes\n"
        f"    logfile: /var/log/corosync/corosync.log\n    timestamp: hires\n}}\n"
    )


@dataclass(frozen=True)
class Operation:
    """One operation of a resource; interval and timeout in seconds, level = OCF_CHECK_LEVEL."""

    name: str
    timeout: int
    interval: int = 0
    level: int = 0


@dataclass(frozen=True)
class Resource:
    """One primitive, by agent name `class:provider:type`."""

    id: str
    agent: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Clone:
    """A cloned resource: one instance on each node, or so many numbered ones on any nodes."""

    resource: Resource
    numbered: int = 0

    @property
    def id(self) -> str:
        """The clone's own name."""
        return f"{self.resource.id}-clone"

    @property
    def meta_attributes(self) -> dict[str, str]:
        """What makes the clone of this kind.

        Numbered instances may all run on one node, so that survivors take every one. They are not
        interleaved with what they stand on: Pacemaker calls that a configuration error where the
        two clones differ in clone-node-max.
        """
        if not self.numbered:
            return {"interleave": "true"}
        return {
            "globally-unique": "true",
            "clone-max": str(self.numbered),
            "clone-node-max": str(self.numbered),
        }


@dataclass(frozen=True)
class StandsOn:
    """`upper` runs only where `lower` does, and starts after it.

    `lasting`: upper is also restarted when lower is. For numbered clones that would be a restart of
    all instances whenever a node joins, so there only starts and stops that fall together are
    ordered.
    """

    upper: str
    lower: str
    lasting: bool = True


GROUP = "mail"


def cib(
    nodes: Sequence[str],
    group: Sequence[Resource],
    clones: Sequence[Clone] = (),
    constraints: Sequence[StandsOn] = (),
) -> str:
    """The CIB: one fence device for all nodes, the group `mail`, clones, what stands on what."""
    root = ElementTree.Element(
        "cib",
        {
            "validate-with": "pacemaker-3.7",
            "admin_epoch": "0",
            "epoch": "1",
            "num_updates": "0",
        },
    )
    configuration = ElementTree.SubElement(root, "configuration")
    options = ElementTree.SubElement(configuration, "crm_config")
    pairs(
        ElementTree.SubElement(options, "cluster_property_set", id="cib-bootstrap-options"),
        {
            "stonith-enabled": "true",
            "stonith-timeout": "40s",
            "dc-deadtime": "4s",
            "no-quorum-policy": "stop",
            # All nodes see the load of the one machine they share; it slows nobody down.
            "load-threshold": "10000%",
        },
    )
    # Named from the start: a fencer that comes up before its node is in the CIB leaves the fence
    # device out, and looks again only when somebody changes the resources.
    members = ElementTree.SubElement(configuration, "nodes")
    for node in nodes:
        ElementTree.SubElement(members, "node", id=node[1:], uname=node)
    resources = ElementTree.SubElement(configuration, "resources")
    resources.append(primitive(fence_device(nodes)))
    for each in clones:
        clone = ElementTree.SubElement(resources, "clone", id=each.id)
        pairs(
            ElementTree.SubElement(clone, "meta_attributes", id=f"{each.id}-meta"),
            each.meta_attributes,
        )
        clone.append(primitive(each.resource))
    if group:
        together = ElementTree.SubElement(resources, "group", id=GROUP)
        for resource in group:
            together.append(primitive(resource))
    constrained = ElementTree.SubElement(configuration, "constraints")
    for standing in constraints:
        constrained.extend(rules(standing))
    defaults = ElementTree.SubElement(configuration, "rsc_defaults")
    pairs(
        ElementTree.SubElement(defaults, "meta_attributes", id="rsc-options"),
        {"resource-stickiness": "100"},
    )
    ElementTree.SubElement(root, "status")
    return ElementTree.tostring(root, encoding="unicode")


def fence_device(nodes: Sequence[str]) -> Resource:
    """The lab's power switch. Of two nodes that lose each other, n1 survives."""
    parameters = {
        "pcmk_host_list": " ".join(nodes),
        "pcmk_host_check": "static-list",
        "pcmk_reboot_timeout": "30s",
    }
    if len(nodes) == 2:
        parameters["pcmk_delay_base"] = f"n1:{FENCING_DELAY}s;n2:0s"
    return Resource("power-switch", "stonith:fence_lab", parameters)


def rules(standing: StandsOn) -> list[ElementTree.Element]:
    """The CIB elements of one constraint: an order and a colocation."""
    name = f"{standing.upper}-on-{standing.lower}"
    order = {
        "id": f"{name}-order",
        "first": standing.lower,
        "then": standing.upper,
        "kind": "Mandatory" if standing.lasting else "Optional",
    }
    colocation = {
        "id": f"{name}-colocation",
        "rsc": standing.upper,
        "with-rsc": standing.lower,
        "score": "INFINITY",
    }
    return [
        ElementTree.Element("rsc_order", order),
        ElementTree.Element("rsc_colocation", colocation),
    ]


def primitive(resource: Resource) -> ElementTree.Element:
    """The CIB element of one resource."""
    *standard, kind = resource.agent.split(":")
    names = dict(zip(("class", "provider"), standard))
    element = ElementTree.Element("primitive", {"id": resource.id, **names, "type": kind})
    if resource.parameters:
        attributes = ElementTree.SubElement(
            element, "instance_attributes", id=f"{resource.id}-parameters"
        )
        pairs(attributes, resource.parameters)
    operations = ElementTree.SubElement(element, "operations")
    for operation in resource.operations:
        identity = f"{resource.id}-{operation.name}-{operation.interval}"
        op = ElementTree.SubElement(
            operations,
            "op",
            id=identity,
            name=operation.name,
            interval=f"{operation.interval}s",
            timeout=f"{operation.timeout}s",
        )
        if operation.level:
            level = ElementTree.SubElement(op, "instance_attributes", id=f"{identity}-level")
            pairs(level, {"OCF_CHECK_LEVEL": str(operation.level)})
    return element


def pairs(parent: ElementTree.Element, values: dict[str, str] | Mapping[str, str]) -> None:
    """Add one nvpair per value; their ids follow from the parent's."""
    for name, value in values.items():
        identity = f"{parent.get('id')}-{name}"
        ElementTree.SubElement(parent, "nvpair", id=identity, name=name, value=value)
