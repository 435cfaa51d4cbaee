"""A process of Mailman's, or of ours, that takes locks by the real protocols, as it is told.

It may be told to die, or to stand still, before any one of its system calls.
"""

from __future__ import annotations

import os
import stat
import traceback
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import flufl.lock._lockfile as flufl
from mailman_ha.locks import directory, holding

from tests.histories import lockfile21
from tests.histories.line import Ended, Line
from tests.histories.schedule import Schedule, Stop

#: What of a claimant acts on the share, by the protocol that it follows.
PROTOCOLS = {"2.1": (lockfile21.module,), "3": (flufl,), "ours": (holding, directory)}
MODULES = tuple(module for modules in PROTOCOLS.values() for module in modules)

#: How long a claimant waits for a lock that it does not get (seconds).
PATIENCE = 0.008

#: What ends a claimant's call in a directory where others remove files and operators make
#: directories. flufl.lock reads a lock as UTF-8; Python takes no NUL in a path; 2.1 asserts that a
#: hand-over went well.
_REFUSALS = (
    lockfile21.module.LockError, flufl.LockError, holding.NotHeldError, OSError, ValueError,
    AssertionError,
)


def make_impatient(nap: float = 0.0005) -> None:
    """Let waiters poll at once, ask no resolver, and see this process's clock."""
    import time

    lockfile21.module.time = SimpleNamespace(
        time=lambda: time.time(), sleep=lambda _: time.sleep(nap))
    lockfile21.module.random = SimpleNamespace(random=lambda: 0.0)
    flufl.Lock._sleep = lambda self: time.sleep(nap)
    flufl.Lock._now = lambda self: datetime.fromtimestamp(time.time())
    flufl.socket = SimpleNamespace(getfqdn=os.uname)
    flufl.socket.getfqdn = lambda: os.uname().nodename
    holding.POLL = nap


def serve(line: Line, uid: int, gid: int) -> None:
    """Be a claimant until the line is closed: a process of Mailman's, or with another `uid` a CGI
    program of the web server's user, which is in Mailman's group."""
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o002)
    claimant = _Claimant(line)
    while True:
        try:
            (name, arguments), _ = line.hear()
        except Ended:
            return
        try:
            line.tell(("done", getattr(claimant, name)(*arguments), claimant.account()))
        except Ended:
            return
        except _REFUSALS as refusal:
            claimant.lose()
            line.tell(("refused", type(refusal).__name__, claimant.account()))
        except Exception:
            line.tell(("failed", traceback.format_exc()[-4000:], claimant.account()))


class _Claimant:
    """Holds at most one lock at a time."""

    def __init__(self, line: Line) -> None:
        self._schedule = Schedule(line, lambda: {"believes": self._believes})
        self._schedule.put_into(*MODULES)
        self._kind = ""
        self._held: Any = None
        self._believes = False

    def account(self) -> dict[str, Any]:
        """What the history's driver keeps of this process."""
        return self._schedule.account()

    def lose(self) -> None:
        self._held, self._believes = None, False

    def take(self, kind: str, path: str, lifetime: float, format: str, stop: Stop) -> bool:
        """Take the lock at `path` by the protocol `kind`; an expired one is broken."""
        self.lose()
        self._kind = kind
        self._schedule.begin(stop)
        if kind == "2.1":
            self._held = lockfile21.LockFile(path, lifetime)
            self._held.disown()
            self._held.lock(PATIENCE)
        elif kind == "3":
            self._held = flufl.Lock(path, lifetime=timedelta(seconds=lifetime))
            self._held._owned = False
            self._held.lock(timeout=timedelta(seconds=PATIENCE))
            self._held._owned = False  # its destructor would unlock
        else:
            where, name = os.path.split(path)
            there = directory.open_lock_directory(where)
            self._held = holding.take(
                there, where, name, os.uname().nodename, lifetime, PATIENCE, format
            )
        self._believes = True
        return True

    def holds(self) -> bool:
        """Whether it holds, by its own protocol's word. Asking prolongs no lock here."""
        if self._held is None:
            return False
        if self._kind == "ours":
            return bool(self._held.is_ours())
        claim = self._held.claim if self._kind == "2.1" else self._held.claimfile
        path = self._held.path if self._kind == "2.1" else self._held.lockfile
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 2:
                return False
            return os.read(file, status.st_size + 1) == os.fsencode(claim)
        finally:
            os.close(file)

    def unlock(self, stop: Stop) -> bool:
        """Give the lock back as its protocol does, whoever has it by now."""
        self._schedule.begin(stop)
        held, self._held, self._believes = self._held, None, False
        if held is not None:
            if self._kind == "ours":
                held.give_up()
            else:
                held.unlock(unconditionally=True)
        return True

    def refresh(self, stop: Stop) -> bool:
        """Prolong the lock."""
        self._schedule.begin(stop)
        self._held.refresh()
        return True

    def hand_over(self, pid: int, stop: Stop) -> str:
        """2.1's master gives its lock to its child `pid`; returns the child's claim."""
        self._schedule.begin(stop)
        held, self._held, self._believes = self._held, None, False
        held.transfer_to(pid)
        return str(held.claim)

    def take_over(self, path: str, lifetime: float, inode: int) -> bool:
        """The child's part, after the hand-over."""
        self._kind = "2.1"
        self._held = lockfile21.LockFile(path, lifetime)
        self._held.disown()
        self._held.claim = f"{path}.{os.uname().nodename}.{os.getpid()}"
        self._schedule.made.add(inode)
        self._believes = True
        return True
