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
OUTSIDE = str(NETWORK[1])  # the SMTP sink, and whoever posts
VIRTUAL_ADDRESS = str(NETWORK[100])
DOMAIN = "lab.example"

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
    """One resource of the group, by agent name `class:provider:type`."""

    id: str
    agent: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()


def cib(nodes: Sequence[str], group: Sequence[Resource]) -> str:
    """The CIB: one fence device for all nodes and the group `mail`."""
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
        },
    )
    ElementTree.SubElement(configuration, "nodes")
    resources = ElementTree.SubElement(configuration, "resources")
    resources.append(primitive(fence_device(nodes)))
    if group:
        members = ElementTree.SubElement(resources, "group", id="mail")
        for resource in group:
            members.append(primitive(resource))
    ElementTree.SubElement(configuration, "constraints")
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
