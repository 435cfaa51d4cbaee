"""What the agents are measured in: installed as `make install` does, beside a Mailman in order."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailman_ha.agents.list_lock_janitor import state_file as janitor_state
from mailman_ha.agents.mailman_master import state_file as master_state
from mailman_ha.agents.qfiles_slice import state_file as slice_state
from mailman_ha.evidence import process_identity

from bench.measuring import PATH, Program

CHECKOUT = Path(__file__).resolve().parent.parent
AGENTS = ("mailman-master", "qfiles-slice", "list-lock-janitor")


def environment_of(instance: str, state_dir: Path) -> dict[str, str]:
    """What Pacemaker gives a recurring monitor."""
    return {
        "PATH": PATH, "OCF_ROOT": "/usr/lib/ocf", "OCF_RESOURCE_INSTANCE": instance,
        "OCF_RA_VERSION_MAJOR": "1", "HA_RSCTMP": str(state_dir), "OCF_CHECK_LEVEL": "0",
        "OCF_RESKEY_CRM_meta_interval": "10000", "OCF_RESKEY_CRM_meta_timeout": "20000",
    }


def installed_agents(top: Path) -> Path:
    """Install agents and library below `top`, byte-compiled; the directory of the agents."""
    subprocess.run(
        ["make", "-s", "-C", str(CHECKOUT), "install", f"PREFIX={top}/usr",
         f"OCF_ROOT={top}/ocf", "DESTDIR="],
        check=True, stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    )
    return top / "ocf" / "resource.d" / "mailman"


@contextmanager
def in_memory(directory: Path) -> Iterator[Path]:
    """A tmpfs over `directory`, of the same owner, until the block ends.

    For how cost grows: a disk's journal grows in steps of its own, and would be taken for ours.
    """
    status = directory.stat()
    options = f"mode={status.st_mode & 0o7777:o},uid={status.st_uid},gid={status.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


class LockDirectory:
    """A directory of Mailman 3's locks, for a user who is not root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.user = pwd.getpwnam("nobody")
        path.mkdir()
        os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def hold(self, name: str, host: str, pid: int) -> Path:
        """Make a lock that `pid` on `host` holds; its claim file."""
        claim = self.path / f"{name}|{host}|{pid}|1"
        claim.write_text(str(claim))
        os.link(claim, self.path / name)
        ahead = time.time() + 30 * 3600
        os.utime(claim, (ahead, ahead))
        return claim

    def fill(self, count: int, host: str, pid: int) -> None:
        """Make `count` locks of lists that `pid` on `host` holds."""
        for number in range(count):
            self.hold(f"list{number:06d}.lock", host, pid)


@contextmanager
def mailman_in_order(directory: Path, agents: Path, locks: int = 0) -> Iterator[dict[str, Program]]:
    """The agents' monitors, by name, of a Mailman that is in order: a living process holds the
    master lock, and `locks` more."""
    directory.mkdir()
    directory.chmod(0o755)
    held = LockDirectory(directory / "locks")
    uid, gid = held.user.pw_uid, held.user.pw_gid
    with subprocess.Popen(["sleep", "3600"]) as master:
        try:
            stat = process_identity.read(master.pid)
            assert stat is not None
            host = socket.gethostname()
            # A lock that was touched in the tick in which its holder began might be another's.
            time.sleep(0.05)
            claim = held.hold("master.lck", host, master.pid)
            held.fill(locks, host, master.pid)
            seen = (
                master.pid, stat.started_ticks, uid, gid, str(claim), claim.stat().st_ino,
                str(held.path),
            )
            state_dir = str(directory)
            master_state.write(
                master_state.path(state_dir, "bench"), master_state.MasterState(*seen)
            )
            slice_state.write(
                slice_state.path(state_dir, "bench"),
                slice_state.SliceState(*seen, "in", "in", 0, 4),
            )
            janitor_state.write(
                janitor_state.path(state_dir, "bench"),
                janitor_state.Duty(str(held.path), "3", "master.lck", uid, gid, (host,)),
            )
            environment = {
                **environment_of("bench", directory),
                "OCF_RESKEY_queue": "in", "OCF_RESKEY_slice": "0", "OCF_RESKEY_slices": "4",
            }
            yield {
                name: Program([str(agents / name), "monitor"], environment) for name in AGENTS
            }
        finally:
            master.kill()
