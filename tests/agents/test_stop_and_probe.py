"""Stop with the share gone, hung or never there; probes where there is nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agents.agent_runs import (
    Agents,
    ClusterPicture,
    NodePicture,
    evidence,
    identity,
    in_the_place_of_a_runner,
)
from tests.installations import Installation, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.no_posts]

NOWHERE = {"mailman_version": "2.1", "prefix": "/nonexistent/mailman"}
NOWHERE_3 = {
    "mailman_version": "3", "bindir": "/nonexistent/bin", "config": "/nonexistent/mailman.cfg",
}


@contextmanager
def mounted(arguments: list[str], where: Path) -> Iterator[None]:
    subprocess.run(arguments, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("where", [NOWHERE, NOWHERE_3, {}], ids=["2.1", "3", "auto"])
def test_probe_on_a_node_without_mailman_and_share_says_not_running(
    agents: Agents, where: dict[str, str]
) -> None:
    for agent in ("mailman-master", "list-lock-janitor"):
        assert agents.run(agent, "monitor", where, interval=0).code == 7
        assert agents.run(agent, "stop", where).code == 0


@pytest.mark.parametrize("where", [NOWHERE, NOWHERE_3], ids=["2.1", "3"])
def test_start_without_the_share_is_refused_for_this_node_only(
    agents: Agents, where: dict[str, str]
) -> None:
    for agent in ("mailman-master", "list-lock-janitor"):
        done = agents.run(agent, "start", where)
        assert done.code == 5
        assert "/nonexistent" in done.reason and "mount the share" in done.reason


def test_nothing_is_made_where_the_share_is_not_mounted(
    agents: Agents, installation: Installation
) -> None:
    """Mailman makes its directories wherever it looks; on a bare mount point that would be lost
    mail."""
    if installation.version == "2.1":
        for path in (installation.lock_dir, installation.queue_dir):
            shutil.rmtree(path)
        bare = installation.lock_dir.parent
    else:
        bare = installation.lock_dir.parent
        shutil.rmtree(bare)
        bare.mkdir()
    before = sorted(path.name for path in bare.iterdir())
    assert agents.master("monitor", installation, interval=0).code == 7
    done = agents.master("start", installation)
    assert done.code == 5 and "mount the share" in done.reason
    assert agents.janitor("start", installation).code == 5
    assert sorted(path.name for path in bare.iterdir()) == before


def test_stop_ends_everything_with_the_share_unmounted(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """A lazy umount under the running Mailman: its files are reachable for nobody."""
    installation = make_installation("standin")
    prefix = Path(installation.agent_parameters()["prefix"])
    with mounted(["mount", "--bind", str(prefix), str(prefix)], prefix):
        assert agents.master("start", installation).code == 0
    shelter = prefix.with_name("gone")
    prefix.rename(shelter)
    prefix.mkdir()
    try:
        assert agents.master("monitor", installation).code == 1
        done = agents.master("stop", installation, timeout=30)
        assert done.code == 0, done.stderr
        assert not installation.processes()
        assert agents.master("monitor", installation).code == 7
    finally:
        prefix.rmdir()
        shelter.rename(prefix)


def test_stop_ends_a_master_that_starts_dying_runners_for_ever(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """As where their program is gone: Python's exit status for that means a restart to 2.1."""
    installation = make_installation("standin")
    assert agents.master("start", installation).code == 0
    # The first ones wait for their TERM: one that hears it while Python still starts would die of
    # it, and a master whose runners all did so ends in good order.
    told = installation.log_dir / "told"
    (Path(installation.agent_parameters()["prefix"]) / "bin" / "qrunner").write_text(
        "import pathlib, signal, sys, time\n"
        f"told = pathlib.Path({str(told)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.touch())\n"
        "while not told.exists():\n"
        "    time.sleep(0.02)\n"
        "time.sleep(0.2)\n"
        "sys.exit(2)\n"
    )
    (master,) = installation.masters()
    good = installation.runners()
    for runner in good:
        runner.send(signal.SIGKILL)

    def all_replaced() -> bool:
        now = installation.runners()
        return len(now) == len(good) and all(
            one.pid not in {old.pid for old in good} and one.catches(signal.SIGTERM) for one in now
        )

    wait_until(all_replaced, 10, "runners that will not end well")
    began = time.monotonic()
    done = agents.master("stop", installation, timeout=60)
    assert done.code == 0, done.stderr
    assert f"sending SIGKILL to master {master.pid}" in done.stderr
    assert time.monotonic() - began < 30, "it did not wait until its time was nearly over"
    assert not installation.processes()
    assert agents.master("monitor", installation).code == 7
    assert not installation.master_lock.exists()


def test_stop_lets_a_rest_server_with_many_workers_end_in_good_order(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """Its workers look like runners of one slice; the master starts none of them."""
    installation = make_installation(
        "mailman3", runners=("rest",),
        settings=f"[webservice]\nhostname: 127.0.0.1\nport: {free_port()}\nworkers: 5\n",
    )
    assert agents.master("start", installation).code == 0
    wait_until(lambda: len(installation.runners()) == 6, 20, "the server and its workers run")
    done = agents.master("stop", installation, timeout=60)
    assert done.code == 0, done.stderr
    assert "SIGKILL" not in done.stderr
    assert not installation.processes()


def test_stop_ends_everything_with_the_share_hung(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """A FUSE server that was stopped: whoever asks for a file waits in the kernel."""
    installation = make_installation("standin")
    prefix = Path(installation.agent_parameters()["prefix"])
    real = prefix.with_name("real")
    prefix.rename(real)
    prefix.mkdir()
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "allow_other,attr_timeout=0,entry_timeout=0", str(real),
         str(prefix)],
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: os.path.ismount(prefix), 10, "the FUSE file system is mounted")
        done = agents.master("start", installation)
        assert done.code == 0, done.stderr
        assert agents.master("monitor", installation).code == 0
        server.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        seen = agents.master("monitor", installation, timeout=4)
        assert seen.code == 1 and seen.seconds < 4
        assert str(prefix) in seen.reason, seen.stderr
        done = agents.master("stop", installation, timeout=25)
        assert done.seconds < 25
        left = installation.masters() + installation.runners()
        # A process whose request the server had already read when it froze cannot be killed.
        assert (done.code == 0) == (not left), (done, left)
        if left:
            assert done.code == 1 and "hangs in the kernel" in done.reason
            assert all(str(one.pid) in done.reason for one in left)
            server.send_signal(signal.SIGCONT)
            assert agents.master("stop", installation, timeout=25).code == 0
            assert not installation.masters() + installation.runners()
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", str(prefix)], check=False)
        installation.end_processes()
        prefix.rmdir()
        real.rename(prefix)


def test_stop_of_what_was_never_started_is_a_success(
    agents: Agents, installation: Installation
) -> None:
    assert agents.master("stop", installation).code == 0
    assert agents.janitor("stop", installation).code == 0


def test_pid_file_that_names_a_stranger_gets_no_stranger_hurt(
    agents: Agents, installation: Installation
) -> None:
    with subprocess.Popen(["sleep", "600"], user=installation.user) as stranger:
        try:
            installation.pid_file.write_text(f"{stranger.pid}\n")
            os.chown(installation.pid_file, installation.uid, installation.gid)
            assert agents.master("monitor", installation).code == 7
            assert agents.master("stop", installation).code == 0
            assert stranger.poll() is None
            done = agents.master("start", installation)
            assert done.code == 0, done.stderr
            assert agents.master("stop", installation).code == 0
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_processes_of_another_installation_and_of_another_user_are_left_alone(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    one, other = make_installation("standin"), make_installation("standin")
    other.start_by_hand()
    assert agents.master("start", one).code == 0
    names_ours = subprocess.Popen(
        in_the_place_of_a_runner(one, "import time; time.sleep(600)"), user="nobody", cwd="/",
    )
    try:
        assert agents.master("monitor", one, level=10).code == 0
        assert agents.master("stop", one).code == 0
        assert names_ours.poll() is None
        assert other.master_pid()
        assert agents.master("monitor", one).code == 7
    finally:
        names_ours.kill()
        names_ours.wait()


@pytest.mark.parametrize("parameters", [
    {"max_queue_age": "soon"}, {"prefix": "relative/path"}, {"mailman_version": "4"},
    {"host_map": "n1"}, {"user": "nobody-such"},
])
def test_stop_with_wrong_parameters_still_ends_mailman(
    agents: Agents, make_installation: Callable[..., Installation], parameters: dict[str, str]
) -> None:
    installation = make_installation("standin")
    assert agents.master("start", installation).code == 0
    done = agents.master("stop", installation, timeout=30, **parameters)
    assert done.code == 0, done.stderr
    assert not installation.processes()


def test_host_map_that_nobody_understands_is_told_and_stops_no_running_mailman(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """It can be changed without a restart; Pacemaker stops what fails, with 6 on every node."""
    installation = make_installation("standin")
    for agent in (agents.janitor, agents.master):
        assert agent("start", installation).code == 0
        done = agent("reload-agent", installation, host_map="n1")
        assert done.code == 0 and "host_map" in done.stderr, done
        for level in (10, 20):
            done = agent("monitor", installation, level=level, host_map="n1")
            assert done.code == 190 and "host_map" in done.reason, done
        assert agent("monitor", installation, interval=0, host_map="n1").code in (0, 190)
        assert agent("monitor", installation, level=10).code == 0
    assert agents.master("start", installation, host_map="n1").code == 0, "it runs"
    assert installation.masters()
    assert agents.master("stop", installation).code == 0
    done = agents.master("start", installation, host_map="n1")
    assert done.code == 6 and "host_map" in done.reason, done


def test_probe_beside_no_mailman_asks_mailman_nothing(
    agents: Agents, installation: Installation
) -> None:
    """Every node probes every resource at its boot, and Mailman 3 takes a second to answer."""
    alone = ("unshare", "--pid", "--fork", "--mount-proc")
    assert agents.master("monitor", installation, interval=0, before=alone).code == 7
    assert agents.slice("monitor", installation, 1, interval=0, before=alone).code == 7
    assert [path.name for path in agents.state_dir.iterdir()] == ["mailman-ha-clock"]


def test_probe_of_the_janitor_asks_mailman_so_that_a_start_need_not(
    agents: Agents, installation: Installation
) -> None:
    assert agents.janitor("monitor", installation, interval=0).code == 7
    (kept,) = agents.state_dir.glob("mailman-ha-config-*.json")
    before = identity(kept)
    assert agents.janitor("start", installation).code == 0
    assert identity(kept) == before


def test_probe_of_the_janitor_ends_in_time_where_mailman_does_not_answer(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin")
    (Path(installation.agent_parameters()["prefix"]) / "Mailman" / "mm_cfg.py").write_text(
        "import time\ntime.sleep(60)\n"
    )
    done = agents.janitor("monitor", installation, interval=0, timeout=8)
    assert (done.code, done.reason) == (7, "")
    assert done.seconds < 8
    assert not installation.processes()


def test_stop_beside_a_mailman_that_does_not_answer_leaves_no_process(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    """What its last look at the lock had started went on for ever, one more with each stop."""
    installation = make_installation("standin")
    prefix = Path(installation.agent_parameters()["prefix"])
    told = prefix / "data" / "told"
    (prefix / "Mailman" / "mm_cfg.py").write_text(
        "import os, subprocess, time\n"
        "subprocess.Popen(['sleep', '1000'], cwd=os.path.dirname(__file__))\n"
        f"open({str(told)!r}, 'w').close()\n"
        "time.sleep(1000)\n"
    )
    done = agents.master("stop", installation, timeout=10)
    assert done.code == 0, done.stderr
    assert done.seconds < 10 and told.exists()
    wait_until(lambda: not installation.processes(), 2, "what was killed has ended")


@pytest.mark.parametrize("where", [NOWHERE, NOWHERE_3], ids=["2.1", "3"])
@pytest.mark.parametrize("agent", ["mailman-master", "list-lock-janitor"])
def test_probe_notes_the_clock_so_that_one_set_before_the_first_sweep_is_seen(
    agents: Agents, where: dict[str, str], agent: str
) -> None:
    """Found by random histories: a fencing seen, the clock set back, the fenced node back with a
    new lock, and only then the first sweep, which took the new lock for older than the fencing."""
    agents.run(agent, "monitor", where, interval=0)
    noted = agents.state_dir / "mailman-ha-clock"
    boot, booted_at, stepped_at = noted.read_text().split()
    assert stepped_at == "-"
    noted.write_text(f"{boot} {float(booted_at) + 2.0:.3f} -\n")  # as if it was set back by 2 s
    agents.run(agent, "monitor", where, interval=0)
    assert abs(float(noted.read_text().split()[2]) - time.time()) < 60


def test_start_elsewhere_goes_on_after_a_stop_that_could_not_give_up_the_lock(
    agents: Agents, installation: Installation
) -> None:
    """The share was gone or read-only on n2 when Mailman ended there, and n2 was not fenced."""
    n2 = NodePicture()
    dead = installation.make_dead_lock("n2", 4711)
    refused = agents.master("start", installation)
    assert refused.code == 1 and "only that node can know" in refused.reason
    n2.ended = f"{time.time() + 5:.3f}_4710_4711"
    agents.cluster(ClusterPicture({"n1": NodePicture(), "n2": n2}))
    assert agents.master("start", installation).code == 0
    assert not dead.claim.exists()
    assert [line["state"] for line in evidence(installation)] == ["ended"]
