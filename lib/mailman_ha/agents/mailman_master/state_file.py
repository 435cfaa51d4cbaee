"""What the agent remembers of the master it started or found, in a file that a reboot removes.

Lets a monitor ask one process and one claim file instead of the whole host, and lets `stop` know
the master with the share gone. Lines of ``name=value``: JSON would cost a monitor as much as
starting Python (facts, section 8).
"""

from __future__ import annotations

import os

from mailman_ha.ocf.record import record

_FIELDS = ("pid", "started_ticks", "uid", "gid", "claim", "claim_inode", "lock_dir")


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
    return f"{state_dir}/mailman-master-{instance.replace('/', '_')}.state"


def read(file_path: str) -> MasterState | None:
    """The remembered state; None where there is none, or none that can be understood."""
    try:
        with open(file_path, "rb") as file:
            lines = file.read(16384).split(b"\n")
    except OSError:
        return None
    found = {}
    for line in lines:
        name, _, value = line.partition(b"=")
        found[name.decode("ascii", "replace")] = os.fsdecode(value)
    try:
        return MasterState(
            pid=int(found["pid"]),
            started_ticks=int(found["started_ticks"]),
            uid=int(found["uid"]),
            gid=int(found["gid"]),
            claim=found["claim"],
            claim_inode=int(found["claim_inode"]),
            lock_dir=found["lock_dir"],
        )
    except (KeyError, ValueError):
        return None


def write(file_path: str, state: MasterState) -> None:
    """Remember `state`, whole or not at all. Names with a newline are not remembered."""
    values = {name: getattr(state, name) for name in _FIELDS}
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    if text.count("\n") != len(values):
        forget(file_path)
        return
    partial = f"{file_path}.{os.getpid()}"
    with open(partial, "wb") as file:
        file.write(os.fsencode(text))
    os.replace(partial, file_path)


def forget(file_path: str) -> None:
    """Remove the state."""
    try:
        os.unlink(file_path)
    except FileNotFoundError:
        pass
