"""The keys of a site's description: what may stand where, with what values. The checker and the
manual page mailman-ha-site(5) both go by this."""

from __future__ import annotations

from mailman_ha.ocf.record import record
from mailman_ha.topology.site import (
    CLUSTER,
    DISK,
    DRBD,
    NFS,
    NONE,
    SHARES,
    SITE,
    VERSION_3,
    VERSION_21,
    VERSIONS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_NODES = 32
MOST_SLICES = 64
LONGEST_TIMEOUT = 3600
LONGEST_DELAY = 300
LONGEST_TEXT = 1024

CLUSTER_FILE_SYSTEMS = ("gfs2", "ocfs2")
DISK_FILE_SYSTEMS = ("ext4", "xfs", "ext3", "btrfs")
NFS_FILE_SYSTEMS = ("nfs4", "nfs")
NFS_OPTIONS = "hard,lookupcache=none"
DATABASES = ("postgresql", "mysql", "sqlite")
PLACE_OF_DRBD = "/dev/drbd/by-res/{resource}/0"


@record
class Key:
    """A key: the form of its value, and what it means. `default` is what holds where it is not
    there; '' where nothing does. `required`: a description without it is refused."""

    name: str
    value: str
    meaning: str
    default: str = ""
    required: bool = False


def names(keys: Iterable[Key]) -> tuple[str, ...]:
    """What they are called."""
    return tuple(key.name for key in keys)


ROOT = (
    Key("title", "a sentence", "Stands at the head of what is rendered."),
    Key("nodes", "[NAME, NAME, ...] or NAME: {host: HOST}, a line each",
        f"The nodes, from 2 to {MOST_NODES}, by the names that crm_node -n tells.", required=True),
    Key("address", f"IP/NETMASK, keys, or {NONE}",
        f"The address that moves with Mailman. {NONE}: something else moves it.", required=True),
    Key("share", f"keys, or {NONE}", "Where Mailman's data lies, and how it is mounted.",
        required=True),
    Key("mailman", "keys", "Which Mailman it is, and the parameters of its agents.",
        required=True),
    Key("slices", "QUEUE: NUMBER or QUEUE: keys, a line each",
        "The queues that are divided over the nodes. Needs a share that is mounted on every node."),
    Key("fencing", "NAME: keys, a line for each device",
        "The fence devices by name. Every node needs one: without it nothing proves that a node "
        "is dead.", required=True),
    Key("timeouts", "PART: {OPERATION: SPAN}, a line each",
        "Timeouts that are longer than the usual ones."),
)

NODE = (
    Key("host", "a host name",
        "By which Mailman signs its locks on the node (2.1: hostname, 3: hostname --fqdn).",
        "the node's name, alone or in a domain"),
)

ADDRESS = (
    Key("ip", "an IPv4 or IPv6 address", "The address itself.", required=True),
    Key("netmask", "a number of bits", "The length of the network's prefix.",
        "as the interface has it"),
    Key("nic", "an interface", "Where the address is added.", "the one in the same network"),
)

_DEVICE = {
    NFS: Key("device", "HOST:/PATH", "The export.", required=True),
    DISK: Key("device", "a path", "The disk that all nodes reach, as /dev/disk/by-id/...",
              required=True),
    DRBD: Key("device", "a path", "DRBD's device.", PLACE_OF_DRBD.format(resource="RESOURCE")),
}
_KIND = Key("kind", " | ".join(SHARES), "What the data lies on.", required=True)
_DIRECTORY = Key("directory", "a path", "Where it is mounted.", required=True)
_DISK_REST = (
    _DIRECTORY,
    Key("fstype", " | ".join(DISK_FILE_SYSTEMS), "Its file system. A cluster file system ("
        + ", ".join(CLUSTER_FILE_SYSTEMS) + f") is kind: {NONE}.", DISK_FILE_SYSTEMS[0]),
    Key("options", "WORD,WORD,...", "Mount options; ro is refused."),
)

#: The keys of `share` for each kind.
SHARE: dict[str, tuple[Key, ...]] = {
    NFS: (
        _KIND, _DEVICE[NFS], _DIRECTORY,
        Key("fstype", " | ".join(NFS_FILE_SYSTEMS), "How it is mounted.", NFS_FILE_SYSTEMS[0]),
        Key("options", "WORD,WORD,...",
            "Mount options. soft, softerr and ro are refused, and so is a list with neither "
            "lookupcache=none nor noac.", NFS_OPTIONS),
    ),
    DISK: (_KIND, _DEVICE[DISK], *_DISK_REST),
    DRBD: (
        _KIND,
        Key("resource", "a name", "What DRBD's own configuration calls it.", required=True),
        _DEVICE[DRBD], *_DISK_REST,
    ),
    NONE: (_KIND,),
}

MAILMAN = (
    Key("version", " | ".join(VERSIONS), "Which Mailman it is.", required=True),
    Key("run_by", f"{CLUSTER} | {SITE}",
        f"Who runs Mailman. {SITE}: the cluster has only the list-lock-janitor.", CLUSTER),
    Key("database", "a URL",
        "Mailman 3's database (" + ", ".join(DATABASES) + "). With slices it must be a server "
        "that every node reaches. It goes into comments only: Mailman has its own configuration."),
)

#: Keys of `mailman` that become parameters: (versions, who takes them, check).
PARAMETERS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "prefix": ((VERSION_21,), "parameters", "path"),
    "bindir": ((VERSION_3,), "parameters", "path"),
    "config": ((VERSION_3,), "parameters", "path"),
    "user": (VERSIONS, "parameters", "account"),
    "group": (VERSIONS, "parameters", "account"),
    "lock_dir": (VERSIONS, "parameters", "path"),
    "lists_dir": ((VERSION_21,), "janitor", "path"),
    "stuck_after": (VERSIONS, "janitor", "span"),
    "quarantine_keep": (VERSIONS, "janitor", "days"),
    "textfile_dir": (VERSIONS, "janitor", "path"),
    "max_queue_age": (VERSIONS, "master and slice", "span"),
}

QUEUE = (
    Key("slices", "a number", f"Into how many slices the queue is divided, at most {MOST_SLICES}; "
        "for Mailman 3 a power of two.", required=True),
    Key("prefer", "[NODE, NODE, ...]", "The node on which each slice would rather be, in their "
        "order; each slice then is a resource of its own.", "they spread by themselves"),
)

DEVICE = (
    Key("agent", "a fence agent", "Such as fence_ipmilan; stonith_admin --list-installed tells "
        "which there are.", required=True),
    Key("nodes", "NODE or [NODE, NODE, ...]", "Which nodes it fences.", "all"),
    Key("ports", "{NODE: PLUG, ...}", "How the device calls each node, where it has plugs."),
    Key("delay", "a span, or {NODE: SPAN, ...}", "How long to wait before that node is fenced, so "
        "that two nodes that lose each other are not both fenced; at most "
        f"{LONGEST_DELAY} seconds."),
    Key("parameters", "{PARAMETER: VALUE, ...}", "What the agent needs besides."),
)
