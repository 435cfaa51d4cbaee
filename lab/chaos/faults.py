"""The faults of the campaign: each does something to a running cluster.

A fault says what it does, may be mended after a time as the world outside would (a cable is put
back, a disk has room again), and says for which moments the watchers' rules are eased, because a
human started a second Mailman, or a file system broke its own promise about what it had taken.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.client import Lab, LabFailure
from lab.cluster import address


@dataclass
class Scene:
    """Where a fault happens: the lab, the node that has the master, and what was decided."""

    lab: Lab
    chance: random.Random
    active: str
    notes: list[str] = field(default_factory=list)
    victim: str = ""
    stopped: list[int] = field(default_factory=list)  # pids in the victim that got SIGSTOP
    doubles_excused_until: float = 0.0  # seconds since the epoch: until then a human made two
    posts_excused: tuple[float, float] = (0.0, 0.0)  # accepted then: the file system lost it
    typed: list[str] = field(default_factory=list)  # what an operator typed

    def passive(self) -> str:
        """A node that has no master."""
        return self.chance.choice([each for each in self.lab.node_names if each != self.active])

    def note(self, text: str) -> None:
        """For the record of the round."""
        self.notes.append(text)

    def shell(self, node: str, script: str, check: bool = True) -> str:
        """Run a line of shell in a node."""
        return self.lab.run(node, ["sh", "-c", script], check=check, timeout=40).stdout

    def mailman_pids(self, role: str) -> list[int]:
        """Pids in the victim: of the `master`, of all `runners`, or of `one` runner."""
        found = self.lab.daemons().get(self.victim, {})
        runners = sorted(pid for key, pids in found.items() if key != "master" for pid in pids)
        if role == "master":
            return list(found.get("master", []))
        if role == "one" and runners:
            key = self.chance.choice(sorted(key for key in found if key != "master"))
            self.note(f"runner {key}")
            return list(found[key])
        return runners

    def cluster_pids(self, program: str) -> list[int]:
        """Pids in the victim of a daemon of corosync or Pacemaker."""
        return [
            each.inner_pid
            for each in self.lab.processes(self.victim)
            if each.command_line and each.command_line[0].rsplit("/", 1)[-1] == program
        ]

    def signal(self, number: str, pids: list[int]) -> None:
        """Send a signal to processes of the victim; LabFailure when there is none."""
        if not pids:
            raise LabFailure(f"nothing to signal on {self.victim}: {self.lab.daemons()}")
        words = ["kill", f"-{number}", *map(str, pids)]
        self.lab.run(self.victim, words, check=False)


Step = Callable[[Scene], None]


def nothing(scene: Scene) -> None:
    """There is nothing to mend."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `hold` is how long it lasts, in seconds, where the world mends it."""

    name: str
    text: str
    inject: Step
    mend: Step = nothing
    hold: tuple[float, float] = (0.0, 0.0)
    needs_disk: bool = False
    needs_two: bool = False  # only where there is one other node
    only_on: str = ""  # how the names of the sites begin that can have it

    def fits(self, site: str, nodes: int) -> bool:
        """Whether a field of this site and number of nodes can have it."""
        if not site.startswith(self.only_on):
            return False
        if self.needs_disk and site.endswith("-slices"):
            return False
        return not self.needs_two or nodes == 2


# ---------------------------------------------------------------- power and network


def cut_active(scene: Scene) -> None:
    scene.lab.kill(scene.active)


def cut_passive(scene: Scene) -> None:
    scene.lab.kill(scene.passive())


def cut_with_failing_fence(scene: Scene) -> None:
    scene.lab.fence_fails_first(scene.chance.choice([1, 2]))
    scene.lab.kill(scene.active)


def unplug_active(scene: Scene) -> None:
    scene.victim = scene.active
    scene.lab.partition(scene.victim)


def unplug_passive(scene: Scene) -> None:
    scene.victim = scene.passive()
    scene.lab.partition(scene.victim)


def plug(scene: Scene) -> None:
    with contextlib.suppress(LabFailure):
        scene.lab.heal(scene.victim)


def peers_unreachable(scene: Scene) -> None:
    """Packets to the other nodes go nowhere; those of the others still arrive."""
    scene.victim = scene.chance.choice(scene.lab.node_names)
    scene.note(f"{scene.victim} is heard by nobody")
    others = [address(node) for node in scene.lab.node_names if node != scene.victim]
    lines = "; ".join(f"ip route add blackhole {each}/32" for each in others)
    scene.shell(scene.victim, lines)


def peers_reachable(scene: Scene) -> None:
    others = [address(node) for node in scene.lab.node_names if node != scene.victim]
    lines = "; ".join(f"ip route del blackhole {each}/32" for each in others)
    with contextlib.suppress(LabFailure):
        scene.shell(scene.victim, lines, check=False)


# ---------------------------------------------------------------- processes


def kill_mailman(role: str) -> Step:
    def inject(scene: Scene) -> None:
        scene.victim = scene.active
        scene.signal("KILL", scene.mailman_pids(role))

    return inject


def kill_everything(scene: Scene) -> None:
    scene.victim = scene.active
    scene.signal("KILL", scene.mailman_pids("master") + scene.mailman_pids("runners"))


def kill_cluster(program: str) -> Step:
    def inject(scene: Scene) -> None:
        scene.victim = scene.chance.choice(scene.lab.node_names)
        scene.note(f"on {scene.victim}")
        scene.signal("KILL", scene.cluster_pids(program))

    return inject


def stop_mailman(role: str) -> Step:
    def inject(scene: Scene) -> None:
        scene.victim = scene.active
        scene.stopped = scene.mailman_pids(role)
        scene.signal("STOP", scene.stopped)

    return inject


def stop_cluster(program: str) -> Step:
    def inject(scene: Scene) -> None:
        scene.victim = scene.chance.choice(scene.lab.node_names)
        scene.note(f"on {scene.victim}")
        scene.stopped = scene.cluster_pids(program)
        scene.signal("STOP", scene.stopped)

    return inject


def go_on(scene: Scene) -> None:
    """SIGCONT, to those that are still stopped; a node that was booted since has others."""
    with contextlib.suppress(LabFailure):
        stopped = [each for each in scene.lab.processes(scene.victim) if each.state == "T"]
        pids = [each.inner_pid for each in stopped if each.inner_pid in scene.stopped]
        if pids:
            scene.signal("CONT", pids)


# ---------------------------------------------------------------- the share


def unmount(scene: Scene) -> None:
    """Lazily, with Mailman running. What lies under the mount point is closed to Mailman."""
    point = scene.lab.site.mount_point
    scene.shell(
        scene.active,
        f"mkdir -p /run/bare && mount --bind / /run/bare && chmod 000 /run/bare{point}; "
        f"umount /run/bare; umount --lazy {point}",
    )


def abort_file_system(scene: Scene) -> None:
    """The kernel finds an error, drops what it had not written, and goes on read-only."""
    now = time.time()
    scene.posts_excused = (now - 6, now + 60)
    scene.shell(scene.active, f"mount -o remount,abort {scene.lab.site.mount_point}", check=False)


def fill_share(scene: Scene) -> None:
    scene.victim = scene.active
    now = time.time()
    scene.posts_excused = (now - 3, now + 60)
    point = scene.lab.site.mount_point
    scene.shell(
        scene.victim,
        f"fallocate -l $(df -B1 --output=avail {point} | tail -1) {point}/filler; "
        f"cat /dev/zero > {point}/filler.2 2>/dev/null; true",
    )


def empty_share(scene: Scene) -> None:
    point = scene.lab.site.mount_point
    for node in scene.lab.inits():
        with contextlib.suppress(LabFailure):
            scene.shell(node, f"rm -f {point}/filler {point}/filler.2", check=False)
    scene.posts_excused = (scene.posts_excused[0], time.time() + 3)


def freeze_share(scene: Scene) -> None:
    point, seconds = scene.lab.site.mount_point, scene.chance.uniform(3, 9)
    scene.note(f"for {seconds:.1f} s")
    script = f"fsfreeze -f {point}; sleep {seconds:.1f}; fsfreeze -u {point}"
    scene.shell(scene.active, script, check=False)


def slow_share(scene: Scene) -> None:
    point = scene.lab.site.mount_point
    scene.shell(
        scene.active,
        f"for i in 1 2 3 4 5 6 7 8 9 10 11 12; do "
        f"fsfreeze -f {point}; sleep 0.7; fsfreeze -u {point}; sleep 0.2; done",
        check=False,
    )


# ---------------------------------------------------------------- hands


def start_beside(scene: Scene) -> None:
    """A forced start on the node where the master lives."""
    scene.typed.append(" ".join(scene.lab.site.start_command(force=True)))
    scene.lab.run(scene.active, scene.lab.site.start_command(force=True), check=False)


def start_over_orphans(scene: Scene) -> None:
    """The master is killed, and somebody is quicker than the monitor: runners twice."""
    kill_mailman("master")(scene)
    scene.doubles_excused_until = time.time() + 40
    start_beside(scene)


def start_elsewhere_and_cut(scene: Scene) -> None:
    """A forced start on the other node, on its own disk; then the active node goes."""
    lab = scene.lab
    scene.victim = scene.passive()
    lab.run(scene.victim, ["mkdir", "-p", lab.site.mount_point])
    lab.site.prepare_local_start(lab, scene.victim)
    scene.typed.append(" ".join(lab.site.start_command(force=True)))
    scene.doubles_excused_until = time.time() + 120
    lab.run(scene.victim, lab.site.start_command(force=True))
    lab.wait_until("it runs", lambda: "master" in lab.daemons().get(scene.victim, {}), 40)
    cut = time.time()
    lab.kill(scene.active)

    def fenced() -> list[float]:
        events = lab.events()
        return [
            each["time"] for each in events if each["event"] == "fenced" and each["time"] >= cut
        ]

    scene.doubles_excused_until = lab.wait_until("it is fenced", fenced, 60)[0] + 1


def clear_elsewhere(scene: Scene) -> None:
    lab = scene.lab
    with contextlib.suppress(LabFailure):
        lab.wait_until("another node serves", lambda: lab.active_node() == scene.victim, 90)
    lab.site.clear_local_start(lab, scene.victim)


def delete_lock(scene: Scene) -> None:
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)
    scene.shell(scene.active, f"rm -f '{scene.lab.site.lock_directory()}/{lock}'")


def delete_lock_and_claims(scene: Scene) -> None:
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)
    scene.shell(scene.active, f"rm -f '{scene.lab.site.lock_directory()}/{lock}'*")


def corrupt_lock(scene: Scene) -> None:
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)
    text = scene.chance.choice(["", "nonsense", "/etc/passwd", "../../x|y|0|z", "\\377\\000\\n"])
    scene.note(f"content {text!r}")
    path = f"{scene.lab.site.lock_directory()}/{lock}"
    scene.shell(scene.active, f"printf '{text}' > '{path}'")


def mend_lock(scene: Scene) -> None:
    """Whoever wrote into it writes what was there: the path of the claim file."""
    lock, claim = scene.lab.site.master_lock_names(scene.active, 0)
    claims = claim.split("0")[0] if "|" in claim else claim.rsplit(".", 1)[0] + "."
    place = scene.lab.site.lock_directory()
    scene.typed.append("rewrite the lock's content")
    with contextlib.suppress(LabFailure):
        scene.shell(
            scene.active,
            f"cd {place}; set -- '{claims}'*; [ -e \"$1\" ] && [ \"$1\" -ef '{lock}' ] "
            f'&& printf %s "{place}/$1" > "$1" && touch -d \'+30 hours\' "$1"',
            check=False,
        )


def corrupt_lock_and_cut(scene: Scene) -> None:
    """What the lock says contradicts its claim file, so it is kept, and the refusal says why."""
    corrupt_lock(scene)
    time.sleep(2.5)  # locks touched within a second of the fencing are not judged by it
    scene.lab.kill(scene.active)


def move_lock_aside(scene: Scene) -> None:
    """The operator does what the refusal says to do, if there was one (empty content is none)."""
    place = scene.lab.site.lock_directory()
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)

    def outcome() -> str:
        refusals = [each for each in scene.lab.failures() if lock in each and "is kept" in each]
        return (refusals or [""])[0] or ("it serves" if scene.lab.masters() else "")

    said = scene.lab.wait_until("it serves, or the refusal names the lock", outcome, 90)
    scene.note(said)
    if said == "it serves":
        return
    lock_glob = f"'{lock}'*"
    scene.typed.append(f"mv {lock_glob} aside; pcs resource cleanup")
    aside = f"cd {place} && mkdir -p /run/aside && mv {lock_glob} /run/aside && echo moved"

    def moved() -> str:
        """Where the share is mounted; while every node is tried it is on none at times."""
        for node in scene.lab.inits():
            with contextlib.suppress(LabFailure):
                if "moved" in scene.shell(node, aside, check=False):
                    return node
        return ""

    node = scene.lab.wait_until("a node has the share and its lock", moved, 60)
    scene.shell(node, "pcs resource cleanup", check=False)


def cut_with_a_digest_locked(scene: Scene) -> None:
    """The power goes in the milliseconds in which a runner adds a post to the list's digest: what
    Python's mailbox module leaves then has no owner and no expiry."""
    lists = f"{scene.lab.site.mount_point}/lists"
    scene.shell(
        scene.active,
        f"until ls {lists}/*/digest.mmdf; do sleep 0.1; done; "  # the first post makes it
        f'for each in {lists}/*/digest.mmdf; do touch "$each.lock"; '
        'chown --reference="$each" "$each.lock"; sync -f "$each.lock"; done',
    )
    scene.lab.kill(scene.active)


def expire_lock(scene: Scene) -> None:
    """What the master lock looks like when its holder's clock is two days behind."""
    scene.victim = scene.active
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)
    path = f"{scene.lab.site.lock_directory()}/{lock}"
    scene.shell(scene.active, f"touch -d '-18 hours' '{path}'")


def refresh_lock(scene: Scene) -> None:
    """What the degraded monitor tells the operator to type. Until then anyone may break the lock:
    a forced start, days later, would find nothing in its way."""
    scene.typed.append("kill -ALRM MASTER")
    scene.signal("ALRM", scene.mailman_pids("master"))


def postdate_lock_and_cut(scene: Scene) -> None:
    """The holder's clock is days ahead: the lock it leaves is good for a week."""
    lock, _ = scene.lab.site.master_lock_names(scene.active, 0)
    path = f"{scene.lab.site.lock_directory()}/{lock}"
    scene.shell(scene.active, f"touch -d '+7 days' '{path}'")
    time.sleep(2.5)  # locks touched within a second of the fencing are not judged by it
    scene.lab.kill(scene.active)


def standby_and_back(scene: Scene) -> None:
    scene.victim = scene.active
    type_until_it_works(scene, f"pcs node standby {scene.victim}")


def unstandby(scene: Scene) -> None:
    type_until_it_works(scene, f"pcs node unstandby {scene.victim}")


def type_until_it_works(scene: Scene, command: str) -> None:
    """An operator's patience with a node whose daemons are still coming up."""
    scene.typed.append(command)

    def works() -> bool:
        try:
            scene.shell(scene.victim, command)
        except LabFailure:
            return False
        return True

    scene.lab.wait_until(f"{command} works", works, 40)


def cleanup_in_the_middle(scene: Scene) -> None:
    """The master is killed, and an operator types `pcs resource cleanup` again and again."""
    scene.victim = scene.active
    scene.signal("KILL", scene.mailman_pids("master"))
    scene.typed.append("pcs resource cleanup")
    for _ in range(4):
        time.sleep(scene.chance.uniform(0.2, 3))
        scene.shell(scene.active, "pcs resource cleanup", check=False)


def cut_in_a_cleanup(scene: Scene) -> None:
    """The power goes while an operator's cleanup probes everything."""
    scene.typed.append("pcs resource refresh")
    scene.shell(scene.active, "pcs resource refresh >/dev/null 2>&1 &", check=False)
    time.sleep(scene.chance.uniform(0, 1.5))
    scene.lab.kill(scene.active)


def maintenance(scene: Scene) -> None:
    """Maintenance mode, in which the master dies."""
    scene.victim = scene.active
    scene.typed.append("pcs property set maintenance-mode=true")
    scene.shell(scene.victim, "pcs property set maintenance-mode=true")
    time.sleep(1)
    scene.signal("KILL", scene.mailman_pids("master"))


def end_maintenance(scene: Scene) -> None:
    scene.typed.append("pcs property set maintenance-mode=false")
    scene.shell(scene.victim, "pcs property set maintenance-mode=false")


SECONDS = (6.0, 14.0)

FAULTS: tuple[Fault, ...] = (
    Fault("power cut, active node", "its processes are gone at once", cut_active),
    Fault("power cut, another node", "the node without the master", cut_passive),
    Fault("fencing fails first", "power cut; one or two fencings fail", cut_with_failing_fence),
    Fault("cable out, active node", "both ways", unplug_active, plug, (12.0, 25.0)),
    Fault("cable out, another node", "both ways", unplug_passive, plug, (12.0, 25.0)),
    Fault("one way only", "a node is not heard", peers_unreachable, peers_reachable, (12.0, 25.0)),
    Fault("kill master", "SIGKILL; runners live on", kill_mailman("master")),
    Fault("kill one runner", "SIGKILL", kill_mailman("one")),
    Fault("kill all runners", "SIGKILL, on the master's node", kill_mailman("runners")),
    Fault("kill master and runners", "SIGKILL", kill_everything),
    Fault("kill corosync", "SIGKILL, on any node", kill_cluster("corosync")),
    Fault("kill pacemakerd", "SIGKILL, on any node", kill_cluster("pacemakerd")),
    Fault("kill the controller", "SIGKILL, on any node", kill_cluster("pacemaker-controld")),
    Fault("kill the executor", "SIGKILL, on any node", kill_cluster("pacemaker-execd")),
    Fault("stop master", "SIGSTOP for a time", stop_mailman("master"), go_on, SECONDS),
    Fault("stop one runner", "SIGSTOP for a time", stop_mailman("one"), go_on, SECONDS),
    Fault("stop all runners", "SIGSTOP for a time", stop_mailman("runners"), go_on, SECONDS),
    Fault("stop corosync", "SIGSTOP for a time", stop_cluster("corosync"), go_on, SECONDS),
    Fault("stop pacemakerd", "SIGSTOP for a time", stop_cluster("pacemakerd"), go_on, SECONDS),
    Fault(
        "stop the controller",
        "SIGSTOP for a time",
        stop_cluster("pacemaker-controld"),
        go_on,
        SECONDS,
    ),
    Fault("share unmounted", "lazily, under Mailman", unmount, needs_disk=True),
    Fault("share read-only", "the file system aborts", abort_file_system, needs_disk=True),
    Fault("share full", "for a time", fill_share, empty_share, SECONDS, needs_disk=True),
    Fault("share hangs", "for 3 to 9 s", freeze_share, needs_disk=True),
    Fault("share slow", "0.7 of every 0.9 s it hangs", slow_share, needs_disk=True),
    Fault("forced start beside", "by hand, on the master's node", start_beside),
    Fault("forced start over orphans", "by hand, the master just killed", start_over_orphans),
    Fault(
        "forced start elsewhere, power cut",
        "by hand, on the other node's own disk",
        start_elsewhere_and_cut,
        clear_elsewhere,
        needs_disk=True,
        needs_two=True,
    ),
    Fault("master lock deleted", "by hand", delete_lock),
    Fault("master lock and claims deleted", "by hand", delete_lock_and_claims),
    Fault("master lock corrupted", "by hand, and mended", corrupt_lock, mend_lock, SECONDS),
    Fault(
        "master lock corrupted, power cut",
        "kept; moved aside by hand",
        corrupt_lock_and_cut,
        move_lock_aside,
    ),
    Fault("clock behind", "the lock reads as expired", expire_lock, refresh_lock, SECONDS),
    Fault("clock ahead, power cut", "the lock is good for a week", postdate_lock_and_cut),
    Fault(
        "digest locked, power cut",
        "a runner dies with a list's digest mailbox locked",
        cut_with_a_digest_locked,
        only_on="mailman3",
    ),
    Fault("standby and back", "", standby_and_back, unstandby, (8.0, 20.0)),
    Fault("cleanup in the middle", "four, after a killed master", cleanup_in_the_middle),
    Fault("power cut in a refresh", "while all is probed again", cut_in_a_cleanup),
    Fault("maintenance mode", "the master dies in it", maintenance, end_maintenance, SECONDS),
)
