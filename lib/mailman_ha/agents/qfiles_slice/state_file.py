"""What the agent remembers of the runner it started, in a file that a reboot removes.

Lets a monitor ask one process and one claim file, lets `stop` know the runner with the share
gone, and tells mailman-master which runners on this node are not its own.
"""

from __future__ import annotations

import os

from mailman_ha.agents import state_lines
from mailman_ha.ocf.record import record

AGENT = "qfiles-slice"


@record
class SliceState:
    """The runner of one slice: its process, what it serves, and the claim file by which it holds
    the slice (`claim` is a path in `lock_dir`, `claim_inode` its inode)."""

    pid: int
    started_ticks: int
    uid: int
    gid: int
    claim: str
    claim_inode: int
    lock_dir: str
    queue: str
    runner: str
    slice: int
    slices: int

    @property
    def identity(self) -> tuple[int, int]:
        """What names the process for as long as the host is up."""
        return (self.pid, self.started_ticks)


_FIELDS = (
    "pid", "started_ticks", "uid", "gid", "claim", "claim_inode", "lock_dir", "queue", "runner",
    "slice", "slices",
)


def path(state_dir: str, instance: str) -> str:
    """Where the state of the resource `instance` is kept."""
    return state_lines.path(state_dir, AGENT, instance)


def read(file_path: str) -> SliceState | None:
    """The remembered state; None where there is none, or none that can be understood."""
    found = state_lines.read(file_path)
    if found is None:
        return None
    try:
        return SliceState(
            pid=state_lines.number(found["pid"]),
            started_ticks=state_lines.number(found["started_ticks"]),
            uid=state_lines.number(found["uid"], state_lines.GREATEST_ID),
            gid=state_lines.number(found["gid"], state_lines.GREATEST_ID),
            claim=found["claim"],
            claim_inode=state_lines.number(found["claim_inode"]),
            lock_dir=found["lock_dir"],
            queue=found["queue"],
            runner=found["runner"],
            slice=state_lines.number(found["slice"]),
            slices=state_lines.number(found["slices"]),
        )
    except (KeyError, ValueError):
        return None


def write(file_path: str, state: SliceState) -> None:
    """Remember `state`."""
    state_lines.write(file_path, {name: getattr(state, name) for name in _FIELDS})


def read_all(state_dir: str) -> tuple[SliceState, ...]:
    """The states of all slices that were started on this node; each may be long gone."""
    try:
        names = os.listdir(state_dir)
    except OSError:
        return ()
    found = (
        read(os.path.join(state_dir, name))
        for name in names
        if name.startswith(f"{AGENT}-") and name.endswith(".state")
    )
    return tuple(state for state in found if state is not None)
