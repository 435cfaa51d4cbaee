"""Fuzzing led by coverage: `python -m tests.fuzz [--seconds 60] [SURFACE ...]`, or `make fuzz`.

Each surface runs under atheris in a process of its own for so long. What it has learnt is kept
in `.cache/fuzz/SURFACE/corpus`, an input that broke a promise in `.cache/fuzz/SURFACE/`. Where
there is no atheris for the running Python, hypothesis plays more examples than the tests do.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CACHE = CHECKOUT / ".cache" / "fuzz"

#: How many times the tests' number of examples hypothesis plays in the place of atheris.
TIMES_WITHOUT_ATHERIS = 20


@dataclass(frozen=True)
class Ended:
    """How the run of one surface ended."""

    surface: str
    executed: int
    coverage: int
    failed: bool
    said: str


def main() -> int:
    """Answers the exit status: 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each surface")
    parser.add_argument("--one", metavar="SURFACE", help=argparse.SUPPRESS)
    parser.add_argument("--replay", metavar="FILE", help="play one input again, on one surface")
    parser.add_argument("surfaces", nargs="*", metavar="SURFACE", help="all, where none is named")
    options = parser.parse_args()
    if options.one:
        from tests.fuzz import under_atheris

        under_atheris.run(options.one, options.surfaces)
    from tests.fuzz.surfaces import SURFACES

    known = [surface.name for surface in SURFACES]
    wrong = set(options.surfaces) - set(known)
    if wrong:
        parser.error(f"there is no surface {', '.join(sorted(wrong))}; known: {', '.join(known)}")
    if importlib.util.find_spec("atheris") is None:
        return _without_atheris(options.surfaces)
    if options.replay:
        if len(options.surfaces) != 1:
            parser.error("name the surface that the input is for")
        return subprocess.call(_command(options.surfaces[0], [options.replay]))
    ended = [_fuzz(name, options.seconds) for name in options.surfaces or known]
    print(f"\n{'SURFACE':<24}{'EXECUTIONS':>12}{'COVERAGE':>10}  FOUND")
    for one in ended:
        print(f"{one.surface:<24}{one.executed:>12}{one.coverage:>10}  {one.said or '-'}")
    print(f"{sum(one.executed for one in ended)} executions of {len(ended)} surfaces, "
          f"{options.seconds} s each")
    return 1 if any(one.failed for one in ended) else 0


def _without_atheris(surfaces: list[str]) -> int:
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"atheris cannot be had for Python {version} here: hypothesis plays "
          f"{TIMES_WITHOUT_ATHERIS} times the tests' examples instead, without coverage to lead it")
    only = ["-k", " or ".join(surfaces)] if surfaces else []
    return subprocess.call(
        [sys.executable, "-m", "pytest", "-q", "-o", "timeout=0",
         str(CHECKOUT / "tests" / "fuzz" / "test_surfaces.py"), *only],
        env={**os.environ, "FUZZ_TIMES": str(TIMES_WITHOUT_ATHERIS)}, cwd=CHECKOUT,
    )


def _command(surface: str, arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "tests.fuzz", "--one", surface, "--", *arguments]


def _fuzz(surface: str, seconds: int) -> Ended:
    directory = CACHE / surface
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    print(f"{surface}: {seconds} s", flush=True)
    log = directory / "log"
    with (
        tempfile.TemporaryDirectory(prefix="mailman-ha-fuzz-", dir="/dev/shm") as space,
        open(log, "wb") as written,
    ):
        done = subprocess.run(
            _command(surface, [
                f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=2048",
                "-print_final_stats=1", f"-artifact_prefix={directory}/", str(corpus),
            ]),
            env={**os.environ, "FUZZ_SPACE": space}, cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            stdout=written, stderr=subprocess.STDOUT, check=False,
        )
    text = log.read_text(errors="replace")
    executed = re.search(r"number_of_executed_units: (\d+)", text)
    coverage = re.findall(r"cov: (\d+)", text)
    failed = done.returncode != 0
    said = ""
    if failed:
        raised = re.findall(r"^(\w*(?:Error|TookTooLong|Exception)\b.*)$", text, re.MULTILINE)
        artifact = re.search(r"Test unit written to (\S+)", text)
        said = (raised[-1] if raised else f"exit status {done.returncode}")[:200]
        print(f"  {said}\n  see {log}")
        if artifact:
            print(f"  again: {sys.executable} -m tests.fuzz --replay {artifact.group(1)} {surface}")
    return Ended(
        surface, int(executed.group(1)) if executed else 0, int(coverage[-1]) if coverage else 0,
        failed, said,
    )


if __name__ == "__main__":
    sys.exit(main())
