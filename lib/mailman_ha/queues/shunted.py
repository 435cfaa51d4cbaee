"""Which queue a shunted message of Mailman 3 came from, read without trusting it.

A queue entry is two pickles, the message and its metadata (contract, section 5). Pickles run
code when they are loaded; here they are walked over and nothing is made of them.
"""

from __future__ import annotations

from mailman_ha.evidence import pickle_walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

#: Where a runner notes the queue that it puts a message aside from.
_CAME_FROM = "whichq"

#: No message is longer, and none has as many parts (bytes; opcodes, of which a walk takes some
#: million in a second).
GREATEST_STRING = 256 << 20
MOST_OPCODES = 500_000

_STRINGS = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE",
                      "BINUNICODE", "BINUNICODE8"))
_MEMO_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_MEMO_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))
_NO_OBJECT = frozenset(("PROTO", "FRAME", "MARK"))
_DICTIONARIES = frozenset(("EMPTY_DICT", "DICT"))


def came_from(entry: BinaryIO) -> str | None:
    """The name of the queue in the metadata of the shunted `entry`; None where there is none, or
    where it is no entry. Raises OSError where it cannot be read."""
    try:
        for _ in _opcodes(entry):
            pass
        return _named_in(_opcodes(entry))
    except OSError:
        raise
    except Exception:  # a pickle can be wrong in any way
        return None


def _opcodes(entry: BinaryIO) -> Iterator[tuple[str, Any]]:
    """One pickle's. Raises any exception where it is none, or too long."""
    for count, one in enumerate(pickle_walk.opcodes(entry, GREATEST_STRING)):
        if count >= MOST_OPCODES:
            raise ValueError("more opcodes than a message has")
        yield one


def _named_in(metadata: Iterator[tuple[str, Any]]) -> str | None:
    """The text that follows the text `whichq` in a dictionary that is written out."""
    memo: dict[int, str | None] = {}
    first = name = ""
    key = False
    found: str | None = None
    text: str | None = None
    for name, argument in metadata:
        if name in _NO_OBJECT:
            continue
        first = first or name
        if name == "MEMOIZE":
            memo[len(memo)] = text
            continue
        if name in _MEMO_PUT:
            memo[int(argument)] = text
            continue
        text = None
        if name in _STRINGS and isinstance(argument, str):
            text = argument
        elif name in _MEMO_GET:
            text = memo.get(int(argument))
        if text == _CAME_FROM:
            key = True
        elif key:
            found, key = text, False
    return found if first in _DICTIONARIES else None
