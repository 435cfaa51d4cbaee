"""What the cluster knows of its nodes: one call of crm_mon, parsed (facts, section 5)."""

from __future__ import annotations

import calendar
import os
import re
import time
import xml.etree.ElementTree as ElementTree

from mailman_ha.evidence import command, ended_processes
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CRM_MON = (
    "crm_mon", "-1", "--output-as=xml", "--include=none,dc,nodes,options,fencing,attributes",
)

_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?"
    r" ?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)

#: Fencing actions that end whatever ran on the node; ``on`` (unfencing) and ``monitor`` do not.
_DEADLY = ("off", "reboot")


#: crm_mon's exit status where no cluster runs on this node (CRM_EX_DISCONNECT).
_NOT_CONNECTED = 102

#: Pacemaker writes its configuration here when it runs for the first time.
CIB_FILE = "/var/lib/pacemaker/cib/cib.xml"


class NoClusterEvidence(Exception):
    """The cluster could not be asked. `none_here` is True where this machine has never been in
    one: crm_mon is not installed, or finds no cluster and Pacemaker has never run."""

    def __init__(self, why: str, none_here: bool = False) -> None:
        super().__init__(why)
        self.none_here = none_here


@record
class Node:
    """One node. `fenced_at`: when its last successful fencing completed, in seconds since the
    epoch, rounded down to what crm_mon prints (whole seconds in Pacemaker 2.1); None: never.
    `ended` are the pids that the node says have ended by `ended_at`, in seconds since the epoch."""

    name: str
    online: bool
    unclean: bool
    pending: bool = False
    standby: bool = False
    maintenance: bool = False
    fenced_at: float | None = None
    ended_at: float | None = None
    ended: frozenset[int] = frozenset()


@record
class Cluster:
    """The cluster as this node sees it."""

    nodes: Mapping[str, Node]
    have_quorum: bool
    fencing_enabled: bool
    maintenance: bool


def ask(seconds: float) -> Cluster:
    """Ask crm_mon, for at most `seconds`. Raises NoClusterEvidence."""
    result = command.run(CRM_MON, seconds)
    if result.code != 0:
        raise NoClusterEvidence(result.complaint(), none_here=_is_no_cluster_node(result))
    return parse(result.output)


def _is_no_cluster_node(result: command.CommandResult) -> bool:
    never_ran = result.missing or result.code == _NOT_CONNECTED
    return never_ran and not may_have_run()


def may_have_run() -> bool:
    """Whether Pacemaker has run on this machine; true also where we may not look."""
    try:
        os.stat(CIB_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def parse(document: bytes) -> Cluster:
    """Read crm_mon's XML of Pacemaker 2.1 and 3.0. Raises NoClusterEvidence for anything else.

    Whatever is missing is taken the way that lets less be released: a node whose ``online``
    cannot be read counts as online, fencing that is not said to be enabled as disabled.
    """
    if b"<!" in document.replace(b"<!--", b"") or b"\0" in document:
        # crm_mon declares no entities; expanding a hostile one's would take all memory.
        raise NoClusterEvidence("crm_mon printed XML with declarations of its own")
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NoClusterEvidence(f"crm_mon printed no XML ({escape(str(error))})") from error
    options = root.find("./summary/cluster_options")
    nodes = root.find("./nodes")
    if root.tag not in ("pacemaker-result", "crm_mon") or options is None or nodes is None:
        raise NoClusterEvidence("crm_mon printed XML without nodes or cluster options")
    fenced = _fencing_times(root)
    told = _ended_processes(root)
    found = {}
    for element in nodes.iter("node"):
        name = element.get("name")
        if not name:
            raise NoClusterEvidence("crm_mon printed a node without a name")
        ended_at, ended = told.get(name, (None, frozenset()))
        found[name] = Node(
            name=name,
            online=element.get("online") != "false",
            unclean=element.get("unclean") == "true",
            pending=element.get("pending") == "true",
            standby=element.get("standby") == "true",
            maintenance=element.get("maintenance") == "true",
            fenced_at=fenced.get(name),
            ended_at=ended_at,
            ended=ended,
        )
    current_dc = root.find("./summary/current_dc")
    return Cluster(
        nodes=found,
        have_quorum=current_dc is not None and current_dc.get("with_quorum") == "true",
        fencing_enabled=options.get("stonith-enabled") == "true",
        maintenance=options.get("maintenance-mode") == "true",
    )


def _fencing_times(root: ElementTree.Element) -> dict[str, float]:
    latest: dict[str, float] = {}
    for event in root.iter("fence_event"):
        target = event.get("target")
        if not target or event.get("status") != "success" or event.get("action") not in _DEADLY:
            continue
        completed = parse_time(event.get("completed") or "")
        if completed is not None:
            latest[target] = max(completed, latest.get(target, completed))
    return latest


def _ended_processes(
    root: ElementTree.Element,
) -> dict[str, tuple[float | None, frozenset[int]]]:
    return {
        node.get("name") or "": ended_processes.parse(attribute.get("value") or "")
        for node in root.findall("./node_attributes/node")
        for attribute in node.findall("attribute")
        if attribute.get("name") == ended_processes.ATTRIBUTE
    }


def parse_time(text: str) -> float | None:
    """``2026-11-23 19:00:45Z`` (2.1) or ``…45.123456Z`` (3.0) in seconds since the epoch.

    An offset (``+01:00``) is honoured; None for anything else.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    day, clock, fraction, sign, hours, minutes = found.groups()
    offset = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    try:
        seconds = calendar.timegm(time.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return None
    return seconds - offset + (float(f"0.{fraction}") if fraction else 0.0)
