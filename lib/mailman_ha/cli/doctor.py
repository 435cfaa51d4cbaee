"""mailman-ha doctor: is the site set up right? The judging is in `mailman_ha.doctor`."""

from __future__ import annotations

from mailman_ha.cli import target
from mailman_ha.cli.ending import FINE, NEEDS_YOU, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mailman_ha.doctor.finding import Finding
    from mailman_ha.doctor.observation import Observation

NAME = "doctor"
HELP = "tell what of the site is not set up right, why it matters, and what mends it"
DESCRIPTION = (
    "Looks at fencing, the share and its mount options, clocks, versions and user ids, host names, "
    "Mailman's own services, constraints, timeouts and slices. Changes nothing. Each finding is an "
    "error, a warning, something that could not be looked at, or a note; the exit status is 1 "
    "where there is anything but notes.\n\n"
    "A node cannot look into another one. Run it with --publish on each node: that tells the "
    "others this node's version, user ids, host name and clock as the node attribute "
    "mailman-ha-facts, which goes when the node leaves the cluster.\n\n"
    "With --cib only a configuration in a file is judged, as before it is loaded."
)


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--publish", action="store_true",
        help="also tell the other nodes what this one sees of itself",
    )
    parser.add_argument("--cib", metavar="FILE", help="judge only the CIB in this file")
    target.declare(parser)


def run(options: argparse.Namespace) -> int:
    from mailman_ha.doctor.examination import examine

    if options.cib and options.publish:
        raise UsageError("--cib looks at no node, so there is nothing to --publish")
    trouble = ""
    if options.cib:
        from mailman_ha.doctor import observe

        seen = observe.file_alone(options.cib)
        if seen.configuration is None:
            raise UsageError(f"{seen.no_configuration}; give a CIB, as cibadmin --query prints it")
    else:
        seen = _observe(options)
        if options.publish:
            from mailman_ha.doctor import observe

            trouble = observe.publish(seen)
    findings = examine(seen)
    if options.json:
        _write(seen, findings)
    else:
        _print(seen, findings)
    if trouble:
        target.warn(f"nothing was published: {trouble}")
    from mailman_ha.doctor.finding import needs_somebody

    return NEEDS_YOU if trouble or needs_somebody(findings) else FINE


def _observe(options: argparse.Namespace) -> Observation:
    from mailman_ha.doctor import observe
    from mailman_ha.ocf.record import replace

    given = {
        name: value
        for name in (*target.PLACE, *target.BESIDES)
        if (value := getattr(options, name, None))
    }
    with target._call(options, False) as call:
        call.deadline.doing("asking cibadmin for the configuration")
        found = observe.configuration()
        resources = target.Resources(
            tuple(
                one.primitive for one in found.configuration.resources
                if target.agent_of(one.primitive)
            ) if found.configuration is not None else (),
            found.trouble,
        )
        source, resource, parameters = target.choose(given, options.resource, resources)
        try:
            with_parameters = target._with_parameters(call, parameters, source, resource)
        except UsageError as error:
            if source != "resource":
                raise
            with_parameters = target._with_parameters(call, {}, "found", "")
            seen = observe.everything(with_parameters, found)
            return replace(seen, no_site=str(error), site=None, places=(), skew=None, no_skew="")
        return observe.everything(with_parameters, found)


def _write(seen: Observation, findings: tuple[Finding, ...]) -> None:
    from mailman_ha.cli import json_output
    from mailman_ha.doctor import examination
    from mailman_ha.doctor.finding import needs_somebody
    from mailman_ha.ocf.escape import escape, one_line

    def text(sentence: str) -> str | None:
        return one_line(sentence) or None

    written: list[dict[str, Any]] = [
        {
            "check": one.check, "severity": one.severity, "seen": one_line(one.seen),
            "matters": one_line(one.matters), "mend": text(one.mend), "pcs": text(one.pcs),
            "crm": text(one.crm),
        }
        for one in findings
    ]
    json_output.write(NAME, {
        "node": escape(seen.node) if seen.node else None,
        "only_configuration": seen.from_file,
        "checks": list(examination.CHECKS),
        "fine": not needs_somebody(findings),
        "findings": written,
    })


def _print(seen: Observation, findings: tuple[Finding, ...]) -> None:
    from mailman_ha.cli import table
    from mailman_ha.cli.table import Cell
    from mailman_ha.doctor import examination
    from mailman_ha.doctor.finding import ERROR, NOTE, SEVERITIES, UNSEEN, WARNING
    from mailman_ha.ocf.escape import escape

    looks = {ERROR: table.BAD, WARNING: table.DOUBT, UNSEEN: table.DOUBT, NOTE: table.FAINT}
    for one in findings:
        table.say(f"{one.severity.upper()} ({one.check}): {one.seen}", looks[one.severity])
        pairs: list[tuple[str, str | Cell]] = [("  why", one.matters)]
        pairs += [("  mend", one.mend)] if one.mend else []
        pairs += [("  pcs", one.pcs), ("  crm", one.crm)] if one.pcs else []
        table.fields(pairs)
        table.say("")
    counts = dict.fromkeys(SEVERITIES, 0)
    for one in findings:
        counts[one.severity] += 1
    found = {one.check for one in findings}
    judged = examination.judged(seen)
    fine = [check for check in examination.CHECKS if check in judged - found]
    where = "in the file" if seen.from_file else f"seen from {escape(seen.here)}"
    if findings:
        table.say(
            ", ".join(f"{one}: {counts[one]}" for one in SEVERITIES if counts[one])
            + f" ({where})"
        )
    if fine:
        table.say(f"nothing wrong with {', '.join(fine)} ({where})", table.GOOD)
