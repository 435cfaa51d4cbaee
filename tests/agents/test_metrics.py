"""The metrics as the agent writes them: real Mailmans, real processes, the real node_exporter."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailman_ha.agents.list_lock_janitor import textfile
from mailman_ha.evidence import process_identity
from prometheus_client.parser import text_string_to_metric_families

from tests.agents.agent_runs import AgentRun, Agents, ClusterPicture, NodePicture
from tests.agents.slice_fixture import COUNT, Sliced, clone_xml, resource_xml
from tests.agents.test_metrics_judging import checked_by_promtool
from tests.installations import Installation, wait_until
from tests.locks.mount_namespace import in_mount_namespace, mount

pytestmark = pytest.mark.no_posts

NAME = "mailman-ha-mailman.prom"
NOT_WRITTEN = "the metrics are not written"
FENCED_N2 = NodePicture(online=False, fenced_at=time.time() + 86400)
LOST_N2 = NodePicture(online=False, unclean=True)
ONLY_STANDIN = pytest.mark.parametrize("installation", ["standin"], indirect=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the textfile collector's."""
    (tmp_path / "textfiles").mkdir()
    return tmp_path / "textfiles"


def monitor(agents: Agents, installation: Installation, place: Path, **how: object) -> AgentRun:
    how = {"level": 10, "textfile_dir": str(place), **how}
    return agents.janitor("monitor", installation, **how)


def on_duty(agents: Agents, installation: Installation, place: Path) -> None:
    assert agents.janitor("start", installation, textfile_dir=str(place)).code == 0


class Written:
    """The metrics in a file."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        checked_by_promtool(self.text.encode())
        self.samples = [
            sample
            for family in text_string_to_metric_families(self.text) for sample in family.samples
        ]

    def all(self, metric: str, **labels: str) -> list[float]:
        return [
            one.value for one in self.samples
            if one.name == metric and labels.items() <= one.labels.items()
        ]

    def one(self, metric: str, **labels: str) -> float:
        (found,) = self.all(metric, **labels)
        return found

    def series(self) -> set[tuple[str, str]]:
        return {(one.name, str(sorted(one.labels.items()))) for one in self.samples}


def metrics_of(agents: Agents, installation: Installation, place: Path, **how: object) -> Written:
    """What a monitor at level 10 writes, which must say that all is well."""
    done = monitor(agents, installation, place, **how)
    assert done.code == 0 and NOT_WRITTEN not in done.stderr, done.stderr
    return Written(place / NAME)


#: Runs the agent that its arguments name, in an interpreter in which there is no fork.
NO_FORK = '''
import errno, os, runpy, sys
def fork():
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = fork
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
'''


# What they tell


def test_metrics_of_a_mailman_that_serves(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    installation.start_by_hand()
    before = time.time()
    told = metrics_of(agents, installation, place)
    assert told.one("mailman_ha_master_running") == 1
    for name, number, count in installation.expected_runners():
        labels = {"runner": name, "slice": str(number), "slices": str(count)}
        assert told.one("mailman_ha_runners", **labels) == 1
        assert told.one("mailman_ha_runners_configured", **labels) == 1
    assert len(told.all("mailman_ha_runners")) == len(installation.expected_runners())
    assert told.one("mailman_ha_runners_unexpected") == 0
    assert told.one("mailman_ha_locks", kind="lock", state="alive") == 1
    assert 0 < told.one("mailman_ha_oldest_lock_age_seconds", state="alive") < 120
    assert told.one("mailman_ha_stuck_locks") == 0
    assert before <= told.one("mailman_ha_last_sweep_timestamp_seconds") + 0.001
    written = told.one("mailman_ha_metrics_timestamp_seconds")
    assert told.one("mailman_ha_last_sweep_timestamp_seconds") <= written <= time.time() + 0.001
    assert f'lock_dir="{installation.lock_dir}"' in told.text
    assert all(one.labels["resource"] == "mailman" for one in told.samples)


def test_master_and_runner_that_were_killed_are_told(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    installation.start_by_hand()
    master = installation.master_pid()
    assert master is not None
    installation.kill(master)
    victim, (pid,) = sorted(installation.runner_pids().items())[0]
    installation.kill(pid)
    told = metrics_of(agents, installation, place)
    assert told.one("mailman_ha_master_running") == 0
    for runner, number, count in installation.expected_runners():
        labels = {"runner": runner, "slice": str(number), "slices": str(count)}
        assert told.one("mailman_ha_runners", **labels) == ((runner, number, count) != victim)
        assert told.one("mailman_ha_runners_configured", **labels) == 1


def test_depth_and_age_of_the_queues_are_told(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    queue = installation.in_queue
    queue.mkdir(parents=True, exist_ok=True)
    for number, extension in enumerate((".pck", ".pck", ".bak", ".psv", ".pck.tmp")):
        path = queue / f"{time.time() - 1000 * (number + 1):.6f}+{number:040x}{extension}"
        path.touch()
    shunt = installation.queue_dir / "shunt"
    shunt.mkdir(exist_ok=True)
    (shunt / f"{time.time():.6f}+{7:040x}.pck").touch()
    told = metrics_of(agents, installation, place)
    assert told.one("mailman_ha_queue_entries", queue=queue.name, kind="waiting") == 2
    assert told.one("mailman_ha_queue_entries", queue=queue.name, kind="in_work") == 1
    age = told.one("mailman_ha_queue_oldest_entry_age_seconds", queue=queue.name)
    assert 3000 <= age < 3060
    assert told.one("mailman_ha_queue_entries", queue="shunt", kind="waiting") == 1
    for waits in ("retry", "shunt"):
        assert told.all("mailman_ha_queue_oldest_entry_age_seconds", queue=waits) == []


def test_lock_of_a_lost_node_is_told_and_its_release_counted_by_every_node_after(
    agents: Agents, installation: Installation, place: Path, tmp_path: Path
) -> None:
    agents.cluster(ClusterPicture({"n1": NodePicture(), "n2": LOST_N2}))
    on_duty(agents, installation, place)
    installation.make_dead_lock("n2", 4242, lock=installation.list_lock("a"), last="7")
    time.sleep(1.2)
    done = monitor(agents, installation, place, stuck_after="1")
    assert done.code == 190
    told = Written(place / NAME)
    assert told.one("mailman_ha_locks", kind="lock", state="lost") == 1
    assert told.one("mailman_ha_stuck_locks") == 1
    assert 1 < told.one("mailman_ha_oldest_lock_age_seconds", state="lost") < 60
    assert sum(told.all("mailman_ha_lock_releases_total")) == 0
    assert told.one("mailman_ha_last_release_timestamp_seconds") == 0

    agents.cluster(ClusterPicture({"n1": NodePicture(), "n2": FENCED_N2}))
    told = metrics_of(agents, installation, place)
    assert told.one("mailman_ha_locks", kind="lock", state="lost") == 0
    assert told.one("mailman_ha_lock_releases_total", state="fenced") == 1
    assert abs(told.one("mailman_ha_last_release_timestamp_seconds") - time.time()) < 60
    assert told.one("mailman_ha_quarantine_files") == 2

    # The janitor goes to a node that has never counted, and another lock is released there.
    assert agents.janitor("stop", installation, textfile_dir=str(place)).code == 0
    other = tmp_path / "state-n3"
    shutil.copytree(agents.state_dir, other)
    assert agents.janitor("start", installation, state_dir=other).code == 0
    installation.make_dead_lock("n2", 4243, lock=installation.list_lock("b"), last="8")
    told = metrics_of(agents, installation, place, state_dir=other)
    assert told.one("mailman_ha_lock_releases_total", state="fenced") == 2
    told = metrics_of(agents, installation, place, state_dir=other)
    assert told.one("mailman_ha_lock_releases_total", state="fenced") == 2


def test_dead_locks_stand_there_in_maintenance_mode(
    agents: Agents, installation: Installation, place: Path
) -> None:
    agents.cluster(ClusterPicture({"n1": NodePicture(), "n2": FENCED_N2}, maintenance=True))
    on_duty(agents, installation, place)
    installation.make_dead_lock("n2", 4242, lock=installation.list_lock("a"), last="7")
    assert monitor(agents, installation, place).code == 190
    told = Written(place / NAME)
    assert told.one("mailman_ha_locks", kind="lock", state="fenced") == 1
    assert told.one("mailman_ha_sweep_problems") == 1


def test_hostile_names_are_in_no_label_and_make_no_sample(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    clean = metrics_of(agents, installation, place).series()
    installation.in_queue.mkdir(parents=True, exist_ok=True)
    names = (b'a"} 1\n', b"esc\x1b[31m", b"\xff\xfe", b"back\\slash", b"qfiles:in:0:4096",
             b"qfiles:in\n:0:2")
    for name in names:
        for directory in (installation.lock_dir, installation.in_queue):
            path = os.path.join(os.fsencode(directory), name)
            for place_taken in (path + b".lock", path + b".lck", path + b".pck", path + b".bak"):
                with open(place_taken, "wb") as file:
                    file.write(name)
    os.mkdir(installation.queue_dir / 'new"queue')
    done = monitor(agents, installation, place)
    assert done.code in (0, 190)
    told = Written(place / NAME)
    assert told.series() == clean
    assert sum(told.all("mailman_ha_locks")) >= len(names)
    assert "esc" not in told.text and "4096" not in told.text


@pytest.mark.slow
def test_slices_of_a_resource_are_told_with_their_runners(sliced: Sliced, place: Path) -> None:
    parameters = {**sliced.installation.agent_parameters(), "queue": "in"}
    another = {**parameters, "slice": "0", "slices": "8"}
    sliced.agents.resources(
        clone_xml(
            resource_xml("slice-in", parameters),
            {"globally-unique": "true", "clone-max": str(COUNT), "clone-node-max": str(COUNT)},
        )
        + resource_xml("disabled", another, {"target-role": "Stopped"})
        + resource_xml("of-another-share", {**another, "lock_dir": "/elsewhere"})
    )
    on_duty(sliced.agents, sliced.installation, place)
    sliced.started(1)
    sliced.lay_entry(3, 500.0, ".bak")
    told = metrics_of(sliced.agents, sliced.installation, place)
    assert told.all("mailman_ha_runners", runner=sliced.runner_name(), slices="8") == []
    for number in range(COUNT):
        labels = {"slice": str(number), "slices": str(COUNT)}
        runner = sliced.runner_name()
        assert told.one("mailman_ha_runners_configured", runner=runner, **labels) == 1
        assert told.one("mailman_ha_runners", runner=runner, **labels) == (number == 1)
        in_work = told.one("mailman_ha_queue_entries", queue="in", kind="in_work", **labels)
        assert in_work == (number == 3)
        age = told.one("mailman_ha_queue_oldest_entry_age_seconds", queue="in", **labels)
        assert 500 <= age < 560 if number == 3 else age == 0
    assert told.one("mailman_ha_runners_unexpected") == 0
    # The resource is taken away, its runner is not.
    sliced.agents.resources("")
    told = metrics_of(sliced.agents, sliced.installation, place)
    assert told.one("mailman_ha_runners_unexpected") == 1
    assert told.all("mailman_ha_runners", runner=sliced.runner_name()) == []
    # A cluster that does not answer is said, and what is known is told.
    sliced.agents.program("cibadmin", "echo broken >&2; exit 1")
    done = monitor(sliced.agents, sliced.installation, place)
    assert done.code == 0 and "which slices are configured is not known" in done.stderr
    assert Written(place / NAME).one("mailman_ha_master_running") == 0


# The file: when it is there


def test_none_are_written_without_the_parameter_or_at_level_0(
    agents: Agents, installation: Installation, place: Path
) -> None:
    assert agents.janitor("start", installation).code == 0
    assert agents.janitor("monitor", installation, level=10).code == 0
    assert not list(agents.state_dir.glob("*.metrics"))
    assert monitor(agents, installation, place, level=0).code == 0
    # Another node's lock, at which the light look does not suffice.
    installation.make_dead_lock("n2", 4242)
    assert monitor(agents, installation, place, level=0).code == 0
    assert list(place.iterdir()) == []
    assert monitor(agents, installation, place).code == 0
    before = os.stat(place / NAME)
    assert stat.S_IMODE(before.st_mode) == 0o644
    assert monitor(agents, installation, place, level=0).code == 0
    assert os.stat(place / NAME).st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in place.iterdir()] == [NAME]


def test_file_is_readable_for_the_exporter_whatever_the_umask(
    agents: Agents, installation21: Installation, place: Path
) -> None:
    on_duty(agents, installation21, place)
    before = os.umask(0o077)
    try:
        assert monitor(agents, installation21, place).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(place / NAME).st_mode) == 0o644


@pytest.mark.parametrize("parameter", ["as it was", "changed", "taken away"])
@ONLY_STANDIN
def test_stop_removes_what_was_written_and_nothing_else(
    agents: Agents, installation: Installation, place: Path, parameter: str
) -> None:
    on_duty(agents, installation, place)
    metrics_of(agents, installation, place)
    (place / "other.prom").write_text("other 1\n")
    given = {"as it was": str(place), "changed": "/nonexistent", "taken away": ""}[parameter]
    done = agents.janitor("stop", installation, textfile_dir=given)
    assert done.code == 0 and done.stderr == "", done.stderr
    assert [path.name for path in place.iterdir()] == ["other.prom"]
    assert not list(agents.state_dir.glob("*.metrics"))


@pytest.mark.parametrize("action", ["probe", "start"])
@ONLY_STANDIN
def test_what_a_crash_left_is_removed(
    agents: Agents, installation: Installation, place: Path, action: str
) -> None:
    """A reboot empties the state directory; the collector's directory it does not."""
    (place / NAME).write_text("mailman_ha_stuck_locks 1\n")
    (place / f".{NAME}.new").write_text("mailman_ha_stu")
    (place / "mailman-ha-another.prom").write_text("x 1\n")
    how: dict[str, object] = {"textfile_dir": str(place)}
    if action == "probe":
        assert agents.janitor("monitor", installation, interval=0, **how).code == 7
    else:
        assert agents.janitor("start", installation, **how).code == 0
    assert [path.name for path in place.iterdir()] == ["mailman-ha-another.prom"]


@ONLY_STANDIN
def test_probe_of_a_janitor_on_duty_leaves_its_metrics(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    metrics_of(agents, installation, place)
    assert monitor(agents, installation, place, level=0, interval=0).code == 0
    assert (place / NAME).exists()


@ONLY_STANDIN
def test_changed_directory_takes_effect_without_leaving_the_old_file(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    metrics_of(agents, installation, place)
    other = place.with_name("other")
    other.mkdir()
    assert agents.janitor("reload-agent", installation, textfile_dir=str(other)).code == 0
    assert list(place.iterdir()) == []
    metrics_of(agents, installation, other)


# The file: hostile and broken directories


@ONLY_STANDIN
def test_planted_names_are_not_followed(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    victim = place.with_name("victim")
    victim.write_text("precious")
    before = os.lstat(victim)
    for name in (NAME, f".{NAME}.new"):
        (place / name).symlink_to(victim)
    metrics_of(agents, installation, place)
    assert stat.S_ISREG(os.lstat(place / NAME).st_mode)
    os.unlink(place / NAME)
    for name in (NAME, f".{NAME}.new"):
        os.link(victim, place / name)
    metrics_of(agents, installation, place)
    assert agents.janitor("stop", installation, textfile_dir=str(place)).code == 0
    assert list(place.iterdir()) == []
    after = os.lstat(victim)
    assert victim.read_text() == "precious"
    assert (after.st_mode, after.st_uid, after.st_mtime) == (
        before.st_mode, before.st_uid, before.st_mtime
    )


@ONLY_STANDIN
def test_link_in_place_of_the_directory_is_refused_once_aloud(
    agents: Agents, installation: Installation, place: Path
) -> None:
    """Debian's lies in a directory of the user prometheus, who may put a link there."""
    elsewhere = place.with_name("elsewhere")
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    (elsewhere / NAME).write_text("somebody's")
    on_duty(agents, installation, place)
    first = monitor(agents, installation, place)
    assert first.code == 0 and NOT_WRITTEN in first.stderr and str(place) in first.stderr
    again = monitor(agents, installation, place)
    assert again.code == 0 and again.stderr == ""
    assert agents.janitor("stop", installation, textfile_dir=str(place)).code == 0
    assert (elsewhere / NAME).read_text() == "somebody's"


@pytest.mark.parametrize("what", ["missing", "a file", "directories planted"])
@ONLY_STANDIN
def test_directory_that_takes_no_file_is_said_once_and_so_is_its_return(
    agents: Agents, installation: Installation, place: Path, what: str
) -> None:
    on_duty(agents, installation, place)
    if what == "directories planted":
        (place / f".{NAME}.new").mkdir()
    else:
        place.rmdir()
        if what == "a file":
            place.write_text("")
    first = monitor(agents, installation, place)
    assert first.code == 0 and NOT_WRITTEN in first.stderr, first
    again = monitor(agents, installation, place)
    assert again.code == 0 and again.stderr == ""
    if what == "directories planted":
        (place / f".{NAME}.new").rmdir()
    else:
        if what == "a file":
            place.unlink()
        place.mkdir()
    well = monitor(agents, installation, place)
    assert well.code == 0 and "the metrics are written again" in well.stderr
    assert Written(place / NAME).samples
    assert monitor(agents, installation, place).stderr == ""


@ONLY_STANDIN
def test_full_directory_keeps_the_file_that_was_there_and_no_half_of_a_new_one(
    agents: Agents, installation: Installation, place: Path
) -> None:
    def work() -> None:
        mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place))
        on_duty(agents, installation, place)
        told = metrics_of(agents, installation, place).text
        try:
            with open(place / "filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(b"x" * 4096)
        except OSError:
            pass
        done = monitor(agents, installation, place)
        assert done.code == 0 and "No space left" in done.stderr, done
        assert (place / NAME).read_text() == told
        assert sorted(path.name for path in place.iterdir()) == ["filler", NAME]

    in_mount_namespace(work)


@ONLY_STANDIN
def test_directory_that_hangs_delays_a_monitor_and_a_stop_but_fails_neither(
    agents: Agents, installation: Installation, place: Path
) -> None:
    """A FUSE server that was stopped: whoever asks for a file waits in the kernel."""
    real = place.with_name("real")
    real.mkdir()
    on_duty(agents, installation, place)
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "attr_timeout=0,entry_timeout=0", str(real), str(place)],
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: os.path.ismount(place), 10, "the FUSE file system is mounted")
        metrics_of(agents, installation, place)
        server.send_signal(signal.SIGSTOP)
        done = monitor(agents, installation, place, timeout=10)
        assert done.code == 0 and NOT_WRITTEN in done.stderr, done
        assert done.seconds < 8
        done = agents.janitor("stop", installation, textfile_dir=str(place), timeout=20)
        assert done.code == 0 and "metrics may be left" in done.stderr, done
        assert done.seconds < 10
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", str(place)], check=False)
    # The next probe, with the directory well again, cleans up.
    assert (real / NAME).exists()
    place.rmdir()
    real.rename(place)
    assert monitor(agents, installation, place, interval=0).code == 7
    assert list(place.iterdir()) == []


@ONLY_STANDIN
def test_no_second_writer_is_started_beside_one_that_hangs(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    (state,) = agents.state_dir.glob("list-lock-janitor-*.state")
    with subprocess.Popen(["sleep", "600"]) as hanging:
        try:
            found = process_identity.read(hanging.pid)
            assert found is not None
            state.with_suffix(".metrics").write_text(
                f"writer={hanging.pid} {found.started_ticks}\n"
            )
            assert monitor(agents, installation, place).code == 0
            assert list(place.iterdir()) == []
        finally:
            hanging.kill()
    metrics_of(agents, installation, place)


@ONLY_STANDIN
def test_monitor_that_cannot_keep_its_state_or_start_a_process_is_still_well(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    (state,) = agents.state_dir.glob("list-lock-janitor-*.state")
    state.with_suffix(".metrics").mkdir()
    done = monitor(agents, installation, place)
    assert done.code == 0 and NOT_WRITTEN in done.stderr, done
    state.with_suffix(".metrics").rmdir()
    # A limit on processes counts for a user's, not for root's: so fork itself is made to fail.
    (agents.directory / "nofork.py").write_text(NO_FORK)
    done = monitor(
        agents, installation, place,
        before=["/usr/bin/python3", "-I", str(agents.directory / "nofork.py")],
    )
    assert done.code == 0 and "no process for it could be started" in done.stderr, done


@ONLY_STANDIN
def test_queue_that_cannot_be_listed_is_said_and_the_others_are_told(
    agents: Agents, installation: Installation, place: Path
) -> None:
    on_duty(agents, installation, place)
    shutil.rmtree(installation.in_queue, ignore_errors=True)
    installation.in_queue.write_text("")
    done = monitor(agents, installation, place)
    assert done.code == 0 and f"{installation.in_queue} cannot be listed" in done.stderr
    told = Written(place / NAME)
    assert told.all("mailman_ha_queue_entries", queue="in") == []
    assert told.one("mailman_ha_queue_entries", queue="out", kind="waiting") == 0


@ONLY_STANDIN
def test_releases_are_left_out_and_do_not_fall_while_the_log_cannot_be_read(
    agents: Agents, installation: Installation, place: Path
) -> None:
    installation.make_dead_lock()
    on_duty(agents, installation, place)
    assert sum(metrics_of(agents, installation, place).all("mailman_ha_lock_releases_total")) == 1
    quarantine = installation.lock_dir / "mailman-ha.quarantine"
    quarantine.rename(quarantine.with_name("elsewhere"))
    quarantine.symlink_to(quarantine.with_name("elsewhere"))
    done = monitor(agents, installation, place)
    assert "the evidence log cannot be read" in done.stderr
    assert Written(place / NAME).all("mailman_ha_lock_releases_total") == []
    quarantine.unlink()
    quarantine.with_name("elsewhere").rename(quarantine)
    assert monitor(agents, installation, place).code == 0
    assert sum(Written(place / NAME).all("mailman_ha_lock_releases_total")) == 1


# Those who read it


@pytest.fixture
def exporter(place: Path) -> Iterator[Callable[[], str]]:
    """Scrapes a real node_exporter, on a port of the loopback interface, that reads `place`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with subprocess.Popen(
        ["prometheus-node-exporter", f"--web.listen-address={address}",
         "--collector.disable-defaults", "--collector.textfile",
         f"--collector.textfile.directory={place}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:

        def scrape() -> str:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
                text: str = answer.read().decode()
                return text

        def answers() -> bool:
            try:
                return "node_textfile_scrape_error" in scrape()
            except OSError:
                return False

        try:
            wait_until(answers, 20, "node_exporter answers")
            yield scrape
        finally:
            server.kill()


def told_of(scraped: str) -> set[str]:
    return {
        line.rpartition(" ")[0] for line in scraped.splitlines() if line.startswith("mailman_ha_")
    }


def test_node_exporter_takes_the_files_of_two_janitors(
    agents: Agents, make_installation: Callable[..., Installation], place: Path,
    exporter: Callable[[], str],
) -> None:
    for instance in ("janitor-a", "janitor-b:0"):
        installation = make_installation("standin")
        how: dict[str, object] = {"instance": instance, "textfile_dir": str(place)}
        assert agents.janitor("start", installation, **how).code == 0
        assert agents.janitor("monitor", installation, level=10, **how).code == 0
    assert {path.name for path in place.iterdir()} == {
        "mailman-ha-janitor-a.prom", "mailman-ha-janitor-b.prom"
    }
    scraped = exporter()
    assert "node_textfile_scrape_error 0" in scraped
    for resource in ("janitor-a", "janitor-b"):
        assert f'mailman_ha_stuck_locks{{resource="{resource}"}} 0' in scraped
        labels = f'kind="lock",resource="{resource}",state="dead here"'
        assert f"mailman_ha_locks{{{labels}}} 0" in scraped


@pytest.mark.slow
@ONLY_STANDIN
def test_scrape_never_sees_half_a_file(
    agents: Agents, installation: Installation, place: Path, exporter: Callable[[], str]
) -> None:
    on_duty(agents, installation, place)
    metrics_of(agents, installation, place)
    whole = told_of(exporter())
    ended = threading.Event()
    seen: list[tuple[bool, bool]] = []

    def scrape_on() -> None:
        while not ended.is_set():
            scraped = exporter()
            seen.append((told_of(scraped) == whole, "node_textfile_scrape_error 0" in scraped))

    scraping = threading.Thread(target=scrape_on)
    scraping.start()
    try:
        for _ in range(10):
            assert monitor(agents, installation, place).code == 0
    finally:
        ended.set()
        scraping.join()
    assert len(seen) > 10 and set(seen) == {(True, True)}


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from mailman_ha.agents.list_lock_janitor import textfile
sizes = [1, 5000, 70000, 300]
print("up", flush=True)
number = 0
while True:
    textfile.write(sys.argv[2], b"x" * sizes[number % 4] + b"\\n")
    number += 1
"""


def test_reader_beside_a_writer_that_is_killed_sees_whole_files_only(place: Path) -> None:
    library = Path(textfile.__file__).parents[3]
    path = place / NAME
    sizes = set()
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(library), str(path)], stdout=subprocess.PIPE
        )
        with writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"up\n"
            wait_until(path.exists, 10, "the file is there")
            for _ in range(400):
                content = path.read_bytes()
                assert content == b"x" * (len(content) - 1) + b"\n"
                sizes.add(len(content))
            writer.kill()
        content = path.read_bytes()
        assert content.endswith(b"x\n")
    assert sizes <= {2, 5001, 70001, 301} and len(sizes) > 1
    assert {one.name for one in place.iterdir()} <= {NAME, f".{NAME}.new"}
    textfile.remove(str(path))
    assert list(place.iterdir()) == []
