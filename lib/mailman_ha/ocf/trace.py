"""OCF_TRACE_RA: write down which functions of ours were called, with what, and what came back.

The counterpart of the shell agents' `set -x`, with the same switches and the same places.
"""

from __future__ import annotations

import os
import sys
import time

from mailman_ha.ocf.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType, FrameType
    from typing import Any

    from mailman_ha.ocf.log import Log

_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLUMBING = ("record.py", "escape.py", "values.py", "environment.py", "trace.py")
_NOT_SHOWN = frozenset(os.path.join(_LIBRARY, "ocf", name) for name in _PLUMBING)
_SHOWN_CALLS = 100
_SHOWN_CHARACTERS = 400


def start_trace(
    environ: Mapping[str, str], agent_name: str, action: str, log: Log, agent_directory: str
) -> None:
    """Trace from here on.  Where the trace cannot be written, say so in the log and go on."""
    file = _destination(environ, agent_name, action, log)
    if file is not None:
        _Trace(file, environ, (_LIBRARY + os.sep, agent_directory + os.sep)).begin()


def stop_trace() -> None:
    """Trace no further."""
    sys.settrace(None)


def default_trace_file(environ: Mapping[str, str], agent_name: str, action: str) -> str:
    """Where the trace goes if no place is given: VARLIB/trace_ra/TYPE/ID.ACTION.TIME."""
    state = environ.get("HA_VARLIB") or "/var/lib/heartbeat"
    directory = environ.get("OCF_RESKEY_trace_dir") or state + "/trace_ra"
    resource_type = environ.get("OCF_RESOURCE_TYPE") or agent_name
    resource = environ.get("OCF_RESOURCE_INSTANCE") or "default"
    stamp = time.strftime("%Y-%m-%d.%H:%M:%S")
    return f"{directory}/{resource_type}/{resource}.{action}.{stamp}"


def _destination(environ: Mapping[str, str], agent_name: str, action: str, log: Log) -> int | None:
    asked = environ.get("OCF_TRACE_FILE", "")
    if asked in ("3", "4", "5", "6", "7", "8", "9"):
        try:
            os.fstat(int(asked))
            return int(asked)
        except OSError:
            log.warning(f"no trace: OCF_TRACE_FILE={asked}, but file descriptor {asked} is closed")
            return None
    path = asked
    if not (asked.startswith("/") and "/" in asked[1:]):
        if asked:
            log.warning(
                f"OCF_TRACE_FILE is '{escape(asked)}' but must be a file descriptor from 3 to 9"
                " or an absolute path; tracing to the usual place"
            )
        if os.isatty(0):
            return 2
        path = default_trace_file(environ, agent_name, action)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(path, flags, 0o600)
    except OSError as error:
        log.warning(f"no trace: cannot write {escape(path)}: {error.strerror}")
        return None


class _Trace:
    """A trace in progress: a line for each call, return and exception in this project's code.

    A function called more than a hundred times is not shown further, so that a loop over a large
    directory does not eat the time of the action.
    """

    def __init__(self, file: int, environ: Mapping[str, str], places: tuple[str, ...]) -> None:
        self._file = file
        self._environ = environ
        self._places = places
        self._calls: dict[CodeType, int] = {}

    def begin(self) -> None:
        for name in sorted(self._environ):
            if name.startswith(("OCF_", "HA_", "PCMK_")):
                self._write(f"env: {escape(name)}={escape(self._environ[name])}")
        sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        path = code.co_filename
        if not path.startswith(self._places) or path in _NOT_SHOWN:
            return None
        count = self._calls[code] = self._calls.get(code, 0) + 1
        if count > _SHOWN_CALLS:
            return None
        values = frame.f_locals
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        shown = ", ".join(f"{name}={_shown(values[name])}" for name in arguments if name in values)
        self._note(frame, f"({shown})" + (" [last one shown]" if count == _SHOWN_CALLS else ""))
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._note(frame, f"-> {_shown(argument)}")
        elif event == "exception":
            self._note(frame, f"raises {argument[0].__name__}: {_shown(argument[1])}")
        return self._on_event

    def _note(self, frame: FrameType, what: str) -> None:
        place = (
            f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}:{frame.f_lineno}"
        )
        self._write(f"{time.strftime('%H:%M:%S')}: {place}: {what}")

    def _write(self, line: str) -> None:
        try:
            os.write(self._file, b"+ " + line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            sys.settrace(None)


def _shown(value: object) -> str:
    try:
        return escape(repr(value), _SHOWN_CHARACTERS)
    except Exception as error:
        return f"<{type(value).__name__}, not shown: {type(error).__name__}>"
