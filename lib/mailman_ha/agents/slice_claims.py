"""Which claims on slices of queues stand in a lock directory, by their names alone."""

from __future__ import annotations

import os

from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.queues import slices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from mailman_ha.mailman.installation import Installation
    from mailman_ha.queues.slices import Slice


def on_queues(site: Installation, queues: Collection[str]) -> dict[str, Slice]:
    """The claim locks on any slice of `queues`, of any geometry: the slice by the lock's name.

    Raises OSError where the lock directory cannot be listed.
    """
    found = {}
    with ActingAs(site.user.uid, site.user.gid):
        names = os.listdir(site.lock_dir)
    for name in names:
        claimed = slices.of_lock_name(name)
        if claimed is not None and claimed[0] in queues:
            found[name] = claimed[1]
    return found
