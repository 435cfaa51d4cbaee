"""The site of one history: a lock directory, nodes, processes, and what is true of each.

The driver acts on it one thing at a time, so between two actions nothing moves.  What the library
sees of the truth is what a cluster would tell it; what it does is held against the truth.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailman_ha.agents.lock_evidence import Surroundings
from mailman_ha.evidence.cluster import Cluster
from mailman_ha.evidence.cluster import Node as ClusterNode
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.locks.directory import QUARANTINE
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.locks.release import GUARD
from mailman_ha.locks.verdict import RELEASABLE

from tests.histories import line as lines
from tests.histories.line import Ended, Line
from tests.histories.schedule import Stop
from tests.histories.sweeper import Order, Told
from tests.installations import test_user

#: Node name to host name.  A claim `L.n1.5.7.0` may be n1's pid 5 or n1.5's pid 7.
HOSTS = {"n1": "n1", "n2": "n1.5", "n3": "mail.n3.example"}
HOST_MAP = {host: node for node, host in HOSTS.items()}
MASTER_LOCK = {FORMAT_21: "master-qrunner", "3": "master.lck"}
LOCKS = {
    FORMAT_21: ("master-qrunner", "alpha.lock", "creator", "qfiles:in:0:2.lock"),
    "3": ("master.lck", "dbcreate.lck", "mta", "qfiles:in:0:2.lock"),
}

#: A fencing is said to complete so long after the power went (seconds); till then, and a little
#: longer, the node does not come back, so that what it locks afterwards is clearly younger.
FENCING_TAKES = 0.10
BACK_AFTER = 0.08

#: By how much a fencing, or a node's word, must be younger than a lock to be surely seen so; the
#: library takes 0.05 for the clocks' granularity (seconds).
CERTAINLY = 0.08


#: Boundaries that a sweep comes to under the guard only.
WITH_GUARD = (
    "release._write_note", "release._push_expiry", "release._touch", "release._move:",
    "release._move_claim", "release._put_back", "release.log",
)


class Wrong(AssertionError):
    """The library broke a promise."""


class Forge:
    """The process that makes nodes; one for all histories."""

    def __init__(self) -> None:
        entry = pwd.getpwnam(test_user()[0])
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        #: The web server's user, as whom CGI programs take locks.
        self.web_uid = pwd.getpwnam("nobody").pw_uid
        self._line, far = lines.pair()
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.histories.forge", str(far), "qrunner"],
            pass_fds=[far], stdin=subprocess.DEVNULL, cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'lib'}"},
        )
        os.close(far)
        self.spare: dict[str, Machine] = {}

    def boot(self, name: str) -> Machine:
        """A node that has just booted, or one that a history left running."""
        machine = self.spare.pop(name, None)
        return machine or self.boot_new(name)

    def boot_new(self, name: str) -> Machine:
        line, far = lines.pair()
        self._line.tell((HOSTS[name], self.gid), [far])
        os.close(far)
        (said, pid), _ = line.hear(lines.PATIENCE)
        assert said == "booted"
        return Machine(name, line, pid)

    def close(self) -> None:
        for machine in self.spare.values():
            machine.cut()
        self._line.close()
        self._process.wait(30)


class Machine:
    """A running node."""

    def __init__(self, name: str, line: Line, pid: int) -> None:
        self.name = name
        self.line = line
        self.pid = pid

    def cut(self) -> None:
        """The power goes; returns when nothing of the node runs any more."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            while True:
                self.line.hear(lines.PATIENCE)
        except Ended:
            self.line.close()


@dataclass
class Process:
    """A claimant.  `boot` counts its node's boots."""

    number: int
    node: str
    boot: int
    pid: int
    line: Line
    started: float
    alive: bool = True
    stands: bool = False
    believes: bool = False
    lock: str = ""
    kind: str = ""
    made: set[int] = field(default_factory=set)
    #: Inodes of locks that it made and handed over, and of such as were nobody's any more.
    gave: set[int] = field(default_factory=set)
    #: Inodes of claims that it found under its own name, by one that had its pid.
    inherited: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        return f"process {self.number} (pid {self.pid} of {self.node})"


@dataclass
class Sweep:
    """A sweep that stands still in the midst of it."""

    node: str
    pid: int
    line: Line
    #: Whether it has the guard, which has not expired since.
    has_guard: bool = False


@dataclass
class State:
    """What the driver knows of one node.  `reachable`: the others see it; False: it was cut off."""

    machine: Machine | None
    boot: int = 0
    reachable: bool = True
    left: bool = False
    shift: float = 0.0
    stepped: bool = False
    #: When this node saw others fenced, by its own clock.
    events: dict[str, float] = field(default_factory=dict)
    back_from: float = 0.0
    #: What the node says of itself: when, and which processes have ended by then.
    word: tuple[float, frozenset[int]] | None = None

    @property
    def up(self) -> bool:
        return self.machine is not None


class Site:
    """Everything of one history."""

    def __init__(self, forge: Forge, space: Path, format: str, mutant: str = "") -> None:
        self.forge = forge
        self.format = format
        self.mutant = mutant
        self.top = Path(tempfile.mkdtemp(dir=space))
        self.top.chmod(0o755)
        self.locks = self.top / "locks"
        self.locks.mkdir()
        self.locks.chmod(0o2775)
        os.chown(self.locks, forge.uid, forge.gid)
        self.quarantine = self.locks / QUARANTINE
        self.outside = self.top / "outside"
        self.outside.mkdir()
        os.chown(self.outside, forge.uid, forge.gid)
        for name in ("passwd", "alpha.lock", "config.pck"):
            (self.outside / name).write_text("precious\n")
            os.chown(self.outside / name, forge.uid, forge.gid)
        self.nodes: dict[str, State] = {}
        for name in HOSTS:
            (self.top / f"state.{name}").mkdir()
            self.nodes[name] = State(forge.boot(name))
            self.probe(name)
        self.processes: list[Process] = []
        self.sweeps: dict[str, Sweep] = {}
        #: (node, boot that it ended, when by the file server's clock)
        self.fencings: list[tuple[str, int, float]] = []
        #: Inodes that an operator had in hand: of these nothing is known, but to be told why.
        self.tampered: set[int] = set()
        self.fencing_enabled = True
        self.put_aside: set[str] = set()
        #: Whether an operator had a file in hand or set a clock: then a lock that is about to be
        #: moved may become another's.
        self.meddled = False
        #: Whether a sweep that stood still may have lost its guard, and its note with it.
        self.guard_lost = False
        #: Whether any sweep was killed.
        self.sweep_died = False
        #: Names in quarantine of what took a judged lock's place and could not be put back, as was
        #: said: Linux lets no one link to others' FIFOs and the like.
        self.left_aside: set[str] = set()
        #: Processes that a node has said to have ended.
        self.said_ended: set[int] = set()
        #: Boundaries that any process came to, and (boundary, "die" or "stand still") so often.
        self.reached: set[str] = set()
        self.interrupted: Counter[tuple[str, str]] = Counter()
        #: What sweeps said of the files they released and kept, so often.
        self.verdicts: Counter[tuple[str, str]] = Counter()
        #: The pid of the last sweep: by its command line it could be Mailman.
        self.sweep_pid = 0

    # -- looking

    def listing(self) -> dict[str, os.stat_result]:
        """The lock directory by names, without our quarantine."""
        found = {}
        with os.scandir(self.locks) as entries:
            for entry in entries:
                if entry.name != QUARANTINE:
                    found[entry.name] = entry.stat(follow_symlinks=False)
        return found

    def quarantined(self) -> dict[str, int]:
        """Names in quarantine of what was put there, with their inodes."""
        try:
            with os.scandir(self.quarantine) as entries:
                return {
                    entry.name: entry.inode() for entry in entries if entry.name[:1].isdigit()
                }
        except FileNotFoundError:
            return {}

    def evidence(self) -> list[dict[str, Any]]:
        try:
            text = (self.quarantine / "evidence.jsonl").read_text()
        except FileNotFoundError:
            return []
        # A sweep that was killed in write(2) is no case here: one write is whole or not at all.
        return [json.loads(one) for one in text.splitlines()]

    def _state_outside(self) -> dict[str, tuple[int, ...]]:
        return {
            entry.name: (status.st_ino, status.st_nlink, status.st_size, status.st_mode,
                         status.st_mtime_ns, status.st_ctime_ns)
            for entry in os.scandir(self.outside)
            for status in [entry.stat(follow_symlinks=False)]
        }

    def living(self, node: str | None = None) -> list[Process]:
        """Claimants that run, standing ones included."""
        return [one for one in self.processes if one.alive and node in (None, one.node)]

    def ready(self, node: str | None = None) -> list[Process]:
        """Claimants that wait for an order."""
        return [one for one in self.living(node) if not one.stands]

    def up(self) -> list[str]:
        return [name for name, state in self.nodes.items() if state.up]

    # -- claimants

    def spawn(self, node: str, pid: int | None = None, is_cgi: bool = False) -> Process:
        """A new claimant; with `pid`, one that has the pid of one that is gone."""
        line, far = lines.pair()
        machine = self.nodes[node].machine
        assert machine is not None
        started = time.time()
        uid = self.forge.web_uid if is_cgi else self.forge.uid
        got = machine.line.ask(("spawn", pid, uid), [far])
        os.close(far)
        process = Process(
            len(self.processes), node, self.nodes[node].boot, got, line, started
        )
        self.processes.append(process)
        return process

    def order(self, process: Process, name: str, *arguments: Any) -> tuple[str, Any]:
        """Let a claimant do something: "done", "refused", "stands" or "dies", and with what."""
        if process.kind == "ours":
            with self._nothing_outside_is_touched():
                process.line.tell((name, arguments))
                return self._await(process)
        process.line.tell((name, arguments))
        return self._await(process)

    def go_on(self, process: Process, stop: Stop) -> tuple[str, Any]:
        """Let a claimant that stands still do the rest."""
        process.stands = False
        process.line.tell((stop, None))
        return self._await(process)

    def _await(self, process: Process) -> tuple[str, Any]:
        try:
            said, what, account = process.line.hear(lines.PATIENCE)[0]
        except Ended:
            raise Wrong(f"{process} died by itself") from None
        self._note(said, what, account)
        # 2.1 writes into a claim file of its name that is there, as by a process that had its pid.
        # Where the lock it was linked to is in quarantine already, it is never held again.
        process.gave |= (account["made"] - process.made) & set(self.quarantined().values())
        made = account["made"] - process.gave - process.made
        process.inherited |= made & {
            inode for other in self.processes if other is not process for inode in other.made}
        process.made |= made
        process.believes = account["believes"]
        process.stands = said == "stands"
        if said == "dies":
            self.kill(process)
        if said == "failed":
            raise Wrong(f"{process} failed: {what}")
        return said, what

    def _note(self, said: str, boundary: Any, account: dict[str, Any]) -> None:
        """Keep account of where a process was interrupted."""
        self.reached |= account["reached"]
        if said in ("dies", "stands"):
            self.interrupted[boundary, "die" if said == "dies" else "stand still"] += 1

    def kill(self, process: Process) -> None:
        """SIGKILL, and wait until its pid is free."""
        machine = self.nodes[process.node].machine
        if process.alive and machine is not None:
            machine.line.ask(("kill", process.pid))
        self._is_gone(process)

    def _is_gone(self, process: Process) -> None:
        if process.alive:
            process.alive = process.stands = process.believes = False
            process.line.close()

    # -- nodes

    def cut(self, node: str) -> None:
        """The power of a node goes; nobody is told."""
        state = self.nodes[node]
        if state.machine is not None:
            state.machine.cut()
            state.machine = None
        for process in self.living(node):
            self._is_gone(process)
        sweep = self.sweeps.pop(node, None)
        if sweep is not None:
            self.sweep_died = True
            sweep.line.close()
        state.left = False
        state.word = None

    def fence(self, node: str) -> None:
        """The power goes and those in the cluster see it done."""
        self.cut(node)
        now = time.time() + FENCING_TAKES
        self.fencings.append((node, self.nodes[node].boot, now))
        for name, state in self.nodes.items():
            if state.up and state.reachable and name != node:
                state.events[node] = now + state.shift
        self.nodes[node].back_from = now + BACK_AFTER
        self.nodes[node].reachable = True

    def boot(self, node: str) -> None:
        """A node that was off comes back, joins, and is told what happened."""
        state = self.nodes[node]
        pause = state.back_from - time.time()
        if pause > 0:
            time.sleep(pause)
        state.machine = self.forge.boot_new(node)
        state.boot += 1
        state.reachable, state.left, state.shift, state.stepped = True, False, 0.0, False
        state.events.clear()
        shutil.rmtree(self.top / f"state.{node}")
        (self.top / f"state.{node}").mkdir()
        self.probe(node)
        self.tell_events(node)

    def probe(self, node: str) -> None:
        """What Pacemaker does on a node that joins."""
        machine = self.nodes[node].machine
        assert machine is not None
        machine.line.ask(("probe", f"{self.top}/state.{node}"))

    def say_ended(self, node: str) -> None:
        """A stop of Mailman on `node` that cannot reach the share: it ends what runs there and
        says so to the others, as long as the node is in the cluster."""
        state = self.nodes[node]
        ended = self.living(node)
        for process in ended:
            self.kill(process)
        pids = frozenset(one.pid for one in ended)
        self.said_ended.update(
            one.number for one in self.processes if one.node == node and one.pid in pids)
        if state.reachable and not state.left:
            state.word = (time.time() + state.shift, pids)

    def tell_events(self, node: str) -> None:
        """The history of fencing, as a node gets it that joins: it has them by the clocks of
        those who saw them, which are kept together."""
        state = self.nodes[node]
        for other, _, when in self.fencings:
            if other != node and other not in state.events:
                state.events[other] = when + state.shift

    def shift(self, node: str, seconds: float) -> None:
        """Somebody sets a node's clock. One that is set there and back between two looks of the
        agents at it was never set, for all that they can know: so they look in between."""
        state = self.nodes[node]
        assert state.machine is not None
        if state.stepped:
            self.probe(node)
        state.shift += seconds
        state.stepped = True
        self.meddled = True
        state.word = None
        state.machine.line.ask(("clock", state.shift))

    def surroundings(self, node: str, no_cluster: str, maintenance: bool) -> Surroundings:
        """What crm_mon on `node` would say."""
        here = ThisHost(HOSTS[node], HOSTS[node], node)
        if no_cluster:
            return Surroundings(here, HOST_MAP, None, no_cluster, False)
        own = self.nodes[node]
        seen = {}
        for name, state in self.nodes.items():
            online = name == node or (
                state.up and state.reachable and own.reachable and not state.left)
            unclean = not online and not state.left and not any(
                ended == state.boot for other, ended, _ in self.fencings if other == name
            )
            # A word bears its node's time, and nodes' clocks are to be kept together: one whose
            # clock was set since, or shows another time, is not heard.
            when, ended = (
                state.word if state.word is not None and online and state.shift == own.shift
                else (None, frozenset())
            )
            seen[name] = ClusterNode(
                name, online, unclean, fenced_at=own.events.get(name), ended_at=when, ended=ended)
        return Surroundings(
            here, HOST_MAP, Cluster(seen, own.reachable, self.fencing_enabled, maintenance), "",
            False,
        )

    # -- sweeps, each under watch

    def sweep(
        self, node: str, stop: Stop = None, no_cluster: str = "", maintenance: bool = False,
        in_peace: bool = False,
    ) -> Told | None:
        """One sweep by `node`; None where it died or stands."""
        machine = self.nodes[node].machine
        assert machine is not None
        seconds = 20.0
        if os.path.lexists(self.quarantine / GUARD) and not in_peace:
            seconds = 0.06  # a guard that somebody else holds is not waited for: nobody goes on
        order = Order(
            str(self.top), self.format, MASTER_LOCK[self.format], self.forge.uid, self.forge.gid,
            node, self.surroundings(node, no_cluster, maintenance), seconds, stop, self.mutant,
        )
        for other in self.sweeps.values():
            if self.nodes[node].shift != self.nodes[other.node].shift:
                self.guard_lost = True  # expired, by this node's clock
        line, far = lines.pair()
        before = self.listing(), self.quarantined()
        pid = machine.line.ask(("sweep", order), [far])
        os.close(far)
        self.sweep_pid = pid
        with self._nothing_outside_is_touched():
            told = self._watch(Sweep(node, pid, line), *before)
        if told is not None:
            self._check_not_silent(before[0], told)
            for other in self.sweeps.values():
                if other.has_guard and told.released and not self.meddled:
                    raise Wrong(f"{node} released a lock while {other.node} was at it")
        return told

    def _count(self, told: Told) -> None:
        said = [*told.problems, *(sentence for _, _, sentence, _ in told.kept)]
        self.left_aside.update(
            name for name in self.quarantined()
            if any("could not be put back" in one and name in one for one in said))
        self.verdicts.update(("released", state) for _, state in told.released)
        self.verdicts.update(("kept", state) for _, state, _, _ in told.kept)

    def go_on_sweep(self, node: str, stop: Stop) -> Told | None:
        """Let the sweep that stands still on `node` do the rest."""
        sweep = self.sweeps.pop(node)
        before = self.listing(), self.quarantined()
        with self._nothing_outside_is_touched():
            sweep.line.tell((stop, self.nodes[node].shift))
            return self._watch(sweep, *before)

    def kill_sweep(self, node: str) -> None:
        sweep = self.sweeps.pop(node)
        self.sweep_died = True
        machine = self.nodes[node].machine
        assert machine is not None
        sweep.line.close()
        machine.line.ask(("kill", sweep.pid))

    def _watch(
        self, sweep: Sweep, before: dict[str, os.stat_result], aside: dict[str, int]
    ) -> Told | None:
        told: Told | None = None
        ended = True
        try:
            said, what, account = sweep.line.hear(lines.PATIENCE)[0]
            self._note(said, what, account)
            self.sweep_died = self.sweep_died or said == "dies"
            if said == "stands":
                sweep.has_guard = what.startswith(WITH_GUARD)
                self.sweeps[sweep.node] = sweep
                ended = False
            elif said == "failed":
                raise Wrong(f"the sweep of {sweep.node} raised:\n{what}")
            elif said == "done":
                told = what
        except Ended:
            raise Wrong(f"the sweep of {sweep.node} died by itself") from None
        if ended:
            machine = self.nodes[sweep.node].machine
            assert machine is not None
            sweep.line.close()
            machine.line.ask(("kill", sweep.pid))
        if told is not None:
            self._count(told)
        self._check_nothing_vanished(before, aside)
        self.check()
        return told

    # -- promises

    def _check_nothing_vanished(
        self, before: dict[str, os.stat_result], aside_before: dict[str, int]
    ) -> None:
        """Between two looks only the sweep acted: what is gone is in quarantine."""
        now, aside = self.listing(), self.quarantined()
        kept = set(aside.values())
        for name, status in before.items():
            after = now.get(name)
            if name.startswith(".clock."):
                continue  # of a sweep that stood still, removed by itself
            if after is None and status.st_ino not in kept:
                raise Wrong(f"{name!r} vanished: it is not in quarantine")
            if after is not None and after.st_ino != status.st_ino:
                raise Wrong(f"{name!r} was replaced by another file")
        for name, inode in aside_before.items():
            there = {status.st_ino for status in now.values()} | kept
            if name not in aside and inode not in there:
                raise Wrong(f"{name!r} vanished from quarantine")

    def _check_not_silent(self, before: dict[str, os.stat_result], told: Told) -> None:
        """What lay there and still lies there has a reason, and what to do unless it is alive.

        A sweep that may release nothing says so once, not at each lock; and whoever speaks of a
        lock speaks of its claims.
        """
        if told.problems:
            return
        now = self.listing()
        kept = {name: (state, sentence, remedy) for name, state, sentence, remedy in told.kept}
        spoken_of = {before[name].st_ino for name in kept if name in before}
        for name in before:
            if name not in now or not self._is_lock_or_claim(name, before):
                continue
            if name not in kept:
                if before[name].st_ino in spoken_of or any(
                    name.startswith((f"{other}.", f"{other}|")) for other in kept
                ):
                    continue
                raise Wrong(f"{name!r} was kept without a word")
            state, sentence, remedy = kept[name]
            if not sentence or (state != "alive" and not remedy):
                raise Wrong(f"{name!r} was kept, {state}, without a reason or a way out")

    def _is_lock_or_claim(self, name: str, files: dict[str, os.stat_result]) -> bool:
        names = LOCKS[self.format]
        regular = stat.S_ISREG(files[name].st_mode)
        return name in names or (regular and bool(readings(self.format, name)))

    def check(self) -> None:
        """What holds at every moment."""
        owners: dict[int, list[Process]] = {}
        for process in self.processes:
            for inode in process.made:
                owners.setdefault(inode, []).append(process)
        for name, inode in self.quarantined().items():
            for process in owners.get(inode, ()):
                if not process.alive or inode in self.tampered:
                    continue
                claim = name.split(".", 2)[2]
                if claim not in LOCKS[self.format] and not process.believes and (
                    (HOSTS[process.node], process.pid) not in readings(self.format, claim)
                ):
                    continue  # the starter's own claim, after a hand-over that was broken
                if inode in process.inherited and not process.believes:
                    continue  # the dead one's lock, of which 2.1 says that it has it already
                if not self._is_there_by_mistake(name, inode):
                    raise Wrong(f"{name!r} of {process}, which lives, was moved")
            self.put_aside.add(name)

    def _is_there_by_mistake(self, name: str, inode: int) -> bool:
        """Whether a file in quarantine took the place of the one that was judged, right before
        that was moved. Mailman breaks no lock whose expiry was pushed: so there was an operator's
        hand in it. It is put back at once, or by the next sweep where this one was killed; where
        meanwhile another has taken its lock's name, it stays and is said to."""
        return self.meddled and int(name.split(".", 2)[1]) != inode

    def check_proofs(self) -> None:
        """Each line of evidence is true; each file in quarantine has one, or a note of a release
        that was killed and is yet to be ended."""
        owners: dict[int, list[Process]] = {}
        for process in self.processes:
            for inode in process.made:
                owners.setdefault(inode, []).append(process)
        aside = self.quarantined()
        logged = set()
        for line in self.evidence():
            logged.update(line["moved_to"])
            inode = int(line["moved_to"][0].split(".")[1])
            state, by = line["state"], line["by_node"]
            if state not in RELEASABLE:
                raise Wrong(f"{line['released']} was released as {state}")
            if inode in self.tampered:
                continue
            for process in owners.get(inode, ()):
                # The state may be that of another reading of its name.
                proven = (
                    any(node == process.node and ended >= process.boot
                        for node, ended, _ in self.fencings)
                    or process.number in self.said_ended or process.node == by
                )
                if not proven:
                    raise Wrong(
                        f"{line['released']} of {process}: {by} released it as {state}, which is "
                        "not so"
                    )
                if state == "fenced" and not self.fencing_enabled:
                    raise Wrong(f"{line['released']} was released as fenced without fencing")
        notes = set()
        if self.quarantine.is_dir():
            notes = {name for name in os.listdir(self.quarantine) if name.startswith("unfinished.")}
        for name, inode in aside.items():
            if name in self.left_aside:
                continue
            # To be said by one that was not heard any more, or came too late to say it.
            misfortunes = self.sweep_died, self.guard_lost, self._is_there_by_mistake(name, inode)
            if sum(misfortunes) > 1:
                continue
            if name not in logged and f"unfinished.{inode}" not in notes and not self.sweeps:
                raise Wrong(f"{name!r} is in quarantine without evidence")

    @contextlib.contextmanager
    def _nothing_outside_is_touched(self) -> Iterator[None]:
        """While only the library acts. Mailman itself follows a link that stands for its lock."""
        before = self._state_outside()
        yield
        after = self._state_outside()
        if after != before:
            raise Wrong(f"outside the lock directory: {before} became {after}")

    # -- what must go

    def let_guards_expire(self) -> None:
        """As if the lifetime of a dead sweep's guard, and Mailman's slop, had passed."""
        if not self.quarantine.is_dir():
            return
        for sweep in self.sweeps.values():
            self.guard_lost = True
            sweep.has_guard = False
        long_ago = time.time() - 10 * 86400  # by every node's clock
        for name in os.listdir(self.quarantine):
            if name.startswith(GUARD):
                path = self.quarantine / name
                try:
                    os.utime(path, (long_ago, long_ago))
                except FileNotFoundError:
                    pass

    def sweep_in_peace(self, node: str) -> None:
        """A whole sweep with nobody else at work, by a node that has a cluster: what it can prove
        dead must be gone."""
        for other in list(self.sweeps):
            self.kill_sweep(other)
        self.let_guards_expire()
        before = self.listing()
        due = self.due(node, before)
        told = self.sweep(node, in_peace=True)
        assert told is not None
        left = self.listing()
        for name, why in due.items():
            if name in left and left[name].st_ino == before[name].st_ino:
                said = [
                    sentence for kept, _, sentence, _ in told.kept
                    if name == kept or name.startswith((f"{kept}.", f"{kept}|"))
                    or (kept in before and before[kept].st_ino == before[name].st_ino)
                ]
                if "uncertainty" in " ".join(said):
                    continue  # a busy machine measured its clock badly
                if f"pid {self.sweep_pid} on this host" in " ".join(said):
                    continue  # the sweep has the dead owner's pid, and looks like Mailman here
                there = {each: (found.st_ino, found.st_nlink) for each, found in left.items()}
                raise Wrong(
                    f"{name!r} is stuck although {why}: {said} {told.problems}; kept {told.kept}; "
                    f"there are {there}"
                )
        for name in os.listdir(self.quarantine) if self.quarantine.is_dir() else ():
            if name.startswith("unfinished."):
                raise Wrong(f"an interrupted release was not ended: {name} {told.problems}")

    def due(self, node: str, files: dict[str, os.stat_result]) -> dict[str, str]:
        """Names of lock and claim files whose every possible owner is proven dead to `node`."""
        names: dict[int, list[str]] = {}
        for name, status in files.items():
            names.setdefault(status.st_ino, []).append(name)
        found = {}
        for inode, group in names.items():
            status = files[group[0]]
            if inode in self.tampered or not stat.S_ISREG(status.st_mode):
                continue
            locks = [name for name in group if name in LOCKS[self.format]]
            claims = [name for name in group if readings(self.format, name)]
            if len(locks) + len(claims) != len(group) or len(group) != status.st_nlink:
                continue
            owners = [readings(self.format, name) for name in claims]
            if locks:
                content = (self.locks / group[0]).read_text(errors="replace")
                named = os.path.basename(content)
                if named and named not in group:
                    owners.append(readings(self.format, named))
                if not named and not claims:
                    continue
            if not owners or not all(owners):
                continue
            proofs = [
                self._proof(node, host, pid, status.st_ctime) for one in owners for host, pid in one
            ]
            if all(proofs):
                found.update(dict.fromkeys(group, "; ".join(sorted(set(proofs)))))
        return found

    def _proof(self, node: str, host: str, pid: int, changed_at: float) -> str:
        """Why the process `pid` of `host` cannot own a file last touched at `changed_at`, as far
        as `node` can know; '' where it cannot."""
        other = HOST_MAP[host]
        state = self.nodes[node]
        if other == node:
            having = [one for one in self.living(node) if one.pid == pid]
            if pid == 1:
                return ""
            if not having:
                return f"{node} has no process {pid}"
            if not state.stepped and all(one.started > changed_at + 0.2 for one in having):
                return f"process {pid} of {node} is a younger one"
            return ""
        if state.stepped:
            return ""
        word = self.nodes[other].word
        if word is not None and pid in word[1] and self._is_together(node, other) and (
            word[0] > changed_at + CERTAINLY
        ):
            return f"{other} says that process {pid} has ended"
        fenced_at = state.events.get(other)
        if fenced_at is None or not self.fencing_enabled:
            return ""
        return f"{other} was fenced since" if fenced_at > changed_at + CERTAINLY else ""

    def _is_together(self, node: str, other: str) -> bool:
        """Whether `node` sees `other` online, and their clocks agree."""
        own, state = self.nodes[node], self.nodes[other]
        return (
            own.reachable and state.up and state.reachable and not state.left
            and state.shift == own.shift
        )

    # -- the end

    def close(self) -> None:
        """Clear up; nodes that run are kept for the next history."""
        for process in self.living():
            self.kill(process)
        for node in list(self.sweeps):
            self.kill_sweep(node)
        for name, state in self.nodes.items():
            if state.machine is None:
                continue
            if state.shift:
                state.machine.line.ask(("clock", 0.0))
            self.forge.spare[name] = state.machine
        shutil.rmtree(self.top)


def readings(format: str, name: str) -> list[tuple[str, int]]:
    """Every (host, pid) of this site that a claim file called `name` may be of."""
    found = []
    for lock in LOCKS[format]:
        separator = "." if format == FORMAT_21 else "|"
        if not name.startswith(lock + separator):
            continue
        rest = name[len(lock) + 1 :]
        for host in HOST_MAP:
            if not rest.startswith(host + separator):
                continue
            numbers = rest[len(host) + 1 :].split(separator)
            if not all(number.isdigit() for number in numbers):
                continue
            if len(numbers) == 2 or (len(numbers) == 1 and format == FORMAT_21):
                found += [(host, int(numbers[0]))] if int(numbers[0]) > 0 else []
    return found
