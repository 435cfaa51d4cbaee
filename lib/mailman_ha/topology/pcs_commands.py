"""A configuration as commands for pcs: `sh FILE` on one node.

Pacemaker acts on every change at once. A resource whose group or constraints are still to come is
started on whichever node is free, fails there without its share, and is banned from that node; so
the commands work on a copy of the CIB, which is handed over when all is in it, as a difference, so
that what others changed meanwhile stands.
"""

from __future__ import annotations

import shlex

from mailman_ha.topology import prose
from mailman_ha.topology.resources import (
    INFINITY,
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
    from collections.abc import Iterable, Iterator

    from mailman_ha.topology.resources import Operation, Part

USE = (
    "For `sh FILE` on one node; `CIB_file=COPY sh FILE` writes into a copy of a CIB instead, to "
    "look at it."
)

#: What stands before the commands. The copies hold passwords: mktemp makes them root's alone.
BEGIN = """\
set -e
OLD=$(mktemp)
NEW=$(mktemp)
trap 'rm -f "$OLD" "$NEW"' EXIT
trap 'exit 1' HUP INT TERM

# All of it goes into a copy of the CIB, and from there into the cluster at once: a resource whose
# group or constraints are still to come would be started where it fails, and be banned there.
pcs cluster cib "$OLD"
cp "$OLD" "$NEW"
"""
#: And after them.
END = """\
pcs cluster cib-push "$NEW" diff-against="$OLD"
"""

_PCS = ("pcs", "-f", '"$NEW"')
_STONITH = "stonith:"


def render(configuration: Configuration, head: Iterable[str] = ()) -> str:
    """The commands, with the head's paragraphs and every part's comment above it."""
    lines = list(prose.comment([*head, *configuration.head]))
    lines.append(BEGIN.rstrip())
    for part in configuration.parts:
        if part.comment:
            lines.append("")
            lines += prose.comment(part.comment)
        for clauses in _commands(part):
            first, *others = [[shlex.quote(word) for word in clause] for clause in clauses]
            lines += prose.command([[*_PCS, *first], *others])
    lines.append("")
    pairs = [shlex.quote(f"{name}={value}") for name, value in configuration.properties]
    lines += prose.command([[*_PCS, "property", "set", *pairs]])
    return "\n".join(lines) + "\n\n" + END


def _commands(part: Part) -> Iterator[list[list[str]]]:
    if isinstance(part, Primitive):
        yield [*_create(part)]
    elif isinstance(part, Group):
        yield [["resource", "group", "add", part.id, *part.members]]
        if part.meta:
            yield [["resource", "meta", part.id, *_pairs(part.meta)]]
    elif isinstance(part, Clone):
        yield [["resource", "clone", part.of, part.id, "meta", *_pairs(part.meta)]]
    elif isinstance(part, Order):
        kind = [f"kind={part.kind}"] if part.kind != "Mandatory" else []
        yield [["constraint", "order", part.first_action, part.first, "then", "start", part.then,
                *kind, f"id={part.id}"]]
    elif isinstance(part, Colocation):
        role = [part.role] if part.role else []
        yield [["constraint", "colocation", "add", part.rsc, "with", *role, part.with_rsc,
                f"id={part.id}"]]
    elif isinstance(part, Location):
        if part.score == f"-{INFINITY}":
            yield [["constraint", "location", part.rsc, "avoids", part.node]]
        else:
            yield [["constraint", "location", part.rsc, "prefers", f"{part.node}={part.score}"]]


def _create(part: Primitive) -> Iterator[list[str]]:
    if part.agent.startswith(_STONITH):
        yield ["stonith", "create", part.id, part.agent[len(_STONITH):]]
    else:
        # Without those that pcs would add of itself and that mean nothing more.
        yield ["resource", "create", "--no-default-ops", part.id, part.agent]
    if part.parameters:
        yield _pairs(part.parameters)
    for number, operation in enumerate(part.operations):
        yield [*(["op"] if number == 0 else []), *_operation(operation)]
    if part.meta:
        yield ["meta", *_pairs(part.meta)]


def _operation(operation: Operation) -> Iterator[str]:
    yield operation.name
    yield f"interval={operation.interval}s"
    yield f"timeout={operation.timeout}s"
    if operation.role:
        yield f"role={operation.role}"
    if operation.level:
        yield f"OCF_CHECK_LEVEL={operation.level}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}={value}" for name, value in pairs]
