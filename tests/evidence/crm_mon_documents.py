"""What `crm_mon -1 --output-as=xml --include=none,dc,nodes,options,fencing` prints, in the forms
of Pacemaker 2.1.5 and 3.0: two nodes, of which n2 was fenced and is down."""

from __future__ import annotations

_NODE = (
    'online="{online}" standby="{standby}" standby_onfail="false" maintenance="{maintenance}" '
    'pending="{pending}" unclean="{unclean}" {health}feature_set="{features}" shutdown="false" '
    'expected_up="{online}" is_dc="{dc}" resources_running="0" type="member"/>'
)

_EVENT = (
    '<fence_event {extended}status="{status}" {delegate}action="{action}" target="{target}" '
    'client="pacemaker-controld.1234" origin="n1" {completed}/>'
)


def node(name: str, number: int, version: str = "2.1", **changes: str) -> str:
    """One node, online and in order but for `changes`."""
    values = {
        "online": "true", "standby": "false", "maintenance": "false", "pending": "false",
        "unclean": "false", "dc": "false",
        "features": "3.16.2" if version == "2.1" else "3.20.0",
        "health": "" if version == "2.1" else 'health="green" ',
        **changes,
    }
    return f'<node name="{name}" id="{number}" ' + _NODE.format(**values)


def event(
    completed: str = "2026-11-23 19:00:45Z", *, target: str = "n2", action: str = "reboot",
    status: str = "success",
) -> str:
    """One fencing event; a pending one has not completed and no delegate."""
    return _EVENT.format(
        status=status, action=action, target=target,
        extended=f'extended-status="{status}" ',
        delegate='delegate="n1" ' if status != "pending" else "",
        completed=f'completed="{completed}" ' if completed else "",
    )


def document(
    version: str = "2.1",
    *,
    nodes: str | None = None,
    events: str | None = None,
    options: str = "",
    quorum: str = "true",
) -> bytes:
    """A whole document. `options` takes the place of the cluster's options."""
    if nodes is None:
        nodes = node("n1", 1, version, dc="true") + node("n2", 2, version, online="false")
    if events is None:
        moment = "2026-11-23 19:00:45Z" if version == "2.1" else "2026-11-23 19:00:45.123456Z"
        events = event(moment)
    options = options or (
        '<cluster_options stonith-enabled="true" symmetric-cluster="true" no-quorum-policy="stop" '
        'maintenance-mode="false" stop-all-resources="false" stonith-timeout-ms="60000" '
        'priority-fencing-delay-ms="0"/>'
    )
    api, pacemaker = ("2.25", "2.1.5-a3f44794f94") if version == "2.1" else ("2.38", "3.0.0-1")
    return f"""<?xml version="1.0"?>
<pacemaker-result api-version="{api}" request="crm_mon -1 --output-as=xml">
  <!-- a comment, as libxml2 may keep one -->
  <summary>
    <current_dc present="true" version="{pacemaker}" name="n1" id="1" with_quorum="{quorum}"/>
    {options}
  </summary>
  <nodes>{nodes}</nodes>
  <fence_history>{events}</fence_history>
  <status code="0" message="OK"/>
</pacemaker-result>
""".encode()


NOT_CONNECTED = b"""<pacemaker-result api-version="2.25" request="crm_mon -1 --output-as=xml">
  <status code="102" message="Not connected">
    <errors><error>crm_mon: Connection to cluster failed: Connection refused</error></errors>
  </status>
</pacemaker-result>
"""
