"""That the janitor is on duty here, and what its light monitor needs to know.

Lines of ``name=value`` in the state directory, which a reboot empties.
"""

from __future__ import annotations

import os

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
    return f"{state_dir}/list-lock-janitor-{instance.replace('/', '_')}.state"


def read(file_path: str) -> Duty | None:
    """The remembered duty; None where there is none, or none that can be understood."""
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
        return Duty(
            found["lock_dir"], found["format"], found["master_lock"], int(found["uid"]),
            int(found["gid"]), tuple(found["own_hosts"].split()),
        )
    except (KeyError, ValueError):
        return None


def write(file_path: str, duty: Duty) -> None:
    """Remember `duty`, whole or not at all."""
    text = (
        f"lock_dir={duty.lock_dir}\nformat={duty.format}\nmaster_lock={duty.master_lock}\n"
        f"uid={duty.uid}\ngid={duty.gid}\nown_hosts={' '.join(duty.own_hosts)}\n"
    )
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
