"""The actions of mailman-master: observe, judge, act."""

from __future__ import annotations

import functools
import os
import subprocess
import time

from mailman_ha.agents import (
    bounded_child,
    lock_evidence,
    lock_sweep,
    mailbox_sweep,
    orderly_end,
    printed_output,
    slice_claims,
    state_lines,
)
from mailman_ha.agents import site as agent_site
from mailman_ha.agents.mailman_master import judge, observe, state_file
from mailman_ha.agents.mailman_master.observe import Snapshot
from mailman_ha.agents.mailman_master.state_file import MasterState
from mailman_ha.agents.site import Absent
from mailman_ha.evidence import command, ended_processes
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.location import VERSION_21
from mailman_ha.mailman.processes import MailmanProcesses
from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call

#: Locks in lock_dir that every start of Mailman 3 takes, so that a dead node's delay it.
STARTUP_LOCKS_3 = ("dbcreate.lck", "mailman-cfg.lck", "mta")

#: How often a start looks whether the master is up (seconds).
POLL = 0.05

#: How long nothing of Mailman may be seen after its starter ended before a start has failed, and
#: how often it is looked for meanwhile (seconds).
NOTHING_SEEN = 3.0
LOOK_FOR_ANY = 1.0

#: What a stop keeps of its time for killing, and for the lock of a killed master (seconds).
KILL_RESERVE = 10.0
RELEASE_SECONDS = 5.0

#: What a stop spends at the most on telling other nodes that Mailman has ended here (seconds).
TELL_SECONDS = 5.0


def monitor(call: Call) -> Outcome:
    """Observe and judge; remember a master that is in good order for the light monitor."""
    if call.is_probe:
        lock_evidence.note_clock(call)
    if call.is_probe and agent_site.nothing_runs(call):
        return Outcome(codes.NOT_RUNNING)
    seen = observe.snapshot(call, with_queues=call.check_level >= 20)
    outcome = judge.monitor(seen, call.check_level, call.seconds("max_queue_age"))
    outcome = agent_site.degraded_by_host_map(call, outcome)
    if outcome.code in (codes.SUCCESS, codes.DEGRADED):
        _remember(call, seen)
        printed_output.limit(call)
    return outcome


def start(call: Call) -> Outcome:
    """End what is left over, release the locks of the dead, start Mailman, wait until it is up."""
    seen = observe.snapshot(call, starting=True)
    plan = judge.start(seen)
    if plan.outcome is not None:
        if plan.outcome.code == codes.SUCCESS:
            _remember(call, seen)
        return plan.outcome
    site = _installed(seen.site)
    if plan.end_first:
        call.log.warning(f"before the start: {plan.why}; ending it")
        find = functools.partial(agent_site.own_processes, call, site)
        left, _ = orderly_end.end(call, find, call.deadline.remaining() / 2)
        if left:
            return Outcome(codes.ERR_GENERIC, f"could not end {_list(left)}")
    surroundings = functools.lru_cache(maxsize=1)(lambda: lock_evidence.look_around(call))
    refusal = lock_evidence.host_name_trouble(site, surroundings())
    if refusal:
        return Outcome(codes.ERR_INSTALLED, refusal)
    only = {site.master_lock}
    if site.location.version != VERSION_21:
        only.update(STARTUP_LOCKS_3)
    only.update(slice_claims.on_queues(site, judge.queues_of_master(site)))
    report = lock_sweep.sweep(call, site, surroundings, only)
    refused = judge.after_sweep(report, site.master_lock, site)
    if refused is not None:
        return refused
    for problem in mailbox_sweep.release_dead(call, site, surroundings):
        call.log.warning(problem)
    return _start_mailman(call, site)


def stop(call: Call) -> Outcome:
    """End master and runners without touching the share; then, if it can be reached, give up the
    lock that a killed master left."""
    remembered = state_file.read(state_file.path(call.state_dir, call.instance))
    find = functools.partial(
        agent_site.own_processes, call, None, observe.as_master(remembered)
    )
    found = find()
    left, killed = orderly_end.end(
        call, find, min(KILL_RESERVE, call.deadline.remaining() / 4)
    )
    if left:
        return Outcome(
            codes.ERR_GENERIC,
            f"still there after SIGKILL: {_list(left)}; a process that hangs in the kernel (a "
            "frozen file server) ends only when that answers, or with the node",
        )
    if killed:
        call.log.warning("Mailman did not end on SIGTERM and was killed")
    ended = {one.pid for one in found.all}
    if remembered is not None:
        ended.add(remembered.pid)
    _give_up_lock(call, ended)
    state_lines.forget(state_file.path(call.state_dir, call.instance))
    return Outcome(codes.SUCCESS)


def reload_agent(call: Call) -> Outcome:
    """Take over changed parameters: all reloadable ones are read anew by each action."""
    agent_site.reload_host_map(call)
    return Outcome(codes.SUCCESS)


def validate_all(call: Call) -> Outcome:
    """Whether the parameters mean a Mailman that could be started here."""
    return agent_site.validate(call)


def _installed(site: Installation | Absent) -> Installation:
    if isinstance(site, Absent):
        raise Refusal(site.code, site.why)
    return site


def _list(left: MailmanProcesses) -> str:
    return ", ".join(one.describe() for one in left.all[:8])


def _remember(call: Call, seen: Snapshot) -> None:
    """Write the state for the light monitor, where it is not already so."""
    master = judge.holder(seen)
    claim = seen.lock.claim
    if master is None or claim is None or isinstance(seen.site, Absent):
        return
    state = MasterState(
        pid=master.pid,
        started_ticks=master.process.stat.started_ticks,
        uid=seen.site.user.uid,
        gid=seen.site.user.gid,
        claim=os.path.join(seen.site.lock_dir, claim.name),
        claim_inode=claim.inode,
        lock_dir=seen.site.lock_dir,
    )
    if state != seen.remembered:
        state_file.write(state_file.path(call.state_dir, call.instance), state)


def _start_mailman(call: Call, site: Installation) -> Outcome:
    """Run Mailman's own start command and wait for the master; its exit status is not believed."""
    place = site.location
    arguments = (
        [place.starter, "start"]
        if place.version == VERSION_21
        else [place.starter, "-C", place.config, "start"]
    )
    call.deadline.doing(f"starting Mailman: {' '.join(arguments)}")
    printed = printed_output.path(call)
    with open(printed, "wb") as output:
        starter = _spawn(arguments, site, output)
    take_back = call.deadline.at_expiry(starter.kill)
    try:
        outcome = _wait_until_up(call, site, starter, printed)
    finally:
        if starter.poll() is None and call.deadline.passed():
            starter.kill()
        take_back()
    return outcome


def _spawn(arguments: list[str], site: Installation, output: object) -> subprocess.Popen[bytes]:
    """Start `arguments` as Mailman's user. Its output goes to a file, never to a pipe: the master
    keeps it open for ever (facts, section 1)."""
    identity = {}
    if os.geteuid() == 0:
        groups = os.getgrouplist(site.user.name, site.user.gid)
        identity = {"user": site.user.uid, "group": site.user.gid, "extra_groups": groups}
    try:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=command.bare_environment(),
            start_new_session=True,
            **identity,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refusal(
            codes.ERR_INSTALLED,
            f"{arguments[0]} cannot be run: {getattr(error, 'strerror', None) or error}",
        ) from error


def _wait_until_up(
    call: Call, site: Installation, starter: subprocess.Popen[bytes], printed: str
) -> Outcome:
    """Wait until the master holds the lock and every configured runner is there."""
    last_seen = time.monotonic()
    looked_at = os.path.join(site.lock_dir, site.master_lock)
    lacking = f"the master did not take its lock {looked_at}"
    if looked_at != site.answer.master_lock:
        lacking += f", which Mailman calls {site.answer.master_lock} (see the parameter lock_dir)"
    while True:
        call.deadline.doing(f"waiting for Mailman to come up ({lacking})")
        lock = observe.look_at_master_lock(call, site)
        ended = starter.poll() is not None
        # Before a master has the lock the table of processes tells only whether all is over. It is
        # dear, and Mailman needs the processor now.
        may_be_over = ended and time.monotonic() - last_seen >= LOOK_FOR_ANY
        found = (
            agent_site.own_processes(call, site) if lock.lock or may_be_over else MailmanProcesses()
        )
        seen = Snapshot(site, "", found, None, lock, now=time.time())
        master = judge.holder(seen)
        if master is not None:
            lacking = judge.runner_trouble(seen, site, master)
            if not lacking and ended:
                _remember(call, seen)
                return judge.monitor(seen, 0, 0)
        if found or not ended:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > NOTHING_SEEN:
            return Outcome(
                codes.ERR_GENERIC,
                f"Mailman did not start: {_said(printed, starter)}",
            )
        if not call.deadline.sleep(POLL):
            return Outcome(
                codes.ERR_GENERIC,
                f"Mailman is not up after {call.deadline.timeout:.0f} s: {lacking}; "
                f"{_said(printed, starter)}",
            )


def _said(printed: str, starter: subprocess.Popen[bytes]) -> str:
    return printed_output.said(printed, "its start command", starter.returncode)


def _give_up_lock(call: Call, ended: set[int]) -> None:
    """Release the master lock if it is that of a process of this host that is gone.

    In a child of its own, since the share may hang: the stop is done whatever becomes of it, and
    what stays is released at the next start, or by the janitor. That may be another node's, which
    is told which processes have `ended`.
    """
    call.deadline.doing("releasing the lock that the master left")
    trouble = bounded_child.run(
        lambda: _release_own(call), min(RELEASE_SECONDS, call.deadline.remaining() - 0.5)
    )
    if trouble:
        call.log.warning(f"the master lock stays for the next start: {trouble}")
    if trouble and ended:
        call.deadline.doing("telling the other nodes which processes have ended")
        trouble = ended_processes.publish(
            ended, time.time(), min(TELL_SECONDS, call.deadline.remaining() - 0.5)
        )
        if trouble:
            call.log.info(f"other nodes do not know that Mailman has ended here: {trouble}")


class LockStays(Exception):
    """The master lock cannot be given up now; the text says why."""


def _release_own(call: Call) -> None:
    site = agent_site.find_installation(call)
    if isinstance(site, Absent):
        raise LockStays(site.why)
    unusable = agent_site.share_unusable(site)
    if unusable:
        raise LockStays(unusable)
    report = lock_sweep.sweep(
        call, site, lambda: lock_evidence.look_around(call), {site.master_lock}
    )
    kept = report.kept_lock(site.master_lock)
    if kept is not None:
        call.log.info(f"left alone: {kept.sentence()}")
