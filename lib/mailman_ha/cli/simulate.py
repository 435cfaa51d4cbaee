"""mailman-ha simulate: what Pacemaker would do when a node or a resource of a site fails."""

from __future__ import annotations

import os

from mailman_ha.cli import json_output, site_file, table
from mailman_ha.cli.ending import FINE, NEEDS_YOU, CannotDo, UsageError
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from mailman_ha.topology.simulation import Simulation
    from mailman_ha.topology.transition import Event, Step

NAME = "simulate"
HELP = "tell what would happen if a node were lost or a resource failed"
DESCRIPTION = (
    "Lets Pacemaker's own scheduler (crm_simulate) play through what a site's description leads "
    "to: all nodes are online and everything runs, then one thing happens. Tells what is fenced, "
    "stopped and started, in which order and why, and where everything runs afterwards. No "
    "cluster is needed, and none is touched.\n\n"
    "Ends with 1 where something does not run any more afterwards."
)


def declare(parser: argparse.ArgumentParser) -> None:
    site_file.declare(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--lose", metavar="NODE", help="the node is lost, as by a power cut")
    what.add_argument("--standby", metavar="NODE", help="the node is put on standby")
    what.add_argument(
        "--fail", metavar="RESOURCE",
        help="a monitor finds the resource failed; mailman-in:0 is slice 0 of a clone",
    )
    parser.add_argument(
        "--on", metavar="NODE", default="",
        help="with --fail: on which node, where the resource runs on several",
    )
    parser.add_argument(
        "--svg", metavar="FILE", default="", help="draw a picture of it, too (graphviz)"
    )


def run(options: argparse.Namespace) -> int:
    kind = next(name for name in ("lose", "standby", "fail") if getattr(options, name) is not None)
    thing: str = getattr(options, kind)
    if options.on and kind != "fail":
        raise UsageError("--on is for --fail; leave it out")
    site = site_file.load(options, {
        "file": escape(options.site), "event": None, "before": {}, "steps": [], "after": {},
        "missing": [], "picture": None, "needs_you": True,
    })
    from mailman_ha.topology import simulation

    try:
        played = simulation.simulate(site, kind, thing, options.on)
    except simulation.NoSuchThing as error:
        raise UsageError(f"--{kind} {escape(thing, 80)}: {error}") from error
    except simulation.CannotSimulate as error:
        raise CannotDo(str(error)) from error
    if options.svg:
        _draw(played, options.svg, _headline(played.event))
    if options.json:
        json_output.write(NAME, _as_json(played, options))
    else:
        _tell(played, options)
    return NEEDS_YOU if played.missing else FINE


def _draw(played: Simulation, path: str, title: str) -> None:
    from mailman_ha.topology import picture

    try:
        content = picture.svg(played, title)
    except picture.CannotDraw as error:
        raise CannotDo(str(error)) from error
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "xb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise CannotDo(
            f"the picture {escape(path)} cannot be written: {error.strerror}; name another file"
        ) from error


def _tell(played: Simulation, options: argparse.Namespace) -> None:
    table.say(_headline(played.event), table.STRONG)
    table.say("")
    if played.steps:
        table.show(
            (table.Column("Step", right=True), table.Column("What is done", least=20),
             table.Column("Why and when", least=20)),
            (
                (str(place), table.Cell(_in_words(step), _LOOKS.get(step.action, "")),
                 _reasons(step))
                for place, step in enumerate(played.steps, 1)
            ),
        )
    else:
        table.say("Nothing is done.")
    table.say("")
    names = list(dict.fromkeys([*played.before, *played.after]))
    table.show(
        (table.Column("Resource", least=8), table.Column("Ran on"), table.Column("Runs on")),
        (
            (name, _places(played.before, name),
             table.Cell(_places(played.after, name), table.BAD if name in played.missing else ""))
            for name in names
        ),
    )
    table.say("")
    if played.missing:
        table.say(f"Not running any more: {', '.join(played.missing)}.", table.BAD)
    else:
        table.say("Everything that served before runs again.", table.GOOD)
    if options.svg:
        table.say(f"The picture is {escape(options.svg)}.", table.FAINT)


_LOOKS = {"fence": table.DOUBT, "ended": table.FAINT, "stop": table.BAD, "start": table.GOOD,
          "promote": table.GOOD, "demote": table.BAD}


def _headline(event: Event) -> str:
    if event.kind == "lose":
        return f"All nodes are online and everything runs; then {event.node} is lost."
    if event.kind == "standby":
        return f"All nodes are online and everything runs; then {event.node} is put on standby."
    return f"All nodes are online and everything runs; then {event.resource} fails on {event.node}."


def _in_words(step: Step) -> str:
    return {
        "fence": f"{step.node} is fenced",
        "ended": f"{step.resource} has ended with {step.node}",
        "stop": f"{step.resource} stops on {step.node}",
        "start": f"{step.resource} starts on {step.node}",
        "promote": f"{step.resource} is promoted on {step.node}",
        "demote": f"{step.resource} is demoted on {step.node}",
    }[step.action]


def _reasons(step: Step) -> str:
    """Why a step is taken, and which steps it waits for, those with one reason together."""
    by_reason: dict[str, list[int]] = {}
    for place, why in step.after:
        by_reason.setdefault(why, []).append(place + 1)
    told = [step.why] if step.why else []
    for why, places in by_reason.items():
        numbers = ", ".join(map(str, places))
        told.append(f"after {numbers}" + (f": {why}" if why else ""))
    return "; ".join(told)


def _places(where: Mapping[str, tuple[str, ...]], name: str) -> str:
    return ", ".join(where.get(name, ())) or "-"


def _as_json(played: Simulation, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "file": escape(options.site),
        "mistakes": [],
        "event": {
            "kind": played.event.kind, "node": played.event.node,
            "resource": played.event.resource or None,
        },
        "before": {name: list(nodes) for name, nodes in played.before.items()},
        "steps": [
            {
                "number": place, "action": step.action, "resource": step.resource or None,
                "node": step.node, "why": step.why,
                "after": [{"number": other + 1, "why": why} for other, why in step.after],
            }
            for place, step in enumerate(played.steps, 1)
        ],
        "after": {name: list(nodes) for name, nodes in played.after.items()},
        "missing": list(played.missing),
        "picture": escape(options.svg) if options.svg else None,
        "needs_you": bool(played.missing),
    }
