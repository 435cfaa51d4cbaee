"""Shunted messages of Mailman 3: where they came from, read without trust, and their return.

A queue entry is two pickles, the message and its metadata (contract, section 5). Pickles run
code when they are loaded; here they are walked over and nothing is made of them.
"""

from __future__ import annotations

import os
import stat

from mailman_ha.evidence import pickle_walk
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

#: Where a runner notes the queue that it puts a message aside from, and whose message it is.
_CAME_FROM = "whichq"
_LIST_ID = "listid"

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


@record
class Origin:
    """The queue that a shunted message was put aside from, and its list; None where it does not
    say."""

    queue: str | None = None
    list_id: str | None = None


def origin(entry: BinaryIO) -> Origin:
    """What the metadata of the shunted `entry` says; nothing where it is no entry. Raises OSError
    where it cannot be read."""
    try:
        for _ in _opcodes(entry):
            pass
        named = _named_in(_opcodes(entry), (_CAME_FROM, _LIST_ID))
    except OSError:
        raise
    except Exception:  # a pickle can be wrong in any way
        return Origin()
    return Origin(named.get(_CAME_FROM), named.get(_LIST_ID))


def origin_of(path: str) -> Origin:
    """The origin of the shunted message in the file `path`; nothing where that is no file, or
    cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Origin()
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Origin()
        with open(descriptor, "rb", closefd=False) as file:
            return origin(file)
    except OSError:
        return Origin()
    finally:
        os.close(descriptor)


def put_back(path: str, directory: str, name: str) -> bool:
    """Move the message in `path` into the queue `directory` as `name`; False where the queue has
    an entry of that name, or another node has moved it meanwhile. Raises OSError."""
    target = os.path.join(directory, name)
    if os.path.lexists(target):
        return False
    try:
        os.rename(path, target)
    except FileNotFoundError:
        if not os.path.isdir(directory):
            raise
        return False
    return True


def _opcodes(entry: BinaryIO) -> Iterator[tuple[str, Any]]:
    """One pickle's. Raises any exception where it is none, or too long."""
    for count, one in enumerate(pickle_walk.opcodes(entry, GREATEST_STRING)):
        if count >= MOST_OPCODES:
            raise ValueError("more opcodes than a message has")
        yield one


def _named_in(
    metadata: Iterator[tuple[str, Any]], names: tuple[str, ...]
) -> dict[str, str | None]:
    """The texts that follow the texts `names` in a dictionary that is written out; None where
    something else does."""
    memo: dict[int, str | None] = {}
    first = ""
    key: str | None = None
    found: dict[str, str | None] = {}
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
        if text in names:
            key = text
        elif key is not None:
            found[key], key = text, None
    return found if first in _DICTIONARIES else {}
