"""What Pacemaker would do, read from the graph that crm_simulate saves, in order and with reasons.

Pure. The order is Pacemaker's own: each action names those it waits for. Why it waits is found in
the configuration: a group, an order constraint, or fencing.
"""

from __future__ import annotations

from mailman_ha.ocf.record import record
from mailman_ha.topology.resources import Clone, Colocation, Group, Order, Primitive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from mailman_ha.topology.resources import Configuration

LOSE = "lose"
STANDBY = "standby"
FAIL = "fail"

FENCE = "fence"
ENDED = "ended"  # stopped with its node, by fencing
STOP = "stop"
START = "start"
PROMOTE = "promote"
DEMOTE = "demote"
_SHOWN = (STOP, START, PROMOTE, DEMOTE)


@record
class Event:
    """What happens: LOSE or STANDBY of `node`, or FAIL of `resource` there."""

    kind: str
    node: str
    resource: str = ""


@record
class Step:
    """One thing that is done. `resource` is '' for FENCE; `after` are the places, in the list of
    steps, of those that it waits for directly, each with the reason (may be '')."""

    action: str
    resource: str
    node: str
    why: str = ""
    after: tuple[tuple[int, str], ...] = ()


def read(
    graphs: Sequence[Element], configuration: Configuration, event: Event
) -> tuple[Step, ...]:
    """The steps of transitions that followed one another, in an order in which they can happen."""
    steps: list[Step] = []
    for graph in graphs:
        steps += _of_one(graph, configuration, event, len(steps))
    return tuple(steps)


def base_name(resource: str) -> str:
    """The name in the configuration of an instance of a clone, `mailman-in:0`."""
    return resource.partition(":")[0]


def _of_one(
    graph: Element, configuration: Configuration, event: Event, offset: int
) -> list[Step]:
    known = {primitive.id for primitive in configuration.primitives()}
    actions: dict[str, tuple[str, str, str]] = {}
    waits: dict[str, list[str]] = {}
    fenced = ""
    for synapse in graph.iter("synapse"):
        inputs = [
            trigger[0].get("id", "") for trigger in synapse.iterfind("./inputs/trigger")
            if len(trigger)
        ]
        for element in synapse.iterfind("./action_set/*"):
            identity = element.get("id", "")
            waits[identity] = inputs
            if element.tag == "crm_event" and element.get("operation") == "stonith":
                fenced = element.get("on_node", "")
                actions[identity] = (FENCE, "", fenced)
            elif element.get("operation") in _SHOWN:
                resource = _resource(element)
                if base_name(resource) in known:
                    node = element.get("on_node", "")
                    action = element.get("operation", "")
                    if element.tag == "pseudo_event":
                        action = ENDED if action == STOP else ""
                    if action:
                        actions[identity] = (action, resource, node)
    order = _in_order(waits)
    places = {identity: offset + place for place, identity in enumerate(
        identity for identity in order if identity in actions
    )}
    steps = []
    for identity in places:
        action, resource, node = actions[identity]
        if action == ENDED and not node:
            node = fenced
        before = []
        for other in _direct(identity, waits, places):
            why = _why_after(actions[other], actions[identity], configuration)
            before.append((places[other], why))
        before.sort()
        why = _why(action, resource, configuration, event)
        steps.append(Step(action, resource, node, why, tuple(before)))
    return steps


def _resource(element: Element) -> str:
    """The name of the instance that an action of the graph is about."""
    primitive = element.find("primitive")
    if primitive is not None:
        return primitive.get("id", "")
    key = element.get("operation_key", "")
    return key.rsplit("_", 2)[0]


def _in_order(waits: Mapping[str, Sequence[str]]) -> list[str]:
    """All of them, each after those it waits for; else by their numbers."""
    done: dict[str, None] = {}
    left = sorted(waits, key=lambda identity: (len(identity), identity))
    while left:
        ready = [
            identity for identity in left
            if all(other in done or other not in waits for other in waits[identity])
        ] or left[:1]  # no graph of Pacemaker's has a loop
        done.update(dict.fromkeys(ready))
        left = [identity for identity in left if identity not in done]
    return list(done)


def _direct(
    identity: str, waits: Mapping[str, Sequence[str]], shown: Iterable[str]
) -> list[str]:
    """The shown actions that one waits for, also through others that are not shown; without those
    that others of them wait for."""
    kept = set(shown)

    def behind(one: str) -> set[str]:
        found: set[str] = set()
        ways = list(waits.get(one, ()))
        seen: set[str] = set()
        while ways:
            other = ways.pop()
            if other in seen:
                continue
            seen.add(other)
            if other in kept:
                found.add(other)
            else:
                ways += waits.get(other, ())
        return found

    direct = behind(identity)
    further: set[str] = set()
    ways = list(direct)
    while ways:
        for other in behind(ways.pop()):
            if other not in further:
                further.add(other)
                ways.append(other)
    return [other for other in direct if other not in further]


def _why(action: str, resource: str, configuration: Configuration, event: Event) -> str:
    """Why a step is taken at all, for those that end something."""
    if action == FENCE:
        return f"nothing else proves that what ran on {event.node} runs no more"
    if action not in (STOP, ENDED, DEMOTE):
        return ""
    if action == ENDED:
        return "it ended with its node"
    if event.kind == STANDBY:
        return f"{event.node} is on standby"
    if event.kind == LOSE:
        return ""
    failed, name = base_name(event.resource), base_name(resource)
    if name == failed:
        return "its monitor failed"
    return _stands_on(name, failed, configuration)


def _stands_on(upper: str, lower: str, configuration: Configuration) -> str:
    """By which group or constraint `upper` cannot run without `lower`; '' where there is none."""
    uppers, lowers = _within(upper, configuration), _within(lower, configuration)
    for part in configuration.parts:
        if isinstance(part, Group) and upper in part.members and lower in part.members:
            if part.members.index(lower) < part.members.index(upper):
                return f"it stands on {lower} (group {part.id})"
            return f"it goes where {lower} goes (group {part.id})"
    for part in configuration.parts:
        if isinstance(part, Colocation) and part.rsc in uppers and part.with_rsc in lowers:
            return f"it runs only where {part.with_rsc} does (colocation {part.id})"
    return ""


def _why_after(
    first: tuple[str, str, str], then: tuple[str, str, str], configuration: Configuration
) -> str:
    """Why one step waits for another, by what is configured."""
    action, resource, node = first
    if action == FENCE:
        return f"only once {node} is fenced"
    before, after = base_name(resource), base_name(then[1])
    begins = then[0] in (START, PROMOTE)
    if before == after:
        if action not in (STOP, ENDED) or not begins:
            return "one step after the other"
        if resource == then[1]:
            return "never on two nodes at once"
        return "a clone's instances stop before others start"
    lower, upper = (before, after) if begins else (after, before)
    lowers, uppers = _within(lower, configuration), _within(upper, configuration)
    for part in configuration.parts:
        if isinstance(part, Group) and {lower, upper} <= set(part.members):
            if action in (STOP, ENDED) and begins:
                return f"group {part.id} is stopped as a whole before it starts anew"
            return f"group {part.id}"
    for part in configuration.parts:
        if isinstance(part, Order) and part.first in lowers and part.then in uppers:
            return f"order {part.id}"
    return ""


def _within(resource: str, configuration: Configuration) -> set[str]:
    """A resource's name, and those of the group and the clone that it is in."""
    names = {resource}
    holder = configuration.holder(resource)
    while holder:
        names.add(holder)
        holder = configuration.holder(holder)
    return names


def instances(configuration: Configuration) -> list[str]:
    """Every resource that must run somewhere for the site to be served, with the number where a
    clone's instances are not alike. Fencing devices, and instances that are alike, are not here."""
    found = []
    for primitive in configuration.primitives():
        if primitive.agent.startswith("stonith:"):
            continue
        clone = next(
            (configuration.part(name) for name in _within(primitive.id, configuration)
             if isinstance(configuration.part(name), Clone)), None,
        )
        meta = dict(clone.meta) if isinstance(clone, Clone) else {}
        if meta.get("globally-unique") == "true":
            found += [f"{primitive.id}:{number}" for number in range(int(meta["clone-max"]))]
        else:
            found.append(primitive.id)
    return found


def primitive_named(configuration: Configuration, name: str) -> Primitive | None:
    """The primitive that a resource's or an instance's name stands for."""
    part = configuration.part(base_name(name))
    return part if isinstance(part, Primitive) else None
