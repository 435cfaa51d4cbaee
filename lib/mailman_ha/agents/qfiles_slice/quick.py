"""The light monitor: is the remembered runner alive, and is its claim file still the lock's?

Imports next to nothing, for it runs every few seconds for every slice; so it takes the lines that
`state_file` wrote as they are. Whatever is not plainly in order is left to the full monitor.
"""

from mailman_ha.agents import state_lines
from mailman_ha.evidence import last_seen
from mailman_ha.ocf import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: "Mapping[str, str]", deadline: "Deadline") -> bool:
    """Whether the runner that was last seen in good order still is, and serves this slice.

    Raises KeyError or ValueError where the state file cannot be understood.
    """
    state = state_lines.of_instance(environ, "qfiles-slice")
    if state is None or not last_seen.is_alive(int(state["pid"]), int(state["started_ticks"])):
        return False
    if not _as_configured(state, environ):
        return False
    return last_seen.holds_to_the_end(
        state["claim"], int(state["claim_inode"]), int(state["uid"]), int(state["gid"]), deadline
    )


def _as_configured(state: "Mapping[str, str]", environ: "Mapping[str, str]") -> bool:
    """Whether the runner serves the slice that the resource is configured for now."""
    number = environment.parameter(environ, "slice")
    count = environment.parameter(environ, "slices")
    if number is None and count is None:
        number = environ.get("OCF_RESKEY_CRM_meta_clone")
        count = environ.get("OCF_RESKEY_CRM_meta_clone_max")
    return (
        number == state["slice"]
        and count == state["slices"]
        and environment.parameter(environ, "queue") == state["queue"]
    )
