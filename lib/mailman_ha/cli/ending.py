"""How a command ends: its exit status, and the two errors that are told in one sentence."""

from __future__ import annotations

FINE = 0
NEEDS_YOU = 1
USAGE = 2


class UsageError(Exception):
    """What was typed, or a file that it names, is wrong; ends with USAGE.

    The text names the thing, what is wrong with it, and the way out; names in it are escaped.
    """


class CannotDo(Exception):
    """The command could not do its work here; ends with NEEDS_YOU. The text says why, and the
    way out."""
