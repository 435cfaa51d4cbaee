"""Print what pip has to install for the tests, as pyproject.toml says it.

Reads the two lists it needs without a TOML parser, which Python 3.9 does not have.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(text: str) -> list[str]:
    """The run-time dependencies and those of the extra `test`."""
    found: list[str] = []
    for name in ("dependencies", "test"):
        block = re.search(rf"^{name} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
        if block is None:
            raise SystemExit(f"{PROJECT} has no list called {name}")
        found.extend(ast.literal_eval(block.group(1)))
    return found


if __name__ == "__main__":
    print("\n".join(requirements(PROJECT.read_text())))
