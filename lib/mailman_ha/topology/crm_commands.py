"""A configuration as commands for crm (crmsh): `crm configure load update FILE`."""

from __future__ import annotations

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
    from collections.abc import Iterable, Iterator

    from mailman_ha.topology.resources import Operation, Part

USE = "For `crm configure load update FILE`."

_SAFE = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+="
)


def render(configuration: Configuration, head: Iterable[str] = ()) -> str:
    """The commands, with the head's paragraphs and every part's comment above it."""
    lines = list(prose.comment(prose.for_a_cib([*head, *configuration.head])))
    for part in configuration.parts:
        lines += prose.comment(prose.for_a_cib(part.comment))
        lines += prose.command([*_clauses(part)])
    pairs = [_pair(*pair) for pair in configuration.properties]
    lines += prose.command([["property", *pairs]])
    return "\n".join(lines) + "\n"


def _clauses(part: Part) -> Iterator[list[str]]:
    if isinstance(part, Primitive):
        yield ["primitive", part.id, part.agent]
        if part.parameters:
            yield ["params", *_pairs(part.parameters)]
        for operation in part.operations:
            yield ["op", *_operation(operation)]
    elif isinstance(part, Group):
        yield ["group", part.id, *part.members]
    elif isinstance(part, Clone):
        yield ["clone", part.id, part.of]
    elif isinstance(part, Order):
        if part.first_action == "start":
            yield ["order", part.id, f"{part.kind}:", part.first, part.then]
        else:  # where one has an action, crm wants both to have it
            yield ["order", part.id, f"{part.kind}:", f"{part.first}:{part.first_action}",
                   f"{part.then}:start"]
    elif isinstance(part, Colocation):
        role = f":{part.role}" if part.role else ""
        yield ["colocation", part.id, "inf:", part.rsc, f"{part.with_rsc}{role}"]
    elif isinstance(part, Location):
        score = part.score.replace("INFINITY", "inf")
        yield ["location", part.id, part.rsc, f"{score}:", part.node]
    if isinstance(part, (Primitive, Group, Clone)) and part.meta:
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
    return [_pair(*pair) for pair in pairs]


def _pair(name: str, value: str) -> str:
    if _SAFE.issuperset(value):
        return f"{name}={value}"
    # crm takes words apart as a shell does, without its variables.
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{quoted}"'
