"""Mailman on a real cluster loses nothing and never runs twice, whatever happens to a node."""

from __future__ import annotations

from .failover import Standing


def test_partitioned_active_node_is_fenced_before_the_other_takes_over(standing: Standing) -> None:
    lab = standing.lab
    standing.make_active("n2")  # of two nodes that lose each other n1 survives
    with standing.traffic("partition"):
        lab.partition("n2")
        try:
            lab.wait_until("n1 serves", lambda: lab.active_node() == "n1", 60)
        finally:
            lab.heal("n2")
    assert standing.first_master_on("n1") > standing.fencing_of("n2")
    assert_master_lock_was_released(standing, "n1", of="n2")


def test_power_cut_of_the_active_node_loses_no_post(standing: Standing) -> None:
    lab = standing.lab
    lost = lab.wait_serving()
    survivor = standing.passive_node(lost)
    with standing.traffic("power-cut"):
        lab.kill(lost)
        lab.wait_until(f"{survivor} serves", lambda: lab.active_node() == survivor, 60)
    assert standing.first_master_on(survivor) > standing.fencing_of(lost)
    assert_master_lock_was_released(standing, survivor, of=lost)


def test_nothing_starts_elsewhere_while_fencing_fails(standing: Standing) -> None:
    lab = standing.lab
    lost = lab.wait_serving()
    survivor = standing.passive_node(lost)
    with standing.traffic("unfenced"):
        lab.fence_fails_first(2)
        lab.kill(lost)
        lab.wait_until(f"{survivor} serves", lambda: lab.active_node() == survivor, 120)
    failed = [each for each in lab.events() if each["event"] == "fencing-failed-on-purpose"]
    assert len([each for each in failed if each["time"] >= standing.began]) == 2
    assert standing.first_master_on(survivor) > standing.fencing_of(lost)


def test_killed_master_is_followed_by_one_full_set_of_runners(standing: Standing) -> None:
    lab = standing.lab
    node = lab.wait_serving()
    with standing.traffic("kill-master"):
        (master,) = lab.daemons()[node]["master"]
        lab.run(node, ["kill", "-9", str(master)])
        lab.wait_until("there is another master", lambda: another_master(standing, node, master))
    assert lab.active_node() == node


def test_killed_master_and_runners_are_followed_by_one_full_set(standing: Standing) -> None:
    lab = standing.lab
    node = lab.wait_serving()
    with standing.traffic("kill-all"):
        daemons = lab.daemons()[node]
        (master,) = daemons["master"]
        everyone = [str(pid) for pids in daemons.values() for pid in pids]
        lab.run(node, ["kill", "-9", *everyone])
        lab.wait_until("there is another master", lambda: another_master(standing, node, master))
    assert lab.active_node() == node


def test_standby_of_the_active_node_hands_over_without_fencing(standing: Standing) -> None:
    lab = standing.lab
    node = lab.wait_serving()
    other = standing.passive_node(node)
    with standing.traffic("standby"), standing.on_standby(node):
        lab.wait_until(f"{other} serves", lambda: lab.active_node() == other, 90)
    fenced = [each for each in lab.events() if each["event"] == "fenced"]
    assert [each for each in fenced if each["time"] >= standing.began] == []
    assert standing.released_locks(other) == []


def test_mailman_started_by_hand_on_the_passive_node_is_gone_after_failover(
    standing: Standing,
) -> None:
    lab = standing.lab
    lost = lab.wait_serving()
    survivor = standing.passive_node(lost)
    lab.run(survivor, ["mkdir", "-p", lab.site.mount_point])
    try:
        by_hand = start_by_hand(standing, survivor)
        lab.kill(lost)
        lab.wait_until(f"{survivor} serves", lambda: lab.active_node() == survivor, 90)
        # Until then there were two, by the test's hand.
        standing.began = standing.fencing_of(lost) + 1
        with standing.traffic("by-hand"):
            lab.wait_until(
                "the one by hand is gone", lambda: not alive(standing, survivor, by_hand)
            )
    finally:
        lab.site.clear_local_start(lab, survivor)
    served = lab.daemons()[survivor]
    assert not {pid for pids in served.values() for pid in pids} & set(by_hand)


def test_cleanup_serves_again_once_the_operator_mended_the_cause(standing: Standing) -> None:
    lab = standing.lab
    node = lab.wait_serving()
    lock, claim = (
        f"{lab.site.lock_directory()}/{name}"
        for name in lab.site.master_lock_names("stranger.example.org", 4242)
    )
    owner = f"{lab.site.user}:{lab.site.group}"
    with standing.traffic("mended"):
        lab.run(node, ["pcs", "resource", "disable", "mailman"])
        lab.wait_until("Mailman is stopped", lambda: not lab.daemons())
        lab.run(node, ["sh", "-ec", STRANGERS_LOCK, "sh", lock, claim, owner])
        lab.run(node, ["pcs", "resource", "enable", "mailman"])
        refusals = lab.wait_until(
            "the start is refused on both nodes",
            lambda: [text for text in lab.failures() if "mailman_start" in text][1:]
            and lab.failures(),
        )
        for text in refusals:
            assert "stranger.example.org" in text, refusals
            assert "4242" in text, refusals
        holder = lab.wait_until("the share is mounted", lambda: share_holder(standing))
        assert lab.run(holder, ["stat", "-c", "%h", lock]).stdout.strip() == "2"
        assert lab.daemons() == {}

        lab.run(holder, ["rm", lock, claim])
        lab.run(holder, ["pcs", "resource", "cleanup"])
        lab.wait_serving(60)
    assert lab.failures() == []


# A master lock that is held, by all appearance, on a host that is no node: the claim file names
# itself, the lock is a link to it, and the expiry time is 30 hours ahead.
STRANGERS_LOCK = """
printf %s "$2" > "$2"
chown "$3" "$2"
touch -d '+30 hours' "$2"
ln "$2" "$1"
"""


def assert_master_lock_was_released(standing: Standing, survivor: str, of: str) -> None:
    """The evidence log on the share says that the master lock of `of` went because of a fencing."""
    name, _ = standing.lab.site.master_lock_names(of, 0)
    entries = [
        entry
        for entry in standing.released_locks(survivor)
        if entry["released"] == name and entry["node"] == of
    ]
    assert entries, standing.released_locks(survivor)
    assert entries[0]["state"] == "fenced"
    assert entries[0]["by_node"] == survivor


def another_master(standing: Standing, node: str, master: int) -> bool:
    """Whether the node has a master that is not this one."""
    found = standing.lab.daemons().get(node, {}).get("master", [])
    return found != [] and master not in found


def start_by_hand(standing: Standing, node: str) -> list[int]:
    """Start Mailman on a node as an impatient operator would; gives the pids of what runs then."""
    lab = standing.lab
    lab.site.prepare_local_start(lab, node)
    lab.run(node, lab.site.start_command(force=True))
    lab.wait_until(
        f"a second master runs on {node}",
        lambda: lab.daemons().get(node, {}).get("master")
        and len(lab.daemons().get(node, {})) > len(lab.site.runners),
    )
    return [pid for pids in lab.daemons()[node].values() for pid in pids]


def alive(standing: Standing, node: str, pids: list[int]) -> bool:
    """Whether any of these is still a Mailman daemon of the node."""
    now = {pid for found in standing.lab.daemons().get(node, {}).values() for pid in found}
    return bool(now & set(pids))


def share_holder(standing: Standing) -> str | None:
    """The node that has the share mounted."""
    status = standing.lab.cluster_status()
    return standing.lab.place_of(status, "share") if status is not None else None
