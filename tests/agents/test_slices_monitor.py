"""Monitor of qfiles-slice, and what a start leaves that was killed or came too late."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mailman_ha.agents.qfiles_slice import launch

from tests.agents.agent_runs import AGENTS, Agents, in_the_place_of_a_runner, slice_options
from tests.agents.slice_fixture import COUNT, OPTIONS, Node, Sliced, refused
from tests.installation_fixture import KINDS21
from tests.installations import Installation, wait_until

pytestmark = pytest.mark.slow

only_standin = pytest.mark.parametrize("sliced", ["standin"], indirect=True)
only_21 = pytest.mark.parametrize("sliced", KINDS21, indirect=True)
only_3 = pytest.mark.parametrize("sliced", ["mailman3"], indirect=True)

LEVELS = (0, 10, 20)


def codes(sliced: Sliced, number: int, **how: object) -> list[int]:
    return [sliced.monitor(number, level=level, **how).code for level in LEVELS]


def test_killed_runner_reads_as_not_running_and_starts_again(sliced: Sliced) -> None:
    pid = sliced.started(1)
    sliced.installation.kill(pid)
    assert codes(sliced, 1) == [7, 7, 7]
    assert sliced.monitor(1, interval=0).code == 7
    assert sliced.started(1) != pid
    assert len(sliced.claims()) == 2


def test_claim_that_is_not_what_the_runner_was_started_with_fails_at_every_level(
    sliced: Sliced,
) -> None:
    pid = sliced.started(1)
    lock = sliced.lock(1)
    claim = sliced.claim_file(lock)
    third = lock.with_name("a-third-name")

    os.link(claim, third)
    assert codes(sliced, 1) == [1, 1, 1]
    third.unlink()
    assert codes(sliced, 1) == [0, 0, 0]

    lock.unlink()
    assert codes(sliced, 1) == [1, 1, 1]
    refused(sliced.monitor(1), 1, str(pid), lock.name, "the lock is gone")

    robber = sliced.installation.make_dead_lock("n2", 4242, lock=lock)
    assert codes(sliced, 1) == [1, 1, 1]
    refused(sliced.monitor(1), 1, "pid 4242", "n2")
    robber.lock.unlink()
    robber.claim.unlink()

    os.link(claim, lock)
    assert codes(sliced, 1) == [0, 0, 0]

    claim.unlink()
    assert codes(sliced, 1) == [1, 1, 1]

    claim.write_bytes(os.fsencode(claim))  # the same names, another file
    os.link(claim, third)
    third.replace(lock)
    assert codes(sliced, 1) == [1, 1, 1]
    assert sliced.stop(1).code == 0


@only_standin
def test_lock_directory_that_cannot_be_read_fails_with_its_name(sliced: Sliced) -> None:
    sliced.started(1)
    mode = os.stat(sliced.installation.lock_dir).st_mode
    sliced.installation.lock_dir.chmod(0)
    try:
        assert codes(sliced, 1) == [1, 1, 1]
        refused(sliced.monitor(1), 1, str(sliced.installation.lock_dir), "cannot be read")
    finally:
        sliced.installation.lock_dir.chmod(mode & 0o7777)
    assert codes(sliced, 1) == [0, 0, 0]


@only_21
def test_second_runner_on_the_slice_fails_the_monitor(sliced: Sliced) -> None:
    pid = sliced.started(1)
    second = sliced.by_hand(1)
    refused(sliced.monitor(1, level=10), 1, str(pid), str(second.pid), "second runner")
    assert sliced.monitor(1, level=20).code == 1
    second.terminate()
    second.wait(20)
    assert codes(sliced, 1) == [0, 0, 0]


@only_21
def test_second_runner_on_a_part_of_the_slice_fails_the_monitor(sliced: Sliced) -> None:
    sliced.started(1)
    second = sliced.by_hand(0, 2)
    refused(sliced.monitor(1, level=10), 1, "0:2", f"kill {second.pid}")
    other = sliced.by_hand(1, 2)
    second.terminate()
    second.wait(20)
    assert sliced.monitor(1, level=10).code == 0
    assert other.poll() is None


def test_level_20_goes_by_the_oldest_entry_of_this_slice_alone(sliced: Sliced) -> None:
    sliced.lay_entry(0, 500, ".bak")
    sliced.started(1)
    time.sleep(1.2)
    strict = {"level": 20, "max_queue_age": "1"}
    assert sliced.monitor(1, **strict).code == 0, "an old entry of another slice"
    # In work, as it would be of a runner that hangs: what waits, this one takes.
    old = sliced.lay_entry(1, 400, ".bak")
    refused(sliced.monitor(1, **strict), 1, "in:1:4 stands still", "1 are in work")
    assert sliced.monitor(1, level=20, max_queue_age="3600").code == 0
    assert sliced.monitor(1, level=20, max_queue_age="0").code == 0
    assert sliced.monitor(1, level=10, max_queue_age="1").code == 0
    old.rename(old.with_name("no entry.pck.tmp"))
    assert sliced.monitor(1, **strict).code == 0


@only_21
def test_slice_whose_runner_does_not_get_on_fails_level_20(sliced: Sliced) -> None:
    """The list is locked by somebody who lives: the entry is put back time and again."""
    sliced.started(0, 1)
    held = sliced.installation.make_dead_lock(
        lock=sliced.installation.list_lock(), pid=os.getpid(), last="0"
    )
    time.sleep(1.2)
    assert sliced.monitor(0, 1, level=20, max_queue_age="1").code == 0
    sliced.installation.post()
    time.sleep(1.3)
    refused(sliced.monitor(0, 1, level=20, max_queue_age="1"), 1, "in:0:1 stands still")
    held.lock.unlink()
    held.claim.unlink()
    wait_until(lambda: not any(sliced.entries_by_slice().values()), 20, "the queue is empty")
    assert sliced.monitor(0, 1, level=20, max_queue_age="1").code == 0


@only_standin
def test_runner_is_given_as_long_as_the_limit_after_its_start(sliced: Sliced) -> None:
    """After a failover the backlog is old."""
    sliced.started(1)
    sliced.lay_entry(1, 400, ".bak")
    assert sliced.monitor(1, level=20, max_queue_age="30").code == 0


def set_attributes(calls: list[str]) -> dict[str, str]:
    """The node attributes that are set after these calls of attrd_updater."""
    found: dict[str, str] = {}
    for call in calls:
        words = call.split()
        name = next(
            word.partition("=")[2] for word in words if word.startswith("--name=")
        ) if any(word.startswith("--name=") for word in words) else words[words.index("-n") + 1]
        value = next((w.partition("=")[2] for w in words if w.startswith("--update=")), None)
        if value is None:
            assert "--delete" in words, call
            found.pop(name, None)
        else:
            found[name] = value
    return found


def test_depth_age_and_work_are_published_from_names_alone_and_withdrawn_at_the_stop(
    sliced: Sliced,
) -> None:
    sliced.started(1)
    assert sliced.monitor(1, level=0).code == 0
    assert not sliced.agents.attribute_calls()
    os.kill(sliced.pids(1)[0], signal.SIGSTOP)  # so that what is laid stays
    sliced.lay_entry(1, 100, ".pck")
    sliced.lay_entry(1, 300, ".bak")
    sliced.lay_entry(2, 900, ".pck")
    sliced.lay_entry(1, 900, ".pck.tmp")
    sliced.lay_entry(1, 900, ".psv")
    fifo = sliced.installation.in_queue / f"{time.time() - 200!r}+{'4' * 40}.pck"
    os.mkfifo(fifo)
    assert sliced.monitor(1, level=10).code == 1
    found = set_attributes(sliced.agents.attribute_calls())
    assert set(found) == {"slice-in-1-depth", "slice-in-1-oldest", "slice-in-1-bak"}
    assert (found["slice-in-1-depth"], found["slice-in-1-bak"]) == ("3", "1")
    assert 300 <= int(found["slice-in-1-oldest"]) < 330
    for path in sliced.entries_by_slice()[1]:
        path.unlink()
    os.kill(sliced.pids(1)[0], signal.SIGCONT)
    assert sliced.monitor(1, level=20).code == 0
    assert set_attributes(sliced.agents.attribute_calls()) == {
        "slice-in-1-depth": "0", "slice-in-1-oldest": "0", "slice-in-1-bak": "0"
    }
    assert sliced.stop(1).code == 0
    assert set_attributes(sliced.agents.attribute_calls()) == {}
    assert len(sliced.agents.attribute_calls()) == 9


@only_standin
@pytest.mark.parametrize("script", ["exit 1", "sleep 600", ""], ids=["fails", "hangs", "missing"])
def test_attrd_updater_in_trouble_fails_nothing(sliced: Sliced, script: str) -> None:
    sliced.started(1)
    if script:
        sliced.agents.program("attrd_updater", script)
    else:
        sliced.agents.without("attrd_updater")
    seen = sliced.monitor(1, level=10, timeout=15, whole_path=bool(script))
    assert seen.code == 0 and seen.seconds < 10, seen
    if script == "sleep 600":
        return  # so it would be with stop, as test_node_attributes has it
    done = sliced.stop(1, timeout=20, whole_path=bool(script))
    assert done.code == 0 and done.seconds < 12, done
    assert not sliced.installation.processes() and not sliced.claims()


@only_standin
def test_claim_is_refreshed_before_half_of_its_life_is_over(sliced: Sliced) -> None:
    sliced.started(1)
    late, early = time.time() + 20 * 3600, time.time() + 3600
    os.utime(sliced.lock(1), (late, late))
    assert sliced.monitor(1, level=10).code == 0
    assert os.stat(sliced.lock(1)).st_mtime == pytest.approx(late, abs=1)
    os.utime(sliced.lock(1), (early, early))
    assert sliced.monitor(1, level=10).code == 0
    assert os.stat(sliced.lock(1)).st_mtime > time.time() + 29 * 3600
    assert sliced.monitor(1).code == 0


NOWHERE = {
    "2.1": {"mailman_version": "2.1", "prefix": "/nonexistent/mailman", "queue": "in"},
    "3": {"mailman_version": "3", "bindir": "/nonexistent/bin",
          "config": "/nonexistent/mailman.cfg", "queue": "in"},
    "auto": {"queue": "nntp"},
}


@pytest.mark.parametrize("where", NOWHERE)
def test_probe_on_a_node_without_mailman_and_share_says_not_running(
    agents: Agents, where: str
) -> None:
    given = NOWHERE[where]
    assert agents.slice("monitor", given, interval=0).code == 7
    assert agents.slice("stop", given).code == 0
    if where != "auto":
        refused(agents.slice("start", given), 5, "/nonexistent", "mount the share")


@only_21
def test_process_that_got_the_runners_pid_is_neither_taken_for_it_nor_hurt(
    sliced: Sliced, make_node: Callable[[Sliced, str], Node]
) -> None:
    assert sliced.monitor(1).code == 7
    n1 = make_node(sliced, "n1")
    given = {"host_map": f"n1={n1.host}"}
    assert n1.slice("start", sliced.installation, 1, **given).code == 0
    (outer,) = sliced.pids(1)
    _, pid = sliced.claimed_by(sliced.lock(1))
    sliced.installation.kill(outer)
    wait_until(lambda: not Path(f"/proc/{outer}").exists(), 5, "the pid is free")
    time.sleep(0.2)
    stranger = int(n1.command(
        "sh", "-c", f"echo {pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 600 >&- & echo $!"
    ))
    assert stranger == pid
    for level in LEVELS:
        assert n1.slice("monitor", sliced.installation, 1, level=level, **given).code == 7
    done = n1.slice("start", sliced.installation, 1, **given)
    assert done.code == 0, done.stderr
    assert sliced.claimed_by(sliced.lock(1))[1] != pid
    assert n1.slice("stop", sliced.installation, 1, **given).code == 0
    assert not sliced.claims()
    assert n1.command("sh", "-c", f"cat /proc/{pid}/comm").strip() == b"sleep"


# A start that ends before its time


class KilledStart:
    """A start of slice 1 that can be killed."""

    def __init__(self, sliced: Sliced) -> None:
        options = slice_options(1, COUNT, "in", True)
        environ = sliced.agents.environment(
            "start", sliced.installation, instance=options.pop("instance"), parameters=options
        )
        self.process = subprocess.Popen(
            [AGENTS / "qfiles-slice", "start"], env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def children(self) -> list[int]:
        pid = self.process.pid
        try:
            words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return [int(word) for word in words]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def assert_whole_or_nothing(sliced: Sliced) -> bool:
    """Either one runner, which holds its claim, or none, and nothing is in the way of a start; the
    answer is whether it runs."""
    wait_until(
        lambda: not [
            process for process in sliced.installation.processes()
            if process.pid not in sliced.pids(1)
        ],
        5, "what the start had begun has ended",
    )
    seen = sliced.monitor(1)
    running = sliced.pids(1)
    assert seen.code == (0 if running else 7), (seen, running, sliced.claims())
    if running:
        assert sliced.claimed_by(sliced.lock(1))[1] == running[0]
    assert len(running) <= 1
    return bool(running)


@only_standin
def test_start_killed_at_any_moment_leaves_no_runner_without_a_claim_and_no_claim_in_the_way(
    sliced: Sliced,
) -> None:
    assert sliced.monitor(1).code == 7
    took = sliced.start(1).seconds
    assert sliced.stop(1).code == 0
    chance = random.Random(3)
    ran = []
    for turn in range(9):
        start = KilledStart(sliced)
        if turn % 3 == 0:
            time.sleep(took * chance.random())
        else:  # between the claim and the runner
            give_up_at = time.monotonic() + 10
            while not sliced.lock(1).exists() and time.monotonic() < give_up_at:
                time.sleep(0.0005)
            time.sleep(chance.choice((0, 0, 0.001, 0.002, 0.004, 0.01, 0.03)))
        start.kill()
        ran.append(assert_whole_or_nothing(sliced))
        if not ran[-1]:
            done = sliced.start(1)
            assert done.code == 0, (turn, done)
            assert len(sliced.pids(1)) == 1 and len(sliced.claims()) == 2
        assert sliced.stop(1).code == 0
        assert not sliced.installation.processes() and not sliced.claims()
    assert not all(ran), "no kill came before the runner"


@only_standin
def test_claim_made_for_a_start_that_was_killed_is_given_up_and_not_left_to_other_nodes(
    sliced: Sliced,
) -> None:
    """The agent is gone when the child reports its claim: another node could not tell that the
    claim is nobody's."""
    installation = sliced.installation
    site = SimpleNamespace(
        user=SimpleNamespace(uid=installation.uid, gid=installation.gid),
        lock_dir=str(installation.lock_dir), format="2.1",
    )
    report, child_report = os.pipe()
    child_go, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(report)
            os.close(go)
            os.read(child_go, 1)  # until the agent is gone
            launch._become_runner(
                site, ["/bin/false"], "qfiles:in:1:4.lock", installation.host,  # type: ignore
                str(sliced.agents.directory / "printed"), [], child_report, child_go,
            )
        finally:
            os._exit(1)
    seen = changes_of(installation.lock_dir)
    for descriptor in (report, child_report, child_go, go):
        os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1, "a signal killed it"
    assert seen() > 0, "it made no claim"
    assert not sliced.claims()


def changes_of(directory: Path) -> Callable[[], int]:
    """Whether (above 0) a name was made or removed in `directory` since this call."""
    before = directory.stat().st_mtime_ns
    return lambda: directory.stat().st_mtime_ns - before


MUTE = "#!/usr/bin/python3\nimport time\nwhile True: time.sleep(600)\n"


def test_runner_that_hangs_at_its_start_ends_the_start_in_time_with_a_reason(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin", **OPTIONS["standin"])
    in_the_place_of_a_runner(installation, MUTE)
    done = agents.slice("start", installation, 1, timeout=4)
    assert done.seconds < 4
    refused(done, 1, "in:1:4", "has not opened its queue", "longer timeout")
    assert agents.slice("stop", installation, 1).code == 0
    assert not installation.processes()
    assert not list(installation.lock_dir.glob("qfiles:*"))
    assert agents.slice("monitor", installation, 1).code == 7


def test_runner_that_ends_at_once_ends_the_start_with_what_it_said(
    agents: Agents, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation("standin", **OPTIONS["standin"])
    in_the_place_of_a_runner(
        installation, "#!/usr/bin/python3\nraise SystemExit('no such database')\n"
    )
    done = agents.slice("start", installation, 1, timeout=20)
    assert done.seconds < 5
    refused(done, 1, "in:1:4", "no such database")
    assert not installation.processes()
    assert not list(installation.lock_dir.glob("qfiles:*"))
    assert agents.slice("monitor", installation, 1).code == 7
    program = Path(installation.agent_parameters()["prefix"]) / "bin" / "qrunner"
    program.unlink()
    refused(agents.slice("start", installation, 1), 5, "qrunner")
    assert not list(installation.lock_dir.glob("qfiles:*"))


@only_standin
def test_host_map_that_nobody_understands_is_told_and_stops_no_running_slice(
    sliced: Sliced,
) -> None:
    sliced.started(1)
    assert sliced.agents.slice("reload-agent", sliced.installation, 1, host_map="n1").code == 0
    refused(sliced.monitor(1, level=10, host_map="n1"), 190, "host_map")
    assert sliced.monitor(1, host_map="n1").code == 0
