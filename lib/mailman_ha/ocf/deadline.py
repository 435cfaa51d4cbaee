"""The time an action has, and the watchdog that speaks up when the action cannot.

Pacemaker gives every action a timeout and ends the agent when it is over; what it shows then is
only "Timed Out".  So an agent ends before, and says what it was waiting for.  Light: a quick
monitor has a watchdog too, so `posix` is used where `os` would cost a millisecond.
"""

import _thread
import posix
import time

from mailman_ha.ocf.environment import exit_reason_line, meta_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ASKING_SECONDS = 20.0
ACTING_SECONDS = 60.0
_ASKING = ("monitor", "status", "validate-all", "meta-data", "usage")


def usual_timeout(action: str) -> float:
    """Seconds for an action nobody gave a timeout: 20 to look at something, 60 to change it."""
    return ASKING_SECONDS if action in _ASKING else ACTING_SECONDS


def margin(timeout: float) -> float:
    """Seconds before the timeout at which an action gives up, to end in good order.

    A tenth of the timeout, at least one second and at most two; never more than half.
    """
    return min(max(timeout / 10, 1.0), 2.0, timeout / 2)


class Deadline:
    """The moment by which an action must have given up, and what it is doing meanwhile.

    The action's own waits end at the deadline, a margin before the timeout; the watchdog strikes
    half a margin later, so that an action which can still speak is heard first.
    """

    def __init__(
        self, timeout: float, last_words: "Callable[[str], bytes] | None" = None
    ) -> None:
        """Start to count now.  `timeout` is in seconds.

        `last_words` makes of `lateness` what the watchdog writes; without it there is none.
        """
        self.timeout = timeout
        self._words = last_words
        self._started = time.monotonic()
        self._doing = ""
        self._at_expiry: list[Callable[[], object]] = []
        self._called_off: _thread.LockType | None = None
        self._last_word = _thread.allocate_lock()
        self._finished = False

    @classmethod
    def from_environment(
        cls, environ: "Mapping[str, str]", action: str, default: "float | None" = None
    ) -> "Deadline":
        """Take the timeout Pacemaker gives (CRM_meta_timeout, milliseconds); the last words are an
        exit reason.

        Without one, as by hand: `default` (seconds), or what is usual for the action.
        """
        given = meta_number(environ, "timeout")
        usual = usual_timeout(action) if default is None else default
        return cls(
            given / 1000 if given else usual, lambda reason: exit_reason_line(environ, reason)
        )

    def __repr__(self) -> str:
        return f"<Deadline of {self.timeout:g} s, {self.remaining():.1f} s left>"

    def allow(self, timeout: float) -> None:
        """Give the action more time: `timeout` seconds, counted from the same start."""
        self.timeout = max(timeout, self.timeout)

    def remaining(self) -> float:
        """Seconds until the deadline; 0.0 once it has passed."""
        ends = self._started + self.timeout - margin(self.timeout)
        return max(ends - time.monotonic(), 0.0)

    def passed(self) -> bool:
        """Whether the action must give up now."""
        return self.remaining() <= 0.0

    def check(self) -> None:
        """Refuse to go on, with ERR_GENERIC and `lateness`, once the deadline has passed."""
        if self.passed():
            from mailman_ha.ocf.codes import ERR_GENERIC
            from mailman_ha.ocf.outcome import Refusal

            raise Refusal(ERR_GENERIC, self.lateness())

    def sleep(self, seconds: float) -> bool:
        """Sleep, but never past the deadline.  Says whether there is time left afterwards."""
        time.sleep(max(min(seconds, self.remaining()), 0.0))
        return not self.passed()

    def doing(self, what: str) -> None:
        """Note what comes next, in words that follow "while": `reading the lock directory /x`."""
        if not what.isprintable():
            from mailman_ha.ocf.escape import one_line

            what = one_line(what)
        self._doing = what

    def activity(self) -> str:
        """What was last noted as being done; empty if nothing was."""
        return self._doing

    def lateness(self) -> str:
        """The reason of an action that ran out of time: how long, and what it was doing."""
        spent = time.monotonic() - self._started
        return (
            f"not done after {spent:.1f} s of the {self.timeout:g} s allowed"
            + (f", while {self._doing}" if self._doing else "")
            + "; find out what hangs there, or give the operation a longer timeout"
        )

    def at_expiry(self, act: "Callable[[], object]") -> "Callable[[], None]":
        """Have the watchdog call `act` before it ends the process: to kill a child, say.

        It runs in the watchdog's thread, must not block, and its errors are ignored.  Returns a
        function that takes it back.
        """
        self._at_expiry.append(act)

        def take_back() -> None:
            if act in self._at_expiry:
                self._at_expiry.remove(act)

        return take_back

    def watch(self) -> None:
        """Start the watchdog, if it has words; once is enough, a second call changes nothing.

        When the main thread has not called `finish` half a margin after the deadline, stuck in a
        system call as it may be, the watchdog writes its last words to stderr and ends the process
        with code 1.
        """
        if self._called_off is None and self._words is not None:
            self._called_off = _thread.allocate_lock()
            self._called_off.acquire()
            _thread.start_new_thread(self._strike_when_late, (self._called_off, self._words))

    def finish(self) -> None:
        """Call the watchdog off: from here on the last word is the caller's.

        If the watchdog has begun to speak, this call never returns: the process ends under it.
        """
        if not self._finished:
            self._last_word.acquire()
            self._finished = True
            if self._called_off is not None:
                self._called_off.release()

    def _strike_when_late(
        self, called_off: _thread.LockType, last_words: "Callable[[str], bytes]"
    ) -> None:
        while True:
            ends = self._started + self.timeout - margin(self.timeout) / 2
            left = ends - time.monotonic()
            if left <= 0:
                break
            if called_off.acquire(True, min(left, 3600.0)):
                return
        if not self._last_word.acquire(False):
            return
        for act in tuple(self._at_expiry):
            try:
                act()
            except BaseException:  # the process is about to end; nothing may keep it
                pass
        try:
            posix.write(2, last_words(self.lateness()))
        finally:
            posix._exit(1)
