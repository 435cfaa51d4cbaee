"""The lab as a whole: image, ground, server, clients, and the shares as the clients mount them."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable

from lab.image import RECIPE, TREE_FILES, Kind, cache_directory, node_image
from lab.node import children

from .guest import Guest, NfsLabFailure

PACKAGES = (
    "iproute2",
    "kmod",
    "nfs-common",
    "nfs-kernel-server",
    "procps",
    "python3",
    "python3-psutil",
    "user-mode-linux",
)
IMAGE = Kind("nfs-", PACKAGES, TREE_FILES, RECIPE)
SUITE = "bookworm"  # its user-mode-linux is a Linux 6.1 with knfsd
CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"
NETWORK = "198.51.100"  # for documentation; only in the lab's own namespace
SERVER = f"{NETWORK}.10"
EXPORT = "/disk/export"  # version 4's root


@dataclass(frozen=True)
class Share:
    """One way to mount the server's disk, and where it is mounted. Each has a directory of its own
    on the server."""

    name: str
    options: str

    @property
    def path(self) -> str:
        """Where the clients have it."""
        return f"/share/{self.name}"

    @property
    def exported(self) -> str:
        """Where the server has it."""
        return f"{EXPORT}/{self.name}"

    @property
    def source(self) -> str:
        """What the clients mount."""
        return f"{SERVER}:{self.exported if 'vers=3' in self.options else '/' + self.name}"


# Version 3 without NLM: nothing here takes fcntl or flock locks, and without it no client needs a
# status daemon.
SHARES = (
    Share("v3", "vers=3,nolock"),
    Share("v3-nolookupcache", "vers=3,nolock,lookupcache=none"),
    Share("v4.2", "vers=4.2"),
    Share("v4.2-nolookupcache", "vers=4.2,lookupcache=none"),
)


class NfsLab:
    """A context manager. `libraries` is a directory of Python packages that the guests may import
    besides their own and the checkout's; `owner` (uid, gid) owns the shares' directories."""

    def __init__(
        self,
        libraries: Path,
        owner: tuple[int, int],
        clients: Sequence[str] = ("n1", "n2"),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._libraries = libraries
        self._owner = owner
        self._names = tuple(clients)
        self._progress = progress
        self._ground: subprocess.Popen[str] | None = None
        self.server: Guest
        self.clients: dict[str, Guest] = {}
        self.guests: tuple[Guest, ...] = ()
        #: Seconds from the switch to all shares mounted.
        self.up_after = 0.0

    def __enter__(self) -> NfsLab:
        if os.geteuid() != 0:
            raise NfsLabFailure("the lab needs root: it makes namespaces, mounts and interfaces")
        image = node_image(SUITE, self._progress, IMAGE)
        began = time.monotonic()
        try:
            self._lay_ground(image)
            for guest in self.guests:
                guest.power_on()
            for guest in self.guests:
                guest.wait_until_up()
            self._mount()
        except BaseException:
            self.close()
            raise
        self.up_after = time.monotonic() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lay_ground(self, image: Path) -> None:
        addresses = {
            "server": SERVER,
            **{name: f"{NETWORK}.{11 + number}" for number, name in enumerate(self._names)},
        }
        # An empty directory for all labs: what they mount there only they see.
        place = cache_directory() / "nfs-ground"
        place.mkdir(exist_ok=True)
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._ground = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--pid", "--fork"),
                *("--kill-child=SIGKILL", "sh", str(INSIDE / "ground.sh"), str(image), str(place)),
                *(str(CHECKOUT), str(self._libraries), f"{NETWORK}.1/24"),
                *(f"{name}={address}" for name, address in addresses.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
        )
        assert self._ground.stdout is not None
        ready, _, _ = select.select([self._ground.stdout], [], [], 30.0)
        if not ready or self._ground.stdout.readline() != "ready\n":
            self._said.seek(0)
            raise NfsLabFailure(f"the lab's ground could not be laid: {self._said.read()}")
        pid = children(self._ground.pid)[0]

        def guest(name: str, role: str) -> Guest:
            return Guest(name, f"{addresses[name]}/24", role, SERVER, pid, place)

        self.server = guest("server", "server")
        self.clients = {name: guest(name, "client") for name in self._names}
        self.guests = (self.server, *self.clients.values())

    def _mount(self) -> None:
        uid, gid = self._owner
        for share in SHARES:
            self.server.run(["install", "-d", "-m", "2775", "-o", str(uid), "-g", str(gid),
                             share.exported])  # fmt: skip
            for client in self.clients.values():
                client.run(["mkdir", share.path])
                client.run(["mount", "-t", "nfs", "-o", share.options,
                            share.source, share.path])  # fmt: skip

    def close(self) -> None:
        """Switch everything off; what the ground held disappears with it."""
        for guest in self.guests:
            guest.power_off()
        if self._ground is not None:
            assert self._ground.stdin is not None and self._ground.stdout is not None
            self._ground.stdin.close()
            self._ground.wait(20)
            self._ground.stdout.close()
            self._said.close()
            self._ground = None
