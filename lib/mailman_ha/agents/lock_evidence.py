"""Observing: everything that a verdict on the locks of one directory needs, as records.

The cluster is asked once, and only where a lock names another host or may have to go; process
facts come from /proc, read as root, for a hidden process must never look like a dead one.
"""

from __future__ import annotations

import os
import time

from mailman_ha.agents import site as agent_site
from mailman_ha.evidence import clocks, cluster, hosts, process_identity
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.verdict import THIS_HOST, Evidence, ProcessFacts
from mailman_ha.mailman import processes
from mailman_ha.mailman.location import VERSION_21
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailman_ha.locks.grammar import Owner
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: Where the file server's clock cannot be measured (a share that takes no files), nothing that
#: depends on comparing times is certain (seconds).
UNMEASURED = ClockSkew(0.0, 3600.0)

#: What a cluster call may take at the most (seconds); it takes 0.05 on an idle node.
CRM_MON_SECONDS = 10.0


def measure_skew(lock_dir: str) -> ClockSkew:
    """How the clock of the server behind `lock_dir` stands to this host's; UNMEASURED where the
    directory takes no files. To be called as Mailman's user."""
    try:
        directory = lock_directory.open_lock_directory(lock_dir)
    except OSError:
        return UNMEASURED
    try:
        return clocks.measure_skew(directory)
    except OSError:
        return UNMEASURED
    finally:
        os.close(directory)


@record
class Surroundings:
    """What is the same for every lock: this host, the cluster's answer, the operator's words."""

    this_host: ThisHost
    host_map: dict[str, str]
    cluster: cluster.Cluster | None
    no_cluster: str
    allow_unfenced: bool

    @property
    def maintenance(self) -> bool:
        """Whether the cluster is told to leave everything as it is."""
        if self.cluster is None:
            return False
        own = self.cluster.nodes.get(self.this_host.node or "")
        return self.cluster.maintenance or (own is not None and own.maintenance)


def look_around(call: Call) -> Surroundings:
    """Ask the cluster and the resolver. Never raises: a cluster that does not answer is noted."""
    mapped = agent_site.host_map(call)
    here = agent_site.this_host(call)
    call.deadline.doing("asking crm_mon about the nodes")
    answer: cluster.Cluster | None = None
    no_cluster = ""
    try:
        answer = cluster.ask(min(CRM_MON_SECONDS, max(call.deadline.remaining() - 1.0, 0.5)))
    except cluster.NoClusterEvidence as error:
        # With a node name given, Pacemaker runs us: then there is a cluster whatever crm_mon says.
        if not error.none_here or call.node is not None:
            no_cluster = str(error)
    if answer is not None and here.node is None:
        here = replace(here, node=_own_node(here, mapped, answer))
    return Surroundings(here, mapped, answer, no_cluster, call.flag("allow_unfenced"))


def _own_node(
    here: ThisHost, mapped: dict[str, str], answer: cluster.Cluster
) -> str | None:
    """This host's node name when nobody gave it (an action run by hand)."""
    for name in here.names:
        node = hosts.node_of(name, here, mapped, answer.nodes)
        if node is not None:
            return node
    return None


def gather(
    call: Call,
    site: Installation,
    around: Surroundings,
    owners: Iterable[Owner],
    skew: ClockSkew,
) -> Evidence:
    """The evidence on `owners`."""
    owners = tuple(owners)
    facts = hosts.resolve(
        {owner.host for owner in owners}, around.this_host, around.host_map, around.cluster,
        around.no_cluster,
    )
    pids = {owner.pid for owner in owners if facts[owner.host].kind == THIS_HOST}
    steps = [clocks.remember(_clock_path(call)).stepped_at]
    if skew is not UNMEASURED:
        steps.append(clocks.remember_server(_server_clock_path(call, site), skew).stepped_at)
    return Evidence(
        hosts=facts,
        processes={pid: process_facts(pid, site) for pid in pids},
        now=time.time(),
        booted_at=process_identity.booted_at(),
        clock_offset=skew.offset,
        clock_uncertainty=skew.uncertainty,
        clock_stepped_at=max((step for step in steps if step is not None), default=None),
        fencing_enabled=around.cluster is None or around.cluster.fencing_enabled,
        allow_unfenced=around.allow_unfenced,
        maintenance=around.maintenance,
    )


def note_clock(call: Call) -> None:
    """Look at this host's clock once more. What a probe does, which every node runs when it joins:
    a clock that is set between a fencing and this host's first sweep would otherwise make the lock
    of the fenced node, back since, look older than its fencing."""
    try:
        clocks.remember(_clock_path(call))
    except OSError as error:
        call.log.warning(f"whether the clock is set cannot be noted: {error}")


def _clock_path(call: Call) -> str:
    return os.path.join(call.state_dir, "mailman-ha-clock")


def _server_clock_path(call: Call, site: Installation) -> str:
    of = site.lock_dir.replace("/", "-")[-150:]
    return os.path.join(call.state_dir, f"mailman-ha-server-clock{of}")


def host_name_trouble(site: Installation, around: Surroundings) -> str:
    """Why this host's name would make its locks nobody's: '' where it names this node.

    A lock signed ``localhost`` could, after a failover, be anyone's: better no start than one
    that the next node can never follow.
    """
    if around.cluster is None or len(around.cluster.nodes) < 2:
        return ""
    here = around.this_host
    name = lock_host(site, here)
    facts = hosts.resolve((name,), here, around.host_map, around.cluster)[name]
    if facts.kind == THIS_HOST:
        return ""
    return (
        f"Mailman would sign its locks as host {escape(name)}, which "
        + (facts.why or "is no name of this node")
        + f"; correct the host name (/etc/hosts) or set host_map=\"{here.node or 'NODE'}={name}\""
    )


def lock_host(site: Installation, here: ThisHost) -> str:
    """The host name that the Mailman of `site` signs its locks with (facts, section 2)."""
    return here.hostname if site.location.version == VERSION_21 else here.fqdn


def process_facts(pid: int, site: Installation) -> ProcessFacts | None:
    """What is known of the process `pid`; None where it is gone or only waits to be reaped."""
    if not process_identity.exists(pid):
        return None
    stat = process_identity.read(pid)
    if stat is None:
        if not process_identity.exists(pid):  # it has ended in between
            return None
        return ProcessFacts(pid, 0.0, True, "hidden by /proc's mount options")
    if stat.ended:
        return None
    arguments = process_identity.command_line(pid)
    return ProcessFacts(
        pid,
        stat.started_at(),
        processes.looks_like_mailman(arguments, site.location),
        _shown(arguments),
    )


def _shown(arguments: tuple[str, ...]) -> str:
    return escape(" ".join(arguments), 120) or "a kernel thread"
