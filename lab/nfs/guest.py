"""One guest: its power, its cable, and what is run in it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.client import CLONE_NEWNET
from lab.node import children, read

PORT = 7  # where process 1 of each guest listens
BOOT_SECONDS = 60.0  # a guest boots in two to four seconds on an idle machine
GONE_SECONDS = 10.0
MEMORY = "384M"


class NfsLabFailure(Exception):
    """The lab could not do what was asked; the text says what, and what the console showed."""


@dataclass(frozen=True)
class Completed:
    """A program that was run in a guest."""

    code: int
    stdout: str
    stderr: str


class Conversation:
    """A Python function that runs in a guest as a process of its own, `pid` there; it hears and
    tells lines of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._line = connection.makefile("rw", encoding="utf-8")
        self.pid: int = self.hear()["pid"]

    def tell(self, what: Any) -> None:
        self._line.write(json.dumps(what) + "\n")
        self._line.flush()

    def hear(self, seconds: float | None = 60.0) -> Any:
        """The next line. Raises TimeoutError after `seconds`, EOFError where the function has
        ended."""
        self._connection.settimeout(seconds)
        text = self._line.readline()
        if not text:
            raise EOFError("the function in the guest has ended")
        return json.loads(text)

    def close(self) -> None:
        try:
            self._line.close()
        except OSError:
            pass
        self._connection.close()


class Guest:
    """A user-mode-linux machine of a lab. `address` is with its length, `ground` the pid of the
    process whose namespaces the lab stands in, `place` its directory there."""

    def __init__(
        self, name: str, address: str, role: str, server: str, ground: int, place: Path
    ) -> None:
        self.name = name
        self.address = address
        self.role = role
        self.server = server
        self.ground = ground
        self.place = place
        self._power: subprocess.Popen[bytes] | None = None

    # -- power and cable

    def power_on(self) -> None:
        """Switch it on; `wait_until_up` waits for it."""
        number = self.address.partition("/")[0].rpartition(".")[2]
        kernel = (
            "/usr/bin/linux.uml",
            *(f"mem={MEMORY}", f"umid={self.name}", "root=/dev/root", "rootfstype=hostfs"),
            *("rootflags=/", "ro", "quiet", "panic=-1", "con=null", "con0=null,fd:1", "ssl=null"),
            *(("ubd0=/server.disk",) if self.role == "server" else ()),
            f"eth0=tuntap,port-{self.name},02:00:c6:33:64:{int(number):02x}",
            *(f"NAME={self.name}", f"ADDRESS={self.address}", f"ROLE={self.role}"),
            *(f"SERVER={self.server}", "init=/checkout/lab/nfs/inside/boot.sh"),
        )
        console = f"/proc/{self.ground}/root{self.place}/console/{self.name}"
        with open(console, "ab") as output:
            self._power = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig=KILL", "nsenter", f"--target={self.ground}"),
                    *("--net", "--mount", "unshare", "--pid", "--fork", "--kill-child=SIGKILL"),
                    *("chroot", str(self.place / "root"), "/usr/bin/env", "-i"),
                    *("HOME=/dev/shm", "TMPDIR=/dev/shm", *kernel),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_up(self, seconds: float = BOOT_SECONDS) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            assert self._power is not None
            if self._power.poll() is not None or "Kernel panic" in self.console():
                raise NfsLabFailure(f"{self.name} did not boot:\n{self.console()}")
            try:
                self.run(["true"], seconds=5.0)
                return
            except (OSError, EOFError):
                if time.monotonic() > deadline:
                    raise NfsLabFailure(
                        f"{self.name} does not answer:\n{self.console()}"
                    ) from None
                time.sleep(0.05)

    def is_on(self) -> bool:
        return self._power is not None and self._power.poll() is None

    def power_off(self) -> None:
        """Cut the power; returns when nothing of it runs any more."""
        if self._power is None:
            return
        if self._power.poll() is None:
            os.kill(self._kernel(), signal.SIGKILL)
        self._power.wait(GONE_SECONDS)
        self._power = None

    def freeze(self) -> None:
        """Let the whole machine stand still."""
        os.kill(self._kernel(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._kernel(), signal.SIGCONT)

    def unplug(self) -> None:
        """Pull its cable at the switch."""
        self._at_the_switch("nomaster")

    def plug(self) -> None:
        """Put the cable back."""
        self._at_the_switch("master", "switch")

    def _at_the_switch(self, *words: str) -> None:
        subprocess.run(
            ["nsenter", f"--target={self.ground}", "--net", "ip", "link", "set",
             f"port-{self.name}", *words],
            stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip

    def _kernel(self) -> int:
        """The process that is the guest's kernel: what unshare has forked."""
        assert self._power is not None
        found = children(self._power.pid)
        if not found:
            raise NfsLabFailure(f"{self.name} is off:\n{self.console()}")
        return found[0]

    def console(self) -> str:
        """The last words on its console."""
        path = f"/proc/{self.ground}/root{self.place}/console/{self.name}"
        return read(path).decode("utf-8", "replace")[-3000:]

    # -- what is run in it

    def connect(self) -> socket.socket:
        """A connection to its process 1. The socket is made on the lab's network, where this
        process is not."""
        made: list[socket.socket | BaseException] = []

        def make() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with open(f"/proc/{self.ground}/ns/net", "rb") as namespace:
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns to the lab's network")
                host = self.address.partition("/")[0]
                made.append(socket.create_connection((host, PORT), timeout=5.0))
            except BaseException as trouble:
                made.append(trouble)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], BaseException):
            raise made[0]
        made[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made[0]

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str = "",
        environment: Mapping[str, str] | None = None,
        seconds: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Run a program. Raises NfsLabFailure where it fails and `check` is set, TimeoutError after
        `seconds` (the program goes on)."""
        request = {"argv": list(argv), "input": input, "environment": dict(environment or {})}
        connection = self.connect()
        with connection, connection.makefile("rw", encoding="utf-8") as line:
            connection.settimeout(seconds)
            line.write(json.dumps(request) + "\n")
            line.flush()
            text = line.readline()
        if not text:
            raise EOFError(f"{self.name} hung up")
        done = Completed(**json.loads(text))
        if check and done.code != 0:
            raise NfsLabFailure(
                f"{self.name}: {' '.join(argv)}: {done.code}\n{done.stdout}{done.stderr}"
            )
        return done

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Put a file into it."""
        self.run(["sh", "-c", 'cat > "$1" && chmod "$2" "$1"', "sh", path, mode], input=text)

    def converse(self, function: str, *arguments: Any) -> Conversation:
        """Run `package.module:function` of the checkout there; it is called with the line and these
        arguments."""
        connection = self.connect()
        connection.settimeout(60.0)
        request = {"serve": function, "arguments": arguments}
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Conversation(connection)
