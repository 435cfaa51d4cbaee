"""Taking, keeping and giving up a lock by Mailman's own hard-link protocol.

Used for locks of this suite (the guard of :mod:`.release`, and claims on slices). The protocol
holds over NFS (facts, section 6): the winner is who links its claim file to the lock's name, and
a holder knows that it holds by its *own claim file*: open, fstat, two links. The lock file's
name is never trusted for that, since an NFS client may see a stale one for 45 s; the claim's name
only after the directory was opened anew, for a release moves lock and claim and keeps the links.
"""

from __future__ import annotations

import errno
import os
import time

from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import grammar
from mailman_ha.locks.directory import is_gone
from mailman_ha.ocf.record import record

#: Mailman breaks a lock this long after its expiry (seconds; facts, section 2: CLOCK_SLOP).
CLOCK_SLOP = 10.0

#: How long to wait between two tries at a lock that another holds (seconds).
POLL = 0.05


class NotHeldError(Exception):
    """The lock is not ours (any more); the text says whose it is as far as that can be seen."""


@record
class Holding:
    """A lock that this process holds: where it is and by which claim file."""

    directory: int
    lock_name: str
    claim_name: str
    inode: int
    lifetime: float

    def is_ours(self) -> bool:
        """Whether the lock is still held by our claim file (asks the file, not its name)."""
        try:
            lock_directory.look_up_anew(self.directory)
            seen = lock_directory.inspect(self.directory, self.claim_name)
        except OSError:
            return False
        return seen.inode == self.inode and seen.links == 2

    def refresh(self) -> None:
        """Push the expiry one lifetime ahead. Raises NotHeldError where the lock was lost."""
        if not self.is_ours():
            raise NotHeldError(f"{self.lock_name} was taken from {self.claim_name}")
        expiry = time.time() + self.lifetime
        os.utime(self.claim_name, (expiry, expiry), dir_fd=self.directory, follow_symlinks=False)

    def give_up(self) -> None:
        """Unlink the lock, then the claim; never another's lock."""
        try:
            # As Mailman does it: touched first, so that nobody who finds it expired breaks it
            # between the look and the unlink, and that unlink takes the next holder's lock.
            self.refresh()
            if self.is_ours():
                os.unlink(self.lock_name, dir_fd=self.directory)
        except NotHeldError:
            pass
        except OSError as error:
            if not is_gone(error):  # broken in between: then there is nothing to unlink
                raise
        finally:
            _remove_claim(self.directory, self.claim_name)


def take(
    directory: int,
    path: str,
    lock_name: str,
    host: str,
    lifetime: float,
    wait: float,
    format: str = grammar.FORMAT_3,
    breaks_expired: bool = True,
    pid: int | None = None,
) -> Holding:
    """Take `lock_name` in the directory open as `directory` (whose absolute path is `path`).

    `lifetime` and `wait` are in seconds; the claim file is named as Mailman `format` names one.
    An expired lock is broken as Mailman breaks one, unless `breaks_expired` is False. Raises
    NotHeldError when the lock is still another's after `wait`, OSError where the directory does
    not take files. `pid` is for a lock that is taken in the name of another process of this host,
    which then holds it until somebody finds that process gone.
    """
    claim_name = grammar.claim_name(
        format, lock_name, host, pid or os.getpid(), int.from_bytes(os.urandom(4), "big")
    )
    file = os.open(
        claim_name,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o660,
        dir_fd=directory,
    )
    content = os.fsencode(os.path.join(path, claim_name))
    holding = Holding(directory, lock_name, claim_name, 0, lifetime)
    try:
        try:
            holding = Holding(
                directory, lock_name, claim_name, os.fstat(file).st_ino, lifetime
            )
            if os.write(file, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
        _wait_for(holding, wait, breaks_expired)
    except BaseException:  # the caller gets no holding, so nobody else would give it up
        try:
            holding.give_up()
        except OSError:
            pass
        raise
    return holding


def _wait_for(holding: Holding, wait: float, breaks_expired: bool) -> None:
    """Try until the claim of `holding` has the lock. Raises NotHeldError after `wait` seconds."""
    directory, lock_name, claim_name = holding.directory, holding.lock_name, holding.claim_name
    give_up_at = time.monotonic() + wait
    while True:
        expiry = time.time() + holding.lifetime
        try:
            os.utime(claim_name, (expiry, expiry), dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if not is_gone(error):
                raise
            raise NotHeldError(f"{claim_name} was removed by who broke {lock_name}") from error
        try:
            os.link(
                claim_name, lock_name, src_dir_fd=directory, dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except OSError:
            # On a soft mount link() may fail and have taken effect: only the claim tells.
            pass
        if holding.is_ours():
            return
        if time.monotonic() >= give_up_at:
            raise NotHeldError(_holder_of(directory, lock_name))
        if not (breaks_expired and _break_if_expired(directory, lock_name, claim_name)):
            time.sleep(POLL)


def _break_if_expired(directory: int, lock_name: str, claim_name: str) -> bool:
    """Remove a lock whose expiry is CLOCK_SLOP past; True where there was something to remove.

    It is moved to a name made of our `claim_name` before it is removed: unlink(2) would take
    whatever lock has that name by then, also one that another breaker has just taken.
    """
    try:
        seen = lock_directory.inspect(directory, lock_name)
    except OSError as error:
        return is_gone(error)
    if time.time() <= seen.expires_at + CLOCK_SLOP:
        return False
    # Touch first, so that a second breaker no longer finds it expired.
    later = time.time() + CLOCK_SLOP
    broken = f"{claim_name}0"
    try:
        try:
            os.utime(lock_name, (later, later), dir_fd=directory, follow_symlinks=False)
        except PermissionError:
            pass  # a CGI's lock belongs to the web server's user; Mailman breaks it all the same
        if lock_directory.inspect(directory, lock_name).inode != seen.inode:
            return False
        os.rename(lock_name, broken, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        if not is_gone(error):
            raise
        return True
    if os.stat(broken, dir_fd=directory, follow_symlinks=False).st_ino != seen.inode:
        try:
            os.link(
                broken, lock_name, src_dir_fd=directory, dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except FileExistsError:
            pass
        finally:
            os.unlink(broken, dir_fd=directory)
        return False
    os.unlink(broken, dir_fd=directory)
    claim = seen.named_claim()
    if claim and claim.startswith((lock_name + "|", lock_name + ".")):
        _remove_claim(directory, claim)
    return True


def _remove_claim(directory: int, claim_name: str) -> None:
    try:
        os.unlink(claim_name, dir_fd=directory)
    except OSError as error:
        if not is_gone(error):
            raise


def _holder_of(directory: int, lock_name: str) -> str:
    try:
        seen = lock_directory.inspect(directory, lock_name)
    except OSError as error:
        return f"{lock_name} cannot be taken: {error.strerror}"
    return f"{lock_name} is held by {seen.named_claim() or 'a claim that names nobody'}"
