"""Fencing: on, able to reach every node, and known to work."""

from __future__ import annotations

from mailman_ha.doctor.finding import ERROR, NOTE, UNSEEN, WARNING, Finding
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.configuration import Configuration
    from mailman_ha.doctor.observation import FencingEvent, Observation

CHECK = "fencing"

_UNPROVEN = (
    "nothing can prove a lost node dead: its locks are kept and Mailman does not start elsewhere, "
    "or, with allow_unfenced, it starts beside a master that may be alive and writing"
)
_FALSE = ("false", "off", "no", "n", "0")


def findings(seen: Observation) -> Iterator[Finding]:
    """Whether fencing works, as far as it can be known."""
    enabled = _enabled(seen)
    if enabled is False:
        yield Finding(
            CHECK, ERROR, "stonith-enabled is false", _UNPROVEN,
            pcs="pcs property set stonith-enabled=true",
            crm="crm configure property stonith-enabled=true",
        )
        return
    if seen.allow_unfenced:
        yield Finding(
            CHECK, WARNING, "the parameter allow_unfenced is true although fencing is on",
            "it does nothing now, but the day fencing is switched off it takes an offline node for "
            "dead: two masters on one share",
            "remove allow_unfenced from the resources (crm_resource -r RESOURCE -d allow_unfenced)",
        )
    if seen.configuration is not None:
        yield from _devices(seen, seen.configuration)
    if seen.cluster is not None:
        yield from _tests(seen)


def _enabled(seen: Observation) -> bool | None:
    if seen.configuration is not None:
        said = seen.configuration.properties.get("stonith-enabled")
        # Pacemaker's default is true.
        return said is None or said.lower() not in _FALSE
    return None if seen.cluster is None else seen.cluster.fencing_enabled


def _devices(seen: Observation, configuration: Configuration) -> Iterator[Finding]:
    devices = configuration.fencing_devices()
    by_watchdog = configuration.properties.get("stonith-watchdog-timeout", "0") not in ("0", "0s")
    if by_watchdog:
        return
    if not devices:
        yield Finding(
            CHECK, ERROR, "fencing is on, but there is no fencing device that is not disabled",
            "a lost node can never be fenced: the cluster waits for it for ever, and Mailman stays "
            "down with the node that had it",
            pcs="pcs stonith create fence-NODE AGENT pcmk_host_list=NODE ... (pcs stonith list)",
            crm="crm configure primitive fence-NODE stonith:AGENT params pcmk_host_list=NODE ...",
        )
        return
    listed: set[str] = set()
    open_ended = False
    for device in devices:
        names = _named(dict(device.primitive.parameters))
        listed |= names
        open_ended = open_ended or not names
    for node in seen.node_names:
        if node in listed or (seen.able is not None and seen.able.get(node)):
            continue
        name = escape(node)
        if open_ended and seen.able is None:
            yield Finding(
                CHECK, UNSEEN,
                f"no device names node {name}, and a device that asks its own hardware for its "
                "nodes could not be asked, for the cluster does not run here",
                f"if none can fence {name}, Mailman stays down when it dies",
                f"with the cluster running: stonith_admin --list {name}",
            )
            continue
        yield Finding(
            CHECK, ERROR, f"no fencing device can fence node {name}",
            f"when {name} dies with Mailman on it, its locks are kept and Mailman does not start "
            "elsewhere until a person confirms that it is off",
            pcs=f"pcs stonith create fence-{name} AGENT pcmk_host_list={name} ...",
            crm=f"crm configure primitive fence-{name} stonith:AGENT params pcmk_host_list={name} "
                "...",
        )


def _named(parameters: dict[str, str]) -> set[str]:
    """The nodes that a device's parameters name."""
    text = parameters.get("pcmk_host_list", "")
    names = set(text.replace(",", " ").replace(";", " ").split())
    for part in parameters.get("pcmk_host_map", "").replace(";", " ").split():
        names.add(part.partition(":")[0])
    return names - {""}


def _tests(seen: Observation) -> Iterator[Finding]:
    for node in seen.node_names:
        events = [
            one for one in seen.fencing_events
            if one.target == node and one.action in ("off", "reboot")
        ]
        last = max(events, key=lambda one: one.completed or 0.0, default=None)
        name = escape(node)
        commands = {
            "pcs": f"pcs stonith fence {name}", "crm": f"crm node fence {name}",
        }
        if last is not None and last.status == "failed":
            yield Finding(
                CHECK, ERROR, f"the last fencing of node {name} failed",
                "while a node cannot be fenced, Mailman does not start elsewhere when it dies",
                "mend the device (the log of the node that tried tells why: journalctl -u "
                f"pacemaker), then try it: stonith_admin --reboot {name}",
            )
        elif not any(_proves(one) for one in events):
            yield Finding(
                CHECK, WARNING,
                f"node {name} has not been fenced since the cluster was started, so it is not "
                "known that its fencing works",
                f"if it does not, that shows on the night that {name} dies: Mailman stays down "
                "until a person comes",
                **commands,
            )
        elif last is not None and last.status == "pending":
            yield Finding(
                CHECK, NOTE, f"node {name} is being fenced right now",
                "until that is done, what it holds is kept", "crm_mon -1 --include=fencing",
            )


def _proves(event: FencingEvent) -> bool:
    return event.status == "success" and not event.confirmed
