"""What a run of histories came to, in words: for the terminal, and as a page of Markdown."""

from __future__ import annotations

from tests.histories import machine
from tests.histories.machine import OF_CLAIMANTS, OF_SWEEPS
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
    lines += [f"never interrupted: {one}" for one in run.missed()]
    if tally.broken is not None:
        lines.append(_how_broken(run))
    return "\n".join(lines)


def written(run: Run) -> str:
    """The report that is committed."""
    raise NotImplementedError


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
