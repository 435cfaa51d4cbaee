"""The `os` module as a process of a history sees it: it can die or stand still before any one of
its system calls, and keeps account of the files it made."""

from __future__ import annotations

import builtins
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import Any, Optional, Union

from tests.histories import boundaries
from tests.histories.line import Ended, Line
from tests.locks.interposed_os import SYSTEM_CALLS

#: Before which system call, and "die" or "stand still"; None: run through.  Either the number of
#: the call, from 0, or how often to pass one of these boundaries before, and their names: a process
#: comes by one of them, according to the protocol it follows.
Stop = Optional[tuple[Union[int, Sequence[Any]], str]]


class Schedule:
    """Counts the system calls of this process. `told` is what goes along with each report."""

    def __init__(self, line: Line, told: Callable[[], dict[str, Any]] = dict) -> None:
        self._line = line
        self._told = told
        self._stop: Stop = None
        self._count = 0
        self._passed = 0
        #: Inodes of the files that this process created or linked.
        self.made: set[int] = set()
        #: The boundaries that this process came to.
        self.reached: set[str] = set()

    def begin(self, stop: Stop) -> None:
        self._stop, self._count, self._passed = stop, 0, 0

    @property
    def count(self) -> int:
        return self._count

    def before(self, boundary: str) -> None:
        """To be called before each system call."""
        number, self._count = self._count, self._count + 1
        self.reached.add(boundary)
        if self._stop is None or not self._is_here(self._stop[0], number, boundary):
            return
        what, self._stop = self._stop[1], None
        if what == "die":
            self._line.tell(("dies", boundary, self.account()))
            os.kill(os.getpid(), signal.SIGKILL)
        self.stand_still(boundary)

    def _is_here(self, where: int | Sequence[Any], number: int, boundary: str) -> bool:
        if isinstance(where, int):
            return number == where
        if boundary not in where[1:]:
            return False
        self._passed += 1
        return bool(self._passed > where[0])

    def stand_still(self, boundary: str) -> None:
        """Until the driver says that it goes on, till when, and how the clock was set meanwhile."""
        self._line.tell(("stands", boundary, self.account()))
        try:
            (later, shift), _ = self._line.hear()
        except Ended:
            os._exit(0)
        if later is not None:
            where, what = later
            self._stop = (self._count + where if isinstance(where, int) else where, what)
            self._passed = 0
        if shift is not None:
            shift_clock(shift)

    def account(self) -> dict[str, Any]:
        """What the history's driver keeps of this process."""
        return {"made": set(self.made), "reached": set(self.reached), **self._told()}

    def put_into(self, *modules: ModuleType) -> None:
        """Let these modules make their system calls through this schedule."""
        for module in modules:
            boundaries.of(module)
            module.os = _Os(self)  # type: ignore[attr-defined]
            module.open = self._open  # type: ignore[attr-defined]

    def _open(self, file: Any, mode: str = "r", **named: Any) -> Any:
        boundary = _boundary(sys._getframe(1), "open")
        self.before(boundary)
        while "w" not in mode and _is_fifo(file):
            self.stand_still(boundary)  # open(2) waits until somebody writes, which nobody does
        opened = builtins.open(file, mode, **named)  # noqa: SIM115
        if "w" in mode:
            self.made.add(os.fstat(opened.fileno()).st_ino)
            return _Written(opened, lambda: self.before(boundary.replace(":open", ":write")))
        return opened


class _Written:
    """A file that was opened to be written."""

    def __init__(self, file: Any, before: Callable[[], None]) -> None:
        self._file = file
        self._before = before

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def write(self, text: Any) -> Any:
        self._before()
        return self._file.write(text)


class _Os:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return original
        schedule = self._schedule

        def call(*arguments: Any, **named: Any) -> Any:
            schedule.before(_boundary(sys._getframe(1), name))
            result = original(*arguments, **named)
            if name == "open" and arguments[1] & os.O_CREAT:
                schedule.made.add(os.fstat(result).st_ino)
            return result

        return call


def _boundary(frame: FrameType, call: str) -> str:
    return boundaries.at(frame.f_code, frame.f_lineno, call)


def _is_fifo(file: Any) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)
    except OSError:
        return False


_shift = [0.0]


def shift_clock(seconds: float) -> None:
    """Set this process's clock `seconds` ahead of the kernel's."""
    _shift[0] = seconds


def install_clock() -> None:
    """Let everything that asks `time.time` in this process see a clock that can be shifted."""
    import time

    kernels = time.time
    time.time = lambda: kernels() + _shift[0]
