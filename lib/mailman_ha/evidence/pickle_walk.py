"""Walking over a pickle without loading it: nothing is executed, built or kept.

Pickles run code when they are loaded, and even one whose classes are all replaced can fill memory
(a memo of a thousand million places takes six bytes to ask for) or never end (the hash of a tuple
that holds itself twice, forty times over). So a pickle that somebody else may have written is only
ever walked over, opcode by opcode.
"""

from __future__ import annotations

import pickletools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

#: The longest number in decimal digits (bytes): a million of them take hours to convert before
#: Python 3.11.
GREATEST_NUMBER = 4096

#: Opcodes of pickle with a number in digits as argument.
_NUMBERS = frozenset((b"I", b"L", b"F", b"g", b"p"))


def opcodes(file: BinaryIO, greatest_string: int) -> Iterator[tuple[str, Any]]:
    """The name and argument of each opcode of one pickle, up to its STOP; `file` then stands behind
    it.

    A string of more than `greatest_string` bytes is refused before it is read. Raises any exception
    where this is no pickle: a torn one can break the walk in any way.
    """
    reader: Any = _Bounded(file, greatest_string)
    for opcode, argument, _ in pickletools.genops(reader):
        yield opcode.name, argument


class _Bounded:
    """A file as pickletools reads it, refusing what is too long."""

    def __init__(self, file: BinaryIO, greatest_string: int) -> None:
        self._file = file
        self._greatest_string = greatest_string
        self._last = b""

    def read(self, size: int) -> bytes:
        if size > self._greatest_string:
            raise ValueError("a string too long")
        self._last = self._file.read(size)
        return self._last

    def readline(self) -> bytes:
        # The byte read last is the opcode whose argument the line is.
        return self._file.readline(
            GREATEST_NUMBER if self._last in _NUMBERS else self._greatest_string
        )
