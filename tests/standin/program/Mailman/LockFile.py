"""Locks by hard links, as Mailman 2.1 keeps them on disk (contract 1.1 to 1.3).

A claim file LOCK.HOST.PID.COUNTER holds its own path; link(2) makes it the lock file.  The lock is
held while the lock file has two links.  CLOCK_SLOP seconds after its mtime others may break it.
The order of the system calls is the contract; `steps` names the places between them.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import time

from . import steps

DEFAULT_LIFETIME = 15
CLOCK_SLOP = 10
POSSESSION_POLL = 0.25


class LockError(Exception):
    """Base of what goes wrong with a lock."""


class AlreadyLockedError(LockError):
    """This very claim already holds the lock."""


class NotLockedError(LockError):
    """The lock was to be given back or kept, but is not ours (any more)."""


class TimeOutError(LockError):
    """The lock was not had in time."""


class LockFile:
    """One claimant of the lock file `path`.  `lifetime` in seconds; `log` a function of a text."""

    created = 0

    def __init__(self, path, lifetime=DEFAULT_LIFETIME, log=None):
        self.path = path
        self.lifetime = lifetime
        self.name = os.path.basename(path)
        self.claim = f"{path}.{socket.gethostname()}.{os.getpid()}.{LockFile.created}"
        LockFile.created += 1
        self._log = log
        # An object that goes away gives its lock back, unless it was handed over or given up.
        self._gives_back = True

    def __del__(self):
        if getattr(self, "_gives_back", False):
            self.unlock(unconditionally=True)

    def lock(self, timeout=0):
        """Wait for the lock: for ever, or `timeout` seconds and the rest of a poll (up to 2 s)."""
        give_up_at = time.time() + timeout
        self._write_claim("lock", "create")
        self._touch(self.claim)
        self._step("lock", "touch")
        while not self._link():
            if timeout and give_up_at < time.time():
                os.unlink(self.claim)
                raise TimeOutError(self.path)
            if time.time() > self._breakable_from():
                self._break()
                self._say("lifetime has expired, breaking")
            time.sleep(0.01 + 2 * random.random())
        self._step("lock", "link")
        self._touch(self.claim)
        self._step("lock", "touch-held")

    def locked(self):
        """Whether this claim holds the lock.  Asking prolongs the lock, as it always did."""
        try:
            self._touch(self.claim)
        except PermissionError:
            return False
        return self._links() == 2 and self._winner() == self.claim

    def refresh(self, lifetime=None, unconditionally=False):
        """Prolong the lock by its lifetime; NotLockedError where it is not ours."""
        if lifetime is not None:
            self.lifetime = lifetime
        if not self.locked() and not unconditionally:
            raise NotLockedError(f"{self.path} is held by {self._winner()!r}, not by {self.claim}")

    def unlock(self, unconditionally=False):
        """Give the lock back.  NotLockedError where it is not ours, unless `unconditionally`."""
        ours = self.locked()
        if not ours and not unconditionally:
            raise NotLockedError(self.path)
        if ours:
            self._step("unlock", "touch")
            _unlink_if_there(self.path)
            self._step("unlock", "unlink-lock")
        _unlink_if_there(self.claim)
        if ours:
            self._step("unlock", "unlink-claim")

    def transfer_to(self, pid):
        """Hand the lock to the child `pid`.  Between these steps the lock has three names."""
        self._touch(self.claim)
        self._step("transfer", "touch")
        old_claim = self._winner()
        self.claim = self._claim_of_child(pid)
        os.link(self.path, self.claim)
        self._step("transfer", "link")
        self._write_claim("transfer", "truncate")
        self._gives_back = False
        os.unlink(old_claim)
        self._step("transfer", "unlink-old")
        if self._links() != 2 or not self.locked():
            raise AssertionError(f"{self.path} was not handed over to pid {pid}")
        self._step("transfer", "touch-new")

    def take_possession(self):
        """In the child: wait, without limit, until the parent has handed the lock over."""
        self.claim = self._claim_of_child(os.getpid())
        while self._links() != 2 or self._winner() != self.claim:
            time.sleep(POSSESSION_POLL)

    def disown(self):
        """Let the object go away without touching the lock."""
        self._gives_back = False

    def _claim_of_child(self, pid):
        return f"{self.path}.{socket.gethostname()}.{pid}"

    def _step(self, operation, which):
        steps.step(operation, which, self.name)

    def _say(self, text):
        if self._log is not None:
            self._log(f"{self.name} {text}")

    def _link(self):
        try:
            os.link(self.claim, self.path)
            return True
        except FileNotFoundError:
            return False
        except FileExistsError:
            if self._links() != 2:
                self._say(f"unexpected linkcount: {self._links()}")
            elif self._winner() == self.claim:
                raise AlreadyLockedError(self.path) from None
            return False
        except OSError as problem:
            self._say(f"unexpected link error: {problem}")
            os.unlink(self.claim)
            raise

    def _write_claim(self, operation, opened):
        old_mask = os.umask(0o002)
        try:
            descriptor = os.open(self.claim, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                self._step(operation, opened)
                os.write(descriptor, os.fsencode(self.claim))
            finally:
                os.close(descriptor)
        finally:
            os.umask(old_mask)
        self._step(operation, "write")

    def _touch(self, path):
        expiry = time.time() + self.lifetime
        try:
            os.utime(path, (expiry, expiry))
        except FileNotFoundError:
            pass

    def _winner(self):
        try:
            with open(self.path, "rb") as file:
                return os.fsdecode(file.read())
        except FileNotFoundError:
            return None

    def _links(self):
        try:
            return os.stat(self.path).st_nlink
        except FileNotFoundError:
            return -1

    def _breakable_from(self):
        """Unix time from which the lock may be broken.  -1 + slop where it just vanished: the
        waiter then "breaks" what is there a moment later.  That bug is part of the contract."""
        try:
            return int(os.stat(self.path).st_mtime) + CLOCK_SLOP
        except FileNotFoundError:
            return -1 + CLOCK_SLOP

    def _break(self):
        try:
            self._touch(self.path)
        except PermissionError:
            pass
        self._step("break", "touch")
        winner = self._winner()
        _unlink_if_there(self.path)
        self._step("break", "unlink-lock")
        if winner:
            _unlink_if_there(winner)
        self._step("break", "unlink-claim")


def _unlink_if_there(path):
    try:
        os.unlink(path)
    except OSError as problem:
        if problem.errno != errno.ENOENT:
            raise
