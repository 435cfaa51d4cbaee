"""Process 1 of a node: makes /run, collects the log, starts the cluster, reaps orphans.

Called with `yes` or `no`: whether corosync and pacemakerd are to be started. As the packages' units
say, a pacemakerd that failed is started again after a second, and adopts the daemons it finds;
corosync is not: a cluster node that has lost it is for the others to fence.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TextIO

LOG = "/var/log/syslog"


def make_run_directories() -> None:
    """Make what tmpfiles.d asks for under /run, as systemd would at boot."""
    os.makedirs("/run/lock", exist_ok=True)
    for file in sorted(glob.glob("/usr/lib/tmpfiles.d/*.conf")):
        with open(file, encoding="utf-8") as lines:
            for line in lines:
                words = line.split()
                if len(words) >= 5 and words[0] == "d" and words[1].startswith("/run/"):
                    path, mode, user, group = words[1:5]
                    os.makedirs(path, exist_ok=True)
                    os.chmod(path, int(mode, 8) if mode != "-" else 0o755)
                    uid = pwd.getpwnam(user).pw_uid if user != "-" else 0
                    gid = grp.getgrnam(group).gr_gid if group != "-" else 0
                    os.chown(path, uid, gid)


def log_socket() -> socket.socket:
    """The socket syslog(3) writes to."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    receiver.setblocking(False)
    return receiver


def start(*command: str) -> subprocess.Popen[bytes]:
    """Start a service of the cluster in a session of its own."""
    with open("/var/log/" + os.path.basename(command[0]) + ".out", "ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def reap(log: TextIO) -> bool:
    """Collect every child that ended; say so when it was a service of the cluster. Whether
    pacemakerd failed beside a corosync that lives."""
    failed = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid == 0:
            return failed and "corosync" in SERVICES.values()
        if pid in SERVICES:
            name = SERVICES.pop(pid)
            log.write(f"init: {name} ended with status {status}\n")
            failed = failed or (name == "pacemakerd" and status not in ON_PURPOSE)


SERVICES: dict[int, str] = {}  # pid → name

# Wait statuses after which the unit leaves pacemakerd alone: 0, and exit status 100, which is its
# own for "do not start me again".
ON_PURPOSE = (0, 100 << 8)


def main() -> None:
    """Run the node until its power is cut."""
    os.umask(0o022)
    make_run_directories()
    receiver = log_socket()
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    with open(LOG, "a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
        waiting = [("corosync", "-f"), ("pacemakerd",)] if sys.argv[1] == "yes" else []
        not_before = 0.0
        while True:
            if (
                waiting
                and time.monotonic() >= not_before
                and (not SERVICES or corosync_answers())
            ):
                command = waiting.pop(0)
                SERVICES[start(*command).pid] = command[0]
            sources = [receiver.fileno(), wake_read]
            ready, _, _ = select.select(sources, [], [], 0.1 if waiting else None)
            if wake_read in ready:
                os.read(wake_read, 4096)
            if receiver.fileno() in ready:
                message = receiver.recv(65536).decode("utf-8", "backslashreplace")
                text = message.rstrip("\n\0")
                log.write(f"{time.time():.3f} {text}\n")
            if reap(log):
                waiting, not_before = [("pacemakerd",)], time.monotonic() + 1


def corosync_answers() -> bool:
    """Whether corosync takes connections, so that pacemakerd will not have to wait."""
    quiet = subprocess.DEVNULL
    command = ["corosync-cmapctl", "-g", "runtime.services.cpg.service_id"]
    return subprocess.call(command, stdin=quiet, stdout=quiet, stderr=quiet) == 0


main()
