"""From a site to the resources and constraints it asks for, with the reasons. Pure.

There are two shapes. Where all of Mailman runs on one node, one group holds share, janitor,
address and master. Where queues are in slices, share and janitor are cloned onto every node, the
group has address and master, and each queue is a clone of numbered slices.

Single resources come first, then groups, then clones. crm writes them in that order whatever it is
given, and Pacemaker goes by the order where it has no other reason: so all three languages come to
the same decisions.
"""

from __future__ import annotations

from mailman_ha.topology import mailman_settings
from mailman_ha.topology.resources import (
    INFINITY,
    OPTIONAL,
    PROMOTED,
    UNPROMOTED,
    Clone,
    Colocation,
    Configuration,
    Group,
    Location,
    Operation,
    Order,
    Primitive,
)
from mailman_ha.topology.site import DRBD, NONE, SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.topology.resources import Part
    from mailman_ha.topology.site import Device, Site

#: Seconds between two monitors of a part, by level.
INTERVALS = {
    "fencing": {"monitor": 300},
    "share": {"monitor": 20},
    "janitor": {"monitor": 15, "monitor-10": 120},
    "address": {"monitor": 10},
    "mailman": {"monitor": 15, "monitor-10": 60, "monitor-20": 300},
    "slices": {"monitor": 15, "monitor-10": 60, "monitor-20": 300},
}

GROUP = "mail"
BASE = "mail-base"
MASTER = "mailman"
SHARE = "mailman-share"
JANITOR = "mailman-janitor"
ADDRESS = "mailman-address"
DRBD_RESOURCE = "mailman-drbd"

_STICKY = (("resource-stickiness", "100"),)
#: What a slice gains by running on the node it prefers; more than its stickiness, less than must.
_PREFERENCE = "50"


def build(site: Site) -> Configuration:
    """The configuration of a site."""
    parts: list[Part] = [_fence(site, device) for device in site.devices]
    if site.mailman.run_by == SITE:
        parts += _base(site)
    elif site.queues:
        parts += _sliced(site)
    else:
        parts += _together(site)
    parts += _elsewhere(site)
    head = tuple(mailman_settings.notes(site))
    return Configuration(head, tuple(parts), (("stonith-enabled", "true"),))


def all_identities(site: Site) -> Iterator[str]:
    """The ids of all parts, as often as they occur."""
    for part in build(site).parts:
        yield part.id


def _together(site: Site) -> list[Part]:
    """All of Mailman on one node."""
    parts: list[Part] = []
    members = []
    if site.share.kind != NONE:
        parts.append(_share(site))
        members.append(SHARE)
    parts.append(_janitor(site))
    members.append(JANITOR)
    if site.address is not None:
        parts.append(_address(site))
        members.append(ADDRESS)
    parts.append(_master(site))
    members.append(MASTER)
    started = "started in this order and stopped in the other"
    parts.append(Group(GROUP, tuple(members), _STICKY, comment=(
        f"Everything on one node, {started}. It stays where it is when the other node comes back.",
    )))
    if site.share.kind == DRBD:
        parts += [
            _drbd(site),
            _drbd_clone(site),
            Order(
                f"drbd-before-{GROUP}", f"{DRBD_RESOURCE}-clone", GROUP, first_action="promote",
                comment=("The disk can be mounted where DRBD is promoted, and only after that.",),
            ),
            Colocation(f"{GROUP}-with-drbd", GROUP, f"{DRBD_RESOURCE}-clone", PROMOTED),
        ]
    return parts


def _base(site: Site) -> list[Part]:
    """On every node: the share, where the cluster mounts it, and the janitor."""
    janitor = "a janitor that judges the locks of its own host"
    if site.share.kind == NONE:
        return [
            _janitor(site, f"On every node: {janitor}."),
            Clone(_base_clone(site), JANITOR, (("interleave", "true"),)),
        ]
    why = [f"On every node: the share, and {janitor}."]
    if site.queues:
        why.append("Where the share fails everything leaves the node, slices first; the node may "
                   "try again five minutes later.")
    return [
        _share(site, " ".join(why)),
        _janitor(site),
        Group(BASE, (SHARE, JANITOR)),
        Clone(_base_clone(site), BASE, (("interleave", "true"),)),
    ]


def _base_clone(site: Site) -> str:
    return f"{JANITOR if site.share.kind == NONE else BASE}-clone"


def _sliced(site: Site) -> list[Part]:
    """Queues on all nodes, the rest of Mailman on one."""
    base = _base_clone(site)
    parts: list[Part] = []
    rest = "the master with the runners that are not sliced."
    if site.address is not None:
        top = GROUP
        parts += [
            _address(site, f"On one node: the address, and {rest}"),
            _master(site),
            Group(GROUP, (ADDRESS, MASTER), _STICKY),
        ]
    else:
        top = MASTER
        parts.append(_master(site, f"On one node: {rest}", _STICKY))
    parts += _base(site)
    orders: list[Part] = [Order(f"base-before-{top}", base, top)]
    together: list[Part] = [Colocation(f"{top}-with-base", top, base)]
    places: list[Part] = []
    alone: list[Part] = []
    why_clone: tuple[str, ...] = (
        "Over all nodes: slice 0 to clone-max - 1 of each queue. clone-node-max is the same "
        "number, so that the last node left would run all of them.",
    )
    why_optional: tuple[str, ...] = (
        "Optional, as a mandatory order would restart every slice of every node whenever a node "
        "joins; and not interleaved, which Pacemaker allows only between clones of one "
        "clone-node-max. The colocation keeps the slices where the share is.",
    )
    for queue in site.queues:
        name = f"mailman-{queue.name}"
        if not queue.prefer:
            parts.append(_slice(site, name, queue.name, comment=why_clone))
            parts.append(Clone(f"{name}-clone", name, (
                ("globally-unique", "true"),
                ("clone-max", str(queue.slices)),
                ("clone-node-max", str(queue.slices)),
            )))
            orders.append(Order(f"base-before-{queue.name}", base, f"{name}-clone", OPTIONAL,
                                comment=why_optional))
            together.append(Colocation(f"{queue.name}-with-base", f"{name}-clone", base))
            why_clone = why_optional = ()
            continue
        why: tuple[str, ...] = (
            "A resource for each slice, as each has a node that it prefers.",
        )
        for number, node in enumerate(queue.prefer):
            one, short = f"{name}-{number}", f"{queue.name}-{number}"
            alone.append(_slice(site, one, queue.name, number, queue.slices, why))
            orders.append(Order(f"base-before-{short}", base, one, OPTIONAL, comment=why_optional))
            together.append(Colocation(f"{short}-with-base", one, base))
            places.append(Location(f"{short}-on-{node}", one, node, _PREFERENCE))
            why = why_optional = ()
    return alone + parts + orders + together + places


def _fence(site: Site, device: Device) -> Primitive:
    parameters = list(device.parameters)
    if device.ports:
        parameters.append(
            ("pcmk_host_map", ";".join(f"{node}:{plug}" for node, plug in device.ports))
        )
    else:
        parameters.append(("pcmk_host_list", " ".join(device.nodes)))
    comment: tuple[str, ...] = ()
    if device.delays:
        waits = dict(device.delays)
        delay = ";".join(f"{node}:{waits.get(node, 0)}s" for node in device.nodes)
        if len(device.nodes) == 1:
            delay = delay.partition(":")[2]
        parameters.append(("pcmk_delay_base", delay))
        ahead = " and ".join(f"{node} ({seconds} s)" for node, seconds in device.delays)
        comment = (
            f"Waits before it fences {ahead}: of nodes that have lost each other only one is to "
            "be fenced.",
        )
    return Primitive(
        device.name, f"stonith:{device.agent}", tuple(parameters), _operations(site, "fencing"),
        comment=comment,
    )


def _elsewhere(site: Site) -> list[Part]:
    """A device that fences one node is of no use on that node."""
    return [
        Location(f"{device.name}-elsewhere", device.name, device.nodes[0], f"-{INFINITY}")
        for device in site.devices
        if len(device.nodes) == 1
    ]


def _drbd(site: Site) -> Primitive:
    def timed(name: str, interval: int = 0, role: str = "") -> Operation:
        return Operation(name, site.timeout("drbd", name), interval, role=role)

    return Primitive(
        DRBD_RESOURCE, "ocf:linbit:drbd", (("drbd_resource", site.share.resource),),
        (
            timed("start"), timed("stop"), timed("promote"), timed("demote"), timed("notify"),
            timed("monitor", 29, PROMOTED), timed("monitor", 31, UNPROMOTED),
        ),
        comment=(
            "The disk on both nodes, kept alike by DRBD and promoted on one. In drbd's own "
            "configuration: fencing resource-and-stonith, with handlers crm-fence-peer.9.sh and "
            "crm-unfence-peer.9.sh, so that a node with old data is not promoted.",
        ),
    )


def _drbd_clone(site: Site) -> Clone:
    return Clone(f"{DRBD_RESOURCE}-clone", DRBD_RESOURCE, (
        ("promotable", "true"),
        ("promoted-max", "1"),
        ("promoted-node-max", "1"),
        ("clone-max", str(len(site.nodes))),
        ("clone-node-max", "1"),
        ("notify", "true"),
    ))


def _share(site: Site, comment: str = "") -> Primitive:
    share = site.share
    parameters = [
        ("device", share.device), ("directory", share.directory), ("fstype", share.fstype),
    ]
    if share.options:
        parameters.append(("options", share.options))
    meta = (("migration-threshold", "1"), ("failure-timeout", "300s")) if site.queues else ()
    return Primitive(
        SHARE, "ocf:heartbeat:Filesystem", tuple(parameters), _operations(site, "share"), meta,
        (comment,) if comment else (),
    )


def _janitor(site: Site, comment: str = "") -> Primitive:
    return Primitive(
        JANITOR, "ocf:mailman:list-lock-janitor",
        (*_common(site), *site.mailman.janitor), _operations(site, "janitor"),
        comment=(comment,) if comment else (),
    )


def _address(site: Site, comment: str = "") -> Primitive:
    address = site.address
    assert address is not None
    parameters = [("ip", address.ip)]
    if address.netmask:
        parameters.append(("cidr_netmask", address.netmask))
    if address.nic:
        parameters.append(("nic", address.nic))
    return Primitive(
        ADDRESS, "ocf:heartbeat:IPaddr2", tuple(parameters), _operations(site, "address"),
        comment=(comment,) if comment else (),
    )


def _master(
    site: Site, comment: str = "", meta: tuple[tuple[str, str], ...] = ()
) -> Primitive:
    return Primitive(
        MASTER, "ocf:mailman:mailman-master", (*_common(site), *site.mailman.master),
        _operations(site, "mailman"), meta, (comment,) if comment else (),
    )


def _slice(
    site: Site, name: str, queue: str, number: int | None = None, count: int = 0,
    comment: tuple[str, ...] = (),
) -> Primitive:
    which = [("queue", queue)]
    if number is not None:
        which += [("slice", str(number)), ("slices", str(count))]
    return Primitive(
        name, "ocf:mailman:qfiles-slice", (*_common(site), *which, *site.mailman.slice),
        _operations(site, "slices"), comment=comment,
    )


def _common(site: Site) -> tuple[tuple[str, str], ...]:
    """What every agent of the suite is told."""
    found = [("mailman_version", site.mailman.version), *site.mailman.parameters]
    hosts = [f"{node.name}={node.host}" for node in site.nodes if node.host]
    if hosts:
        found.append(("host_map", " ".join(hosts)))
    return tuple(found)


def _operations(site: Site, part: str) -> tuple[Operation, ...]:
    found = []
    for name in ("start", "stop"):
        if part != "fencing":
            found.append(Operation(name, site.timeout(part, name)))
    for name, interval in INTERVALS[part].items():
        level = int(name.partition("-")[2] or 0)
        found.append(Operation("monitor", site.timeout(part, name), interval, level))
    return tuple(found)
