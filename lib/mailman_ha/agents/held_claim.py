"""Whether a lock is still held by one claim file: the light monitors' one look at the share."""

from __future__ import annotations

import os
import stat

from mailman_ha.evidence.user_identity import ActingAs


def still_holds(claim: str, inode: int, uid: int, gid: int) -> bool:
    """Whether the claim file at the path `claim` is still `inode` with two links.

    Ownership is asked of the holder's own claim file, opened and fstat'ed as Mailman's user. That
    is right at once over NFS, where the lock file's name may be stale for 45 s (facts, section 6),
    if the directory is opened first: a release moves lock and claim, and an NFS client asks only
    then whether the claim's name is still there.

    A claim on a file system that has become read-only (as ext4 does after an error) is no use to
    its holder, who can neither refresh it nor queue a message; the full monitor says so.
    """
    try:
        with ActingAs(uid, gid):
            directory = os.path.dirname(claim)
            os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            file = os.open(claim, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(file)
                if os.fstatvfs(file).f_flag & os.ST_RDONLY:
                    return False
            finally:
                os.close(file)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_ino == inode and status.st_nlink == 2
