"""Telling the cluster numbers of this node, as transient node attributes.

Rules and dashboards read them (``crm_mon -A``). They live in pacemaker-attrd and in the CIB's
status section, and go with the node when it leaves the cluster. attrd_updater sets one at a time;
a value that attrd has already is not sent on, and costs what the program costs (some 10 ms).

Nothing here raises: no number is worth a failed monitor.
"""

from __future__ import annotations

import time

from mailman_ha.evidence import command
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM = "attrd_updater"

#: How long attrd waits for more changes of an attribute before it writes the CIB (its own format).
#: attrd takes it from the first update of a new attribute only.
DAMPENING = "5s"

#: Longer names and values are no numbers of ours (characters).
GREATEST_LENGTH = 255

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
#: No ``+``: attrd takes a value that ends in ``++``, or holds ``+=``, for a sum to be done.
_CHARACTERS = _LETTERS | frozenset("0123456789.-")


def publish(values: Mapping[str, str], seconds: float, delay: str = DAMPENING) -> str:
    """Set these attributes of this node, in at most `seconds` for all (a program that does not end
    is killed then, which may take `command.GRACE_AFTER_KILL` more). `delay` is in attrd's format.

    Returns an empty text, or one sentence on what went wrong; those after the first that could
    not be set are left as they are.
    """
    for name, value in values.items():
        if not _safe_value(value):
            return f"node attribute {escape(name, 80)} was not set: its value is no plain word"
    return _for_each(
        {name: (f"--update={value}", f"--delay={delay}") for name, value in values.items()},
        "set", seconds,
    )


def withdraw(names: Iterable[str], seconds: float) -> str:
    """Take these attributes of this node away; one that is not there is no error.

    As `publish` for the rest.
    """
    return _for_each(dict.fromkeys(names, ("--delete",)), "deleted", seconds)


def _for_each(orders: Mapping[str, tuple[str, ...]], done: str, seconds: float) -> str:
    for name in orders:
        if not _safe_name(name):
            return f"node attribute {escape(name, 80)} was not {done}: a name of ASCII letters, " \
                   "digits, '.', '-' and '_' is needed"
    give_up_at = time.monotonic() + seconds
    for name, options in orders.items():
        left = give_up_at - time.monotonic()
        if left <= 0:
            return f"node attribute {name} was not {done}: no time was left"
        result = command.run((PROGRAM, f"--name={name}", *options), left)
        if result.code != 0:
            return f"node attribute {name} was not {done}: {result.complaint()}"
    return ""


def _safe_name(name: str) -> bool:
    return name[:1] in _LETTERS and _safe_value(name)


def _safe_value(value: str) -> bool:
    return 0 < len(value) <= GREATEST_LENGTH and _CHARACTERS.issuperset(value)
