"""A mailing list: its configuration on disk and its lock (contract 4).

config.pck is a pickled dictionary.  A save writes config.pck.tmp.HOST.PID, unlinks config.pck.last,
links (before 2.1.20: renames) config.pck to .last and renames the new file to config.pck.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket

from Mailman import LockFile, mm_cfg, steps
from Mailman.log import log


class UnknownListError(Exception):
    """There is no such list directory."""


class CorruptListError(Exception):
    """Neither config.pck nor config.pck.last could be read."""


class MailList:
    """An open list.  `settings` is the dictionary that a save writes."""

    def __init__(self, name):
        self.name = name
        self.directory = os.path.join(mm_cfg.LIST_DATA_DIR, name)
        self.config = os.path.join(self.directory, "config.pck")
        self._lock = LockFile.LockFile(
            os.path.join(mm_cfg.LOCK_DIR, name + ".lock"),
            mm_cfg.LIST_LOCK_LIFETIME,
            lambda text: log("locks", text),
        )
        self.settings: dict = {}
        self.load()

    def load(self):
        if not os.path.isdir(self.directory):
            raise UnknownListError(self.name)
        problems = []
        for path in (self.config, self.config + ".last"):
            try:
                with open(path, "rb") as file:
                    settings = pickle.load(file)
                if not isinstance(settings, dict):
                    raise ValueError("not a dictionary")
            except Exception as problem:
                log("error", f"couldn't load config file {path}\n{problem}")
                problems.append(problem)
                continue
            if path != self.config:
                self._restore_from_last()
            self.settings = settings
            return
        raise CorruptListError(f"{self.name}: {problems[-1]}")

    def _restore_from_last(self):
        log("error", f"fixing corrupt config file, using: {self.config}.last")
        held_already = False
        try:
            self._lock.lock()
        except LockFile.AlreadyLockedError:
            held_already = True
        try:
            try:
                os.rename(self.config, self.config + ".corrupt")
            except FileNotFoundError:
                pass
            for copy in (self.config, self.config + ".safety"):
                shutil.copy(self.config + ".last", copy)
        finally:
            if not held_already:
                self._lock.unlock()

    def lock(self, timeout=0):
        self._lock.lock(timeout)
        try:
            self.load()
        except BaseException:
            self._lock.unlock()
            raise

    def unlock(self):
        self._lock.unlock(unconditionally=True)

    def abandon_lock(self):
        """Leave lock and claim as they are when this object goes away."""
        self._lock.disown()

    def save(self):
        """Write the settings.  NotLockedError where the lock was taken away meanwhile."""
        self._lock.refresh()
        temporary = f"{self.config}.tmp.{socket.gethostname()}.{os.getpid()}"
        last = self.config + ".last"
        data = pickle.dumps(self.settings, 1)
        old_mask = os.umask(0o007)
        try:
            with open(temporary, "wb", buffering=0) as file:
                steps.step("save", "create", self.name)
                file.write(data[: len(data) // 2])
                steps.step("save", "half", self.name)
                file.write(data[len(data) // 2 :])
                if mm_cfg.SYNC_AFTER_WRITE:
                    os.fsync(file.fileno())
        finally:
            os.umask(old_mask)
        steps.step("save", "write", self.name)
        _ignoring_absence(os.unlink, last)
        steps.step("save", "unlink-last", self.name)
        keep = os.rename if mm_cfg.STANDIN_SAVE_RENAMES else os.link
        _ignoring_absence(keep, self.config, last)
        steps.step("save", "keep-last", self.name)
        os.rename(temporary, self.config)
        steps.step("save", "rename", self.name)


def _ignoring_absence(call, *paths):
    try:
        call(*paths)
    except FileNotFoundError:
        pass
