"""A host that lost its lock reads its own name in the lock file for a while. Our code never does.

A holder on n1 loses its lock to one on n2 in one of two ways: n2 breaks it after its expiry, as
Mailman does; or its lock file is removed and its claim stays, as when a breaker dies half-way.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lab.nfs.laboratory import Share

from .hosts import PATIENCE, Process, Scene, at_once

#: What a client may keep of a directory at the most (acdirmax), and some.
WATCHED = 75.0
WAYS = ("broken", "removed")
NODES: dict[str, dict[str, Any]] = {"n1": {}, "n2": {}}


@dataclass
class Sweeps:
    """What two sweeps said: beside the old holder, and after the death of another, whose claim was
    `claim`. `kept` and `kept_afterwards`: whether all new holders still had their locks."""

    beside: dict[str, Any]
    kept: bool
    claim: str
    afterwards: dict[str, Any]
    kept_afterwards: bool


def lose(scene: Scene, way: str, lock: str) -> tuple[Process, Process]:
    """A process on n1 takes the lock and loses it to one on n2; both, in this order."""
    path = scene.lock(lock)
    first, second = scene.process("n1"), scene.process("n2")
    expired = way == "broken"
    assert first.take_within("ours 2.1", path, -9.5 if expired else 600.0, 0.0)
    assert first.still_ours() == {"holding": True, "monitor": True}
    assert first.read_text(path) == first.claim_path()
    if not expired:
        second.remove(path)
    assert second.take_within("2.1", path, 600.0, 60.0)
    return first, second


def watch(scene: Scene, way: str) -> list[dict[str, Any]]:
    """Looks of the first holder, while nobody else on n1 does anything in the directory."""
    first, _ = lose(scene, way, "watched.lock")
    first.begin("watch", scene.lock("watched.lock"), WATCHED)
    seen: list[dict[str, Any]] = first.end(WATCHED + PATIENCE)
    return seen


def sweep(scene: Scene, way: str) -> Sweeps:
    """Sweeps of n1 at once after the loss: beside the old holder, and after its death."""
    sweeper = scene.process("n1", as_root=True)
    _, second = lose(scene, way, "first.lock")
    beside = sweeper.sweep("2.1", scene.path, NODES)
    kept = scene.is_held_by("first.lock", second)
    third, fourth = lose(scene, way, "second.lock")
    claim = os.path.basename(third.claim_path())
    third.kill()
    afterwards = sweeper.sweep("2.1", scene.path, NODES)
    return Sweeps(
        beside, kept, claim, afterwards,
        scene.is_held_by("first.lock", second) and scene.is_held_by("second.lock", fourth),
    )


@pytest.fixture(scope="module")
def watched(scenes: Callable[[], list[Scene]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Both ways on all shares, at the same time: the windows take most of a minute."""
    return at_once({
        (way, scene.share.name): functools.partial(watch, scene, way)
        for way in WAYS for scene in scenes()
    })


@pytest.mark.parametrize("way", WAYS)
def test_holder_that_lost_its_lock_is_told_at_once(
    way: str, share: Share, watched: dict[tuple[str, str], list[dict[str, Any]]],
    measured: Callable[[str], None],
) -> None:
    seen = watched[way, share.name]
    assert seen and not any(look["holding"] or look["monitor"] for look in seen)
    window = max((look["at"] for look in seen if look["names us"]), default=0.0)
    measured(f"n1 read its own name for {window:.1f} s more ({len(seen)} looks)")


@pytest.mark.parametrize("way", WAYS)
def test_sweep_in_the_window_keeps_the_new_holders_lock(way: str, scene: Scene) -> None:
    sweeps = sweep(scene, way)
    assert sweeps.beside["released"] == [] and sweeps.kept
    # What goes with the old holder is its claim, where that is left, and nothing else.
    assert sweeps.afterwards["released"] in ([], [[sweeps.claim, "dead here"]])
    assert sweeps.kept_afterwards
    assert len(scene.evidence()) == len(sweeps.afterwards["released"])
