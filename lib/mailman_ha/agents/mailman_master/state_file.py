"""What the agent remembers of the master it started or found, in a file that a reboot removes.

Lets a monitor ask one process and one claim file instead of the whole host, and lets `stop` know
the master with the share gone.
"""

from __future__ import annotations

from mailman_ha.agents import state_lines
from mailman_ha.ocf.record import record


@record
class MasterState:
    """The master as last seen in good order: its process, and the claim file by which it holds
    the lock (`claim` is a path in `lock_dir`, `claim_inode` its inode)."""

    pid: int
    started_ticks: int
    uid: int
    gid: int
    claim: str
    claim_inode: int
    lock_dir: str


def path(state_dir: str, instance: str) -> str:
    """Where the state of the resource `instance` is kept."""
    return state_lines.path(state_dir, "mailman-master", instance)


def read(file_path: str) -> MasterState | None:
    """The remembered state; None where there is none, or none that can be understood."""
    found = state_lines.read(file_path)
    if found is None:
        return None
    try:
        return MasterState(
            pid=state_lines.number(found["pid"]),
            started_ticks=state_lines.number(found["started_ticks"]),
            uid=state_lines.number(found["uid"], state_lines.GREATEST_ID),
            gid=state_lines.number(found["gid"], state_lines.GREATEST_ID),
            claim=found["claim"],
            claim_inode=state_lines.number(found["claim_inode"]),
            lock_dir=found["lock_dir"],
        )
    except (KeyError, ValueError):
        return None


def write(file_path: str, state: MasterState) -> None:
    """Remember `state`."""
    state_lines.write(
        file_path,
        {
            "pid": state.pid,
            "started_ticks": state.started_ticks,
            "uid": state.uid,
            "gid": state.gid,
            "claim": state.claim,
            "claim_inode": state.claim_inode,
            "lock_dir": state.lock_dir,
        },
    )
