"""All subjects together: an observation in, findings out. Pure."""

from __future__ import annotations

from mailman_ha.doctor import clocks, constraints, fencing, nodes, services, share, slices, timeouts
from mailman_ha.doctor.finding import NOTE, UNSEEN, Finding, sorted_by_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation

CLUSTER = "cluster"

#: The subjects in the order of the report.
CHECKS = (
    CLUSTER, fencing.CHECK, share.CHECK, clocks.CHECK, nodes.VERSIONS, nodes.HOST_NAMES,
    services.CHECK, constraints.CHECK, timeouts.CHECK, slices.CHECK,
)

_SUBJECTS = (
    fencing.findings, share.findings, share.mounted_outside, clocks.findings, nodes.findings,
    services.findings, constraints.findings, timeouts.findings, slices.findings,
)


def examine(seen: Observation) -> tuple[Finding, ...]:
    """Every finding, the gravest first."""
    found = list(_unseen(seen))
    for subject in _SUBJECTS:
        found += subject(seen)
    return sorted_by_weight(found)


def judged(seen: Observation) -> frozenset[str]:
    """The subjects on which enough was seen that no finding means that all is well."""
    subjects = set()
    if seen.configuration is not None:
        subjects |= {fencing.CHECK, constraints.CHECK, timeouts.CHECK, slices.CHECK}
    if not seen.from_file:
        subjects.add(services.CHECK)
        if seen.site is not None:
            subjects |= {share.CHECK, clocks.CHECK, nodes.VERSIONS, nodes.HOST_NAMES}
    if seen.cluster is None:
        subjects -= {nodes.VERSIONS, nodes.HOST_NAMES}
    else:
        subjects.add(CLUSTER)
    return frozenset(subjects)


def _unseen(seen: Observation) -> Iterator[Finding]:
    """What could not be asked at all."""
    if seen.no_configuration:
        yield Finding(
            CLUSTER, UNSEEN, f"the cluster's configuration: {seen.no_configuration}",
            "fencing, constraints, timeouts and slices are not judged",
            "start the cluster on this node (pcs cluster start, crm cluster start), or run this as "
            "root or a member of the group haclient",
        )
    if seen.cluster_down:
        yield Finding(
            CLUSTER, NOTE, "the cluster does not run on this node; its configuration was read from "
            "the disk, where this node last left it",
            "another node may have a newer one", "pcs cluster start (crm cluster start)",
        )
    if seen.no_cluster:
        yield Finding(
            CLUSTER, UNSEEN, f"the cluster's nodes and fencings: {seen.no_cluster}",
            "whether fencing was ever tested, and what other nodes say, is not known",
            "start the cluster on this node (pcs cluster start, crm cluster start)",
        )
    if seen.no_site:
        yield Finding(
            CLUSTER, UNSEEN, f"Mailman on this node: {seen.no_site}",
            "its lock directory, version, user and queues are not judged",
            "as root, on a node where Mailman and the share are there: mailman-ha doctor",
        )
