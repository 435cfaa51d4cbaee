"""The shared disk: an ext4 image on a loop device that lives no longer than its users.

The loop device is attached with autoclear and held by one open descriptor: when the supervisor
and the nodes are gone, however they went, the kernel detaches it. A lab cannot leak one.

One thing a power cut in the lab does not do: the kernel is the host's and goes on, so what a dead
node had written but not synced still reaches the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

# linux/loop.h
LOOP_SET_FD = 0x4C00
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LOOP_INFO64 = struct.Struct("=5Q4I64s64s32s2Q")


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
