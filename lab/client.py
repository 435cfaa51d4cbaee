"""Lab: what tests, the demo and the command line do with a cluster in a box.

    with Lab("mine", suite="trixie") as lab:
        lab.wait_serving()
        lab.kill(lab.active_node())

A lab entered this way goes down when the block ends or the process dies, however it dies. One
made by `lab up` stays until `lab down`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TypeVar
from xml.etree import ElementTree

from .cluster import VIRTUAL_ADDRESS
from .disk import SHARED_DIRECTORY
from .image import ImageFailure, node_image
from .process_table import Process, Roles, mailman_daemons, processes_of
from .requirements import missing
from .site_table import SITES

STATE_ROOT = Path("/run/mailman-ha-lab")
CHECKOUT = Path(__file__).resolve().parent.parent
CLONE_NEWNET = 0x40000000

Answer = TypeVar("Answer")
Place = tuple[str, int]  # a node and a pid in it


class LabFailure(Exception):
    """The lab could not do what was asked, or did not get where it was expected in time."""


class CannotRun(LabFailure):
    """This machine cannot run a lab; one sentence for each thing that is missing."""


@dataclass(frozen=True)
class Completed:
    """A command that was run in a node."""

    returncode: int
    stdout: str
    stderr: str


class Lab:
    """A lab by name. Its nodes are n1, n2 and, if wanted, n3."""

    def __init__(
        self,
        name: str = "lab",
        suite: str = "bookworm",
        nodes: int = 2,
        site: str = "mailman3",
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Nothing happens before `up` or the with statement."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
            raise LabFailure(f"a lab's name is small letters, digits and hyphens, not {name!r}")
        if nodes not in (2, 3):
            raise LabFailure(f"a lab has two or three nodes, not {nodes}")
        if site not in SITES:
            raise LabFailure(f"no such site: {site}; there are {', '.join(SITES)}")
        self.name = name
        self.suite = suite
        self.site = SITES[site]()
        self.node_names = [f"n{number}" for number in range(1, nodes + 1)]
        self.state = STATE_ROOT / name
        self.progress = progress
        self.owner_pipe: int | None = None

    @classmethod
    def existing(cls, name: str) -> Lab:
        """The running lab of this name. LabFailure when there is none."""
        try:
            facts = json.loads((STATE_ROOT / name / "lab.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LabFailure(f"there is no lab {name}; `lab up --name {name}` makes one") from None
        lab = cls(name, facts["suite"], facts["nodes"], facts["site"])
        if lab.site.missing():
            raise CannotRun("\n".join(lab.site.missing()))
        if not lab.is_up():
            raise LabFailure(
                f"the supervisor of lab {name} is gone; "
                f"`lab down --name {name}` clears what it left"
            )
        return lab

    # ---------------------------------------------------------------- life

    def __enter__(self) -> Lab:
        self.up(owned=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.down()

    def is_up(self) -> bool:
        """Whether a supervisor holds the lab's lock."""
        try:
            with open(self.state / "lock", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as trouble:
            if trouble.errno == errno.EWOULDBLOCK:
                return True
            raise
        return False

    def up(self, owned: bool = False, boot: bool = True, cluster: bool = True) -> None:
        """Make the lab and boot its nodes, with `cluster` also corosync and Pacemaker on them.

        `owned`: it goes down with this process. Raises CannotRun, ImageFailure or LabFailure.
        """
        sentences = [*missing(self.suite), *self.site.missing()]
        if sentences:
            raise CannotRun("\n".join(sentences))
        if self.is_up():
            raise LabFailure(f"lab {self.name} is up already; `lab down --name {self.name}` first")
        self.clear_leftovers()
        try:
            image = node_image(self.suite, self.progress)
        except ImageFailure as trouble:
            raise LabFailure(str(trouble)) from trouble
        self.progress(f"starting lab {self.name} ({self.suite}, {len(self.node_names)} nodes)")
        self.make_state_directory()
        facts = {"suite": self.suite, "nodes": len(self.node_names), "site": self.site.name}
        (self.state / "lab.json").write_text(json.dumps(facts), encoding="utf-8")
        try:
            self.start_supervisor(image, owned)
            if boot:
                for node in self.node_names:
                    self.boot(node, cluster)
        except BaseException:
            self.down()
            raise

    def start_supervisor(self, image: Path, owned: bool) -> None:
        """Start the process the lab hangs on and wait until it is ready."""
        owner_read, owner_write = os.pipe()
        try:
            with open(self.state / "supervisor.log", "wb") as log:
                supervisor = subprocess.Popen(
                    [
                        *("unshare", "--net", "--mount", sys.executable, "-m", "lab.supervisor"),
                        *(str(self.state), str(image), ",".join(self.node_names), self.site.name),
                        str(owner_read if owned else -1),
                    ],
                    cwd=CHECKOUT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=[owner_read] if owned else [],
                    start_new_session=True,
                    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                )
        finally:
            os.close(owner_read)
            if owned:
                self.owner_pipe = owner_write
            else:
                os.close(owner_write)
        assert supervisor.stdout is not None
        line = supervisor.stdout.readline().decode("utf-8", "replace").strip()
        supervisor.stdout.close()
        self.supervisor = supervisor
        if line != "ready":
            supervisor.wait()
            reason = line or self.log_tail()
            self.clear_leftovers()
            raise LabFailure(f"lab {self.name} did not start: {reason}")

    def log_tail(self) -> str:
        """The last words of the supervisor."""
        try:
            text = (self.state / "supervisor.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "its supervisor left no log"
        return text.strip()[-600:] or "its supervisor said nothing"

    def down(self) -> None:
        """Switch everything off and leave nothing behind; fine also when there is no lab."""
        if self.is_up():
            pid = self.supervisor_pid()
            for attempt in (self.ask_to_go_down, lambda: os.kill(pid, signal.SIGTERM)):
                with contextlib.suppress(LabFailure, ProcessLookupError):
                    attempt()
                if self.gone_within(20):
                    break
            else:
                os.kill(pid, signal.SIGKILL)
                if not self.gone_within(10):
                    raise LabFailure(f"the supervisor of lab {self.name} (pid {pid}) does not end")
        if self.owner_pipe is not None:
            os.close(self.owner_pipe)
            self.owner_pipe = None
        supervisor = getattr(self, "supervisor", None)
        if supervisor is not None:
            supervisor.wait()
        self.clear_leftovers()

    def ask_to_go_down(self) -> None:
        """The ordinary way."""
        self.request("down")

    def gone_within(self, seconds: float) -> bool:
        """Wait for the supervisor's end."""
        deadline = time.monotonic() + seconds
        while self.is_up():
            if time.monotonic() > deadline:
                return False
            supervisor = getattr(self, "supervisor", None)
            if supervisor is not None:
                supervisor.poll()
            time.sleep(0.05)
        return True

    def make_state_directory(self) -> None:
        """Another lab that goes down right now may remove the directory of all labs under us."""
        for _ in range(100):
            try:
                self.state.mkdir(parents=True)
                return
            except FileNotFoundError:
                continue
        raise LabFailure(f"{self.state} cannot be made: {self.state.parent} goes again and again")

    def clear_leftovers(self) -> None:
        """Remove the state directory of a supervisor that died; all else died with it."""
        shutil.rmtree(self.state, ignore_errors=True)
        with contextlib.suppress(OSError):
            STATE_ROOT.rmdir()

    # ---------------------------------------------------------------- the supervisor

    def supervisor_pid(self) -> int:
        """Its pid on the host."""
        return int((self.state / "lock").read_text(encoding="ascii"))

    def request(self, what: str, **more: Any) -> dict[str, Any]:
        """Ask the supervisor; LabFailure when it refuses or is gone."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(60)
                line.connect(str(self.state / "control.sock"))
                line.sendall(json.dumps({"request": what, **more}).encode() + b"\n")
                reply = json.loads(line.makefile().readline())
        except (OSError, ValueError) as trouble:
            raise LabFailure(f"lab {self.name} does not answer {what}: {trouble}") from trouble
        if not reply.pop("ok"):
            raise LabFailure(reply["reason"])
        return dict(reply)

    def status(self) -> dict[str, dict[str, Any]]:
        """node → on (bool), init (host pid of its process 1, or None), plugged (bool)."""
        return dict(self.request("status")["nodes"])

    def kill(self, node: str) -> None:
        """Cut a node's power. It stays off until it is fenced or booted."""
        self.request("power-off", node=node)

    def boot(self, node: str, cluster: bool = True) -> None:
        """Switch a node on."""
        self.request("power-on", node=node, cluster=cluster)

    def partition(self, node: str) -> None:
        """Pull the node's network cable; it runs on, and fencing still reaches it."""
        self.request("unplug", node=node)

    def heal(self, node: str) -> None:
        """Put the cable back."""
        self.request("plug", node=node)

    def fence_fails_first(self, count: int) -> None:
        """Let the next `count` fencing attempts fail."""
        self.request("fence-fails-first", count=count)

    @contextlib.contextmanager
    def staying_off(self, node: str) -> Iterator[None]:
        """Let a node that is fenced in this with block stay off until its end, then boot it."""
        self.request("stay-off", node=node, off=True)
        try:
            yield
        finally:
            self.request("stay-off", node=node, off=False)
            self.boot(node)

    def format_disk(self) -> None:
        """Start over: share and database empty, seeded by the site. All nodes must be off."""
        self.request("format")

    # ---------------------------------------------------------------- in the nodes

    def inits(self) -> dict[str, int]:
        """Host pid of process 1 of each node that is on."""
        return {
            node: facts["init"]
            for node, facts in self.status().items()
            if facts["on"] and facts["init"] is not None
        }

    def enter(self, node: str) -> list[str]:
        """The command prefix that runs something in a node."""
        init = self.inits().get(node)
        if node not in self.node_names:
            raise LabFailure(f"no such node: {node}; there are {', '.join(self.node_names)}")
        if init is None:
            raise LabFailure(f"{node} is off")
        return [
            *("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"),
            "TERM=" + os.environ.get("TERM", "dumb"),
        ]

    def run(
        self, node: str, command: Sequence[str], timeout: float = 60, check: bool = True
    ) -> Completed:
        """Run a command in a node; with `check`, LabFailure when it fails.

        Its output goes to files, not pipes: a daemon it starts may keep them open. After `timeout`
        seconds it is killed in the node, and the returncode is 124.
        """
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                [*self.enter(node), "timeout", "--kill-after=2", str(timeout), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
                timeout=timeout + 15,
            )
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
        if check and done.returncode != 0:
            raise LabFailure(
                f"{node}: {' '.join(command)}: exit status {done.returncode}: "
                f"{texts[1].strip() or texts[0].strip()}"
            )
        return Completed(done.returncode, texts[0], texts[1])

    def processes(self, node: str) -> list[Process]:
        """The node's process table, seen from outside; empty when it is off."""
        return processes_of(self.inits()).get(node, [])

    def daemons(self) -> Roles:
        """node → master or slice → pids in the node, of every Mailman daemon now running."""
        tables = processes_of(self.inits())
        return mailman_daemons(tables, self.site.role, self.site.with_workers)

    def share(self) -> Path:
        """The shared directory as the host can see it; only for sites on several nodes at once."""
        if not self.site.on_several_nodes:
            raise LabFailure(f"the share of {self.site.name} is a disk, which the host cannot see")
        return Path(f"/proc/{self.supervisor_pid()}/root{self.state}/private/{SHARED_DIRECTORY}")

    def masters(self) -> list[str]:
        """The nodes that have a master, one entry for each master."""
        return [
            node for node, found in self.daemons().items() for _ in found.get("master", [])
        ]

    # ---------------------------------------------------------------- the cluster

    def cluster_status(self, node: str | None = None) -> ElementTree.Element | None:
        """crm_mon's XML from `node`, or from the first node whose Pacemaker answers; else None."""
        for each in [node] if node else self.node_names:
            with contextlib.suppress(LabFailure, ElementTree.ParseError):
                done = self.run(each, ["crm_mon", "-1", "--output-as=xml"], timeout=10)
                status = ElementTree.fromstring(done.stdout)
                if status.find("./summary/current_dc[@present='true']") is not None:
                    return status
        return None

    def online(self) -> set[str]:
        """Nodes that are full members as the DC sees it."""
        status = self.cluster_status()
        if status is None:
            return set()
        return {
            node.get("name", "")
            for node in status.iterfind("./nodes/node")
            if node.get("online") == "true"
            and node.get("pending") == "false"
            and node.get("unclean") == "false"
        }

    def active_node(self) -> str | None:
        """The node the whole group is started on, None when there is none."""
        status = self.cluster_status()
        if status is None:
            return None
        places = {self.place_of(status, each.id) for each in self.site.resources()}
        return places.pop() if len(places) == 1 else None

    def place_of(self, status: ElementTree.Element, resource: str) -> str | None:
        """The one node a resource is started on, soundly."""
        for element in status.iterfind(f".//resource[@id='{resource}']"):
            nodes = [node.get("name") for node in element.iterfind("node")]
            if (
                element.get("role") == "Started"
                and element.get("failed") == "false"
                and element.get("blocked") == "false"
                and len(nodes) == 1
            ):
                return nodes[0]
        return None

    def failures(self) -> list[str]:
        """Failed actions as crm_mon lists them: `resource operation on node: exit reason`."""
        status = self.cluster_status()
        if status is None:
            return []
        return [
            f"{each.get('op_key')} on {each.get('node')}: {each.get('exitreason')}"
            for each in status.iterfind("./failures/failure")
        ]

    # ---------------------------------------------------------------- waiting

    def wait_until(
        self, what: str, holds: Callable[[], Answer], timeout: float = 60, interval: float = 0.25
    ) -> Answer:
        """Poll until `holds()` is true and give its answer; LabFailure with the state if never."""
        deadline = time.monotonic() + timeout
        while True:
            answer = holds()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise LabFailure(f"not within {timeout:.0f} s: {what}\n{self.describe()}")
            time.sleep(interval)

    def describe(self) -> str:
        """The lab in a few lines, for a failure's text."""
        lines = [f"nodes: {self.status()}", f"daemons: {self.daemons()}"]
        for node in self.inits():
            with contextlib.suppress(LabFailure):
                done = self.run(node, ["crm_mon", "-1", "-r", "-f"], timeout=10, check=False)
                lines += [f"--- crm_mon on {node}", done.stdout.strip() + done.stderr.strip()]
        return "\n".join(lines)

    def wait_members(self, timeout: float = 60) -> None:
        """Until every node is an online member."""
        wanted = set(self.node_names)
        self.wait_until("every node is online", lambda: self.online() == wanted, timeout)

    def wait_serving(self, timeout: float = 90) -> str:
        """Until one node has the whole group, one master, one of each runner, and takes posts.

        Gives that node.
        """

        def serving() -> str | None:
            if self.unmet_promise():
                return None
            node = self.active_node()
            if not self.site.runners:
                return node
            takes_posts = self.from_outside(lambda: self.site.takes_posts(self))
            return node if takes_posts and self.masters() == [node] else None

        served = self.wait_until("one node serves", serving, timeout)
        assert served is not None
        return served

    def unmet_promise(self) -> str:
        """What is wrong with the set of daemons now running; '' for one complete set."""
        return self.unmet_promise_of(self.daemons()) if self.site.runners else ""

    def unmet_promise_of(self, daemons: Roles) -> str:
        """The same of a set of daemons that was observed."""
        if not self.site.runners:
            return ""
        if self.site.slices:
            return self.unmet_by_slices(daemons)
        if len(daemons) != 1:
            return f"Mailman runs on {sorted(daemons) or 'no node'}"
        (node, found), = daemons.items()
        several = {key: pids for key, pids in found.items() if len(pids) != 1}
        if several:
            return f"{node} has more than one of {several}"
        lacking = {"master", *self.site.runners} - {key.split(":")[0] for key in found}
        return f"{node} lacks {sorted(lacking)}" if lacking else ""

    def unmet_by_slices(self, daemons: Roles) -> str:
        """The same where queues are sliced: the slices may run on any nodes, each of them once."""
        places = places_of(daemons)
        (place, *others) = places.get("master") or [("no node", 0)]
        if others or place[0] == "no node":
            return f"masters: {places.get('master', 'none')}"
        wanted = {f"{name}:{i}:{n}" for name, n in self.site.slices.items() for i in range(n)}
        for key in wanted:
            if len(places.get(key, [])) != 1:
                return f"slice {key} runs on {places.get(key, 'no node')}"
        rest = {key: found for key, found in places.items() if key not in wanted | {"master"}}
        for key, found in rest.items():
            if [node for node, _ in found] != [place[0]] or key.split(":")[0] in self.site.slices:
                return f"{key} runs on {found}, the master on {place[0]}"
        lacking = self.site.runners - {key.split(":")[0] for key in rest}
        return f"{place[0]} lacks {sorted(lacking)}" if lacking else ""

    # ---------------------------------------------------------------- the world outside

    def join_network(self) -> None:
        """Put the calling thread on the lab's network, as the host `outside`. For good."""
        if threading.current_thread() is threading.main_thread():
            raise LabFailure("join_network would take the whole process; use a thread")
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.supervisor_pid()}/ns/net", "rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns to the lab's network failed")

    def from_outside(self, function: Callable[[], Answer]) -> Answer:
        """Call a function in a thread that is on the lab's network."""
        answers: list[Answer] = []
        failures: list[BaseException] = []

        def call() -> None:
            try:
                self.join_network()
                answers.append(function())
            except BaseException as trouble:
                failures.append(trouble)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return answers[0]

    def create_list(self, address: str, subscribers: Sequence[str]) -> None:
        """Make a list with these subscribers on the active node."""
        node = self.active_node()
        if node is None:
            raise LabFailure(f"no node serves\n{self.describe()}")
        for command in self.site.create_list(address, subscribers):
            self.run(node, command)

    def lines(self, name: str) -> Iterator[Mapping[str, Any]]:
        """The complete lines of one of the lab's JSON lines files."""
        path = self.state / name
        if path.exists():
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n"):
                        yield json.loads(line)

    def deliveries(self) -> list[Mapping[str, Any]]:
        """What the sink got: message_id, recipient, subject, time (seconds since the epoch)."""
        return list(self.lines("deliveries.jsonl"))

    def events(self) -> list[Mapping[str, Any]]:
        """What was done to nodes: event (power-cut, fenced, power-on, ...), node, time."""
        return list(self.lines("events.jsonl"))

    def observations(self) -> list[Mapping[str, Any]]:
        """The daemons of all nodes each time the watcher saw them change: time, daemons."""
        return list(self.lines("observations.jsonl"))

    def doubles(self, since: float = 0) -> list[str]:
        """Every moment since then at which there were two masters or two runners of one slice.

        Also of slices that overlap without being the same, as 0 of 4 and 1 of 8 do.
        """
        found = []
        for observation in self.observations():
            if observation["time"] < since:
                continue
            places = places_of(observation["daemons"])
            met = [(key, found_at) for key, found_at in sorted(places.items()) if len(found_at) > 1]
            met += [
                (f"{one} and {other}", places[one] + places[other])
                for one, other in itertools.combinations(sorted(places), 2)
                if overlapping(one, other)
            ]
            for key, found_at in met:
                where = ", ".join(f"{node}:{pid}" for node, pid in found_at)
                found.append(f"{observation['time']:.2f}: {key} on {where}")
        return found


def places_of(daemons: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, list[Place]]:
    """Master or slice → where it runs, over all nodes."""
    places: dict[str, list[Place]] = {}
    for node, found in daemons.items():
        for key, pids in found.items():
            places.setdefault(key, []).extend((node, pid) for pid in pids)
    return places


def overlapping(one: str, other: str) -> bool:
    """Whether two slices, as `in:0:4` and `in:1:8`, have entries of one queue in common."""
    (name, *first), (other_name, *second) = one.split(":"), other.split(":")
    if name != other_name:
        return False
    if len(first) != 2 or len(second) != 2:
        return True  # a runner without a slice serves the whole queue
    i, n = map(int, first)
    j, m = map(int, second)
    return i * m < (j + 1) * n and j * n < (i + 1) * m


def virtual_address() -> str:
    """The address the lists are served at."""
    return VIRTUAL_ADDRESS
