"""What a site is: the records that a description is read into. Checked; no text of a file in it."""

from __future__ import annotations

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION_21 = "2.1"
VERSION_3 = "3"
VERSIONS = (VERSION_21, VERSION_3)

NFS = "nfs"
DISK = "disk"
DRBD = "drbd"
NONE = "none"
SHARES = (NFS, DISK, DRBD, NONE)

CLUSTER = "cluster"
SITE = "site"

#: Parts of the configuration whose timeouts may be given, with the timeout of each operation where
#: none is (seconds). monitor-10 and monitor-20 are the monitors of OCF_CHECK_LEVEL 10 and 20. What
#: the suite's agents ask for in their metadata is the least: they say why they fail before that.
TIMEOUTS: Mapping[str, Mapping[str, int]] = {
    "fencing": {"monitor": 60},
    "drbd": {
        "start": 240, "stop": 100, "promote": 90, "demote": 90, "notify": 90, "monitor": 20,
    },
    "share": {"start": 60, "stop": 60, "monitor": 40},
    "janitor": {"start": 60, "stop": 30, "monitor": 30, "monitor-10": 60},
    "address": {"start": 20, "stop": 20, "monitor": 20},
    "mailman": {
        "start": 90, "stop": 90, "monitor": 30, "monitor-10": 40, "monitor-20": 60,
    },
    "slices": {
        "start": 60, "stop": 60, "monitor": 20, "monitor-10": 30, "monitor-20": 60,
    },
}


@record
class Node:
    """A node of the cluster; `host` is what Mailman calls it where that is not its name, or ''."""

    name: str
    host: str = ""


@record
class Address:
    """The address that moves with Mailman; `netmask` its prefix length or '', `nic` or ''."""

    ip: str
    netmask: str = ""
    nic: str = ""


@record
class Share:
    """Where Mailman's data lies. `kind` is one of SHARES; `resource` is DRBD's name for it."""

    kind: str
    device: str = ""
    directory: str = ""
    fstype: str = ""
    options: str = ""
    resource: str = ""


@record
class Mailman:
    """Which Mailman, and who runs it: CLUSTER, or SITE where only the janitor is the cluster's.

    `parameters` are those that all agents take, `master`, `slice` and `janitor` those of one of
    them, as pairs (name, value). `database` is a URL, or '' where none was given.
    """

    version: str
    run_by: str = CLUSTER
    parameters: tuple[tuple[str, str], ...] = ()
    master: tuple[tuple[str, str], ...] = ()
    slice: tuple[tuple[str, str], ...] = ()
    janitor: tuple[tuple[str, str], ...] = ()
    database: str = ""


@record
class Queue:
    """A queue in slices. `prefer` names the node that each slice would rather be on; where it is
    empty the slices spread by themselves."""

    name: str
    slices: int
    prefer: tuple[str, ...] = ()


@record
class Device:
    """A fencing device for `nodes`; `ports` pairs (node, plug) where the device counts plugs.
    `delays`: (node, seconds to wait before it is fenced)."""

    name: str
    agent: str
    nodes: tuple[str, ...]
    ports: tuple[tuple[str, str], ...] = ()
    delays: tuple[tuple[str, int], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()


@record
class Site:
    """A whole site. `timeouts`: (part, operation, seconds) where TIMEOUTS is not to hold."""

    title: str
    nodes: tuple[Node, ...]
    address: Address | None
    share: Share
    mailman: Mailman
    queues: tuple[Queue, ...]
    devices: tuple[Device, ...]
    timeouts: tuple[tuple[str, str, int], ...] = ()

    def timeout(self, part: str, operation: str) -> int:
        """How long an operation may take (seconds)."""
        for other_part, other_operation, seconds in self.timeouts:
            if (other_part, other_operation) == (part, operation):
                return seconds
        return TIMEOUTS[part][operation]

    @property
    def share_everywhere(self) -> bool:
        """Whether the share is mounted on all nodes at once."""
        return bool(self.queues) or self.mailman.run_by == SITE
