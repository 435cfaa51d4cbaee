"""The `os` module as a process of a history sees it: it can die or stand still before its n-th
system call, and keeps account of the files it made and of the lock files it took away."""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any, Optional

from tests.histories.line import Ended, Line
from tests.locks.interposed_os import SYSTEM_CALLS

#: (number of the system call, from 0, "die" or "stand still"), or None: run through.
Stop = Optional[tuple[int, str]]


class Schedule:
    """Counts the system calls of this process. `told` is what goes along with each report."""

    def __init__(self, line: Line, told: Callable[[], Any] = lambda: None) -> None:
        self._line = line
        self._told = told
        self._stop: Stop = None
        self._count = 0
        #: Inodes of the files that this process created or linked.
        self.made: set[int] = set()
        #: Inodes whose name this process removed, whoever they were of.
        self.removed: set[int] = set()

    def begin(self, stop: Stop) -> None:
        self._stop, self._count = stop, 0

    @property
    def count(self) -> int:
        return self._count

    def before(self, call: str) -> None:
        """To be called before each system call."""
        number, self._count = self._count, self._count + 1
        if self._stop is None or number != self._stop[0]:
            return
        what, self._stop = self._stop[1], None
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        self._line.tell(("stands", call, self._told()))
        try:
            order, _ = self._line.hear()
        except Ended:
            os._exit(0)
        later, shift = order
        if later is not None:
            self._stop = (number + 1 + later[0], later[1])
        if shift is not None:
            shift_clock(shift)

    def put_into(self, *modules: ModuleType) -> None:
        """Let these modules make their system calls through this schedule."""
        for module in modules:
            module.os = _Os(self)  # type: ignore[attr-defined]
            module.open = self._open  # type: ignore[attr-defined]

    def _open(self, file: Any, mode: str = "r", **named: Any) -> Any:
        self.before("open")
        opened = builtins.open(file, mode, **named)  # noqa: SIM115
        if "w" in mode:
            self.made.add(os.fstat(opened.fileno()).st_ino)
        return opened


class _Os:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return original
        schedule = self._schedule

        def call(*arguments: Any, **named: Any) -> Any:
            schedule.before(name)
            if name == "unlink":
                try:
                    schedule.removed.add(os.lstat(*arguments, **named).st_ino)
                except OSError:
                    pass
            result = original(*arguments, **named)
            if name == "open" and arguments[1] & os.O_CREAT:
                schedule.made.add(os.fstat(result).st_ino)
            return result

        return call


_shift = [0.0]


def shift_clock(seconds: float) -> None:
    """Set this process's clock `seconds` ahead of the kernel's."""
    _shift[0] = seconds


def install_clock() -> None:
    """Let everything that asks `time.time` in this process see a clock that can be shifted."""
    import time

    kernels = time.time
    time.time = lambda: kernels() + _shift[0]
