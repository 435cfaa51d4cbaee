"""One sweep of a node's janitor, in a process of its own, which may die or stand still."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from mailman_ha.agents import lock_evidence, lock_sweep
from mailman_ha.agents.lock_evidence import Surroundings
from mailman_ha.evidence import clocks
from mailman_ha.locks import directory, holding, release
from mailman_ha.locks.grammar import FORMAT_21
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log

from tests.histories import mutants
from tests.histories.line import Ended, Line
from tests.histories.schedule import Schedule, Stop

#: What of a sweep acts on the share.
MODULES = (directory, holding, release, lock_sweep, clocks)


@dataclass(frozen=True)
class Order:
    """What is to be swept, and what the node knows of its cluster."""

    top: str
    format: str
    master_lock: str
    uid: int
    gid: int
    node: str
    surroundings: Surroundings
    seconds: float
    stop: Stop
    mutant: str = ""


@dataclass(frozen=True)
class Told:
    """What came of a sweep: (name, state) released, (name, state, sentence, remedy) kept."""

    released: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str, str, str], ...]
    problems: tuple[str, ...]
    calls: int


def serve(line: Line, order: Order, booted_at: float) -> None:
    """Sweep once and say what came of it."""
    schedule = Schedule(line)
    try:
        line.tell(("done", _sweep(schedule, order, booted_at), schedule.account()))
    except Ended:
        return
    except Exception:
        line.tell(("failed", traceback.format_exc()[-6000:], schedule.account()))


def _sweep(schedule: Schedule, order: Order, booted_at: float) -> Told:
    mutants.apply(order.mutant)
    # The kernel's boot is older than the node's, which is a namespace.
    lock_evidence.process_identity = _Identity(lock_evidence.process_identity, booted_at)
    schedule.put_into(*MODULES)
    del clocks.open  # the state directory is not the share
    schedule.begin(order.stop)
    call = Call(
        action="monitor", instance="janitor", parameters={}, deadline=Deadline(order.seconds),
        log=Log({"HA_LOGFACILITY": "none", "HA_LOGFILE": f"{order.top}/{order.node}.log"}),
        node=order.node, state_path=f"{order.top}/state.{order.node}",
    )
    report = lock_sweep.sweep(call, _installation(order), lambda: order.surroundings)
    return Told(
        tuple((name, verdict.state) for name, verdict in report.released),
        tuple((one.name, one.verdict.state, one.sentence(), one.verdict.remedy)
              for one in report.kept),
        report.problems, schedule.count,
    )


class _Identity:
    def __init__(self, module: Any, booted_at: float) -> None:
        self._module = module
        self._booted_at = booted_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def booted_at(self) -> float:
        """When the node booted, by its clock as it is set now."""
        return float(self._module.booted_at()) + self._booted_at


def _installation(order: Order) -> Installation:
    top = order.top
    version = "2.1" if order.format == FORMAT_21 else "3"
    answer = Answer(
        lock_dir=f"{top}/locks", queue_dir=f"{top}/qfiles", lists_dir=f"{top}/lists", var_dir=top,
        pid_file=f"{top}/master.pid", bin_dir=f"{top}/bin", log_dir=f"{top}/logs",
        master_lock=f"{top}/locks/{order.master_lock}", release=version, config=f"{top}/cfg",
        runners=(), queues=(),
    )
    place = Location(version, (f"{top}/bin",), prefix=top, config=f"{top}/cfg")
    return Installation(place, answer, User("mailman", order.uid, order.gid), f"{top}/locks")
