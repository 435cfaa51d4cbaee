"""What a run of histories came to, in words: for the terminal, and as a page of Markdown."""

from __future__ import annotations

from tests.histories import machine
from tests.histories.machine import BOUNDARIES, NEVER_REACHED, OF_CLAIMANTS, OF_SWEEPS
from tests.histories.runs import Run


def spoken(run: Run) -> str:
    """For the terminal: counts, and where a promise was broken how to break it again."""
    tally = run.tally
    lines = [
        f"{tally.histories} histories, {sum(tally.kinds.values())} steps, seed {run.seed}, "
        f"{run.seconds:.0f} s" + (f", mutant {run.mutant}" if run.mutant else ""),
        "steps: " + _counted(tally.kinds),
        f"put aside: {tally.put_aside} files",
    ]
    for what in ("released", "kept"):
        lines.append(f"{what}: " + _counted(
            {state: count for (did, state), count in tally.verdicts.items() if did == what}))
    lines += [
        f"boundaries of {who}: {len(boundaries)}, reached {_reached(run, boundaries)}, died at "
        f"{_interrupted(run, boundaries, 'die')}, stood still at "
        f"{_interrupted(run, boundaries, 'stand still')}"
        for who, boundaries in _groups().items()
    ]
    lines += run.missed()
    if tally.broken is not None:
        lines.append(_how_broken(run))
    return "\n".join(lines)


def written(run: Run) -> str:
    """A page of Markdown."""
    tally = run.tally
    lines = [
        "# Random histories of the lock library",
        "",
        f"{tally.histories} histories, {sum(tally.kinds.values())} steps, seed {run.seed}, "
        f"{run.seconds / 60:.0f} minutes; "
        + ("every promise held." if run.held else "**not every promise held.**"),
        (f"Of {run.asked} that were asked for: it was ended before. " if run.interrupted else "")
        + f"Again: `make histories N={run.asked} SEED={run.seed}`.",
        "",
        "A history is three nodes, which are namespaces; processes of Mailman's in them, CGI "
        "programs of the web server's user among them, that follow the real protocols; the "
        "janitor's sweeps; and operators with lock files in hand. Any process may die or stand "
        "still before any of its system calls.",
        "",
        "| step | times |",
        "|---|---:|",
        *(f"| {kind} | {count} |" for kind, count in sorted(tally.kinds.items())),
        "",
        f"{tally.put_aside} files were put into quarantine, each with its evidence.",
        "",
        "| the sweeps said | of files released | of files kept |",
        "|---|---:|---:|",
        *(
            f"| {state} | {tally.verdicts['released', state]} | {tally.verdicts['kept', state]} |"
            for state in sorted({state for _, state in tally.verdicts})
        ),
        "",
        "How often they were interrupted before each system call in the source of what acts on "
        "the share:",
        "",
        "| before | died | stood still |",
        "|---|---:|---:|",
    ]
    for boundary in sorted(set(BOUNDARIES) - set(NEVER_REACHED)):
        died, stood = (tally.interrupted[boundary, how] for how in ("die", "stand still"))
        lines.append(f"| `{boundary}` | {died} | {stood} |")
    lines += [
        "",
        "These are not asked for, each for the reason given:",
        "",
        *(f"* `{boundary}`: {why}" for boundary, why in NEVER_REACHED.items()),
    ]
    return "\n".join(lines) + "\n"


def _how_broken(run: Run) -> str:
    assert run.tally.broken is not None
    story, said = run.shortest or run.tally.broken
    lines = ["", said.rstrip(), "", "the steps, before the sweeps at the end:"]
    lines += [
        f"  {name}({', '.join(f'{key}={value!r}' for key, value in drawn.items())})"
        for name, drawn in story
    ]
    if run.shortest is None and not run.mutant:
        lines.append("(played again it broke nothing: it hangs on the processes' times)")
    lines += [
        "again:",
        f"  make histories PLAY={machine.written(story)}"
        + (f" MUTANT={run.mutant}" if run.mutant else ""),
    ]
    return "\n".join(lines)


def _groups() -> dict[str, list[str]]:
    return {
        "a sweep": OF_SWEEPS, "2.1's claimants": OF_CLAIMANTS["2.1"],
        "3's claimants": OF_CLAIMANTS["3"], "our claimants": OF_CLAIMANTS["ours"],
    }


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _reached(run: Run, boundaries: list[str]) -> int:
    return sum(one in run.tally.reached for one in boundaries)


def _interrupted(run: Run, boundaries: list[str], how: str) -> int:
    return sum(run.tally.interrupted[one, how] > 0 for one in boundaries)
