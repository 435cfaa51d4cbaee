"""Mailman 2.1's LockFile: that of the installation which MAILMAN21_PREFIX names, where it names
one; else the stand-in's, which makes the same system calls in the same order (contract, 1.2).

2.1 is written for Python 2. Its LockFile.py stands on nothing else of Mailman, and what of it is
Python 2's alone is translated here by lib2to3; a port to Python 3 is taken as it is.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "standin" / "program"))
from Mailman import LockFile as standin

PREFIX = os.environ.get("MAILMAN21_PREFIX")


def load(path: Path) -> ModuleType:
    """The real LockFile.py as a module of this Python."""
    source = path.read_text(encoding="latin-1")
    try:
        code = compile(source, str(path), "exec")
    except (SyntaxError, ValueError):
        source = _translated(source, str(path))
        code = compile(source, str(path), "exec")
    module = ModuleType("LockFile")
    module.__file__ = str(path)
    # What is translated differs from the file: tracebacks and `boundaries` are to see this.
    linecache.cache[str(path)] = (len(source), None, source.splitlines(True), str(path))
    exec(code, module.__dict__)
    return module


def _translated(source: str, name: str) -> str:
    from lib2to3.refactor import RefactoringTool, get_fixers_from_package

    tool = RefactoringTool(get_fixers_from_package("lib2to3.fixes"))
    # It defines True and False for a Python that had none.
    source = re.sub(r"^( +)(True|False) = [01]$", r"\1pass", source, flags=re.MULTILINE)
    return str(tool.refactor_string(source.expandtabs() + "\n", name))


class Real:
    """The real LockFile under the names that the stand-in has for what claimants use."""

    def __init__(self, path: str, lifetime: float) -> None:
        self.path = path
        self._lock = module.LockFile(path, lifetime)
        self.lock = self._lock.lock
        self.unlock = self._lock.unlock
        self.refresh = self._lock.refresh
        self.transfer_to = self._lock._transfer_to
        self.disown = self._lock._disown

    @property
    def claim(self) -> str:
        return str(self._lock._LockFile__tmpfname)

    @claim.setter
    def claim(self, name: str) -> None:
        self._lock._LockFile__tmpfname = name


def _the_real_one(prefix: str) -> ModuleType:
    made = load(Path(prefix) / "Mailman" / "LockFile.py")
    made._logfile = open(os.devnull, "w")  # type: ignore[attr-defined] # noqa: SIM115
    return made


module: Any = standin if PREFIX is None else _the_real_one(PREFIX)
LockFile: Any = standin.LockFile if PREFIX is None else Real
