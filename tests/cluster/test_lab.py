"""The lab itself: nodes apart from the host and from each other's labs, and nothing left behind.

In most of these nodes no cluster runs; they are only booted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import CHECKOUT, STATE_ROOT, Lab, overlapping
from lab.image import image_path
from lab.sites import Mailman3

SUITE = "bookworm"


def new_lab(word: str, site: str = "dummies") -> Lab:
    """A lab of a name nobody else uses."""
    return Lab(f"{word}-{os.getpid()}", suite=SUITE, site=site)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes without a cluster."""
    lab = new_lab("plain")
    lab.up(owned=True, cluster=False)
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture
def nodes_on(lab: Lab) -> Lab:
    """The lab with both nodes on and plugged, and nobody holding the disk."""
    for node in lab.node_names:
        lab.kill(node)
        lab.heal(node)
        lab.boot(node, cluster=False)
    return lab


# ------------------------------------------------------------------ nodes


def test_node_has_its_own_name_and_full_name(nodes_on: Lab) -> None:
    program = "import socket; print(socket.gethostname(), socket.getfqdn())"
    for node in nodes_on.node_names:
        said = nodes_on.run(node, ["python3", "-c", program]).stdout.split()
        assert said == [node, f"{node}.lab.example"]


def test_node_cannot_write_the_hosts_kernel_settings(nodes_on: Lab) -> None:
    done = nodes_on.run("n1", ["sh", "-c", "echo 1 > /proc/sys/kernel/panic"], check=False)
    assert done.returncode != 0
    assert "Read-only" in done.stderr
    done = nodes_on.run("n1", ["sh", "-c", "cat /proc/sysrq-trigger"], check=False)
    if Path("/proc/sysrq-trigger").exists():
        assert (done.returncode, done.stdout) == (0, "")


def test_node_can_have_a_pid_used_again(nodes_on: Lab) -> None:
    script = "echo 30000 > /proc/sys/kernel/ns_last_pid; sh -c 'echo $$'; exit 0"
    assert nodes_on.run("n1", ["sh", "-c", script]).stdout.strip() == "30001"


def test_partitioned_node_reaches_nobody_until_healed(nodes_on: Lab) -> None:
    ping = ["ping", "-c", "1", "-W", "1", "n2"]
    assert nodes_on.run("n1", ping, check=False).returncode == 0
    nodes_on.partition("n1")
    assert nodes_on.run("n1", ping, check=False).returncode == 1
    nodes_on.heal("n1")
    nodes_on.wait_until(
        "n1 reaches n2", lambda: nodes_on.run("n1", ping, check=False).returncode == 0, 10
    )


def test_node_keeps_its_files_and_loses_its_processes_over_a_power_cut(nodes_on: Lab) -> None:
    nodes_on.run("n1", ["sh", "-c", "echo kept > /root/file; echo lost > /run/file"])
    nodes_on.run("n1", ["setsid", "-f", "sleep", "1000"])
    nodes_on.wait_until(
        "the process to be lost runs",
        lambda: any("sleep" in each.command_line for each in nodes_on.processes("n1")),
        10,
    )
    nodes_on.kill("n1")
    assert nodes_on.processes("n1") == []
    nodes_on.boot("n1", cluster=False)
    assert nodes_on.run("n1", ["cat", "/root/file"]).stdout == "kept\n"
    assert nodes_on.run("n1", ["cat", "/run/file"], check=False).returncode == 1
    assert not any("sleep" in each.command_line for each in nodes_on.processes("n1"))


def test_command_that_takes_too_long_is_ended_in_the_node(nodes_on: Lab) -> None:
    done = nodes_on.run("n1", ["sleep", "1000"], timeout=1, check=False)
    assert done.returncode == 124
    assert not any("sleep" in each.command_line for each in nodes_on.processes("n1"))


def test_start_by_hand_is_possible_where_a_fault_has_closed_the_mount_point(nodes_on: Lab) -> None:
    site = Mailman3()
    nodes_on.run("n1", ["chmod", "000", site.mount_point])
    site.prepare_local_start(nodes_on, "n1")
    nodes_on.run("n1", ["runuser", "-u", "list", "--", "mkdir", f"{site.mount_point}/templates"])


def test_pacemakerd_that_was_killed_is_there_again() -> None:
    """As its package's unit has it; Pacemaker 3's tools do nothing on a node without it."""
    with Lab(f"killed-{os.getpid()}", suite="trixie", site="dummies") as lab:
        lab.wait_members()
        before = lab.run("n1", ["pidof", "pacemakerd"]).stdout
        # While it starts a program, a child of the same name is there for a moment.
        controld = min(map(int, lab.run("n1", ["pidof", "pacemaker-controld"]).stdout.split()))
        lab.run("n1", ["kill", "-KILL", before.strip()])

        def again() -> bool:
            return lab.run("n1", ["crm_mon", "-1"], check=False).returncode == 0

        lab.wait_until("crm_mon answers on n1", again, 20)
        assert lab.run("n1", ["pidof", "pacemakerd"]).stdout != before
        assert str(controld) in lab.run("n1", ["pidof", "pacemaker-controld"]).stdout.split()
        assert not [event for event in lab.events() if event["event"] == "fenced"]


# ------------------------------------------------------------------ fencing


def test_fencing_is_answered_when_no_process_and_no_mount_is_left(nodes_on: Lab) -> None:
    lab = nodes_on
    lab.run("n1", ["sh", "-ec", "mkdir -p /mnt; mount /dev/shared-disk /mnt"])
    lab.run("n1", ["setsid", "-f", "sh", "-c", "cd /mnt; while :; do date > now; done"])
    before = [process.pid for process in lab.processes("n1")]
    assert len(before) >= 2
    lab.run("n2", ["fence_lab", "-o", "off", "-n", "n1"])
    assert [pid for pid in before if Path(f"/proc/{pid}").exists()] == []
    assert lab.status()["n1"]["on"] is False
    # e2fsck refuses a file system that any mount namespace of this kernel still has mounted.
    assert lab.run("n2", ["e2fsck", "-p", "/dev/shared-disk"], check=False).returncode in (0, 1)


def test_fence_agent_fails_as_often_as_told(nodes_on: Lab) -> None:
    nodes_on.fence_fails_first(2)
    command = ["fence_lab", "-o", "off", "-n", "n1"]
    codes = [nodes_on.run("n2", command, check=False).returncode for _ in range(3)]
    assert codes == [1, 1, 0]


def test_fence_agent_tells_the_power_state(nodes_on: Lab) -> None:
    command = ["fence_lab", "-o", "status", "-n", "n1"]
    assert nodes_on.run("n2", command, check=False).returncode == 0
    nodes_on.kill("n1")
    assert nodes_on.run("n2", command, check=False).returncode == 2
    nodes_on.run("n2", ["fence_lab", "-o", "on", "-n", "n1"])
    nodes_on.wait_until("n1 is on", lambda: nodes_on.status()["n1"]["on"], 10)


def test_fence_agent_refuses_an_unknown_node(nodes_on: Lab) -> None:
    done = nodes_on.run("n2", ["fence_lab", "-o", "off", "-n", "n7"], check=False)
    assert done.returncode == 1
    assert "n7" in done.stderr


# ------------------------------------------------------------------ several labs, and none


def test_labs_do_not_see_each_other(nodes_on: Lab) -> None:
    with_other = new_lab("other")
    with_other.up(owned=True, cluster=False)
    try:
        nodes_on.run("n1", ["sh", "-c", "echo first > /root/whose"])
        assert with_other.run("n1", ["cat", "/root/whose"], check=False).returncode == 1
        nodes_on.kill("n1")
        assert with_other.status()["n1"]["on"] is True
        assert with_other.run("n2", ["ping", "-c", "1", "-W", "1", "n1"]).returncode == 0
    finally:
        with_other.down()


class Traces:
    """What a lab holds of the host, taken while it is up, to be looked for afterwards."""

    def __init__(self, lab: Lab) -> None:
        self.name = lab.name
        supervisor = lab.supervisor_pid()
        self.pids = {supervisor, *lab.inits().values()}
        for node in lab.node_names:
            self.pids |= {process.pid for process in lab.processes(node)}
        self.networks = set()
        for pid in self.pids:
            # Commands that a node runs while it boots may have ended since.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.networks.add(os.readlink(f"/proc/{pid}/ns/net"))
        self.networks.discard(os.readlink("/proc/self/ns/net"))
        assert len(self.networks) == 3, "the supervisor and two nodes"
        assert len(self.pids) >= 3
        assert bool(self.loop_devices()) == (not lab.site.on_several_nodes)
        self.pids |= set(self.in_networks())

    def loop_devices(self) -> list[str]:
        """Loop devices that still carry the lab's disk."""
        return [
            str(file.parent.parent.name)
            for file in Path("/sys/block").glob("loop*/loop/backing_file")
            if f"{self.name}.img" in file.read_text(encoding="utf-8", errors="replace")
        ]

    def in_networks(self) -> list[int]:
        """The processes on the lab's networks, the database's among them."""
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and os.readlink(process / "ns/net") in self.networks:
                    found.append(int(process.name))
        return found

    def left(self) -> list[str]:
        """What of it there still is."""
        found = [f"process {pid}" for pid in self.pids if Path(f"/proc/{pid}/exe").exists()]
        found += [f"loop device {device}" for device in self.loop_devices()]
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    network = os.readlink(process / "ns/net")
                    mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace")
                except OSError:
                    continue
                if network in self.networks:
                    found.append(f"network namespace of process {process.name}")
                if f"{STATE_ROOT}/{self.name}/" in mounts:
                    found.append(f"mount in process {process.name}")
        return found

    def wait_gone(self, seconds: float = 10) -> list[str]:
        """What is left after at most so many seconds."""
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.left()


def test_down_leaves_nothing_behind() -> None:
    lab = new_lab("down")
    lab.up(cluster=False)
    traces = Traces(lab)
    lab.run("n1", ["mount", "/dev/shared-disk", "/mnt"])
    lab.down()
    assert traces.left() == []
    assert not lab.state.exists()


def test_killed_supervisor_leaves_only_a_directory_which_down_removes() -> None:
    lab = new_lab("killed")
    lab.up(cluster=False)
    traces = Traces(lab)
    lab.run("n1", ["mount", "/dev/shared-disk", "/mnt"])
    os.kill(lab.supervisor_pid(), signal.SIGKILL)
    assert traces.wait_gone() == []
    lab.down()
    assert not lab.state.exists()


@pytest.mark.parametrize("how", ["down", "killed"])
def test_database_and_shared_directory_go_with_the_lab(how: str) -> None:
    lab = new_lab(f"data-{how}", "mailman3-slices")
    lab.up(cluster=False)
    try:
        traces = Traces(lab)
        servers = [
            pid for pid in traces.pids if command_line(pid).split(b"\0")[0].endswith(b"/postgres")
        ]
        assert servers, "PostgreSQL runs on the lab's network"
        assert pid_owner(servers[0]) != 0
        lab.run("n1", ["mount", "--bind", "/srv/shared-directory", "/mnt"])
        if how == "killed":
            os.kill(lab.supervisor_pid(), signal.SIGKILL)
            assert traces.wait_gone() == []
    finally:
        lab.down()
    assert traces.left() == []
    assert not lab.state.exists()


def command_line(pid: int) -> bytes:
    """The words of a process; none when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def pid_owner(pid: int) -> int:
    """The user a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


def test_nodes_share_a_directory_and_a_power_cut_leaves_what_was_written() -> None:
    lab = new_lab("shared", "standin21-slices")
    lab.up(owned=True, cluster=False)
    try:
        write = "echo written > /srv/shared-directory/a; ln /srv/shared-directory/a $0; sleep 1000"
        path = "/srv/shared-directory/b"
        lab.run("n1", ["setsid", "-f", "sh", "-c", write, path])
        lab.wait_until("it is written", lambda: (lab.share() / "b").exists(), 10)
        lab.kill("n1")
        assert lab.run("n2", ["stat", "-c", "%h", path]).stdout == "2\n"
        assert lab.run("n2", ["cat", path]).stdout == "written\n"
        lab.boot("n1", cluster=False)
        assert lab.run("n1", ["cat", path]).stdout == "written\n"
    finally:
        lab.down()


def test_slices_that_overlap_count_as_two_runners_of_one_slice() -> None:
    for one, other in (
        ("in:0:4", "in:0:2"), ("in:3:4", "in:1:2"), ("in:2:4", "in:0:1"), ("in:1:3", "in:1:2"),
        ("in", "in:3:4"),
    ):  # fmt: skip
        assert overlapping(one, other), (one, other)
        assert overlapping(other, one), (other, one)
    for one, other in (
        ("in:0:4", "in:1:4"), ("in:0:4", "in:1:2"), ("in:0:2", "out:0:2"), ("in:2:3", "in:0:2"),
        ("master", "in:0:1"),
    ):  # fmt: skip
        assert not overlapping(one, other), (one, other)
        assert not overlapping(other, one), (other, one)


def test_lab_of_a_killed_owner_goes_down() -> None:
    name = f"owned-{os.getpid()}"
    program = (
        "import sys; from lab.client import Lab\n"
        f"lab = Lab({name!r}, {SUITE!r}, site='dummies')\n"
        "lab.up(owned=True, cluster=False)\n"
        "print('up', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        lab = Lab.existing(name)
        traces = Traces(lab)
        owner.kill()
    assert traces.wait_gone() == []
    assert_gone(lab.state)


def test_interrupted_up_takes_the_lab_down_again() -> None:
    name = f"ctrl-c-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "up", "--name", name, "--suite", SUITE],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        while command.stdout.readline() != "waiting for the cluster\n":
            assert command.poll() is None
        traces = Traces(Lab.existing(name))
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=60)
    assert command.returncode == 130
    assert traces.left() == []
    assert_gone(STATE_ROOT / name)


def test_down_without_a_lab_is_fine() -> None:
    new_lab("never").down()


def assert_gone(path: Path) -> None:
    """The path is gone, at the latest in a few seconds."""
    deadline = time.monotonic() + 5
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not path.exists()


# ------------------------------------------------------------------ machines that cannot


def lab_command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the lab's command line with the system's Python and this environment."""
    return subprocess.run(
        list(words),
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_lab_says_that_it_needs_root() -> None:
    done = lab_command(
        "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-B", "-m", "lab", "up"
    )
    assert done.returncode == 2
    assert "needs root" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_lab_names_every_missing_program(tmp_path: Path) -> None:
    assert image_path(SUITE).name.startswith(SUITE)
    done = lab_command(
        "/usr/bin/python3", "-B", "-m", "lab", "up",
        PATH="/nonexistent", MAILMAN_HA_LAB_CACHE=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    for program in ("unshare", "nsenter", "setpriv"):
        assert f"{program} is not installed: apt-get install util-linux" in done.stderr


def test_lab_says_what_the_kernel_refuses() -> None:
    """Without CAP_SYS_ADMIN root may make no namespace, as in an ordinary container."""
    done = lab_command(
        "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin",
        sys.executable, "-B", "-m", "lab", "up", "--name", f"refused-{os.getpid()}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "does not allow namespaces" in done.stderr
    assert not (STATE_ROOT / f"refused-{os.getpid()}").exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "set MAILMAN21_PREFIX to the prefix of an installation"),
        ({"MAILMAN21_PREFIX": "/nonexistent"}, "MAILMAN21_PREFIX=/nonexistent names no Mailman"),
    ],
    ids=["not set", "no installation"],
)
@pytest.mark.parametrize("site", ["mailman21", "mailman21-slices"])
def test_lab_says_when_it_has_no_real_mailman21(
    site: str, environment: dict[str, str], expected: str
) -> None:
    name = f"refused-{os.getpid()}"
    command = [sys.executable, "-B", "-m", "lab", "up", "--name", name, "--site", site]
    done = lab_command(*command, **environment)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (STATE_ROOT / name).exists()
