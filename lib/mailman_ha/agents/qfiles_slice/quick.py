"""The light monitor: is the remembered runner alive, and is its claim file still the lock's?

Imports next to nothing, for it runs every few seconds for every slice. Whatever is not plainly in
order is left to the full monitor.
"""

from __future__ import annotations

from mailman_ha.agents import held_claim
from mailman_ha.agents.qfiles_slice import state_file
from mailman_ha.evidence import process_identity
from mailman_ha.ocf import codes, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: Mapping[str, str], deadline: Deadline) -> int | None:
    """SUCCESS where the runner that was last seen in good order still is; None: look closely."""
    state = state_file.read(
        state_file.path(
            environment.state_directory(environ), environment.instance(environ, state_file.AGENT)
        )
    )
    if state is None or not process_identity.is_alive(state.pid, state.started_ticks):
        return None
    if not _as_configured(state, environ):
        return None
    deadline.doing(f"looking at the claim file {state.claim}")
    if held_claim.still_holds(state.claim, state.claim_inode, state.uid, state.gid):
        return codes.SUCCESS
    return None


def _as_configured(state: state_file.SliceState, environ: Mapping[str, str]) -> bool:
    """Whether the runner serves the slice that the resource is configured for now."""
    number = environment.parameter(environ, "slice")
    count = environment.parameter(environ, "slices")
    if number is None and count is None:
        number = environ.get("OCF_RESKEY_CRM_meta_clone")
        count = environ.get("OCF_RESKEY_CRM_meta_clone_max")
    return (
        number == str(state.slice)
        and count == str(state.slices)
        and environment.parameter(environ, "queue") == state.queue
    )
