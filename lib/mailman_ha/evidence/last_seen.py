"""Whether what an agent saw last is still as it was: a process, and its claim file.

That is all a light monitor looks at. It runs every few seconds on every node, so this module
stands on `posix` alone: `os` would cost it a tenth of starting Python, and so would records.
"""

import posix
import time

from mailman_ha.evidence.user_identity import ActingAs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.deadline import Deadline

#: Clock ticks in a second.
TICKS = posix.sysconf("SC_CLK_TCK")

#: States in which a process no longer runs: zombie, dead, and "dead" as older kernels write it.
ENDED = b"ZXx"

# The type in a file's mode, and that of a regular file: S_IFMT and S_IFREG of <sys/stat.h>.
_TYPE = 0o170000
_REGULAR = 0o100000


def stat_fields(pid: int) -> list[bytes]:
    """What /proc/PID/stat says after the command's name, beginning with the state (field 3 in
    proc(5)); empty where there is no such process."""
    try:
        file = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            line = posix.read(file, 4096)
        finally:
            posix.close(file)
    except OSError:
        return []
    # The command's name stands in parentheses and may itself hold any character.
    fields = line[line.rfind(b")") + 2 :].split()
    return fields if len(fields) >= 20 else []


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process with this pid and this start (clock ticks since boot) still runs; a
    zombie does not."""
    fields = stat_fields(pid)
    return bool(fields) and int(fields[19]) == started_ticks and fields[0] not in ENDED


def running_since(pid: int) -> "float | None":
    """When the process started, in seconds since the epoch by the clock as it is set now; None
    where there is no such process, or only a zombie."""
    fields = stat_fields(pid)
    if not fields or fields[0] in ENDED:
        return None
    return booted_at() + int(fields[19]) / TICKS


def booted_at() -> float:
    """When this host booted, in seconds since the epoch by the clock as it is set now.

    The two clocks are read one after the other; a pause between the two readings would look like
    a clock that was set, so of a few tries the quickest counts.
    """
    quickest = booted = 0.0
    for _ in range(5):
        before = time.time()
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        took = time.time() - before
        if not booted or 0 <= took < quickest:
            quickest, booted = took, before + took / 2 - since_boot
        if 0 <= quickest < 0.0001:
            break
    return booted


def holds_to_the_end(
    claim: str, inode: int, uid: int, gid: int, deadline: "Deadline"
) -> bool:
    """A light monitor's last look: `still_holds`, as the user `uid`, with the watchdog on duty.

    After True the process stays that user, for it has nothing more to do (see ActingAs.keep).
    """
    deadline.doing(f"looking at the claim file {claim}")
    with ActingAs(uid, gid) as acting:
        deadline.watch()
        if not still_holds(claim, inode):
            return False
        acting.keep()
    return True


def still_holds(claim: str, inode: int) -> bool:
    """Whether the claim file at the path `claim` is still `inode` with two links.

    Ownership is asked of the holder's own claim file, opened and fstat'ed (as Mailman's user, who
    the caller is). That is right at once over NFS, where the lock file's name may be stale for
    45 s (facts, section 6), if the directory is opened first: a release moves lock and claim, and
    an NFS client asks only then whether the claim's name is still there.

    A claim on a file system that has become read-only (as ext4 does after an error) is no use to
    its holder, who can neither refresh it nor queue a message; the full monitor says so.
    """
    try:
        directory = claim.rpartition("/")[0]
        posix.close(posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC))
        file = posix.open(
            claim, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
        )
        try:
            status = posix.fstat(file)
            if posix.fstatvfs(file).f_flag & posix.ST_RDONLY:
                return False
        finally:
            posix.close(file)
    except OSError:
        return False
    return (
        status.st_mode & _TYPE == _REGULAR and status.st_ino == inode and status.st_nlink == 2
    )
