"""A two-way line between processes: whole pickled messages, with file descriptors where needed."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

#: A message that is longer than the socket takes would be a mistake of ours (bytes).
_GREATEST = 1 << 17

#: Nothing that is asked here takes this long, on the busiest machine (seconds).
PATIENCE = 60.0


class Ended(Exception):
    """The other end is gone: its process has died."""


class Line:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Line:
        return cls(socket.socket(fileno=descriptor))

    def tell(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send. Raises Ended."""
        try:
            socket.send_fds(self._end, [pickle.dumps(message)], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None

    def hear(self, seconds: float | None = None) -> tuple[Any, list[int]]:
        """Receive. Raises Ended, TimeoutError after so many seconds."""
        self._end.settimeout(seconds)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._end, _GREATEST, 1)
        except ConnectionResetError:
            raise Ended from None
        if not message:
            raise Ended
        return pickle.loads(message), list(descriptors)

    def ask(self, message: Any, descriptors: Sequence[int] = ()) -> Any:
        """Send, and receive the answer. Raises Ended, TimeoutError."""
        self.tell(message, descriptors)
        return self.hear(PATIENCE)[0]

    def close(self) -> None:
        self._end.close()


def pair() -> tuple[Line, int]:
    """A new line: our end, and the descriptor of the other one, which is the caller's to close."""
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = os.dup(other.fileno())
    other.close()
    return Line(ours), descriptor
