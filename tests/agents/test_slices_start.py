"""Start of qfiles-slice: one runner under a claim that names it, or a refusal that tells the way
out."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import flufl.lock
import pytest

from tests.agents.agent_runs import AGENTS, NodePicture, evidence, identity
from tests.agents.slice_fixture import (
    COUNT,
    Node,
    Sliced,
    clone_xml,
    picture,
    refused,
    resource_xml,
)
from tests.installation_fixture import KINDS21
from tests.installations import Installation, wait_until
from tests.locks.peer import Peer
from tests.private_processes import read_process

pytestmark = pytest.mark.slow

only_standin = pytest.mark.parametrize("sliced", ["standin"], indirect=True)
only_21 = pytest.mark.parametrize("sliced", KINDS21, indirect=True)
only_3 = pytest.mark.parametrize("sliced", ["mailman3"], indirect=True)


def test_start_runs_one_runner_in_a_session_of_its_own_under_a_claim_that_names_it(
    sliced: Sliced,
) -> None:
    done = sliced.start(1)
    assert done.code == 0 and not done.reason, done.stderr
    (process,) = sliced.installation.processes()
    assert sliced.pids(1) == [process.pid]
    assert process.session == process.group == process.pid
    assert os.stat(f"/proc/{process.pid}").st_uid == sliced.installation.uid
    assert process.catches(signal.SIGTERM)
    assert all(
        not os.readlink(f"/proc/{process.pid}/fd/{number}").startswith("pipe:")
        for number in (0, 1, 2)
    )
    assert len(sliced.claims()) == 2
    assert sliced.claimed_by(sliced.lock(1)) == (sliced.installation.host, process.pid)
    expiry = os.stat(sliced.lock(1)).st_mtime - time.time()
    assert 29 * 3600 < expiry <= 30 * 3600
    for level in (0, 10, 20):
        assert sliced.monitor(1, level=level).code == 0
    again = sliced.start(1)
    assert again.code == 0 and sliced.pids(1) == [process.pid]
    assert sliced.claimed_by(sliced.lock(1))[1] == process.pid


def test_claim_is_a_lock_to_mailman_itself(sliced: Sliced) -> None:
    """flufl.lock's and Mailman 2.1's own code see it held, and by whom."""
    pid = sliced.started(3)
    peer = Peer(sliced.installation.uid, sliced.installation.gid)
    try:
        assert not peer.take("3" if sliced.is_3 else "2.1", str(sliced.lock(3)))
    finally:
        peer.close()
    if sliced.is_3:
        named = flufl.lock.Lock(str(sliced.lock(3))).details
        assert named == (sliced.installation.host, pid, str(sliced.lock(3)))
    assert sliced.monitor(3, level=10).code == 0


@only_21
def test_primitive_with_slice_and_slices_runs_the_same(sliced: Sliced) -> None:
    pid = sliced.started(2, 3, clone=False)
    assert sliced.claimed_by(sliced.lock(2, 3))[1] == pid
    assert sliced.monitor(2, 3, clone=False, level=10).code == 0
    assert sliced.stop(2, 3, clone=False).code == 0
    assert not sliced.installation.processes() and not sliced.claims()


@only_21
def test_all_slices_of_a_clone_run_on_one_node_each_once(sliced: Sliced) -> None:
    """clone-node-max equal to clone-max: what is left of the cluster takes everything."""
    pids = [sliced.started(number, 3) for number in range(3)]
    assert [sliced.pids(number, 3) for number in range(3)] == [[pid] for pid in pids]
    assert all(sliced.monitor(number, 3, level=10).code == 0 for number in range(3))


def test_runner_works_on_its_slice_and_leaves_the_others_alone(sliced: Sliced) -> None:
    for _ in range(40):
        sliced.installation.post()
        found = sliced.entries_by_slice()
        if all(found.values()):
            break
    assert all(found.values()), "no post fell into some slice"
    in_work = sliced.lay_entry(0, 5.0, ".bak")
    left_alone = {
        path: identity(path) for number in (0, 1, 3) for path in found[number] | {in_work}
    }
    sliced.started(2)
    wait_until(lambda: not sliced.entries_by_slice()[2], 20, "the slice is empty")
    assert {path: identity(path) for path in left_alone} == left_alone
    assert not list((sliced.installation.queue_dir / "shunt").glob("*"))


# Claims that stand


PROVED_BY_NOTHING = {
    "online": (NodePicture(), "n2", "which is online"),
    "lost": (NodePicture(online=False, unclean=True), "n2", "pcs stonith confirm n2"),
    "fenced before": (
        NodePicture(online=False, fenced_at=time.time() - 3600), "n2", "pcs stonith confirm n2"
    ),
    "unknown host": (NodePicture(online=False), "mail.elsewhere.example", "host_map="),
}


@pytest.mark.parametrize("case", PROVED_BY_NOTHING)
@only_standin
def test_claim_of_an_owner_not_proven_dead_refuses_the_start(sliced: Sliced, case: str) -> None:
    node, host, words = PROVED_BY_NOTHING[case]
    sliced.agents.cluster(picture(node))
    assert_claim_refuses(sliced, host, (1, 4), words)


@only_standin
def test_claim_of_any_geometry_that_overlaps_refuses_the_start(sliced: Sliced) -> None:
    for geometry in ((0, 2), (0, 1), (11, 32), (1, 3), (1, 5), (400_000_000, 999_999_999)):
        assert_claim_refuses(sliced, "n2", geometry, "which is online")
        for name in sliced.claims():
            (sliced.installation.lock_dir / name).unlink()


def assert_claim_refuses(
    sliced: Sliced, host: str, geometry: tuple[int, int], words: str
) -> None:
    dead = sliced.installation.make_dead_lock(host, 4242, lock=sliced.lock(*geometry))
    before = identity(dead.lock)
    refused(sliced.start(1), 1, "in:1:4", dead.lock.name, "4242", host, words)
    assert identity(dead.lock) == before and dead.claim.exists()
    assert not sliced.installation.processes()
    assert len(sliced.claims()) == 2


def test_claim_of_a_lost_node_is_kept_and_refuses(sliced: Sliced) -> None:
    sliced.agents.cluster(picture(NodePicture(online=False, unclean=True)))
    dead = sliced.installation.make_dead_lock("n2", 4242, lock=sliced.lock(0, 2))
    before = identity(dead.lock)
    refused(sliced.start(1), 1, "in:1:4", "n2", "4242", "pcs stonith confirm n2")
    assert identity(dead.lock) == before
    assert not sliced.installation.processes()


@only_standin
def test_claim_on_another_part_of_the_queue_refuses_nothing(sliced: Sliced) -> None:
    locks = [sliced.lock(*lock) for lock in ((2, 4), (1, 2), (3, 4), (0, 5), (4, 8), (1, 4, "out"))]
    for lock in locks:
        sliced.installation.make_dead_lock("n2", 4242, lock=lock)
    before = [identity(lock) for lock in locks]
    sliced.started(1)
    assert [identity(lock) for lock in locks] == before


@only_standin
@pytest.mark.parametrize("content", [b"", b"/etc/passwd", b"\xff\x00", b"x" * 9000])
def test_claim_with_content_that_tells_nothing_refuses(sliced: Sliced, content: bytes) -> None:
    dead = sliced.installation.make_dead_lock("n2", 4242, lock=sliced.lock(0, 2), content=content)
    before = identity(dead.lock)
    refused(sliced.start(1), 1, dead.lock.name, "kept")
    assert identity(dead.lock) == before
    assert not sliced.installation.processes()


def test_unreadable_claim_refuses(sliced: Sliced) -> None:
    dead = sliced.installation.make_dead_lock("n2", 4242, lock=sliced.lock(1))
    dead.claim.chmod(0)
    sliced.agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    before = identity(dead.lock)
    refused(sliced.start(1), 1, "cannot be read")
    assert identity(dead.lock) == before
    assert not sliced.installation.processes()


def test_claim_of_a_fenced_node_is_released_with_its_evidence_and_the_slice_starts(
    sliced: Sliced,
) -> None:
    dead = [
        sliced.installation.make_dead_lock("n2", 4242 + number, lock=lock)
        for number, lock in enumerate((sliced.lock(1), sliced.lock(0, 2)))
    ]
    kept = sliced.installation.make_dead_lock("n2", 4244, lock=sliced.lock(2))
    before = identity(kept.lock)
    sliced.agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 60)))
    sliced.started(1)
    lines = {line["pid"]: line for line in evidence(sliced.installation)}
    assert set(lines) == {4242, 4243}, "every claim on the slice is released, no other is"
    for one in dead:
        line = lines[one.pid]
        assert (line["state"], line["host"], line["by_resource"]) == ("fenced", "n2", "slice-in:1")
        assert line["node_fenced_at"]
        for name in line["moved_to"]:
            moved = sliced.installation.lock_dir / "mailman-ha.quarantine" / name
            assert moved.read_text() == str(one.claim)
    assert identity(kept.lock) == before
    assert sliced.monitor(1, level=20).code == 0


@only_21
def test_live_runner_of_another_resource_refuses_the_same_slice_and_every_overlapping_one(
    sliced: Sliced,
) -> None:
    pid = sliced.started(1)
    for number, count in ((1, 4), (0, 2), (0, 1), (2, 5)):
        refused(
            sliced.start(number, count, clone=False), 1,
            f"1:4 {pid}", "started by another resource", "stop that resource",
        )
    elsewhere = sliced.agents.directory / "another-state"
    elsewhere.mkdir(exist_ok=True)
    assert sliced.start(1, clone=False, instance="x", state_dir=elsewhere).code == 1
    assert [process.pid for process in sliced.installation.processes()] == [pid]
    assert len(sliced.claims()) == 2
    assert sliced.monitor(1, level=10).code == 0


@only_21
def test_live_runner_refuses_an_overlapping_slice_also_when_its_claim_was_removed_by_hand(
    sliced: Sliced,
) -> None:
    """``rm locks/*``, as many pages on Mailman advise."""
    pid = sliced.started(1)
    for name in sliced.claims():
        (sliced.installation.lock_dir / name).unlink()
    done = sliced.start(0, 2, clone=False)
    assert [process.pid for process in sliced.installation.processes()] == [pid]
    refused(done, 1, str(pid))


@only_standin
def test_of_starts_at_the_same_moment_at_most_one_wins_whatever_their_geometry(
    sliced: Sliced,
) -> None:
    asked = [(0, 1), (0, 2), (1, 4), (1, 4), (1, 3), (3, 8)]
    for _ in range(2):
        running = []
        for order, (number, count) in enumerate(asked):
            environ = sliced.agents.environment(
                "start", sliced.installation, instance=f"rival-{order}",
                parameters={"queue": "in", "slice": str(number), "slices": str(count)},
            )
            running.append(subprocess.Popen(
                [AGENTS / "qfiles-slice", "start"], env=environ, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ))
        codes = [one.wait(60) for one in running]
        left = sliced.installation.processes()
        assert len(left) == codes.count(0) <= 1, (codes, left)
        assert len(sliced.claims()) == 2 * len(left)
        sliced.reset()


# A power cut


@only_21
def test_slice_of_a_node_that_lost_its_power_starts_elsewhere_after_the_fencing_and_not_before(
    sliced: Sliced, make_node: Callable[[Sliced, str], Node]
) -> None:
    assert sliced.monitor(1).code == 7  # Mailman has been asked: the nodes start with its answer
    n1, n2 = make_node(sliced, "n1"), make_node(sliced, "n2")
    given = {"host_map": f"n1={n1.host} n2={n2.host}"}
    done = n2.slice("start", sliced.installation, 1, **given)
    assert done.code == 0, done.stderr
    assert sliced.claimed_by(sliced.lock(1))[0] == n2.host
    refused(n1.slice("start", sliced.installation, 1, **given), 1, "which is online")
    assert len(sliced.pids(1)) == 1
    n2.cut_power()
    sliced.agents.cluster(picture(NodePicture(online=False, unclean=True)))
    refused(n1.slice("start", sliced.installation, 1, **given), 1, "pcs stonith confirm n2")
    assert not sliced.pids(1)
    sliced.agents.cluster(picture(NodePicture(online=False, fenced_at=time.time() + 2)))
    done = n1.slice("start", sliced.installation, 1, **given)
    assert done.code == 0, done.stderr
    assert len(sliced.pids(1)) == 1
    assert sliced.claimed_by(sliced.lock(1))[0] == n1.host


# The cluster's other resources


def overlaps(sliced: Sliced) -> dict[str, tuple[str, tuple[str, ...]]]:
    given = {**sliced.installation.agent_parameters(), "queue": "in"}
    four = {"globally-unique": "true", "clone-max": "4"}
    template = (
        '<template id="t" class="ocf" provider="mailman" type="qfiles-slice">'
        '<instance_attributes id="t-a">'
        + "".join(f'<nvpair id="t-{key}" name="{key}" value="{value}"/>'
                  for key, value in {**given, "slice": "1", "slices": "4"}.items())
        + '</instance_attributes></template><primitive id="other" template="t"/>'
    )
    return {
        "different slices": (
            resource_xml("other", {**given, "slice": "5", "slices": "8"}),
            ("other", "into 8 slices", "this one into 4", "pcs resource disable other"),
        ),
        "the same slice": (
            resource_xml("other", {**given, "slice": "1", "slices": "4"}),
            ("other", "slice in:1:4 as well", "pcs resource disable other"),
        ),
        "a clone of as many": (
            clone_xml(resource_xml("other", given), four), ("other", "slice in:1:4 as well")
        ),
        "a clone of others": (
            clone_xml(resource_xml("other", given), {**four, "clone-max": "2"}),
            ("other", "into 2 slices"),
        ),
        "a clone of who knows how many": (
            clone_xml(resource_xml("other", given), {"globally-unique": "true"}),
            ("other", "clone-max"),
        ),
        "one without slices": (
            resource_xml("other", {**given, "slice": "0"}), ("other", "set its slice and slices")
        ),
        "one from a template": (template, ("other", "slice in:1:4 as well")),
        "one that is started": (
            resource_xml("other", {**given, "slice": "1", "slices": "4"},
                         {"target-role": "Started"}),
            ("other", "slice in:1:4 as well"),
        ),
        "one that is unmanaged": (
            resource_xml("other", {**given, "slice": "1", "slices": "4"},
                         {"is-managed": "false"}),
            ("other", "slice in:1:4 as well"),
        ),
    }


@pytest.mark.parametrize("sliced", ["standin", "mailman3"], indirect=True)
def test_other_resource_on_a_part_of_the_slice_refuses_the_start(sliced: Sliced) -> None:
    for case, (xml, words) in overlaps(sliced).items():
        if sliced.is_3 and case not in ("different slices", "the same slice", "a clone of as many"):
            continue  # the CIB is read alike for both
        sliced.agents.resources(xml)
        done = sliced.start(1)
        assert done.code == 6, (case, done)
        refused(done, 6, *words)
    assert not sliced.installation.processes() and not sliced.claims()


@only_standin
def test_resources_that_cannot_meet_the_slice_refuse_nothing(
    sliced: Sliced, make_installation: Callable[..., Installation]
) -> None:
    given = {**sliced.installation.agent_parameters(), "queue": "in"}
    elsewhere = {**given, **make_installation("standin").agent_parameters()}
    same = {"slice": "1", "slices": "4"}
    sliced.agents.resources(
        resource_xml("slice-in", given)  # itself
        + resource_xml("disabled", {**given, **same}, {"target-role": "Stopped"})
        + resource_xml("neighbour", {**given, "slice": "2", "slices": "4"})
        + resource_xml("out", {**given, **same, "queue": "out"})
        + resource_xml("elsewhere", {**elsewhere, **same})
        + resource_xml("nowhere", {**given, **same, "prefix": "/nonexistent"})
        + resource_xml("master", given, agent="mailman-master")
        + clone_xml(
            resource_xml("disabled-clone", given),
            {"globally-unique": "true", "clone-max": "8", "target-role": "Stopped"},
        )
    )
    sliced.started(1)


WAYS = {
    "failing": ("echo it is broken >&2; exit 1", "it is broken"),
    "printing rubbish": ("head -c 100000 /dev/urandom; exit 0", "XML"),
    "printing nothing": ("exit 0", "XML"),
    "printing a part": ("echo '<resources><primitive id=\"x\" '", "XML"),
    "hanging": ("trap '' TERM; sleep 600 & wait; sleep 600", "did not end"),
    "missing": ("", "cannot be run"),
}


@only_standin
@pytest.mark.parametrize("way", WAYS)
def test_cibadmin_in_trouble_refuses_the_start_in_time(sliced: Sliced, way: str) -> None:
    script, words = WAYS[way]
    assert sliced.monitor(1).code == 7
    if script:
        sliced.agents.program("cibadmin", script)
    else:
        sliced.agents.without("cibadmin")
    done = sliced.start(1, timeout=4, whole_path=way != "missing")
    refused(done, 1, "not known which other resources", "cibadmin", words)
    assert done.seconds < 4
    assert not sliced.installation.processes() and not sliced.claims()


# Mailman's own configuration


def test_queue_that_the_master_is_configured_for_refuses(
    sliced: Sliced, make_installation: Callable[..., Installation]
) -> None:
    installation = make_installation(sliced.kind, slices={"in": 4} if sliced.is_3 else None)
    way_out = "start: no in [runner.in]" if sliced.is_3 else "IncomingRunner out of QRUNNERS"
    refused(
        sliced.agents.slice("start", installation, 0), 5,
        "configured to run the queue in itself", way_out,
    )
    assert not installation.processes()


@only_3
def test_mailman3_refuses_what_its_runners_cannot_do(sliced: Sliced) -> None:
    refused(sliced.start(0, 3), 6, "power of two", "2 or 4")
    refused(sliced.start(0, 2), 5, "instances", "instances: 2")
    refused(sliced.start(0, 8), 5, "instances", "instances: 8")
    for queue in ("lmtp", "rest", "task", "bad", "shunt", "nosuch"):
        refused(sliced.start(0, 1, queue=queue), 6, f"queue {queue}", "queues that can have", "in")
    assert not sliced.claims()


@only_21
def test_mailman21_refuses_queues_that_no_runner_serves(sliced: Sliced) -> None:
    for queue in ("shunt", "bad", "IncomingRunner", "lmtp"):
        refused(sliced.start(0, 1, queue=queue), 6, queue, "queues that can have", "in")
    for queue in ("../in", "in/", "", "a b", "x" * 300):
        done = sliced.start(0, 1, queue=queue)
        refused(done, 6, "queue")
    assert not sliced.claims()


# Runners that people started


def assert_stray_refuses_here_and_elsewhere(
    sliced: Sliced, make_node: Callable[[Sliced, str], Node], stray: tuple[int, int]
) -> None:
    runner = sliced.by_hand(*stray)
    refused(
        sliced.start(1), 1, f"{stray[0]}:{stray[1]} {runner.pid}", "no resource",
        f"kill {runner.pid}",
    )
    assert [process.pid for process in sliced.installation.runners()] == [runner.pid]
    # Another node does not see the process, but its claim.
    assert sliced.claimed_by(sliced.lock(*stray)) == (sliced.installation.host, runner.pid)
    refused(sliced.start(1), 1, f"kill {runner.pid}")
    assert len(sliced.claims()) == 2
    n2 = make_node(sliced, "n2")
    given = {"host_map": f"n1={sliced.installation.host} n2={n2.host}"}
    refused(
        n2.slice("start", sliced.installation, 1, **given), 1, f"pid {runner.pid} on node n1",
    )
    runner.terminate()
    runner.wait(20)
    sliced.started(1)
    assert sliced.stop(1).code == 0
    assert not sliced.claims(), "the claim that was made for the stray has gone with it"
    done = n2.slice("start", sliced.installation, 1, **given)
    assert done.code == 0, done.stderr
    assert n2.slice("stop", sliced.installation, 1, **given).code == 0


def test_runner_started_by_hand_refuses_its_slice_here_and_on_another_node(
    sliced: Sliced, make_node: Callable[[Sliced, str], Node]
) -> None:
    assert_stray_refuses_here_and_elsewhere(sliced, make_node, (1, COUNT))


@only_21
def test_runner_started_by_hand_on_the_whole_queue_refuses_every_slice(
    sliced: Sliced, make_node: Callable[[Sliced, str], Node]
) -> None:
    assert_stray_refuses_here_and_elsewhere(sliced, make_node, (0, 1))


@only_21
def test_runner_started_by_hand_without_a_slice_refuses(sliced: Sliced) -> None:
    """``qrunner -r Incoming``: everything, and the name without its last word."""
    program = sliced.runner_command()[0]
    stray = sliced.installation.spawn([program, "-r", "Incoming", "-s"])
    try:
        wait_until(
            lambda: (found := read_process(stray.pid)) is not None
            and found.catches(signal.SIGTERM),
            10, "the runner is up",
        )
        refused(sliced.start(1), 1, f"kill {stray.pid}")
        assert not sliced.pids(1)
    finally:
        stray.kill()
        stray.wait()


@only_3
def test_runner_by_hand_counts_by_mailmans_own_number_of_instances(sliced: Sliced) -> None:
    """Mailman 3 ignores the second number of ``in:1:8``: it works on slice 1 of 4."""
    runner = sliced.by_hand(1, 8)
    refused(sliced.start(1), 1, f"kill {runner.pid}")
    assert not sliced.pids(1)


@only_standin
def test_runner_by_hand_on_another_slice_or_queue_refuses_nothing(sliced: Sliced) -> None:
    others = [sliced.by_hand(2), sliced.by_hand(0, 1, "out")]
    sliced.started(1)
    assert sliced.monitor(1, level=10).code == 0
    assert sliced.stop(1).code == 0
    assert all(other.poll() is None for other in others)


# What is no slice


NO_SLICE = {
    "anonymous clone": ({"CRM_meta_globally_unique": "false"}, "globally-unique=true"),
    "neither clone nor slice": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "CRM_meta_globally_unique": ""},
        "set both slice and slices",
    ),
    "slice without slices": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "slice": "1"}, "set both slice and slices"
    ),
    "slices without slice": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "slices": "4"},
        "set both slice and slices",
    ),
    "clone and slice": ({"slice": "2", "slices": "4"}, "remove slice and slices"),
    "number beyond": ({"CRM_meta_clone": "4"}, "at most 3"),
    "slice beyond": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "slice": "4", "slices": "4"}, "at most 3"
    ),
    "clone without clone-max": ({"CRM_meta_clone_max": ""}, "clone-max"),
    "no number": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "slice": "one", "slices": "4"}, "slice"
    ),
    "no slices at all": (
        {"CRM_meta_clone": "", "CRM_meta_clone_max": "", "slice": "0", "slices": "0"}, "slices"
    ),
}


@only_standin
def test_configuration_without_a_slice_is_refused_and_a_runner_under_it_can_be_stopped(
    sliced: Sliced,
) -> None:
    for case, (parameters, words) in NO_SLICE.items():
        done = sliced.start(1, **parameters)
        assert done.code == 6, (case, done)
        refused(done, 6, words)
    assert not sliced.claims()
    pid = sliced.started(1)
    for case, (parameters, _) in NO_SLICE.items():
        if case != "anonymous clone":  # its runner and claim are just as they were asked for
            seen = sliced.monitor(1, **parameters)
            assert seen.code == 1, (case, seen)
            assert str(pid) in seen.reason or "parameter slice" in seen.reason, (case, seen)
    for case, (parameters, _) in NO_SLICE.items():
        done = sliced.stop(1, **parameters)  # of nothing, where the last one started nothing
        assert done.code == 0, (case, done)
        assert not sliced.installation.processes() and not sliced.claims(), case
        assert sliced.monitor(1, **parameters, interval=0).code == 7, case
        if case in ("clone and slice", "slice beyond"):
            assert sliced.started(1) != pid
    assert sliced.stop(1).code == 0


@only_standin
def test_resource_moved_to_another_slice_says_so_until_it_is_stopped(sliced: Sliced) -> None:
    pid = sliced.started(1, clone=False, instance="x")
    seen = sliced.monitor(2, clone=False, instance="x")
    refused(seen, 1, str(pid), "configured for in:2:4 now")
    refused(sliced.start(2, clone=False, instance="x"), 1, "stop the resource first")
    assert sliced.stop(2, clone=False, instance="x").code == 0
    assert not sliced.installation.processes() and not sliced.claims()
    sliced.started(2, clone=False, instance="x")


# Hostile files in lock_dir


HOSTILE_NAMES = (
    "qfiles:in:9:4.lock", "qfiles:in:0:0.lock", "qfiles:in:1:99999999999999999999.lock",
    "qfiles:in:-1:4.lock", "qfiles:in:01:4.lock", "qfiles:in:1:4:8.lock", "qfiles:in:1.lock",
    "qfiles::1:4.lock", "qfiles:in:1:4.lock\n", "qfiles:in:١:4.lock", "qfiles:in::.lock",
    "qfiles:IN:1:4.lock", "qfiles:in:1:4", "qfiles:..:1:4.lock", "qfiles:in:1:4.LOCK",
    "qfiles:" + "i" * 200 + ":1:4.lock", "qfiles:in:1:4.lock.", "qfiles:out:1:4.lock",
)


@only_standin
def test_names_that_claim_no_slice_of_the_queue_are_left_alone_and_refuse_nothing(
    sliced: Sliced,
) -> None:
    laid = []
    for name in (*HOSTILE_NAMES, b"qfiles:in:\xff\xfe:4.lock"):
        path = Path(os.fsdecode(os.path.join(
            os.fsencode(sliced.installation.lock_dir), os.fsencode(name)
        )))
        path.write_bytes(b"/etc/passwd")
        os.chown(path, sliced.installation.uid, sliced.installation.gid)
        laid.append(path)
    before = [identity(path) for path in laid]
    sliced.started(1)
    assert sliced.monitor(1, level=10).code == 0
    assert sliced.stop(1).code == 0
    assert [identity(path) for path in laid] == before


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o666)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/file")


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(b"x")


@only_standin
@pytest.mark.parametrize("geometry", [(1, 4), (0, 2)], ids=["this slice", "a greater one"])
@pytest.mark.parametrize("make", [_fifo, _link, _dangling, _directory])
def test_what_is_no_file_in_the_place_of_a_claim_refuses_and_is_not_touched(
    sliced: Sliced, make: Callable[[Path], None], geometry: tuple[int, int]
) -> None:
    path = sliced.lock(*geometry)
    make(path)
    os.chown(path, sliced.installation.uid, sliced.installation.gid, follow_symlinks=False)
    before = os.lstat(path)
    done = sliced.start(1, timeout=10)
    assert done.seconds < 5
    refused(done, 1, path.name)
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino, before.st_mode, before.st_mtime_ns
    )
    assert os.stat("/etc/passwd").st_nlink == 1
    assert not sliced.installation.processes()
    assert sliced.claims() == [path.name]
