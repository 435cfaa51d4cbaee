"""Looking: every source with a time limit, and none that keeps another from being looked at."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import time
import xml.etree.ElementTree as ElementTree

from mailman_ha.agents import bounded_child, lock_evidence
from mailman_ha.agents import site as agent_site
from mailman_ha.agents.site import Absent
from mailman_ha.doctor import configuration as configurations
from mailman_ha.doctor import node_facts, own_services
from mailman_ha.doctor.configuration import FACTS_ATTRIBUTE, OURS, Configuration
from mailman_ha.doctor.node_facts import NodeFacts
from mailman_ha.doctor.observation import FencingEvent, Observation, Place
from mailman_ha.evidence import cluster, command, hosts, mounts, node_attributes
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.mailman.location import VERSION_21
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.outcome import Refusal
from mailman_ha.ocf.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mailman_ha.evidence.clocks import ClockSkew
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: What one question to the cluster may take (seconds).
CLUSTER_SECONDS = 10.0
#: What a look at the share may take (seconds).
SHARE_SECONDS = 10.0
#: A CIB that is longer is not read (bytes).
_GREATEST_CIB = 32 << 20

#: The exit status of Pacemaker's programs where no cluster runs (CRM_EX_DISCONNECT).
_NOT_CONNECTED = 102

#: adjtimex(2) returns this while nothing keeps the clock.
_TIME_ERROR = 5


@record
class FromCib:
    """The configuration, or why there is none. `down`: it is what lies on this node's disk."""

    configuration: Configuration | None = None
    trouble: str = ""
    down: bool = False


def configuration(path: str = "") -> FromCib:
    """The CIB: of the running cluster, else as it lies on this node's disk; or that in `path`."""
    if path:
        try:
            return FromCib(configurations.parse(_file(path)))
        except OSError as error:
            return FromCib(None, f"{escape(path)} cannot be read: {error.strerror}")
        except NoClusterEvidence as error:
            return FromCib(None, f"{escape(path)}: " + str(error).replace("cibadmin printed", "is"))
    result = command.run(("cibadmin", "--query"), CLUSTER_SECONDS)
    if result.code == 0:
        try:
            return FromCib(configurations.parse(result.output))
        except NoClusterEvidence as error:
            return FromCib(None, str(error))
    if not cluster.may_have_run():
        return FromCib(None, "no cluster has ever run on this machine")
    try:
        return FromCib(configurations.parse(_file(cluster.CIB_FILE)), down=True)
    except (OSError, NoClusterEvidence):
        return FromCib(None, (
            f"no cluster runs on this node, and {cluster.CIB_FILE} cannot be read by uid "
            f"{os.geteuid()}" if result.code == _NOT_CONNECTED else result.complaint()
        ))


def _file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(22, "it is no regular file")
        return file.read(_GREATEST_CIB)


def file_alone(path: str) -> Observation:
    """Nothing but a configuration in a file, as before it is loaded."""
    found = configuration(path)
    return Observation(
        configuration=found.configuration, no_configuration=found.trouble, from_file=True,
        allow_unfenced=_allows_unfenced(found.configuration),
    )


def everything(call: Call, found: FromCib) -> Observation:
    """All that can be seen from this node. `call` has the parameters of the Mailman meant."""
    answer, no_cluster, events = _cluster()
    hostname = socket.gethostname()
    call.deadline.doing("asking the resolver for this host's full name")
    here = ThisHost(hostname, socket.getfqdn(), call.node)
    host_map, host_map_trouble = agent_site.read_host_map(call)
    if answer is not None and here.node is None:
        here = replace(here, node=_own_node(here, host_map, answer))
    services, services_unseen = own_services.look()
    seen = Observation(
        configuration=found.configuration,
        no_configuration=found.trouble,
        cluster_down=found.down,
        cluster=answer,
        no_cluster=no_cluster,
        fencing_events=events,
        able=_able(answer),
        node=here.node,
        this_host=here,
        host_map=host_map,
        host_map_trouble=host_map_trouble,
        synchronised=clock_is_kept(),
        services=services,
        services_unseen=services_unseen,
        allow_unfenced=_allows_unfenced(found.configuration),
    )
    seen = _with_site(call, seen)
    own = own_facts(seen)
    facts: dict[str, NodeFacts | None] = {}
    if found.configuration is not None and not found.down:
        facts = {
            node: node_facts.parse(text) for node, text in found.configuration.facts.items()
        }
    if own is not None:
        facts[seen.here] = own
    return replace(seen, facts=facts)


def own_facts(seen: Observation) -> NodeFacts | None:
    """What this node has to tell the others."""
    if seen.this_host is None:
        return None
    here = seen.this_host
    version_21 = seen.site is not None and seen.site.location.version == VERSION_21
    host = here.hostname if version_21 else here.fqdn
    offset = None
    mount = seen.places[0].mount if seen.places else None
    if seen.skew is not None and seen.skew.uncertainty <= 5.0 and mount and mount.is_nfs:
        offset = round(seen.skew.offset)
    told: dict[str, object] = {
        **node_facts.of_site(seen.site),
        "offset": offset,
        "synchronised": seen.synchronised,
        "services": len(seen.services),
        "day": time.strftime("%Y%m%d", time.gmtime()),
    }
    return NodeFacts(host, **told)  # type: ignore[arg-type]


def publish(seen: Observation) -> str:
    """Tell the other nodes what this one sees; '' or why that was not possible."""
    facts = own_facts(seen)
    if facts is None:
        return "nothing is known of this node"
    return node_attributes.publish({FACTS_ATTRIBUTE: node_facts.line(facts)}, CLUSTER_SECONDS)


def _own_node(
    here: ThisHost, mapped: Mapping[str, str], answer: cluster.Cluster
) -> str | None:
    for name in here.names:
        node = hosts.node_of(name, here, mapped, answer.nodes)
        if node is not None:
            return node
    return None


def _allows_unfenced(configuration: Configuration | None) -> bool:
    return configuration is not None and any(
        (one.primitive.text("allow_unfenced") or "").lower() in ("yes", "true", "1", "on", "y")
        for one in configuration.of(*OURS)
    )


# -- the cluster


def _cluster() -> tuple[cluster.Cluster | None, str, tuple[FencingEvent, ...]]:
    result = command.run(cluster.CRM_MON, CLUSTER_SECONDS)
    if result.code == _NOT_CONNECTED:
        return None, "no cluster runs on this node", ()
    if result.code != 0:
        return None, result.complaint(), ()
    try:
        return cluster.parse(result.output), "", fencing_events(result.output)
    except NoClusterEvidence as error:
        return None, str(error), ()


def fencing_events(document: bytes) -> tuple[FencingEvent, ...]:
    """The fencing history in crm_mon's XML, which `cluster.parse` has accepted."""
    return tuple(
        FencingEvent(
            element.get("target") or "",
            element.get("action") or "",
            element.get("status") or "",
            cluster.parse_time(element.get("completed") or ""),
            # So Pacemaker notes `stonith_admin --confirm`.
            element.get("delegate") == "a human",
        )
        for element in ElementTree.fromstring(document).iter("fence_event")
    )


def _able(answer: cluster.Cluster | None) -> dict[str, tuple[str, ...]] | None:
    """The devices for each node, asked of the fencer; None where it does not answer."""
    if answer is None:
        return None
    found = {}
    for node in answer.nodes:
        result = command.run(
            ("stonith_admin", f"--list={node}", "--output-as=xml"), CLUSTER_SECONDS
        )
        devices = devices_listed(result.output)
        if devices is None:
            return None
        found[node] = devices
    return found


def devices_listed(document: bytes) -> tuple[str, ...] | None:
    """The devices in what ``stonith_admin --list NODE --output-as=xml`` prints; None where that is
    no such answer."""
    if b"<!" in document.replace(b"<!--", b"") or b"\0" in document:
        return None
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    status = root.find("./status")
    if status is None or status.get("code") not in ("0", "105"):  # 105: there is none
        return None
    return tuple(
        one.text or "" for one in root.findall("./list/item")
    )


# -- this node


def clock_is_kept() -> bool | None:
    """Whether the kernel says that something (chrony, ntpd) keeps its clock; None: not known.

    adjtimex(2) with no mode set only asks, and needs no privilege.
    """
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _with_site(call: Call, seen: Observation) -> Observation:
    """`seen` with Mailman on this node, its directories, and the file server's clock."""
    try:
        mounted = mounts.read()
    except OSError:
        mounted = ()
    seen = replace(seen, mounts=mounted)
    answer: list[Installation | Absent] = []
    # 2.1 may lie on the share as a whole: a child finds out first whether that answers.
    trouble = bounded_child.run(lambda: _find(call), SHARE_SECONDS + 30.0)
    if not trouble:
        try:
            answer.append(_find(call))
        except (Refusal, OSError) as error:
            trouble = _said(error)
    if trouble:
        return replace(seen, no_site=trouble)
    site = answer[0]
    if isinstance(site, Absent):
        return replace(seen, no_site=site.why)
    trouble = bounded_child.run(lambda: _places(site, mounted), SHARE_SECONDS)
    if trouble:
        places = tuple(
            replace(one, trouble=trouble, mount=mounts.of_path(one.path, mounted))
            for one in directories(site)
        )
        return replace(seen, site=site, places=places, no_skew=trouble)
    places = _places(site, mounted)
    seen = replace(seen, site=site, places=places)
    if places[0].trouble or places[0].mount is None or not places[0].mount.is_nfs:
        # Not there, which is a finding of the share; or a disk, with the times of our own clock.
        return seen
    return _with_skew(site, seen)


def _find(call: Call) -> Installation | Absent:
    return agent_site.find_installation(call)


def _said(error: Exception) -> str:
    if isinstance(error, Refusal):
        return error.outcome.reason
    return escape(str(error))


def _with_skew(site: Installation, seen: Observation) -> Observation:
    trouble = bounded_child.run(lambda: _skew(site), SHARE_SECONDS)
    if trouble:
        return replace(seen, no_skew=trouble)
    skew = _skew(site)
    if skew == lock_evidence.UNMEASURED:
        return replace(
            seen, no_skew=f"no file could be made in {escape(site.lock_dir)} as uid "
            f"{os.geteuid() or site.user.uid}",
        )
    return replace(seen, skew=skew)


def _skew(site: Installation) -> ClockSkew:
    with ActingAs(site.user.uid, site.user.gid):
        return lock_evidence.measure_skew(site.lock_dir)


def directories(site: Installation) -> tuple[Place, ...]:
    """Mailman's directories that belong on the share, the lock directory first."""
    answer = site.answer
    wanted = [
        ("the lock directory", site.lock_dir),
        ("the queue directory", answer.queue_dir),
        ("the directory of the lists", answer.lists_dir),
    ]
    if site.location.version != VERSION_21:
        # 2.1's VAR_PREFIX is only where the others lie by default.
        wanted.append(("Mailman's var directory", answer.var_dir))
    return tuple(Place(what, path) for what, path in wanted)


def _places(site: Installation, mounted: Iterable[mounts.Mount]) -> tuple[Place, ...]:
    found = []
    table = tuple(mounted)
    for place in directories(site):
        real = os.path.realpath(place.path)
        try:
            status = os.stat(real)
        except OSError as error:
            if place.what == "the directory of the lists" and not os.path.lexists(real):
                continue  # Mailman 3 makes it when it is first needed
            found.append(
                replace(place, real=real, mount=mounts.of_path(real, table),
                        trouble=error.strerror or "cannot be looked at")
            )
            continue
        found.append(
            replace(place, real=real, device=status.st_dev, mount=mounts.of_path(real, table))
        )
    return tuple(found)
