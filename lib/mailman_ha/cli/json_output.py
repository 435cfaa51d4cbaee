"""What a command prints with --json: one object, whose JSON Schema (draft 2020-12) is
schemas/COMMAND.json."""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1


def schema_name(command: str) -> str:
    """What stands in the field `schema` of a command's output."""
    return f"mailman-ha/{command}/{VERSION}"


def write(command: str, content: Mapping[str, Any]) -> None:
    """Print `content` with its schema's name in front. ASCII, so that no terminal and no locale
    can come between; names are as `ocf.escape` writes them.

    Each field, and each element of a list, has a line of its own. (What json does to indent takes
    three times as long, which counts with 100,000 locks.)
    """
    fields = []
    for name, value in {"schema": schema_name(command), **content}.items():
        if isinstance(value, list) and value:
            text = "[\n    " + ",\n    ".join(map(_dumped, value)) + "\n  ]"
        else:
            text = _dumped(value)
        fields.append(f"  {_dumped(name)}: {text}")
    sys.stdout.write("{\n" + ",\n".join(fields) + "\n}\n")


def _dumped(value: object) -> str:
    return json.dumps(value, allow_nan=False)
