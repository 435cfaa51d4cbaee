"""Half-finished saves of a list's configuration: found by name, judged whole or torn, finished.

A save writes ``config.pck.tmp.HOST.PID`` and renames it to ``config.pck`` (contract, section 4).
What a crash leaves is a temporary file, and with the older order of steps no ``config.pck`` at
all: ``config.pck.last`` then holds the state before. The files are pickles, and loading one runs
code: they are walked over, which executes nothing.
"""

from __future__ import annotations

import os
import stat

from mailman_ha.evidence import pickle_walk
from mailman_ha.locks import grammar
from mailman_ha.locks.grammar import Owner
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

CONFIG = "config.pck"
LAST = "config.pck.last"
PARTIAL = "config.pck.tmp."

#: A greater file is no list's configuration (bytes; a list of 100,000 members has some 20 MB).
GREATEST_CONFIG = 256 << 20

#: The longest string of a list's configuration (bytes).
GREATEST_STRING = 16 << 20

# What to do with a half-finished save.
LEAVE = "leave"
FINISH = "finish"
PUT_ASIDE = "put aside"


class OutOfTime(Exception):
    """The time was over before it was known what a half-finished save is."""


@record
class HalfSave:
    """A temporary file in the directory of one list. `list_name` names the list as its lock
    does; `has_config` is whether the list has a ``config.pck`` beside it."""

    directory: str
    list_name: str
    name: str
    writer: Owner
    has_config: bool


def find(lists_dir: str) -> Iterator[HalfSave]:
    """Every half-finished save under `lists_dir`, by names alone.

    Lists lie in ``lists_dir/NAME``, or with virtual hosts in ``lists_dir/DOMAIN/NAME`` (then the
    list is called ``NAME@DOMAIN``). Links are not followed. Raises OSError where `lists_dir`
    cannot be listed.
    """
    for name, path in _directories(lists_dir):
        inner, saves = _look(path, name)
        yield from saves
        for inner_name in inner:
            yield from _look(os.path.join(path, inner_name), f"{inner_name}@{name}")[1]


def _directories(path: str) -> Iterator[tuple[str, str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name, entry.path


def _look(path: str, list_name: str) -> tuple[list[str], list[HalfSave]]:
    inner = []
    partial = []
    has_config = False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(PARTIAL):
                    partial.append(entry.name)
                elif entry.name == CONFIG:
                    has_config = True
                elif entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
    except OSError:
        return [], []
    saves = []
    for name in partial:
        writer = writer_of(name)
        if writer is not None:
            saves.append(HalfSave(path, list_name, name, writer, has_config))
    return inner, saves


def writer_of(name: str) -> Owner | None:
    """Who wrote the temporary file called `name`; None where it is no such name."""
    if not name.startswith(PARTIAL):
        return None
    # The same form as a handed-over claim: HOST.PID after a known prefix.
    host, dot, pid = name[len(PARTIAL) :].rpartition(".")
    if not dot or not grammar.is_number(pid):
        return None
    readings = grammar.owners_of_claim(grammar.FORMAT_21, PARTIAL[:-1], name)
    for owner in readings:
        if owner.host == host:
            return owner
    return None


def judge(save: HalfSave, writer_is_dead: bool, newest: bool, whole: bool) -> str:
    """What to do with `save`: pure.

    A living or unproven writer's file is left. A dead writer's whole file is the list's state where
    no ``config.pck`` is there and it is `newest`; otherwise the save never took effect, and Mailman
    goes on from what is there.
    """
    if not writer_is_dead:
        return LEAVE
    if not save.has_config and newest and whole:
        return FINISH
    return PUT_ASIDE


def is_newest(directory: int, written_ns: int) -> bool:
    """Whether a save written at `written_ns` (mtime, nanoseconds) is no older than the list's
    ``config.pck.last``, or there is none. `directory` is the open directory of the list.

    What a process left that died long ago is older: Mailman removes no such file. Of two files of
    one moment, as of a file system that keeps whole seconds, the half-finished save is the newer:
    after its writer died the list's lock stood for longer than that, and nobody saved the list.
    Raises OSError.
    """
    last = _look_up(directory, LAST)
    return last is None or written_ns >= last.st_mtime_ns


def has_config(directory: int) -> bool:
    """Whether there is a ``config.pck``, or anything of that name, in the open directory of a list.
    Raises OSError."""
    return _look_up(directory, CONFIG) is not None


def _look_up(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whole(file: BinaryIO, go_on: Callable[[], bool]) -> bool:
    """Whether `file` is one complete pickle, up to its last byte; nothing of it is executed.

    `go_on` is asked now and then; False ends the walk. Raises OutOfTime then, and OSError where the
    file cannot be read: neither tells of a torn one.
    """
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= GREATEST_CONFIG:
        return False
    last = None
    try:
        for count, (last, _) in enumerate(pickle_walk.opcodes(file, GREATEST_STRING)):  # noqa: B007
            if count % 4096 == 0 and not go_on():
                raise OutOfTime
    except (OSError, OutOfTime):
        raise
    except Exception:  # a torn pickle can break the walk in any way
        return False
    return last == "STOP" and file.tell() == status.st_size


def finish(directory: int, save: HalfSave) -> bool:
    """Make the temporary file the list's ``config.pck``; False where one is there after all.

    link(2) never overwrites, so a configuration that appeared meanwhile is kept. `directory` is
    the open directory of the list.
    """
    try:
        os.link(
            save.name, CONFIG, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False
        )
    except FileExistsError:
        return False
    os.unlink(save.name, dir_fd=directory)
    return True
