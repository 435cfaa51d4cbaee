"""The table of mounts of this process (/proc/self/mountinfo), read as text. Pure but for `read`.

A share is recognised by its line there and never by touching it: that would hang with its server.
"""

from __future__ import annotations

import os

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOUNTINFO = "/proc/self/mountinfo"

NFS = ("nfs", "nfs4")
#: File systems whose files lie on a server or on a disk that several nodes have at once.
SHARED = (
    *NFS, "ceph", "fuse.ceph", "fuse.glusterfs", "glusterfs", "gfs2", "ocfs2", "lustre", "gpfs",
    "beegfs", "afs", "cifs", "smb3", "9p", "virtiofs",
)
#: Of these, those on which a lockf(3) is known to keep out the other nodes too, but for the mount
#: options that leave it to the node: nfs(5); gfs2 and ceph in Linux, their ``lock``. ocfs2 does so
#: with some cluster stacks only, virtiofs and 9p by a server's option: the table does not tell.
_LOCKF_EXCLUDES_NODES = {
    **dict.fromkeys(NFS, frozenset(("nolock", "local_lock=posix", "local_lock=all"))),
    "gfs2": frozenset(("localflocks",)),
    "ceph": frozenset[str](),
}
#: Those that are one machine's own whatever is mounted where.
NODE_LOCAL = ("tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs", "aufs", "rootfs", "zram")


@record
class Mount:
    """One mount. `options` are the mount's own and the file system's; `device` is MAJOR:MINOR."""

    point: str
    kind: str
    source: str
    options: frozenset[str]
    device: str

    @property
    def is_nfs(self) -> bool:
        return self.kind in NFS

    @property
    def keeps_lockf_to_itself(self) -> bool:
        """Whether other nodes have the files too and may not hear of a lockf(3) on them."""
        if self.kind not in SHARED:
            return False
        untold = _LOCKF_EXCLUDES_NODES.get(self.kind)
        return untold is None or bool(self.options & untold)


def read() -> tuple[Mount, ...]:
    """The mounts as this process has them. Raises OSError."""
    with open(MOUNTINFO, "rb") as file:
        return parse(os.fsdecode(file.read()))


def parse(text: str) -> tuple[Mount, ...]:
    """Read mountinfo (proc(5)); lines that are none are passed over."""
    found = []
    for line in text.split("\n"):
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        options = frozenset((*fields[5].split(","), *rest[2].split(",")))
        found.append(
            Mount(_unquoted(fields[4]), rest[0], _unquoted(rest[1]), options, fields[2])
        )
    return tuple(found)


def of_path(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that `path` (normal, without links) lies on; of several in one place the last,
    which hides the others."""
    best: Mount | None = None
    for mount in mounts:
        if within(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def within(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or lies below it, by their names."""
    directory = directory.rstrip("/")
    return path == directory or path.startswith(directory + "/") or not directory


def _unquoted(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
