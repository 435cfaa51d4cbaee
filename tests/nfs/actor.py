"""A process in a guest that takes locks, looks at them and sweeps, as it is told line by line.

The claimants are those of tests/locks/peer.py: Mailman 2.1's LockFile (the stand-in's), flufl.lock
and ours. What is swept with is the library's sweep, and the agent itself.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import flufl.lock._lockfile as flufl
from mailman_ha.agents import lock_evidence, lock_sweep
from mailman_ha.agents.list_lock_janitor import actions as _actions  # noqa: F401  imported once
from mailman_ha.agents.lock_evidence import Surroundings
from mailman_ha.evidence import last_seen
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.locks import directory, holding, release
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.ocf import runtime
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log

from tests import standin
from tests.locks import peer

#: Debian's user for mailing lists.
USER = User("list", 38, 38)
PREFIX = "/srv/mailman"
MASTER_LOCK = {FORMAT_21: "master-qrunner", FORMAT_3: "master.lck"}

#: Between two tries of a claimant that contends (seconds); Mailman waits 0.01 to 2.
NAP = 0.01


def serve(line: TextIO, as_root: bool = False) -> None:
    """Do one thing after another; as Mailman's user unless `as_root`."""
    if not as_root:
        os.setgroups([USER.gid])
        os.setgid(USER.gid)
        os.setuid(USER.uid)
    os.umask(0o002)
    # Mailman asks a resolver for its name, of which there is none here.
    flufl.socket = socket
    socket.getfqdn = lambda name="": socket.gethostname()
    actor = Actor(line)
    for text in line:
        name, arguments = json.loads(text)
        try:
            tell(line, ["done", getattr(actor, name)(*arguments)])
        except Exception:
            tell(line, ["failed", traceback.format_exc()])


def tell(line: TextIO, what: Any) -> None:
    line.write(json.dumps(what) + "\n")
    line.flush()


class Actor(peer.Actor):
    """Holds at most one lock at a time."""

    def __init__(self, line: TextIO) -> None:
        super().__init__()
        self._line = line

    # -- taking

    def take_within(self, kind: str, path: str, lifetime: float, patience: float) -> bool:
        """As `take`, waiting `patience` seconds; kinds are "2.1", "3", "ours 2.1" and "ours 3"."""
        peer.PATIENCE = patience
        return self.take(kind, path, lifetime)

    def _take(self, kind: str, path: str, lifetime: float) -> None:
        if kind in (FORMAT_21, FORMAT_3):
            super()._take(kind, path, lifetime)
            if kind == FORMAT_3:
                self._held._owned = False  # its destructor would unlock
            return
        self._kind = kind
        where, name = os.path.split(path)
        self._held = holding.take(
            directory.open_lock_directory(where), where, name, socket.gethostname(), lifetime,
            peer.PATIENCE, kind.partition(" ")[2],
        )

    def take_each(
        self, kind: str, paths: list[str], lifetime: float, patience: float
    ) -> int:
        """Take one lock after the other and keep them all; how many it got."""
        peer.make_impatient()
        return sum(self.take_within(kind, path, lifetime, patience) for path in paths)

    def claim_path(self) -> str:
        """The path of the claim file by which it holds."""
        if self._kind.startswith("ours"):
            return os.path.join(self._where(), self._held.claim_name)
        return str(self.claim())

    def _where(self) -> str:
        return os.readlink(f"/proc/self/fd/{self._held.directory}")

    def contend(self, kind: str, path: str, rounds: int, seconds: float) -> list[int]:
        """Take and give back the lock `rounds` times, for `seconds` at the most; says so on the
        line, and goes on when it was heard: "in" while it holds, "out" before it gives back.
        How often it had the lock, and how often 2.1 met a lock file that had just been removed."""
        peer.make_impatient()
        holding.POLL = NAP
        ends = time.monotonic() + seconds
        done = stale = 0
        while done < rounds and time.monotonic() < ends:
            try:
                # With no patience 2.1 tries once: a waiter "breaks" whatever has just vanished
                # (contract 1.3), which is Mailman's own flaw and not what this is about.
                got = self.take_within(kind, path, 600.0, 1e-9 if kind == FORMAT_21 else 0.2)
            except OSError as error:
                # Mailman 2.1 knows ENOENT only; its caller lets the lock object go.
                if kind != FORMAT_21 or error.errno != errno.ESTALE:
                    raise
                got = False
                stale += 1
                self.forget()
            if not got:
                time.sleep(NAP)
                continue
            for word in ("in", "out"):
                tell(self._line, [word, kind])
                self._line.readline()
            self.unlock()
            done += 1
        return [done, stale]

    # -- looking

    def still_ours(self) -> dict[str, bool]:
        """What our code on this host says of the lock that it took: the holding itself, and the
        light monitors' look at the claim file."""
        return {
            "holding": self._held.is_ours(),
            "monitor": last_seen.still_holds(self.claim_path(), self._held.inode),
        }

    def watch(self, path: str, seconds: float) -> float:
        """Read the lock file of a lock that we took, as Mailman does, until it no longer names us;
        how long it did (seconds), `seconds` at the most."""
        own = self.claim_path()
        began = time.monotonic()
        at = 0.0
        while at < seconds and self.read_text(path) == own:
            time.sleep(0.25)
            at = time.monotonic() - began
        return at

    def told(self, path: str) -> dict[str, bool]:
        """Read the lock file as Mailman does, and then at once ask our code whose the lock is."""
        return {"names us": self.read_text(path) == self.claim_path(), **self.still_ours()}

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def read_text(self, path: str) -> str | None:
        """The file's text; None where there is none."""
        try:
            return Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def inode(self, path: str) -> list[int]:
        """Inode and links, by an open file."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
        return [status.st_ino, status.st_nlink]

    def make_directory(self, path: str) -> None:
        os.mkdir(path)
        os.chmod(path, 0o2775)

    def clock(self) -> float:
        """What this guest's clock shows."""
        return time.time()

    def skew(self, path: str) -> list[float]:
        """Offset and uncertainty of the file server's clock, as a sweep measures them."""
        measured = lock_evidence.measure_skew(path)
        return [measured.offset, measured.uncertainty]

    # -- sweeping

    def sweep(
        self, format: str, lock_dir: str, nodes: dict[str, dict[str, Any]], seconds: float = 60.0,
        stands_before: str = "",
    ) -> dict[str, Any]:
        """One sweep by the library, with a cluster of `nodes` (the fields of evidence.cluster.Node
        that are not as usual). Before the first call of `os` by the name `stands_before` that the
        release makes, it says so on the line and waits for a word."""
        here = socket.gethostname()
        state = f"/run/state-{os.getpid()}"  # a janitor's memory, as long as it sweeps
        cluster = Cluster(
            {name: Node(**{"name": name, "online": True, "unclean": False, **known})
             for name, known in nodes.items()},
            True, True, False,
        )
        surroundings = Surroundings(ThisHost(here, here, here), {}, cluster, "", False)
        call = Call(
            action="monitor", instance="janitor", parameters={}, deadline=Deadline(seconds),
            log=Log({"HA_LOGFACILITY": "none", "HA_LOGFILE": "/tmp/sweep.log"}), node=here,
            state_path=state,
        )
        if stands_before:
            _StandsBefore(stands_before, self._line).put_into(release)
        try:
            report = lock_sweep.sweep(call, _installation(format, lock_dir), lambda: surroundings)
        finally:
            release.os = os  # type: ignore[attr-defined]
        return {
            "released": [[name, verdict.state] for name, verdict in report.released],
            "kept": {one.name: [one.verdict.state, one.sentence()] for one in report.kept},
            "problems": list(report.problems),
        }

    def install_mailman(self) -> None:
        """The stand-in, for the agent."""
        standin.install(Path(PREFIX), user=USER.name, group=USER.name)

    def agent(
        self, action: str, lock_dir: str, crm_mon: str, timeout: float, stands_before: str = ""
    ) -> dict[str, Any]:
        """One action of list-lock-janitor as Pacemaker runs it, `timeout` in seconds, in a cluster
        of which crm_mon says `crm_mon`. `stands_before` as in `sweep`."""
        programs = f"/run/programs-{time.monotonic_ns()}"
        os.mkdir(programs)
        Path(programs, "crm_mon").write_text(f"#!/bin/sh\nexec cat {programs}/xml\n")
        Path(programs, "crm_mon").chmod(0o755)
        Path(programs, "xml").write_text(crm_mon)
        environ = {
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "OCF_ROOT": "/usr/lib/ocf", "OCF_RA_VERSION_MAJOR": "1", "OCF_RA_VERSION_MINOR": "1",
            "OCF_RESOURCE_INSTANCE": f"janitor-{os.path.basename(lock_dir)}",
            "HA_RSCTMP": "/run/resource-agents",
            "HA_LOGFACILITY": "none", "HA_LOGFILE": "/tmp/agent.log",
            "OCF_RESKEY_CRM_meta_timeout": str(int(timeout * 1000)),
            "OCF_RESKEY_CRM_meta_interval": "15000" if action == "monitor" else "0",
            "OCF_RESKEY_CRM_meta_on_node": socket.gethostname(),
            "OCF_RESKEY_mailman_version": FORMAT_21, "OCF_RESKEY_prefix": PREFIX,
            "OCF_RESKEY_lock_dir": lock_dir,
        }
        began = time.monotonic()
        said = os.memfd_create("stderr")
        child = os.fork()
        if child == 0:
            try:
                os.dup2(said, 2)
                sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
                os.environ.clear()
                os.environ.update(environ)
                if stands_before:
                    _StandsBefore(stands_before, self._line).put_into(release)
                code = runtime.run(
                    "list-lock-janitor", "mailman_ha.agents.list_lock_janitor",
                    ["list-lock-janitor", action], environ,
                )
                sys.stderr.flush()
                os._exit(code)
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - began
        with open(said, encoding="utf-8") as file:
            file.seek(0)
            return {
                "code": os.waitstatus_to_exitcode(status), "stderr": file.read(),
                "seconds": seconds,
            }


class _StandsBefore:
    """Stands in the place of `os` in a module."""

    def __init__(self, call: str, line: TextIO) -> None:
        self._call = call
        self._line = line
        self._stood = False

    def put_into(self, module: ModuleType) -> None:
        module.os = self  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        original: Callable[..., Any] = getattr(os, name)
        if name != self._call or self._stood:
            return original

        def call(*arguments: Any, **named: Any) -> Any:
            self._stood = True
            tell(self._line, ["stands", name])
            self._line.readline()
            return original(*arguments, **named)

        return call


def _installation(format: str, lock_dir: str) -> Installation:
    version = "2.1" if format == FORMAT_21 else "3"
    answer = Answer(
        lock_dir=lock_dir, queue_dir=f"{PREFIX}/qfiles", lists_dir=f"{PREFIX}/lists",
        var_dir=PREFIX, pid_file=f"{PREFIX}/master.pid", bin_dir=f"{PREFIX}/bin",
        log_dir=f"{PREFIX}/logs", master_lock=f"{lock_dir}/{MASTER_LOCK[format]}",
        release=version, config=f"{PREFIX}/cfg", runners=(), queues=(),
    )
    place = Location(version, (f"{PREFIX}/bin",), prefix=PREFIX, config=f"{PREFIX}/cfg")
    return Installation(place, answer, USER, lock_dir)
