"""Running the agents as Pacemaker does: a process of the system's Python, parameters in the
environment, a cluster that answers through crm_mon.

What crm_mon says is the one thing that is made up here (a program in front of PATH prints it); the
cluster tests ask the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from xml.sax.saxutils import quoteattr

import pytest

from tests.installations import Installation

AGENTS = Path(__file__).resolve().parent.parent.parent / "agents"
REASON = "ocf-exit-reason:"


@dataclass(frozen=True)
class AgentRun:
    """How one action ended. `seconds` is how long it took."""

    code: int
    stderr: str
    stdout: str
    seconds: float

    @property
    def reason(self) -> str:
        """The exit reason: the last line of stderr, if it is one."""
        lines = self.stderr.splitlines()
        if lines and lines[-1].startswith(REASON):
            return lines[-1][len(REASON):]
        return ""


@dataclass
class NodePicture:
    """A node as crm_mon shows it. `fenced_at` is in seconds since the epoch, `ended` what its stop
    has told of processes that have ended there."""

    online: bool = True
    unclean: bool = False
    fenced_at: float | None = None
    fence_status: str = "success"
    fence_action: str = "reboot"
    ended: str = ""


@dataclass
class ClusterPicture:
    """What crm_mon is made to print, in the form of Pacemaker 2.1 (whole seconds)."""

    nodes: dict[str, NodePicture] = field(default_factory=dict)
    stonith: bool = True
    maintenance: bool = False

    def xml(self) -> str:
        nodes = "".join(
            f'<node name={quoteattr(name)} id="{number}" online="{_word(node.online)}" '
            f'standby="false" maintenance="false" pending="false" '
            f'unclean="{_word(node.unclean)}" expected_up="{_word(node.online)}"/>'
            for number, (name, node) in enumerate(self.nodes.items(), 1)
        )
        events = "".join(
            f'<fence_event action="{node.fence_action}" target={quoteattr(name)} '
            f'status="{node.fence_status}" completed="{_stamp(node.fenced_at)}"/>'
            for name, node in self.nodes.items() if node.fenced_at is not None
        )
        told = "".join(
            f'<node name={quoteattr(name)}><attribute name="mailman-ha-ended" '
            f'value={quoteattr(node.ended)}/></node>'
            for name, node in self.nodes.items() if node.ended
        )
        return (
            '<?xml version="1.0"?><pacemaker-result api-version="2.25" request="crm_mon">'
            '<summary><current_dc present="true" with_quorum="true"/>'
            f'<cluster_options stonith-enabled="{_word(self.stonith)}" '
            f'maintenance-mode="{_word(self.maintenance)}"/></summary>'
            f"<nodes>{nodes}</nodes><node_attributes>{told}</node_attributes>"
            f"<fence_history>{events}</fence_history>"
            '<status code="0" message="OK"/></pacemaker-result>'
        )


def _word(value: bool) -> str:
    return "true" if value else "false"


def _stamp(when: float) -> str:
    return datetime.fromtimestamp(int(when), timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


class Agents:
    """Runs agents against one installation, on a node called n1 whose Mailman signs as it does."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailman-ha-agents-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.state_dir = self.directory / "state"
        self.state_dir.mkdir()
        self._bin = self.directory / "bin"
        self.forget_programs()

    def forget_programs(self) -> None:
        """Back to two nodes that are well, no resources, and no node attributes."""
        shutil.rmtree(self._bin, ignore_errors=True)
        self._bin.mkdir()
        self.cluster(ClusterPicture({"n1": NodePicture(), "n2": NodePicture()}))
        self.resources("")
        self.program("attrd_updater", f'echo "$@" >> {self._bin}/attributes')

    def cluster(self, picture: ClusterPicture) -> None:
        """Make crm_mon show `picture` from now on."""
        (self._bin / "cluster.xml").write_text(picture.xml())
        self.program("crm_mon", f"exec cat {self._bin}/cluster.xml")

    def resources(self, xml: str) -> None:
        """Make cibadmin show these resources from now on (elements of the section resources)."""
        (self._bin / "resources.xml").write_text(f"<resources>{xml}</resources>")
        self.program("cibadmin", f"exec cat {self._bin}/resources.xml")

    def attribute_calls(self) -> list[str]:
        """The arguments of each call of attrd_updater so far."""
        path = self._bin / "attributes"
        return path.read_text().splitlines() if path.exists() else []

    def program(self, name: str, script: str) -> Path:
        """Put a shell script called `name` in front of PATH."""
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def without(self, name: str) -> None:
        """Make `name` a program that is not installed."""
        (self._bin / name).unlink(missing_ok=True)

    def run(
        self,
        agent: str,
        action: str,
        installation: Installation | Mapping[str, str],
        *,
        level: int = 0,
        timeout: float = 60.0,
        interval: int | None = None,
        whole_path: bool = True,
        instance: str = "mailman",
        node: str = "n1",
        state_dir: Path | None = None,
        before: Sequence[str] = (),
        **parameters: str,
    ) -> AgentRun:
        """Run one action; `timeout` (seconds) is told to the agent as Pacemaker tells it.

        A monitor is a recurring one unless `interval` is 0. `parameters` come on top of those of
        the installation; a parameter with the empty value is taken away. Without `whole_path` PATH
        has nothing but the test's own programs. `before` are words in front of the agent's path,
        of a program that executes it.
        """
        environ = self.environment(
            action, installation, level, timeout, interval, whole_path, instance, node, state_dir,
            parameters,
        )
        started = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                [*before, AGENTS / agent, action], env=environ, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, timeout=timeout + 30, check=False,
            )
            seconds = time.monotonic() - started
            out.seek(0)
            err.seek(0)
            return AgentRun(done.returncode, err.read().decode(), out.read().decode(), seconds)

    def environment(
        self,
        action: str,
        installation: Installation | Mapping[str, str],
        level: int = 0,
        timeout: float = 60.0,
        interval: int | None = None,
        whole_path: bool = True,
        instance: str = "mailman",
        node: str = "n1",
        state_dir: Path | None = None,
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, str]:
        """What Pacemaker hands an agent over; see run()."""
        if isinstance(installation, Installation):
            given = dict(installation.agent_parameters())
            names = {installation.host, socket.gethostname(), socket.getfqdn()}
            given["host_map"] = " ".join(f"n1={name}" for name in sorted(names))
        else:
            given = dict(installation)
        given.update(parameters)
        given = {name: value for name, value in given.items() if value}
        environ = {
            "PATH": f"{self._bin}:/usr/sbin:/usr/bin:/sbin:/bin" if whole_path else str(self._bin),
            "OCF_ROOT": "/usr/lib/ocf",
            "OCF_RA_VERSION_MAJOR": "1",
            "OCF_RA_VERSION_MINOR": "1",
            "OCF_RESOURCE_INSTANCE": instance,
            "HA_RSCTMP": str(state_dir or self.state_dir),
            "OCF_RESKEY_CRM_meta_timeout": str(int(timeout * 1000)),
            "OCF_RESKEY_CRM_meta_on_node": node,
            "OCF_RESKEY_crm_feature_set": "3.16.2",
            **{f"OCF_RESKEY_{name}": value for name, value in given.items()},
        }
        if action == "monitor":
            environ["OCF_RESKEY_CRM_meta_interval"] = str(10000 if interval is None else interval)
            environ["OCF_CHECK_LEVEL"] = str(level)
        return environ

    def master(self, action: str, installation: Installation | Mapping[str, str],
               **how: object) -> AgentRun:
        """Run mailman-master."""
        return self.run("mailman-master", action, installation, **how)  # type: ignore[arg-type]

    def janitor(self, action: str, installation: Installation | Mapping[str, str],
                **how: object) -> AgentRun:
        """Run list-lock-janitor."""
        return self.run("list-lock-janitor", action, installation, **how)  # type: ignore[arg-type]

    def slice(
        self,
        action: str,
        installation: Installation | Mapping[str, str],
        number: int = 0,
        count: int = 4,
        *,
        queue: str = "in",
        clone: bool = True,
        **how: object,
    ) -> AgentRun:
        """Run qfiles-slice for one slice, as an instance of a globally-unique clone or, without
        `clone`, as a resource of its own."""
        how = {**slice_options(number, count, queue, clone), **how}
        return self.run("qfiles-slice", action, installation, **how)  # type: ignore[arg-type]

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def slice_options(number: int, count: int, queue: str, clone: bool) -> dict[str, str]:
    """Instance and parameters of one slice, as Pacemaker gives them to a clone or a primitive."""
    if not clone:
        return {
            "instance": f"slice-{queue}-{number}", "slice": str(number), "slices": str(count),
            "queue": queue,
        }
    meta = {"clone": str(number), "clone_max": str(count), "clone_node_max": str(count),
            "globally_unique": "true"}
    return {
        "instance": f"slice-{queue}:{number}", "queue": queue,
        **{f"CRM_meta_{name}": value for name, value in meta.items()},
    }


def in_the_place_of_a_runner(installation: Installation, program: str) -> list[str]:
    """Put the Python `program` where 2.1's qrunner is; the command that runs it as a runner.

    Runners that run already are not changed by it.
    """
    path = Path(installation.agent_parameters()["prefix"]) / "bin" / "qrunner"
    replacement = path.with_name("qrunner.new")
    replacement.write_text(program)
    replacement.chmod(0o755)
    replacement.rename(path)
    return ["/usr/bin/python3", str(path), "--runner=IncomingRunner:0:1"]


def evidence(installation: Installation) -> list[dict[str, object]]:
    """The lines of the evidence log in the installation's quarantine."""
    log = installation.lock_dir / "mailman-ha.quarantine" / "evidence.jsonl"
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines()]


def identity(path: Path) -> tuple[int, int, int, bytes]:
    """What must not change of a file that is to be left alone."""
    status = os.lstat(path)
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, path.read_bytes()


@pytest.fixture(name="agents")
def agents_fixture() -> Iterator[Agents]:
    """Agents on node n1 of a two-node cluster, with a state directory of their own."""
    running = Agents()
    yield running
    running.close()
