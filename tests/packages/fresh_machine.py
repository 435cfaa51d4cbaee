"""A machine on which nothing is installed yet, of a Debian suite, to install packages on.

Namespaces of its own with an overlay over the suite's bare image; all that is written goes to
memory. It ends, with every process and mount in it, when the test's process ends, however it ends.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.image import bare_image
from lab.node import children

# $1: image. Ends as process 1 of the machine, which reaps its orphans.
BOOT = """
set -e
mount -t tmpfs -o mode=755 none /mnt
cd /mnt
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$1,upperdir=upper,workdir=work" root
cd root
mount -t proc proc proc
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=755 none dev
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
cp /etc/resolv.conf etc/resolv.conf
hostname fresh
echo "127.0.0.1 localhost fresh.example.org fresh" > etc/hosts
pivot_root . .
umount -l .
exec chroot . sh -c 'echo booted; trap : CHLD; while :; do sleep 1000 & wait; done'
"""


class FreshMachine:
    """The machine while it runs. `init` is the pid of its process 1 as the host sees it."""

    def __init__(self, init: int) -> None:
        self.init = init

    def run(
        self, *command: str, check: bool = True, timeout: float = 300, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there; with `check`, AssertionError shows what it said when it fails."""
        variables = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive", "TERM": "dumb", **environ,
        }
        done = subprocess.run(
            [
                *("nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--pid"),
                *("env", "-i", *(f"{name}={value}" for name, value in variables.items())),
                *("timeout", "--kill-after=2", str(timeout), *command),
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, timeout=timeout + 15,
        )
        if check:
            assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
        return done

    def path(self, name: str) -> Path:
        """Where the host sees the machine's file of this absolute name."""
        return Path(f"/proc/{self.init}/root{name}")

    def put(self, source: Path, name: str) -> str:
        """Copy a file or directory to the machine, as `name`."""
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, self.path(name), ignore=ignore)
        else:
            shutil.copy(source, self.path(name))
        return name

    def files(self) -> set[str]:
        """The names of everything on it but what its kernel and the running of commands make."""
        apart = ["/proc", "/sys", "/dev", "/tmp"]
        pruned: Sequence[str] = [word for each in apart for word in ("-path", each, "-o")][:-1]
        found = self.run("find", "/", "(", *pruned, ")", "-prune", "-o", "-print").stdout
        return set(found.splitlines())


@contextmanager
def fresh_machine(suite: str) -> Iterator[FreshMachine]:
    """A fresh machine for the length of a with block."""
    image = bare_image(suite)
    machine = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--uts", "--ipc", "--pid"),
            *("--fork", "--kill-child=SIGKILL", "sh", "-c", BOOT, "sh", str(image)),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True,
    )
    try:
        assert machine.stdout is not None
        assert machine.stdout.readline() == "booted\n", "the fresh machine did not boot"
        (child,) = children(machine.pid)
        yield FreshMachine(child)
    finally:
        machine.send_signal(signal.SIGKILL)
        machine.wait()
