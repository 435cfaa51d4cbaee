"""One surface under atheris: the library is instrumented, and what it has not done is sought."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def run(name: str, arguments: list[str]) -> NoReturn:
    """Fuzz the surface `name`; `arguments` are libFuzzer's. Ends the process."""
    sys.path[:0] = [str(CHECKOUT / "lib"), str(CHECKOUT)]
    import atheris

    with atheris.instrument_imports(include=["mailman_ha", "yaml"], enable_loader_override=False):
        from tests.fuzz.surfaces import SURFACES
    surface = next(one for one in SURFACES if one.name == name)

    def check(example: Any) -> None:
        try:
            surface.check(example)
        except BaseException:
            sys.stderr.write(f"with {example!r:.3000}\n")
            raise

    decode = surface.decode
    if decode is not None:

        def fuzzed(content: bytes) -> None:
            check(decode(content))

    else:
        from hypothesis import HealthCheck, given, settings

        given_examples = settings(
            deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )(given(surface.examples)(check))
        fuzzed = given_examples.hypothesis.fuzz_one_input
    directory = CHECKOUT / ".cache" / "fuzz" / name
    directory.mkdir(parents=True, exist_ok=True)
    options = [] if decode is not None else ["-len_control=0"]
    if surface.words:
        words = directory / "words"
        words.write_text("".join(f'"{_quoted(word)}"\n' for word in surface.words if word))
        options.append(f"-dict={words}")
    if surface.seeds and any(not one.startswith("-") for one in arguments):
        seeds = directory / "seeds"
        seeds.mkdir(exist_ok=True)
        for number, seed in enumerate(surface.seeds):
            (seeds / str(number)).write_bytes(seed)
        if Path(arguments[-1]).is_dir():
            arguments = [*arguments, str(seeds)]
    longest = max(map(len, surface.seeds), default=0) * 2
    options.append(f"-max_len={max(longest, 4096)}")
    atheris.Setup([f"fuzz-{name}", *options, *arguments], fuzzed)
    atheris.Fuzz()
    raise SystemExit(0)


def _quoted(word: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in word
    )
