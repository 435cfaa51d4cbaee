"""The processes of a replayed trace: claimants by Mailman's real protocols, janitors by the real
library. Each stands still before the system calls that part one step of the model from the next,
until it is told to go on.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flufl.lock._lockfile as flufl
from mailman_ha.agents import lock_evidence, lock_sweep
from mailman_ha.agents.lock_evidence import Surroundings
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.locks import directory, holding, release
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log

from tests.histories.line import Ended, Line
from tests.locks.interposed_os import SYSTEM_CALLS
from tests.model import broken_library

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "standin" / "program"))
from Mailman import LockFile as lockfile21

#: Both nodes are of one kernel, so the clocks differ by what its coarse file times add (seconds): a
#: tick, and on kernels since 6.15 as much again and more.
UNCERTAINTY = 0.02

LIFETIME = 18_000.0


@dataclass(frozen=True)
class View:
    """What a process is told each time that it goes on: how far its clock has been set ahead
    (seconds), and for a janitor: the nodes as its cluster reports them, how long it may wait for
    the guard (seconds), and the file that its NFS client goes on showing as the lock."""

    shift: float = 0.0
    nodes: tuple[Node, ...] = ()
    wait: float = 20.0
    stale: str = ""


class _Gate:
    """The `os` module as an actor sees it; `place` says where a system call is to be waited at,
    '' for nowhere."""

    def __init__(self, line: Line, place: Callable[[str, tuple[Any, ...]], str]) -> None:
        self._line = line
        self._place = place
        self.view = View()

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return original

        def call(*arguments: Any, **named: Any) -> Any:
            place = self._place(name, arguments)
            if place:
                self._line.tell(("stands", place))
                self.hear()
            return original(*self.seen(name, arguments), **named)

        return call

    def seen(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the call is really made with."""
        return arguments

    def hear(self) -> Any:
        (order, self.view), _ = self._line.hear()
        return order

    def time(self) -> float:
        return time.time() + self.view.shift


def _serve(line: Line, gate: _Gate, actor: Any) -> None:
    """Do what is told until the line is closed."""
    while True:
        try:
            name, *arguments = gate.hear()
            try:
                answer = ("done", getattr(actor, name)(*arguments))
            except Ended:
                raise
            except Exception:
                answer = ("failed", traceback.format_exc()[-3000:])
            line.tell(answer)
        except Ended:
            return


# -- claimants


def claimant(line: Line, format: str, host: str, lock: str, user: tuple[int, int]) -> None:
    """Be a claimant of `lock` (a path) on `host`."""
    os.setgroups([user[1]])
    os.setgid(user[1])
    os.setuid(user[0])
    os.umask(0o002)
    one = _Claimant(line, format, host, lock)
    _serve(line, one.gate, one)


class _Claimant:
    def __init__(self, line: Line, format: str, host: str, lock: str) -> None:
        self.gate = _Gate(line, self._place)
        self._format = format
        self._lock = lock
        self._held: Any = None
        names = SimpleNamespace(gethostname=lambda: host, getfqdn=lambda: host)
        lockfile21.os = flufl.os = self.gate
        lockfile21.socket = flufl.socket = names
        lockfile21.time = SimpleNamespace(time=self.gate.time, sleep=lambda _: None)
        flufl.Lock._now = lambda _: datetime.fromtimestamp(self.gate.time())
        flufl.Lock._sleep = lambda _: None

    def _claim(self) -> str:
        return str(self._held.claim if self._format == FORMAT_21 else self._held.claimfile)

    def _place(self, name: str, arguments: tuple[Any, ...]) -> str:
        if name == "link":
            return "link"
        if name == "utime" and arguments[0] == self._lock:
            return "break"
        if name == "unlink" and self._held is not None and arguments[0] == self._claim():
            return "unclaim"
        return ""

    def prepare(self, lifetime: float) -> str:
        """Get ready to claim; returns the claim file's path."""
        if self._format == FORMAT_21:
            self._held = lockfile21.LockFile(self._lock, lifetime)
            self._held.disown()
        else:
            self._held = flufl.Lock(self._lock, lifetime=timedelta(seconds=lifetime))
        return self._claim()

    def take(self) -> None:
        self._held.lock()
        self._held.lifetime = LIFETIME if self._format == FORMAT_21 else timedelta(seconds=LIFETIME)

    def unlock(self) -> None:
        self._held.unlock(unconditionally=True)


# -- janitors


@dataclass(frozen=True)
class Site:
    """Where the lock is. `user` is the uid and gid of Mailman's."""

    top: str
    format: str
    lock: str
    user: tuple[int, int]

    @property
    def lock_dir(self) -> str:
        return f"{self.top}/locks"


def janitor(line: Line, site: Site, node: str, mutant: str) -> None:
    """Be the janitor of `node`, by the library, which `mutant` may break."""
    broken_library.apply(mutant)
    one = _Janitor(line, site, node)
    _serve(line, one.gate, one)


class _Janitor:
    def __init__(self, line: Line, site: Site, node: str) -> None:
        self._site = site
        self._node = node
        self._last = ""
        self.gate = _Gate(line, self._place)
        self.gate.seen = self._seen  # type: ignore[method-assign]
        for module in (directory, holding, release):
            module.os = self.gate  # type: ignore[attr-defined]
        for module in (holding, release):
            module.time = SimpleNamespace(  # type: ignore[attr-defined]
                time=self.gate.time, time_ns=lambda: int(self.gate.time() * 1e9),
                monotonic=time.monotonic, sleep=lambda _: None,
                strftime=time.strftime, gmtime=time.gmtime,
            )
        lock_evidence.measure_skew = lambda path: ClockSkew(0.0, UNCERTAINTY)
        lock_sweep._guard_wait = lambda call: self.gate.view.wait

    def sweep(self) -> tuple[str, ...]:
        """One sweep; what the janitor says that it released."""
        self._last = ""
        call = Call(
            action="monitor", instance="janitor", parameters={}, deadline=Deadline(600.0),
            log=Log({"HA_LOGFACILITY": "none", "HA_LOGFILE": f"{self._site.top}/log"}),
            node=self._node, state_path=f"{self._site.top}/state",
        )
        report = lock_sweep.sweep(call, self._installation(), self._surroundings)
        return tuple(name for name, _ in report.released)

    def _surroundings(self) -> Surroundings:
        nodes = {node.name: node for node in self.gate.view.nodes}
        here = ThisHost(self._node, self._node, self._node)
        return Surroundings(here, {}, Cluster(nodes, True, True, False), "", False)

    def _installation(self) -> Installation:
        site, top = self._site, self._site.top
        version = "2.1" if site.format == FORMAT_21 else "3"
        answer = Answer(
            lock_dir=site.lock_dir, queue_dir=f"{top}/qfiles", lists_dir=f"{top}/lists",
            var_dir=top, pid_file=f"{top}/master.pid", bin_dir=f"{top}/bin", log_dir=f"{top}/logs",
            master_lock=f"{site.lock_dir}/{site.lock}", release=version, config=f"{top}/cfg",
            runners=(), queues=(),
        )
        place = Location(version, (f"{top}/bin",), prefix=top, config=f"{top}/cfg")
        return Installation(place, answer, User("mailman", *site.user), site.lock_dir)

    def _seen(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """With a stale name, opening the lock opens the old inode, which its claim file keeps
        (facts of NFS: the listing and the claim files are right at once)."""
        if name == "open" and self.gate.view.stale and arguments[0] == self._site.lock:
            return (self.gate.view.stale, *arguments[1:])
        return arguments

    def _place(self, name: str, arguments: tuple[Any, ...]) -> str:
        if name not in ("scandir", "link", "open", "rename", "unlink"):
            return ""
        place = self._place_in_release(name, arguments)
        if place == "look" and self._last == "look":
            return ""  # the lock itself, after its claims
        if place:
            self._last = place
        return place

    def _place_in_release(self, name: str, arguments: tuple[Any, ...]) -> str:
        if name == "scandir":
            return "listing"
        if name == "link" and arguments[1] == release.GUARD:
            return "guard"
        function, caller = _functions_of_release()
        if name == "open":
            if function == "_look":
                return {"_unchanged": "recheck", "_carry_out": "look", "_move_claim": "unname",
                        "_finish_one": "known"}.get(caller, "")
            return {"_push_expiry": "push", "log": "log"}.get(function, "")
        if name == "unlink":
            return "forget" if function == "_forget_note" and caller != "_write_note" else ""
        if name == "rename":
            return "move" if (function, caller) == ("_move", "_carry_out") else ""
        return "back" if function == "_put_back" else ""


def _functions_of_release() -> tuple[str, str]:
    """The innermost function of `release` that is running, and what called it."""
    found = []
    frame = sys._getframe()
    while frame is not None and len(found) < 2:
        if frame.f_code.co_filename == release.__file__:
            found.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return (*found, "", "")[:2]  # type: ignore[return-value]
