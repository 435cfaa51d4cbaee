"""One node: its place on the switch, its power, and the proof that it is off.

A node is a process tree in namespaces of its own. Everything it holds (processes, mounts, network
interface) hangs on its init, so cutting its power is one SIGKILL, and nothing of it outlives the
supervisor either.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from .cluster import NETWORK, address
from .disk import Store

BRIDGE = "switch"
INSIDE = Path(__file__).resolve().parent / "inside"
GONE_WITHIN = 10.0  # seconds a killed node may take until nothing of it is left


class NodeFailure(Exception):
    """A node could not be powered on or off; the text says which and why."""


class Node:
    """A machine that can be switched on and off. Only the supervisor makes one."""

    def __init__(self, name: str, directory: Path, lower: list[Path], shared: Path,
                 store: Store) -> None:  # fmt: skip
        """Lay out the node's own directory: it keeps its root's changes across power cuts."""
        self.name = name
        self.directory = directory
        self.lower = lower
        self.shared = shared
        self.store = store
        self.power: subprocess.Popen[bytes] | None = None
        self.init: int | None = None
        self.cable_plugged = True
        self.stays_off = False  # whether the power switch leaves it off when it is fenced
        for part in ("upper", "work", "root"):
            (directory / part).mkdir(parents=True)
        (directory / "net").touch()

    @property
    def port(self) -> str:
        """The node's interface on the switch."""
        return f"port-{self.name}"

    def is_on(self) -> bool:
        """Whether its init runs."""
        return self.power is not None and self.power.poll() is None

    def power_on(self, cluster: bool) -> None:
        """Boot; with `cluster`, corosync and Pacemaker come up by themselves."""
        if self.is_on():
            return
        net = str(self.directory / "net")
        run("unshare", f"--net={net}", "true")
        run("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", net)
        run("ip", "link", "set", self.port, "up")
        if self.cable_plugged:
            run("ip", "link", "set", self.port, "master", BRIDGE)
        console = open(self.directory / "console.log", "ab")  # noqa: SIM115
        with console:
            self.power = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig=KILL", "nsenter", f"--net={net}"),
                    *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"),
                    *("--kill-child=SIGKILL", str(INSIDE / "boot.sh"), self.name),
                    *(str(self.directory), ":".join(map(str, self.lower)), str(self.shared)),
                    self.store.for_boot,
                    *(f"{address(self.name)}/{NETWORK.prefixlen}", "yes" if cluster else "no"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.init = self.wait_for_init()

    def wait_for_init(self) -> int:
        """The pid, as the host sees it, of the node's process 1, once it runs init.py."""
        assert self.power is not None
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.power.poll() is not None:
                raise NodeFailure(f"{self.name} did not boot: {self.console_tail()}")
            for pid in children(self.power.pid):
                if b"mailman-ha-lab/init.py" in read(f"/proc/{pid}/cmdline"):
                    return pid
            time.sleep(0.02)
        raise NodeFailure(f"{self.name} did not boot within 20 s: {self.console_tail()}")

    def console_tail(self) -> str:
        """The last words on its console."""
        text = read(str(self.directory / "console.log")).decode("utf-8", "replace")
        return text.strip()[-400:] or "(nothing on its console)"

    def power_off(self) -> None:
        """Cut the power and prove it: no process left, the share let go, the port gone.

        The unshare process ends only after the kernel has reaped every process of the node's pid
        namespace. Raises NodeFailure when that, or the share, takes longer than GONE_WITHIN.
        """
        deadline = time.monotonic() + GONE_WITHIN
        if self.power is not None:
            had_disk = self.init is not None and self.store.mounted_by(self.init)
            if self.init is not None and self.power.poll() is None:
                os.kill(self.init, signal.SIGKILL)
            else:
                self.power.kill()
            try:
                self.power.wait(GONE_WITHIN)
            except subprocess.TimeoutExpired:
                raise NodeFailure(f"{self.name} still has processes after SIGKILL") from None
            while had_disk and self.store.in_use():
                if time.monotonic() > deadline:
                    raise NodeFailure(f"{self.name} is off, but its share is still in use")
                time.sleep(0.01)
            self.power = self.init = None
        if port_exists(self.port):
            run("ip", "link", "delete", self.port)
        net = str(self.directory / "net")
        if os.path.ismount(net):
            run("umount", net)

    def unplug(self) -> None:
        """Pull its cable at the switch: the link stays up, nothing gets through."""
        self.cable_plugged = False
        if self.is_on():
            run("ip", "link", "set", self.port, "nomaster")

    def plug(self) -> None:
        """Put the cable back."""
        self.cable_plugged = True
        if self.is_on():
            run("ip", "link", "set", self.port, "master", BRIDGE)


def run(*command: str) -> None:
    """Run a command of the host that must succeed; NodeFailure carries what it said."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NodeFailure(f"{' '.join(command)}: {done.stdout.strip()[-400:]}")


def port_exists(name: str) -> bool:
    """Whether the supervisor's network namespace has this interface."""
    quiet = subprocess.DEVNULL
    return subprocess.call(["ip", "link", "show", name], stdout=quiet, stderr=quiet) == 0


def children(pid: int) -> list[int]:
    """The child processes of this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            status = read(f"/proc/{entry}/stat")
            if status and int(status[status.rindex(b")") + 2 :].split()[1]) == pid:
                found.append(int(entry))
    return found


def read(path: str) -> bytes:
    """The file's content, or nothing when it is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
