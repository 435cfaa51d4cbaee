"""The light monitor: is the remembered master alive, and is its claim file still the lock's?

Imports next to nothing, for it runs every few seconds on every node. Whatever is not plainly in
order is left to the full monitor.
"""

from __future__ import annotations

from mailman_ha.agents import held_claim
from mailman_ha.agents.mailman_master import state_file
from mailman_ha.evidence import process_identity
from mailman_ha.ocf import codes, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: Mapping[str, str], deadline: Deadline) -> int | None:
    """SUCCESS where the master that was last seen in good order still is; None: look closely."""
    state = state_file.read(
        state_file.path(
            environment.state_directory(environ), environment.instance(environ, "mailman-master")
        )
    )
    if state is None or not process_identity.is_alive(state.pid, state.started_ticks):
        return None
    deadline.doing(f"looking at the claim file {state.claim}")
    if held_claim.still_holds(state.claim, state.claim_inode, state.uid, state.gid):
        return codes.SUCCESS
    return None
