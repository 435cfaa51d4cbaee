"""What Pacemaker is to be configured with, in no particular language: the one model that the
renderers for crm, pcs and CIB write out, and the simulation runs on.

Each part may carry a comment (paragraphs) that says why it is as it is.
"""

from __future__ import annotations

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Union

PROMOTED = "Promoted"
UNPROMOTED = "Unpromoted"
MANDATORY = "Mandatory"
OPTIONAL = "Optional"
INFINITY = "INFINITY"


@record
class Operation:
    """An operation; interval and timeout in seconds, level = OCF_CHECK_LEVEL, role '' for any."""

    name: str
    timeout: int
    interval: int = 0
    level: int = 0
    role: str = ""


@record
class Primitive:
    """A resource; `agent` as `ocf:mailman:mailman-master` or `stonith:fence_ipmilan`."""

    id: str
    agent: str
    parameters: tuple[tuple[str, str], ...] = ()
    operations: tuple[Operation, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    comment: tuple[str, ...] = ()


@record
class Group:
    """Resources that run together on one node, started in this order."""

    id: str
    members: tuple[str, ...]
    meta: tuple[tuple[str, str], ...] = ()
    comment: tuple[str, ...] = ()


@record
class Clone:
    """A resource or group of which there are several instances."""

    id: str
    of: str
    meta: tuple[tuple[str, str], ...] = ()
    comment: tuple[str, ...] = ()


@record
class Order:
    """`first` is started (or promoted) before `then` is started."""

    id: str
    first: str
    then: str
    kind: str = MANDATORY
    first_action: str = "start"
    comment: tuple[str, ...] = ()


@record
class Colocation:
    """`rsc` runs only where `with_rsc` does; in that role, where one is named."""

    id: str
    rsc: str
    with_rsc: str
    role: str = ""
    comment: tuple[str, ...] = ()


@record
class Location:
    """How much `rsc` likes a node: a number, INFINITY or -INFINITY."""

    id: str
    rsc: str
    node: str
    score: str
    comment: tuple[str, ...] = ()


if TYPE_CHECKING:
    Part = Union[Primitive, Group, Clone, Order, Colocation, Location]


@record
class Configuration:
    """All of it: what the head of a rendered file says, the parts in the order in which they are
    written, and the cluster's properties."""

    head: tuple[str, ...]
    parts: tuple[Part, ...]
    properties: tuple[tuple[str, str], ...]

    def part(self, identity: str) -> Part | None:
        """The part of this id."""
        for part in self.parts:
            if part.id == identity:
                return part
        return None

    def primitives(self) -> Iterator[Primitive]:
        """The primitives."""
        for part in self.parts:
            if isinstance(part, Primitive):
                yield part

    def holder(self, identity: str) -> str:
        """The group or clone in which a resource directly is; '' where it stands by itself."""
        for part in self.parts:
            if (isinstance(part, Group) and identity in part.members) or (
                isinstance(part, Clone) and part.of == identity
            ):
                return part.id
        return ""
