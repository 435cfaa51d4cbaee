"""PostgreSQL outside the nodes, for sites that serve on several nodes at once.

A process tree in namespaces of its own, on the supervisor's network: like a node it dies with the
supervisor, however that ends, and leaves nothing. Its data lie in the lab's own state directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from .cluster import DATABASE, NETWORK, OUTSIDE
from .node import INSIDE, NodeFailure, children, read

PORT = 5432
READY_WITHIN = 60.0  # seconds, with the making of the database on a busy machine

# The start of a conversation, protocol 3.0: version, user and database. The server answers with an
# R (authentication) when it takes sessions, with an E (error) while it starts up.
GREETING = struct.pack("!I", 3 << 16) + f"user\0{DATABASE}\0database\0{DATABASE}\0\0".encode()


class Database:
    """The database server. Only the supervisor makes one."""

    def __init__(self, directory: Path, lower: list[Path]) -> None:
        """Lay out its own directory over the trees `lower`, the uppermost first."""
        self.directory = directory
        self.lower = lower
        self.power: subprocess.Popen[bytes] | None = None
        self.lay_out()

    def lay_out(self) -> None:
        """Make the directory anew."""
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)

    def start(self) -> None:
        """Start the server and wait until it takes sessions. Raises NodeFailure."""
        with open(self.directory / "console.log", "ab") as console:
            self.power = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig=KILL"),
                    *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"),
                    *("--kill-child=SIGKILL", str(INSIDE / "database.sh"), str(self.directory)),
                    *(":".join(map(str, self.lower)), OUTSIDE, str(NETWORK), DATABASE),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN
        while not takes_sessions():
            if not self.is_on():
                raise NodeFailure(f"the database did not start: {self.console_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise NodeFailure(
                    f"the database takes no sessions in {READY_WITHIN:.0f} s: {self.console_tail()}"
                )
            time.sleep(0.1)

    def is_on(self) -> bool:
        """Whether the server runs."""
        return self.power is not None and self.power.poll() is None

    def enter(self) -> list[str]:
        """The command prefix that runs something beside the server, as root in its tree."""
        assert self.power is not None
        (init,) = children(self.power.pid)
        return [
            *("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--pid"),
            *("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"),
        ]

    def stop(self) -> None:
        """End it at once; its data stay. NodeFailure when its processes do not end."""
        if self.power is not None:
            # unshare ends once all processes of the namespace whose init this is are gone.
            for pid in children(self.power.pid) or [self.power.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self.power.wait(10)
            except subprocess.TimeoutExpired:
                raise NodeFailure("the database still has processes after SIGKILL") from None
            self.power = None

    def empty(self) -> None:
        """Forget all data; the server must be stopped."""
        shutil.rmtree(self.directory)
        self.lay_out()

    def console_tail(self) -> str:
        """The server's last words."""
        text = read(str(self.directory / "console.log")).decode("utf-8", "replace")
        return text.strip()[-400:] or "(it said nothing)"


def takes_sessions() -> bool:
    """Whether the server would let its clients in now."""
    try:
        with socket.create_connection((OUTSIDE, PORT), timeout=1) as line:
            line.sendall(struct.pack("!I", len(GREETING) + 4) + GREETING)
            return line.recv(1) == b"R"
    except OSError:
        return False
