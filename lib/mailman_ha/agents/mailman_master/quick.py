"""The light monitor: is the remembered master alive, and is its claim file still the lock's?

Imports next to nothing, for it runs every few seconds on every node; so it takes the lines that
`state_file` wrote as they are. Whatever is not plainly in order is left to the full monitor.
"""

from mailman_ha.agents import state_lines
from mailman_ha.evidence import last_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: "Mapping[str, str]", deadline: "Deadline") -> bool:
    """Whether the master that was last seen in good order still is.

    Raises KeyError or ValueError where the state file cannot be understood.
    """
    state = state_lines.of_instance(environ, "mailman-master")
    if state is None or not last_seen.is_alive(int(state["pid"]), int(state["started_ticks"])):
        return False
    return last_seen.holds_to_the_end(
        state["claim"], int(state["claim_inode"]), int(state["uid"]), int(state["gid"]), deadline
    )
