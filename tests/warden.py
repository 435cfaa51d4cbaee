"""Clears up after a test run that was itself killed.

    python warden.py            standard input: first the private directory, then nothing

Started beside the test run, which keeps the other end of the pipe open.  When the run ends,
however it ends, the kernel closes the pipe; the warden then ends every process that belongs to the
directory and removes it.  It leads its own session and ignores Ctrl-C, so it outlives what it
guards.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.private_processes import end_processes_of


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    top = Path(sys.stdin.readline().rstrip("\n"))
    sys.stdin.read()
    if top.is_absolute() and top.is_dir():
        end_processes_of(top)
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    os.chdir("/")
    main()
