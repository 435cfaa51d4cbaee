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
    for name in ("start", "stop", "monitor"):
        for operation in _named(resource, name):
            if operation.on_fail == "ignore":
                yield _ignored(resource, operation)


def _named(resource: Resource, name: str) -> list[Operation]:
    """The operations of that name; where none is configured, start and stop are Pacemaker's own."""
    found = [one for one in resource.operations if one.name == name and one.enabled]
    if not found and name in ("start", "stop"):
        found = [Operation(name, 0.0, DEFAULT_TIMEOUT, False)]
    return found


def _short(resource: Resource, operation: Operation, advised: float) -> Iterator[Finding]:
    if operation.timeout is None or operation.timeout >= advised:
        return
    name, word = escape(resource.id), operation.name
    given = f"{operation.timeout:g} s" + ("" if operation.stated else " (no timeout is given)")
    yield Finding(
        CHECK, ERROR if word == "stop" else WARNING,
        f"{name}: the timeout of {_which(operation)} is {given}; the agent asks for {advised:g} s",
        _SHORT[word],
        **(_changed(operation, timeout=f"{advised:g}s") if operation.id else
           _added(resource, word, 0, advised)),
    )


def _which(operation: Operation) -> str:
    return operation.name + (f" at level {operation.level}" if operation.level else "")


def _changed(operation: Operation, **attributes: str) -> dict[str, str]:
    """What changes an operation and nothing else of it: pcs would change the first of its name
    instead, and forget what else that one had."""
    given = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return {"mend": f"cibadmin --modify --xml-text '<op id=\"{escape(operation.id)}\"{given}/>'"}


def _added(
    resource: Resource, name: str, interval: int, timeout: float, level: int = 0
) -> dict[str, str]:
    """What adds an operation, or switches on the one that is there; `interval` and `timeout` in
    seconds. Pacemaker, and pcs, want no two of one name with the same interval; pcs wants to be
    forced where there is another of this level, as one for probes."""
    others = [one for one in resource.operations if one.name == name]
    alike = [one for one in others if one.level == level]
    for one in alike:
        if bool(one.interval) == bool(interval) and one.id:
            return _changed(one, enabled="true")
    while interval and any(int(one.interval) == interval for one in others):
        interval += 1
    text = f"{name} interval={interval}s timeout={timeout:g}s"
    text += f" OCF_CHECK_LEVEL={level}" if level else ""
    shown = escape(resource.id)
    return {
        "pcs": f"pcs resource op add {shown} {text}" + (" --force" if alike else ""),
        "crm": f"crm configure edit {shown}  (op {text})",
    }


def _missing(resource: Resource, action: Action, others: bool) -> Finding:
    name = escape(resource.id)
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
        **_added(resource, "monitor", action.interval or 0, action.timeout, action.depth or 0),
    )


def _ignored(resource: Resource, operation: Operation) -> Finding:
    name = escape(resource.id)
    matters = (
        "after a stop that failed, Mailman starts elsewhere while it still runs here: two masters"
        if operation.name == "stop" else "a failure is shown and nothing is done about it"
    )
    return Finding(
        CHECK, ERROR, f"{name}: on-fail=ignore on {_which(operation)}", matters,
        **_changed(operation, on_fail="fence" if operation.name == "stop" else "restart"),
    )
