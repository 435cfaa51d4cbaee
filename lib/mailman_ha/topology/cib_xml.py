"""A configuration as a CIB: for `cibadmin`, `crm_verify` and `crm_simulate`."""

from __future__ import annotations

from xml.etree import ElementTree

from mailman_ha.topology import prose
from mailman_ha.topology.resources import (
    Clone,
    Colocation,
    Configuration,
    Group,
    Location,
    Order,
    Primitive,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from mailman_ha.topology.resources import Operation, Part

USE = (
    "For `cibadmin -M -c -o configuration -x FILE`, which adds it to what is configured, "
    "and for `crm_verify -V -x FILE`."
)

#: The oldest schema that knows the role Promoted: Pacemaker 2.1.
SCHEMA = "pacemaker-3.7"


def render(configuration: Configuration, head: Iterable[str] = ()) -> str:
    """The CIB as indented text, with comments."""
    root = tree(configuration, comments=True)
    first = _comment_node([*head, *configuration.head])
    if first is not None:
        root.insert(0, first)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def tree(configuration: Configuration, comments: bool = False) -> ElementTree.Element:
    """The CIB with no nodes and no status."""
    root = ElementTree.Element(
        "cib",
        {"validate-with": SCHEMA, "admin_epoch": "0", "epoch": "1", "num_updates": "0"},
    )
    inside = ElementTree.SubElement(root, "configuration")
    options = ElementTree.SubElement(inside, "crm_config")
    if configuration.properties:
        _pairs(
            ElementTree.SubElement(options, "cluster_property_set", id="cib-bootstrap-options"),
            configuration.properties,
        )
    ElementTree.SubElement(inside, "nodes")
    resources = ElementTree.SubElement(inside, "resources")
    constraints = ElementTree.SubElement(inside, "constraints")
    ElementTree.SubElement(root, "status")
    elements = {part.id: _element(part) for part in configuration.parts}
    for part in configuration.parts:
        if isinstance(part, (Order, Colocation, Location)):
            parent = constraints
        else:
            holder = configuration.holder(part.id)
            parent = elements[holder] if holder else resources
        note = _comment_node(part.comment) if comments else None
        if note is not None:
            parent.append(note)
        parent.append(elements[part.id])
    return root


def _element(part: Part) -> ElementTree.Element:
    if isinstance(part, Primitive):
        return _primitive(part)
    if isinstance(part, Group):
        return _around("group", part.id, part.meta)
    if isinstance(part, Clone):
        return _around("clone", part.id, part.meta)
    if isinstance(part, Order):
        return ElementTree.Element("rsc_order", {
            "id": part.id, "kind": part.kind, "first": part.first,
            "first-action": part.first_action, "then": part.then, "then-action": "start",
        })
    if isinstance(part, Colocation):
        role = {"with-rsc-role": part.role} if part.role else {}
        return ElementTree.Element("rsc_colocation", {
            "id": part.id, "score": "INFINITY", "rsc": part.rsc, "with-rsc": part.with_rsc, **role,
        })
    return ElementTree.Element("rsc_location", {
        "id": part.id, "rsc": part.rsc, "node": part.node, "score": part.score,
    })


def _around(
    kind: str, identity: str, meta: tuple[tuple[str, str], ...]
) -> ElementTree.Element:
    element = ElementTree.Element(kind, id=identity)
    if meta:
        _meta(element, identity, meta)
    return element


def _primitive(part: Primitive) -> ElementTree.Element:
    *standard, kind = part.agent.split(":")
    names = dict(zip(("class", "provider"), standard))
    element = ElementTree.Element("primitive", {"id": part.id, **names, "type": kind})
    if part.parameters:
        attributes = ElementTree.SubElement(
            element, "instance_attributes", id=f"{part.id}-instance_attributes"
        )
        _pairs(attributes, part.parameters)
    if part.meta:
        _meta(element, part.id, part.meta)
    operations = ElementTree.SubElement(element, "operations")
    for operation in part.operations:
        operations.append(_operation(part.id, operation))
    return element


def _operation(owner: str, operation: Operation) -> ElementTree.Element:
    identity = f"{owner}-{operation.name}-interval-{operation.interval}s"
    element = ElementTree.Element("op", {
        "id": identity, "name": operation.name, "interval": f"{operation.interval}s",
        "timeout": f"{operation.timeout}s",
    })
    if operation.role:
        element.set("role", operation.role)
    if operation.level:
        attributes = ElementTree.SubElement(
            element, "instance_attributes", id=f"{identity}-instance_attributes"
        )
        _pairs(attributes, [("OCF_CHECK_LEVEL", str(operation.level))])
    return element


def _meta(
    element: ElementTree.Element, owner: str, pairs: Iterable[tuple[str, str]]
) -> None:
    attributes = ElementTree.SubElement(element, "meta_attributes", id=f"{owner}-meta_attributes")
    _pairs(attributes, pairs)


def _pairs(parent: ElementTree.Element, pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        identity = f"{parent.get('id')}-{name}"
        ElementTree.SubElement(parent, "nvpair", id=identity, name=name, value=value)


def _comment_node(paragraphs: Iterable[str]) -> Any:
    lines = list(prose.comment(prose.for_a_cib(paragraphs), "  "))
    if not lines:
        return None
    return ElementTree.Comment("\n" + "\n".join(lines) + "\n")
