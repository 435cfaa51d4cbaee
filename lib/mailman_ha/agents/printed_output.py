"""What Mailman's daemons print, in a file of the state directory.

They keep the standard streams that they are started with for ever (facts, section 1), so those
must never be a pipe. What they say when they fail to start is worth a reason; what they say
afterwards nobody reads, so the file is kept small.
"""

from __future__ import annotations

import os

from mailman_ha.agents import state_lines
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call

#: Beyond this size (bytes) what was printed is dropped.
LIMIT = 1 << 20

#: How much of its end is read for the last lines (bytes).
_END = 1 << 16


def path(call: Call) -> str:
    """The file for what the daemons of this resource print."""
    agent_name = "qfiles-slice" if "queue" in call.parameters else "mailman-master"
    return state_lines.path(call.state_dir, agent_name, call.instance, "printed")


def said(printed: str, who: str, status: int | None) -> str:
    """The last lines in the file `printed` and the exit `status` of `who`, in one sentence."""
    try:
        with open(printed, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _END, 0))
            lines = file.read(_END).strip().splitlines()
    except OSError:
        lines = []
    text = " ".join(escape(line.strip(), 200) for line in lines[-3:] if line.strip())
    return f"{who} ended with status {status} and said " + (
        f"{text}" if text else "nothing; see Mailman's error log"
    )


def limit(call: Call) -> None:
    """Empty the file once it has grown beyond LIMIT."""
    try:
        if os.stat(path(call)).st_size > LIMIT:
            os.truncate(path(call), 0)
    except OSError:
        pass
