"""docs/architecture.svg: the packages of the library on their floors, and who imports whom.

Drawn from the source: boxes and words from the packages and their first line, arrows from the
imports. An arrow that follows from others is left out. To make it:
`python3 -m pictures.architecture FILE`.
"""

from __future__ import annotations

import ast
import itertools
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from .drawing import Drawing

PROJECT = Path(__file__).resolve().parent.parent
LIBRARY = PROJECT / "lib" / "mailman_ha"
PACKAGE = LIBRARY.name

WIDTH, EDGE, GAP = 900, 20, 36
BOX = (270, 78)
COLUMNS = 3
TOP = 54


def imports() -> dict[str, set[str]]:
    """Which packages of the library each one imports, also only for the type checker."""
    packages = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
    found: dict[str, set[str]] = {name: set() for name in packages}
    for name in packages:
        for path in (LIBRARY / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for dotted in _modules(node):
                    parts = dotted.split(".")
                    if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in found:
                        found[name].add(parts[1])
    return {name: others - {name} for name, others in found.items()}


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def floors(imported: Mapping[str, set[str]]) -> list[list[str]]:
    """The packages from the top down: each stands just below the lowest that imports it."""
    depth: dict[str, int] = {}

    def sink(name: str, level: int, above: tuple[str, ...] = ()) -> None:
        if name in above:
            raise ValueError(f"packages import each other: {' → '.join((*above, name))}")
        if depth.get(name, -1) < level:
            depth[name] = level
            for other in imported[name]:
                sink(other, level + 1, (*above, name))

    for name in imported:
        sink(name, 0)
    return [
        sorted(name for name in imported if depth[name] == level)
        for level in range(max(depth.values()) + 1)
    ]


def columns(rows: Sequence[Sequence[str]], arrows: Sequence[tuple[str, str]]) -> dict[str, int]:
    """A column for each package, such that arrows run behind no box and are short."""
    row_of = {name: number for number, row in enumerate(rows) for name in row}

    def cost(column: Mapping[str, int]) -> tuple[int, int]:
        hidden = length = 0
        for source, target in arrows:
            down, along = row_of[target] - row_of[source], column[target] - column[source]
            length += along * along
            for step in range(1, down):
                at = column[source] + along * step / down
                hidden += sum(
                    abs(column[name] - at) < 0.75 for name in rows[row_of[source] + step]
                )
        return hidden, length

    orders = [itertools.permutations(range(COLUMNS), len(row)) for row in rows]
    names = [name for row in rows for name in row]
    every = (dict(zip(names, itertools.chain(*taken))) for taken in itertools.product(*orders))
    return min(every, key=cost)


def without_what_follows(imported: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The imports that no chain of others implies."""

    def reached(name: str) -> set[str]:
        return imported[name].union(*(reached(other) for other in imported[name]))

    return {
        name: {
            other for other in others
            if not any(other in reached(between) for between in others - {other})
        }
        for name, others in imported.items()
    }


def first_words(name: str) -> str:
    """The first sentence of a package's docstring."""
    tree = ast.parse((LIBRARY / name / "__init__.py").read_text(encoding="utf-8"))
    told = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    sentence, dot, _ = told.partition(". ")
    return (sentence + dot.strip()).replace("`", "")


def draw() -> Drawing:
    """The picture."""
    imported = imports()
    rows = floors(imported)
    told = "; ".join(
        f"{name} imports {', '.join(sorted(others)) or 'nothing of the library'}"
        for name, others in sorted(imported.items())
    )
    drawing = Drawing(
        WIDTH, TOP + len(rows) * (BOX[1] + GAP),
        "The packages of mailman-ha and what they import",
        f"From the top down: {' / '.join(' '.join(row) for row in rows)}. {told}.",
    )
    drawing.text(EDGE, 30, "Imports run downwards only", "title")
    drawing.text(
        WIDTH - EDGE, 30, "an arrow: imports; what follows from other arrows is left out",
        "faint small", "end",
    )
    arrows = [
        (name, other) for name, others in sorted(without_what_follows(imported).items())
        for other in sorted(others)
    ]
    column = columns(rows, arrows)
    width, height = BOX
    apart = (WIDTH - 2 * EDGE - width) / (COLUMNS - 1)
    place = {
        name: (EDGE + column[name] * apart, TOP + number * (height + GAP))
        for number, row in enumerate(rows) for name in row
    }
    for name, other in arrows:
        (x, y), (x_other, y_other) = place[name], place[other]
        drawing.line(
            [(x + width / 2, y + height), (x_other + width / 2, y_other)], arrow=True
        )
    for name, (x, y) in place.items():
        drawing.box(x, y, width, height, "box")
        drawing.text(x + 12, y + 20, name, "name")
        for line, words in enumerate(textwrap.wrap(first_words(name), 42)):
            drawing.text(x + 12, y + 38 + 14 * line, words, "faint small")
    return drawing


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw().svg(), encoding="utf-8")
