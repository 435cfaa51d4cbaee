"""A simulation as a picture: each step a box in the colour of what is done, in the frame of its
node; arrows lead from what is done before to what waits for it, with the reason."""

from __future__ import annotations

import os
import tempfile

from mailman_ha.evidence import command
from mailman_ha.topology import transition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.topology.simulation import Simulation
    from mailman_ha.topology.transition import Step

SECONDS = 60.0

_COLOURS = {
    transition.FENCE: "#f4a261",
    transition.ENDED: "#d9d9d9",
    transition.STOP: "#f1b4b4",
    transition.DEMOTE: "#f1d4b4",
    transition.START: "#b7e4c7",
    transition.PROMOTE: "#74c69d",
}


class CannotDraw(Exception):
    """dot is missing or failed; the text says which, and the way out."""


def svg(simulation: Simulation, title: str) -> bytes:
    """The picture, made by graphviz. Raises CannotDraw."""
    with tempfile.TemporaryDirectory(prefix="mailman-ha-picture-") as directory:
        path = os.path.join(directory, "picture.dot")
        with open(path, "w", encoding="utf-8") as file:
            file.write(dot(simulation, title))
        # Into a file, as a picture may be longer than what is read of a program's output.
        target = os.path.join(directory, "picture.svg")
        done = command.run(["dot", "-Tsvg", "-o", target, path], SECONDS)
        if done.missing:
            raise CannotDraw(
                "no picture: dot is not installed here; apt-get install graphviz "
                "(dnf install graphviz)"
            )
        if done.code != 0:
            raise CannotDraw(f"no picture: {done.complaint()}")
        with open(target, "rb") as file:
            return file.read()


def dot(simulation: Simulation, title: str) -> str:
    """The picture in graphviz's language."""
    lines = [
        "digraph simulation {",
        f"  label={_quoted(title)}; labelloc=t; rankdir=LR; fontname=\"sans-serif\";",
        "  node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\", fontsize=11];",
        "  edge [fontname=\"sans-serif\", fontsize=9, color=\"#555555\"];",
    ]
    nodes: dict[str, list[int]] = {}
    for place, step in enumerate(simulation.steps):
        nodes.setdefault(step.node, []).append(place)
    for number, (node, places) in enumerate(sorted(nodes.items())):
        lines.append(f"  subgraph cluster_{number} {{ label={_quoted(node)}; color=\"#999999\";")
        for place in places:
            step = simulation.steps[place]
            lines.append(
                f"    s{place} [label={_quoted(_label(place, step))}, "
                f"fillcolor=\"{_COLOURS[step.action]}\"];"
            )
        lines.append("  }")
    for place, step in enumerate(simulation.steps):
        for other, why in step.after:
            label = f" [label={_quoted(why)}]" if why else ""
            lines.append(f"  s{other} -> s{place}{label};")
    if not simulation.steps:
        lines.append("  nothing [label=\"nothing is done\", fillcolor=white];")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _label(place: int, step: Step) -> str:
    return f"{place + 1}. {step.action} {step.resource or step.node}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
