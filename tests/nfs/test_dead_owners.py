"""Locks of dead owners, swept by both hosts at once: each is released once, no living one's is."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from .hosts import Process, Scene, at_once

LOCKS = {"2.1": ("alpha.lock", "beta.lock", "master-qrunner"), "3": ("dbcreate.lck", "master.lck")}
LIVING = {"2.1": ("gamma.lock", "delta.lock"), "3": ("mailman-cfg.lck", "mta")}


def take(scene: Scene, host: str, format: str, lock: str) -> Process:
    process = scene.process(host)
    assert process.take_within(format, scene.lock(lock), 3600.0, 30.0)
    return process


@pytest.mark.parametrize("format", LOCKS)
def test_lock_of_dead_owner_is_released_once_though_both_hosts_sweep(
    format: str, scene: Scene
) -> None:
    dead = [take(scene, "n1", format, lock) for lock in LOCKS[format]]
    for process in dead:
        process.kill()
    # n1 is fenced, as n2 hears, and back: what is taken there now has a living owner.
    nodes = {"n1": {"fenced_at": scene.fenced_now()}, "n2": {}}
    living = {
        lock: take(scene, host, format, lock)
        for lock, host in zip(LIVING[format], ("n1", "n2"))
    }
    sweepers = {host: scene.process(host, as_root=True) for host in ("n1", "n2")}
    told = at_once({
        host: functools.partial(sweeper.sweep, format, scene.path, nodes)
        for host, sweeper in sweepers.items()
    })
    again = sweepers["n2"].sweep(format, scene.path, nodes)
    assert again["released"] == []

    released = [lock for one in told.values() for lock, _ in one["released"]]
    assert sorted(released) == sorted(LOCKS[format])
    lines = scene.evidence()
    assert sorted(line["released"] for line in lines) == sorted(LOCKS[format])
    for line in lines:
        assert (line["by_node"], line["state"]) in (("n1", "dead here"), ("n2", "fenced"))
        assert line["host"] == "n1" and line["pid"] in [process.pid for process in dead]
    for lock, process in living.items():
        assert scene.is_held_by(lock, process)
    # Each with its claim, in quarantine; nothing of a release is left behind.
    assert sorted(name for name in scene.quarantined() if name in LOCKS[format]) == sorted(
        LOCKS[format]
    )
    assert len(scene.quarantined()) == 2 * len(LOCKS[format])
    assert scene.half_done() == []
    assert len(scene.on_disk()) == 2 * len(LOCKS[format]) + 2 * len(living) + 1


@pytest.mark.parametrize("format", LOCKS)
def test_claimant_that_breaks_what_is_just_released_has_the_lock(
    format: str, scene: Scene, measured: Callable[[str], None]
) -> None:
    # Expired locks of a dead owner: a Mailman breaks and takes one after the other, while both
    # hosts release them. Whoever comes first, what Mailman then holds is nobody else's to move.
    locks = [f"list{number}.lock" for number in range(8)]
    dead, claimant = scene.process("n1"), scene.process("n1")
    assert dead.take_each(format, [scene.lock(lock) for lock in locks], -9.0, 0.01) == 8
    dead.kill()
    nodes = {"n1": {"fenced_at": scene.fenced_now()}, "n2": {}}
    sweepers = {host: scene.process(host, as_root=True) for host in ("n1", "n2")}
    paths = [scene.lock(lock) for lock in locks]
    told = at_once({
        "claimant": functools.partial(claimant.take_each, format, paths, 3600.0, 60.0),
        **{
            host: functools.partial(sweeper.sweep, format, scene.path, nodes)
            for host, sweeper in sweepers.items()
        },
    })
    assert told["claimant"] == 8
    assert all(scene.is_held_by(lock, claimant) for lock in locks)
    released = [line["released"] for line in scene.evidence()]
    assert len(released) == len(set(released))
    # Claims may be left of a broken lock; of the locks each is aside once that was released.
    assert sorted(name for name in scene.quarantined() if name in locks) == sorted(
        name for name in released if name in locks
    )
    assert scene.half_done() == []
    measured(f"{len(set(released) & set(locks))} of 8 were released, Mailman broke the others")
