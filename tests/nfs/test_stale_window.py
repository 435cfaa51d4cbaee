"""A host that lost its lock reads its own name in the lock file for a while. Our code never does.

A holder on n1 loses its lock to one on n2 in one of three ways: n2 breaks it after its expiry, as
Mailman does; its lock file is removed and its claim stays, as when a breaker dies half-way; or lock
and claim are moved into quarantine, as when a fencing is believed that never was.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest

from lab.nfs.laboratory import Share

from .hosts import PATIENCE, Process, Scene, at_once

#: What a client may keep of a directory at the most (acdirmax), and some.
WATCHED = 75.0
WAYS = ("broken", "removed", "moved")
NODES: dict[str, dict[str, Any]] = {"n1": {}, "n2": {}}


def lose(scene: Scene, way: str, lock: str) -> tuple[Process, Process]:
    """A process on n1 takes the lock and loses it to one on n2; both, in this order."""
    path = scene.lock(lock)
    first, second = scene.process("n1"), scene.process("n2")
    expired = way == "broken"
    assert first.take_within("ours 2.1", path, -9.5 if expired else 600.0, 0.0)
    assert first.told(path) == {"names us": True, "holding": True, "monitor": True}
    if way == "removed":
        second.remove(path)
    elif way == "moved":
        fenced = {**NODES, "n1": {"online": False, "fenced_at": scene.fenced_now()}}
        swept = scene.process("n2", as_root=True).sweep("2.1", scene.path, fenced)
        assert [lock, "fenced"] in swept["released"]
    assert second.take_within("2.1", path, 600.0, 60.0)
    return first, second


def window(scene: Scene, way: str) -> float:
    """How long n1 reads its own name, while nobody there does anything else in the directory."""
    first, _ = lose(scene, way, "watched.lock")
    first.begin("watch", scene.lock("watched.lock"), WATCHED)
    seconds: float = first.end(WATCHED + PATIENCE)
    return seconds


@pytest.fixture(scope="module")
def windows(scenes: Callable[[], list[Scene]]) -> dict[tuple[str, str], float]:
    """All ways on all shares, at the same time: the windows take half a minute."""
    return at_once({
        (way, scene.share.name): functools.partial(window, scene, way)
        for way in WAYS for scene in scenes()
    })


@pytest.mark.parametrize("way", WAYS)
def test_window_ends(
    way: str, share: Share, windows: dict[tuple[str, str], float], measured: Callable[[str], None]
) -> None:
    seconds = windows[way, share.name]
    assert seconds < WATCHED
    if way != "broken" and "lookupcache=none" not in share.options:
        assert seconds > 0.0, "there was no window: the tests below try nothing"
    else:
        assert seconds == 0.0
    measured(f"n1 read its own name for {seconds:.1f} s after n2 had the lock")


@pytest.mark.parametrize("way", WAYS)
def test_holder_that_lost_its_lock_is_told_at_once(
    way: str, scene: Scene, measured: Callable[[str], None]
) -> None:
    first, second = lose(scene, way, "alpha.lock")
    told = first.told(scene.lock("alpha.lock"))
    assert not told["holding"] and not told["monitor"]
    first.unlock()
    assert scene.is_held_by("alpha.lock", second), "the old holder gave up what was not its own"
    if told["names us"]:
        measured("told while the lock file still named the old holder")


@pytest.mark.parametrize("way", WAYS)
def test_sweep_after_the_old_holders_death_keeps_the_new_holders_lock(
    way: str, scene: Scene
) -> None:
    first, second = lose(scene, way, "alpha.lock")
    claim = os.path.basename(first.claim_path())
    first.kill()
    swept = scene.process("n1", as_root=True).sweep("2.1", scene.path, NODES)
    # What goes with the old holder is its claim, where that is left, and nothing else.
    assert swept["released"] in ([], [[claim, "dead here"]])
    assert scene.is_held_by("alpha.lock", second)
    proven = [line["released"] for line in scene.evidence() if line["by_node"] == "n1"]
    assert proven == [name for name, _ in swept["released"]]
