"""The near end of a guest's processes, and the scene of one test: a lock directory on one share."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lab.nfs.guest import Guest
from lab.nfs.laboratory import NfsLab, Share

Key = TypeVar("Key")
Result = TypeVar("Result")

#: What is worth waiting for on a machine that does much else (seconds).
PATIENCE = 120.0


class Process:
    """A process of tests/nfs/actor.py in `guest`: `process.take_within(...)` is done there."""

    def __init__(self, guest: Guest, as_root: bool = False) -> None:
        self.guest = guest
        self.line = guest.converse("tests.nfs.actor:serve", as_root)
        self.pid = self.line.pid

    def begin(self, name: str, *arguments: Any) -> None:
        """Have it do something; `end` waits for it."""
        self.line.tell([name, arguments])

    def end(self, seconds: float = PATIENCE) -> Any:
        """What came of it."""
        how, what = self.line.hear(seconds)
        if how == "failed":
            raise AssertionError(f"in {self.guest.name}:\n{what}")
        assert how == "done", (how, what)
        return what

    def stands(self, seconds: float = PATIENCE) -> None:
        """Until it says that it stands still."""
        how, what = self.line.hear(seconds)
        assert how == "stands", (how, what)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            self.begin(name, *arguments)
            return self.end()

        return ask

    def kill(self) -> None:
        """SIGKILL; returns when the guest has no such process any more."""
        script = 'kill -KILL $1; while [ -e /proc/$1 ]; do sleep 0.05; done'
        self.guest.run(["sh", "-c", script, "sh", str(self.pid)])
        self.line.close()

    def close(self) -> None:
        """Let it end by itself."""
        self.line.close()


class Scene:
    """A lock directory of its own on one share, `path` on the clients."""

    def __init__(self, lab: NfsLab, share: Share) -> None:
        self.lab = lab
        self.share = share
        name = uuid.uuid4().hex[:8]
        self.path = f"{share.path}/{name}"
        self.on_server = f"{share.exported}/{name}"
        self._processes: list[Process] = []
        self.process("n1").make_directory(self.path)

    def process(self, host: str, as_root: bool = False) -> Process:
        """A new process on a client."""
        made = Process(self.lab.clients[host], as_root)
        self._processes.append(made)
        return made

    def lock(self, name: str) -> str:
        return f"{self.path}/{name}"

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def fenced_now(self) -> float:
        """The time of a fencing that is completed now, as crm_mon on n2 would say it: by the clock
        of n2, and clearly later than what was done before."""
        time.sleep(1.0)
        when: float = self.process("n2").clock()
        return when

    # -- the truth, as the server's disk has it

    def on_disk(self) -> dict[str, int]:
        """Inode of each file in the lock directory, the quarantine's as `quarantine/NAME`."""
        text = self.lab.server.run(
            ["sh", "-c", f"cd {self.on_server} && find . -type f -printf '%i %P\\n'"]
        ).stdout
        found = {}
        for line in text.splitlines():
            inode, _, name = line.partition(" ")
            found[name.replace("mailman-ha.quarantine/", "quarantine/")] = int(inode)
        return found

    def evidence(self) -> list[dict[str, Any]]:
        """The lines of the evidence log."""
        done = self.lab.server.run(
            ["cat", f"{self.on_server}/mailman-ha.quarantine/evidence.jsonl"], check=False
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def is_held_by(self, lock: str, process: Process) -> bool:
        """Whether the lock and the claim of this process are one file."""
        files = self.on_disk()
        claims = [
            inode for name, inode in files.items()
            if name.startswith((f"{lock}.{process.guest.name}.{process.pid}.",
                                f"{lock}|{process.guest.name}|{process.pid}|"))
        ]
        return claims == [files.get(lock)]

    def quarantined(self) -> list[str]:
        """What was put aside, by the names it had."""
        return sorted(
            name.split(".", 2)[2] for name in self.on_disk()
            if name.startswith("quarantine/2")
        )

    def half_done(self) -> list[str]:
        """Notes of releases that were begun and not ended."""
        return [name for name in self.on_disk() if name.startswith("quarantine/unfinished.")]


def ahead_of_ours(process: Process) -> tuple[float, float]:
    """How far its guest's clock is ahead of this machine's, and how wrong that may be (seconds)."""
    looks = []
    for _ in range(8):
        before = time.time()
        there = process.clock()
        after = time.time()
        looks.append(((after - before) / 2, there - (before + after) / 2))
    width, ahead = min(looks)
    return ahead, width


def set_clock(guest: Guest, ahead: float) -> None:
    """Set the guest's clock, `ahead` seconds before where it is."""
    program = "import sys, time; time.clock_settime(0, time.time() + float(sys.argv[1]))"
    guest.run(["python3", "-c", program, str(ahead)])


def at_once(plays: Mapping[Key, Callable[[], Result]]) -> dict[Key, Result]:
    """Play all of these at the same time; what came of each."""
    with ThreadPoolExecutor(len(plays)) as pool:
        begun = {key: pool.submit(play) for key, play in plays.items()}
        return {key: play.result() for key, play in begun.items()}
