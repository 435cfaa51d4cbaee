"""The share: Mailman's locks and data on one, and how it is mounted."""

from __future__ import annotations

from mailman_ha.doctor.configuration import FILESYSTEM, Configuration, Resource
from mailman_ha.doctor.finding import ERROR, NOTE, UNSEEN, WARNING, Finding
from mailman_ha.evidence import mounts
from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation, Place
    from mailman_ha.evidence.mounts import Mount

CHECK = "share"

_TWO_MASTERS = (
    "a lock that only this node sees excludes nobody: a master on another node starts beside the "
    "one here, and both work on the same queues"
)
_STALE = (
    "after another node took a lock over, a client with cached names reads its own name in the "
    "lock file for up to 45 s: Mailman goes on as if it still held it, for so long both change one "
    "list or work on one queue"
)
_SOFT = (
    "on a soft mount a link() that returned an error may have been made: Mailman takes a lock that "
    "it has for one it has not, and messages are cut off half-written when the server is slow"
)


def findings(seen: Observation) -> Iterator[Finding]:
    """Where the lock directory and the data lie, and how what they lie on is mounted."""
    shares = share_resources(seen)
    if seen.places:
        if _unmounted(seen, shares):
            yield _elsewhere(seen, shares)
        else:
            yield from _places(seen, shares)
    mounted = {place.mount.point for place in seen.places if place.mount is not None}
    for resource in shares:
        parameters = dict(resource.primitive.parameters)
        directory = parameters.get("directory", "").rstrip("/")
        if parameters.get("fstype") in mounts.NFS and directory not in mounted:
            options = frozenset(parameters.get("options", "").replace(" ", "").split(","))
            yield from _nfs_options(
                options, f"resource {escape(resource.id)} mounts {escape(directory)}", resource
            )


def share_resources(seen: Observation) -> tuple[Resource, ...]:
    """The Filesystem resources that Mailman's directories lie on; where those are not known, all
    that mount something."""
    if seen.configuration is None:
        return ()
    return share_resources_of(seen.configuration, tuple(one.path for one in seen.places))


def share_resources_of(
    configuration: Configuration, paths: tuple[str, ...]
) -> tuple[Resource, ...]:
    """As `share_resources`, for these paths of Mailman's; without paths, every Filesystem."""
    found = []
    for resource in configuration.of(FILESYSTEM):
        directory = dict(resource.primitive.parameters).get("directory", "")
        if directory and (not paths or any(mounts.within(path, directory) for path in paths)):
            found.append(resource)
    return tuple(found)


def _unmounted(seen: Observation, shares: tuple[Resource, ...]) -> bool:
    """Whether the share of the lock directory is one of the cluster's and is not mounted here."""
    path = seen.places[0].path
    points = {mount.point for mount in seen.mounts}
    directories = [
        directory for one in shares
        if mounts.within(path, directory := dict(one.primitive.parameters).get("directory", ""))
    ]
    return bool(directories) and not any(one.rstrip("/") in points for one in directories)


def _elsewhere(seen: Observation, shares: tuple[Resource, ...]) -> Finding:
    ids = [escape(one.id) for one in shares]
    return Finding(
        CHECK, UNSEEN,
        f"{' and '.join(ids)} is not mounted on this node, so the lock directory "
        f"{escape(seen.places[0].path)} could not be looked at",
        "a lock directory that is not on the share, or a wrong mount option, would mean two "
        "masters",
        f"run mailman-ha doctor where it is mounted: crm_resource --locate -r {ids[0]}",
    )


def _places(seen: Observation, shares: tuple[Resource, ...]) -> Iterator[Finding]:
    lock_dir = seen.places[0]
    for place in seen.places:
        if place.trouble:
            yield Finding(
                CHECK, UNSEEN, f"{place.what} {escape(place.path)}: {place.trouble}",
                "whether it lies on the share is not known", "see that the share answers; as root: "
                "mailman-ha doctor",
            )
    judged: set[str] = set()
    for place in seen.places:
        mount = place.mount
        if place.trouble or mount is None:
            continue
        if place is lock_dir or _apart(place, lock_dir):
            for one in _kind(seen, place, mount, shares):
                if one.seen not in judged:
                    judged.add(one.seen)
                    yield one
        if place is lock_dir and mount.is_nfs:
            resource = next(
                (one for one in shares
                 if dict(one.primitive.parameters).get("directory", "").rstrip("/") == mount.point),
                None,
            )
            yield from _nfs_options(
                mount.options, f"{escape(mount.point)} is mounted", resource
            )
        if "ro" in mount.options:
            yield Finding(
                CHECK, ERROR, f"{place.what} {escape(place.path)} is mounted read-only",
                "Mailman can take no lock and write no message there",
                f"mount -o remount,rw {escape(mount.point)}, and remove ro from the options of the "
                "Filesystem resource",
            )
    apart = [one for one in seen.places[1:] if not one.trouble and _apart(one, lock_dir)]
    if apart and not lock_dir.trouble:
        names = ", ".join(f"{one.what} {escape(one.path)}" for one in apart)
        yield Finding(
            CHECK, ERROR,
            f"the lock directory {escape(lock_dir.path)} lies on another file system than {names}",
            "nodes that have the data do not necessarily have the locks: what protects the data "
            "from a second master may be missing where it is needed",
            "put both on one share: Mailman 3 [paths.…] lock_dir under var_dir; 2.1 LOCK_DIR in "
            "mm_cfg.py; move with Mailman stopped",
        )
    beside = [one for one in seen.places[1:] if _mounted_apart(one, lock_dir)]
    if beside:
        yield Finding(
            CHECK, NOTE,
            f"the lock directory {escape(lock_dir.path)} is mounted apart from "
            + ", ".join(f"{one.what} {escape(one.path)}" for one in beside)
            + ", though on one file system",
            "a node on which one of the mounts fails has the data without the locks, and what is "
            "put into quarantine from there is copied: nothing can be renamed between two mounts",
            "mount the share once and let all of Mailman's directories lie in that mount",
        )


def _mounted_apart(place: Place, other: Place) -> bool:
    """Whether two mounts of one file system lie between them."""
    return (
        None not in (place.mount, other.mount) and not place.trouble and not other.trouble
        and place.mount != other.mount and not _apart(place, other)
    )


def _apart(place: Place, other: Place) -> bool:
    if place.mount is not None and other.mount is not None and place.mount == other.mount:
        return False
    return place.device != other.device


def _kind(
    seen: Observation, place: Place, mount: Mount, shares: tuple[Resource, ...]
) -> Iterator[Finding]:
    path = escape(place.path)
    root = mounts.of_path("/", seen.mounts)
    if mount.kind in mounts.NODE_LOCAL or (root is not None and mount.device == root.device):
        where = (
            "this node's own root file system"
            if root is not None and mount.device == root.device
            else f"this node's own {escape(mount.kind)}"
        )
        yield Finding(
            CHECK, ERROR, f"{place.what} {path} lies on {where}", _TWO_MASTERS,
            "put it on the share: Mailman 3 var_dir and lock_dir in mailman.cfg, 2.1 LOCK_DIR in "
            "mm_cfg.py; on every node alike, with Mailman stopped",
        )
        return
    if mount.kind in mounts.SHARED or seen.configuration is None:
        return
    directories = {
        dict(one.primitive.parameters).get("directory", "").rstrip("/") for one in shares
    }
    if mount.point not in directories:
        yield Finding(
            CHECK, ERROR,
            f"{place.what} {path} lies on a disk ({escape(mount.kind)} on {escape(mount.source)}) "
            "that no Filesystem resource mounts",
            "either the disk is this node's own, and the locks on it exclude nobody, or two nodes "
            "mount it at once, which destroys it",
            pcs="pcs resource create mailman-share ocf:heartbeat:Filesystem "
                f"device={escape(mount.source)} directory={escape(mount.point)} "
                f"fstype={escape(mount.kind)}",
            crm="crm configure primitive mailman-share Filesystem params "
                f"device={escape(mount.source)} directory={escape(mount.point)} "
                f"fstype={escape(mount.kind)}",
        )


def _nfs_options(
    options: frozenset[str], where: str, resource: Resource | None
) -> Iterator[Finding]:
    change = _change(resource)
    soft = sorted(options & {"soft", "softerr"})
    if soft:
        yield Finding(CHECK, ERROR, f"{where} with the option {soft[0]}", _SOFT, **change)
    if not options & {"noac", "lookupcache=none"}:
        yield Finding(
            CHECK, WARNING, f"{where} without lookupcache=none (or noac)", _STALE, **change
        )


def _change(resource: Resource | None) -> dict[str, str]:
    wanted = "hard,lookupcache=none"
    if resource is None:
        return {"mend": f"in /etc/fstab: options {wanted}; then mount it anew, Mailman stopped"}
    name = escape(resource.id)
    kept = [
        escape(one) for one in
        dict(resource.primitive.parameters).get("options", "").replace(" ", "").split(",")
        if one and one not in ("soft", "softerr", "hard") and not one.startswith("lookupcache=")
    ]
    options = ",".join([wanted, *kept])
    return {
        "pcs": f"pcs resource update {name} options={options}",
        "crm": f"crm resource param {name} set options {options}",
    }


def mounted_outside(seen: Observation) -> Iterator[Finding]:
    """A note where the share is no resource of the cluster."""
    if seen.configuration is None or not seen.places or share_resources(seen):
        return
    mount = seen.places[0].mount
    if mount is not None and mount.kind in mounts.SHARED:
        yield Finding(
            CHECK, NOTE,
            f"{escape(mount.point)} is mounted by the node itself, not by the cluster",
            "the cluster does not notice when the mount is lost, and does not wait for it at boot: "
            "Mailman's start is refused until it is there",
            "make it a Filesystem resource, before the janitor and Mailman (crm-examples/)",
        )
