"""A directory of a test run's own that other users may enter, unlike pytest's.

Whose it is has a lock of the kernel's on it, so that what a killed run has left is told from what a
run in other namespaces of processes uses just now.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK = Path(tempfile.gettempdir())

#: For very many small files. Programs may not be allowed to run from there.
MEMORY = Path("/dev/shm") if os.path.isdir("/dev/shm") else DISK


@contextmanager
def private_directory(
    prefix: str, parent: Path = MEMORY, lenient: bool = False
) -> Iterator[Path]:
    """A directory that everybody may enter, whose name begins with `prefix`; those of killed runs
    are removed first. `lenient`: processes may still be at work in it when it is removed."""
    with _opened(parent) as others:
        fcntl.flock(others, fcntl.LOCK_EX)  # nobody looks at a directory that is just being made
        for left in parent.glob(f"{prefix}*"):
            if _is_left(left):
                shutil.rmtree(left, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        place.chmod(0o755)
        own = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(own, fcntl.LOCK_EX)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=lenient)
        os.close(own)


def _is_left(place: Path) -> bool:
    """Whether nobody uses it any more."""
    try:
        with _opened(place) as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is used, or gone
        return False
    return True


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
