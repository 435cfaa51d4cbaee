"""Which machine a host name in a claim stands for: a pure function of what the cluster said.

Mailman signs its claims with the host's name (2.1: gethostname, 3: getfqdn), Pacemaker knows
nodes. A name belongs to a node where it *is* the node's name, or the node's name in this host's
own domain, or where the operator's `host_map` says so. Nothing is guessed beyond that: a wrong
guess would release the lock of a living machine.
"""

from __future__ import annotations

from mailman_ha.locks import verdict
from mailman_ha.locks.verdict import HostFacts
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mailman_ha.evidence.cluster import Cluster


#: One for all: a directory may name very many hosts that nobody knows.
_A_STRANGER = HostFacts(verdict.FOREIGN)


class HostMapError(ValueError):
    """`host_map` cannot be understood; the text says which part and how it should look."""


@record
class ThisHost:
    """How this machine calls itself. `node` is its name in the cluster, None outside one."""

    hostname: str
    fqdn: str
    node: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.hostname, self.fqdn)


def parse_host_map(text: str) -> dict[str, str]:
    """``node=host node=host …`` as a dict from host name to node. Raises HostMapError.

    One node may have several hosts; one host belongs to one node.
    """
    hosts: dict[str, str] = {}
    for part in text.replace(",", " ").split():
        node, equals, host = part.partition("=")
        if not node or not equals or not host or "=" in host:
            raise HostMapError(f"{part!r} is not of the form NODE=HOST")
        if hosts.get(host, node) != node:
            raise HostMapError(
                f"host {host} is given to both {hosts[host]} and {node}: a lock of that name "
                "could never be judged; give each node a host name of its own"
            )
        hosts[host] = node
    return hosts


def resolve(
    names: Iterable[str],
    this_host: ThisHost,
    host_map: Mapping[str, str],
    cluster: Cluster | None,
    no_cluster: str = "",
) -> dict[str, HostFacts]:
    """The facts about each of `names`.

    `cluster` is None where the cluster could not be asked; `no_cluster` then says why, and is
    empty where there is no cluster at all: then this host's own names need no further proof.
    """
    return {name: _facts(name, this_host, host_map, cluster, no_cluster) for name in names}


def node_of(
    host: str, this_host: ThisHost, host_map: Mapping[str, str], nodes: Collection[str]
) -> str | None:
    """The cluster node that presents `host`, or None."""
    if host in host_map:
        return host_map[host]
    if host in nodes:
        return host
    label, dot, domain = host.partition(".")
    _, own_dot, own_domain = this_host.fqdn.partition(".")
    if dot and own_dot and domain == own_domain and label in nodes:
        return label
    # Node names may be fully qualified while gethostname() is not.
    if not dot and own_dot and f"{host}.{own_domain}" in nodes:
        return f"{host}.{own_domain}"
    return None


def is_shared_name(host: str) -> bool:
    """Whether every machine may call itself `host`, so that it names none."""
    return host.partition(".")[0] in ("localhost", "localhost4", "localhost6", "")


def _facts(
    name: str,
    this_host: ThisHost,
    host_map: Mapping[str, str],
    cluster: Cluster | None,
    no_cluster: str,
) -> HostFacts:
    if cluster is None:
        return _facts_without_cluster(name, this_host, host_map, no_cluster)
    node = node_of(name, this_host, host_map, cluster.nodes)
    if name in host_map:
        natural = node_of(name, this_host, {}, cluster.nodes)
        if natural not in (None, node) and natural not in host_map.values():
            return HostFacts(
                verdict.AMBIGUOUS,
                node=node or "",
                why=f"host_map gives {name} to node {node}, but node {natural} calls itself that "
                "too",
            )
    if node is None:
        if name in this_host.names or is_shared_name(name):
            return HostFacts(
                verdict.AMBIGUOUS,
                why=f"this host calls itself {name}, but so may another node, for {name} is not "
                "tied to a node's name",
            )
        return _A_STRANGER
    if node == this_host.node:
        if name in this_host.names or name in host_map or name == node:
            return HostFacts(verdict.THIS_HOST, node=node, online=True)
        return HostFacts(verdict.FOREIGN)
    if name in this_host.names:
        return HostFacts(
            verdict.AMBIGUOUS,
            node=node,
            why=f"this host calls itself {name}, which is the name of node {node}",
        )
    known = cluster.nodes.get(node)
    if known is None:
        return HostFacts(verdict.FOREIGN, node=node)
    return HostFacts(
        verdict.NODE,
        node=node,
        # A node that is just joining runs again: what it runs only it can know.
        online=known.online or known.pending,
        unclean=known.unclean,
        fenced_at=known.fenced_at,
        ended_at=known.ended_at,
        ended=known.ended,
    )


def _facts_without_cluster(
    name: str, this_host: ThisHost, host_map: Mapping[str, str], no_cluster: str
) -> HostFacts:
    node = host_map.get(name)
    own = name in this_host.names or (node is not None and node == this_host.node)
    if not no_cluster:
        if own:
            return HostFacts(verdict.THIS_HOST, node=this_host.node or name, online=True)
        return HostFacts(verdict.FOREIGN)
    if this_host.node is None:
        # Run by hand beside a cluster that is down: a name that only one machine can have is ours.
        proven = not is_shared_name(name)
    else:
        proven = node_of(name, this_host, host_map, (this_host.node,)) == this_host.node
    if own and proven:
        return HostFacts(verdict.THIS_HOST, node=this_host.node or name, online=True)
    return HostFacts(verdict.NO_EVIDENCE, why=f"the cluster could not be asked ({no_cluster})")
