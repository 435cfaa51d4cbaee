"""Measure the suite's cost: `make bench`.  Ends with status 1 where a limit is broken.

Whole processes are timed from outside, each in turn with what it is compared to (A B A B …), and
the median of the pairs' ratios counts: so a machine that changes its speed changes both sides.
Needs root, the system's Python with psutil, and resource-agents for the comparison with IPaddr2
and Filesystem.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "lib"))

from mailman_ha.agents.list_lock_janitor import state_file as janitor_state  # noqa: E402
from mailman_ha.agents.mailman_master import state_file as master_state  # noqa: E402
from mailman_ha.agents.qfiles_slice import state_file as slice_state  # noqa: E402
from mailman_ha.evidence import process_identity  # noqa: E402

BARE = ("/usr/bin/python3", "-I", "-S", "-c", "pass")
HEARTBEAT = Path("/usr/lib/ocf/resource.d/heartbeat")
LOCKS = 100_000
ENTRIES = 1_000_000
SLICES = 8
ROUNDS = 25
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Compared:
    """A compared to B over all rounds: the medians of each (seconds, or bytes), and the median of
    the ratios."""

    one: float
    other: float
    ratio: float


def run(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long `command` takes, in seconds. RuntimeError where it does not end with status 0."""
    before = time.perf_counter()
    pid = os.posix_spawn(
        command[0], command, environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ],
    )
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - before
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds


def peak_memory(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """The greatest resident size of `command`, in bytes.

    Asked from time(1), itself small: a process starts with its parent's size as its own peak, so
    a measuring program in Python would see itself.
    """
    done = subprocess.run(
        ["/usr/bin/time", "-q", "-f", "%M", *command], env=dict(environment),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True,
    )
    return int(done.stderr.split()[-1]) * 1024


def compare(
    command: Sequence[str], other: Sequence[str], environment: Mapping[str, str],
    rounds: int = ROUNDS, other_environment: Mapping[str, str] | None = None,
    measure: Callable[[Sequence[str], Mapping[str, str]], float] = run,
    allowing: Callable[[float], float] = float,
) -> Compared:
    """Measure `command` against `other`, in turn, after one round that does not count.

    `allowing` makes of what `other` took what `command` may take, where that is no multiple of it.
    """
    pairs = []
    for number in range(rounds + 1):
        one = measure(command, environment)
        two = allowing(measure(other, other_environment or environment))
        if number:
            pairs.append((one, two))
    return Compared(
        statistics.median(one for one, _ in pairs),
        statistics.median(two for _, two in pairs),
        statistics.median(one / two for one, two in pairs),
    )


def environment_of(instance: str, state_dir: Path) -> dict[str, str]:
    """What Pacemaker gives a recurring monitor."""
    return {
        "PATH": PATH, "OCF_ROOT": "/usr/lib/ocf", "OCF_RESOURCE_INSTANCE": instance,
        "OCF_RA_VERSION_MAJOR": "1", "HA_RSCTMP": str(state_dir), "OCF_CHECK_LEVEL": "0",
        "OCF_RESKEY_CRM_meta_interval": "10000", "OCF_RESKEY_CRM_meta_timeout": "20000",
    }


@contextmanager
def healthy(directory: Path) -> Iterator[dict[str, str]]:
    """The agents' view of a Mailman in good order: a living process that holds a real lock."""
    locks = directory / "locks"
    locks.mkdir()
    user = pwd.getpwnam("nobody")
    os.chown(locks, user.pw_uid, user.pw_gid)
    with subprocess.Popen(["sleep", "600"]) as master:
        try:
            stat = process_identity.read(master.pid)
            assert stat is not None
            host = socket.gethostname()
            claim = locks / f"master.lck|{host}|{master.pid}|1"
            claim.write_text(str(claim))
            os.link(claim, locks / "master.lck")
            ahead = time.time() + 30 * 3600
            os.utime(claim, (ahead, ahead))
            master_state.write(
                master_state.path(str(directory), "bench"),
                master_state.MasterState(
                    master.pid, stat.started_ticks, user.pw_uid, user.pw_gid, str(claim),
                    claim.stat().st_ino, str(locks),
                ),
            )
            janitor_state.write(
                janitor_state.path(str(directory), "bench"),
                janitor_state.Duty(
                    str(locks), "3", "master.lck", user.pw_uid, user.pw_gid, (host,)
                ),
            )
            slice_state.write(
                slice_state.path(str(directory), "bench"),
                slice_state.SliceState(
                    master.pid, stat.started_ticks, user.pw_uid, user.pw_gid, str(claim),
                    claim.stat().st_ino, str(locks), "in", "in", 0, 4,
                ),
            )
            given = {"queue": "in", "slice": "0", "slices": "4"}
            yield {
                **environment_of("bench", directory),
                **{f"OCF_RESKEY_{name}": value for name, value in given.items()},
            }
        finally:
            master.kill()


@contextmanager
def heartbeat_agents(directory: Path) -> Iterator[dict[str, dict[str, str]]]:
    """Real resources for IPaddr2 (an address of the loopback device) and Filesystem (a tmpfs)."""
    mount = directory / "mount"
    mount.mkdir()
    base = environment_of("bench-heartbeat", directory)
    given = {
        "IPaddr2": {"ip": "127.8.7.6", "cidr_netmask": "32", "nic": "lo"},
        "Filesystem": {"device": "tmpfs", "directory": str(mount), "fstype": "tmpfs"},
    }
    environments = {
        name: {**base, **{f"OCF_RESKEY_{key}": value for key, value in parameters.items()}}
        for name, parameters in given.items()
    }
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mount)], check=True)
    subprocess.run(["ip", "address", "add", "127.8.7.6/32", "dev", "lo"], check=True)
    try:
        yield environments
    finally:
        subprocess.run(["ip", "address", "del", "127.8.7.6/32", "dev", "lo"], check=False)
        subprocess.run(["umount", str(mount)], check=False)


SWEEP = """
import sys
sys.path.insert(0, sys.argv[1])
from mailman_ha.locks import directory, verdict
from mailman_ha.locks.verdict import Evidence, HostFacts
listing = directory.read(sys.argv[2], "3", "master.lck")
evidence = Evidence(
    {"n2": HostFacts(verdict.NODE, "n2", online=False, unclean=True)}, {}, 0.0, 0.0
)
for lock in listing.locks:
    for owner in lock.owners:
        verdict.judge_owner(owner, float("inf"), evidence)
"""


def fill(directory: Path, kind: str) -> None:
    """LOCKS files: strangers' files, or pairs of lock and claim of a lost node."""
    directory.mkdir()
    if kind == "strangers":
        for number in range(LOCKS):
            (directory / f"file{number:06d}").touch()
        return
    for number in range(LOCKS // 2):
        claim = directory / f"list{number:06d}.lock|n2|4242|{number}"
        claim.touch()
        os.link(claim, directory / f"list{number:06d}.lock")


DEPTH = """
import sys
sys.path.insert(0, sys.argv[1])
from mailman_ha.queues import entries
seen = entries.backlogs(sys.argv[2], int(sys.argv[3]))
found = sum(one.waiting for one in seen), sum(one.in_work for one in seen)
oldest = min(one.oldest for one in seen)
if found != (int(sys.argv[4]), int(sys.argv[5])) or oldest != 1700000000.0:
    sys.exit(f"{found} entries, the oldest {oldest}")
"""


def fill_queue(directory: Path, names: int) -> tuple[int, int]:
    """Make `names` names: of each 100 of them 80 wait, 17 are in work and 3 are no entries'.

    Answers how many wait and how many are in work. All are links to a few files: a listing does not
    see the difference, and a million files are made and removed sooner.
    """
    directory.mkdir()
    counts = {"pck": 0, "bak": 0, "psv": 0}
    for number in range(names):
        part = number % 100
        extension = "pck" if part < 80 else "bak" if part < 97 else "psv"
        counts[extension] += 1
        digest = sha1(b"%d" % number).hexdigest()
        name = directory / f"{1_700_000_000 + number / 64!r}+{digest}.{extension}"
        if number % 50_000 == 0:
            name.touch()
            linked = name
        else:
            os.link(linked, name)
    return counts["pck"], counts["bak"]


def main() -> int:
    broken = 0
    rows = []

    def row(what: str, compared: Compared, limit: float, unit: float = 0.001) -> None:
        nonlocal broken
        verdict = "ok" if compared.ratio <= limit else "BROKEN"
        broken += compared.ratio > limit
        rows.append(
            (what, f"{compared.one / unit:9.1f}", f"{compared.other / unit:9.1f}",
             f"{compared.ratio:6.2f}", f"{limit:5.1f}", verdict)
        )

    agents = CHECKOUT / "agents"
    # Ended from outside, it still removes what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    top = Path(tempfile.mkdtemp(prefix="mailman-ha-bench-"))
    top.chmod(0o755)
    try:
        with healthy(top) as environment:
            for name in ("mailman-master", "qfiles-slice", "list-lock-janitor"):
                command = [str(agents / name), "monitor"]
                row(f"{name} monitor / bare python, ms", compare(command, BARE, environment), 1.6)
                row(f"{name} monitor / bare python, MiB",
                    compare(command, BARE, environment, 5, measure=peak_memory), 1.5, 1 << 20)
                if HEARTBEAT.is_dir():
                    with heartbeat_agents(top) as others:
                        for other, its in others.items():
                            row(
                                f"{name} monitor / {other} monitor, ms",
                                compare(command, [str(HEARTBEAT / other), "monitor"], environment,
                                        10, its),
                                1.0,
                            )
                    (top / "mount").rmdir()
        for kind in ("strangers", "pairs"):
            directory = top / kind
            fill(directory, kind)
            find = ["/usr/bin/find", str(directory), "-printf", "%i %n %T@\\n"]
            sweep = ["/usr/bin/python3", "-I", "-S", "-c", SWEEP, str(CHECKOUT / "lib"),
                     str(directory)]
            row(f"sweep of {LOCKS:,} files ({kind}) / find, ms",
                compare(sweep, find, {"PATH": PATH}, 7), 3.0)
        depth = {}
        for size in (ENTRIES // 1000, ENTRIES):
            waiting, in_work = fill_queue(top / f"queue{size}", size)
            depth[size] = [
                "/usr/bin/python3", "-I", "-S", "-c", DEPTH, str(CHECKOUT / "lib"),
                str(top / f"queue{size}"), str(SLICES), str(waiting), str(in_work),
            ]
        listing = ["/bin/sh", "-c", 'ls -f "$1" | wc -l', "sh", str(top / f"queue{ENTRIES}")]
        plain = {"PATH": PATH, "LC_ALL": "C"}
        what = f"depth and age of a queue of {ENTRIES:,} entries"
        row(f"{what} / 2 × ls + 1 s, ms",
            compare(depth[ENTRIES], listing, plain, 5, allowing=lambda took: 2 * took + 1), 1.0)
        row(f"{what} / of {ENTRIES // 1000:,}, MiB",
            compare(depth[ENTRIES], depth[ENTRIES // 1000], plain, 5, measure=peak_memory),
            1.1, 1 << 20)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    print(f"{'what':66s} {'this':>9s} {'that':>9s} {'ratio':>6s} {'limit':>5s}")
    for what, *figures in rows:
        print(f"{what:66s} {' '.join(figures)}")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
