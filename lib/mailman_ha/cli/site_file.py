"""The description of a site that a command is given: read, or its mistakes told."""

from __future__ import annotations

import sys

from mailman_ha.cli import json_output
from mailman_ha.cli.ending import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mailman_ha.topology.site import Site


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument(
        "site", metavar="SITE.yaml",
        help="the site's description (mailman-ha-site(5) tells its keys)",
    )


def load(options: argparse.Namespace, empty: dict[str, Any]) -> Site:
    """The site. Every mistake goes to stderr in a line of its own, and with --json into the object
    that is printed, `empty` but for them; then UsageError is raised, or SystemExit with its status.
    """
    from mailman_ha.topology import description
    from mailman_ha.topology.document import NotSound

    try:
        return description.load(options.site)
    except NotSound as unsound:
        sys.stdout.flush()
        for mistake in unsound.mistakes:
            sys.stderr.write(f"{mistake}\n")
        number = len(unsound.mistakes)
        sentence = (
            f"the description has {number} mistake{'s' if number > 1 else ''}; correct "
            f"{'them' if number > 1 else 'it'} and try again"
        )
        if not options.json:
            raise UsageError(sentence) from unsound
        json_output.write(options.command, {
            **empty,
            "mistakes": [
                {"file": one.file, "line": one.line, "key": one.key, "what": one.what,
                 "fix": one.fix}
                for one in unsound.mistakes
            ],
        })
        raise SystemExit(2) from unsound
