"""What the nodes share: a disk for one node at a time, or a directory for all of them at once.

The disk is an ext4 image on a loop device that lives no longer than its users. The loop device is
attached with autoclear and held by one open descriptor: when the supervisor and the nodes are gone,
however they went, the kernel detaches it. A lab cannot leak one.

The directory is a file system in the host's memory that every node sees, in the place of an NFS
server: what a node has written is there for the others at once, and links and renames are atomic.

One thing a power cut in the lab does not do: the kernel is the host's and goes on, so what a dead
node had written but not synced still reaches the disk or the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Union

SHARED_DIRECTORY = "shared-directory"  # its name in the supervisor's private directory

# linux/loop.h
LOOP_SET_FD = 0x4C00
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LOOP_INFO64 = struct.Struct("=5Q4I64s64s32s2Q")


class SharedDirectory:
    """A directory of the host, on a tmpfs of its own, that all nodes see."""

    def __init__(self, path: Path, size: int = 1024 * 1024 * 1024) -> None:
        """Mount it at `path`, which is made; `size` bytes at most. CalledProcessError says why not.

        It goes with the mount namespaces that have it: the supervisor's and the nodes'.
        """
        self.path = path
        path.mkdir()
        options = f"mode=755,size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)

    @property
    def for_boot(self) -> str:
        """How boot.sh is told of it."""
        return f"directory:{self.path}"

    def format(self) -> None:
        """Empty it."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    @contextlib.contextmanager
    def opened(self, mount_point: Path) -> Iterator[Path]:
        """Where the supervisor may fill it."""
        yield self.path

    def in_use(self) -> bool:
        """Nobody holds it longer than a process of his lives, so no: ask whether nodes are on."""
        return False

    def mounted_by(self, pid: int) -> bool:
        """As for `in_use`: there is nothing that a node which is off could still hold."""
        return False

    def detach(self) -> None:
        """It goes with the supervisor's mounts."""


class SharedDisk:
    """An ext4 file system that one node at a time mounts from /dev/shared-disk."""

    def __init__(self, image: Path, size: int = 256 * 1024 * 1024) -> None:
        """Make the image file (sparse, `size` bytes) and attach it; OSError when that fails."""
        self.image = image
        with open(image, "wb") as file:
            file.truncate(size)
        self.descriptor, self.device = attach(image)
        number = os.fstat(self.descriptor).st_rdev
        self.major, self.minor = os.major(number), os.minor(number)

    def format(self) -> None:
        """Put an empty ext4 on it. CalledProcessError says why it could not."""
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,root_owner=0:0", self.device],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def for_boot(self) -> str:
        """How boot.sh is told of it."""
        return f"disk:{self.major}:{self.minor}"

    @contextlib.contextmanager
    def opened(self, mount_point: Path) -> Iterator[Path]:
        """Where the supervisor may fill it: mounted at mount_point, which is made."""
        mount_point.mkdir(exist_ok=True)
        mount = ["mount", "-t", "ext4", self.device, str(mount_point)]
        subprocess.run(mount, check=True, stdin=subprocess.DEVNULL)
        try:
            yield mount_point
        finally:
            subprocess.run(["umount", str(mount_point)], check=True, stdin=subprocess.DEVNULL)

    def in_use(self) -> bool:
        """Whether any mount namespace still has the file system mounted."""
        try:
            os.close(os.open(self.device, os.O_RDONLY | os.O_EXCL))
        except OSError as trouble:
            if trouble.errno == errno.EBUSY:
                return True
            raise
        return False

    def detach(self) -> None:
        """Let the loop device go and wait (at most 5 s) until the kernel has done it."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.descriptor, LOOP_CLR_FD)
        os.close(self.descriptor)
        backing = Path("/sys/block", os.path.basename(self.device), "loop/backing_file")
        deadline = time.monotonic() + 5
        while backing.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def mounted_by(self, pid: int) -> bool:
        """Whether the mount namespace of this process has it mounted."""
        wanted = f"{self.major}:{self.minor}"
        try:
            table = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return any(line.split()[2] == wanted for line in table.splitlines())


Store = Union[SharedDisk, SharedDirectory]


def attach(image: Path) -> tuple[int, str]:
    """Attach the file to a free loop device; gives the held descriptor and the device's path."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(50):
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            device = open_device(path)
            try:
                fcntl.ioctl(device, LOOP_SET_FD, backing)
                settings = LOOP_INFO64.pack(
                    0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, os.fsencode(image)[-63:], b"", b"",
                    0, 0,
                )  # fmt: skip
                fcntl.ioctl(device, LOOP_SET_STATUS64, settings)
                return device, path
            except OSError as trouble:
                os.close(device)
                if trouble.errno != errno.EBUSY:  # somebody else took this one
                    raise
        raise OSError(errno.EBUSY, "no free loop device in 50 tries")
    finally:
        os.close(backing)
        os.close(control)


def open_device(path: str) -> int:
    """Open a loop device; a new one appears in /dev a moment after the kernel made it."""
    for _ in range(100):
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            time.sleep(0.02)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)
