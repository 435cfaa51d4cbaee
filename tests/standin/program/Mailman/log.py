"""The log files of an installation: logs/KIND, one line an event, closed and reopened on SIGHUP."""

from __future__ import annotations

import os
import sys
import time

from Mailman import mm_cfg

_open_files: dict = {}


def log(kind, text):
    """Append `text` to logs/KIND with the time and the pid.  A log that fails hurts nobody."""
    line = f"{time.strftime('%b %d %H:%M:%S %Y')} ({os.getpid()}) {text}\n"
    try:
        if kind not in _open_files:
            _open_files[kind] = os.open(
                os.path.join(mm_cfg.LOG_DIR, kind), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o660
            )
        os.write(_open_files[kind], line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def reopen():
    for descriptor in _open_files.values():
        os.close(descriptor)
    _open_files.clear()


class LoggedStderr:
    """A sys.stderr whose text also (or, without `real`, only) goes to logs/error."""

    encoding = "utf-8"

    def __init__(self, program, real=None):
        self._program = program
        self._real = real

    def write(self, text):
        if self._real is not None:
            self._real.write(text)
        if text.strip():
            log("error", "{}: {}".format(self._program, text.rstrip("\n")))
        return len(text)

    def flush(self):
        if self._real is not None:
            self._real.flush()


def capture_stderr(program, keep_real):
    sys.stderr = LoggedStderr(program, sys.stderr if keep_real else None)  # type: ignore
