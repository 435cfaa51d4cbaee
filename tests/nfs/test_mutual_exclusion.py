"""Two hosts, three kinds of claimants, one lock: never two in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .hosts import PATIENCE, Process, Scene

ROUNDS = 12
SECONDS = 12.0


class Witness:
    """Who is in the lock, as the claimants say it to this process, where no NFS lies between."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.inside: set[Process] = set()
        self.violations: list[str] = []
        self.most_at_once = 0

    def hear(self, process: Process, done: dict[Process, list[int]]) -> None:
        """Until `process` is through."""
        while True:
            word, what = process.line.hear(PATIENCE)
            if word == "done":
                done[process] = what
                return
            with self._mutex:
                if word == "in":
                    if self.inside:
                        self.violations.append(f"{what} on {process.guest.name} beside another")
                    self.inside.add(process)
                elif word == "out":
                    self.inside.remove(process)
                else:
                    self.violations.append(what)
                    return
            process.line.tell("heard")


def test_lock_is_never_held_twice(scene: Scene, measured: Callable[[str], None]) -> None:
    # Each lock is contended for by Mailman's claimants and by ours, in Mailman's format.
    witnesses = {"alpha.lock": Witness(), "dbcreate.lck": Witness()}
    kinds = {"alpha.lock": ("2.1", "ours 2.1"), "dbcreate.lck": ("3", "ours 3")}
    done: dict[Process, list[int]] = {}
    kind_of: dict[Process, str] = {}
    threads = []
    for lock, witness in witnesses.items():
        for kind in kinds[lock]:
            for host in ("n1", "n2"):
                process = scene.process(host)
                kind_of[process] = kind
                threads.append(threading.Thread(target=witness.hear, args=(process, done)))
                process.begin("contend", kind, scene.lock(lock), ROUNDS, SECONDS)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(witness.violations for witness in witnesses.values()), [
        witness.violations for witness in witnesses.values()
    ]
    assert len(done) == len(kind_of)
    assert all(times > 0 for times, _ in done.values()), done
    stale = sum(times for _, times in done.values())
    # What 2.1 leaves of a try that the removed lock file broke off is a claim, never the lock.
    left = [name for name in scene.on_disk() if not name.startswith("alpha.lock.")]
    assert left == [] and len(scene.on_disk()) <= stale
    taken = sum(times for times, _ in done.values())
    measured(f"{taken} times taken; 2.1 met ESTALE {stale} times")
