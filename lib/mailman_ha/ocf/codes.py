"""Exit codes of an action, named as OCF names them (OCF Resource Agent API 1.1, "Return Codes").

What Pacemaker does with them: 6 bans the resource from every node; 2, 4 and 5 from this node;
1 means recovery here.  Of a probe, 2 and 5 read as "not running", 1, 4 and 6 as a failure.
190 and 191 are running all the same: they are shown to the administrator, not recovered.
"""

from __future__ import annotations

SUCCESS = 0
ERR_GENERIC = 1
ERR_ARGS = 2
ERR_UNIMPLEMENTED = 3
ERR_PERM = 4
ERR_INSTALLED = 5
ERR_CONFIGURED = 6
NOT_RUNNING = 7
RUNNING_PROMOTED = 8
FAILED_PROMOTED = 9
DEGRADED = 190
DEGRADED_PROMOTED = 191

_WORDS = {
    SUCCESS: "running",
    ERR_GENERIC: "failed",
    ERR_ARGS: "wrong on this node",
    ERR_UNIMPLEMENTED: "not implemented",
    ERR_PERM: "not permitted",
    ERR_INSTALLED: "not installed",
    ERR_CONFIGURED: "wrongly configured",
    NOT_RUNNING: "not running",
    RUNNING_PROMOTED: "running as promoted",
    FAILED_PROMOTED: "failed as promoted",
    DEGRADED: "running, degraded",
    DEGRADED_PROMOTED: "running as promoted, degraded",
}


def status_words(code: int) -> str:
    """What a monitor's exit code says of the resource, in words for a person."""
    return _WORDS.get(code, f"in a state with the unknown code {code}")
