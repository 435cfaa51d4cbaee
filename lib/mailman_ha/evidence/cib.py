"""Which resources the cluster is configured to run: one call of cibadmin, parsed.

The rules by which Pacemaker 2.1.5 and 3.0.0 find a parameter's value were tried with
``crm_resource --get-parameter`` on both, and the tests ask the installed one again.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from mailman_ha.evidence import cluster, command
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import TypeAlias

    #: An element below ``resources`` and what it lies in, nearest first.
    Placed: TypeAlias = tuple[ElementTree.Element, tuple[ElementTree.Element, ...]]

CIBADMIN = ("cibadmin", "--query", "--scope", "resources")

#: cibadmin's exit status where no cluster runs on this node (CRM_EX_DISCONNECT).
_NOT_CONNECTED = 102

#: Pacemaker's own depth is three: a primitive in a group in a clone.
_GREATEST_DEPTH = 8

#: No cluster has more attributes, with those of a template or a group counted for each resource
#: that has them: a document of 4 MB could hold thousands of millions, and reading them take hours.
_MOST_ATTRIBUTES = 500_000

_INFINITY = 1_000_000

_CLONES = ("clone", "master")


@record
class ResourceInCib:
    """One primitive of the configuration, with what it has from its template and its containers.

    `agent` is ``class:provider:type``. `parameters` are sorted by name; see `parse`. `clone_max`
    is None where the CIB leaves it to the number of nodes, `clone_node_max` None where it leaves
    it to Pacemaker, which takes 1. Both are None for what is no clone. What lies in a bundle
    counts as an anonymous clone of as many instances as the bundle has replicas.

    `disabled`: target-role says Stopped, and no rule may say otherwise.
    """

    id: str
    agent: str
    parameters: tuple[tuple[str, str], ...] = ()
    clone: bool = False
    globally_unique: bool = False
    clone_max: int | None = None
    clone_node_max: int | None = None
    disabled: bool = False

    def text(self, name: str) -> str | None:
        """The value of a parameter; None where the CIB gives none."""
        return dict(self.parameters).get(name)


def ask(seconds: float) -> tuple[ResourceInCib, ...]:
    """Ask cibadmin, for at most `seconds`. Raises NoClusterEvidence."""
    result = command.run(CIBADMIN, seconds)
    if result.code != 0:
        never_ran = result.missing or result.code == _NOT_CONNECTED
        raise NoClusterEvidence(
            result.complaint(), none_here=never_ran and not cluster.may_have_run()
        )
    if len(result.output) >= command.OUTPUT_LIMIT:
        raise NoClusterEvidence("cibadmin printed more than is read of it")
    return parse(result.output)


def parse(document: bytes) -> tuple[ResourceInCib, ...]:
    """Read the resources of a CIB, or of a part of it. Raises NoClusterEvidence for anything else.

    Values are found as Pacemaker finds them. A primitive has the sets of its template before its
    own. Of several sets the one with the highest score wins, of equal ones the last; within a
    set the first value of a name. So the primitive's own values win over the template's unless
    that gives its set a higher score. What is not said there is inherited from the group, then
    from the clone. The value ``#default`` is none.

    A set with a rule holds at some times or on some nodes only. Its values count as possible:
    they are taken for a name that no set without a rule gives, there or in any container.

    A reference to something outside the document is left out, as Pacemaker leaves out one to
    nothing.
    """
    root = _root(document)
    sections = [root] if root.tag == "resources" else list(root.iter("resources"))
    if len(sections) != 1:
        raise NoClusterEvidence("cibadmin printed XML without a resources section")
    configured = _Resources(root, sections[0])
    return tuple(configured.describe(*placed) for placed in configured.primitives())


def _root(document: bytes) -> ElementTree.Element:
    if b"<!" in document.replace(b"<!--", b"") or b"\0" in document:
        # A CIB declares no entities; expanding a hostile one's would take all memory.
        raise NoClusterEvidence("cibadmin printed XML with declarations of its own")
    try:
        return ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NoClusterEvidence(f"cibadmin printed no XML ({escape(str(error))})") from error


class _Resources:
    """The resources section and what its elements refer to."""

    def __init__(self, root: ElementTree.Element, section: ElementTree.Element) -> None:
        self._section = section
        self._attributes = 0
        self._named: dict[tuple[str, str], ElementTree.Element] = {}
        self._templates: dict[str, ElementTree.Element] = {}
        for element in root.iter():
            name = element.get("id")
            if name:
                self._named.setdefault((element.tag, name), element)
        for element in section.iter("template"):
            self._templates.setdefault(element.get("id", ""), element)

    def primitives(self) -> Iterator[Placed]:
        """Every primitive in the order of the document. Raises NoClusterEvidence."""
        waiting: list[Placed] = [(child, ()) for child in reversed(self._section)]
        while waiting:
            element, containers = waiting.pop()
            if element.tag == "primitive":
                yield element, containers
            elif len(containers) >= _GREATEST_DEPTH:
                raise NoClusterEvidence("cibadmin printed resources nested too deeply")
            elif element.tag != "template":
                waiting += [(child, (element, *containers)) for child in reversed(element)]

    def describe(
        self, primitive: ElementTree.Element, containers: tuple[ElementTree.Element, ...]
    ) -> ResourceInCib:
        """One primitive with all that counts for it. Raises NoClusterEvidence."""
        name = primitive.get("id")
        if not name:
            raise NoClusterEvidence("cibadmin printed a resource without an id")
        own = [primitive]
        template = primitive.get("template")
        if template is not None:
            if template not in self._templates:
                raise NoClusterEvidence(
                    f"resource {escape(name)} has template {escape(template)}, which the CIB lacks"
                )
            own.insert(0, self._templates[template])
        kinds = [own[0].get(part) for part in ("class", "provider", "type")]
        if not kinds[0] or not kinds[2]:
            raise NoClusterEvidence(f"cibadmin printed resource {escape(name)} without an agent")
        levels = [own, *([container] for container in containers)]
        resource = ResourceInCib(
            id=name,
            agent=":".join(filter(None, kinds)),
            parameters=self._parameters(levels),
            disabled=self._stopped(levels),
        )
        for container in containers:
            if container.tag in _CLONES:
                return self._cloned(resource, container)
            if container.tag == "bundle":
                return _bundled(resource, container)
        return resource

    def _parameters(
        self, levels: list[list[ElementTree.Element]]
    ) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for with_rule in (False, True):
            for level in levels:
                for name, value in self._pairs(level, "instance_attributes", with_rule):
                    found.setdefault(name, value)
        return tuple(sorted(found.items()))

    def _stopped(self, levels: list[list[ElementTree.Element]]) -> bool:
        for level in levels:
            possible = {
                value.lower() == "stopped"
                for name, value in self._pairs(level, "meta_attributes", with_rule=True)
                if name == "target-role"
            }
            if False in possible:
                return False
            certain = self._meta(level, "target-role")
            if certain is not None:
                return certain.lower() == "stopped"
        return False

    def _cloned(self, resource: ResourceInCib, clone: ElementTree.Element) -> ResourceInCib:
        most_on_a_node = _whole_number(self._meta([clone], "clone-node-max"))
        unique = self._meta([clone], "globally-unique")
        if unique is None:
            # As Pacemaker 3 takes it; 2.1 says false and then starts one on each node only.
            globally_unique = most_on_a_node is not None and most_on_a_node > 1
        else:
            globally_unique = unique.lower() in ("true", "on", "yes", "y", "1")
        return ResourceInCib(
            id=resource.id,
            agent=resource.agent,
            parameters=resource.parameters,
            clone=True,
            globally_unique=globally_unique,
            clone_max=_whole_number(self._meta([clone], "clone-max")),
            clone_node_max=most_on_a_node,
            disabled=resource.disabled,
        )

    def _meta(self, level: list[ElementTree.Element], name: str) -> str | None:
        """A meta attribute by the sets without a rule."""
        for found, value in self._pairs(level, "meta_attributes", with_rule=False):
            if found == name:
                return value
        return None

    def _pairs(
        self, level: Iterable[ElementTree.Element], kind: str, with_rule: bool
    ) -> Iterator[tuple[str, str]]:
        """What the sets of one level say, the strongest first: the first of a name counts."""
        sets = [
            one
            for element in level
            for one in map(self._resolved, element.findall(kind))
            if (one.find("rule") is not None) == with_rule
        ]
        self._count(sets)
        sets.reverse()  # of equal scores the last shall stand first, and sorting keeps their order
        sets.sort(key=_score, reverse=True)
        for one in sets:
            pairs = one.findall("nvpair")
            self._count(pairs)
            for pair in pairs:
                meant = self._resolved(pair)
                name, value = pair.get("name", meant.get("name")), meant.get("value")
                if name and value is not None and value != "#default":
                    yield name, value

    def _count(self, more: list[ElementTree.Element]) -> None:
        """Raises NoClusterEvidence where more is to be read than any cluster has."""
        self._attributes += len(more)
        if self._attributes > _MOST_ATTRIBUTES:
            raise NoClusterEvidence("cibadmin printed more attributes than any cluster has")

    def _resolved(self, element: ElementTree.Element) -> ElementTree.Element:
        """What an ``id-ref`` stands for; the element itself where it is none, or leads nowhere."""
        return self._named.get((element.tag, element.get("id-ref", "")), element)


def _bundled(resource: ResourceInCib, bundle: ElementTree.Element) -> ResourceInCib:
    replicas = [_whole_number(part.get("replicas")) for part in bundle if part.get("replicas")]
    return ResourceInCib(
        id=resource.id,
        agent=resource.agent,
        parameters=resource.parameters,
        clone=True,
        clone_max=replicas[0] if replicas else 1,
        disabled=resource.disabled,
    )


def _score(attribute_set: ElementTree.Element) -> int:
    text = attribute_set.get("score", "0")
    sign = -1 if text.startswith("-") else 1
    if text.lstrip("+-").upper() == "INFINITY":
        return sign * _INFINITY
    number = _whole_number(text.lstrip("+-"))
    return sign * min(number or 0, _INFINITY)


def _whole_number(text: str | None) -> int | None:
    """The number that a text begins with, as Pacemaker reads ``3`` and ``3x``; None for no such."""
    text = (text or "").strip()
    digits = 0
    while digits < len(text) and text[digits] in "0123456789":
        digits += 1
    return min(int(text[:digits][:12]), 2**31 - 1) if digits else None
