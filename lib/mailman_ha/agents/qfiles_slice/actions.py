"""The actions of qfiles-slice: observe, judge, act."""

from __future__ import annotations

import os
import signal
import time

from mailman_ha.agents import (
    bounded_child,
    lock_evidence,
    lock_sweep,
    orderly_end,
    printed_output,
    state_lines,
)
from mailman_ha.agents import site as agent_site
from mailman_ha.agents.qfiles_slice import judge, launch, observe, settings, state_file
from mailman_ha.agents.qfiles_slice.observe import Snapshot
from mailman_ha.agents.qfiles_slice.settings import Wanted
from mailman_ha.agents.qfiles_slice.state_file import SliceState
from mailman_ha.agents.site import Absent
from mailman_ha.evidence import node_attributes, process_identity
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.holding import Holding, NotHeldError, take
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.location import VERSION_21
from mailman_ha.mailman.processes import MailmanProcess, MailmanProcesses
from mailman_ha.ocf import codes
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.outcome import Outcome, Refusal
from mailman_ha.queues.slices import Slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.agents.qfiles_slice.launch import Claimed
    from mailman_ha.ocf.call import Call

#: How often a start looks whether the runner is up (seconds).
POLL = 0.05

#: With less than this left (seconds) a monitor pushes the claim's expiry ahead.
REFRESH_BELOW = launch.LIFETIME / 2

#: What a stop keeps of its time for killing, and for the claim (seconds).
KILL_RESERVE = 10.0
RELEASE_SECONDS = 5.0

#: What setting or removing the node attributes may take (seconds).
ATTRIBUTES_SECONDS = 3.0


def monitor(call: Call) -> Outcome:
    """Observe and judge; where all is well keep the claim fresh and publish the slice's depth."""
    if call.is_probe:
        lock_evidence.note_clock(call)
    if call.is_probe and agent_site.nothing_runs(call):
        return Outcome(codes.NOT_RUNNING)
    try:
        wanted = settings.wanted(call)
    except Refusal as refusal:
        return _monitor_without_slice(call, refusal)
    seen = observe.snapshot(call, wanted, with_backlog=call.check_level >= 10)
    max_queue_age = call.seconds("max_queue_age")
    if not isinstance(seen.site, Absent) and observe.waits_by_design(seen.site, wanted):
        max_queue_age = 0.0
    outcome = judge.monitor(seen, wanted, call.check_level, max_queue_age)
    if outcome.code == codes.SUCCESS:
        _keep_fresh(call, seen)
        printed_output.limit(call)
    if call.check_level >= 10 and seen.own is not None:
        _publish(call, seen, wanted)
    return agent_site.degraded_by_host_map(call, outcome)


def _monitor_without_slice(call: Call, refusal: Refusal) -> Outcome:
    """What a monitor says where the configuration means no slice: the runner that was started
    under the former one is still to be ended. Never 6, which would take the resource from every
    node without a stop."""
    remembered = state_file.read(state_file.path(call.state_dir, call.instance))
    if remembered is None or not process_identity.is_alive(*remembered.identity):
        return Outcome(codes.NOT_RUNNING)
    return Outcome(
        codes.ERR_GENERIC,
        f"runner {remembered.pid} of {remembered.queue}:{remembered.slice}:{remembered.slices} "
        f"runs, but {refusal.outcome.reason}",
    )


def start(call: Call) -> Outcome:
    """Refuse what could be a second runner; else claim the slice and start Mailman's runner."""
    wanted = settings.wanted(call)
    seen = observe.snapshot(call, wanted)
    others: tuple[observe.ConfiguredSlices, ...] = ()
    not_told = ""
    if not isinstance(seen.site, Absent) and not seen.share_missing:
        others, not_told = observe.configured_slices(call, seen.site, wanted)
    decided = judge.start(seen, wanted, others, not_told)
    if isinstance(seen.site, Absent):
        return decided or Outcome(seen.site.code, seen.site.why)
    site = seen.site
    if decided is not None:
        if decided.code != codes.SUCCESS:
            _claim_for_strays(call, site, seen, wanted)
        return decided
    if call.clone_node_max is not None and call.clone_node_max < wanted.slice.count:
        call.log.warning(
            f"clone-node-max is {call.clone_node_max}: when nodes are lost, the others cannot "
            f"take all {wanted.slice.count} slices; set it to {wanted.slice.count}"
        )
    around = lock_evidence.look_around(call)
    refusal = lock_evidence.host_name_trouble(site, around)
    if refusal:
        return Outcome(codes.ERR_INSTALLED, refusal)
    overlapping = observe.overlapping_claims(call, site, wanted)
    report = lock_sweep.sweep(call, site, lambda: around, overlapping)
    refused = judge.after_sweep(report, overlapping, site, wanted)
    if refused is not None:
        return refused
    return _start_runner(call, site, wanted, lock_evidence.lock_host(site, around.this_host))


def stop(call: Call) -> Outcome:
    """End the runner without touching the share; then, if it can be reached, give up the claim."""
    try:
        wanted: Wanted | None = settings.wanted(call)
    except Refusal:
        wanted = None
    remembered = state_file.read(state_file.path(call.state_dir, call.instance))

    def find() -> MailmanProcesses:
        here = observe.runners(call, None, wanted, remembered)
        same = tuple(one for one in here.others if _same_slice(one, wanted, remembered))
        return MailmanProcesses(runners=((here.own,) if here.own is not None else ()) + same)

    queue = wanted.queue if wanted is not None else remembered.queue if remembered else ""
    left, killed = orderly_end.end(
        call, find, min(KILL_RESERVE, call.deadline.remaining() / 4), queue
    )
    if left:
        return Outcome(
            codes.ERR_GENERIC,
            "still there after SIGKILL: "
            + ", ".join(one.describe() for one in left.all)
            + "; a process that hangs in the kernel (a frozen file server) ends only when that "
            "answers, or with the node",
        )
    if killed:
        call.log.warning("the runner did not end on SIGTERM and was killed")
    _give_up_claim(call, remembered, wanted)
    state_lines.forget(state_file.path(call.state_dir, call.instance))
    _withdraw(call, remembered, wanted)
    return Outcome(codes.SUCCESS)


def reload_agent(call: Call) -> Outcome:
    """Take over changed parameters: all reloadable ones are read anew by each action."""
    agent_site.reload_host_map(call)
    return Outcome(codes.SUCCESS)


def validate_all(call: Call) -> Outcome:
    """Whether the parameters mean a slice that the Mailman which is here could run."""
    agent_site.host_map(call)
    # crm and pcs validate a resource before they make it a clone, which is no fault yet.
    wanted = None if _may_become_a_clone(call) else settings.wanted(call)
    site = agent_site.find_installation(call)
    if isinstance(site, Absent):
        return Outcome(site.code, site.why)
    if wanted is not None:
        unfit = judge.configuration_trouble(site, wanted)
        if unfit is not None:
            return unfit
    elif call.text("queue") not in site.runners_by_queue():
        return Outcome(
            codes.ERR_CONFIGURED,
            f"Mailman has no runner for a queue {escape(call.text('queue'), 80)}; queues that can "
            f"have slices: {', '.join(sorted(site.runners_by_queue()))}",
        )
    return Outcome(codes.SUCCESS)


def _may_become_a_clone(call: Call) -> bool:
    return call.clone_number is None and not call.text("slice") and not call.text("slices")


def _same_slice(
    one: MailmanProcess, wanted: Wanted | None, remembered: SliceState | None
) -> bool:
    role = (one.role.slice, one.role.slices)
    return (wanted is not None and role == (wanted.slice.number, wanted.slice.count)) or (
        remembered is not None and role == (remembered.slice, remembered.slices)
    )


def _runner_command(site: Installation, wanted: Wanted) -> list[str]:
    """The command of Mailman's own runner for the slice (facts, section 3)."""
    runner = site.runners_by_queue()[wanted.queue]
    role = f"--runner={runner}:{wanted.slice.number}:{wanted.slice.count}"
    directory = site.location.bindirs[0]
    if site.location.version == VERSION_21:
        # -s: what goes wrong is written to Mailman's error log, as under the master.
        return [os.path.join(directory, "qrunner"), role, "-s"]
    return [os.path.join(directory, "runner"), "-C", site.location.config, role]


def _start_runner(call: Call, site: Installation, wanted: Wanted, host: str) -> Outcome:
    command = _runner_command(site, wanted)
    child = launch.claim(
        call, site, command, wanted.lock_name, host, printed_output.path(call)
    )
    # Two that looked before either had claimed must not both go on: now each sees the other's.
    rivals = observe.overlapping_claims(call, site, wanted) - {wanted.lock_name}
    if rivals:
        launch.call_off(child)
        return Outcome(
            codes.ERR_GENERIC,
            f"{', '.join(sorted(rivals))} was claimed in {site.lock_dir} at the same time: a part "
            f"of {wanted.text}; give each slice to one resource, then clean up this one",
        )
    state_path = state_file.path(call.state_dir, call.instance)
    state_file.write(
        state_path,
        SliceState(
            pid=child.pid,
            started_ticks=child.started_ticks,
            uid=site.user.uid,
            gid=site.user.gid,
            claim=child.claim,
            claim_inode=child.claim_inode,
            lock_dir=site.lock_dir,
            queue=wanted.queue,
            runner=site.runners_by_queue()[wanted.queue],
            slice=wanted.slice.number,
            slices=wanted.slice.count,
        ),
    )
    trouble = launch.let_go(child)
    if trouble:
        state_lines.forget(state_path)
        return Outcome(
            codes.ERR_INSTALLED,
            f"{command[0]} cannot be run: {trouble}; is Mailman whole on this node?",
        )
    return _wait_until_up(call, site, wanted, child)


def _wait_until_up(call: Call, site: Installation, wanted: Wanted, child: Claimed) -> Outcome:
    """Wait until the runner has opened its queue.

    It installs its handler for SIGTERM right after that, in both versions: so a stop that follows
    at once ends it in good order, too.
    """
    call.deadline.doing(f"waiting until the runner {wanted.text} has opened its queue")
    while not process_identity.catches(child.pid, signal.SIGTERM):
        ended, status = os.waitpid(child.pid, os.WNOHANG)
        if ended:
            trouble = printed_output.said(
                printed_output.path(call), f"the runner {wanted.text}",
                os.waitstatus_to_exitcode(status),
            )
            _give_up(_state_of(call))
            state_lines.forget(state_file.path(call.state_dir, call.instance))
            return Outcome(codes.ERR_GENERIC, trouble)
        if not call.deadline.sleep(POLL):
            return Outcome(
                codes.ERR_GENERIC,
                f"the runner {wanted.text} has not opened its queue after "
                f"{call.deadline.timeout:.0f} s; see Mailman's error log, or give start a longer "
                "timeout",
            )
    return judge.monitor(observe.snapshot(call, wanted), wanted, 0, 0)


def _state_of(call: Call) -> SliceState | None:
    return state_file.read(state_file.path(call.state_dir, call.instance))


def _claim_for_strays(
    call: Call, site: Installation, seen: Snapshot, wanted: Wanted
) -> None:
    """Claim what strays work on in their name: this node refuses because it sees them, another
    would not. The claim goes, as any, when its process has ended."""
    around = None
    for stray in judge.strays(seen, wanted):
        around = around or lock_evidence.look_around(call)
        slice = judge.claimed_by(stray)
        name = Wanted(wanted.resource, wanted.queue, slice).lock_name
        host = lock_evidence.lock_host(site, around.this_host)
        try:
            with ActingAs(site.user.uid, site.user.gid):
                directory = lock_directory.open_lock_directory(site.lock_dir)
                try:
                    take(
                        directory, site.lock_dir, name, host, launch.LIFETIME, 0.0, site.format,
                        breaks_expired=False, pid=stray.pid,
                    )
                finally:
                    os.close(directory)
            call.log.warning(f"claimed {name} in the name of {stray.describe()}")
        except (NotHeldError, OSError) as error:
            call.log.info(f"{name} is not claimed for {stray.describe()}: {error}")


def _keep_fresh(call: Call, seen: Snapshot) -> None:
    """Push the claim's expiry ahead in good time, as Mailman's master does with its lock."""
    claim, remembered = seen.claim.claim, seen.remembered
    if claim is None or remembered is None or claim.expires_at - seen.now > REFRESH_BELOW:
        return
    try:
        with ActingAs(remembered.uid, remembered.gid):
            directory = lock_directory.open_lock_directory(remembered.lock_dir)
            try:
                _holding(directory, remembered).refresh()
            finally:
                os.close(directory)
    except (NotHeldError, OSError) as error:
        call.log.warning(f"the claim {remembered.claim} could not be refreshed: {error}")


def _holding(directory: int, state: SliceState) -> Holding:
    wanted = Wanted("", state.queue, Slice(state.slice, state.slices))
    return Holding(
        directory, wanted.lock_name, os.path.basename(state.claim), state.claim_inode,
        launch.LIFETIME,
    )


def _give_up_claim(call: Call, remembered: SliceState | None, wanted: Wanted | None) -> None:
    """Give up the claim of the runner that has ended.

    In a child of its own, since the share may hang: the stop is done whatever becomes of it, and
    what stays is released at the next start, or by the janitor.
    """
    call.deadline.doing("giving up the claim")

    def work() -> None:
        if not _give_up(remembered) and wanted is not None:
            _release_own(call, wanted)

    trouble = bounded_child.run(work, min(RELEASE_SECONDS, call.deadline.remaining() - 0.5))
    if trouble:
        call.log.warning(f"the claim stays for the next start: {trouble}")


def _give_up(state: SliceState | None) -> bool:
    """Unlink lock and claim of a runner that has ended, where they are still its own."""
    if state is None:
        return False
    try:
        with ActingAs(state.uid, state.gid):
            directory = lock_directory.open_lock_directory(state.lock_dir)
            try:
                held = _holding(directory, state)
                if not held.is_ours():
                    return False
                held.give_up()
            finally:
                os.close(directory)
    except FileNotFoundError:
        return False
    return True


def _release_own(call: Call, wanted: Wanted) -> None:
    """Release what stands of claims on the slice by processes of this host that are gone."""
    site = agent_site.find_installation(call)
    if isinstance(site, Absent) or agent_site.share_missing(site):
        return
    lock_sweep.sweep(
        call, site, lambda: lock_evidence.look_around(call), {wanted.lock_name}
    )


def _attribute_names(resource: str, number: int) -> dict[str, str]:
    """The names of the slice's node attributes, by what they tell."""
    return {what: f"{resource}-{number}-{what}" for what in ("depth", "oldest", "bak")}


def _publish(call: Call, seen: Snapshot, wanted: Wanted) -> None:
    backlog = seen.backlog
    if backlog is None or call.node is None:
        return
    names = _attribute_names(wanted.resource, wanted.slice.number)
    age = 0.0 if backlog.oldest is None else max(time.time() - backlog.oldest, 0.0)
    call.deadline.doing("publishing the slice's depth with attrd_updater")
    trouble = node_attributes.publish(
        {
            names["depth"]: str(backlog.waiting + backlog.in_work),
            names["oldest"]: f"{age:.0f}",
            names["bak"]: str(backlog.in_work),
        },
        min(ATTRIBUTES_SECONDS, call.deadline.remaining()),
    )
    if trouble:
        call.log.warning(f"the slice's depth is not published: {trouble}")


def _withdraw(call: Call, remembered: SliceState | None, wanted: Wanted | None) -> None:
    """Remove the node attributes: they would tell of a slice that this node no longer has."""
    number = remembered.slice if remembered else wanted.slice.number if wanted else None
    if call.node is None or number is None:
        return
    call.deadline.doing("removing the slice's node attributes with attrd_updater")
    names = _attribute_names(settings.resource_id(call.instance), number)
    trouble = node_attributes.withdraw(
        list(names.values()), min(ATTRIBUTES_SECONDS, call.deadline.remaining())
    )
    if trouble:
        call.log.info(f"the slice's node attributes stay: {trouble}")
