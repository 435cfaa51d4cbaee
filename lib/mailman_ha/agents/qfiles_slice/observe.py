"""Observing for qfiles-slice: one immutable snapshot of what is the case on this node."""

from __future__ import annotations

import os
import time

from mailman_ha.agents import site as agent_site
from mailman_ha.agents import slice_claims
from mailman_ha.agents.qfiles_slice import state_file
from mailman_ha.agents.qfiles_slice.settings import Wanted
from mailman_ha.agents.qfiles_slice.state_file import SliceState
from mailman_ha.agents.site import Absent
from mailman_ha.evidence import cib, process_identity
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.evidence.process_table import Process
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.directory import Inspection, LockFile
from mailman_ha.mailman import asking, location
from mailman_ha.mailman.installation import (
    USUAL_DIRECTORIES_21,
    WAITING_QUEUES,
    Installation,
)
from mailman_ha.mailman.processes import RUNNER, MailmanProcess, Role
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_integer
from mailman_ha.queues import entries, slices
from mailman_ha.queues.entries import Backlog
from mailman_ha.queues.slices import Slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.evidence.cib import ResourceInCib
    from mailman_ha.ocf.call import Call

#: What asking for the resources of the CIB may take at the most (seconds).
CIB_SECONDS = 10.0


@record
class Claim:
    """The claim lock of the slice. `claim` is its claim file, None where the lock stands alone;
    `trouble` is set where the lock directory could not be read."""

    lock: LockFile | None = None
    claim: Inspection | None = None
    trouble: str = ""


@record
class Snapshot:
    """What is the case on this node.

    `own` is the runner that this resource started, if it lives; `others` are the runners of this
    installation on the same queue and this node that no resource started, `siblings` those that
    other resources started. `backlog` is filled from level 10 on; `now` is in seconds since the
    epoch.
    """

    site: Installation | Absent
    share_missing: str
    remembered: SliceState | None
    own: MailmanProcess | None
    others: tuple[MailmanProcess, ...]
    claim: Claim
    backlog: Backlog | None = None
    now: float = 0.0
    siblings: tuple[MailmanProcess, ...] = ()


@record
class Runners:
    """The runners on one queue and this node; see :class:`Snapshot`."""

    own: MailmanProcess | None
    others: tuple[MailmanProcess, ...]
    siblings: tuple[MailmanProcess, ...]


@record
class ConfiguredSlices:
    """Slices that another resource of the cluster is configured for. `count` is None where the
    CIB does not tell it; `numbers` holds what it can run."""

    resource: str
    count: int | None
    numbers: tuple[int, ...]


def snapshot(call: Call, wanted: Wanted, with_backlog: bool = False) -> Snapshot:
    """Look at everything that a verdict on this slice needs; processes first, without the share."""
    remembered = state_file.read(state_file.path(call.state_dir, call.instance))
    site = agent_site.find_installation(call)
    if isinstance(site, Absent):
        here = runners(call, None, wanted, remembered)
        return Snapshot(
            site, site.why, remembered, here.own, here.others, Claim(), now=time.time(),
            siblings=here.siblings,
        )
    here = runners(call, site, wanted, remembered)
    call.deadline.doing(f"looking for the share at {site.lock_dir}")
    missing = agent_site.share_unusable(site)
    claim = Claim() if missing else look_at_claim(call, site, wanted.lock_name)
    backlog = _look_at_backlog(call, site, wanted) if with_backlog and not missing else None
    return Snapshot(
        site, missing, remembered, here.own, here.others, claim, backlog, time.time(),
        here.siblings,
    )


def runners(
    call: Call, site: Installation | None, wanted: Wanted | None, remembered: SliceState | None
) -> Runners:
    """This resource's own runner, and the others on its queue.

    From /proc and the state directory alone. A runner that a resource started is the remembered
    process, whatever its arguments say by now.
    """
    found = agent_site.own_processes(call, site, with_slices=True)
    known = {state.identity: state for state in state_file.read_all(call.state_dir)}
    own = None
    if remembered is not None:
        stat = process_identity.read(remembered.pid)
        if stat is not None and stat.started_ticks == remembered.started_ticks and not stat.ended:
            arguments = process_identity.command_line(remembered.pid)
            own = _started(Process(stat, arguments, remembered.uid, ""), remembered)
    names = set()
    if remembered is not None:
        names.add(remembered.runner)
    if wanted is not None:
        names.update(_runner_names(site, wanted))
    others = []
    siblings = []
    for one in found.runners:
        identity = (one.pid, one.process.stat.started_ticks)
        if one.role.runner not in names or (own is not None and identity == (
            own.pid, own.process.stat.started_ticks
        )):
            continue
        if identity in known:
            siblings.append(_started(one.process, known[identity]))
        else:
            others.append(one)
    return Runners(own, tuple(others), tuple(siblings))


def _started(process: Process, state: SliceState) -> MailmanProcess:
    """A runner that a resource started, with the slice that it was started for."""
    return MailmanProcess(process, Role(RUNNER, state.runner, state.slice, state.slices))


def _runner_names(site: Installation | None, wanted: Wanted) -> set[str]:
    """What the runner of the queue is called, in 2.1 with and without its last word."""
    names = (
        {wanted.queue, USUAL_DIRECTORIES_21.get(wanted.queue, "")}
        if site is None
        else {site.runners_by_queue().get(wanted.queue, "")}
    )
    names |= {name[: -len("Runner")] for name in names if name.endswith("Runner")}
    return names - {""}


def look_at_claim(call: Call, site: Installation, lock_name: str) -> Claim:
    """The claim lock, from the directory's listing and the claim file itself, both of which are
    right at once over NFS (facts, section 6)."""
    call.deadline.doing(f"reading the lock directory {site.lock_dir}")
    with ActingAs(site.user.uid, site.user.gid):
        try:
            listing = lock_directory.read(site.lock_dir, site.format, site.master_lock)
            lock = listing.lock(lock_name)
            if lock is None or not lock.claims:
                return Claim(lock)
            directory = lock_directory.open_lock_directory(site.lock_dir)
            try:
                return Claim(lock, lock_directory.inspect(directory, lock.claims[-1]))
            finally:
                os.close(directory)
        except OSError as error:
            return Claim(trouble=f"{site.lock_dir} cannot be read: {error.strerror}")


def overlapping_claims(call: Call, site: Installation, wanted: Wanted) -> frozenset[str]:
    """The names of all locks in lock_dir that claim a part of the slice, of any geometry; always
    with the slice's own. Raises OSError where the directory cannot be listed."""
    call.deadline.doing(f"listing the lock directory {site.lock_dir}")
    standing = slice_claims.on_queues(site, (wanted.queue,))
    return frozenset(
        {wanted.lock_name}
        | {name for name, slice in standing.items() if slices.overlap(slice, wanted.slice)}
    )


def configured_slices(
    call: Call, site: Installation, wanted: Wanted
) -> tuple[tuple[ConfiguredSlices, ...], str]:
    """What the other resources of the cluster are configured for, of this queue on this share;
    and why that cannot be told, '' where it can. Disabled resources do not count."""
    call.deadline.doing("asking cibadmin for the cluster's resources")
    try:
        resources = cib.ask(min(CIB_SECONDS, max(call.deadline.remaining() - 1.0, 0.5)))
    except NoClusterEvidence as error:
        # With a node name given, Pacemaker runs us: then there is a cluster whatever it says.
        return (), "" if error.none_here and call.node is None else str(error)
    found = []
    for resource in resources:
        parameters = dict(resource.parameters)
        if (
            resource.agent != "ocf:mailman:qfiles-slice"
            or resource.id == wanted.resource
            or resource.disabled
            or parameters.get("queue") != wanted.queue
            or not same_share(call, site, parameters)
        ):
            continue
        found.append(slices_of(resource))
    return tuple(found), ""


def slices_of(resource: ResourceInCib) -> ConfiguredSlices:
    """Which slices a qfiles-slice resource of the CIB can run."""
    parameters = dict(resource.parameters)
    if resource.clone:
        count = resource.clone_max
        return ConfiguredSlices(resource.id, count, tuple(range(min(count or 0, 4096))))
    try:
        slice = Slice(parse_integer(parameters["slice"]), parse_integer(parameters["slices"]))
    except (KeyError, ValueError):
        return ConfiguredSlices(resource.id, None, ())
    return ConfiguredSlices(resource.id, slice.count, (slice.number,))


def same_share(call: Call, site: Installation, parameters: dict[str, str]) -> bool:
    """Whether another resource's parameters mean the installation of `site`, or its lock_dir.

    One that is not to be found on this node under its own path is another: what it may run all
    the same, its claims in lock_dir tell.
    """
    def given(name: str) -> str:
        return parameters.get(name, "")

    if given("lock_dir"):
        return os.path.normpath(given("lock_dir")) == site.lock_dir
    try:
        place = location.find(
            given("mailman_version") or "auto", given("prefix"), given("bindir"), given("config")
        )
    except location.NotFound:
        return False
    if place.version == site.location.version and (place.prefix, place.config) == (
        site.location.prefix, site.location.config
    ):
        return True
    answer = asking.last_answer(place, call.state_dir)
    return answer is not None and answer.lock_dir == site.answer.lock_dir


def _look_at_backlog(call: Call, site: Installation, wanted: Wanted) -> Backlog | None:
    runner = site.runners_by_queue().get(wanted.queue, "")
    directory = site.queue_directory(runner)
    if directory is None:
        return None
    call.deadline.doing(f"listing the queue {directory}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            return entries.backlog_of(directory, wanted.slice)
    except FileNotFoundError:
        return Backlog()


def waits_by_design(site: Installation, wanted: Wanted) -> bool:
    """Whether entries of the queue are deferred on purpose, so that their age says nothing."""
    runner = site.runners_by_queue().get(wanted.queue, "")
    return runner in WAITING_QUEUES or wanted.queue in WAITING_QUEUES
