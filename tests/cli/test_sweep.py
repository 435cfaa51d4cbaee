"""mailman-ha sweep: the janitor's release, by hand."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

from tests.agents.agent_runs import ClusterPicture, NodePicture, evidence, identity
from tests.cli.operator_runs import NOBODY, Operator
from tests.cli.test_locks import lay_one_of_each
from tests.private_processes import MARK

pytestmark = pytest.mark.no_posts


def test_dry_run_says_what_the_sweep_then_does(operator: Operator) -> None:
    laid = lay_one_of_each(operator)
    would = operator.run("sweep", "--dry-run", "--json").json("sweep")
    assert would["dry_run"] and not evidence(operator.installation)
    did = operator.run("sweep", "--json").json("sweep")
    for content in (would, did):
        assert {one["name"] for one in content["released"]} == {"dead.lock", "fenced.lock"}
        assert {one["name"]: one["verdict"] for one in content["kept"]} == {
            name: verdict for name, verdict in laid.items()
            if verdict not in ("dead here", "fenced")
        }
    assert operator.run("sweep", "--json").json("sweep")["released"] == []


def test_release_is_the_agents_own_with_quarantine_and_evidence(operator: Operator) -> None:
    lay_one_of_each(operator)
    done = operator.run("sweep")
    assert done.code == 0, done.stderr
    lines = evidence(operator.installation)
    assert {(one["released"], one["state"]) for one in lines} == {
        ("dead.lock", "dead here"), ("fenced.lock", "fenced"),
    }
    quarantine = operator.installation.lock_dir / "mailman-ha.quarantine"
    for one in lines:
        assert one["by_resource"] == "mailman-ha" and one["by_node"] == "n1"
        assert len(one["moved_to"]) == 2
        for name in one["moved_to"]:
            status = os.stat(quarantine / name)
            assert status.st_uid == operator.installation.uid
    assert os.stat(quarantine).st_uid == operator.installation.uid
    assert "released" in done.stdout and str(quarantine) in done.stdout


def test_kept_locks_are_untouched(operator: Operator) -> None:
    laid = lay_one_of_each(operator)
    kept = [
        operator.installation.lock_dir / name for name, verdict in laid.items()
        if verdict not in ("dead here", "fenced")
    ]
    before = [identity(path) for path in kept]
    operator.run("sweep")
    assert [identity(path) for path in kept] == before


def test_old_doubt_needs_a_human(standin: Operator) -> None:
    lay_one_of_each(standin)
    standin.configure(stuck_after="0")
    done = standin.run("sweep")
    assert done.code == 1 and "pcs stonith fence lost" in done.stdout


def test_maintenance_mode_is_respected(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock()
    before = identity(dead.lock)
    operator.agents.cluster(
        ClusterPicture({"n1": NodePicture(), "n2": NodePicture()}, maintenance=True)
    )
    for words in (("sweep",), ("sweep", "--dry-run")):
        done = operator.run(*words, "--json")
        content = done.json("sweep")
        assert done.code == 1 and content["released"] == []
        assert "maintenance" in content["problems"][0], words
        assert [one["name"] for one in content["kept"]] == [dead.lock.name]
        assert content["cluster"]["maintenance"]
    assert identity(dead.lock) == before


def test_nobody_may_not_sweep_but_may_look(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    operator.run("locks")
    os.chmod(operator.installation.lock_dir, 0o755)
    done = operator.run("sweep", uid=NOBODY)
    assert done.code == 1 and not done.stdout
    assert "root" in done.stderr and operator.installation.user in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert dead.lock.exists()
    assert operator.run("sweep", "--dry-run", uid=NOBODY).code == 0


def test_mailmans_user_may_sweep(operator: Operator) -> None:
    lay_one_of_each(operator)
    operator.run("locks")
    done = operator.run("sweep", "--json", uid=operator.installation.uid)
    content = done.json("sweep")
    assert {one["name"] for one in content["released"]} == {"dead.lock", "fenced.lock"}
    assert len(content["could_not_see"]) == 1


def test_living_owner_is_kept(operator: Operator) -> None:
    installation = operator.installation
    installation.start_by_hand()
    done = operator.run("sweep", "--json")
    content = done.json("sweep")
    assert done.code == 0 and content["released"] == []
    assert installation.master_pid() is not None
    assert installation.master_lock.exists()


def test_full_quarantine_is_a_problem_that_is_told(standin: Operator) -> None:
    dead = standin.installation.make_dead_lock()
    (standin.installation.lock_dir / "mailman-ha.quarantine").symlink_to("/tmp")
    done = standin.run("sweep", "--json")
    content = done.json("sweep")
    assert done.code == 1 and content["released"] == []
    assert "not a link" in content["problems"][0]
    assert dead.lock.exists()


def test_sweeps_at_the_same_time_release_each_lock_once(standin: Operator) -> None:
    installation = standin.installation
    for number in range(40):
        installation.make_dead_lock(lock=installation.list_lock(f"l{number}"))
    running = [
        subprocess.Popen(
            [standin.command, "sweep"], env=standin.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) for _ in range(3)
    ]
    for one in running:
        _, errors = one.communicate(timeout=100)
        assert one.returncode in (0, 1), errors
    released = [one["released"] for one in evidence(installation)]
    assert len(released) == len(set(released)) == 40


@pytest.mark.skipif(not Path("/usr/bin/bindfs").exists(), reason="no bindfs here")
def test_hanging_share_is_told_in_time(standin: Operator) -> None:
    """The share is a FUSE file system whose server is stopped."""
    installation = standin.installation
    installation.make_dead_lock()
    assert standin.run("locks").code == 0
    mount = installation.directory / "mounted"
    mount.mkdir()
    os.chmod(installation.directory, 0o755)
    server = subprocess.Popen(
        ["bindfs", "-f", str(installation.lock_dir), str(mount)], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", MARK: str(installation.directory)},
    )
    try:
        for _ in range(200):
            if os.path.ismount(mount):
                break
            time.sleep(0.05)
        options = [
            f"--lock-dir={mount}",
            *(one for one in standin.options() if not one.startswith("--lock-dir")),
        ]
        assert standin.run("locks", *options).code in (0, 1)
        server.send_signal(19)  # SIGSTOP
        done = standin.run("locks", "--timeout=3", *options)
        assert done.code == 1 and done.seconds < 20
        assert str(mount) in done.stderr and "--timeout" in done.stderr
    finally:
        server.send_signal(18)  # SIGCONT
        subprocess.run(["umount", "-l", str(mount)], check=False)
        server.kill()
        server.wait(10)


def test_the_tests_user_exists(standin: Operator) -> None:
    assert pwd.getpwnam(standin.installation.user).pw_uid not in (0, NOBODY)
