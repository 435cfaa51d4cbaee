"""A queue directory: entries, slices, and what a runner finds after a crash (contract 3)."""

from __future__ import annotations

import hashlib
import os
import pickle
import time

from Mailman import mm_cfg, steps
from Mailman.log import log

HASHES = 1 << 160
MAX_RECOVERIES = 3


class Switchboard:
    """The directory `path`, or slice `number` of `slices`.  `recovers`: a runner starts here."""

    def __init__(self, path, number=None, slices=1, recovers=False):
        self.path = path
        self._bounds = None
        _make_queue(path)
        if slices != 1:
            self._bounds = (HASHES * number // slices, HASHES * (number + 1) // slices - 1)
        if recovers:
            self._recover()

    def enqueue(self, message, data):
        """Put `message` (bytes) with its metadata into the queue; answers the entry's base name."""
        now = time.time()
        data = {key: value for key, value in data.items() if not key.startswith("_")}
        data.setdefault("received_time", now)
        food = message + str(data.get("listname")).encode() + repr(now).encode()
        base = repr(data["received_time"]) + "+" + hashlib.sha1(food).hexdigest()
        whole = os.path.join(self.path, base + ".pck")
        old_mask = os.umask(0o007)
        try:
            with open(whole + ".tmp", "wb") as file:
                steps.step("enqueue", "create", os.path.basename(self.path))
                pickle.dump(message, file, 1)
                pickle.dump(data, file, 1)
                file.flush()
                os.fsync(file.fileno())
        finally:
            os.umask(old_mask)
        steps.step("enqueue", "write", os.path.basename(self.path))
        os.rename(whole + ".tmp", whole)
        steps.step("enqueue", "rename", os.path.basename(self.path))
        return base

    def dequeue(self, base):
        """Take an entry: .pck becomes .bak.  Raises what opening or unpickling raises."""
        with open(self._file(base, ".pck"), "rb") as file:
            os.rename(self._file(base, ".pck"), self._file(base, ".bak"))
            steps.step("dequeue", "rename", os.path.basename(self.path))
            return pickle.load(file), pickle.load(file)

    def finish(self, base, preserve=False):
        """The entry is done: its .bak goes, or is kept as .psv among the bad ones."""
        try:
            if preserve:
                _make_queue(mm_cfg.BADQUEUE_DIR)
                kept = os.path.join(mm_cfg.BADQUEUE_DIR, base + ".psv")
                os.rename(self._file(base, ".bak"), kept)
            else:
                os.unlink(self._file(base, ".bak"))
        except OSError as problem:
            log(
                "error",
                "Failed to unlink/preserve backup file: {}\n{}".format(
                    self._file(base, ".bak"), problem
                ),
            )
        steps.step("finish", "unlink", os.path.basename(self.path))

    def entries(self, extension=".pck"):
        """Base names of this slice's entries, oldest first.  ValueError for any other name."""
        found = []
        for name in os.listdir(self.path):
            base, found_extension = os.path.splitext(name)
            if found_extension != extension:
                continue
            when, digest = base.split("+")
            if self._bounds and not self._bounds[0] <= int(digest, 16) <= self._bounds[1]:
                continue
            found.append((float(when), base))
        return [base for _, base in sorted(found)]

    def _recover(self):
        """Give this slice's .bak files, left by a runner that died, another chance: three at most.

        Nobody asks whose they are: the .bak of a runner that lives is taken too.
        """
        for base in self.entries(".bak"):
            try:
                with open(self._file(base, ".bak"), "rb+") as file:
                    pickle.load(file)
                    position = file.tell()
                    data = pickle.load(file)
                    data["_bak_count"] = data.get("_bak_count", 0) + 1
                    file.seek(position)
                    pickle.dump(data, file, 1)
                    file.truncate()
                    file.flush()
                    os.fsync(file.fileno())
            except FileNotFoundError:
                raise
            except Exception as problem:
                log("error", f"Unpickling .bak exception: {problem}\npreserving file: {base}")
                self.finish(base, preserve=True)
                continue
            if data["_bak_count"] >= MAX_RECOVERIES:
                log("error", f".bak file max count, preserving file: {base}")
                self.finish(base, preserve=True)
            else:
                os.rename(self._file(base, ".bak"), self._file(base, ".pck"))

    def _file(self, base, extension):
        return os.path.join(self.path, base + extension)


def _make_queue(path):
    old_mask = os.umask(0)
    try:
        os.mkdir(path, 0o770)
    except FileExistsError:
        pass
    finally:
        os.umask(old_mask)
