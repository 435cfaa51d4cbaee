"""The process a lab hangs on: switch, share, database, power switch, SMTP sink and watcher.

Started by lab.Lab in network and mount namespaces of its own, so that whatever it makes (bridge,
interfaces, mounts, the state on a tmpfs) disappears with it, also when it is killed. The nodes die
with it. What outlives it is its state directory, which the next `lab up` or `lab down` of the
name removes.

It answers one-line JSON requests on control.sock, and the nodes' fence agent on inside/power.sock.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import cluster
from .database import Database
from .disk import SHARED_DIRECTORY, SharedDirectory, SharedDisk, Store
from .node import BRIDGE, INSIDE, Node, NodeFailure, run
from .process_table import Roles, mailman_daemons, processes_of
from .sink import open_sink
from .site_table import SITES
from .sites import SINK_PORT, Site

BRIDGE_ADDRESS = "02:00:c6:33:64:01"  # of the hardware
# Seconds from a fencing to the boot, as a machine's firmware takes. A node that is back before the
# others were told of the fencing hears of it as news, and its Pacemaker stops for good.
BOOT_DELAY = 2.0
WATCH_INTERVAL = 0.25  # seconds between two looks at the process tables
CHECKOUT = Path(__file__).resolve().parent.parent
AGENT_DIRECTORY = "usr/lib/ocf/resource.d/mailman"

Reply = dict[str, Any]


class Supervisor:
    """One lab."""

    def __init__(self, state: Path, image: Path, names: list[str], site: Site) -> None:
        """Nothing is made yet; `start` makes it."""
        self.state = state
        self.private = state / "private"
        self.image = image
        self.site = site
        self.names = names
        self.nodes: dict[str, Node] = {}
        self.store: Store | None = None
        self.database: Database | None = None
        self.fence_failures_left = 0
        self.last_seen: Roles = {}
        self.events = open(state / "events.jsonl", "a", buffering=1)  # noqa: SIM115
        self.observations = open(state / "observations.jsonl", "a", buffering=1)  # noqa: SIM115

    def event(self, what: str, node: str = "", **more: Any) -> None:
        """Note what happened and when (seconds since the epoch)."""
        entry = {"time": time.time(), "event": what, "node": node, **more}
        self.events.write(json.dumps(entry) + "\n")

    # ---------------------------------------------------------------- making the lab

    def build(self) -> None:
        """Make the private tmpfs, the switch, the share, the nodes' layer, database and nodes."""
        run("mount", "--make-rprivate", "/")
        self.private.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.private))
        inside = self.state / "inside"
        inside.mkdir()
        self.build_switch()
        if self.site.on_several_nodes:
            self.store = SharedDirectory(self.private / SHARED_DIRECTORY)
        else:
            self.store = SharedDisk(self.private / f"{self.state.name}.img")
        self.fill_store(self.store)
        layer = self.private / "layer"
        self.build_layer(layer)
        trees = [layer, self.image]
        if self.site.needs_database:
            self.database = Database(self.private / "database", trees)
            self.fill_database(self.database)
        for name in self.names:
            self.nodes[name] = Node(name, self.private / name, trees, inside, self.store)

    def build_switch(self) -> None:
        """A bridge; the supervisor itself is the host `outside` on it."""
        run("ip", "link", "set", "lo", "up")
        # An address of its own: else it takes the lowest of its ports', and when a node goes or
        # comes the others send to an address that nobody has, until they ask again.
        run(
            *("ip", "link", "add", BRIDGE, "address", BRIDGE_ADDRESS),
            *("type", "bridge", "stp_state", "0", "forward_delay", "0"),
        )
        length = cluster.NETWORK.prefixlen
        run("ip", "address", "add", f"{cluster.OUTSIDE}/{length}", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")

    def fill_store(self, store: Store) -> None:
        """Empty what the nodes share and let the site fill it."""
        store.format()
        with store.opened(self.private / "share") as place:
            self.site.seed(self.image, place)

    def fill_database(self, database: Database) -> None:
        """Start the empty database and let the site fill it."""
        database.start()
        for command in self.site.seed_database():
            run(*database.enter(), *command)

    def build_layer(self, layer: Path) -> None:
        """What all nodes have over the image: our agents, the cluster's and the site's files."""
        layer.mkdir()
        resources = [*self.site.resources(), *(each.resource for each in self.site.clones())]
        agents = {each.agent for each in resources if ":mailman:" in each.agent}
        if agents:
            install_agents(layer, agents)
        self.site.lay_out(self.image, layer)
        for name, text, mode in (
            ("etc/hosts", cluster.hosts_file(self.names), 0o644),
            ("etc/resolv.conf", "", 0o644),
            ("etc/corosync/corosync.conf", cluster.corosync_conf("lab", self.names), 0o644),
            (
                "var/lib/pacemaker/cib/cib.xml",
                cluster.cib(
                    self.names,
                    self.site.resources(),
                    self.site.clones(),
                    self.site.constraints(),
                ),
                0o600,
            ),
        ):
            file = layer / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(mode)
        # As on any Debian that was booted; the Filesystem agent finds bind mounts there.
        (layer / "etc/mtab").symlink_to("../proc/self/mounts")
        for source, target in (
            ("init.py", "usr/lib/mailman-ha-lab"),
            ("fence_lab", "usr/sbin"),
        ):
            (layer / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(INSIDE / source, layer / target / source)
        owner = (self.image / "var/lib/pacemaker/cib").stat()
        os.chown(layer / "var/lib/pacemaker/cib/cib.xml", owner.st_uid, owner.st_gid)
        like_image(layer, self.image)

    # ---------------------------------------------------------------- requests

    def power_off(self, name: str) -> None:
        """Cut a node's power; returns when it is proven off."""
        node = self.nodes[name]
        was_on = node.is_on()
        began = time.time()
        node.power_off()
        if was_on:
            self.event("power-cut", name, began=began)

    def power_on(self, name: str, with_cluster: bool) -> None:
        """Boot a node."""
        node = self.nodes[name]
        if not node.is_on():
            node.power_off()  # what a node that ended by itself left
            node.power_on(with_cluster)
            self.event("power-on", name)

    def answer_control(self, request: dict[str, Any]) -> Reply:
        """One request of lab.Lab; KeyError and NodeFailure become its error text."""
        what, name = request["request"], request.get("node", "")
        if what == "status":
            return {"nodes": {each: self.describe(node) for each, node in self.nodes.items()}}
        if what == "power-off":
            self.power_off(name)
        elif what == "power-on":
            self.power_on(name, bool(request["cluster"]))
        elif what == "unplug":
            self.nodes[name].unplug()
            self.event("unplugged", name)
        elif what == "plug":
            self.nodes[name].plug()
            self.event("plugged", name)
        elif what == "fence-fails-first":
            self.fence_failures_left = int(request["count"])
        elif what == "stay-off":
            self.nodes[name].stays_off = bool(request["off"])
        elif what == "format":
            self.start_over()
        elif what == "down":
            self.ended.set()
        else:
            raise KeyError(what)
        return {}

    def start_over(self) -> None:
        """Empty and fill again what the nodes share, and the database."""
        assert self.store is not None
        if self.store.in_use() or any(node.is_on() for node in self.nodes.values()):
            raise NodeFailure("the share is in use: switch the nodes off first")
        self.fill_store(self.store)
        if self.database is not None:
            self.database.stop()
            self.database.empty()
            self.fill_database(self.database)

    def describe(self, node: Node) -> dict[str, Any]:
        """A node's line in the status."""
        return {"on": node.is_on(), "init": node.init, "plugged": node.cable_plugged}

    def answer_fence(self, request: dict[str, Any]) -> tuple[Reply, bool]:
        """One request of fence_lab; the second value says whether to boot the node afterwards."""
        action, name = request.get("action"), request.get("node") or ""
        if action == "list":
            return {"nodes": list(self.nodes)}, False
        if action == "monitor":
            return {}, False
        if name not in self.nodes:
            raise NodeFailure(f"no such node: {name!r}")
        if action == "status":
            return {"state": "ON" if self.nodes[name].is_on() else "OFF"}, False
        if action not in ("off", "on", "reboot"):
            raise NodeFailure(f"no such action: {action!r}")
        if action in ("off", "reboot") and self.fence_failures_left > 0:
            self.fence_failures_left -= 1
            self.event("fencing-failed-on-purpose", name)
            raise NodeFailure("told to fail")
        if action in ("off", "reboot"):
            self.power_off(name)
            self.event("fenced", name, action=action)
        return {}, action in ("on", "reboot") and not self.nodes[name].stays_off

    async def serve_control(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection: a request line, a reply line."""
        try:
            request = json.loads(await reader.readline())
            reply = {"ok": True, **self.answer_control(request)}
        except (NodeFailure, OSError, subprocess.SubprocessError) as trouble:
            reply = {"ok": False, "reason": str(trouble)}
        except (KeyError, ValueError) as trouble:
            reply = {"ok": False, "reason": f"no such node or request: {trouble}"}
        await answer(writer, reply)

    async def serve_fence(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection of a fence agent. The node is booted after the answer is out."""
        boot, name = False, ""
        try:
            request = json.loads(await reader.readline())
            name = request.get("node") or ""
            more, boot = self.answer_fence(request)
            reply = {"ok": True, **more}
        except (NodeFailure, OSError, ValueError) as trouble:
            reply = {"ok": False, "reason": str(trouble)}
        await answer(writer, reply)
        if boot:
            await asyncio.sleep(BOOT_DELAY)
            if not self.nodes[name].stays_off and not self.ended.is_set():
                self.boot(name)

    def boot(self, name: str) -> None:
        """Boot a node with its cluster; a failure is noted, for there is nobody to tell."""
        try:
            self.power_on(name, True)
        except NodeFailure as trouble:
            self.event("boot-failed", name, reason=str(trouble))
            print(trouble, file=sys.stderr)

    # ---------------------------------------------------------------- watching

    def look(self) -> None:
        """Note all Mailman daemons of all nodes when they differ from the last look."""
        inits = {name: node.init for name, node in self.nodes.items() if node.init is not None}
        began = time.time()
        seen = mailman_daemons(processes_of(inits), self.site.role, self.site.with_workers)
        if seen != self.last_seen:
            self.last_seen = seen
            self.observations.write(json.dumps({"time": began, "daemons": seen}) + "\n")

    async def watch(self) -> None:
        """Look at the nodes for as long as the lab lives; boot a node that reset itself."""
        while True:
            self.look()
            for name, node in self.nodes.items():
                if node.power is not None and not node.is_on() and not node.stays_off:
                    self.event("reset-itself", name)
                    self.boot(name)
            if self.database is not None and not self.database.is_on():
                raise NodeFailure(f"the database ended: {self.database.console_tail()}")
            await asyncio.sleep(WATCH_INTERVAL)

    # ---------------------------------------------------------------- life

    async def live(self, owner: int) -> None:
        """Serve until told to go down, a signal, or the end of the owner's pipe."""
        self.ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.ended.set)
        if owner >= 0:
            loop.add_reader(owner, self.ended.set)
        power_socket = self.state / "inside" / "power.sock"
        servers = [
            await asyncio.start_unix_server(self.serve_control, self.state / "control.sock"),
            await asyncio.start_unix_server(self.serve_fence, power_socket),
            await open_sink(cluster.OUTSIDE, SINK_PORT, self.state / "deliveries.jsonl"),
        ]
        watcher = asyncio.ensure_future(self.watch())
        watcher.add_done_callback(lambda task: self.ended.set())
        say("ready")
        await self.ended.wait()
        if watcher.done():
            print(f"the watcher failed: {watcher.exception()!r}", file=sys.stderr)
        watcher.cancel()
        for server in servers:
            server.close()

    def clear(self) -> None:
        """Switch everything off and remove the state directory."""
        for node in self.nodes.values():
            try:
                node.power_off()
            except NodeFailure as trouble:
                print(trouble, file=sys.stderr)
        if self.database is not None:
            try:
                self.database.stop()
            except NodeFailure as trouble:
                print(trouble, file=sys.stderr)
        if self.store is not None:
            self.store.detach()
        if self.private.is_mount():
            run("umount", "--lazy", str(self.private))
        shutil.rmtree(self.state)


def install_agents(layer: Path, agents: set[str]) -> None:
    """`make install` of the checkout into the layer; NodeFailure tells what make said.

    `agents` (by full name) must be there afterwards.
    """
    run("make", "-s", "-C", str(CHECKOUT), "install", f"DESTDIR={layer}", "PREFIX=/usr")
    for name in sorted(agents):
        agent = name.split(":")[-1]
        if not (layer / AGENT_DIRECTORY / agent).is_file():
            raise NodeFailure(f"make install put no {agent} into /{AGENT_DIRECTORY}")


def like_image(layer: Path, image: Path) -> None:
    """Give the layer's directories the owner and mode they have in the image they will cover."""
    for directory, _, _ in os.walk(layer):
        covered = image / Path(directory).relative_to(layer)
        if covered.is_dir():
            status = covered.stat()
            os.chown(directory, status.st_uid, status.st_gid)
            os.chmod(directory, status.st_mode & 0o7777)


async def answer(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send one line and hang up; the other side may have gone."""
    try:
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()
    except OSError:
        pass


def say(line: str) -> None:
    """Tell the process that started the lab."""
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass


def main(arguments: list[str]) -> int:
    """python3 -m lab.supervisor STATE IMAGE NODES SITE OWNER_FD

    On stdout one line, `ready` or `failed: REASON`, for the process that started the lab.
    """
    state, image, names, site = Path(arguments[0]), Path(arguments[1]), arguments[2], arguments[3]
    owner = int(arguments[4])
    os.umask(0o022)
    with open(state / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        supervisor = Supervisor(state, image, names.split(","), SITES[site]())
        try:
            supervisor.build()
            asyncio.run(supervisor.live(owner))
        except (NodeFailure, OSError, subprocess.SubprocessError) as trouble:
            say("failed: " + " | ".join(str(trouble).splitlines()))
            raise
        finally:
            supervisor.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
