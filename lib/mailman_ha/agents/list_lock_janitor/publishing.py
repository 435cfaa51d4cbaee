"""Writing the metrics for node_exporter, and removing them: what never fails an action.

All of it is done in a child process with a limit of time, for the queues lie on the share and the
directory may be anywhere. What goes wrong is logged when it begins and when it ends, not at every
monitor.
"""

from __future__ import annotations

import os

from mailman_ha.agents import bounded_child, state_lines
from mailman_ha.agents.list_lock_janitor import textfile
from mailman_ha.agents.qfiles_slice.settings import resource_id
from mailman_ha.evidence import process_identity
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.agents.lock_sweep import SweepReport
    from mailman_ha.locks.release_count import ReleaseCount
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: What gathering and writing may take, and what removing may (seconds).
WRITE_SECONDS = 15.0
REMOVE_SECONDS = 2.0


class NotWhole(Exception):
    """The metrics were written, but something could not be looked at; the text says what."""


def publish(call: Call, site: Installation, report: SweepReport, swept_at: float) -> None:
    """Write the metrics of the sweep that began at `swept_at` (seconds since the epoch)."""
    state_path = _state_path(call)
    known = state_lines.read(state_path) or {}
    if _still_writes(known):
        return  # it hangs in the kernel, and another would hang beside it
    file_path = textfile.path(call.text("textfile_dir"), resource_id(call.instance))
    call.deadline.doing(f"writing metrics to {file_path}")

    def work() -> None:
        from mailman_ha.agents.list_lock_janitor import exposition, metrics, metrics_observe

        own = process_identity.read(os.getpid())
        writer = f"{own.pid} {own.started_ticks}" if own is not None else ""
        state_lines.write(state_path, {**known, "file": file_path, "writer": writer})
        sight = metrics_observe.observe(call, site, report, swept_at, _counted(known))
        content = exposition.render(
            metrics.families(sight.seen), {"resource": resource_id(call.instance)}
        )
        try:
            textfile.write(file_path, content)
        except OSError as error:
            raise OSError(f"{escape(file_path)} cannot be written: {error.strerror}") from error
        counted = _as_lines(sight.releases) if sight.releases is not None else {}
        state_lines.write(
            state_path, {**known, **counted, "file": file_path, "writer": ""}
        )
        if sight.troubles:
            raise NotWhole(sight.troubles[0])

    trouble = _bounded(call, work, WRITE_SECONDS)
    if trouble == known.get("trouble", ""):
        return
    if trouble:
        call.log.warning(f"the metrics are not written, or not all of them: {trouble}")
    else:
        call.log.info(f"the metrics are written again to {escape(file_path)}")
    try:
        state_lines.write(state_path, {**(state_lines.read(state_path) or {}), "trouble": trouble})
    except OSError:
        pass  # then it is said again next time


def withdraw(call: Call) -> None:
    """Remove the metrics of this resource from this node: those that it has written, and those that
    a crash has left where it would write them now."""
    state_path = _state_path(call)
    known = state_lines.read(state_path) or {}
    places = {known.get("file", "")}
    if call.text("textfile_dir"):
        places.add(textfile.path(call.text("textfile_dir"), resource_id(call.instance)))
    places.discard("")
    if places:
        call.deadline.doing("removing the metrics")
        trouble = _bounded(call, lambda: _remove(places), REMOVE_SECONDS)
        if trouble:
            call.log.warning(f"metrics may be left on this node: {trouble}")
    state_lines.forget(state_path)


def _bounded(call: Call, work: Callable[[], object], seconds: float) -> str:
    """Do `work` in a child for at most `seconds`; '' when it was done, or why not in words."""
    try:
        return bounded_child.run(work, min(seconds, call.deadline.remaining() / 2))
    except OSError as error:
        return f"no process for it could be started: {error.strerror}"


def _remove(places: set[str]) -> None:
    left = []
    for file_path in sorted(places):
        try:
            textfile.remove(file_path)
        except OSError as error:
            left.append(f"{escape(file_path)} cannot be removed: {error.strerror}")
    if left:
        raise OSError("; ".join(left))


def _state_path(call: Call) -> str:
    return state_lines.path(call.state_dir, "list-lock-janitor", call.instance, "metrics")


def _still_writes(known: dict[str, str]) -> bool:
    """Whether a writer that was given up is still there."""
    try:
        pid, started_ticks = map(int, known.get("writer", "").split())
    except ValueError:
        return False
    return process_identity.is_alive(pid, started_ticks)


def _counted(known: dict[str, str]) -> ReleaseCount:
    """The releases counted last time; none where that was not noted."""
    from mailman_ha.locks.release_count import ReleaseCount

    try:
        inode, offset, latest, *counts = known["releases"].split()
        fresh = ReleaseCount(int(inode), int(offset), tuple(map(int, counts)), float(latest))
    except (KeyError, ValueError):
        return ReleaseCount()
    return fresh if len(fresh.counts) == len(ReleaseCount().counts) else ReleaseCount()


def _as_lines(count: ReleaseCount) -> dict[str, str]:
    numbers = (count.inode, count.offset, count.latest, *count.counts)
    return {"releases": " ".join(map(str, numbers))}
