"""The light monitor: is the remembered master alive, and is its claim file still the lock's?

Imports next to nothing, for it runs every few seconds on every node. Whatever is not plainly in
order is left to the full monitor.
"""

from __future__ import annotations

import os
import stat

from mailman_ha.agents.mailman_master import state_file
from mailman_ha.evidence import process_identity
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.ocf import codes, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: Mapping[str, str], deadline: Deadline) -> int | None:
    """SUCCESS where the master that was last seen in good order still is; None: look closely.

    Ownership is asked of the master's own claim file: opened and fstat'ed, it must still be the
    same inode with two links. That is right at once over NFS, where the lock file's name may be
    stale for 45 s (facts, section 6).
    """
    state = state_file.read(
        state_file.path(
            environment.state_directory(environ), environment.instance(environ, "mailman-master")
        )
    )
    if state is None or not process_identity.is_alive(state.pid, state.started_ticks):
        return None
    deadline.doing(f"looking at the claim file {state.claim}")
    try:
        with ActingAs(state.uid, state.gid):
            file = os.open(
                state.claim, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
            try:
                status = os.fstat(file)
            finally:
                os.close(file)
    except OSError:
        return None
    if (
        stat.S_ISREG(status.st_mode)
        and status.st_ino == state.claim_inode
        and status.st_nlink == 2
    ):
        return codes.SUCCESS
    return None
