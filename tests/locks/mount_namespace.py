"""Doing something in a child with mounts of its own, which the kernel takes away with it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import traceback
from collections.abc import Callable

_CLONE_NEWNS = 0x00020000


def in_mount_namespace(work: Callable[[], object]) -> None:
    """Do `work` in a forked child; AssertionError with the child's traceback where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            mount("--make-rprivate", "/")
            work()
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        text = told.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"in the mount namespace:\n{text}"


def mount(*arguments: str) -> None:
    """mount(8)."""
    subprocess.run(
        ["mount", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True
    )
