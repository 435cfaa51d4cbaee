"""Which queue a shunted message of Mailman 3 came from, read without trusting it.

A queue entry is two pickles, the message and its metadata (contract, section 5). Pickles run
code when they are loaded; here every class in them is replaced by one that does nothing.
"""

from __future__ import annotations

import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

#: Where a runner notes the queue that it puts a message aside from.
_CAME_FROM = "whichq"


class _Inert:
    """Stands for any class; takes whatever a pickle gives it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """What a pickled list calls."""

    extend = add = append


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        return _Inert


def came_from(entry: BinaryIO) -> str | None:
    """The name of the queue in the metadata of the shunted `entry`; None where there is none, or
    where it is no entry. Raises OSError where it cannot be read."""
    try:
        _Reader(entry).load()
        metadata = _Reader(entry).load()
    except OSError:
        raise
    except Exception:  # a pickle can be wrong in any way
        return None
    queue = metadata.get(_CAME_FROM) if isinstance(metadata, dict) else None
    return queue if isinstance(queue, str) else None
