"""Where a process of a history may be interrupted: each system call in the source of a module.

They are read from the source, so that one that nobody has ever interrupted shows.  Named
`module.function:call`, with a number where a function makes the call in several places.
"""

from __future__ import annotations

import ast
import inspect
from types import CodeType, ModuleType
from typing import NamedTuple

from tests.locks.interposed_os import SYSTEM_CALLS

#: What else of `os` the modules use: none of it acts on the share.
NO_SYSTEM_CALLS_ON_THE_SHARE = frozenset((
    "fsdecode", "fsencode", "getegid", "geteuid", "getpid", "getuid", "path", "seteuid",
    "stat_result", "strerror", "umask", "urandom",
    "replace",  # clocks: in the agents' own state directory
))


class _Call(NamedTuple):
    first_line: int
    last_line: int
    name: str
    boundary: str


#: By file name, what `of` has read.
_known: dict[str, list[_Call]] = {}


def of(module: ModuleType) -> list[str]:
    """Every boundary in `module`."""
    file = module.__file__ or module.__name__
    if file not in _known:
        name = module.__name__.rpartition(".")[2]
        reader = _Reader(
            "flufl" if name == "_lockfile" else name, module.__name__.startswith("mailman_ha.")
        )
        reader.visit(ast.parse(inspect.getsource(module)))
        _known[file] = reader.found
    return [call.boundary for call in _known[file]]


def at(code: CodeType, line: int, name: str) -> str:
    """The boundary of the call of `name` on `line` of the function `code`."""
    calls = [call for call in _known.get(code.co_filename, ()) if call.name == name]
    for call in calls:
        if call.first_line <= line <= call.last_line:
            return call.boundary
    for call in calls:  # by another name: `stat = os.stat`
        if f".{code.co_name}:" in call.boundary:
            return call.boundary
    raise LookupError(f"{name} at {code.co_filename}:{line} is no system call that is known there")


class _Reader(ast.NodeVisitor):
    def __init__(self, module: str, is_ours: bool) -> None:
        self._is_ours = is_ours
        self.found: list[_Call] = []
        self._module = module
        self._function = ""
        self._counts: dict[str, int] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            self._add("open", node)
            if any(isinstance(one, ast.Constant) and one.value == "w" for one in node.args):
                self._add("write", node)  # through the opened file
        if isinstance(node.func, ast.Attribute) and _is_of_os(node.func) and (
            node.func.attr in SYSTEM_CALLS
        ):
            self._add(node.func.attr, node)
            for argument in (*node.args, *node.keywords):
                self.visit(argument)
            return
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if _is_of_os(node):
            if node.attr in SYSTEM_CALLS:
                self._add(node.attr, node)
            elif self._is_ours and not node.attr.isupper() and (
                node.attr not in NO_SYSTEM_CALLS_ON_THE_SHARE
            ):
                raise LookupError(
                    f"{self._module}.py:{node.lineno}: is os.{node.attr} a system call on the "
                    "share? Say so in tests/locks/interposed_os.py or here"
                )
        self.generic_visit(node)

    def _add(self, name: str, node: ast.expr) -> None:
        place = f"{self._module}.{self._function}:{name}"
        number = self._counts[place] = self._counts.get(place, 0) + 1
        boundary = place if number == 1 else f"{place} {number}"
        self.found.append(_Call(node.lineno, node.end_lineno or node.lineno, name, boundary))


def _is_of_os(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"
