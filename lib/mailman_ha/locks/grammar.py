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

from __future__ import annotations

from mailman_ha.ocf.record import record

FORMAT_21 = "2.1"
FORMAT_3 = "3"

#: Linux never hands out a greater process id (PID_MAX_LIMIT).
GREATEST_PID = 1 << 22

#: Names of 2.1 locks in lock_dir that do not end in ``.lock`` (the master's is asked from Mailman).
PLAIN_LOCKS_21 = ("creator",)
#: Names of Mailman 3 locks in lock_dir that end in neither ``.lck`` nor ``.lock``.
PLAIN_LOCKS_3 = ("mta",)

_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


@record
class Owner:
    """One reading of who made a claim: a host name as Mailman wrote it, and a process id there."""

    host: str
    pid: int


def is_number(text: str) -> bool:
    """Whether `text` is a decimal number as Mailman writes one: ASCII digits, no leading zero."""
    return text.isascii() and text.isdigit() and (text[0] != "0" or text == "0")


def _owner(host: str, pid: str) -> Owner | None:
    if not host or not is_number(pid) or len(pid) > 7 or not 0 < int(pid) <= GREATEST_PID:
        return None
    if len(host) > 255 or not _HOST_CHARACTERS.issuperset(host):
        return None
    return Owner(host, int(pid))


def owners_of_claim(format: str, lock_name: str, claim_name: str) -> tuple[Owner, ...]:
    """Every reading of `claim_name` as a claim on `lock_name`; empty where it is none.

    In 2.1 ``L.a.5.12`` is host ``a``, pid 5, counter 12 and also host ``a.5``, pid 12: both come
    back, the one with a counter first.
    """
    if format == FORMAT_3:
        head, *fields = claim_name.rsplit("|", 3)
        if head != lock_name or len(fields) != 3 or not is_number(fields[2]):
            return ()
        owner = _owner(fields[0], fields[1])
        return (owner,) if owner else ()
    if not claim_name.startswith(lock_name + "."):
        return ()
    rest = claim_name[len(lock_name) + 1 :]
    readings = []
    with_counter = rest.rsplit(".", 2)
    if len(with_counter) == 3 and is_number(with_counter[2]):
        readings.append(_owner(with_counter[0], with_counter[1]))
    handed_over = rest.rsplit(".", 1)
    if len(handed_over) == 2:
        readings.append(_owner(handed_over[0], handed_over[1]))
    return tuple(reading for reading in readings if reading is not None)


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
