"""Running mailman-ha as an operator does: the installed command, a process of the system's Python,
on a real lock directory, beside the cluster that tests.agents.agent_runs makes up.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import jsonschema

from tests.agents.agent_runs import Agents
from tests.installations import Installation

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SCHEMAS = CHECKOUT / "lib" / "mailman_ha" / "cli" / "schemas"
NOBODY = 65534

_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class CommandRun:
    """How the command ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        """The lines of stdout without colours."""
        return _ANSI.sub("", self.stdout).replace("\r\n", "\n").splitlines()

    @property
    def text(self) -> str:
        """Stdout without colours, each run of white space one blank."""
        return " ".join(" ".join(self.lines).split())

    @property
    def coloured(self) -> bool:
        return "\x1b[" in self.stdout

    def json(self, schema: str) -> dict[str, Any]:
        """Stdout as JSON, checked against a schema."""
        assert self.stdout, self.stderr
        content: dict[str, Any] = json.loads(self.stdout)
        check_schema(content, schema)
        return content

    def locks(self) -> dict[str, dict[str, Any]]:
        """The locks of `locks --json` by name."""
        return {one["name"]: one for one in self.json("locks")["locks"]}


def check_schema(content: object, schema: str) -> None:
    text = json.loads((SCHEMAS / f"{schema}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    jsonschema.Draft202012Validator(text).validate(content)


def resource_xml(agent: str, name: str, **parameters: str) -> str:
    """A primitive of the CIB."""
    pairs = "".join(
        f'<nvpair id="{name}-{key}" name="{key}" value={quoteattr(value)}/>'
        for key, value in parameters.items() if value
    )
    return (
        f'<primitive id="{name}" class="ocf" provider="mailman" type="{agent}">'
        f'<instance_attributes id="{name}-ia">{pairs}</instance_attributes></primitive>'
    )


def slices_xml(name: str, count: int, disabled: bool = False, **parameters: str) -> str:
    """A globally-unique clone of qfiles-slice."""
    meta = {
        "globally-unique": "true", "clone-max": str(count), "clone-node-max": str(count),
        **({"target-role": "Stopped"} if disabled else {}),
    }
    pairs = "".join(
        f'<nvpair id="{name}-m-{key}" name="{key}" value="{value}"/>'
        for key, value in meta.items()
    )
    return (
        f'<clone id="{name}-clone"><meta_attributes id="{name}-m">{pairs}</meta_attributes>'
        + resource_xml("qfiles-slice", name, **parameters) + "</clone>"
    )


class Operator:
    """Somebody at the shell of node n1, whose cluster has a janitor for the installation."""

    def __init__(self, agents: Agents, installation: Installation, command: Path) -> None:
        self.agents = agents
        self.installation = installation
        self.command = command
        self.bin = agents.program("crm_node", "echo n1").parent
        self.configure()

    def parameters(self, **more: str) -> dict[str, str]:
        """Parameters of a resource for the installation."""
        here = {self.installation.host, socket.gethostname(), socket.getfqdn()}
        return {
            **self.installation.agent_parameters(),
            "host_map": " ".join(f"n1={name}" for name in sorted(here)),
            **more,
        }

    def configure(self, besides: str = "", **parameters: str) -> None:
        """Give the cluster a janitor with these parameters, and other resources."""
        self.agents.resources(
            resource_xml("list-lock-janitor", "mailman-janitor", **self.parameters(**parameters))
            + besides
        )

    def options(self, **more: str) -> list[str]:
        """The options that say the same as the janitor's parameters."""
        return [
            f"--{name.replace('_', '-')}={value}"
            for name, value in self.parameters(**more).items() if value
        ]

    def cluster_down(self) -> None:
        """Neither crm_mon nor cibadmin nor crm_node answers."""
        for name in ("crm_mon", "cibadmin", "crm_node"):
            self.agents.program(name, f'echo "{name}: Connection refused" >&2; exit 1')

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HA_RSCTMP": str(self.agents.state_dir), "HA_LOGFACILITY": "none",
            "LANG": "C.UTF-8", **(more or {}),
        }

    def run(
        self,
        *words: str | bytes,
        uid: int | None = None,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> CommandRun:
        """Run the command with its output in pipes, as `uid` where given."""
        identity: dict[str, Any] = {}
        if uid is not None:
            identity = {"user": uid, "group": uid if uid == NOBODY else self.installation.gid,
                        "extra_groups": []}
        started = time.monotonic()
        done = subprocess.run(
            [*before, self.command, *words], env=self.environment(environment), cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=False, **identity,
        )
        return CommandRun(
            done.returncode, done.stdout.decode(), done.stderr.decode(),
            time.monotonic() - started,
        )

    def on_terminal(
        self, *words: str, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> CommandRun:
        """Run the command on a terminal; stdout and stderr come out of it as one."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        given = {"TERM": "xterm-256color", "COLUMNS": str(columns), **(environment or {})}
        process = subprocess.Popen(
            [self.command, *words], env=self.environment(given), cwd="/", stdin=slave,
            stdout=slave, stderr=slave, start_new_session=True,
        )
        os.close(slave)
        read = bytearray()
        try:
            while True:
                if not select.select([master], [], [], 100)[0]:
                    raise TimeoutError("the command says nothing")
                try:
                    piece = os.read(master, 65536)
                except OSError:  # how a terminal ends
                    break
                if not piece:
                    break
                read += piece
        finally:
            os.close(master)
        return CommandRun(process.wait(30), read.decode(), "")
