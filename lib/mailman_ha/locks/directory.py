"""Reading a lock directory in one pass, and looking at one lock closely.

:func:`read` lists the directory once and pairs lock files with their claim files by the inode
numbers in the listing, without a stat for each: a directory of 100,000 files costs one listing.
:func:`inspect` then opens the few files whose times and content matter to a verdict.

Everything in a lock directory is hostile (CGI users write there): no link is followed, no FIFO
opened to block, nothing read beyond :data:`CONTENT_LIMIT` bytes, and a path found *in* a file is
never opened.
"""

import posix as os  # a light monitor comes here, to which `os` would be dear (ocf.runtime)
import sys

from mailman_ha.locks import grammar
from mailman_ha.locks.grammar import Owner
from mailman_ha.ocf.record import record

#: A claim's content is one path; anything longer is no claim (bytes, PATH_MAX).
CONTENT_LIMIT = 4096

#: The directory inside lock_dir into which released files are moved (see `release`).
QUARANTINE = "mailman-ha.quarantine"

# The type in a file's mode, and that of a regular file: S_IFMT and S_IFREG of <sys/stat.h>.
_TYPE = 0o170000
_REGULAR = 0o100000

#: How a file is opened of which nobody knows what it is.
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_HARMLESS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@record
class LockFile:
    """One lock: its file name and inode, and the claim files that share the inode.

    `claims` is empty where the lock file stands alone (a crash while breaking, or a claim removed
    by hand). `owners` are all readings of all claims; nobody may be left out when judging.
    """

    name: str
    inode: int
    claims: tuple[str, ...] = ()
    owners: tuple[Owner, ...] = ()

    # Written out, here and below: of these a sweep makes as many as there are files.

    def __init__(
        self, name: str, inode: int, claims: tuple[str, ...] = (), owners: tuple[Owner, ...] = ()
    ) -> None:
        fields = self.__dict__
        fields["name"] = name
        fields["inode"] = inode
        fields["claims"] = claims
        fields["owners"] = owners


@record
class OrphanClaim:
    """A claim file that shares its inode with no lock file: a waiter's, alive or dead.

    `readings` holds each (lock name, owners) that its name may mean. `twins` are the other claims
    on the same inode: whoever broke a lock and died has left it under a claim's name of its own.
    """

    name: str
    inode: int
    readings: tuple[tuple[str, tuple[Owner, ...]], ...]
    twins: "tuple[OrphanClaim, ...]" = ()

    def __init__(
        self, name: str, inode: int, readings: tuple[tuple[str, tuple[Owner, ...]], ...],
        twins: "tuple[OrphanClaim, ...]" = (),
    ) -> None:
        fields = self.__dict__
        fields["name"] = name
        fields["inode"] = inode
        fields["readings"] = readings
        fields["twins"] = twins

    def claimants(self) -> tuple[tuple[Owner, ...], ...]:
        """Of each name on the inode all owners that any reading names."""
        if not self.twins and len(self.readings) == 1:
            return (self.readings[0][1],)
        own = tuple(owner for _, owners in self.readings for owner in owners)
        return (own, *(owners for twin in self.twins for owners in twin.claimants()))

    def owners(self) -> tuple[Owner, ...]:
        """All owners that any reading of any name names."""
        claimants = self.claimants()
        if len(claimants) == 1:
            return claimants[0]
        return tuple(owner for owners in claimants for owner in owners)


@record
class LockDirectory:
    """What one listing of a lock directory showed.

    `ignored` counts entries that are no locks (directories, links, strangers' files, NFS's
    ``.nfs…`` names); `odd` names those that stand where a lock should but are no regular file.
    """

    path: str
    locks: tuple[LockFile, ...] = ()
    orphans: tuple[OrphanClaim, ...] = ()
    odd: tuple[str, ...] = ()
    ignored: int = 0

    def lock(self, name: str) -> "LockFile | None":
        """The lock called `name`, if the listing held it."""
        for lock in self.locks:
            if lock.name == name:
                return lock
        return None


def read(path: str, format: str, master_lock: str) -> LockDirectory:
    """List `path` once and pair what is there.

    `format` is :data:`grammar.FORMAT_21` or :data:`grammar.FORMAT_3`; `master_lock` the name of
    the master's lock file in it. Raises OSError where the directory cannot be listed.
    """
    names_of: dict[int, str | list[str]] = {}
    odd = []
    ignored = 0
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if not entry.is_file(follow_symlinks=False):
                if grammar.is_lock_name(format, name, master_lock):
                    odd.append(name)
                else:
                    ignored += 1
                continue
            if name[0] == "." and name.startswith(".nfs"):
                ignored += 1
                continue
            inode = entry.inode()
            known = names_of.setdefault(inode, name)
            if known is name:
                continue
            if isinstance(known, str):
                names_of[inode] = [known, name]
            else:
                known.append(name)

    locks = []
    orphans = []
    for inode, names in names_of.items():
        if isinstance(names, str):
            readings = grammar.locks_claimed_by(format, names, master_lock)
            if readings:
                orphans.append(OrphanClaim(names, inode, readings))
            elif grammar.is_lock_name(format, names, master_lock):
                locks.append(LockFile(names, inode))
            else:
                ignored += 1
            continue
        paired = _pair(format, inode, names, master_lock)
        if paired is not None:
            locks.append(paired)
            continue
        # Several names on one inode with no lock among them.
        claims = []
        for name in names:
            readings = grammar.locks_claimed_by(format, name, master_lock)
            if readings:
                claims.append(OrphanClaim(name, inode, readings))
            else:
                ignored += 1
        if claims:
            first = claims[0]
            orphans.append(OrphanClaim(first.name, inode, first.readings, tuple(claims[1:])))
    return LockDirectory(path, tuple(locks), tuple(orphans), tuple(odd), ignored)


def _pair(format: str, inode: int, names: list[str], master_lock: str) -> "LockFile | None":
    """Which of `names`, all on one inode, is the lock and which are its claims.

    None where no name is a lock's. Names that are neither stay out of `claims`, which
    shows later as a link count that does not add up.
    """
    if len(names) == 2:
        # So it is nearly always: a lock and its one claim.
        lock, claim = names if len(names[0]) <= len(names[1]) else reversed(names)
        if grammar.is_lock_name(format, lock, master_lock):
            readings = grammar.owners_of_claim(format, lock, claim)
            return LockFile(lock, inode, (claim,) if readings else (), readings)
    names.sort(key=len)
    lock_name = None
    for name in names:
        if grammar.is_lock_name(format, name, master_lock):
            lock_name = name
            break
    if lock_name is None:
        # In 2.1 the claim file tells the lock's name where the lock's own does not (bin/arch).
        if not any(grammar.owners_of_claim(format, names[0], name) for name in names[1:]):
            return None
        lock_name = names[0]
    claims = []
    owners: list[Owner] = []
    for name in names:
        found = grammar.owners_of_claim(format, lock_name, name)
        if found:
            claims.append(name)
            owners.extend(found)
    return LockFile(lock_name, inode, tuple(claims), tuple(owners))


@record
class Inspection:
    """One lock or claim file as it stood when it was opened.

    `expires_at` is the file's mtime and `changed_at` its ctime (seconds, by the file server's
    clock): the first is the expiry that the holder set, the second the last link or touch
    (facts, section 2). `content` is what the file holds, at most CONTENT_LIMIT bytes; `whole` is
    False where it held more.
    """

    name: str
    inode: int
    device: int
    links: int
    expires_ns: int
    changed_ns: int
    content: bytes
    whole: bool

    def __init__(
        self, name: str, inode: int, device: int, links: int, expires_ns: int, changed_ns: int,
        content: bytes, whole: bool,
    ) -> None:
        fields = self.__dict__
        fields["name"] = name
        fields["inode"] = inode
        fields["device"] = device
        fields["links"] = links
        fields["expires_ns"] = expires_ns
        fields["changed_ns"] = changed_ns
        fields["content"] = content
        fields["whole"] = whole

    @property
    def expires_at(self) -> float:
        return self.expires_ns / 1e9

    @property
    def changed_at(self) -> float:
        return self.changed_ns / 1e9

    def named_claim(self) -> "str | None":
        """The base name of the claim file that the content names; None where it names none.

        Mailman itself looks at the base name only (contract 1.3, state L).
        """
        content = self.content
        if not self.whole or b"\0" in content or b"\n" in content:
            return None
        return content[content.rfind(b"/") + 1 :].decode(_ENCODING, _ERRORS) or None


def open_lock_directory(path: str) -> int:
    """A file descriptor for lock_dir, against which all further names are looked up."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def look_up_anew(directory: int) -> None:
    """Let the next look at a name in the open `directory` find what the server has under it.

    To open a directory makes an NFS client ask whether it has changed. Without that, a name that
    another host has moved away leads to the same file, with all its links, for half a minute.
    Raises OSError where the directory is gone.
    """
    os.close(
        os.open(f"/proc/self/fd/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    )


def inspect(directory: int, name: str) -> Inspection:
    """Open `name` in the directory descriptor `directory` and say what it is.

    Opening also makes an NFS client ask the server for the attributes of this very inode.
    Raises OSError: ENOENT or ESTALE where it is gone, ELOOP for a link, EINVAL for anything
    that is no regular file, EACCES where it may not be read.
    """
    file = os.open(name, _HARMLESS, dir_fd=directory)
    try:
        status = os.fstat(file)
        if status.st_mode & _TYPE != _REGULAR:
            import errno

            raise OSError(errno.EINVAL, "not a regular file", name)
        content = os.read(file, min(status.st_size, CONTENT_LIMIT) + 1)
    finally:
        os.close(file)
    whole = len(content) <= CONTENT_LIMIT
    return Inspection(
        name, status.st_ino, status.st_dev, status.st_nlink, status.st_mtime_ns,
        status.st_ctime_ns, content if whole else content[:CONTENT_LIMIT], whole,
    )


def is_gone(error: OSError) -> bool:
    """Whether `error` means that the file is no longer there (ESTALE too: facts, section 6)."""
    import errno

    return error.errno in (errno.ENOENT, errno.ESTALE)
