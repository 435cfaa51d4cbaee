"""Log as the shell agents do, so that one place shows all agents of a cluster.

The form and the destinations are those of ocf_log in resource-agents' ocf-shellfuncs; the tests
compare the two.  Left out on purpose is its detour through heartbeat's log daemon (HA_LOGD).
"""

from __future__ import annotations

import os
import time

from mailman_ha.ocf.escape import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SYSLOG_LEVELS = {"ERROR": "ERR", "WARNING": "WARNING", "INFO": "INFO", "DEBUG": "DEBUG"}


class Log:
    """Where an action's messages go: decided once, by the environment.

    HA_LOGFACILITY names a syslog facility (`none` and nothing mean no syslog), HA_LOGFILE a file,
    HA_DEBUGLOG a second file that gets everything; with neither facility nor file it is stderr.
    Debug messages are dropped unless HA_debug is set and not 0, and never reach HA_LOGFILE.
    Where stdin is a terminal, a person is there to read, and all goes to stderr.  A facility that
    does not exist is taken for `daemon`.  A log that cannot be written is passed over: logging
    never decides how an action ends.
    """

    def __init__(
        self, environ: Mapping[str, str], agent_name: str = "mailman-ha", plain: bool = False
    ) -> None:
        """Decide where messages go.

        With `plain`, stderr gets `LEVEL: text` and no date, as crmsh reads it of validate-all.
        """
        instance = environ.get("OCF_RESOURCE_INSTANCE")
        usual_tag = f"{agent_name}({instance})" if instance else agent_name
        given_tag = environ.get("HA_LOGTAG")
        facility = environ.get("HA_LOGFACILITY") or ""
        self._tag = given_tag or f"{usual_tag}[{os.getpid()}]"
        self._terminal = _stdin_is_a_terminal()
        self._terminal_prefix = f"{given_tag}: " if given_tag else ""
        self._facility = "" if facility == "none" else facility
        self._file = environ.get("HA_LOGFILE") or ""
        self._debug_file = environ.get("HA_DEBUGLOG") or "/dev/null"
        self._date_format = environ.get("HA_DATEFMT") or "%b %d %T "
        self._plain = plain
        self.debugging = environ.get("HA_debug", "0") not in ("", "0")

    def error(self, text: str) -> None:
        """What made an action fail, or will unless somebody acts."""
        self._log("ERROR", text)

    def warning(self, text: str) -> None:
        """What works now but wants somebody's attention."""
        self._log("WARNING", text)

    def info(self, text: str) -> None:
        """What the agent did and why."""
        self._log("INFO", text)

    def debug(self, text: str) -> None:
        """What helps to find a defect; kept only with HA_debug."""
        if self.debugging:
            self._log("DEBUG", text)

    def exit_reason(self, text: str) -> None:
        """Keep an exit reason in the logs; stderr is left to the exit reason itself."""
        self._log("ERROR", text, stderr_too=False)

    def _log(self, level: str, text: str, stderr_too: bool = True) -> None:
        line = f"{level}: {one_line(text)}"
        if self._terminal:
            if stderr_too:
                _write(2, self._terminal_prefix + line)
            return
        if self._facility:
            self._to_syslog(level, line)
        if level == "DEBUG":
            self._append(self._debug_file, f"{self._tag}:\t{self._date()}{line}")
            return
        if self._file:
            self._append(self._file, f"{self._date()} {self._tag}:    {line}")
        if stderr_too and (self._plain or not (self._facility or self._file)):
            _write(2, line if self._plain else self._date() + line)
        if self._debug_file != self._file:
            self._append(self._debug_file, f"{self._tag}:\t{self._date()}{line}")

    def _date(self) -> str:
        date = time.strftime(self._date_format)
        return " ".join(date.split()) + (" " if date[-1:].isspace() else "")

    def _to_syslog(self, level: str, line: str) -> None:
        import syslog

        facility = getattr(syslog, "LOG_" + self._facility.upper(), None)
        priority: int = getattr(syslog, "LOG_" + _SYSLOG_LEVELS[level])
        if not isinstance(facility, int):
            facility = syslog.LOG_DAEMON
        syslog.openlog(self._tag, 0, facility)
        syslog.syslog(priority, line)
        syslog.closelog()

    @staticmethod
    def _append(path: str, line: str) -> None:
        if path == "/dev/null":
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
        try:
            file = os.open(path, flags, 0o666)
        except OSError:
            return
        try:
            _write(file, line)
        finally:
            os.close(file)


def _write(file: int, line: str) -> None:
    try:
        os.write(file, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


def _stdin_is_a_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
