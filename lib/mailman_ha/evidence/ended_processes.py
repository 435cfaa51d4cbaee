"""A node's own word that processes of Mailman's have ended there, for the other nodes.

Only the node itself can know whether a process of it lives. A `stop` that ends Mailman while the
share is gone cannot give up the locks; it says in a transient node attribute which processes have
ended, and when. A lock that was last touched before that, by one of them, is nobody's.
"""

from __future__ import annotations

from mailman_ha.evidence import node_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ATTRIBUTE = "mailman-ha-ended"

#: Told at once: the start on another node follows within the second.
_DELAY = "0"

_SEPARATOR = "_"


def publish(pids: Iterable[int], now: float, seconds: float) -> str:
    """Say that the processes `pids` of this node have ended by `now` (seconds since the epoch);
    takes at most `seconds`. Returns '' or one sentence on what went wrong."""
    value = f"{now:.3f}"
    for pid in sorted(pids):
        if len(value) + len(_SEPARATOR) + len(str(pid)) > node_attributes.GREATEST_LENGTH:
            break
        value += f"{_SEPARATOR}{pid}"
    return node_attributes.publish({ATTRIBUTE: value}, seconds, _DELAY)


def parse(value: str) -> tuple[float | None, frozenset[int]]:
    """When, and which pids; (None, none) where `value` is not what `publish` says."""
    when, *pids = value.split(_SEPARATOR)
    whole, _, fraction = when.partition(".")
    if not all(
        part.isascii() and part.isdigit() and len(part) <= 12 for part in (whole, fraction, *pids)
    ):
        return None, frozenset()
    return float(f"{whole}.{fraction}"), frozenset(map(int, pids))
