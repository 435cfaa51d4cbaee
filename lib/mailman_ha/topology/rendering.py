"""The three languages a configuration can be written in, with what each file says at its head."""

from __future__ import annotations

import os

from mailman_ha.ocf.escape import escape
from mailman_ha.topology import cib_xml, crm_commands, pcs_commands, shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mailman_ha.topology.site import Site

FORMATS = {"crm": crm_commands, "pcs": pcs_commands, "cib": cib_xml}


def render(site: Site, language: str, source: str) -> str:
    """The site's configuration in one of FORMATS; `source` is the path of its description."""
    module: Any = FORMATS[language]
    title = " ".join(site.title.split())
    if title and title[-1] not in ".!?":
        title += "."
    made = (
        f"Made from {escape(os.path.basename(source))} by mailman-ha render: change the "
        "description and make it anew."
    )
    head = [" ".join(part for part in (title, module.USE, made) if part), ""]
    text: str = module.render(shape.build(site), head)
    return text
