"""Another process that contends for the same locks: really another one, with its own pid.

It is forked, becomes Mailman's user, and then does one thing after another as it is told through a
pipe, by the real protocols: flufl.lock, Mailman 2.1's LockFile (the stand-in's), and ours.  A 2.1
operation can also be stopped between two of its system calls, and be told to go on later.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flufl.lock._lockfile as flufl
from mailman_ha.locks import directory, holding
from mailman_ha.locks.release import Quarantine, QuarantineError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "standin" / "program"))
from Mailman import LockFile as lockfile21
from Mailman import steps

#: How long a peer waits for a lock that it does not get (seconds).
PATIENCE = 0.004


class Peer:
    """The near end: `peer.take(...)` is carried out by the other process."""

    def __init__(self, uid: int, gid: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, uid, gid), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        far_end.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            self._pipe.send((name, arguments, named))
            if not self._pipe.poll(30):
                raise TimeoutError(f"the peer does not answer to {name}")
            done, result = self._pipe.recv()
            if not done:
                raise RuntimeError(f"the peer failed in {name}:\n{result}")
            return result

        return ask

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Any, uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o002)
    make_impatient()
    actor = Actor()
    while True:
        try:
            name, arguments, named = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(actor, name)(*arguments, **named)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


def make_impatient() -> None:
    """Let waiters of either Mailman poll every millisecond instead of every second."""
    nap = SimpleNamespace(time=time.time, mktime=time.mktime, sleep=lambda _: time.sleep(0.001))
    lockfile21.time = nap
    lockfile21.random = SimpleNamespace(random=lambda: 0.0)
    flufl.Lock._sleep = lambda self: time.sleep(0.001)
    holding.POLL = 0.001


class Actor:
    """What a peer can do; it holds at most one lock at a time."""

    def __init__(self) -> None:
        self._held: Any = None
        self._kind = ""
        self._stepping: _Stepping | None = None

    def take(self, kind: str, path: str, lifetime: float = 600.0) -> bool:
        """Take the lock at `path` as "2.1", "3" or "ours" does, breaking an expired one."""
        self.forget()
        try:
            self._take(kind, path, lifetime)
        except (lockfile21.TimeOutError, flufl.TimeOutError, holding.NotHeldError):
            self._held = None
            return False
        return True

    def _take(self, kind: str, path: str, lifetime: float) -> None:
        self._kind = kind
        if kind == "2.1":
            self._held = lockfile21.LockFile(path, lifetime)
            self._held.disown()
            self._held.lock(PATIENCE)
        elif kind == "3":
            self._held = flufl.Lock(path, lifetime=timedelta(seconds=lifetime))
            self._held.lock(timeout=timedelta(seconds=PATIENCE))
        else:
            there = directory.open_lock_directory(os.path.dirname(path))
            self._held = holding.take(
                there, os.path.dirname(path), os.path.basename(path), "peer", lifetime, PATIENCE
            )

    def claim(self) -> str | None:
        """The path of the claim file by which this peer believes to hold; None: it holds none."""
        if self._held is None:
            return None
        if self._kind == "2.1":
            return str(self._held.claim)
        return str(self._held.claimfile) if self._kind == "3" else str(self._held.claim_name)

    def believes(self) -> bool:
        """Whether it got the lock and has not given it back, whatever became of it since."""
        return self._held is not None

    def holds(self) -> bool:
        """Whether it still holds, by its own protocol's word."""
        if self._held is None:
            return False
        if self._kind == "2.1":
            return bool(self._held.locked())
        return bool(self._held.is_locked if self._kind == "3" else self._held.is_ours())

    def unlock(self) -> None:
        """Give the lock back as its protocol does, whoever has it by now."""
        if self._held is not None:
            if self._kind == "2.1" or self._kind == "3":
                self._held.unlock(unconditionally=True)
            else:
                self._held.give_up()
        self._held = None

    def forget(self) -> None:
        """Hold nothing any more, without touching a file."""
        self._held = None
        if self._stepping is not None:
            self._stepping.finish()
            self._stepping = None

    def remove(self, *paths: str) -> None:
        """rm -f."""
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def remove_and_take(self, kind: str, lock: str, *paths: str) -> bool:
        """An operator removes the files, and somebody takes the lock at once."""
        self.remove(lock, *paths)
        return self.take(kind, lock)

    def unlock_and_take(self, kind: str, path: str) -> bool:
        """The owner ends, and takes the lock anew."""
        self.unlock()
        return self.take(kind, path)

    def touch(self, path: str, ahead: float) -> None:
        """Set a file's expiry."""
        moment = time.time() + ahead
        try:
            os.utime(path, (moment, moment))
        except FileNotFoundError:
            pass

    def release(self, lock_dir: str, judged: Any, claims: tuple[str, ...], old_guard: bool) -> str:
        """Another node's release of the same lock; `old_guard`: ours has expired, it breaks it."""
        guard = os.path.join(lock_dir, directory.QUARANTINE, "release.lock")
        if old_guard:
            self.touch(guard, -60.0)
        try:
            with Quarantine(lock_dir, "n2", wait=PATIENCE) as quarantine:
                quarantine.finish_interrupted()
                result = quarantine.release(judged, claims, {"state": "peer"}, lambda seen: True)
        except QuarantineError as error:
            return str(error)
        return "released" if result.done else result.why

    # -- 2.1's protocol, one system call after another

    def start_taking(self, path: str, until: tuple[str, str]) -> bool:
        """Begin to take the lock at `path` and stop right after the step `until`; whether it came
        that far."""
        self.forget()
        self._stepping = _Stepping(lambda: self._take("2.1", path, 600.0), until)
        return self._stepping.start()

    def go_on(self) -> bool:
        """Let it finish; whether it has the lock then."""
        assert self._stepping is not None
        stepping, self._stepping = self._stepping, None
        if not stepping.finish():
            self._held = None
        return self._held is not None


class _Stepping:
    """An operation of 2.1's in a thread, stopped at one of the places that `steps` names."""

    def __init__(self, work: Callable[[], None], until: tuple[str, str]) -> None:
        self._work = work
        self._until = until
        self._there = threading.Event()
        self._go = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
            self._done = True
        except lockfile21.TimeOutError:
            pass
        finally:
            self._there.set()

    def _at(self, operation: str, which: str, name: str) -> None:
        if (operation, which) == self._until and not self._there.is_set():
            self._there.set()
            self._go.wait(20)

    def start(self) -> bool:
        steps.observer = self._at
        self._thread.start()
        self._there.wait(20)
        return self._thread.is_alive()

    def finish(self) -> bool:
        self._go.set()
        self._thread.join(20)
        steps.observer = None
        return self._done
