"""Imports run downwards only, and a monitor that finds all well imports next to nothing."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mailman_ha
import pytest

LIBRARY = Path(mailman_ha.__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"

#: The house from the top down; what stands on one floor does not know its neighbours.
FLOORS = (
    ("cli",), ("doctor",), ("agents", "topology"), ("mailman", "queues", "lists"), ("evidence",),
    ("locks",), ("ocf",),
)
FLOOR_OF = {layer: number for number, floor in enumerate(FLOORS) for layer in floor}

#: Each of these costs a monitor a good part of starting Python (`__future__` a fortieth, and it
#: buys nothing but unquoted types).
TOO_DEAR = (
    "os", "typing", "dataclasses", "enum", "re", "json", "subprocess", "logging", "socket",
    "argparse", "signal", "psutil", "__future__",
)

#: Where alone a package for looks is imported: the others must run without it.
ONLY_IN = {"rich": "cli/table.py", "argcomplete": "cli/main.py"}

MODULES = sorted(LIBRARY.rglob("*.py"))
QUICK = sorted(path.parent.name for path in LIBRARY.glob("agents/*/quick.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import in a file, also in functions and for the type checker.

    Of `from package import name` both the package and the name under it.
    """
    package = ("mailman_ha", *path.relative_to(LIBRARY).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*above, *((node.module,) if node.module else ())))
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}"


def layer_of(dotted: str) -> str | None:
    """The layer of this project that a name lies in; None for anything else."""
    project, _, rest = dotted.partition(".")
    layer = rest.partition(".")[0]
    return layer if project == "mailman_ha" and layer in FLOOR_OF else None


def test_every_package_has_its_floor() -> None:
    packages = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(FLOOR_OF), "a package that stands nowhere in the house"
    assert {"agents", "mailman", "queues", "lists", "evidence", "locks", "ocf"} <= packages


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_run_downwards_only(path: Path) -> None:
    parts = path.relative_to(LIBRARY).parts
    if len(parts) == 1:
        wrong = [name for _, name in imported(path) if name.startswith("mailman_ha.")]
        assert not wrong, "the top package imports its parts"
        return
    own = parts[0]
    for line, name in imported(path):
        layer = layer_of(name)
        if layer is not None and layer != own:
            assert FLOOR_OF[layer] > FLOOR_OF[own], (
                f"{path.relative_to(LIBRARY)}:{line} imports {name}: {own} must not know {layer}"
            )


@pytest.mark.parametrize("package", ONLY_IN)
def test_package_for_looks_is_imported_in_one_place_only(package: str) -> None:
    using = {
        str(path.relative_to(LIBRARY))
        for path in MODULES
        if any(name.split(".")[0] == package for _, name in imported(path))
    }
    assert using == {ONLY_IN[package]}


def test_the_check_sees_every_way_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.LIBRARY", tmp_path)
    (tmp_path / "locks").mkdir()
    path = tmp_path / "locks" / "x.py"
    path.write_text(
        "import mailman_ha.agents.site\nfrom mailman_ha import evidence\nfrom .. import mailman\n"
        "from ..queues import entries\nfrom . import grammar\n"
        "def f():\n    from mailman_ha.lists.half_saves import find\n"
        "if TYPE_CHECKING:\n    from mailman_ha.agents import site\n"
    )
    layers = [layer_of(name) for _, name in imported(path)]
    assert sorted(filter(None, layers)) == [
        "agents", "agents", "evidence", "lists", "locks", "mailman", "queues",
    ]


def modules_after(statements: str) -> set[str]:
    """What is in sys.modules after these statements, in the interpreter that runs the agents."""
    done = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(LIBRARY.parent)!r}); {statements}; "
         "names = sorted(sys.modules); import json; print(json.dumps(names))"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("agent", QUICK)
def test_light_path_imports_nothing_dear(agent: str) -> None:
    bare = modules_after("pass")
    loaded = modules_after(
        f"import mailman_ha.ocf.runtime as runtime; import mailman_ha.agents.{agent}.quick as one; "
        "one.quick_monitor({'HA_RSCTMP': '/nonexistent'}, runtime.Deadline(5.0))"
    )
    assert f"mailman_ha.agents.{agent}.quick" in loaded
    assert not (loaded - bare) & set(TOO_DEAR)


def test_there_are_light_paths_to_look_at() -> None:
    assert {"mailman_master", "list_lock_janitor"} <= set(QUICK)


def test_the_look_at_the_modules_sees_what_is_dear() -> None:
    loaded = modules_after("import re, subprocess")
    assert {"subprocess", "re", "enum", "signal"} <= loaded
