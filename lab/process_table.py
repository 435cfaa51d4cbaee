"""The process tables of the nodes, seen from outside through the host's /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Process:
    """One process of a node. `pid` is the host's number for it, `inner_pid` the node's."""

    pid: int
    inner_pid: int
    parent: int
    session: int
    state: str
    command_line: tuple[str, ...]


def processes_of(inits: Mapping[str, int]) -> dict[str, list[Process]]:
    """The processes of each node, by node; `inits` gives the host pid of each node's init.

    Zombies and kernel threads have no command line and are included with an empty one.
    """
    namespaces: dict[str, str] = {}
    for node, init in inits.items():
        namespace = pid_namespace(str(init))
        if namespace:
            namespaces[namespace] = node
    tables: dict[str, list[Process]] = {node: [] for node in inits}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        home = namespaces.get(pid_namespace(entry) or "")
        process = process_of(entry) if home else None
        if home and process:
            tables[home].append(process)
    return {node: [one for one in table if not _went_meanwhile(one)]
            for node, table in tables.items()}


def _went_meanwhile(process: Process) -> bool:
    """Whether a session's leader ended while the others were read.

    The table is not of one moment: a master's starter that was read first, and its child that was
    read when the starter had gone, would look like two masters.
    """
    if process.session != process.pid or not process.command_line:
        return False
    again = process_of(str(process.pid))
    return again is None or not again.command_line


def pid_namespace(pid: str) -> str | None:
    """The pid namespace of a process, None when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def process_of(pid: str) -> Process | None:
    """Read one process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            status = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        with open(f"/proc/{pid}/status", "rb") as file:
            inner = next(line for line in file if line.startswith(b"NSpid:")).split()[-1]
    except (OSError, StopIteration):
        return None
    fields = status[status.rindex(b")") + 2 :].split()
    return Process(
        int(pid),
        int(inner),
        int(fields[1]),
        int(fields[3]),
        fields[0].decode(),
        tuple(word.decode("utf-8", "replace") for word in words),
    )


Roles = dict[str, dict[str, list[int]]]


def mailman_daemons(
    tables: Mapping[str, Sequence[Process]],
    role: Callable[[Sequence[str]], tuple[str, str] | None],
    with_workers: frozenset[str] = frozenset(),
) -> Roles:
    """node → 'master' or the runner's slice → inner pids, for every Mailman daemon there is.

    A child with its parent's command line is not counted: it is a fork that has not yet exec'ed,
    or a worker. Nor is a master's parent that looks like a master: it starts it. Runners in
    `with_workers` fork workers that may outlive them: of those one in a session counts, for a
    session is what one master started.
    """
    found: Roles = {}
    for node, table in tables.items():
        lines = {process.pid: process.command_line for process in table}
        counted: set[tuple[str, int]] = set()
        starters = {
            process.parent
            for process in table
            if process.session == process.pid
            and (role(process.command_line) or ("",))[0] == "master"
        }
        for process in table:
            known = role(process.command_line) if process.command_line else None
            if known is None or lines.get(process.parent) == process.command_line:
                continue
            kind, piece = known
            key = piece or kind
            if kind == "master" and (process.session != process.pid or process.pid in starters):
                continue  # mailmanctl itself, which may be refused; a master leads its session
            if key.split(":")[0] in with_workers:
                if (key, process.session) in counted:
                    continue
                counted.add((key, process.session))
            found.setdefault(node, {}).setdefault(key, []).append(process.inner_pid)
    return found
