"""Places between two system calls where a process can be made to die or to stand still.

MAILMAN_STANDIN_CRASH=OPERATION:STEP[:NAME]   the process ends itself with SIGKILL
MAILMAN_STANDIN_PAUSE=OPERATION:STEP[:NAME]   the process stops itself with SIGSTOP

right *after* the system call that STEP names: by its name or its number, from 1, in STEPS.  NAME
restricts it to one lock, list or queue (`master-qrunner`, `test.lock`, `test`, `in`).  So every
state that a power cut can leave is made by a real process that really died there.

A test in the same process can set `observer`, a function of (operation, step, name), instead.
"""

from __future__ import annotations

import os
import signal

STEPS = {
    "lock": ("create", "write", "touch", "link", "touch-held"),
    "unlock": ("touch", "unlink-lock", "unlink-claim"),
    "break": ("touch", "unlink-lock", "unlink-claim"),
    "transfer": ("touch", "link", "truncate", "write", "unlink-old", "touch-new"),
    "clear": ("unlink-lock", "unlink-claim"),
    "fork": ("child",),
    "master": ("possession", "pid-file", "session", "runners", "handlers"),
    "save": ("create", "half", "write", "unlink-last", "keep-last", "rename"),
    "enqueue": ("create", "write", "rename"),
    "dequeue": ("rename",),
    "deliver": ("sent",),
    "finish": ("unlink",),
}

observer = None


def _wanted(variable):
    text = os.environ.get(variable)
    if not text:
        return None
    operation, _, rest = text.partition(":")
    which, _, name = rest.partition(":")
    names = STEPS.get(operation, ())
    if which.isdigit() and 1 <= int(which) <= len(names):
        which = names[int(which) - 1]
    if which not in names:
        raise SystemExit(f"{variable}={text}: no such step; there are {STEPS!r}")
    return operation, which, name


_crash = _wanted("MAILMAN_STANDIN_CRASH")
_pause = _wanted("MAILMAN_STANDIN_PAUSE")


def step(operation, which, name=""):
    """Say that `which` of `operation` on `name` has just been done."""
    if observer is not None:
        observer(operation, which, name)
    for wanted, number in ((_crash, signal.SIGKILL), (_pause, signal.SIGSTOP)):
        if wanted and wanted[:2] == (operation, which) and wanted[2] in ("", name):
            os.kill(os.getpid(), number)
