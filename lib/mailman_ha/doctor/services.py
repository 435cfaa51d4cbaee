"""Mailman's own ways to be started, which must be off: systemd, init scripts, cron, resources."""

from __future__ import annotations

from mailman_ha.doctor.configuration import MASTER, described
from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING, Finding
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation

CHECK = "services"

#: The units that start the master; the web interface's are others.
CORE_UNITS = ("mailman", "mailman3", "mailman-core", "mailman3-core")

_FORCED = (
    "at boot Mailman starts outside the cluster, beside a master on another node: Debian's unit "
    "passes --force, which breaks the lock of a master that is alive"
)


def findings(seen: Observation) -> Iterator[Finding]:
    """What would start Mailman besides the cluster: here, on the others, and in the CIB."""
    for service in seen.services:
        name, where = escape(service.name), escape(service.where)
        if service.kind == "systemd":
            yield Finding(
                CHECK, ERROR, f"systemd starts {name} ({where})", _FORCED,
                f"systemctl disable --now {name}  (let the cluster stop Mailman here first)",
            )
        elif service.kind == "init":
            yield Finding(
                CHECK, ERROR, f"init starts {name} ({where})", _FORCED,
                f"update-rc.d {name} disable  (chkconfig {name} off)",
            )
        else:
            yield Finding(
                CHECK, ERROR, f"cron starts Mailman: {name} in {where}", _FORCED,
                f"remove the line from {where}",
            )
    for what in seen.services_unseen:
        yield Finding(
            CHECK, UNSEEN, what, "something there may start Mailman outside the cluster",
            "as root: mailman-ha doctor",
        )
    for node, facts in (seen.facts or {}).items():
        if facts is not None and facts.services and node != seen.here:
            name = escape(node)
            yield Finding(
                CHECK, ERROR,
                f"{facts.services} of node {name}'s own ways to start Mailman are on", _FORCED,
                f"on {name}: mailman-ha doctor tells which, and what to type",
            )
    if seen.configuration is None:
        return
    with_master = bool(seen.configuration.of(MASTER))
    for resource in seen.configuration.resources:
        kind, _, rest = resource.agent.partition(":")
        if kind in ("systemd", "lsb", "service") and _is_core(rest):
            yield Finding(
                CHECK, ERROR if with_master else WARNING,
                f"resource {described(resource)} runs Mailman by its own unit", _FORCED.replace(
                    "at boot Mailman starts outside the cluster", "the unit starts Mailman"),
                pcs=f"pcs resource delete {escape(resource.id)} (mailman-master in its place)",
                crm=f"crm configure delete {escape(resource.id)} (mailman-master in its place)",
            )


def _is_core(unit: str) -> bool:
    return unit.partition(".")[0] in CORE_UNITS
