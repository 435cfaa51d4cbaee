"""Print what pip has to install for the tests, as pyproject.toml says it; or for the extras named.

Reads the two lists it needs without a TOML parser, which Python 3.9 does not have.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(text: str, names: tuple[str, ...] = ("dependencies", "test")) -> list[str]:
    """What the lists of these names hold together."""
    found: list[str] = []
    for name in names:
        block = re.search(rf"^{name} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
        if block is None:
            raise SystemExit(f"{PROJECT} has no list called {name}")
        found.extend(ast.literal_eval(block.group(1)))
    return found


if __name__ == "__main__":
    extras = tuple(sys.argv[1:])
    text = PROJECT.read_text()
    print("\n".join(requirements(text, extras) if extras else requirements(text)))
