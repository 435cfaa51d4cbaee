"""The `os` module as the lock library sees it, with something done before its N-th system call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from mailman_ha.locks import directory, holding, release

#: What of `os` the lock library uses that is a system call on the share.
SYSTEM_CALLS = frozenset((
    "open", "close", "read", "pread", "write", "fstat", "stat", "link", "unlink", "rename",
    "utime", "mkdir", "listdir", "scandir", "ftruncate", "fsync",
))


class InterposedOs:
    """Stands in the place of `os`; `actions` maps a system call's number, from 0, to what is done
    before it."""

    def __init__(self, actions: dict[int, Callable[[], object]]) -> None:
        self.actions = actions
        self.count = 0
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return original

        def call(*arguments: Any, **named: Any) -> Any:
            number, self.count = self.count, self.count + 1
            self.made.append(name)
            action = self.actions.get(number)
            if action is not None:
                action()
            return original(*arguments, **named)

        return call


def interpose(
    monkeypatch: pytest.MonkeyPatch, actions: dict[int, Callable[[], object]]
) -> InterposedOs:
    """Put an InterposedOs into the modules of the lock library that make system calls."""
    stand_in = InterposedOs(actions)
    for module in (directory, holding, release):
        monkeypatch.setattr(module, "os", stand_in)
    return stand_in
