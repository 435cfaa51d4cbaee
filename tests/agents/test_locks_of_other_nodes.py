"""The master lock that another node left: released after fencing, kept in every other case."""

from __future__ import annotations

import time

import pytest

from tests.agents.agent_runs import Agents, ClusterPicture, NodePicture, evidence, identity
from tests.installations import Installation

pytestmark = [pytest.mark.slow, pytest.mark.no_posts]


def picture(n2: NodePicture, **options: bool) -> ClusterPicture:
    return ClusterPicture({"n1": NodePicture(), "n2": n2}, **options)


@pytest.mark.parametrize("online", [False, True], ids=["offline", "back online"])
def test_lock_of_fenced_node_is_released_and_mailman_starts(
    agents: Agents, installation: Installation, online: bool
) -> None:
    dead = installation.make_dead_lock("n2", 4242)
    agents.cluster(picture(NodePicture(online=online, fenced_at=time.time() + 60)))
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr
    assert agents.master("monitor", installation, level=10).code == 0
    (line,) = evidence(installation)
    assert (line["state"], line["host"], line["pid"]) == ("fenced", "n2", 4242)
    assert line["node_fenced_at"]
    quarantine = installation.lock_dir / "mailman-ha.quarantine"
    for name in line["moved_to"]:
        assert (quarantine / name).read_text() == str(dead.claim)
    assert agents.master("stop", installation).code == 0
    assert not installation.processes()


REFUSED = {
    "fenced before the lock was taken": picture(
        NodePicture(online=False, fenced_at=time.time() - 3600)
    ),
    "fenced before, now back": picture(NodePicture(fenced_at=time.time() - 3600)),
    "online": picture(NodePicture()),
    "lost": picture(NodePicture(online=False, unclean=True)),
    "left cleanly": picture(NodePicture(online=False)),
    "stonith disabled": picture(NodePicture(online=False), stonith=False),
    "stonith disabled, old event": picture(
        NodePicture(online=False, fenced_at=time.time() + 3600), stonith=False
    ),
    "fencing failed": picture(
        NodePicture(online=False, unclean=True, fenced_at=time.time() + 60, fence_status="failed")
    ),
    "only unfenced (on)": picture(
        NodePicture(online=False, fenced_at=time.time() + 60, fence_action="on")
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_lock_of_a_node_not_proven_dead_is_kept(
    agents: Agents, installation: Installation, case: str
) -> None:
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    agents.cluster(REFUSED[case])
    done = agents.master("start", installation)
    assert done.code == 1
    assert "n2" in done.reason and "4242" in done.reason
    way_out = ("pcs stonith confirm n2", "ps -fp 4242", "configure fencing")
    assert any(words in done.reason for words in way_out), done.reason
    assert identity(dead.lock) == before
    assert not installation.processes()
    assert not evidence(installation)


def test_lock_of_offline_node_is_released_without_fencing_when_the_operator_says_so(
    agents: Agents, make_installation
) -> None:
    installation = make_installation("standin")
    installation.make_dead_lock("n2", 4242)
    agents.cluster(picture(NodePicture(online=False), stonith=False))
    done = agents.master("start", installation, allow_unfenced="true")
    assert done.code == 0, done.stderr
    assert "allow_unfenced" in evidence(installation)[0]["why"]


def test_lock_of_stranger_is_kept(agents: Agents, installation: Installation) -> None:
    dead = installation.make_dead_lock("mail.elsewhere.example", 4242)
    before = identity(dead.lock)
    done = agents.master("start", installation)
    assert done.code == 1
    assert "mail.elsewhere.example" in done.reason and "host_map" in done.reason
    assert identity(dead.lock) == before


def test_lock_with_two_readings_is_kept_while_one_owner_may_live(
    agents: Agents, make_installation
) -> None:
    """``master-qrunner.n2.5.12``: host n2, pid 5; or host n2.5, pid 12 — and both are nodes."""
    installation = make_installation("standin")
    dead = installation.make_dead_lock("n2", 5, last="12")
    before = identity(dead.lock)
    nodes = {"n1": NodePicture(), "n2": NodePicture(online=False, fenced_at=time.time() + 60)}
    agents.cluster(ClusterPicture({**nodes, "n2.5": NodePicture(online=False, unclean=True)}))
    done = agents.master("start", installation)
    assert done.code == 1
    assert "n2.5" in done.reason and "12" in done.reason
    assert identity(dead.lock) == before
    # Once both are dead, so is the lock.
    agents.cluster(ClusterPicture(
        {**nodes, "n2.5": NodePicture(online=False, fenced_at=time.time() + 60)}
    ))
    assert agents.master("start", installation).code == 0


@pytest.mark.parametrize(
    "content", [b"/etc/passwd", b"\x00\xff\n", b"x" * 100000], ids=["passwd", "binary", "long"]
)
def test_lock_whose_content_contradicts_its_claim_is_kept(
    agents: Agents, installation: Installation, content: bytes
) -> None:
    dead = installation.make_dead_lock("n2", 4242, content=content)
    before = identity(dead.lock)
    agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    done = agents.master("start", installation)
    assert done.code == 1 and "content" in done.reason, done.stderr
    assert identity(dead.lock) == before


def test_unreadable_lock_is_kept(agents: Agents, installation: Installation) -> None:
    dead = installation.make_dead_lock("n2", 4242)
    dead.lock.chmod(0)
    before = identity(dead.lock)
    agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    done = agents.master("start", installation)
    assert done.code == 1 and "cannot be read" in done.reason, done.stderr
    assert identity(dead.lock) == before


def test_lock_without_owner_is_kept(agents: Agents, installation: Installation) -> None:
    """An empty lock file alone: nothing names who made it (contract 1.3, states D and J)."""
    installation.master_lock.parent.mkdir(exist_ok=True)
    installation.master_lock.write_bytes(b"")
    done = agents.master("start", installation)
    assert done.code == 1 and "names its owner" in done.reason, done.stderr
    assert installation.master_lock.exists()


def test_empty_lock_is_released_where_its_claim_names_a_fenced_owner(
    agents: Agents, installation: Installation
) -> None:
    """Delayed writes lost in a power cut leave lock and claim empty (contract 1.3, state J)."""
    installation.make_dead_lock("n2", 4242, content=b"")
    agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr


def test_lock_whose_claim_was_deleted_is_released_by_its_content(
    agents: Agents, installation: Installation
) -> None:
    """A cleaner removed the claim file (contract 1.3, state I)."""
    dead = installation.make_dead_lock("n2", 4242)
    dead.claim.unlink()
    agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    done = agents.master("start", installation)
    assert done.code == 0, done.stderr


def test_nothing_is_released_in_maintenance_mode(
    agents: Agents, installation: Installation
) -> None:
    dead = installation.make_dead_lock("n2", 4242)
    before = identity(dead.lock)
    agents.cluster(
        picture(NodePicture(online=False, fenced_at=time.time() + 60), maintenance=True)
    )
    done = agents.master("start", installation)
    assert done.code == 1 and "maintenance" in done.reason
    assert identity(dead.lock) == before
