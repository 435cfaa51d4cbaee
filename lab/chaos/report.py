"""The report of a campaign: a table in Markdown and the timeline of one round as SVG."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .faults import FAULTS

Entry = Mapping[str, Any]


def read(file: Path) -> list[Entry]:
    """The rounds that were written down."""
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(rounds: Sequence[Entry], directory: Path) -> None:
    """report.md and timeline.svg into the directory."""
    (directory / "report.md").write_text(markdown(rounds), encoding="utf-8")
    chosen = interesting(last_plays(rounds))
    if chosen is not None:
        plot(chosen, directory / "timeline.svg")


def last_plays(plays: Sequence[Entry]) -> list[Entry]:
    """Of each round the last time it was played, by number."""
    last = {(each["seed"], each["field"]): each for each in plays}
    return sorted(last.values(), key=lambda each: (each["number"], each["seed"]))


def markdown(plays: Sequence[Entry]) -> str:
    """The table per fault, then each broken promise; also of rounds that were played again."""
    rounds = last_plays(plays)
    again = [each for each in plays if each["violations"] and each not in rounds]
    failed = [each for each in rounds if each["violations"]]
    posts = sum(each.get("accepted", 0) for each in rounds)
    fields = sorted({each["field"] for each in rounds})
    lines = [
        "# Random faults on real clusters",
        "",
        f"{len(rounds)} rounds, {len(failed)} with a broken promise, {posts} posts accepted. "
        f"Seeds: {', '.join(sorted({each['seed'].split(':')[0] for each in rounds}))}.",
        "",
        "Each round: steady mail, one fault, the world's mending where there is one, rest. "
        "Watchers outside the nodes looked for two masters or two runners of one slice all the "
        "time; at rest every accepted post had reached every subscriber, the list had its members, "
        "and each lock taken away had its evidence. *Seconds* run from the fault until a full set "
        "of daemons ran for good and posts were accepted without a pause; the time a fault was "
        "held on purpose is part of them. *Twice* are posts somebody got twice, which Mailman "
        "itself does when it is killed between sending and noting. *Excused* are posts lost with a "
        "file system that broke down under Mailman.",
        "",
        "Clusters: " + ", ".join(f"{field} (site, suite, nodes)" for field in fields) + ".",
        "",
        "| fault | rounds | recovered | median s | worst s | fenced | twice | excused | broken |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for fault in FAULTS:
        of = [each for each in rounds if each["fault"] == fault.name]
        if of:
            lines.append(row(fault.name, fault.text, of))
    lines.append(row("**all**", "", rounds))
    for heading, broken in (
        ("Broken promises", failed),
        ("Broken before, and played again (the table has the last play)", again),
    ):
        if broken:
            lines += ["", f"## {heading}", "", *map(complaint, broken)]
    return "\n".join(lines) + "\n"


def complaint(each: Entry) -> str:
    """One line about a round that broke a promise, with the command that repeats it."""
    seed = each["seed"].split(":")[0]
    said = str(each["violations"][0]).splitlines()[0]
    return (
        f"- round {each['number']} ({each['field']}, {each['fault']}): {said} "
        f"(`make chaos SEED={seed} ONLY={each['number']}`)"
    )


def row(name: str, text: str, rounds: Sequence[Entry]) -> str:
    """One line of the table."""
    times = [each["recovery"] for each in rounds if each.get("recovery") is not None]
    label = f"{name}: {text}" if text else name
    cells = [
        label,
        str(len(rounds)),
        str(len(times)),
        f"{statistics.median(times):.1f}" if times else "-",
        f"{max(times):.1f}" if times else "-",
        str(sum(bool(each.get("fenced")) for each in rounds)),
        str(sum(each.get("twice", 0) for each in rounds)),
        str(sum(each.get("excused", 0) for each in rounds)),
        str(sum(bool(each["violations"]) for each in rounds)),
    ]
    return "| " + " | ".join(cells) + " |"


def interesting(rounds: Sequence[Entry]) -> Entry | None:
    """A round to draw: a broken one, else a power cut of the active node of two."""
    for wanted in (
        lambda each: each["violations"],
        lambda each: each["fault"] == "power cut, active node" and each["field"].endswith("-2"),
        lambda each: True,
    ):
        for each in rounds:
            if "timeline" in each and wanted(each):
                return each
    return None


def plot(entry: Entry, file: Path) -> None:
    """Posts accepted and delivered, the daemons of each node, and what was done, over time."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mailman-ha"
    from matplotlib import pyplot

    line = entry["timeline"]
    figure, (mail, daemons) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 5))
    for what, colour in (("accepted", "tab:blue"), ("delivered", "tab:green")):
        times = sorted(line[what])
        copies = 3 if what == "delivered" else 1
        counts = [number / copies for number in range(1, len(times) + 1)]
        mail.step(times, counts, where="post", label=what, color=colour)
    mail.set_ylabel("posts")
    mail.legend(loc="upper left")
    end = max([10.0, *line["accepted"], *line["delivered"]])
    nodes = sorted({node for _, found in line["daemons"] for node in found})
    for node in nodes:
        times, counts = [], []
        for moment, found in line["daemons"]:
            times.append(moment)
            counts.append(sum(found.get(node, [0, 0])))
        daemons.step([*times, end], [*counts, counts[-1]], where="post", label=node)
    daemons.set_ylabel("daemons")
    daemons.set_xlabel("seconds from the fault")
    daemons.legend(loc="upper left")
    for moment, event, node in line["events"]:
        if moment <= end:
            for axes in (mail, daemons):
                axes.axvline(moment, color="tab:red", linewidth=0.6, alpha=0.6)
            mail.annotate(
                f"{event} {node}",
                (moment, 0.02),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=7,
                ha="right",
            )
    mail.set_title(f"{entry['fault']} on {entry['field']}")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
