"""What a line of the mount table proves."""

from __future__ import annotations

import pytest
from mailman_ha.evidence.mounts import NODE_LOCAL, SHARED, Mount


def of_kind(kind: str, *options: str) -> Mount:
    return Mount("/srv", kind, "x", frozenset(("rw", *options)), "0:53")


@pytest.mark.parametrize("kind,options", [
    ("nfs4", ("local_lock=none",)), ("nfs", ("local_lock=flock",)), ("gfs2", ()), ("ceph", ()),
    ("ext4", ()), ("xfs", ()), *((kind, ()) for kind in NODE_LOCAL),
])
def test_lock_counts_for_all_nodes_where_they_hear_of_it_or_do_not_have_the_file(
    kind: str, options: tuple[str, ...]
) -> None:
    assert not of_kind(kind, *options).keeps_lockf_to_itself


@pytest.mark.parametrize("kind,options", [
    ("nfs", ("nolock", "local_lock=all")), ("nfs4", ("local_lock=posix",)),
    ("gfs2", ("localflocks",)),
    *((kind, ()) for kind in SHARED if kind not in ("nfs", "nfs4", "gfs2", "ceph")),
])
def test_lock_counts_for_its_node_alone_where_the_others_may_not_hear_of_it(
    kind: str, options: tuple[str, ...]
) -> None:
    assert of_kind(kind, *options).keeps_lockf_to_itself
