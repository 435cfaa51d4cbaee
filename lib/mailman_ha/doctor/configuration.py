"""The cluster's configuration as the doctor needs it: a whole CIB, in relations of primitives.

Parameters are found by `evidence.cib`. Here are the operations with their timeouts, and what runs
where and before what: groups, clones, constraints, resource sets, tags and templates all come down
to "this primitive before that one" and "this primitive where that one is".
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from mailman_ha.evidence import cib
from mailman_ha.evidence.cib import ResourceInCib
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_integer, parse_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: Pacemaker's own, where neither the operation nor op_defaults says one (seconds).
DEFAULT_TIMEOUT = 20.0

JANITOR = "ocf:mailman:list-lock-janitor"
MASTER = "ocf:mailman:mailman-master"
SLICE = "ocf:mailman:qfiles-slice"
OURS = (JANITOR, MASTER, SLICE)
FILESYSTEM = "ocf:heartbeat:Filesystem"
ADDRESSES = ("ocf:heartbeat:IPaddr2", "ocf:heartbeat:IPaddr")

#: The node attribute by which nodes tell each other what they see (`node_facts`).
FACTS_ATTRIBUTE = "mailman-ha-facts"

_CONTAINERS = ("group", "clone", "master", "bundle")
_STARTS = ("start", "promote")


@record
class Operation:
    """An operation of a primitive. `timeout` in seconds, None where it cannot be read; `stated`
    says whether the operation itself names it. `level` is its OCF_CHECK_LEVEL, and `id` that of
    its element, '' where it has none."""

    name: str
    interval: float
    timeout: float | None
    stated: bool
    level: int = 0
    on_fail: str = ""
    id: str = ""
    enabled: bool = True


@record
class Resource:
    """A primitive, with the ids of what it lies in, nearest first. Its `operations` are all that
    are configured, also those that are not enabled."""

    primitive: ResourceInCib
    inside: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()

    @property
    def id(self) -> str:
        return self.primitive.id

    @property
    def agent(self) -> str:
        return self.primitive.agent

    @property
    def outermost(self) -> str:
        """What a constraint on it names best: its clone or group."""
        return self.inside[-1] if self.inside else self.id


@record
class Relation:
    """`one` before `other` (order), or `one` where `other` is (colocation). `constraint` is the id
    of what says so. An order is `mandatory` or only so if both happen at once; one that is not
    `symmetrical` does not hold when things stop."""

    one: str
    other: str
    constraint: str
    mandatory: bool = True
    symmetrical: bool = True


@record
class Configuration:
    """What the CIB says. `facts` are the lines that nodes have published, by node."""

    nodes: tuple[str, ...]
    properties: Mapping[str, str]
    resources: tuple[Resource, ...]
    orders: tuple[Relation, ...]
    colocations: tuple[Relation, ...]
    weak_colocations: tuple[Relation, ...]
    fencing_levels: bool
    facts: Mapping[str, str]

    def of(self, *agents: str) -> tuple[Resource, ...]:
        """The primitives of these agents."""
        return tuple(one for one in self.resources if one.agent in agents)

    def fencing_devices(self) -> tuple[Resource, ...]:
        """The primitives of class stonith that are not disabled."""
        return tuple(
            one for one in self.resources
            if one.agent.startswith("stonith:") and not one.primitive.disabled
        )


def parse(document: bytes) -> Configuration:
    """Read a whole CIB. Raises NoClusterEvidence for anything else."""
    primitives = cib.parse(document)  # refuses what is no XML, and entities
    root = ElementTree.fromstring(document)
    configured = root.find("./configuration")
    if root.tag != "cib" or configured is None:
        raise NoClusterEvidence("cibadmin printed XML that is no CIB")
    reader = _Reader(root, configured, primitives)
    orders, colocations, weak = reader.relations()
    return Configuration(
        nodes=tuple(
            name for one in configured.findall("./nodes/node")
            if (name := one.get("uname")) and one.get("type", "member") != "ping"
        ),
        properties=reader.properties(),
        resources=reader.resources(),
        orders=orders,
        colocations=colocations,
        weak_colocations=weak,
        fencing_levels=configured.find("./fencing-topology/fencing-level") is not None,
        facts=_facts(root),
    )


def reachable(start: str, relations: Iterable[Relation], backwards: bool = False) -> set[str]:
    """What follows from `start` along the relations, itself included."""
    steps: dict[str, set[str]] = {}
    for relation in relations:
        one, other = relation.one, relation.other
        steps.setdefault(other if backwards else one, set()).add(one if backwards else other)
    found = {start}
    waiting = [start]
    while waiting:
        for following in steps.get(waiting.pop(), set()) - found:
            found.add(following)
            waiting.append(following)
    return found


def seconds(text: str) -> float | None:
    """A span of time as Pacemaker writes it, ISO 8601's ``PT1M30S`` included; None for none."""
    try:
        return parse_seconds(text.strip())
    except ValueError:
        pass
    if not text.startswith("PT"):
        return None
    total, digits = 0.0, ""
    for character in text[2:]:
        if character in "0123456789.":
            digits += character
            continue
        factor = {"H": 3600, "M": 60, "S": 1}.get(character)
        try:
            total += float(digits) * (factor or 0)
        except ValueError:
            return None
        if factor is None:
            return None
        digits = ""
    return None if digits else total


class _Reader:
    """One CIB on its way into records."""

    def __init__(
        self,
        root: ElementTree.Element,
        configured: ElementTree.Element,
        primitives: tuple[ResourceInCib, ...],
    ) -> None:
        self._configured = configured
        self._primitives = primitives
        self._elements: dict[str, ElementTree.Element] = {}
        self._sets: dict[str, ElementTree.Element] = {}
        self._parents: dict[str, tuple[ElementTree.Element, ...]] = {}
        self._members: dict[str, list[str]] = {}
        section = configured.find("./resources")
        if section is not None:
            self._enter(section, ())
        for element in root.iter():
            if element.tag == "resource_set" and element.get("id"):
                self._sets.setdefault(element.get("id", ""), element)
        for tag in configured.findall("./tags/tag"):
            names = [one.get("id", "") for one in tag.findall("obj_ref")]
            self._members.setdefault(
                tag.get("id", ""), [name for each in names for name in self.primitives_of(each)]
            )
        self._default = self._pairs(configured.findall("./op_defaults/meta_attributes"))

    def _enter(
        self, element: ElementTree.Element, above: tuple[ElementTree.Element, ...]
    ) -> list[str]:
        below: list[str] = []
        for child in element:
            name = child.get("id", "")
            if child.tag == "primitive":
                self._elements[name] = child
                self._parents[name] = above
                self._members[name] = [name]
                below.append(name)
                template = child.get("template")
                if template:
                    self._members.setdefault(template, []).append(name)
            elif child.tag == "template":
                self._elements.setdefault(f"template {name}", child)
            elif child.tag in _CONTAINERS:
                self._members[name] = self._enter(child, (child, *above))
                below += self._members[name]
        return below

    def primitives_of(self, name: str | None) -> list[str]:
        """The primitives that a constraint means by this id."""
        return self._members.get(name or "", [])

    def properties(self) -> dict[str, str]:
        sets = [
            one for one in self._configured.findall("./crm_config/cluster_property_set")
            if one.find("rule") is None
        ]
        sets.sort(key=lambda one: one.get("id") != "cib-bootstrap-options")
        return self._pairs(sets)

    @staticmethod
    def _pairs(sets: Iterable[ElementTree.Element]) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in sets:
            if one.find("rule") is None:
                for pair in one.findall("nvpair"):
                    found.setdefault(pair.get("name", ""), pair.get("value", ""))
        return found

    def resources(self) -> tuple[Resource, ...]:
        return tuple(
            Resource(
                one,
                tuple(each.get("id", "") for each in self._parents.get(one.id, ())),
                tuple(self._operations(one.id)),
            )
            for one in self._primitives
        )

    def _operations(self, name: str) -> Iterator[Operation]:
        element = self._elements.get(name)
        if element is None:
            return
        template = self._elements.get(f"template {element.get('template', '')}")
        known = set()
        for source in (element, template):
            if source is None:
                continue
            for one in source.findall("./operations/op"):
                key = (one.get("name"), one.get("interval", "0"))
                if key not in known:
                    known.add(key)
                    yield self._operation(one)

    def _operation(self, element: ElementTree.Element) -> Operation:
        own = {**self._pairs(element.findall("meta_attributes")), **element.attrib}
        stated = own.get("timeout")
        usual = self._default.get("timeout")
        timeout = seconds(stated or usual or "") if stated or usual else DEFAULT_TIMEOUT
        level = self._pairs(element.findall("instance_attributes")).get("OCF_CHECK_LEVEL", "")
        try:
            depth = parse_integer(level)
        except ValueError:
            depth = 0
        return Operation(
            own.get("name", ""), seconds(own.get("interval", "0")) or 0.0, timeout,
            stated is not None, depth, own.get("on-fail", self._default.get("on-fail", "")),
            own.get("id", ""), own.get("enabled", "true").lower() != "false",
        )

    # -- constraints

    def relations(
        self,
    ) -> tuple[tuple[Relation, ...], tuple[Relation, ...], tuple[Relation, ...]]:
        """Orders, colocations, and colocations that are only a wish."""
        orders: list[Relation] = []
        colocations: list[Relation] = []
        weak: list[Relation] = []
        for group in self._configured.iter("group"):
            meta = self._pairs(group.findall("meta_attributes"))
            members = [[one] for one in self._members.get(group.get("id", ""), [])]
            name = group.get("id", "")
            if meta.get("ordered", "true").lower() != "false":
                orders += _chain(members, lambda one, other, n=name: Relation(one, other, n))  # type: ignore[misc]
            if meta.get("collocated", meta.get("colocated", "true")).lower() != "false":
                colocations += _chain(members, lambda one, other, n=name: Relation(other, one, n))  # type: ignore[misc]
        constraints = self._configured.find("./constraints")
        for element in () if constraints is None else constraints:
            if element.find("rule") is not None:
                continue
            if element.tag == "rsc_order":
                orders += self._orders(element)
            elif element.tag == "rsc_colocation" and "node-attribute" not in element.attrib:
                score = element.get("score", "0").upper()
                if score in ("INFINITY", "+INFINITY", "1000000"):
                    colocations += self._colocations(element)
                elif not score.startswith("-"):
                    weak += self._colocations(element)
        return tuple(orders), tuple(colocations), tuple(weak)

    def _orders(self, element: ElementTree.Element) -> list[Relation]:
        kind = element.get("kind")
        if kind is None:
            kind = "Optional" if element.get("score") == "0" else "Mandatory"
        name = element.get("id", "")
        if kind == "Serialize":
            return []
        symmetrical = element.get("symmetrical", "true").lower() != "false"

        def relation(one: str, other: str) -> Relation:
            return Relation(one, other, name, kind == "Mandatory", symmetrical)

        sets = self._sets_of(element)
        if not sets:
            first = element.get("first-action", "start")
            if first not in _STARTS or element.get("then-action", first) not in _STARTS:
                return []
            return _chain(
                [self.primitives_of(element.get("first")), self.primitives_of(element.get("then"))],
                relation,
            )
        steps: list[list[str]] = []
        for one in sets:
            if one.get("action", "start") in _STARTS:
                steps += self._steps(one)
        return _chain(steps, relation)

    def _colocations(self, element: ElementTree.Element) -> list[Relation]:
        name = element.get("id", "")

        def relation(one: str, other: str) -> Relation:
            return Relation(one, other, name)

        sets = self._sets_of(element)
        if not sets:
            if "Stopped" in (element.get("rsc-role"), element.get("with-rsc-role")):
                return []
            return _chain(
                [self.primitives_of(element.get("rsc")),
                 self.primitives_of(element.get("with-rsc"))],
                relation,
            )
        found: list[Relation] = []
        for one in sets:
            # In a set each goes with the one before it; a set goes with the set after it.
            found += _chain(self._steps(one), lambda one, other: relation(other, one))
        for one, following in zip(sets, sets[1:]):
            found += _chain(
                [[name for step in self._steps(each) for name in step]
                 for each in (one, following)],
                relation,
            )
        return found

    def _sets_of(self, element: ElementTree.Element) -> list[ElementTree.Element]:
        return [
            self._sets.get(one.get("id-ref", ""), one) for one in element.findall("resource_set")
        ]

    def _steps(self, resource_set: ElementTree.Element) -> list[list[str]]:
        members = [
            self.primitives_of(one.get("id")) for one in resource_set.findall("resource_ref")
        ]
        if resource_set.get("sequential", "true").lower() != "false":
            return members
        return [[name for each in members for name in each]]


def _chain(
    steps: list[list[str]], relation: Callable[[str, str], Relation]
) -> list[Relation]:
    """Each of a step with each of the next."""
    return [
        relation(one, other)
        for step, following in zip(steps, steps[1:])
        for one in step
        for other in following
    ]


def _facts(root: ElementTree.Element) -> dict[str, str]:
    found = {}
    for state in root.findall("./status/node_state"):
        for pair in state.findall("./transient_attributes/instance_attributes/nvpair"):
            if pair.get("name") == FACTS_ATTRIBUTE and state.get("uname"):
                found[state.get("uname", "")] = pair.get("value", "")
    return found


def described(resource: Resource) -> str:
    """For a sentence: the resource and its agent."""
    return f"{escape(resource.id)} ({escape(resource.agent)})"
