"""That the janitor is on duty here, and what its light monitor needs to know."""

from __future__ import annotations

from mailman_ha.agents import state_lines
from mailman_ha.ocf.record import record


@record
class Duty:
    """`own_hosts` are the names under which Mailman on this very node signs its locks, each tied
    to the node; the light monitor knows no others."""

    lock_dir: str
    format: str
    master_lock: str
    uid: int
    gid: int
    own_hosts: tuple[str, ...]


def path(state_dir: str, instance: str) -> str:
    """Where the state of the resource `instance` is kept; a clone has one per node."""
    return state_lines.path(state_dir, "list-lock-janitor", instance)


def read(file_path: str) -> Duty | None:
    """The remembered duty; None where there is none, or none that can be understood."""
    found = state_lines.read(file_path)
    if found is None:
        return None
    try:
        return Duty(
            lock_dir=found["lock_dir"],
            format=found["format"],
            master_lock=found["master_lock"],
            uid=state_lines.number(found["uid"], state_lines.GREATEST_ID),
            gid=state_lines.number(found["gid"], state_lines.GREATEST_ID),
            own_hosts=tuple(found["own_hosts"].split()),
        )
    except (KeyError, ValueError):
        return None


def write(file_path: str, duty: Duty) -> None:
    """Remember `duty`."""
    state_lines.write(
        file_path,
        {
            "lock_dir": duty.lock_dir,
            "format": duty.format,
            "master_lock": duty.master_lock,
            "uid": duty.uid,
            "gid": duty.gid,
            "own_hosts": " ".join(duty.own_hosts),
        },
    )
