"""The nodes against each other: versions, paths, ids, and the names that Mailman signs with."""

from __future__ import annotations

from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING, Finding
from mailman_ha.evidence import hosts
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mailman_ha.doctor.node_facts import NodeFacts
    from mailman_ha.doctor.observation import Observation

VERSIONS = "versions"
HOST_NAMES = "host names"


def findings(seen: Observation) -> Iterator[Finding]:
    """What the nodes must have alike, and what each must have for its own."""
    facts = {node: one for node, one in (seen.facts or {}).items() if one is not None}
    yield from _silent(seen)
    yield from _alike(facts)
    yield from _host_map(seen)
    yield from _host_names(seen, facts)


def _silent(seen: Observation) -> Iterator[Finding]:
    if seen.facts is None or seen.cluster is None:
        return
    for node in seen.node_names:
        known = seen.cluster.nodes.get(node)
        if node == seen.node or seen.facts.get(node) is not None:
            continue
        name = escape(node)
        why = (
            "is offline" if known is not None and not known.online
            else "has published something that this version does not understand"
            if node in seen.facts else "has published nothing since it joined the cluster"
        )
        yield Finding(
            VERSIONS, UNSEEN, f"node {name} {why}: its Mailman, user ids, host name and clock are "
            "not known here",
            "a node that differs shows on the night that Mailman moves there",
            f"on {name}: mailman-ha doctor --publish",
        )


def _alike(facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    subjects: tuple[tuple[str, Callable[[NodeFacts], object], str, str, str], ...] = (
        ("the version of Mailman", lambda one: one.release or None, ERROR,
         "a newer Mailman changes the data, and the older one on the other node cannot read them "
         "after a failover", "install the same version on every node (one node at a time, in "
         "standby meanwhile)"),
        ("Mailman's user id", lambda one: one.uid, ERROR,
         "after a failover Mailman may neither read nor write its own files",
         "usermod -u UID USER on the node that differs, Mailman stopped there"),
        ("Mailman's group id", lambda one: one.gid, ERROR,
         "after a failover Mailman may neither read nor write its own files",
         "groupmod -g GID GROUP on the node that differs, Mailman stopped there"),
        ("Mailman's directories and lock files (a digest of their paths)",
         lambda one: one.paths or None, ERROR,
         "two nodes whose lock directories differ do not exclude each other, and after a failover "
         "Mailman looks for its queues in another place",
         "make mailman.cfg (2.1: mm_cfg.py) the same on every node"),
        ("the runners that the configuration names (a digest)", lambda one: one.runners or None,
         ERROR,
         "after a failover a queue may have two runners on a slice, or none",
         "make mailman.cfg (2.1: mm_cfg.py) the same on every node"),
        ("the version of mailman-ha", lambda one: one.suite, WARNING,
         "agents of different versions may judge a lock differently",
         "install the same version on every node"),
    )
    for what, value, severity, matters, mend in subjects:
        values: dict[object, list[str]] = {}
        for node, one in sorted(facts.items()):
            given = value(one)
            if given is not None:
                values.setdefault(given, []).append(node)
        if len(values) > 1:
            shown = ", ".join(
                f"{escape(str(given))} on {', '.join(map(escape, nodes))}"
                for given, nodes in values.items()
            )
            yield Finding(VERSIONS, severity, f"{what} differs: {shown}", matters, mend)


def _host_map(seen: Observation) -> Iterator[Finding]:
    if seen.host_map_trouble:
        yield Finding(
            HOST_NAMES, ERROR, f"the parameter host_map cannot be understood: "
            f"{escape(seen.host_map_trouble)}",
            "every agent refuses to work", "crm_resource -r RESOURCE -p host_map -v "
            "\"node1=mail1.example.org node2=mail2.example.org\"",
        )
    if not seen.node_names:
        return
    for host, node in (seen.host_map or {}).items():
        if node not in seen.node_names:
            yield Finding(
                HOST_NAMES, ERROR,
                f"host_map gives host {escape(host)} to {escape(node)}, which is no node of the "
                "cluster",
                f"locks signed by {escape(host)} belong to nobody the cluster could fence: they "
                "are kept for ever",
                f"correct host_map; the nodes are {', '.join(map(escape, seen.node_names))}",
            )


def _host_names(seen: Observation, facts: Mapping[str, NodeFacts]) -> Iterator[Finding]:
    nodes = seen.node_names
    if len(nodes) < 2 or seen.this_host is None:
        return
    presented: dict[str, list[str]] = {}
    for node, one in sorted(facts.items()):
        presented.setdefault(one.host, []).append(node)
    for host, owners in presented.items():
        if len(owners) > 1:
            yield Finding(
                HOST_NAMES, ERROR,
                f"nodes {' and '.join(map(escape, owners))} have one host name: {escape(host)}",
                "Mailman signs its locks with it: a lock of that name could be anyone's, so none "
                "is ever released after a node died",
                "give each node a host name of its own (hostnamectl set-hostname, /etc/hosts), "
                "Mailman stopped there",
            )
        elif hosts.is_shared_name(host):
            yield Finding(
                HOST_NAMES, ERROR,
                f"Mailman on node {escape(owners[0])} would sign its locks as {escape(host)}",
                "every machine may call itself that: its locks are never released when it dies, "
                "and mailman-master refuses to start",
                f"on {escape(owners[0])}: correct /etc/hosts, so that python3 -c 'import socket; "
                "print(socket.getfqdn())' names the node",
            )
        else:
            yield from _mapped(seen, owners[0], host)


def _mapped(seen: Observation, node: str, host: str) -> Iterator[Finding]:
    assert seen.this_host is not None
    found = hosts.node_of(host, seen.this_host, seen.host_map or {}, seen.node_names)
    if found == node:
        return
    said = f"belongs to node {escape(found)}" if found else "is no node's name"
    entry = f"{node}={host}"
    yield Finding(
        HOST_NAMES, ERROR,
        f"Mailman on node {escape(node)} signs its locks as {escape(host)}, which {said}",
        "its locks are never released when it dies (they look like a stranger's), and "
        "mailman-master refuses to start",
        "add to the parameter host_map of every mailman resource: "
        f"{escape(entry)} (crm_resource -r RESOURCE -p host_map -v \"...\")",
    )
