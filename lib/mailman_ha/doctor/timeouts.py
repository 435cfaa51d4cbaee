"""Operations: each there, with the time that the agents ask for."""

from __future__ import annotations

from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION as JANITOR_DECLARATION
from mailman_ha.agents.mailman_master.declaration import DECLARATION as MASTER_DECLARATION
from mailman_ha.agents.qfiles_slice.declaration import DECLARATION as SLICE_DECLARATION
from mailman_ha.doctor.configuration import (
    DEFAULT_TIMEOUT,
    FILESYSTEM,
    JANITOR,
    MASTER,
    SLICE,
    Operation,
    Resource,
)
from mailman_ha.doctor.finding import ERROR, WARNING, Finding
from mailman_ha.ocf.declaration import Action, AgentDeclaration
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation

CHECK = "timeouts"

DECLARATIONS: dict[str, AgentDeclaration] = {
    JANITOR: JANITOR_DECLARATION, MASTER: MASTER_DECLARATION, SLICE: SLICE_DECLARATION,
}

#: What the metadata of ocf:heartbeat:Filesystem advise (seconds).
_FILESYSTEM = {"start": 60.0, "stop": 60.0, "monitor": 40.0}

_SHORT = {
    "start": "a start that takes longer, as on a busy node after a failover, counts as failed: the "
             "node is banned, and Mailman may run nowhere",
    "stop": "a stop that takes longer counts as failed, and a failed stop means that the node is "
            "fenced: with everything that runs there",
    "monitor": "a monitor that takes longer counts as failed: Mailman is stopped and started for "
               "nothing",
}


def findings(seen: Observation) -> Iterator[Finding]:
    """The operations of our agents and of the share, against what the agents advise."""
    if seen.configuration is None:
        return
    for resource in seen.configuration.of(*DECLARATIONS):
        yield from _resource(resource, DECLARATIONS[resource.agent])
    for resource in seen.configuration.of(FILESYSTEM):
        for name, advised in _FILESYSTEM.items():
            for operation in _named(resource, name):
                yield from _short(resource, operation, advised)


def _resource(resource: Resource, declared: AgentDeclaration) -> Iterator[Finding]:
    for name in ("start", "stop"):
        for operation in _named(resource, name):
            yield from _short(resource, operation, declared.timeout(name))
    monitors = [one for one in _named(resource, "monitor") if one.interval > 0]
    for operation in monitors:
        yield from _short(
            resource, operation, declared.timeout("monitor", operation.level)
        )
    for action in declared.actions:
        if action.name != "monitor" or action.depth not in (0, 10):
            continue
        if not any(one.level == action.depth for one in monitors):
            yield _missing(resource, action, bool(monitors))
    for operation in resource.operations:
        if operation.on_fail == "ignore" and operation.name in ("stop", "monitor", "start"):
            yield _ignored(resource, operation)


def _named(resource: Resource, name: str) -> list[Operation]:
    """The operations of that name; where none is configured, start and stop are Pacemaker's own."""
    found = [one for one in resource.operations if one.name == name]
    if not found and name in ("start", "stop"):
        found = [Operation(name, 0.0, DEFAULT_TIMEOUT, False)]
    return found


def _short(resource: Resource, operation: Operation, advised: float) -> Iterator[Finding]:
    if operation.timeout is None or operation.timeout >= advised:
        return
    name, word = escape(resource.id), operation.name
    which = word + (f" at level {operation.level}" if operation.level else "")
    given = f"{operation.timeout:g} s" + ("" if operation.stated else " (no timeout is given)")
    rest = f" interval={operation.interval:g}s" if operation.interval else ""
    level = f" OCF_CHECK_LEVEL={operation.level}" if operation.level else ""
    yield Finding(
        CHECK, ERROR if word == "stop" else WARNING,
        f"{name}: the timeout of {which} is {given}; the agent asks for {advised:g} s",
        _SHORT[word],
        pcs=f"pcs resource update {name} op {word}{rest} timeout={advised:g}s{level}",
        crm=f"crm configure edit {name}  (op {word}{rest} timeout={advised:g}s{level})",
    )


def _missing(resource: Resource, action: Action, others: bool) -> Finding:
    name = escape(resource.id)
    level = f" OCF_CHECK_LEVEL={action.depth}" if action.depth else ""
    operation = f"interval={action.interval}s timeout={action.timeout}s{level}"
    if action.depth:
        seen = f"{name} has no monitor at level {action.depth}"
        matters = {
            MASTER: "a runner that its master gave up is not noticed: its queue stands still",
            JANITOR: "what dead writers left of a list's configuration is not mended, and the "
                     "quarantine not emptied",
            SLICE: "a runner started by hand beside the slice's goes unnoticed, and its depth is "
                   "not published",
        }[resource.agent]
    else:
        seen = f"{name} has no monitor" + (" at level 0" if others else "")
        matters = (
            "the light monitor, every few seconds, is what notices a death quickly" if others
            else "a Mailman that dies is never noticed"
        )
    return Finding(
        CHECK, WARNING if others or action.depth else ERROR, seen, matters,
        pcs=f"pcs resource op add {name} monitor {operation}",
        crm=f"crm configure edit {name}  (op monitor {operation})",
    )


def _ignored(resource: Resource, operation: Operation) -> Finding:
    name = escape(resource.id)
    matters = (
        "after a stop that failed, Mailman starts elsewhere while it still runs here: two masters"
        if operation.name == "stop" else "a failure is shown and nothing is done about it"
    )
    return Finding(
        CHECK, ERROR, f"{name}: on-fail=ignore on {operation.name}", matters,
        pcs=f"pcs resource update {name} op {operation.name} "
            f"interval={operation.interval:g}s on-fail=",
        crm=f"crm configure edit {name}  (remove on-fail=ignore)",
    )
