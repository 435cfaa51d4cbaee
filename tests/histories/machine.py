"""The state machine that hypothesis drives: what may happen in a history, and when.

Which steps a history has depends on nothing but what hypothesis draws, never on what came of the
steps before: so it is the same whenever it is played again, however the processes' times fall out.
A step that finds nothing to do does nothing.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21

from tests.histories import boundaries, claimant, lockfile21, sweeper
from tests.histories.schedule import Stop
from tests.histories.site import HOSTS, LOCKS, Forge, Process, Site

#: The boundaries of a sweep, and of claimants by the protocol that they follow.
OF_SWEEPS = [one for module in sweeper.MODULES for one in boundaries.of(module)]
OF_CLAIMANTS = {
    protocol: [one for module in modules for one in boundaries.of(module)]
    for protocol, modules in claimant.PROTOCOLS.items()
}

BOUNDARIES = (*OF_SWEEPS, *(one for each in OF_CLAIMANTS.values() for one in each))

#: Boundaries that hardly any history comes to, and why not.
NEVER_REACHED = {
    "flufl.lock:unlink": "link(2) fails with neither EEXIST nor ENOENT on a broken share only",
    **({"LockFile._link:unlink": "the same"} if lockfile21.PREFIX is None else {
        "LockFile.lock:unlink": "the same",
        "LockFile.__init__:open": "its log",
        "LockFile._seed:open": "its test of itself",
    }),
    "flufl.state:open": "for who asks about a lock and takes none",
    "clocks.read_history:open": "in the agents' own state directory, not on the share",
    "clocks.read_server:open": "the same",
    "clocks._keep:open": "the same",
    "clocks._keep:write": "the same",
    "lock_sweep._stat_all:stat": "`mailman-ha locks` and `explain`, which change nothing",
    "lock_sweep._stat_all:close": "the same",
    "release.adopt:rename": "the half-finished saves of lists, which are no locks",
    "release.purge:unlink": "what has long been in quarantine",
    "release.purge:listdir": "the same",
    "release.log:ftruncate": "a full share",
    **{f"release._copy_log:{call}": "a backup that has the evidence log by another name"
       for call in ("open", "read", "fsync", "rename", "close")},
    **{each: "files of lists on another mount" for each in OF_SWEEPS
       if each.startswith("release._move_by_copy:")},
}

nodes = st.sampled_from(sorted(HOSTS))
which = st.integers(0, 7)
lifetimes = st.sampled_from((3600.0, 3600.0, 40.0, -60.0))
protocols = st.sampled_from(("Mailman", "Mailman", "ours"))
how_often = st.sampled_from((0, 0, 0, 1, 2, 5))
#: A sweep of a lock or two makes some 80 system calls, a claimant 8.
stops_of_claimants = st.none() | st.tuples(
    st.integers(0, 12) | st.tuples(how_often, *map(st.sampled_from, OF_CLAIMANTS.values())),
    st.sampled_from(("die", "stand still")),
)
interruptions_of_sweeps = st.tuples(
    st.integers(0, 110) | st.tuples(how_often, st.sampled_from(OF_SWEEPS)),
    st.sampled_from(("die", "stand still")),
)
stops_of_sweeps = st.none() | interruptions_of_sweeps
#: Where a sweep is about to act on a lock that it has looked at.
before_it_acts = st.sampled_from((
    (0, "release._move:rename"), (0, "release._push_expiry:open"), (0, "release._touch:utime"),
    (1, "directory.inspect:open"), (2, "directory.inspect:open"), (0, "release._write_note:open"),
))
deeds = st.sampled_from((
    "expire", "expire", "delete", "empty", "another path", "rubbish", "a link", "a FIFO",
    "a directory", "one more name"))


@dataclass
class Tally:
    """What all histories of a run came to."""

    histories: int = 0
    put_aside: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)
    interrupted: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The steps of the first history that broke a promise, and how it did.
    broken: tuple[list[list[Any]], str] | None = None

    def add(self, other: Tally) -> None:
        self.histories += other.histories
        self.put_aside += other.put_aside
        self.kinds += other.kinds
        self.verdicts += other.verdicts
        self.reached |= other.reached
        self.interrupted += other.interrupted
        self.broken = self.broken or other.broken


def written(story: list[list[Any]]) -> str:
    """The steps of a history as one word that can be typed."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(story).encode(), 9)).decode()


def read(word: str) -> list[list[Any]]:
    """What `written` wrote. Raises ValueError for anything else."""
    try:
        return list(json.loads(zlib.decompress(base64.urlsafe_b64decode(word))))
    except zlib.error as error:
        raise ValueError(f"{word!r} is no history: {error}") from error


def play(chosen: type[Any], story: list[list[Any]]) -> None:
    """Play these steps. What is broken by them is in the tally of the machine `chosen`."""
    history = chosen()
    try:
        for name, drawn in story:
            getattr(history, name)(**drawn)
    except Exception:
        pass  # kept where it was raised
    finally:
        with contextlib.suppress(Exception):
            history.teardown()


def step(when: Callable[[Any], bool] | None = None, **drawn: Any) -> Any:
    """A step of a history. `when` may ask for nothing but what was drawn before."""

    def decorate(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def played(self: Any, **values: Any) -> None:
            if when is not None and not when(self):
                return  # in a history that was shortened
            self.story.append([method.__name__, values])
            self.drawn.add(method.__name__)
            if values.get("stop") and values["stop"][1] == "stand still":
                self.drawn.add(f"{method.__name__}, stand still")
            with self.kept():
                method(self, **values)
                self.site.check()

        made = rule(**drawn)(played)
        return made if when is None else precondition(when)(made)

    return decorate


def after(*names: str) -> Callable[[Any], bool]:
    """A step has something to do only after one of these."""
    return lambda self: not self.drawn.isdisjoint(names)


TAKEN = after("a_process_takes_a_lock", "a_pid_is_used_again", "a_master_starts")
SWEEPS = (
    "a_janitor_sweeps", "a_janitor_is_interrupted_at_a_dead_lock",
    "a_dead_lock_is_handled_under_a_sweep", "a_claimant_comes_as_a_sweep_moves_the_lock",
    "two_janitors_sweep_at_once",
)
LOCKED = after(
    "a_master_starts", "a_claimant_comes_as_a_sweep_moves_the_lock",
    "a_process_takes_a_lock", "a_process_takes_a_lock_and_is_killed",
    "a_janitor_is_interrupted_at_a_dead_lock", "a_dead_lock_is_handled_under_a_sweep",
)


def machine(forge: Forge, space: Path, tally: Tally, mutant: str = "") -> type[Any]:
    """The state machine over nodes of `forge`, in directories below `space`."""

    class Histories(RuleBasedStateMachine):
        site: Site

        def __init__(self) -> None:
            super().__init__()
            self.story: list[list[Any]] = []
            #: Names of the steps so far, and of those in which something was to stand still.
            self.drawn: set[str] = set()

        @contextlib.contextmanager
        def kept(self) -> Iterator[None]:
            """Keep the story of the first history that fails in here."""
            try:
                yield
            except Exception:
                if tally.broken is None:
                    tally.broken = [list(one) for one in self.story], traceback.format_exc()
                raise

        @initialize(format=st.sampled_from((FORMAT_21, FORMAT_21, FORMAT_3)),
                    fencing=st.sampled_from((True, True, True, False)))
        def begin(self, format: str, fencing: bool) -> None:
            self.story.append(["begin", {"format": format, "fencing": fencing}])
            with self.kept():
                self.site = Site(forge, space, format, mutant)
                self.site.fencing_enabled = fencing

        def count(self, kind: str) -> None:
            tally.kinds[kind] += 1

        def pick(self, some: list[Any], number: int) -> Any:
            return some[number % len(some)]

        def up(self, node: str) -> str:
            """`node`, or where it is off another one."""
            up = self.site.up()
            return node if node in up else up[0]

        def lock(self, number: int) -> str:
            return LOCKS[self.site.format][number % 4 if number < 4 else 0]

        # -- Mailman's processes

        def take_by(self, process: Process, lock: str, protocol: str, lifetime: float,
                    stop: Stop) -> None:
            site = self.site
            if lock.startswith("qfiles:"):
                protocol = "ours"
            process.kind = "ours" if protocol == "ours" else site.format
            process.lock = lock
            site.order(
                process, "take", process.kind, str(site.locks / lock), lifetime, site.format, stop)
            if process.alive and not process.stands and lifetime < 0:
                self.count("take an expired lock")

        @step(lambda self: self.site.up(), node=nodes, lock=which, protocol=protocols,
              lifetime=lifetimes, stop=stops_of_claimants, is_cgi=st.booleans())
        def a_process_takes_a_lock(self, node: str, lock: int, protocol: str, lifetime: float,
                                   stop: Stop, is_cgi: bool) -> None:
            self.count("take, by a CGI" if is_cgi else "take")
            process = self.site.spawn(self.up(node), is_cgi=is_cgi)
            self.take_by(process, self.lock(lock), protocol, lifetime, stop)

        @step(lambda self: self.site.up(), node=nodes, lock=which, protocol=protocols,
              lifetime=lifetimes, stop=stops_of_claimants, is_cgi=st.booleans())
        def a_process_takes_a_lock_and_is_killed(
            self, node: str, lock: int, protocol: str, lifetime: float, stop: Stop, is_cgi: bool
        ) -> None:
            self.count("take, killed")
            process = self.site.spawn(self.up(node), is_cgi=is_cgi)
            self.take_by(process, self.lock(lock), protocol, lifetime, stop)
            self.site.kill(process)

        @step(LOCKED, number=which, lock=which,
              what=st.sampled_from(("takes", "waits", "is swept")))
        def a_pid_is_used_again(self, number: int, lock: int, what: str) -> None:
            site = self.site
            busy = {(one.node, one.pid) for one in site.living()}
            busy |= {(one.node, one.pid) for one in site.sweeps.values()}
            gone = [one for one in site.processes
                    if not one.alive and site.nodes[one.node].up
                    and (one.node, one.pid) not in busy]
            if not gone:
                return
            self.count("pid used again")
            old = self.pick(gone[::-1], number)
            if what == "is swept":
                time.sleep(0.25)  # clearly younger than what the dead one held
            new = site.spawn(old.node, old.pid)
            assert new.pid == old.pid, f"pid {old.pid} was not to be had"
            if what == "takes":
                self.take_by(new, self.lock(lock), "Mailman", 3600.0, None)
            elif what == "is swept":
                site.sweep_in_peace(old.node)

        @step(TAKEN, number=which, lock=which, protocol=protocols, lifetime=lifetimes,
              stop=stops_of_claimants)
        def a_process_takes_another_lock(self, number: int, lock: int, protocol: str,
                                         lifetime: float, stop: Stop) -> None:
            ready = self.site.ready()
            if not ready:
                return
            self.count("take again")
            process = self.pick(ready, number)
            if process.believes:
                self.site.order(process, "unlock", None)
            if process.alive and not process.stands:
                self.take_by(process, self.lock(lock), protocol, lifetime, stop)

        @step(TAKEN, number=which, stop=stops_of_claimants, what=st.sampled_from(
            ("unlock", "unlock", "refresh")))
        def a_holder_gives_back_or_prolongs(self, number: int, stop: Stop, what: str) -> None:
            holders = [one for one in self.site.ready() if one.believes]
            if holders:
                self.count(what)
                self.site.order(self.pick(holders, number), what, stop)

        @step(TAKEN, number=which, stop=stops_of_claimants)
        def a_starter_hands_its_lock_to_a_child(self, number: int, stop: Stop) -> None:
            site = self.site
            starters = [one for one in site.ready() if one.believes and one.kind == FORMAT_21]
            if not starters:
                return
            starter = self.pick(starters, number)
            if not site.order(starter, "holds")[1]:
                return
            self.count("hand over")
            self.hands_over(starter, stop)

        @step(lambda self: self.site.up(), node=nodes, by=nodes, is_killed=st.booleans(),
              stop=stops_of_claimants)
        def a_master_starts(self, node: str, by: str, is_killed: bool, stop: Stop) -> None:
            """2.1's: the starter takes the lock and hands it to its child; and a janitor sweeps."""
            site = self.site
            if site.format != FORMAT_21:
                return
            self.count("master starts")
            starter = site.spawn(self.up(node))
            self.take_by(starter, LOCKS[FORMAT_21][0], "Mailman", 3600.0, None)
            if not starter.believes or not site.order(starter, "holds")[1]:
                return
            child = self.hands_over(starter, stop)
            if is_killed:
                site.kill(child)
            by = self.up(by)
            if by not in site.sweeps:
                site.sweep(by)

        def hands_over(self, starter: Process, stop: Stop) -> Process:
            child = self.site.spawn(starter.node)
            child.lock, child.kind = starter.lock, FORMAT_21
            self.hand_over_goes_on(
                starter, child, self.site.order(starter, "hand_over", child.pid, stop)[0])
            return child

        def hand_over_goes_on(self, starter: Process, child: Process, said: str) -> None:
            """What has the child's name by now is the child's, who only waits to see it."""
            site = self.site
            path = site.locks / starter.lock
            own = Path(f"{path}.{HOSTS[child.node]}.{child.pid}")
            try:
                inode = os.lstat(own).st_ino
            except FileNotFoundError:
                return
            starter.gave.add(inode)
            starter.made.discard(inode)
            child.made.add(inode)
            if child.alive and not child.stands:
                site.order(child, "take_over", str(path), 3600.0, inode)
                if said != "done":
                    child.believes = False
            if said != "done":
                site.kill(starter)

        @step(after(
            "a_process_takes_a_lock, stand still", "a_process_takes_another_lock, stand still",
            "a_holder_gives_back_or_prolongs, stand still"),
              number=which, stop=stops_of_claimants)
        def a_process_that_stood_still_goes_on(self, number: int, stop: Stop) -> None:
            standing = [one for one in self.site.living() if one.stands]
            if standing:
                self.count("claimant goes on")
                self.site.go_on(self.pick(standing, number), stop)

        @step(TAKEN, number=which)
        def a_process_is_killed(self, number: int) -> None:
            living = self.site.living()
            if living:
                self.count("kill")
                self.site.kill(self.pick(living, number))

        # -- the janitor

        @step(lambda self: self.site.up(), node=nodes, stop=stops_of_sweeps)
        def a_janitor_sweeps(self, node: str, stop: Stop) -> None:
            node = self.up(node)
            if node not in self.site.sweeps:
                self.count("sweep" if stop is None else f"sweep, {stop[1]}")
                self.site.sweep(node, stop)

        def dead_lock(self, node: str, lock: int, protocol: str, lifetime: float,
                      is_cgi: bool) -> str:
            """Let a process of `node` take a lock and die; the lock's name."""
            process = self.site.spawn(node, is_cgi=is_cgi)
            self.take_by(process, self.lock(lock), protocol, lifetime, None)
            self.site.kill(process)
            return process.lock

        @step(lambda self: self.site.up(), node=nodes, lock=which, protocol=protocols,
              lifetime=lifetimes, is_cgi=st.booleans(), stop=interruptions_of_sweeps)
        def a_janitor_is_interrupted_at_a_dead_lock(
            self, node: str, lock: int, protocol: str, lifetime: float, is_cgi: bool, stop: Stop
        ) -> None:
            node = self.up(node)
            if node not in self.site.sweeps:
                self.count("sweep of a dead lock, interrupted")
                self.dead_lock(node, lock, protocol, lifetime, is_cgi)
                self.site.sweep(node, stop)

        @step(lambda self: self.site.up(), node=nodes, lock=which, protocol=protocols,
              lifetime=lifetimes, where=before_it_acts, how=deeds | st.just("take"),
              stop=stops_of_sweeps)
        def a_dead_lock_is_handled_under_a_sweep(
            self, node: str, lock: int, protocol: str, lifetime: float, where: Any, how: str,
            stop: Stop,
        ) -> None:
            site = self.site
            node = self.up(node)
            if node in site.sweeps:
                return
            self.count("lock handled under a sweep")
            name = self.dead_lock(node, lock, protocol, lifetime, False)
            site.sweep(node, (where, "stand still"))
            if how == "take":
                if os.path.lexists(site.locks / name):
                    self.handle(name, "delete", 0)
                self.take_by(site.spawn(node), name, protocol, 3600.0, None)
            elif os.path.lexists(site.locks / name):
                self.handle(name, how, 0)
            if node in site.sweeps:
                site.go_on_sweep(node, stop)

        @step(lambda self: self.site.up(), node=nodes, lifetime=lifetimes, is_cgi=st.booleans())
        def a_claimant_comes_as_a_sweep_moves_the_lock(
            self, node: str, lifetime: float, is_cgi: bool
        ) -> None:
            """One that breaks what has expired. It gets the lock before the sweep or after it."""
            site = self.site
            node = self.up(node)
            if node in site.sweeps:
                return
            self.count("claimant comes as a lock is moved")
            name = self.dead_lock(node, 0, "Mailman", lifetime, is_cgi)
            site.sweep(node, ((0, "release._move:rename"), "stand still"))
            self.take_by(site.spawn(node), name, "Mailman", 3600.0, None)
            if node in site.sweeps:
                site.go_on_sweep(node, ((0, "release._put_back:link"), "stand still"))

        @step(lambda self: len(self.site.up()) > 1, node=nodes, other=nodes,
              seconds=st.sampled_from((-3600.0, -2.0, 3600.0)))
        def a_clock_is_set_between_a_fencing_and_a_lock(
            self, node: str, other: str, seconds: float
        ) -> None:
            site = self.site
            node = self.up(node)
            if node == other:
                return
            self.count("clock set after a fencing")
            site.fence(other)
            site.boot(other)
            site.shift(node, seconds)
            self.take_by(site.spawn(other), self.lock(0), "Mailman", 3600.0, None)
            if node not in site.sweeps:
                site.sweep(node)

        @step(lambda self: len(self.site.up()) > 1, node=nodes, lock=which,
              where=before_it_acts, stop=stops_of_sweeps)
        def two_janitors_sweep_at_once(self, node: str, lock: int, where: Any, stop: Stop) -> None:
            """The lock of a node that was fenced, which both may release."""
            site = self.site
            node = self.up(node)
            others = [one for one in site.up() if one != node]
            if len(others) < 2:
                return
            self.count("two sweeps at once")
            self.dead_lock(node, lock, "Mailman", 3600.0, False)
            site.fence(node)
            for one in others:
                if one not in site.sweeps:
                    site.sweep(one, (where, "stand still") if one == others[0] else None)
            if others[0] in site.sweeps:
                site.go_on_sweep(others[0], stop)

        @step(lambda self: self.site.up() and LOCKED(self), node=nodes)
        def a_janitor_sweeps_in_peace(self, node: str) -> None:
            if self.site.listing():
                self.count("sweep in peace")
                self.site.sweep_in_peace(self.up(node))

        @step(lambda self: self.site.up(), node=nodes, maintenance=st.booleans())
        def a_janitor_sweeps_in_maintenance_or_without_a_cluster(
            self, node: str, maintenance: bool
        ) -> None:
            node = self.up(node)
            if node in self.site.sweeps:
                return
            self.count("sweep in maintenance" if maintenance else "sweep without a cluster")
            before = self.site.listing()
            self.site.sweep(
                node, maintenance=maintenance,
                no_cluster="" if maintenance else "crm_mon does not answer")
            if maintenance:
                assert {name: one.st_ino for name, one in self.site.listing().items()} == {
                    name: one.st_ino for name, one in before.items()}

        @step(after(*(f"{name}, stand still" for name in SWEEPS)), number=which,
              stop=stops_of_sweeps)
        def a_sweep_that_stood_still_goes_on(self, number: int, stop: Stop) -> None:
            if self.site.sweeps:
                self.count("sweep goes on")
                self.site.go_on_sweep(self.pick(sorted(self.site.sweeps), number), stop)

        @step(after(*SWEEPS))
        def the_guard_expires(self) -> None:
            if self.site.quarantine.is_dir():
                self.count("guard expires")
                self.site.let_guards_expire()

        # -- nodes

        @step(lambda self: self.site.up(), node=nodes,
              how=st.sampled_from(("fenced", "fenced", "lost")))
        def a_node_goes(self, node: str, how: str) -> None:
            self.count(how)
            if how == "fenced":
                self.site.fence(node)
            else:
                self.site.cut(self.up(node))

        @step(lambda self: len(self.site.up()) < 3, node=nodes)
        def a_node_comes_back(self, node: str) -> None:
            self.count("boot")
            off = [name for name, state in self.site.nodes.items() if not state.up]
            self.site.boot(node if node in off else off[0])

        @step(lambda self: self.site.up(), node=nodes,
              how=st.sampled_from(("cut off", "left", "back")))
        def a_node_is_cut_off_or_leaves(self, node: str, how: str) -> None:
            self.count(how)
            node = self.up(node)
            state = self.site.nodes[node]
            state.reachable, state.left = how != "cut off", how == "left"
            if how == "left":
                state.word = None
            if how == "back":
                self.site.tell_events(node)

        @step(lambda self: self.site.up(), node=nodes)
        def a_node_says_that_its_mailman_has_ended(self, node: str) -> None:
            self.count("ended word")
            self.site.say_ended(self.up(node))

        @step(lambda self: self.site.up(), node=nodes,
              seconds=st.sampled_from((-3600.0, -2.0, -0.3, 0.3, 2.0, 3600.0)))
        def a_clock_is_set(self, node: str, seconds: float) -> None:
            self.count("clock set")
            self.site.shift(self.up(node), seconds)

        # -- operators

        @step(LOCKED, number=st.integers(0, 20), how=deeds)
        def an_operator_has_a_file_in_hand(self, number: int, how: str) -> None:
            files = self.site.listing()
            if files:
                self.count(f"operator: {how}")
                self.handle(self.pick(sorted(files), number), how, number)

        def handle(self, name: str, how: str, number: int) -> None:
            """What an operator, or somebody hostile, does to a file of the lock directory."""
            site = self.site
            site.meddled = True
            path = site.locks / name
            regular = path.is_file() and not path.is_symlink()
            if how == "expire":
                if regular:
                    os.utime(path, (time.time() - 60, time.time() - 60))
                return
            site.tampered.add(os.lstat(path).st_ino)
            if how in ("empty", "another path", "rubbish"):
                if regular:
                    path.write_bytes({
                        "empty": b"", "rubbish": b"\xff\0\n" * 50,
                        "another path": os.fsencode(
                            site.outside / f"{name}.{HOSTS['n1']}.{number + 2}.0"),
                    }[how])
                return
            if how == "one more name":
                if regular:
                    more = site.locks / f"{name}.{HOSTS['n1']}.{number + 2}.0"
                    if not os.path.lexists(more):
                        os.link(path, more)
                return
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
            if how == "a link":
                path.symlink_to(site.outside / "alpha.lock")
            elif how == "a FIFO":
                os.mkfifo(path)
            elif how == "a directory":
                path.mkdir()
                os.chown(path, site.forge.uid, site.forge.gid)

        # -- the end

        def teardown(self) -> None:
            if not hasattr(self, "site"):
                return
            site = self.site
            try:
                if tally.broken is None:
                    with self.kept():
                        self.end()
            finally:
                tally.histories += 1
                tally.verdicts += site.verdicts
                tally.reached |= site.reached
                tally.interrupted += site.interrupted
                tally.put_aside += len(site.put_aside)
                site.close()

        def end(self) -> None:
            """At the end of each: the sweeps of all nodes that run, when nobody is left."""
            site = self.site
            for process in site.living():
                site.kill(process)
            for node in site.up():
                site.sweep_in_peace(node)
            site.check_proofs()

    return Histories
