"""A site's description, read and checked: all its mistakes at once, or a Site.

Every check names the key, what is wrong with its value, and what to write instead. `keys` tells
what may stand where.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

from mailman_ha.mailman.installation import (
    QUEUES_WITHOUT_RUNNER_3,
    RUNNERS_WITHOUT_QUEUE_3,
    USUAL_DIRECTORIES_21,
)
from mailman_ha.ocf.environment import decimal
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.values import parse_integer, parse_seconds
from mailman_ha.topology import document, keys, shape
from mailman_ha.topology.document import Items, Mapping, Mistake, NotSound, Text, below_key
from mailman_ha.topology.site import (
    CLUSTER,
    DISK,
    DRBD,
    NFS,
    NONE,
    SHARES,
    SITE,
    TIMEOUTS,
    VERSION_3,
    VERSION_21,
    VERSIONS,
    Address,
    Device,
    Mailman,
    Node,
    Queue,
    Share,
    Site,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Optional

    from mailman_ha.topology.document import Tree

    Wrong = Optional[tuple[str, str]]  # what is wrong, and the way out
    Check = Callable[[str], Wrong]

QUEUES_3 = (
    "archive", "bounces", "command", "digest", "in", "nntp", "out", "pipeline", "retry", "virgin",
)

_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_IDENTITY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_AGENT = re.compile(r"(?:stonith:)?([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.-]+)?)")
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_NIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")
_PORT = re.compile(r"[A-Za-z0-9_./-]{1,100}")
_EXPORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):/.*")


def load(path: str) -> Site:
    """The site described in a file. Raises NotSound with every mistake found."""
    return _site(*document.read(path), path)


def loads(content: bytes, file: str) -> Site:
    """The same from a text in memory; `file` is what messages call it."""
    return _site(*document.parse(content, file), file)


def _site(tree: Tree, mistakes: list[Mistake], file: str) -> Site:
    reader = _Reader(file, mistakes)
    site = reader.site(tree)
    if mistakes or site is None:
        raise NotSound(mistakes)
    return site


class _Reader:
    """Reads one description; what is wrong with it gathers in `mistakes`."""

    def __init__(self, file: str, mistakes: list[Mistake]) -> None:
        self.file = file
        self.mistakes = mistakes

    def wrong(self, line: int, key: str, what: str, fix: str) -> None:
        """Note a mistake."""
        document.note(self.mistakes, Mistake(self.file, line, key, what, fix))

    # The whole

    def site(self, tree: Tree) -> Site | None:
        """The site; None, or one that must not be used, where there are mistakes."""
        root = self.section(tree, 1, "", keys.names(keys.ROOT))
        if root is None:
            return None
        title = root.text("title", _check_title)
        nodes = self.nodes(root)
        names = [node.name for node in nodes]
        mailman = self.mailman(root)
        by_site = mailman is not None and mailman.run_by == SITE
        address = self.address(root, by_site)
        share = self.share(root)
        queues = self.queues(root, mailman, share, names)
        if by_site and share is not None and share.kind in (DISK, DRBD):
            self.wrong(
                root.line_of("share"), "share.kind",
                f"{share.kind} is mounted on one node, but the cluster does not know on which the "
                "site runs Mailman",
                "write kind: none where the site mounts it, or let the cluster run Mailman "
                "(run_by: cluster)",
            )
        devices = self.devices(root, names)
        timeouts = self.timeouts(root, share, mailman, queues)
        if self.mistakes or mailman is None or share is None:
            return None
        site = Site(title, tuple(nodes), address, share, mailman, queues, devices, timeouts)
        self.identities(root, site)
        return site

    def identities(self, root: _Section, site: Site) -> None:
        """Check that nothing has the name of something else."""
        taken = Counter(shape.all_identities(site))
        for node in site.nodes:
            if node.name in taken:
                self.wrong(
                    root.line_of("nodes", node.name), below_key("nodes", node.name),
                    "a resource or constraint of the rendered configuration has this name",
                    "call the node something else (its name in corosync.conf)",
                )
        for device in site.devices:
            if taken[device.name] > 1 or taken[f"{device.name}-elsewhere"] > 1:
                self.wrong(
                    root.line_of("fencing", device.name), below_key("fencing", device.name),
                    "another resource or constraint of the rendered configuration has this name",
                    f"call it something else, such as fence-{device.nodes[0]}",
                )

    # Its parts

    def nodes(self, root: _Section) -> list[Node]:
        """The nodes."""
        tree = root.take("nodes", "name the nodes: nodes: {mail1: , mail2: }")
        if tree is None:
            return []
        entries: list[tuple[str, int, Tree]] = []
        if isinstance(tree, Items):
            for item in tree.items:
                if isinstance(item, Text) and not item.empty:
                    entries.append((item.text, item.line, Text(item.line, "", True)))
                else:
                    self.wrong(item.line, "nodes", "a node is no word", "write its name")
        elif isinstance(tree, Mapping):
            entries = list(tree.entries)
        elif not tree.empty:
            self.wrong(tree.line, "nodes", "is one word", "name at least two nodes, a line each")
            return []
        if len(entries) > keys.MOST_NODES:
            self.wrong(tree.line, "nodes", f"has more than {keys.MOST_NODES} nodes",
                       f"Pacemaker manages {keys.MOST_NODES} at most")
            return []
        nodes: list[Node] = []
        hosts: dict[str, str] = {}
        for name, line, below in entries:
            key = below_key("nodes", name)
            if _NODE.fullmatch(name) is None:
                self.wrong(line, key, "is no node name",
                           "the name that crm_node -n tells: letters, digits, dots, - and _")
                continue
            if name in [node.name for node in nodes]:
                self.wrong(line, key, "is there twice", "name each node once")
                continue
            host = ""
            if not (isinstance(below, Text) and below.empty):
                section = self.section(below, line, key, keys.names(keys.NODE))
                host = section.text("host", _check_host) if section else ""
                if section and host:
                    line = section.line_of("host")
            nodes.append(Node(name, host if host != name else ""))
            said = host or name
            if said.lower() in hosts:
                self.wrong(line, key,
                           f"its host is {said}, and so is that of node {hosts[said.lower()]}",
                           "each node needs a host name of its own, by which Mailman signs its "
                           "locks")
            hosts[said.lower()] = name
        if len(entries) < 2:
            self.wrong(tree.line if entries else root.line_of("nodes"), "nodes",
                       "has fewer than two nodes", "name at least two: one takes over from the "
                       "other")
        return nodes

    def address(self, root: _Section, by_site: bool) -> Address | None:
        """The address, None where the cluster manages none."""
        if by_site:
            if root.has("address") and not root.is_word("address", NONE):
                self.wrong(root.line_of("address"), "address",
                           "where the site runs Mailman (run_by: site) it moves the address, too",
                           "leave it out")
            return None
        tree = root.take(
            "address", "write address: 192.0.2.10/24, or address: none where it is moved otherwise"
        )
        if tree is None:
            return None
        if isinstance(tree, Text):
            if tree.text == NONE:
                return None
            written, line, key, nic = tree.text, tree.line, "address", ""
            if tree.empty:
                self.wrong(line, key, "is empty", "write address: 192.0.2.10/24")
                return None
            ip, slash, netmask = written.partition("/")
        else:
            section = self.section(tree, root.line_of("address"), "address",
                                   keys.names(keys.ADDRESS))
            if section is None:
                return None
            ip, line, key = section.text("ip", None, "write ip: 192.0.2.10"), 0, "address.ip"
            line = section.line_of("ip")
            netmask = section.text("netmask")
            nic = section.text("nic", _check_nic)
            slash = netmask
            if "/" in ip:
                self.wrong(line, key, f"{escape(ip)} holds the netmask as well",
                           "write ip: and netmask: apart, or address: 192.0.2.10/24")
                return None
            if netmask and not netmask.isdigit():
                self.wrong(section.line_of("netmask"), "address.netmask",
                           f"{escape(netmask)} is no prefix length", "a number of bits, such as 24")
                return None
            if not ip:
                return None
        try:
            parsed = ipaddress.ip_interface(f"{ip}/{netmask}" if slash else ip)
        except ValueError:
            self.wrong(line, key, f"{escape(ip + ('/' + netmask if slash else ''))} is no address",
                       "an IPv4 or IPv6 address with its prefix length, such as 192.0.2.10/24")
            return None
        if parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or (
            slash and parsed.version == 4 and parsed.network.prefixlen < 31
            and parsed.ip in (parsed.network.network_address, parsed.network.broadcast_address)
        ):
            self.wrong(line, key, f"{parsed.ip} cannot be a server's address",
                       "a free address of the network that clients reach Mailman in")
            return None
        if slash and not netmask.isdigit():
            netmask = str(parsed.network.prefixlen)
        return Address(str(parsed.ip), netmask, nic)

    def share(self, root: _Section) -> Share | None:
        """Where the data lies."""
        fix = f"say where Mailman's data lies: share: {{kind: {' | '.join(SHARES)}, ...}}"
        tree = root.take("share", fix)
        if tree is None:
            return None
        if isinstance(tree, Text) and tree.text in SHARES and tree.text != NONE:
            self.wrong(tree.line, "share", f"says {tree.text} and nothing more",
                       f"write share: {{kind: {tree.text}, device: ..., directory: ...}}")
            return None
        if isinstance(tree, Text) and tree.text == NONE:
            return Share(NONE)
        section = self.section(tree, root.line_of("share"), "share", None)
        if section is None:
            return None
        kind = section.text("kind", _one_of(SHARES), f"write kind: {' | '.join(SHARES)}")
        if not kind:
            return None
        section.only(keys.names(keys.SHARE[kind]), f" for kind: {kind}")
        if kind == NONE:
            return Share(NONE)
        line = section.line_of
        directory = section.text("directory", _check_path,
                                 "write where it is mounted, such as /var/lib/mailman3")
        resource = ""
        if kind == NFS:
            device = section.text("device", None,
                                  "write the export: nfs.example.org:/export/mailman")
            if device and (_EXPORT.fullmatch(device) is None or _unfit(device)):
                self.wrong(line("device"), "share.device", f"{escape(device, 80)} is no NFS export",
                           "write HOST:/PATH, such as nfs.example.org:/export/mailman")
            fstype = section.text("fstype", _one_of(keys.NFS_FILE_SYSTEMS)) or (
                keys.NFS_FILE_SYSTEMS[0])
            options = section.text("options", _check_options) or keys.NFS_OPTIONS
            self.nfs_options(options, line("options"))
        else:
            if kind == DRBD:
                resource = section.text("resource", _check_identity,
                                        "write the name of the resource in drbd's configuration")
                device = section.text("device", _check_path) or keys.PLACE_OF_DRBD.format(
                    resource=resource)
            else:
                device = section.text("device", _check_path,
                                      "write the disk, such as /dev/disk/by-id/...")
            fstype = section.text("fstype") or keys.DISK_FILE_SYSTEMS[0]
            if fstype in keys.CLUSTER_FILE_SYSTEMS:
                self.wrong(line("fstype"), "share.fstype",
                           f"{fstype} needs resources of its own (dlm and others)",
                           "write kind: none, and mount it by those on every node")
            elif fstype in keys.NFS_FILE_SYSTEMS:
                self.wrong(line("fstype"), "share.fstype", f"{fstype} is no disk's",
                           "write kind: nfs")
            elif fstype not in keys.DISK_FILE_SYSTEMS:
                self.wrong(line("fstype"), "share.fstype",
                           f"{escape(fstype, 40)} is not known to this suite",
                           f"one of {', '.join(keys.DISK_FILE_SYSTEMS)}")
            options = section.text("options", _check_options)
            if "ro" in options.split(","):
                self.wrong(line("options"), "share.options", "ro leaves Mailman unable to write",
                           "leave ro out")
        return Share(kind, device, directory, fstype, options, resource)

    def nfs_options(self, options: str, line: int) -> None:
        """Check that Mailman's locks are safe with these mount options."""
        words = options.split(",")
        for bad, what in (
            ("soft", "on a soft mount a lock that fails may have been taken all the same"),
            ("softerr", "on a soft mount a lock that fails may have been taken all the same"),
            ("ro", "ro leaves Mailman unable to write"),
        ):
            if bad in words:
                self.wrong(line, "share.options", what, f"leave {bad} out and write hard")
        if not {"lookupcache=none", "noac"} & set(words):
            self.wrong(line, "share.options",
                       "without lookupcache=none a node may read a lock that is another's by now",
                       f"write options: {keys.NFS_OPTIONS}")

    def mailman(self, root: _Section) -> Mailman | None:
        """Which Mailman."""
        tree = root.take("mailman", "say which: mailman: {version: 3}")
        if tree is None:
            return None
        section = self.section(tree, root.line_of("mailman"), "mailman",
                               (*keys.names(keys.MAILMAN), *keys.PARAMETERS))
        if section is None:
            return None
        version = section.text("version", _check_version, "write version: 3 or version: 2.1")
        run_by = section.text("run_by", _one_of((CLUSTER, SITE))) or CLUSTER
        taken: dict[str, list[tuple[str, str]]] = {
            "parameters": [], "janitor": [], "master and slice": [],
        }
        for key, (versions, taker, kind) in keys.PARAMETERS.items():
            value = section.text(key, _CHECKS[kind])
            if not value:
                continue
            if version and version not in versions:
                self.wrong(section.line_of(key), f"mailman.{key}",
                           f"belongs to Mailman {versions[0]}, and version is {version}",
                           "leave it out, or correct version")
            elif run_by == SITE and taker == "master and slice":
                self.wrong(section.line_of(key), f"mailman.{key}",
                           "is for the agents that run Mailman, and run_by is site",
                           "leave it out")
            else:
                taken[taker].append((key, value))
        database = section.text("database", _check_database)
        if database and version == VERSION_21:
            self.wrong(section.line_of("database"), "mailman.database",
                       "Mailman 2.1 has no database", "leave it out")
        if not version:
            return None
        queue_age = tuple(taken["master and slice"])
        return Mailman(version, run_by, tuple(taken["parameters"]), queue_age, queue_age,
                       tuple(taken["janitor"]), database)

    def queues(
        self, root: _Section, mailman: Mailman | None, share: Share | None, nodes: Sequence[str]
    ) -> tuple[Queue, ...]:
        """The queues that are in slices."""
        if not root.has("slices") or root.is_empty("slices"):
            return ()
        line = root.line_of("slices")
        section = self.section(root.take("slices", ""), line, "slices", None)
        if section is None or mailman is None:
            return ()
        if mailman.run_by == SITE:
            self.wrong(line, "slices", "the site runs Mailman (run_by: site), and its slices",
                       "leave slices out, or write run_by: cluster")
        if share is not None and share.kind in (DISK, DRBD):
            self.wrong(line, "slices",
                       f"slices run on several nodes at once, and a share of kind {share.kind} "
                       "can be mounted on one",
                       "kind: nfs, or kind: none for a cluster file system that is mounted on "
                       "every node; or leave slices out")
        if mailman.version == VERSION_3 and mailman.run_by == CLUSTER:
            if not mailman.database:
                self.wrong(root.line_of("mailman"), "mailman.database",
                           "is missing: with slices several nodes use Mailman's database at once",
                           "name its server: postgresql://mailman:secret@db.example.org/mailman")
            elif mailman.database.startswith("sqlite"):
                self.wrong(root.line_of("mailman", "database"), "mailman.database",
                           "SQLite on a share is for one node at a time, and slices run on several",
                           "a server: postgresql://mailman:secret@db.example.org/mailman")
            elif _database_host(mailman.database) in ("", "localhost", "127.0.0.1", "[::1]"):
                self.wrong(root.line_of("mailman", "database"), "mailman.database",
                           "on each node localhost is another machine",
                           "name the server as every node reaches it")
        known = QUEUES_3 if mailman.version == VERSION_3 else tuple(USUAL_DIRECTORIES_21)
        found = []
        for name, at, value in section.entries:
            key = below_key("slices", name)
            if name not in known:
                self.wrong(at, key, _no_queue(name, mailman.version),
                           document.did_you_mean(name, known))
                continue
            queue = self.queue(name, key, at, value, mailman.version, nodes)
            if queue is not None:
                found.append(queue)
        return tuple(found)

    def queue(
        self, name: str, key: str, line: int, value: Tree, version: str, nodes: Sequence[str]
    ) -> Queue | None:
        """One queue in slices: a number, or a mapping with slices and prefer."""
        prefer: list[str] = []
        if isinstance(value, Text):
            number, at, below = value.text, value.line, key
        else:
            section = self.section(value, line, key, keys.names(keys.QUEUE))
            if section is None:
                return None
            number = section.text("slices", None, "write slices: 4")
            at, below = section.line_of("slices"), f"{key}.slices"
            prefer = section.words("prefer")
            for node in prefer:
                if node not in nodes:
                    self.wrong(section.line_of("prefer"), f"{key}.prefer",
                               f"{escape(node, 60)} is no node of this site",
                               document.did_you_mean(node, nodes))
        try:
            count = parse_integer(number)
        except ValueError:
            count = 0
        if not 1 <= count <= keys.MOST_SLICES:
            if number:
                self.wrong(at, below, f"{escape(number, 40)} is no number of slices",
                           f"a whole number from 1 to {keys.MOST_SLICES}")
            elif isinstance(value, Text):
                self.wrong(at, below, "is empty", "write the number of slices, such as 4")
            return None
        if version == VERSION_3 and count & (count - 1):
            lower = 1 << (count.bit_length() - 1)
            self.wrong(at, below, f"Mailman 3 divides a queue only by a power of two, not {count}",
                       f"write {lower} or {2 * lower}")
            return None
        if prefer and len(prefer) != count:
            self.wrong(at, f"{key}.prefer",
                       f"names {len(prefer)} nodes for {count} slices",
                       "one node for each slice, in the slices' order; or leave prefer out")
            return None
        return Queue(name, count, tuple(prefer))

    def devices(self, root: _Section, nodes: Sequence[str]) -> tuple[Device, ...]:
        """The fencing devices. Every node must have one."""
        fix = (
            "name a device for every node: fencing: {fence-mail1: {agent: fence_ipmilan, nodes: "
            "[mail1], parameters: {...}}}; without fencing nothing proves that a node is dead"
        )
        tree = root.take("fencing", fix)
        if tree is None:
            return ()
        if isinstance(tree, Text):
            self.wrong(tree.line, "fencing", "names no device", fix)
            return ()
        section = self.section(tree, root.line_of("fencing"), "fencing", None)
        if section is None:
            return ()
        found = []
        before = len(self.mistakes)
        for name, line, value in section.entries:
            device = self.device(name, line, value, nodes)
            if device is not None:
                found.append(device)
        fenced = {node for device in found for node in device.nodes}
        if len(self.mistakes) == before:
            for node in nodes:
                if node not in fenced:
                    self.wrong(root.line_of("fencing"), "fencing",
                               f"no device fences {node}",
                               f"add {node} to the nodes of a device, or a device for it: Pacemaker"
                               " will wait for ever for a lost node that it cannot fence")
        return tuple(found)

    def device(
        self, name: str, line: int, value: Tree, nodes: Sequence[str]
    ) -> Device | None:
        """One fencing device."""
        key = below_key("fencing", name)
        if _IDENTITY.fullmatch(name) is None:
            self.wrong(line, key, "cannot be the name of a resource",
                       "begin with a letter; letters, digits, dots, - and _")
            return None
        section = self.section(value, line, key, keys.names(keys.DEVICE))
        if section is None:
            return None
        agent = section.text("agent", _check_agent, "write agent: fence_ipmilan, or another of "
                             "stonith_admin --list-installed")
        agent = agent.partition(":")[2] or agent
        fenced = section.words("nodes")
        ports: list[tuple[str, str]] = []
        for node, at, plug in section.pairs("ports"):
            below = below_key(f"{key}.ports", node)
            if _PORT.fullmatch(plug) is None:
                self.wrong(at, below, f"{escape(plug, 60)} is no plug",
                           "the number or name by which the device knows the node")
            ports.append((node, plug))
        if ports and not fenced:
            fenced = [node for node, _ in ports]
        elif ports and set(fenced) != {node for node, _ in ports}:
            self.wrong(section.line_of("ports"), f"{key}.ports", "has other nodes than nodes",
                       "leave nodes out: ports names them")
        fenced = fenced or list(nodes)
        for node in fenced:
            if node not in nodes:
                at = section.line_of("ports" if ports else "nodes")
                self.wrong(at, f"{key}.{'ports' if ports else 'nodes'}",
                           f"{escape(node, 60)} is no node of this site",
                           document.did_you_mean(node, nodes))
                return None
        delays = self.delays(section, key, fenced)
        parameters = []
        for parameter, at, text in section.pairs("parameters"):
            below = below_key(f"{key}.parameters", parameter)
            other = _INSTEAD.get(parameter)
            if _PARAMETER.fullmatch(parameter) is None:
                self.wrong(at, below, "is no parameter's name",
                           f"see what pcs stonith describe {escape(agent) or 'AGENT'} tells")
            elif other:
                self.wrong(at, below, "is not for this place", other)
            elif _unfit(text):
                self.wrong(at, below, _unfit(text),
                           "write another value, one line of printable ASCII")
            parameters.append((parameter, text))
        if not agent:
            return None
        return Device(name, agent, tuple(fenced), tuple(ports), delays, tuple(parameters))

    def delays(
        self, section: _Section, key: str, fenced: Sequence[str]
    ) -> tuple[tuple[str, int], ...]:
        """How long a device waits before it fences which node."""
        if not section.has("delay"):
            return ()
        below = f"{key}.delay"
        if isinstance(section.take("delay", ""), Text):
            if not fenced:
                return ()  # the site has no nodes, which is told already
            entries = [(fenced[0], section.line_of("delay"), section.text("delay"))]
            if len(fenced) > 1:
                self.wrong(section.line_of("delay"), below,
                           "would hold for all of its nodes alike, so that they fence each other",
                           f"write delay: {{{fenced[0]}: 5s}}")
        else:
            entries = section.pairs("delay")
        found = []
        for node, line, text in entries:
            if node not in fenced:
                self.wrong(line, below_key(below, node), "is no node that this device fences",
                           document.did_you_mean(node, fenced))
            found.append((node, self.seconds(text, line, below, 0, keys.LONGEST_DELAY)))
        return tuple(entry for entry in found if entry[1])

    def timeouts(
        self, root: _Section, share: Share | None, mailman: Mailman | None,
        queues: Sequence[Queue],
    ) -> tuple[tuple[str, str, int], ...]:
        """Timeouts other than the usual ones."""
        if not root.has("timeouts") or root.is_empty("timeouts"):
            return ()
        section = self.section(root.take("timeouts", ""), root.line_of("timeouts"), "timeouts",
                               tuple(TIMEOUTS))
        if section is None:
            return ()
        absent = set()
        if share is not None:
            absent |= {"share", "drbd"} if share.kind == NONE else set()
            absent |= {"drbd"} if share.kind != DRBD else set()
        if mailman is not None and mailman.run_by == SITE:
            absent |= {"mailman", "address", "slices"}
        if not queues:
            absent.add("slices")
        found = []
        for part in TIMEOUTS:
            if not section.has(part):
                continue
            key = f"timeouts.{part}"
            if part in absent:
                self.wrong(section.line_of(part), key, "this site has no such resource",
                           "leave it out")
                continue
            operations = self.section(section.take(part, ""), section.line_of(part), key,
                                      tuple(TIMEOUTS[part]))
            if operations is None:
                continue
            for operation, least in TIMEOUTS[part].items():
                text = operations.text(operation)
                if text:
                    seconds = self.seconds(text, operations.line_of(operation),
                                           f"{key}.{operation}", least, keys.LONGEST_TIMEOUT)
                    found.append((part, operation, seconds))
        return tuple(found)

    def seconds(self, text: str, line: int, key: str, least: int, most: int) -> int:
        """A span of time in whole seconds; 0 where there is none, or a wrong one."""
        if not text:
            return 0
        try:
            span = parse_seconds(text)
        except ValueError:
            self.wrong(line, key, f"{escape(text, 40)} is no span of time",
                       "seconds, or a number with a unit: 90, 90s, 2min")
            return 0
        if span != int(span) or not least <= span <= most:
            self.wrong(line, key, f"{escape(text, 40)} is out of bounds",
                       f"whole seconds from {least}"
                       + (" (what the operation needs when it goes badly)" if least else "")
                       + f" to {most}")
            return 0
        return int(span)

    # Keys and values

    def section(
        self, tree: Tree | None, line: int, key: str, known: Sequence[str] | None
    ) -> _Section | None:
        """A mapping; where `known` is given, with these keys only."""
        if not isinstance(tree, Mapping):
            whole = key or "the description"
            what = "is empty" if isinstance(tree, Text) and tree.empty else "has no keys"
            if known:
                fix = f"{whole} takes keys, each with a colon and its value: {', '.join(known)}"
            else:
                fix = f"{whole} takes keys, each with a colon and its value"
            self.wrong(tree.line if tree is not None else line, key, what, fix)
            return None
        section = _Section(self, tree, line, key)
        if known is not None:
            section.only(known)
        return section


class _Section:
    """A mapping of the description, by key."""

    def __init__(self, reader: _Reader, tree: Mapping, line: int, key: str) -> None:
        self._reader = reader
        self._line = line
        self._key = key
        self.entries = tree.entries
        self._by_key = {name: (at, value) for name, at, value in tree.entries}

    def only(self, known: Sequence[str], where: str = "") -> None:
        """Note every key that is not known as a mistake."""
        for name, line, _ in self.entries:
            if name not in known:
                self._reader.wrong(line, below_key(self._key, name), f"is no key{where or ' here'}",
                                   document.did_you_mean(name, known))

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return name in self._by_key

    def is_empty(self, name: str) -> bool:
        """Whether the key is there with nothing after it."""
        value = self._by_key[name][1]
        return isinstance(value, Text) and value.empty

    def is_word(self, name: str, word: str) -> bool:
        """Whether the key has just this word."""
        value = self._by_key[name][1]
        return isinstance(value, Text) and value.text == word

    def line_of(self, *names: str) -> int:
        """The line of a key, or of a key in it; of the mapping where there is none."""
        line: int = self._line
        tree: Tree | None = Mapping(self._line, self.entries)
        for name in names:
            found = None
            if isinstance(tree, Mapping):
                for key, at, value in tree.entries:
                    if key == name:
                        line, found = at, value
            elif isinstance(tree, Items):
                for item in tree.items:
                    if isinstance(item, Text) and item.text == name:
                        line = item.line
            tree = found
        return line

    def take(self, name: str, fix: str) -> Tree | None:
        """What the key has; where it is missing that is a mistake."""
        if name not in self._by_key:
            self._reader.wrong(self._line, below_key(self._key, name), "is missing", fix)
            return None
        value: Tree = self._by_key[name][1]
        return value

    def text(self, name: str, check: Check | None = None, required: str = "") -> str:
        """A text; '' where there is none or it is wrong. `required`: the way out where it is not
        there."""
        if name not in self._by_key:
            if required:
                self.take(name, required)
            return ""
        line, value = self._by_key[name]
        key = below_key(self._key, name)
        if not isinstance(value, Text):
            self._reader.wrong(line, key, "is a list or a mapping", "write one value")
            return ""
        if value.empty or not value.text:
            self._reader.wrong(line, key, "is empty", required or "give it a value or leave it out")
            return ""
        wrong = check(value.text) if check is not None else None
        if wrong is not None:
            self._reader.wrong(value.line, key, *wrong)
            return ""
        return value.text

    def words(self, name: str) -> list[str]:
        """A list of words, or one word."""
        if name not in self._by_key:
            return []
        line, value = self._by_key[name]
        key = below_key(self._key, name)
        items: Iterable[Tree] = (
            value.items if isinstance(value, Items) else (value,)
        )
        words: list[str] = []
        for item in items:
            if not isinstance(item, Text) or item.empty or not item.text:
                self._reader.wrong(item.line, key, "holds something that is no word",
                                   "write a list of names: [mail1, mail2]")
            else:
                words.append(item.text)
        if isinstance(value, Items) and not value.items:
            self._reader.wrong(line, key, "is empty", "name one at least or leave it out")
        return words

    def pairs(self, name: str) -> list[tuple[str, int, str]]:
        """The keys of a mapping with their lines and texts."""
        if name not in self._by_key:
            return []
        line, value = self._by_key[name]
        key = below_key(self._key, name)
        section = self._reader.section(value, line, key, None)
        if section is None:
            return []
        found = [(each, at, section.text(each)) for each, at, _ in section.entries]
        return [entry for entry in found if entry[2]]


_INSTEAD = {
    "pcmk_host_list": "write the device's nodes as nodes: [mail1, mail2]",
    "pcmk_host_map": "write ports: {mail1: 3, mail2: 4}",
    "pcmk_host_check": "leave it out: the device fences the nodes named here",
    "pcmk_delay_base": "write delay: 5s",
    "action": "leave it out: Pacemaker says what to do",
    "port": "write ports: {mail1: 3}",
    "plug": "write ports: {mail1: 3}",
}


def _unfit(text: str) -> str:
    """Why a text cannot be a value in all of crm, pcs and CIB; '' where it can."""
    if len(text) > keys.LONGEST_TEXT:
        return f"is longer than {keys.LONGEST_TEXT} characters"
    if not (text.isascii() and text.isprintable()):
        return "holds a line break or a character that is not printable ASCII"
    if text.endswith("\\"):
        return "ends in a backslash, which crm cannot read"
    return ""


def _check_title(text: str) -> Wrong:
    words = " ".join(text.split())
    if len(words) > keys.LONGEST_TEXT or not words.isprintable():
        return (
            "is no sentence",
            f"at most {keys.LONGEST_TEXT} printable characters",
        )
    return None


def _check_version(text: str) -> Wrong:
    if text in VERSIONS:
        return None
    series = next((known for known in VERSIONS if text.startswith(f"{known}.")), "")
    return (
        f"{escape(text, 40)} is none of {', '.join(VERSIONS)}",
        f"did you mean {series}?" if series else "write 3 for Mailman 3, 2.1 for Mailman 2.1",
    )


def _check_host(text: str) -> Wrong:
    if _HOST.fullmatch(text) is None:
        return (
            f"{escape(text, 80)} is no host name",
            "2.1: what hostname tells on the node, 3: what hostname --fqdn tells",
        )
    if text.lower().partition(".")[0] == "localhost":
        return (
            "every machine calls itself localhost",
            "a name of its own for each node, in /etc/hosts as well",
        )
    return None


def _check_path(text: str) -> Wrong:
    if not text.startswith("/") or any(part == ".." for part in text.split("/")) or _unfit(text):
        return (
            f"{escape(text, 80)} is no absolute path",
            "begin with / and leave out ..",
        )
    if text.rstrip("/") == "":
        return (
            "the root directory is not meant",
            "name the directory or device itself",
        )
    return None


def _check_options(text: str) -> Wrong:
    if _unfit(text) or re.search(r"[\s'\"\\]", text):
        return (
            f"{escape(text, 80)} is no list of mount options",
            "words with commas between them, no blanks",
        )
    return None


def _check_identity(text: str) -> Wrong:
    if _IDENTITY.fullmatch(text) is None:
        return (
            f"{escape(text, 60)} is no name",
            "begin with a letter; letters, digits, dots, - and _",
        )
    return None


def _check_agent(text: str) -> Wrong:
    if _AGENT.fullmatch(text) is None:
        return (
            f"{escape(text, 60)} is no fence agent",
            "its name, such as fence_ipmilan",
        )
    return None


def _check_account(text: str) -> Wrong:
    if _ACCOUNT.fullmatch(text) is None:
        return (
            f"{escape(text, 60)} is no account",
            "the name of Mailman's user or group",
        )
    return None


def _check_nic(text: str) -> Wrong:
    if _NIC.fullmatch(text) is None:
        return (
            f"{escape(text, 60)} is no network interface",
            "its name, such as eth0",
        )
    return None


def _check_span(text: str) -> Wrong:
    try:
        parse_seconds(text)
    except ValueError:
        return (
            f"{escape(text, 40)} is no span of time",
            "seconds, or a number with a unit: 90, 2h",
        )
    return None


def _check_days(text: str) -> Wrong:
    if decimal(text) is None:
        return (
            f"{escape(text, 40)} is no number of days",
            "a whole number, 0 for ever",
        )
    return None


def _check_database(text: str) -> Wrong:
    scheme, separator, _ = text.partition("://")
    known = separator and scheme.partition("+")[0] in keys.DATABASES
    if not known or _unfit(text) or " " in text:
        return (
            f"{escape(text, 80)} is no URL of a database",
            "such as postgresql://mailman:secret@db.example.org/mailman",
        )
    return None


def _one_of(words: Sequence[str]) -> Check:
    def check(text: str) -> Wrong:
        if text in words:
            return None
        return (
            f"{escape(text, 60)} is none of {', '.join(words)}",
            document.did_you_mean(text, words),
        )

    return check


_CHECKS: dict[str, Check] = {
    "path": _check_path, "account": _check_account, "span": _check_span, "days": _check_days,
}


def _database_host(url: str) -> str:
    """The host in a URL without its port."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host if host.endswith("]") else host.partition(":")[0] if host[:1] != "[" else (
        host.partition("]")[0] + "]"
    )


def _no_queue(name: str, version: str) -> str:
    if version == VERSION_3 and name in RUNNERS_WITHOUT_QUEUE_3:
        return f"the runner {name} has no queue to divide"
    if name in QUEUES_WITHOUT_RUNNER_3:
        return f"no runner serves {name}"
    return f"Mailman {version} has no queue {escape(name, 40)}"
