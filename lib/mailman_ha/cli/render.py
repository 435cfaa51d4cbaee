"""mailman-ha render: a site's description as commands for crm or pcs, or as a CIB."""

from __future__ import annotations

import sys

from mailman_ha.cli import json_output, site_file
from mailman_ha.cli.ending import FINE
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

NAME = "render"
HELP = "turn a site's description into resources and constraints"
DESCRIPTION = (
    "Reads a site's description and prints the resources and constraints that Pacemaker needs for "
    "it, with comments that say why: as commands for crm or for pcs, or as a CIB. All three mean "
    "the same. Nothing is changed.\n\n"
    "Where the description has mistakes, each is told with its line and the way out, and the exit "
    "status is 2."
)


def declare(parser: argparse.ArgumentParser) -> None:
    site_file.declare(parser)
    parser.add_argument(
        "--format", required=True, choices=("crm", "pcs", "cib"),
        help="crm: for `crm configure load update FILE`; pcs: a script for sh; cib: XML for "
        "cibadmin and crm_verify",
    )


def run(options: argparse.Namespace) -> int:
    head = {"file": escape(options.site), "format": options.format, "text": None}
    site = site_file.load(options, head)
    from mailman_ha.topology import rendering

    text = rendering.render(site, options.format, options.site)
    if options.json:
        json_output.write(NAME, {**head, "text": text, "mistakes": []})
    else:
        sys.stdout.write(text)
    return FINE
