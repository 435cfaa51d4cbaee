"""The lab itself: what it leaves when the test run is killed, and that labs do not meet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from lab.nfs.laboratory import CHECKOUT, NETWORK, NfsLab
from lab.node import children, read

from .conftest import OWNER, libraries

HOLDER = """
import sys
from pathlib import Path
from lab.nfs.laboratory import NfsLab
lab = NfsLab(Path(sys.argv[1]), (38, 38), clients=("n1",))
lab.__enter__()
print("up", flush=True)
sys.stdin.read()
"""


def descendants(pid: int) -> set[int]:
    found = set(children(pid))
    for child in tuple(found):
        found |= descendants(child)
    return found


def test_guests_die_with_the_test_run_that_is_killed() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(libraries())], cwd=CHECKOUT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "up\n"
        processes = descendants(holder.pid)
        kernels = [pid for pid in processes if b"linux.uml" in read(f"/proc/{pid}/cmdline")]
        assert len(kernels) > 2
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        deadline = time.monotonic() + 20.0
        while any(os.path.exists(f"/proc/{pid}") for pid in processes):
            assert time.monotonic() < deadline, processes
            time.sleep(0.05)
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdin.close()
        holder.stdout.close()


def test_second_lab_beside_the_first_is_another(lab: NfsLab) -> None:
    # Both have the same names and addresses, each on a switch of its own.
    lab.server.write("/tmp/mark", "the first")
    with NfsLab(libraries(), OWNER, clients=()) as second:
        done = second.server.run(["cat", "/tmp/mark"], check=False)
        assert done.code != 0
        # Out of the lab leads nothing: no route but to its own network.
        routes = second.server.run(["ip", "-4", "route"]).stdout.splitlines()
        assert [line.split()[0] for line in routes] == [f"{NETWORK}.0/24"]
    assert lab.server.run(["cat", "/tmp/mark"]).stdout == "the first"
