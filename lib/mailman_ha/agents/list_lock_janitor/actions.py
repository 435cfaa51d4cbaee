"""The actions of list-lock-janitor: each sweeps, and says what it found."""

from __future__ import annotations

import functools
import os
import time

from mailman_ha.agents import (
    bounded_child,
    lock_evidence,
    lock_sweep,
    mailbox_sweep,
    state_lines,
)
from mailman_ha.agents import site as agent_site
from mailman_ha.agents.list_lock_janitor import judge, publishing, save_sweep, state_file
from mailman_ha.agents.list_lock_janitor.state_file import Duty
from mailman_ha.agents.site import Absent
from mailman_ha.evidence.hosts import resolve
from mailman_ha.locks.verdict import THIS_HOST
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.location import VERSION_21
from mailman_ha.ocf import codes
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.outcome import Outcome, Refusal
from mailman_ha.ocf.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.ocf.call import Call

#: How long a stop may sweep (seconds): the share may be gone.
STOP_SWEEP_SECONDS = 8.0


def start(call: Call) -> Outcome:
    """Sweep once and go on duty. Refused where there is no lock directory to sweep."""
    site = _site(call, starting=True)
    around = _surroundings(call)
    report = _sweep(call, site, around)
    for one in report.kept:
        call.log.info(f"kept {one.sentence()}")
    for problem in report.problems:
        call.log.warning(problem)
    for problem in _mend_lists(call, site, around):
        call.log.warning(problem)
    publishing.withdraw(call)
    state_file.write(_state_path(call), _duty(site, around()))
    return Outcome(codes.SUCCESS)


def stop(call: Call) -> Outcome:
    """Sweep this host's locks a last time, if the share still answers, and go off duty."""
    call.deadline.doing("sweeping a last time")
    if state_file.read(_state_path(call)) is not None:
        seconds = min(STOP_SWEEP_SECONDS, call.deadline.remaining() / 2)
        within = replace(call, deadline=Deadline(seconds))

        def sweep() -> None:
            for problem in _sweep(within, _site(within), _surroundings(within)).problems:
                call.log.warning(problem)

        trouble = bounded_child.run(sweep, seconds)
        if trouble:
            call.log.warning(f"no last sweep: {trouble}; the next start sweeps")
    publishing.withdraw(call)
    state_lines.forget(_state_path(call))
    return Outcome(codes.SUCCESS)


def monitor(call: Call) -> Outcome:
    """7 off duty; on duty sweep, at level 10 mend the lists, empty the quarantine and write the
    metrics."""
    if call.is_probe:
        lock_evidence.note_clock(call)
    if state_file.read(_state_path(call)) is None:
        if call.is_probe:
            publishing.withdraw(call)
            agent_site.ask_ahead(call)
        return Outcome(codes.NOT_RUNNING)
    swept_at = time.time()
    try:
        site = _site(call)
    except Refusal as refusal:
        return Outcome(codes.ERR_GENERIC, refusal.outcome.reason)
    trouble = agent_site.host_map_trouble(call)
    if trouble:
        return Outcome(codes.DEGRADED, f"{trouble}; no lock is looked at until then")
    around = _surroundings(call)
    report = _sweep(call, site, around)
    problems: tuple[str, ...] = ()
    if call.check_level >= 10:
        problems = _mend_lists(call, site, around, call.seconds("stuck_after"))
        save_sweep.empty_quarantine(call, site, call.integer("quarantine_keep"))
        if call.text("textfile_dir"):
            publishing.publish(call, site, report, swept_at)
    return judge.sweep_outcome(report, call.seconds("stuck_after"), problems)


def reload_agent(call: Call) -> Outcome:
    """Take over changed parameters; the light monitor's knowledge is made anew."""
    understood = agent_site.reload_host_map(call)
    publishing.withdraw(call)  # they may belong elsewhere now; the next monitor writes them
    if understood and state_file.read(_state_path(call)) is not None:
        state_file.write(_state_path(call), _duty(_site(call), _surroundings(call)()))
    return Outcome(codes.SUCCESS)


def validate_all(call: Call) -> Outcome:
    """Whether the parameters mean a Mailman whose locks could be swept here."""
    return agent_site.validate(call)


def _state_path(call: Call) -> str:
    return state_file.path(call.state_dir, call.instance)


def _site(call: Call, starting: bool = False) -> Installation:
    """The installation with its lock directory there. Refuses otherwise."""
    site = agent_site.find_installation(call)
    if isinstance(site, Absent):
        raise Refusal(site.code, site.why)
    call.deadline.doing(f"looking for the share at {site.lock_dir}")
    if starting:
        agent_site.make_lock_dir(call, site)
    missing = agent_site.share_missing(site)
    if missing:
        raise Refusal(codes.ERR_INSTALLED, missing)
    return site


def _surroundings(call: Call) -> functools._lru_cache_wrapper[Surroundings]:
    """The cluster's answer, asked for at most once in an action and only where it is needed."""
    return functools.lru_cache(maxsize=1)(lambda: lock_evidence.look_around(call))


def _sweep(
    call: Call, site: Installation, around: functools._lru_cache_wrapper[Surroundings]
) -> lock_sweep.SweepReport:
    try:
        return lock_sweep.sweep(call, site, around)
    except OSError as error:
        raise Refusal(
            codes.ERR_GENERIC,
            f"{site.lock_dir} cannot be swept: {error.strerror}; mend the share, then clean up the "
            "resource",
        ) from error


def _mend_lists(
    call: Call,
    site: Installation,
    around: functools._lru_cache_wrapper[Surroundings],
    stuck_after: float = float("inf"),
) -> tuple[str, ...]:
    """Mend what dead processes left in the lists' directories: half-finished saves (2.1), locked
    mailboxes (3). Answers what stood in the way."""
    if site.location.version == VERSION_21:
        return save_sweep.mend(call, site, around, _lists_dir(call, site), stuck_after)
    return mailbox_sweep.release_dead(call, site, around, stuck_after)


def _lists_dir(call: Call, site: Installation) -> str:
    return os.path.normpath(call.text("lists_dir") or site.answer.lists_dir)


def _duty(site: Installation, around: Surroundings) -> Duty:
    facts = resolve(
        around.this_host.names, around.this_host, around.host_map, around.cluster,
        around.no_cluster,
    )
    return Duty(
        site.lock_dir, site.format, site.master_lock, site.user.uid, site.user.gid,
        tuple(name for name, one in facts.items() if one.kind == THIS_HOST),
    )
