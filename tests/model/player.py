"""Plays traces of the model on real files, step for step.

    python -m tests.model.player mailman DIRECTORY      (pickles at standard input and output)

Needs root and a process namespace of its own (pids are given out a second time). A claimant's step
is made by a process that speaks Mailman's protocol, a janitor's by one that runs the library; after
each step the directory must show what the model's state says. The argument `mailman` makes these
processes look like Mailman's, which the library asks of an owner that lives.
"""

from __future__ import annotations

import gc
import json  # noqa: F401 - so that no janitor has to load it anew
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailman_ha.evidence.cluster import Node
from mailman_ha.locks.directory import QUARANTINE
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.locks.release import EVIDENCE_LOG, GUARD, UNFINISHED

from model.trace import State, Step, Trace
from tests.histories import line as lines
from tests.model import actors
from tests.model.actors import LIFETIME, UNCERTAINTY, Site, View

MASTER_LOCK = {FORMAT_21: "master-qrunner", "3": "master.lck"}

#: The first lock of a trace about expiry ends so soon; then the clocks are set ahead, past
#: Mailman's slop and not so far that a guard expires (seconds).
NEAR, AHEAD = 10.0, 21.0

#: Where a janitor must stand before it makes a step of the model.
STANDS = {
    "judge": ("listing",), "idle": ("listing",), "guard": ("guard",), "note": ("recheck",),
    "changed": ("recheck", "push", "look"), "push": ("push",), "look": ("look",),
    "move": ("move",), "absent": ("move",), "unname": ("unname",), "log": ("log",),
    "done": ("forget",), "refuse": ("forget",), "forget": ("forget",), "known": ("known",),
    "unknown": ("known",), "back": ("back",), "left": ("back",),
}


class Disagreement(Exception):
    """The files, or what the library does next, are not what the model says."""


@dataclass(frozen=True)
class Task:
    """A trace to be played. `ends`: the model came to its end, and nothing is left to do."""

    name: str
    format: str
    trace: Trace
    near: bool
    ends: bool
    mutant: str = ""


@dataclass
class Played:
    """What came of one task. `stale` counts the looks of a janitor at a name that its node saw
    differently than it was; `idle` the sweeps after the end that changed nothing."""

    task: Task
    steps: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    idle: int = 0
    disagreement: str = ""
    failure: str = ""


class _Actor:
    """A process at the other end of a line. `stands` is where it stands, '' while it does
    nothing."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._line, far = lines.pair()
        self.stands = ""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._line.close()
                work(lines.Line.of_descriptor(far))
            finally:
                os._exit(0)
        os.close(far)

    def order(self, view: View, *order: Any) -> Any:
        """Begin something; what it came to, where it is done."""
        return self._tell((order, view))

    def go_on(self, view: View) -> Any:
        """Make the system call that it stands before, and all up to the next place."""
        return self._tell((None, view))

    def _tell(self, message: Any) -> Any:
        what, answer = self._line.ask(message)
        if what == "failed":
            raise Disagreement(f"a process failed:\n{answer}")
        self.stands = answer if what == "stands" else ""
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._line.close()


class Player:
    """The site of one trace."""

    def __init__(self, task: Task, top: Path, user: tuple[int, int]) -> None:
        self.task = task
        self.played = Played(task)
        self.lock_name = MASTER_LOCK[task.format]
        self.site = Site(str(top), task.format, self.lock_name, user)
        self.path = Path(self.site.lock_dir)
        self.quarantine = self.path / QUARANTINE
        self.path.mkdir(parents=True)
        os.chown(self.path, *user)
        self.claimants: dict[int, _Actor] = {}
        self.janitors: dict[int, _Actor] = {}
        self.inodes: dict[int, int] = {}  # inode number to claimant
        self.claims: dict[int, str] = {}
        self.shift = 0.0
        self.node1 = Node("node1", True, False)
        self.node1_is_up = True

    # -- playing

    def play(self) -> Played:
        try:
            begin, *steps = self.task.trace
            self._begin()
            self._compare(0, begin)
            before = begin.after
            for number, step in enumerate(steps, 1):
                try:
                    self._make(step, before)
                except Disagreement as wrong:
                    raise Disagreement(self._said(number, step, str(wrong))) from None
                self._compare(number, step)
                self.played.steps[step.what] += 1
                before = step.after
            if self.task.ends:
                self._sweep_in_vain(before)
        except Disagreement as wrong:
            self.played.disagreement = str(wrong)
        except Exception:
            self.played.failure = traceback.format_exc()
        finally:
            for actor in (*self.claimants.values(), *self.janitors.values()):
                actor.kill()
        return self.played

    def _begin(self) -> None:
        self._start_claimant(1)
        self._take(1, NEAR if self.task.near else LIFETIME)
        self.claimants[1].go_on(View())

    def _make(self, step: Step, before: State) -> None:
        method = getattr(self, f"_do_{step.what}", None)
        if method is not None:
            method(step.who)
        elif step.what in ("claim", "find", "link", "break", "unlock", "unclaim"):
            self._claimants_step(step)
        elif step.what in ("sweep", "resume"):
            self._begin_sweep(step, before)
        else:
            self._janitors_step(step, before)

    # -- claimants

    def _start_claimant(self, p: int) -> None:
        host = "node1" if p == 1 else "node0"
        self.claimants[p] = _Actor(lambda line: actors.claimant(
            line, self.task.format, host, str(self.path / self.lock_name), self.site.user))

    def _take(self, p: int, lifetime: float) -> None:
        """Write the claim, and stand before link(2)."""
        view = View(self.shift)
        self.claims[p] = os.path.basename(self.claimants[p].order(view, "prepare", lifetime))
        self.claimants[p].order(view, "take")
        self.inodes[os.stat(self.path / self.claims[p]).st_ino] = p

    def _claimants_step(self, step: Step) -> None:
        p, view = step.who, View(self.shift)
        if step.what == "claim":
            if p not in self.claimants:
                self._start_claimant(p)
            self._take(p, LIFETIME)
            self._at(self.claimants[p], "link")
            return
        one = self.claimants[p]
        if step.what == "unlock":
            self._at(one, "")
            one.order(view, "unlock")
            self._at(one, "unclaim")
        elif step.what in ("link", "find", "unclaim"):
            self._at(one, "unclaim" if step.what == "unclaim" else "link")
            one.go_on(view)
            self._at(one, "break" if step.what == "find" else "")
        else:
            if one.stands == "link":
                one.go_on(view)
            self._at(one, "break")
            one.go_on(view)
            self._at(one, "link")

    def _at(self, actor: _Actor, place: str) -> None:
        if actor.stands != place:
            raise Disagreement(f"it stands before {actor.stands!r}, not before {place!r}")

    def _do_kill(self, p: int) -> None:
        self.claimants.pop(p).kill()

    def _do_reuse(self, p: int) -> None:
        """Another process of node 1 that has the pid of the one that has ended."""
        old = self._pid(p)
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(old - 1))
        self._start_claimant(p)
        if self.claimants[p].pid != old:
            raise RuntimeError(f"wanted pid {old}, got {self.claimants[p].pid}")

    def _pid(self, p: int) -> int:
        """The pid in the claim of `p`."""
        return int(self.claims[p].rsplit("." if self.task.format == FORMAT_21 else "|", 2)[1])

    # -- nodes and time

    def _do_expire(self, p: int) -> None:
        self.shift += AHEAD

    def _do_refresh(self, node: int) -> None:
        """What a node sees is told to its janitor with every step."""

    def _do_lose(self, node: int) -> None:
        self.node1 = Node("node1", False, True)
        self.node1_is_up = False

    def _do_fence(self, node: int) -> None:
        for of_node in (self.claimants, self.janitors):
            if 1 in of_node:
                of_node.pop(1).kill()
        self.node1 = Node("node1", False, False, fenced_at=self._later())

    def _do_rejoin(self, node: int) -> None:
        self.node1 = replace_node(self.node1, online=True)
        self.node1_is_up = True

    def _do_word(self, p: int) -> None:
        self.node1 = replace_node(
            self.node1, ended_at=self._later(), ended=frozenset((self._pid(p),)))

    def _later(self) -> float:
        """A moment that is clearly later than all that was done till now, and earlier than all that
        will be: file times are the kernel's coarse ones, up to UNCERTAINTY old."""
        time.sleep(UNCERTAINTY + 0.005)
        moment = time.time()
        time.sleep(UNCERTAINTY + 0.010)
        return moment

    def _do_crash(self, node: int) -> None:
        self.janitors.pop(node).kill()
        self._let_guard_expire()

    def _do_gone(self, node: int) -> None:
        """The fencing has killed it; in time its guard expires."""
        if self._guard() == node + 1:
            self._let_guard_expire()

    def _let_guard_expire(self) -> None:
        try:
            os.utime(self.quarantine / GUARD, (time.time() - 600,) * 2)
        except FileNotFoundError:
            pass

    # -- janitors

    def _view(self, node: int, state: State, wait: float = 20.0) -> View:
        stale = state.stale[node]
        if stale not in (0, state.lock):
            self.played.stale += 1
        return View(
            self.shift, (Node("node0", True, False), self.node1), wait,
            self.claims[stale] if stale else "",
        )

    def _janitor(self, node: int) -> _Actor:
        if node not in self.janitors:
            self.janitors[node] = _Actor(lambda line: actors.janitor(
                line, self.site, f"node{node}", self.task.mutant))
        return self.janitors[node]

    def _begin_sweep(self, step: Step, before: State) -> None:
        one = self._janitor(step.who)
        self._at(one, "")
        busy = before.guard != 0 and before.note != 0
        view = self._view(step.who, before, wait=0.0 if busy else 20.0)
        one.order(view, "sweep")
        if step.what == "resume":
            self._at(one, "guard")
            self._get_guard(one, view)
            return
        if busy:  # it wants to end the interrupted release, but for the guard
            self._at(one, "guard")
            one.go_on(view)
        self._at(one, "listing")

    def _get_guard(self, one: _Actor, view: View) -> None:
        """Make the link; where an expired guard is in the way, break it and make the link."""
        one.go_on(view)
        if one.stands == "guard":
            one.go_on(view)

    def _janitors_step(self, step: Step, before: State) -> None:
        one = self._janitor(step.who)
        if one.stands not in STANDS[step.what]:
            raise Disagreement(
                f"the library stands before {one.stands or 'nothing'!r}, not before "
                + " or ".join(map(repr, STANDS[step.what]))
            )
        view = self._view(step.who, before)
        if step.what == "guard":
            self._get_guard(one, view)
        else:
            one.go_on(view)

    def _sweep_in_vain(self, state: State) -> None:
        """The model has come to its end: whatever lies there, no janitor may touch it."""
        for node in (0, 1) if self.node1_is_up else (0,):
            one = self._janitor(node)
            self._at(one, "")
            view = self._view(node, state)
            one.order(view, "sweep")
            while one.stands:
                one.go_on(view)
            self._compare(len(self.task.trace), Step("nothing", node, state))
            self.played.idle += 1

    # -- comparing

    def _guard(self) -> int:
        """Whose the guard is: node + 1; 0 where nobody has it or it has expired."""
        try:
            expires = os.stat(self.quarantine / GUARD).st_mtime
            claim = os.path.basename((self.quarantine / GUARD).read_text())
        except FileNotFoundError:
            return 0
        if expires + 10 < time.time():
            return 0
        return int(claim.split("|")[1].removeprefix("node")) + 1

    def state(self, stale: tuple[int, int]) -> State:
        """What the directory shows. `stale` is not in it."""
        lock, claims, notes = 0, set(), [0]
        aside: dict[bool, set[int]] = {True: set(), False: set()}
        for name in os.listdir(self.path):
            if name == QUARANTINE:
                continue
            owner = self.inodes[os.stat(self.path / name).st_ino]
            if name == self.lock_name:
                lock = owner
            elif name == self.claims[owner]:
                claims.add(owner)
            else:
                raise Disagreement(f"{name!r} lies in the directory")
        for name in os.listdir(self.quarantine) if self.quarantine.is_dir() else ():
            if name.startswith(UNFINISHED):
                notes.append(self.inodes[int(name[len(UNFINISHED):])])
            elif name[:1].isdigit():
                owner = self.inodes[os.stat(self.quarantine / name).st_ino]
                aside[name.split(".", 2)[2] == self.lock_name].add(owner)
            elif name != EVIDENCE_LOG and not name.startswith(GUARD):
                raise Disagreement(f"{name!r} lies in quarantine")
        if len(notes) > 2:
            raise Disagreement(f"two releases are under way: {notes[1:]}")
        try:
            evidence = len((self.quarantine / EVIDENCE_LOG).read_text().splitlines())
        except FileNotFoundError:
            evidence = 0
        return State(
            lock, frozenset(claims), self._guard(), notes[-1], evidence, frozenset(aside[True]),
            frozenset(aside[False]), stale,
        )

    def _compare(self, number: int, step: Step) -> None:
        try:
            found = self.state(step.after.stale)
        except Disagreement as wrong:
            raise Disagreement(self._said(number, step, str(wrong))) from None
        if found != step.after:
            raise Disagreement(self._said(number, step, "the directory shows another state"))

    def _said(self, number: int, step: Step, why: str) -> str:
        there = sorted(
            f"{place.name}/{name}: {os.lstat(place / name).st_ino}"
            for place in (self.path, self.quarantine) if place.is_dir()
            for name in os.listdir(place)
        )
        steps = " ".join(f"{one.what}{one.who}" for one in self.task.trace[: number + 1])
        try:
            shown: object = self.state(step.after.stale)
        except Disagreement as wrong:
            shown = wrong
        return (
            f"{self.task.name}, format {self.task.format}, step {number}, {step.what} {step.who}: "
            f"{why}\nmodel:     {step.after}\ndirectory: {shown}\nsteps: {steps}\n"
            f"inodes of claimants: {self.inodes}\nfiles: {there}\n"
            f"janitors stand before: { {node: one.stands for node, one in self.janitors.items()} }"
        )


def replace_node(node: Node, **changes: Any) -> Node:
    """The same node, as the cluster reports it now."""
    fields = {
        "online": node.online, "unclean": node.unclean, "fenced_at": node.fenced_at,
        "ended_at": node.ended_at, "ended": node.ended, **changes,
    }
    return Node(node.name, **fields)


def play_all(
    tasks: list[Task], place: Path, user: tuple[int, int], until_wrong: bool
) -> list[Played]:
    """Play each task in a directory of its own under `place`; with `until_wrong` those of a broken
    library only up to the first that is not as the model says."""
    done: list[Played] = []
    found: set[str] = set()
    for number, task in enumerate(tasks):
        if task.mutant in found:
            continue
        top = place / str(number)
        top.mkdir(mode=0o755)
        (top / "state").mkdir()
        done.append(Player(task, top, user).play())
        shutil.rmtree(top)
        if until_wrong and done[-1].disagreement:
            found.add(task.mutant)
    return done


def main() -> None:
    """Play what standard input asks for."""
    tasks, user, until_wrong = pickle.load(sys.stdin.buffer)
    gc.freeze()
    pickle.dump(play_all(tasks, Path(sys.argv[2]), user, until_wrong), sys.stdout.buffer)


if __name__ == "__main__":
    from tests.model import player  # what is pickled must be known by the module's own name

    player.main()
