"""Shunted messages of Mailman 3: where they came from, read without trust, and their return.

A queue entry is two pickles, the message and its metadata (contract, section 5). Pickles run
code when they are loaded; here every class in them is replaced by one that does nothing.
"""

from __future__ import annotations

import os
import pickle

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

#: Where a runner notes the queue that it puts a message aside from, and whose message it is.
_CAME_FROM = "whichq"
_LIST_ID = "listid"


@record
class Origin:
    """The queue that a shunted message was put aside from, and its list; None where it does not
    say."""

    queue: str | None = None
    list_id: str | None = None


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


def origin(entry: BinaryIO) -> Origin:
    """What the metadata of the shunted `entry` says; nothing where it is no entry. Raises OSError
    where it cannot be read."""
    try:
        _Reader(entry).load()
        metadata = _Reader(entry).load()
    except OSError:
        raise
    except Exception:  # a pickle can be wrong in any way
        return Origin()
    if not isinstance(metadata, dict):
        return Origin()
    queue, list_id = metadata.get(_CAME_FROM), metadata.get(_LIST_ID)
    return Origin(
        queue if isinstance(queue, str) else None, list_id if isinstance(list_id, str) else None
    )


def origin_of(path: str) -> Origin:
    """The origin of the shunted message in the file `path`; nothing where that cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Origin()
    with open(descriptor, "rb") as file:
        return origin(file)


def put_back(path: str, directory: str, name: str) -> bool:
    """Move the message in `path` into the queue `directory` as `name`; False where the queue has
    an entry of that name. Raises OSError."""
    target = os.path.join(directory, name)
    if os.path.lexists(target):
        return False
    os.rename(path, target)
    return True
