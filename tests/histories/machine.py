"""The state machine that hypothesis drives: what may happen in a history, and when."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21

from tests.histories.schedule import Stop
from tests.histories.site import HOSTS, LOCKS, Forge, Process, Site

nodes = st.sampled_from(sorted(HOSTS))
which = st.integers(0, 7)
lifetimes = st.sampled_from((3600.0, 3600.0, 40.0, -60.0))
protocols = st.sampled_from(("Mailman", "Mailman", "ours"))
#: A sweep of a lock or two makes some 80 system calls, a claimant 8.
stops_of_claimants = st.none() | st.none() | st.tuples(
    st.integers(0, 12), st.sampled_from(("die", "stand still")))
stops_of_sweeps = st.none() | st.tuples(
    st.integers(0, 110), st.sampled_from(("die", "stand still", "stand still")))


class Tally:
    """What all histories of a run came to."""

    def __init__(self) -> None:
        self.histories = self.steps = self.released = self.put_aside = 0
        self.kinds: dict[str, int] = {}


def machine(forge: Forge, space: Path, tally: Tally, mutant: str = "") -> type[Any]:
    """The state machine over nodes of `forge`, in directories below `space`."""

    class Histories(RuleBasedStateMachine):
        site: Site

        @initialize(format=st.sampled_from((FORMAT_21, FORMAT_21, FORMAT_3)),
                    fencing=st.sampled_from((True, True, True, False)))
        def begin(self, format: str, fencing: bool) -> None:
            self.site = Site(forge, space, format, mutant)
            self.site.fencing_enabled = fencing

        def count(self, kind: str) -> None:
            tally.steps += 1
            tally.kinds[kind] = tally.kinds.get(kind, 0) + 1

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

        @rule(node=nodes, lock=which, protocol=protocols, lifetime=lifetimes,
              stop=stops_of_claimants)
        def a_process_takes_a_lock(self, node: str, lock: int, protocol: str, lifetime: float,
                                   stop: Stop) -> None:
            self.count("take")
            if self.site.up():
                process = self.site.spawn(self.up(node))
                self.take_by(process, self.lock(lock), protocol, lifetime, stop)

        @rule(node=nodes, lock=which, protocol=protocols, lifetime=lifetimes,
              stop=stops_of_claimants)
        def a_process_takes_a_lock_and_is_killed(
            self, node: str, lock: int, protocol: str, lifetime: float, stop: Stop
        ) -> None:
            self.count("take, killed")
            if self.site.up():
                process = self.site.spawn(self.up(node))
                self.take_by(process, self.lock(lock), protocol, lifetime, stop)
                self.site.kill(process)

        @precondition(lambda self: any(not one.alive and self.site.nodes[one.node].up
                                       for one in self.site.processes))
        @rule(number=which, lock=which, takes=st.booleans(), pause=st.sampled_from((0.0, 0.25)))
        def a_pid_is_used_again(self, number: int, lock: int, takes: bool, pause: float) -> None:
            self.count("pid used again")
            site = self.site
            busy = {(one.node, one.pid) for one in site.living()}
            busy |= {(one.node, one.pid) for one in site.sweeps.values()}
            gone = [one for one in site.processes
                    if not one.alive and site.nodes[one.node].up
                    and (one.node, one.pid) not in busy]
            if gone:
                old = self.pick(gone[::-1], number)
                if number == 0:
                    time.sleep(pause)
                new = site.spawn(old.node, old.pid)
                assert new.pid == old.pid, f"pid {old.pid} was not to be had"
                if takes:
                    self.take_by(new, self.lock(lock), "Mailman", 3600.0, None)

        @precondition(lambda self: self.site.ready())
        @rule(number=which, lock=which, protocol=protocols, lifetime=lifetimes,
              stop=stops_of_claimants)
        def a_process_takes_another_lock(self, number: int, lock: int, protocol: str,
                                         lifetime: float, stop: Stop) -> None:
            self.count("take again")
            process = self.pick(self.site.ready(), number)
            if process.believes:
                self.site.order(process, "unlock", None)
            if process.alive:
                self.take_by(process, self.lock(lock), protocol, lifetime, stop)

        @precondition(lambda self: any(one.believes for one in self.site.ready()))
        @rule(number=which, stop=stops_of_claimants, what=st.sampled_from(
            ("unlock", "unlock", "refresh")))
        def a_holder_gives_back_or_prolongs(self, number: int, stop: Stop, what: str) -> None:
            self.count(what)
            holders = [one for one in self.site.ready() if one.believes]
            self.site.order(self.pick(holders, number), what, stop)

        @precondition(lambda self: any(
            one.believes and one.kind == FORMAT_21 for one in self.site.ready()))
        @rule(number=which, stop=stops_of_claimants)
        def a_starter_hands_its_lock_to_a_child(self, number: int, stop: Stop) -> None:
            self.count("hand over")
            site = self.site
            starters = [one for one in site.ready() if one.believes and one.kind == FORMAT_21]
            starter = self.pick(starters, number)
            if not site.order(starter, "holds")[1]:
                return
            child = site.spawn(starter.node)
            child.lock, child.kind = starter.lock, FORMAT_21
            self.hand_over_goes_on(
                starter, child, site.order(starter, "hand_over", child.pid, stop)[0])

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

        @precondition(lambda self: any(one.stands for one in self.site.living()))
        @rule(number=which, stop=stops_of_claimants)
        def a_process_that_stood_still_goes_on(self, number: int, stop: Stop) -> None:
            self.count("claimant goes on")
            standing = [one for one in self.site.living() if one.stands]
            self.site.go_on(self.pick(standing, number), stop)

        @precondition(lambda self: self.site.living())
        @rule(number=which)
        def a_process_is_killed(self, number: int) -> None:
            self.count("kill")
            self.site.kill(self.pick(self.site.living(), number))

        # -- the janitor

        @precondition(lambda self: self.site.up())
        @rule(node=nodes, stop=stops_of_sweeps)
        def a_janitor_sweeps(self, node: str, stop: Stop) -> None:
            node = self.up(node)
            if node not in self.site.sweeps:
                self.count("sweep" if stop is None else f"sweep, {stop[1]}")
                told = self.site.sweep(node, stop)
                if told is not None:
                    self.site.released += len(told.released)

        @precondition(lambda self: self.site.up() and self.site.listing())
        @rule(node=nodes)
        def a_janitor_sweeps_in_peace(self, node: str) -> None:
            self.count("sweep in peace")
            self.site.sweep_in_peace(self.up(node))

        @precondition(lambda self: self.site.up())
        @rule(node=nodes, maintenance=st.booleans())
        def a_janitor_sweeps_in_maintenance_or_without_a_cluster(
            self, node: str, maintenance: bool
        ) -> None:
            self.count("sweep without a say")
            node = self.up(node)
            if node not in self.site.sweeps:
                before = self.site.listing()
                self.site.sweep(
                    node, maintenance=maintenance,
                    no_cluster="" if maintenance else "crm_mon does not answer")
                if maintenance:
                    assert {name: one.st_ino for name, one in self.site.listing().items()} == {
                        name: one.st_ino for name, one in before.items()}

        @precondition(lambda self: self.site.sweeps)
        @rule(number=which, stop=stops_of_sweeps)
        def a_sweep_that_stood_still_goes_on(self, number: int, stop: Stop) -> None:
            self.count("sweep goes on")
            node = self.pick(sorted(self.site.sweeps), number)
            told = self.site.go_on_sweep(node, stop)
            if told is not None:
                self.site.released += len(told.released)

        @precondition(lambda self: self.site.quarantine.is_dir())
        @rule()
        def the_guard_expires(self) -> None:
            self.count("guard expires")
            self.site.let_guards_expire()

        # -- nodes

        @precondition(lambda self: self.site.up())
        @rule(node=nodes, how=st.sampled_from(("fenced", "fenced", "lost")))
        def a_node_goes(self, node: str, how: str) -> None:
            self.count(how)
            if how == "fenced":
                self.site.fence(node)
            else:
                self.site.cut(self.up(node))

        @precondition(lambda self: len(self.site.up()) < 3)
        @rule(node=nodes)
        def a_node_comes_back(self, node: str) -> None:
            self.count("boot")
            off = [name for name, state in self.site.nodes.items() if not state.up]
            self.site.boot(node if node in off else off[0])

        @precondition(lambda self: self.site.up())
        @rule(node=nodes, how=st.sampled_from(("cut off", "left", "back")))
        def a_node_is_cut_off_or_leaves(self, node: str, how: str) -> None:
            self.count(how)
            node = self.up(node)
            state = self.site.nodes[node]
            state.reachable, state.left = how != "cut off", how == "left"
            if how == "back":
                self.site.tell_events(node)

        @precondition(lambda self: self.site.up())
        @rule(node=nodes, seconds=st.sampled_from((-3600.0, -2.0, -0.3, 0.3, 2.0, 3600.0)))
        def a_clock_is_set(self, node: str, seconds: float) -> None:
            self.count("clock set")
            self.site.shift(self.up(node), seconds)

        # -- operators

        @precondition(lambda self: self.site.listing())
        @rule(number=st.integers(0, 20), how=st.sampled_from((
            "expire", "expire", "delete", "empty", "another path", "rubbish", "a link", "a FIFO",
            "a directory", "one more name")))
        def an_operator_has_a_file_in_hand(self, number: int, how: str) -> None:
            self.count("operator")
            site = self.site
            files = site.listing()
            name = self.pick(sorted(files), number)
            path = site.locks / name
            regular = path.is_file() and not path.is_symlink()
            if how == "expire":
                if regular:
                    os.utime(path, (time.time() - 60, time.time() - 60))
                return
            site.tampered.add(files[name].st_ino)
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

        # -- what must hold

        @invariant()
        def promises_hold(self) -> None:
            self.site.check()

        def teardown(self) -> None:
            if not hasattr(self, "site"):
                return
            site = self.site
            try:
                self.end()
            finally:
                tally.histories += 1
                tally.released += site.released
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
