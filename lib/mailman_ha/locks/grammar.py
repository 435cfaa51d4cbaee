"""The names of claim files: which lock they claim, and for which host and process.

A claim file's name is the only place where an owner is written that no other program can have
changed without also breaking the link to the lock file, so everything starts here (facts,
section 2):

=========  ===========================================  =========================
format     claim file of lock L                         after mailmanctl's fork
=========  ===========================================  =========================
``2.1``    ``L.HOST.PID.COUNTER``                       ``L.HOST.PID``
``3``      ``L|HOST|PID|RANDOM``                        (no hand-over)
=========  ===========================================  =========================

HOST may hold dots and all-digit labels, so a 2.1 name can be read in two ways. Every function
here returns *all* readings; whoever judges must find each of them dead.
"""

from mailman_ha.ocf.record import record

FORMAT_21 = "2.1"
FORMAT_3 = "3"

#: Linux never hands out a greater process id (PID_MAX_LIMIT).
GREATEST_PID = 1 << 22

#: Names of 2.1 locks in lock_dir that do not end in ``.lock`` (the master's is asked from Mailman).
PLAIN_LOCKS_21 = ("creator",)
#: Names of Mailman 3 locks in lock_dir that end in neither ``.lck`` nor ``.lock``.
PLAIN_LOCKS_3 = ("mta",)

_HOST_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"


@record
class Owner:
    """One reading of who made a claim: a host name as Mailman wrote it, and a process id there."""

    host: str
    pid: int

    # Written out: a sweep of 100,000 claims makes twice as many, and compares and hashes them.

    def __init__(self, host: str, pid: int) -> None:
        fields = self.__dict__
        fields["host"] = host
        fields["pid"] = pid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self.host == other.host and self.pid == other.pid

    def __hash__(self) -> int:
        return hash((self.host, self.pid))


def is_number(text: str) -> bool:
    """Whether `text` is a decimal number as Mailman writes one: ASCII digits, no leading zero."""
    return text.isascii() and text.isdigit() and (text[0] != "0" or text == "0")


def _pid(text: str) -> int:
    """The process id that `text` is; 0 where it is none."""
    if not is_number(text) or len(text) > 7:
        return 0
    number = int(text)
    return number if number <= GREATEST_PID else 0


def _is_host(text: str) -> bool:
    """Whether `text` has a host name's characters only, and any."""
    return bool(text) and text.isascii() and not text.encode("ascii").translate(
        None, _HOST_CHARACTERS
    )


def owners_of_claim(format: str, lock_name: str, claim_name: str) -> tuple[Owner, ...]:
    """Every reading of `claim_name` as a claim on `lock_name`; empty where it is none.

    In 2.1 ``L.a.5.12`` is host ``a``, pid 5, counter 12 and also host ``a.5``, pid 12: both come
    back, the one with a counter first.
    """
    if format == FORMAT_3:
        head, *fields = claim_name.rsplit("|", 3)
        if head != lock_name or len(fields) != 3 or not is_number(fields[2]):
            return ()
        host, number = fields[0], _pid(fields[1])
        return (Owner(host, number),) if number and len(host) <= 255 and _is_host(host) else ()
    if not claim_name.startswith(lock_name + "."):
        return ()
    # Checked in place: a sweep comes here for every claim of a directory.
    head, _, last = claim_name[len(lock_name) + 1 :].rpartition(".")
    if not (last.isdigit() and last.isascii()) or (last[0] == "0" and last != "0"):
        return ()
    if not _is_host(head):
        return ()
    readings: tuple[Owner, ...] = ()
    # What begins a host's name is of its characters, too: one look is enough for both readings.
    host, _, pid = head.rpartition(".")
    if 0 < len(host) <= 255 and len(pid) < 8 and pid.isdigit() and pid[0] != "0":
        number = int(pid)
        if number <= GREATEST_PID:
            readings = (Owner(host, number),)
    if last != "0" and len(last) < 8 and len(head) <= 255:
        number = int(last)
        if number <= GREATEST_PID:
            readings = (*readings, Owner(head, number))
    return readings


def claim_name(format: str, lock_name: str, host: str, pid: int, serial: int) -> str:
    """The name of a claim file on `lock_name`; `serial` is 2.1's counter or 3's random number."""
    if format == FORMAT_3:
        return f"{lock_name}|{host}|{pid}|{serial}"
    return f"{lock_name}.{host}.{pid}.{serial}"


def is_lock_name(format: str, name: str, master_lock: str) -> bool:
    """Whether `name` is that of a lock file itself (not of a claim file) in a lock_dir."""
    if name == master_lock:
        return True
    if format == FORMAT_3:
        return "|" not in name and (name.endswith((".lck", ".lock")) or name in PLAIN_LOCKS_3)
    return name.endswith(".lock") or name in PLAIN_LOCKS_21


def locks_claimed_by(
    format: str, claim_name: str, master_lock: str
) -> tuple[tuple[str, tuple[Owner, ...]], ...]:
    """Every way to read `claim_name` alone: pairs of a lock's name and the owners it would name.

    Used for a claim file that shares its inode with no lock. A list may be called
    ``a.lock.b``, so in 2.1 each place where a lock's name can end is tried.
    """
    if format == FORMAT_3:
        lock_name = claim_name.rsplit("|", 3)[0]
        owners = owners_of_claim(format, lock_name, claim_name) if "|" in claim_name else ()
        return ((lock_name, owners),) if owners else ()
    found = []
    if claim_name.startswith(master_lock) or claim_name.startswith(PLAIN_LOCKS_21):
        for plain in (master_lock, *PLAIN_LOCKS_21):
            owners = owners_of_claim(format, plain, claim_name)
            if owners:
                found.append((plain, owners))
    end = claim_name.find(".lock.")
    while end >= 0:
        lock_name = claim_name[: end + len(".lock")]
        owners = owners_of_claim(format, lock_name, claim_name)
        if owners and lock_name != master_lock:
            found.append((lock_name, owners))
        end = claim_name.find(".lock.", end + 1)
    return tuple(found)
