"""The file that node_exporter's textfile collector reads: written whole or not at all, removed.

Debian's directory for it lies in one that belongs to another user than root, so no name in it is
trusted: the directory itself is not reached through a link, and no file in it is ever opened but
one that we have just made.
"""

from __future__ import annotations

import os

#: The collector reads files that end in this, and no other.
SUFFIX = ".prom"

_PLACE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def path(directory: str, resource: str) -> str:
    """Where the metrics of `resource` are: a file of its own for each."""
    return os.path.join(directory, f"mailman-ha-{resource.replace('/', '_')}{SUFFIX}")


def write(file_path: str, content: bytes) -> None:
    """Put `content` in place in one step, readable for everybody. Raises OSError, and then what was
    there before is as it was."""
    directory, name = os.path.split(file_path)
    place = os.open(directory, _PLACE)
    try:
        partial = _partial(name)
        _unlink(partial, place)
        file = os.open(partial, _NEW, 0o600, dir_fd=place)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(content)
                os.fchmod(file, 0o644)  # Pacemaker's umask would leave 0640
            os.rename(partial, name, src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            _unlink(partial, place)
            raise
    finally:
        os.close(place)


def remove(file_path: str) -> None:
    """Remove the file, and what a writer that was killed left of the next one. Raises OSError."""
    directory, name = os.path.split(file_path)
    try:
        place = os.open(directory, _PLACE)
    except FileNotFoundError:
        return
    try:
        _unlink(name, place)
        _unlink(_partial(name), place)
    finally:
        os.close(place)


def _partial(name: str) -> str:
    """What the file is called until it is whole: one name, so that no remains pile up."""
    return f".{name}.new"


def _unlink(name: str, place: int) -> None:
    try:
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        pass
