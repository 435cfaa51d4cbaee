"""A private lock directory of real files, owned by Mailman's user, and a sweep of it.

The files are made as Mailman makes them (claim file holding its own path, linked to the lock, mtime
the expiry); the cluster is a record, since what crm_mon says is not what these tests are about.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailman_ha.agents import lock_sweep
from mailman_ha.agents.lock_evidence import Surroundings
from mailman_ha.agents.lock_sweep import SweepReport
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory, grammar
from mailman_ha.locks.directory import Inspection, LockDirectory
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21
from mailman_ha.locks.release import Quarantine
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log

from tests.installations import test_user

HERE = socket.gethostname()
LIFETIME = 18_000.0
NAMES_OF_MASTER_LOCK = {FORMAT_21: "master-qrunner", FORMAT_3: "master.lck"}


@dataclass(frozen=True)
class Pair:
    """A lock with its claim files, as paths."""

    lock: Path
    claims: tuple[Path, ...]

    @property
    def claim(self) -> Path:
        return self.claims[0]

    def is_untouched(self) -> bool:
        """Whether the lock is held as it was: by name, inode and number of links."""
        status = os.stat(self.lock)
        return status.st_nlink == len(self.claims) + 1 and all(
            os.stat(claim).st_ino == status.st_ino for claim in self.claims
        )


class Share:
    """One lock directory.  `n1` is this node; `nodes` are the cluster's, for a sweep."""

    def __init__(self, top: Path, format: str = FORMAT_21) -> None:
        self.format = format
        self.top = top
        self.path = top / "locks"
        self.state = top / "state"
        user, _ = test_user()
        entry = pwd.getpwnam(user)
        self.user = User(user, entry.pw_uid, entry.pw_gid)
        self.path.mkdir()
        self.path.chmod(0o2775)
        os.chown(self.path, self.user.uid, self.user.gid)
        self.state.mkdir(mode=0o755)
        self.quarantine = self.path / directory.QUARANTINE
        self.master_lock = NAMES_OF_MASTER_LOCK[format]
        self.nodes: dict[str, Node] = {"n1": Node("n1", True, False), "n2": Node("n2", True, False)}
        self.maintenance = False

    # -- making files

    def claim_name(self, lock: str, host: str, pid: int, serial: int | None = 1) -> str:
        """As Mailman names it; `serial` None: 2.1's claim after the hand-over."""
        if serial is None:
            return f"{lock}.{host}.{pid}"
        return grammar.claim_name(self.format, lock, host, pid, serial)

    def write(self, name: str, content: bytes | None = None, expires_in: float = LIFETIME) -> Path:
        """A file of Mailman's with its own path as content, or `content`."""
        path = self.path / name
        path.write_bytes(os.fsencode(path) if content is None else content)
        os.chown(path, self.user.uid, self.user.gid)
        path.chmod(0o664)
        self.expire(path, expires_in)
        return path

    def link(self, old: str, new: str) -> Path:
        """Another name for the file `old`; the link changes its ctime, as taking a lock does."""
        os.link(self.path / old, self.path / new)
        return self.path / new

    def expire(self, path: Path, in_seconds: float) -> None:
        moment = time.time() + in_seconds
        os.utime(path, (moment, moment))

    def lock(
        self, name: str, host: str = HERE, pid: int | None = None, serial: int | None = 1,
        content: bytes | None = None, expires_in: float = LIFETIME,
    ) -> Pair:
        """A held lock; without `pid` its owner is a process that is gone."""
        pid = dead_pid() if pid is None else pid
        claim = self.write(self.claim_name(name, host, pid, serial), content, expires_in)
        self.link(claim.name, name)
        self.expire(claim, expires_in)
        return Pair(self.path / name, (claim,))

    # -- looking

    def names(self) -> set[str]:
        """What is in the directory, without the quarantine."""
        return {name for name in os.listdir(self.path) if name != directory.QUARANTINE}

    def quarantined(self) -> set[str]:
        """What was put aside, by the names it had."""
        if not self.quarantine.is_dir():
            return set()
        return {
            name.split(".", 2)[2] for name in os.listdir(self.quarantine)
            if name[:1].isdigit() and name.count(".") >= 2
        }

    def leftovers(self) -> set[str]:
        """What a release should not leave in quarantine: its guard, its notes."""
        if not self.quarantine.is_dir():
            return set()
        return {
            name for name in os.listdir(self.quarantine)
            if name.startswith(("release.lock", "unfinished."))
        }

    def evidence(self) -> list[dict[str, Any]]:
        """The lines of the evidence log."""
        try:
            text = (self.quarantine / "evidence.jsonl").read_text()
        except FileNotFoundError:
            return []
        assert text.endswith("\n"), f"the last line is cut off: {text!r}"
        return [json.loads(line) for line in text.splitlines()]

    def read(self) -> LockDirectory:
        return directory.read(str(self.path), self.format, self.master_lock)

    def inspect(self, name: str) -> Inspection:
        descriptor = directory.open_lock_directory(str(self.path))
        try:
            return directory.inspect(descriptor, name)
        finally:
            os.close(descriptor)

    # -- acting

    def release(self, pair: Pair, judged: Inspection | None = None, **options: Any) -> Any:
        """Release a lock that was judged before, as the sweep does, as Mailman's user."""
        judged = judged or self.inspect(pair.lock.name)
        still_dead = options.pop("still_dead", lambda seen: True)
        acting = ActingAs(self.user.uid, self.user.gid)
        with acting, Quarantine(str(self.path), "n1", **options) as quarantine:
            return quarantine.release(
                judged, tuple(claim.name for claim in pair.claims), {"state": "dead here"},
                still_dead,
            )

    @property
    def installation(self) -> Installation:
        top = str(self.top)
        version = "2.1" if self.format == FORMAT_21 else "3"
        answer = Answer(
            lock_dir=str(self.path), queue_dir=f"{top}/qfiles", lists_dir=f"{top}/lists",
            var_dir=top, pid_file=f"{top}/master.pid", bin_dir=f"{top}/bin", log_dir=f"{top}/logs",
            master_lock=str(self.path / self.master_lock), release=version, config=f"{top}/cfg",
            runners=(), queues=(),
        )
        place = Location(version, (f"{top}/bin",), prefix=top, config=f"{top}/cfg")
        return Installation(place, answer, self.user, str(self.path))

    def surroundings(self) -> Surroundings:
        this_host = ThisHost(HERE, HERE, "n1")
        cluster = Cluster(self.nodes, True, True, self.maintenance)
        return Surroundings(this_host, {HERE: "n1"}, cluster, "", False)

    def call(self, seconds: float = 60.0) -> Call:
        return Call(
            action="monitor", instance="janitor", parameters={}, deadline=Deadline(seconds),
            log=Log({"HA_LOGFACILITY": "none", "HA_LOGFILE": str(self.top / "log")}), node="n1",
            state_path=str(self.state),
        )

    def sweep(self, seconds: float = 60.0) -> SweepReport:
        """One sweep of the whole directory."""
        return lock_sweep.sweep(self.call(seconds), self.installation, self.surroundings)


def dead_pid() -> int:
    """The pid of a process that has just ended."""
    process = subprocess.Popen(["/bin/true"], stdin=subprocess.DEVNULL)
    process.wait()
    return process.pid
