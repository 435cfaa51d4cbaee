"""The front door of every agent.

Pacemaker runs a monitor every few seconds on every node, nearly always to learn that all is well.
So `run` first lets the agent's `quick` module take a look, and imports the rest only if that does
not settle it.  Nothing is imported here but what such a look needs: no `os`, no declaration, no
log.
"""

import gc
import posix
import sys

from mailman_ha.ocf import environment
from mailman_ha.ocf.deadline import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn


def main(agent_name: str, module_name: str) -> "NoReturn":
    """Be the agent: run the action of the command line and end the process with its exit code.

    The process ends without the interpreter's own clean-up, which costs a fifth of a quick
    monitor and has nothing to clean: files are closed and the streams flushed by then.  Nor does it
    look for garbage meanwhile: it is over before any matters, and with 100,000 locks in memory each
    look costs more than the one before.
    """
    gc.disable()
    code = run(agent_name, module_name, sys.argv, process_environment())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError):
            pass
    posix._exit(code)


def process_environment() -> dict[str, str]:
    """The environment as text, as `os.environ` holds it, without the cost of importing `os`."""
    encoding = sys.getfilesystemencoding()
    return {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }


def run(
    agent_name: str, module_name: str, argv: "Sequence[str]", environ: "Mapping[str, str]"
) -> int:
    """Carry out the action `argv[1]` names and return its exit code; further words are ignored.

    `module_name` is the agent's package.  Its modules: `declaration` (DECLARATION), `actions` (a
    function for each action: `start(call) -> Outcome`, `reload_agent`, ...), and, if it wants to
    be asked first, `quick`: `quick_monitor(environ, deadline) -> bool`.

    A quick monitor's True is final: all is well, and the process may be left as Mailman's user.
    With False or an exception the action is carried out in full, as only that can say what is
    wrong.  It starts the watchdog itself, before it touches what may hang, but not before it has
    become Mailman's user: with a second thread that costs a twentieth of a bare Python.
    """
    action = argv[1] if len(argv) > 1 else ""
    deadline = Deadline.from_environment(environ, action)
    if _quick_look_will_do(action, environ) and _quick_look(module_name, environ, deadline):
        deadline.finish()
        return 0
    deadline.watch()
    from mailman_ha.ocf.dispatch import dispatch

    return dispatch(agent_name, module_name, action, environ, deadline)


def _quick_look_will_do(action: str, environ: "Mapping[str, str]") -> bool:
    return (
        action == "monitor"
        and not environment.is_probe(environ, action)
        and environment.check_level(environ) == 0
        and not environment.tracing(environ)
    )


def _quick_look(module_name: str, environ: "Mapping[str, str]", deadline: Deadline) -> bool:
    try:
        quick = __import__(module_name + ".quick", None, None, ("quick_monitor",))
        return quick.quick_monitor(environ, deadline) is True
    except Exception:
        return False
