"""The snapshot that the doctor judges: records only."""

from __future__ import annotations

from mailman_ha.doctor.configuration import Configuration
from mailman_ha.doctor.node_facts import NodeFacts
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.cluster import Cluster
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.evidence.mounts import Mount
from mailman_ha.mailman.installation import Installation
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@record
class FencingEvent:
    """One fencing action of the cluster's history. `completed` in seconds since the epoch, None
    where it is unknown; `confirmed`: a person said that the machine is off."""

    target: str
    action: str
    status: str
    completed: float | None = None
    confirmed: bool = False


@record
class Place:
    """A directory of Mailman's. `what` names it for a sentence, `real` is its path without links,
    `trouble` why it could not be looked at."""

    what: str
    path: str
    real: str = ""
    device: int | None = None
    mount: Mount | None = None
    trouble: str = ""


@record
class OwnService:
    """Something of the machine's own that starts Mailman: `kind` is systemd, init or cron."""

    kind: str
    name: str
    where: str


@record
class Observation:
    """Everything that is judged. A source that gave nothing is None, and its `no_…` says why; both
    are empty where nobody meant to look.

    `node` is the cluster's name for this node. `able` are the fencing devices for each node, by
    the fencer itself. `places` begins with the lock directory. `root` is the root's mount. `facts`
    are the nodes' published lines, None for one that cannot be read.
    """

    configuration: Configuration | None = None
    no_configuration: str = ""
    cluster_down: bool = False
    from_file: bool = False
    cluster: Cluster | None = None
    no_cluster: str = ""
    fencing_events: tuple[FencingEvent, ...] = ()
    able: Mapping[str, tuple[str, ...]] | None = None
    node: str | None = None
    this_host: ThisHost | None = None
    site: Installation | None = None
    no_site: str = ""
    host_map: Mapping[str, str] | None = None
    host_map_trouble: str = ""
    places: tuple[Place, ...] = ()
    mounts: tuple[Mount, ...] = ()
    skew: ClockSkew | None = None
    no_skew: str = ""
    synchronised: bool | None = None
    services: tuple[OwnService, ...] = ()
    services_unseen: tuple[str, ...] = ()
    facts: Mapping[str, NodeFacts | None] | None = None
    allow_unfenced: bool = False

    @property
    def here(self) -> str:
        """What this machine is called: as a node, or by its host name."""
        if self.node is not None:
            return self.node
        return "this machine" if self.this_host is None else self.this_host.hostname

    @property
    def node_names(self) -> tuple[str, ...]:
        """All nodes that the cluster has, running or not."""
        names: dict[str, None] = {}
        if self.configuration is not None:
            names.update(dict.fromkeys(self.configuration.nodes))
        if self.cluster is not None:
            names.update(dict.fromkeys(self.cluster.nodes))
        return tuple(names)
