"""Run as the first process of a pid namespace with a /proc of its own: reuses pids and hides
processes, and prints as JSON what the code under test made of it.  For test_process_identity."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

from mailman_ha.agents import lock_evidence
from mailman_ha.evidence import process_identity, process_table
from mailman_ha.mailman.location import Location

SITE: Any = SimpleNamespace(location=Location("2.1", ("/srv/mm/bin",), prefix="/srv/mm"))
found: dict[str, Any] = {}


def sleeper(name: str = "sleep") -> subprocess.Popen[bytes]:
    return subprocess.Popen([name, "60"], executable="/bin/sleep", stdin=subprocess.DEVNULL)


def reuse(old: subprocess.Popen[bytes], name: str = "sleep") -> subprocess.Popen[bytes]:
    """End `old` and start another process under its pid."""
    old.kill()
    old.wait()
    time.sleep(0.03)  # starts are told apart by clock ticks of 10 ms
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(old.pid - 1))
    return sleeper(name)


def reused() -> None:
    old = sleeper()
    before = process_identity.read(old.pid)
    facts = lock_evidence.process_facts(old.pid, SITE)
    new = reuse(old)
    after = process_identity.read(new.pid)
    again = lock_evidence.process_facts(new.pid, SITE)
    found["reused"] = {
        "same_pid": new.pid == old.pid,
        "old_alive": process_identity.is_alive(before.pid, before.started_ticks),
        "new_alive": process_identity.is_alive(after.pid, after.started_ticks),
        "verdict_start_differs": again.started_at > facts.started_at + 0.02,
    }
    new.kill()
    new.wait()


def signalled(when: str) -> None:
    old = sleeper()
    stat = process_identity.read(old.pid)
    new: list[subprocess.Popen[bytes]] = []

    def change_hands() -> None:
        new.append(reuse(old))

    real_open = os.pidfd_open

    def pidfd_open(pid: int) -> int:
        if when == "while":
            change_hands()
        descriptor = real_open(pid)
        if when == "after":
            change_hands()
        return descriptor

    if when == "before":
        change_hands()
    os.pidfd_open = pidfd_open
    try:
        sent = process_table.send(stat, signal.SIGKILL)
    finally:
        os.pidfd_open = real_open
    time.sleep(0.05)
    found[f"signal {when}"] = {
        "same_pid": new[0].pid == old.pid, "sent": sent, "new_lives": new[0].poll() is None,
    }
    new[0].kill()
    new[0].wait()


def table() -> None:
    """The pid changes hands at each place where the table reads it."""
    halves = []
    same = True
    for place in range(3):
        old = sleeper("first")
        new: list[subprocess.Popen[bytes]] = []
        looks = iter(range(100))
        real_read, real_cmdline = process_identity.read, process_table.psutil.Process.cmdline

        def change_hands(pid: int, old: Any = old, new: Any = new) -> None:
            if pid == old.pid and not new:
                new.append(reuse(old, "second"))

        def read(pid: int, place: int = place, looks: Any = looks, old: Any = old,
                 real: Callable[..., Any] = real_read,
                 change: Callable[[int], None] = change_hands) -> Any:
            result = real(pid)
            if pid == old.pid and place == 0 and next(looks) == 0:
                change(pid)
            return result

        def cmdline(self: Any, place: int = place, real: Callable[..., Any] = real_cmdline,
                    change: Callable[[int], None] = change_hands) -> Any:
            if place == 1:
                change(self.pid)
            result = real(self)
            if place == 2:
                change(self.pid)
            return result

        process_identity.read, process_table.psutil.Process.cmdline = read, cmdline
        try:
            seen = [one for one in process_table.read_all() if one.pid == old.pid]
        finally:
            process_identity.read, process_table.psutil.Process.cmdline = real_read, real_cmdline
        same = same and bool(new) and new[0].pid == old.pid
        now = process_identity.read(old.pid)
        for one in seen:
            is_new = one.stat.started_ticks == now.started_ticks
            if is_new != (one.arguments[0] == "second"):
                halves.append([place, list(one.arguments)])
        for process in new:
            process.kill()
            process.wait()
    found["table"] = {"same_pid": same, "halves": halves}


def hidden(level: str) -> None:
    process = sleeper()
    subprocess.run(
        ["mount", "-o", f"remount,hidepid={level}", "proc", "/proc"], check=True,
        stdin=subprocess.DEVNULL,
    )
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        facts = lock_evidence.process_facts(process.pid, SITE)
        result = {
            "hidden": process_identity.read(process.pid) is None,
            "exists": process_identity.exists(process.pid),
            "facts_are_mailman": facts is not None and facts.is_mailman,
            "table_readable": os.getpid() in {one.pid for one in process_table.read_all()},
        }
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.waitpid(child, 0)
    result = json.loads(os.read(reading, 65536))
    seen = process_identity.read(process.pid)
    result["root_sees_it"] = seen is not None and not seen.ended
    found[f"hidepid {level}"] = result
    process.kill()
    process.wait()


def main() -> None:
    reused()
    for when in ("before", "while", "after"):
        signalled(when)
    table()
    for level in ("1", "2"):
        hidden(level)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
