"""mailman-ha explain: the whole chain of one lock."""

from __future__ import annotations

import os
import time

import pytest

from tests.agents.agent_runs import ClusterPicture, NodePicture
from tests.cli.operator_runs import NOBODY, Operator

pytestmark = pytest.mark.no_posts

FENCED_AT = time.time() + 3600


def nodes(n2: NodePicture, **options: bool) -> ClusterPicture:
    return ClusterPicture({"n1": NodePicture(), "n2": n2}, **options)


def links(content: dict, subject: str) -> list[dict]:
    return [one for one in content["evidence"] if one["subject"] == subject]


def test_chain_of_a_fenced_nodes_lock_names_each_source_and_time(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    operator.agents.cluster(nodes(NodePicture(online=False, fenced_at=FENCED_AT)))
    done = operator.run("explain", "--json", dead.lock.name)
    content = done.json("explain")
    assert done.code == 0
    assert content["lock"]["verdict"] == "fenced"
    assert content["lock"]["remedy"].startswith("mailman-ha sweep")
    status = os.stat(dead.lock)
    (file,) = links(content, "lock file")
    assert f"inode {status.st_ino}, 2 links" in file["found"]
    assert str(operator.installation.lock_dir) in file["source"]
    (claim,) = links(content, "claim file")
    assert dead.claim.name in claim["found"] and "(the same)" in claim["found"]
    (text,) = links(content, "content")
    assert dead.claim.name in text["found"]
    (host,) = links(content, "host n2")
    assert host["found"] == "node n2" and "crm_mon" in host["source"]
    (node,) = links(content, "node n2")
    assert node["found"] == "offline"
    (fencing,) = links(content, "fencing")
    assert "after the last touch" in fencing["found"]
    assert fencing["source"] == "crm_mon, fencing history"
    assert fencing["at"] == time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(int(FENCED_AT)))
    (clocks,) = links(content, "clocks")
    assert "give or take" in clocks["found"]
    (cluster,) = links(content, "cluster")
    assert "stonith-enabled=true" in cluster["found"]
    assert content["missing"] == []


def test_chain_of_a_living_master_has_its_process_and_boot(operator: Operator) -> None:
    installation = operator.installation
    installation.start_by_hand()
    content = operator.run("explain", "--json", installation.master_lock.name).json("explain")
    assert content["lock"]["verdict"] == "alive"
    (process,) = links(content, f"process {installation.master_pid()}")
    assert installation.master_program in process["found"] and "Mailman's" in process["found"]
    assert "before the last touch" in process["found"]
    assert process["source"] == f"/proc/{installation.master_pid()}"
    (boot,) = links(content, "this host")
    assert "booted" in boot["found"]


def test_chain_of_a_dead_process_says_that_there_is_none(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock()
    content = operator.run("explain", "--json", dead.lock.name).json("explain")
    assert content["lock"]["verdict"] == "dead here"
    assert links(content, f"process {dead.pid}")[0]["found"] == "there is none"


def test_lost_lock_tells_what_to_type(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    operator.configure(stuck_after="0")
    operator.agents.cluster(nodes(NodePicture(online=False, unclean=True)))
    done = operator.run("explain", dead.lock.name)
    assert done.code == 1
    assert "pcs stonith fence n2" in done.stdout and "pcs stonith confirm n2" in done.stdout
    assert "unclean, offline" in done.stdout
    assert "no successful one of n2 is known" in done.stdout


@pytest.mark.parametrize("how", ["list", "lock", "claim", "path", "path of the claim", "relative"])
def test_lock_is_found_by_any_of_its_names(standin: Operator, how: str) -> None:
    installation = standin.installation
    dead = installation.make_dead_lock("n2", 4242, lock=installation.list_lock("mylist"))
    typed = {
        "list": "mylist", "lock": "mylist.lock", "claim": dead.claim.name, "path": str(dead.lock),
        "path of the claim": str(dead.claim), "relative": os.path.relpath(dead.lock, "/"),
    }[how]
    content = standin.run("explain", "--json", typed).json("explain")
    assert content["lock"]["name"] == "mylist.lock"
    assert content["lock"]["owner"]["pid"] == 4242


def test_path_elsewhere_is_refused(standin: Operator) -> None:
    for typed in ("/etc/passwd", "/etc/", "..", ""):
        done = standin.run("explain", typed)
        assert done.code == 2 and not done.stdout, typed
    assert "does not lie in the lock directory" in standin.run("explain", "/etc/passwd").stderr


def test_lock_that_never_was_is_refused_with_the_way_on(standin: Operator) -> None:
    standin.installation.lock_dir.mkdir(exist_ok=True)
    done = standin.run("explain", b"no\xff\x1b[31m")
    assert done.code == 2
    assert "mailman-ha locks lists" in done.stderr and "\\xff\\x1b[31m" in done.stderr
    assert "mailman-ha locks lists" in standin.run("explain", "--json", "no").json("error")["error"]


def test_released_lock_is_explained_from_the_evidence_log(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    operator.agents.cluster(nodes(NodePicture(online=False, fenced_at=FENCED_AT)))
    assert operator.run("sweep").code == 0
    assert not dead.lock.exists()
    done = operator.run("explain", "--json", dead.lock.name)
    content = done.json("explain")
    assert done.code == 0 and content["lock"] is None
    assert (content["released"]["state"], content["released"]["pid"]) == ("fenced", "4242")
    assert content["released"]["by_resource"] == "mailman-ha"
    assert any(dead.lock.name in one for one in content["released"]["moved_to"])
    told = operator.run("explain", dead.lock.name).stdout
    assert "it was released" in told and "evidence.jsonl" in told


def test_forged_evidence_log_cannot_hurt(standin: Operator) -> None:
    quarantine = standin.installation.lock_dir / "mailman-ha.quarantine"
    quarantine.mkdir(parents=True)
    (quarantine / "evidence.jsonl").write_bytes(
        b'{"released": "x.lock", "why": "\\u001b[31m[red]", "moved_to": 7, "time": [1]}\n'
        b"\xff\xfe no json\n" + b"[" * 100000 + b'\n["released"]\n'
    )
    done = standin.run("explain", "x")
    assert done.code == 0 and "\x1b" not in done.stdout and "\\x1b[31m[red]" in done.stdout
    standin.run("explain", "--json", "x").json("explain")
    (quarantine / "evidence.jsonl").unlink()
    os.mkfifo(quarantine / "evidence.jsonl")
    assert standin.run("explain", "x").code == 2


def test_those_who_wait_are_told(standin: Operator) -> None:
    installation = standin.installation
    lock = installation.list_lock("mylist")
    installation.make_dead_lock("n2", 4242, lock=lock)
    waiter = f"{lock}.n2.4243.0"
    with open(waiter, "w") as file:
        file.write(waiter)
    content = standin.run("explain", "--json", "mylist").json("explain")
    (waiting,) = content["waiting"]
    assert (waiting["owner"]["pid"], waiting["kind"]) == (4243, "claim")
    assert "waiting for it: mylist.lock.n2.4243.0" in standin.run("explain", "mylist").stdout


def test_both_readings_of_an_ambiguous_claim_are_told(standin: Operator) -> None:
    """``master-qrunner.n2.5.12``: host n2, pid 5; or host n2.5, pid 12."""
    dead = standin.installation.make_dead_lock("n2", 5, last="12")
    content = standin.run("explain", "--json", dead.lock.name).json("explain")
    (owner,) = links(content, "owner")
    assert "pid 5 on n2" in owner["found"] and "pid 12 on n2.5" in owner["found"]
    assert links(content, "host n2.5")[0]["found"] == "no node of this cluster"


def test_cluster_down_says_which_evidence_is_missing(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    operator.cluster_down()
    content = operator.run("explain", "--json", dead.lock.name, *operator.options()).json("explain")
    assert content["lock"]["verdict"] == "unknown"
    (missing,) = content["missing"]
    assert "Connection refused" in missing and "fencing" in missing
    assert not links(content, "fencing") and not links(content, "node n2")
    assert links(content, "host n2")[0]["found"].startswith("not known")
    told = operator.run("explain", dead.lock.name, *operator.options())
    assert "not seen: the cluster: crm_mon" in told.stdout
    assert "pcs cluster start" in told.stdout


def test_without_root_it_says_what_it_could_not_see(operator: Operator) -> None:
    installation = operator.installation
    dead = installation.make_dead_lock(pid=os.getpid())
    operator.run("locks")
    os.chmod(installation.lock_dir, 0o755)
    os.chmod(dead.claim, 0o600)
    done = operator.run("explain", dead.lock.name, uid=NOBODY)
    assert done.code == 0, done.stderr  # a doubt, but a young one
    for sentence in (
        f"not seen: run as uid {NOBODY}", "not seen: the file's content: Permission denied",
        "not seen: the file server's clock", f"Mailman's user {installation.user}",
    ):
        assert sentence in done.stdout, done.stdout


@pytest.mark.parametrize("planted", ["fifo", "link", "directory"])
def test_what_is_no_file_is_explained_without_opening_it(standin: Operator, planted: str) -> None:
    lock = standin.installation.list_lock("odd")
    lock.parent.mkdir(exist_ok=True)
    if planted == "fifo":
        os.mkfifo(lock)
    elif planted == "link":
        lock.symlink_to("/etc/shadow")
    else:
        lock.mkdir()
    done = standin.run("explain", "--json", "odd")
    content = done.json("explain")
    assert (content["lock"]["kind"], content["lock"]["verdict"]) == ("odd", "unknown")
    assert "root:" not in done.stdout
    assert done.seconds < 20


def test_master_is_the_masters_lock_however_mailman_calls_it(operator: Operator) -> None:
    installation = operator.installation
    dead = installation.make_dead_lock("n2", 4242)
    assert dead.lock.name in ("master-qrunner", "master.lck")
    content = operator.run("explain", "--json", "master").json("explain")
    assert content["lock"]["name"] == dead.lock.name
    # A list of that name, which 2.1 may have, goes before.
    own = installation.lock_dir / "master.lock"
    own.touch()
    content = operator.run("explain", "--json", "master").json("explain")
    assert content["lock"]["name"] == own.name
