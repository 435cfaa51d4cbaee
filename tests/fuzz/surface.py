"""A surface: examples of foreign input, and what must hold for each of them, in bounded time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from mailman_ha.ocf.deadline import Deadline

#: What one example may take of the processor (seconds), at adversarial sizes too; the machine may
#: be busy with other things, so the clock on the wall says nothing.
BOUND = 1.0

#: An example that still runs then is broken off (seconds of the processor's).
BREAK_OFF = 10.0


@dataclass(frozen=True)
class Surface:
    """`examples` makes inputs and `holds` raises where one breaks what is promised: AssertionError,
    or whatever the library lets through.

    `decode` makes an example of the bytes that atheris has come to, beginning with `seeds` and
    with `words` as its dictionary; without it, they are the choices of `examples`. `count` is how
    many examples the tests play.
    """

    name: str
    examples: st.SearchStrategy[Any]
    holds: Callable[[Any], None]
    decode: Callable[[bytes], Any] | None = None
    seeds: tuple[bytes, ...] = ()
    words: tuple[bytes, ...] = ()
    count: int = 500
    bound: float = BOUND

    def check(self, example: Any) -> None:
        """Whether all that is promised holds for `example`."""
        with bounded(self.bound):
            self.holds(example)


def as_bytes(content: bytes) -> bytes:
    """Foreign bytes as they come."""
    return content


def as_text(content: bytes) -> str:
    """Foreign bytes that the library is given as text."""
    return content.decode("utf-8", "replace")


class TookTooLong(AssertionError):
    """The library spent more of the processor's time on one example than it may."""


@contextmanager
def bounded(seconds: float = BOUND) -> Iterator[None]:
    """Fail where the block takes more than `seconds` of the processor; break off what does not
    end."""

    def break_off(number: int, frame: object) -> None:
        raise TookTooLong(f"not done after {BREAK_OFF} s")

    main = threading.current_thread() is threading.main_thread()
    if main:
        before = signal.signal(signal.SIGVTALRM, break_off)
        signal.setitimer(signal.ITIMER_VIRTUAL, BREAK_OFF)
    began = time.thread_time()
    try:
        yield
    finally:
        took = time.thread_time() - began
        if main:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
    if took > seconds:
        raise TookTooLong(f"took {took:.2f} s")


def look_lightly(
    quick_monitor: Callable[[dict[str, str], Deadline], bool], environ: dict[str, str]
) -> None:
    """A light monitor settles it, or leaves it to the full one, as `ocf.runtime` has it."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    settled = False
    try:
        settled = quick_monitor(environ, Deadline(20))
    except (KeyError, ValueError, OverflowError, OSError):
        return
    finally:
        if settled:  # then the process would have ended
            os.seteuid(before[0])
            os.setegid(before[1])
            os.setgroups(before[2])
        assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    assert isinstance(settled, bool)


def is_harmless(text: str, limit: int = 0) -> bool:
    """Whether `text` is one line of printable ASCII, not longer than `limit` where one is given."""
    return text.isascii() and text.isprintable() and not (limit and len(text) > limit)


def mutated(*seeds: bytes, words: tuple[bytes, ...] = ()) -> st.SearchStrategy[bytes]:
    """Bytes near `seeds`: cut, joined, with `words` and garbage put in."""

    def change(seed: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
        for at, length, put in cuts:
            place = at % (len(seed) + 1)
            seed = seed[:place] + put + seed[place + length :]
        return seed

    put = st.one_of(st.binary(max_size=8), st.sampled_from(words) if words else st.just(b""))
    cut = st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), put)
    near = st.builds(change, st.sampled_from(seeds), st.lists(cut, max_size=6))
    return st.one_of(near, st.builds(bytes.__add__, near, near), st.binary(max_size=200))
