"""mailman-ha locks: the verdicts of the janitor, for people and for programs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.agents.agent_runs import ClusterPicture, NodePicture
from tests.cli.operator_runs import NOBODY, Operator, check_schema, resource_xml
from tests.installations import Installation

pytestmark = pytest.mark.no_posts

NODES = {
    "n1": NodePicture(),
    "fenced": NodePicture(online=False, fenced_at=time.time() + 86400),
    "lost": NodePicture(online=False, unclean=True),
    "member": NodePicture(),
}


def lay_one_of_each(operator: Operator) -> dict[str, str]:
    """A lock for every verdict but alive; the verdict by the lock's name."""
    installation = operator.installation
    operator.agents.cluster(ClusterPicture(dict(NODES)))
    installation.lock_dir.mkdir(exist_ok=True)
    laid = {}
    for name, host in {
        "dead": None, "fenced": "fenced", "lost": "lost", "member": "member",
        "stranger": "elsewhere.example.org",
    }.items():
        lock = installation.list_lock(name)
        installation.make_dead_lock(host, None if host is None else 4242, lock=lock)
        laid[lock.name] = "dead here" if name == "dead" else name
    empty = installation.list_lock("empty")
    empty.write_bytes(b"")
    laid[empty.name] = "unknown"
    return laid


def test_each_verdict_is_told_with_its_owner(operator: Operator) -> None:
    laid = lay_one_of_each(operator)
    done = operator.run("locks", "--json")
    told = done.locks()
    assert {name: one["verdict"] for name, one in told.items()} == laid
    assert told["fenced.lock"]["owner"] == {
        "host": "fenced", "node": "fenced", "pid": 4242, "program": None,
    }
    assert told["stranger.lock"]["owner"]["node"] is None
    assert told["dead.lock"]["owner"]["node"] == "n1"
    assert told["empty.lock"]["owner"] is None
    assert "pcs stonith fence lost" in told["lost.lock"]["remedy"]
    for one in told.values():
        assert 0 <= one["age_seconds"] < 60, one
        assert one["kind"] == "lock"
    assert 29 * 3600 < told["lost.lock"]["expires_in_seconds"] <= 30 * 3600


def test_living_master_is_told_with_its_program(operator: Operator) -> None:
    installation = operator.installation
    installation.start_by_hand()
    done = operator.run("locks", "--json")
    (lock,) = [
        one for one in done.locks().values() if one["name"] == installation.master_lock.name
    ]
    assert lock["verdict"] == "alive"
    assert lock["owner"]["pid"] == installation.master_pid()
    assert installation.master_program in lock["owner"]["program"]
    assert done.code == 0


def test_the_look_changes_nothing(operator: Operator) -> None:
    lay_one_of_each(operator)
    lock_dir = operator.installation.lock_dir

    def state() -> dict[str, tuple[int, int, int, int]]:
        return {
            path.name: (status.st_ino, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
            for path in lock_dir.iterdir() for status in [os.lstat(path)]
        }

    before = state()
    for words in (("locks",), ("sweep", "--dry-run"), ("explain", "fenced"), ("slices",)):
        operator.run(*words)
    assert state() == before


def test_verdicts_are_those_of_the_janitor(operator: Operator) -> None:
    """What locks calls dead is what the janitor then releases, and nothing else."""
    laid = lay_one_of_each(operator)
    told = operator.run("locks", "--json").locks()
    dead = {name for name, one in told.items() if one["verdict"] in ("dead here", "fenced")}
    start = operator.agents.janitor(
        "start", operator.installation, host_map=operator.parameters()["host_map"]
    )
    assert start.code == 0, start.stderr
    left = {path.name for path in operator.installation.lock_dir.iterdir()}
    assert dead == set(laid) - left == {"dead.lock", "fenced.lock"}


def test_a_young_doubt_needs_nobody_and_an_old_one_does(operator: Operator) -> None:
    operator.agents.cluster(ClusterPicture(dict(NODES)))
    operator.installation.make_dead_lock("lost", 4242)
    young = operator.run("locks", "--json")
    assert young.code == 0 and not young.json("locks")["needs_you"]
    operator.configure(stuck_after="0")
    old = operator.run("locks", "--json")
    assert old.code == 1 and old.json("locks")["needs_you"]
    assert "pcs stonith confirm lost" in operator.run("locks").stdout


def test_a_dead_lock_needs_somebody_where_no_janitor_sweeps(standin: Operator) -> None:
    standin.installation.make_dead_lock()
    assert standin.run("locks").code == 0
    standin.agents.resources("")
    done = standin.run("locks", *standin.options())
    assert done.code == 1
    assert "mailman-ha sweep" in done.stdout


def test_expired_is_noted(standin: Operator) -> None:
    standin.installation.make_dead_lock("n2", 4242, expires_in=-60)
    (lock,) = standin.run("locks", "--json").locks().values()
    assert lock["expired"] and lock["verdict"] == "member"
    assert lock["expires_in_seconds"] < 0
    assert "expired" in standin.run("locks").stdout


def test_waiters_claim_without_lock_is_listed(operator: Operator) -> None:
    dead = operator.installation.make_dead_lock("n2", 4242)
    dead.lock.unlink()
    (claim,) = operator.run("locks", "--json").locks().values()
    assert (claim["kind"], claim["verdict"]) == ("claim", "member")


def test_empty_directory_has_no_lock(operator: Operator) -> None:
    operator.installation.lock_dir.mkdir(exist_ok=True)
    done = operator.run("locks")
    assert done.code == 0 and "no lock" in done.lines


def test_cluster_down_leaves_other_hosts_unknown(operator: Operator) -> None:
    operator.installation.make_dead_lock("n2", 4242)
    operator.cluster_down()
    done = operator.run("locks", "--json", *operator.options())
    content = done.json("locks")
    assert content["cluster"]["state"] == "silent"
    assert "Connection refused" in content["cluster"]["trouble"]
    (lock,) = content["locks"]
    assert lock["verdict"] == "unknown" and "could not be asked" in lock["why"]
    assert "could not be asked" in operator.run("locks", *operator.options()).stdout


# -- which Mailman

def test_parameters_of_the_clusters_resource_are_taken(operator: Operator) -> None:
    content = operator.run("locks", "--json").json("locks")
    assert content["installation"]["source"] == "resource"
    assert content["installation"]["resource"] == "mailman-janitor"
    assert content["installation"]["lock_dir"] == str(operator.installation.lock_dir)
    assert content["installation"]["version"] == operator.installation.version


def test_options_stand_in_for_resources(operator: Operator) -> None:
    operator.agents.resources("")
    content = operator.run("locks", "--json", *operator.options()).json("locks")
    assert content["installation"]["source"] == "options"
    assert content["installation"]["resource"] is None


def test_option_overrides_the_resources_parameter(standin: Operator) -> None:
    standin.installation.make_dead_lock("other.example.org", 4242)
    before = standin.run("locks", "--json").locks().popitem()[1]
    assert before["verdict"] == "stranger"
    after = standin.run("locks", "--json", "--host-map=n2=other.example.org").locks().popitem()[1]
    assert (after["verdict"], after["owner"]["node"]) == ("member", "n2")


def test_node_name_comes_from_the_cluster_as_for_the_agents(standin: Operator) -> None:
    """Without a host_map only crm_node ties the name n1 to this node."""
    standin.configure(host_map="")
    standin.installation.make_dead_lock("n1")
    (lock,) = standin.run("locks", "--json").locks().values()
    assert lock["verdict"] == "dead here"


def test_several_mailmans_must_be_told_apart(
    standin: Operator, make_installation: object
) -> None:
    other: Installation = make_installation("standin")  # type: ignore[operator]
    standin.configure(
        resource_xml("mailman-master", "second", **other.agent_parameters())
    )
    done = standin.run("locks")
    assert done.code == 2 and not done.stdout
    assert "--resource mailman-janitor or --resource second" in done.stderr
    chosen = standin.run("locks", "--json", "--resource", "second").json("locks")
    assert chosen["installation"]["lock_dir"] == str(other.lock_dir)


def test_unknown_resource_is_refused_with_those_there_are(standin: Operator) -> None:
    done = standin.run("locks", "--resource", "nothing\x1b[31m")
    assert done.code == 2
    assert "mailman-janitor" in done.stderr and "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--mailman-version=4", "must be one of"), ("--prefix=relative", "absolute path"),
        ("--prefix=/nonexistent", "is not here"), ("--user=no-such-user", "no-such-user"),
        ("--host-map=broken", "NODE=HOST"), ("--timeout=0", "--timeout"),
    ],
)
def test_wrong_option_is_told_in_one_sentence(standin: Operator, option: str, said: str) -> None:
    done = standin.run("locks", option)
    assert done.code in (1, 2) and said in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr


def test_missing_share_is_told_also_in_json(standin: Operator, tmp_path: Path) -> None:
    done = standin.run("locks", "--json", f"--lock-dir={tmp_path}/gone",
                       *standin.options(lock_dir=""))
    assert done.code == 1
    assert "mount the share first" in done.json("error")["error"]
    assert "mount the share first" in done.stderr


# -- who is not root

def test_nobody_is_told_what_could_not_be_seen(operator: Operator) -> None:
    installation = operator.installation
    dead = installation.make_dead_lock("n2", 4242)
    operator.run("locks")  # as root once: the agents have asked Mailman
    os.chmod(installation.lock_dir, 0o755)
    os.chmod(dead.claim, 0o600)
    done = operator.run("locks", "--json", uid=NOBODY)
    content = done.json("locks")
    assert len(content["could_not_see"]) == 2
    assert installation.user in content["could_not_see"][1]
    (lock,) = content["locks"]
    assert lock["verdict"] == "member"
    assert f"uid {NOBODY}" in operator.run("locks", uid=NOBODY).stdout


def test_nobody_in_a_closed_directory_gets_the_way_out(standin: Operator) -> None:
    standin.installation.make_dead_lock("n2", 4242)
    standin.run("locks")
    os.chmod(standin.installation.lock_dir, 0o700)
    done = standin.run("locks", uid=NOBODY)
    assert done.code == 1 and "run it as root" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_leaves_nothing_behind(standin: Operator, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    standin.run("locks")
    done = standin.run("locks", uid=NOBODY, environment={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done.stderr
    assert not list(tmp_path.iterdir())


# -- hostile names

HOSTILE = (
    b"\x1b[31mred\x1b[0m.lock", b"[red]markup[bold].lock", b"[blink].lock", b"new\nline.lock",
    b"\xff\xfe.lock", "‮right-to-left.lock".encode(), b"tab\tand bell\x07.lock", b"--help.lock",
    b"a" * 200 + b".lock", b":smile:.lock", b"back\\slash.lock",
)


@pytest.mark.parametrize("columns", [None, 80])
def test_hostile_names_are_text_and_nothing_else(standin: Operator, columns: int | None) -> None:
    directory = os.fsencode(standin.installation.lock_dir)
    os.makedirs(directory, exist_ok=True)
    for name in HOSTILE:
        descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.close(descriptor)
    plain = {"NO_COLOR": "1"}
    done = (
        standin.run("locks") if columns is None
        else standin.on_terminal("locks", columns=400, environment=plain)
    )
    text = "\n".join(done.lines)
    for shown in (
        "\\x1b[31mred\\x1b[0m.lock", "[red]markup[bold].lock", "[blink].lock", "new\\x0aline.lock",
        "\\xff\\xfe.lock", "\\xe2\\x80\\xaeright-to-left.lock", "tab\\x09and bell\\x07.lock",
        ":smile:.lock", "back\\\\slash.lock", "--help.lock",
    ):
        assert shown in text, shown
    assert all(character.isprintable() for line in done.lines for character in line)
    assert len(standin.run("locks", "--json").locks()) == len(HOSTILE)


# -- very many

@pytest.mark.slow
def test_hundred_thousand_locks_are_told_in_bounded_time(standin: Operator) -> None:
    lock_dir = standin.installation.lock_dir
    lock_dir.mkdir(exist_ok=True)
    for number in range(100_000):
        name = f"{lock_dir}/list{number}.lock"
        claim = f"{name}.n2.{1000 + number % 4000}.0"
        descriptor = os.open(claim, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, claim.encode())
        os.close(descriptor)
        os.link(claim, name)
    done = standin.run("locks", "--json")
    content = json.loads(done.stdout)
    assert len({one["name"] for one in content["locks"]}) == 100_000
    check_schema({**content, "locks": content["locks"][::1000]}, "locks")
    assert done.seconds < 100, done.seconds
    piped = standin.run("locks")
    assert sum(".lock " in line for line in piped.lines) == 100_000
    shown = standin.on_terminal("locks")
    assert "99500 rows more" in shown.text
    one = standin.run("explain", "list77777")
    assert one.code == 0 and one.seconds < 60, one
    print(f"100,000 locks: --json {done.seconds:.1f} s, pipe {piped.seconds:.1f} s, "
          f"explain {one.seconds:.1f} s")
