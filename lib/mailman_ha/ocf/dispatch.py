"""Carry out an action in full: check the parameters, call the agent, say how it ended.

Here the promises of the OCF resource agent API are kept for every agent: meta-data and usage
without an environment, 3 for an unknown action, one exit reason as the last line on stderr, and
an exit code with a reason even where the agent itself has a defect.
"""

from __future__ import annotations

import os
import sys

from mailman_ha.ocf import codes, environment
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.ocf.log import Log
from mailman_ha.ocf.outcome import Outcome, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any

    from mailman_ha.ocf.deadline import Deadline
    from mailman_ha.ocf.declaration import AgentDeclaration, Examination
else:
    import _signal  # what `signal` wraps, without the cost of its enums

_USAGE = ("usage", "help", "--help", "-h")
_KNOWN_CODES = frozenset(range(10)) | {codes.DEGRADED, codes.DEGRADED_PROMOTED}


class Terminated(BaseException):
    """Somebody sent SIGTERM: the action ends, undoing what it has begun as it unwinds."""


def dispatch(
    agent_name: str,
    module_name: str,
    action: str,
    environ: Mapping[str, str],
    deadline: Deadline,
) -> int:
    """Carry out an action and return its exit code; every error ends as a code and a reason."""
    _open_missing_streams()
    log = Log(environ, agent_name, plain=action == "validate-all")
    restore = _end_in_order_when_terminated()
    try:
        try:
            outcome = _outcome_of(agent_name, module_name, action, environ, deadline, log)
        except BaseException as error:
            outcome = _outcome_of_error(error, action, module_name, deadline, log)
    except BaseException as error:  # SIGTERM came while another error was being explained
        outcome = _outcome_of_error(error, action, module_name, deadline, log)
    finally:
        restore()
    return _conclude(outcome, action, environ, deadline, log)


def _outcome_of(
    agent_name: str,
    module_name: str,
    action: str,
    environ: Mapping[str, str],
    deadline: Deadline,
    log: Log,
) -> Outcome:
    agent: AgentDeclaration = _import(module_name + ".declaration").DECLARATION
    if action == "meta-data":
        return _print(agent.metadata())
    if action in _USAGE:
        return _print(agent.usage())
    if not action:
        _write(2, agent.usage())
        return Outcome(codes.ERR_ARGS, "no action was given; see the usage above")
    if action not in {entry.name for entry in agent.every_action()} | {"status"}:
        _write(2, agent.usage())
        return Outcome(
            codes.ERR_UNIMPLEMENTED,
            f"{agent_name} has no action '{escape(action, 40)}'; see the usage above",
        )
    if environment.meta_number(environ, "timeout") is None:
        deadline.allow(agent.timeout(action, environment.check_level(environ)))
    if not environment.tracing(environ):
        return _carry_out(agent, module_name, action, environ, deadline, log)

    from mailman_ha.ocf.trace import start_trace, stop_trace

    agent_directory = os.path.dirname(sys.modules[module_name].__file__ or "")
    start_trace(environ, agent_name, action, log, agent_directory)
    try:
        return _carry_out(agent, module_name, action, environ, deadline, log)
    finally:
        stop_trace()


def _carry_out(
    agent: AgentDeclaration,
    module_name: str,
    action: str,
    environ: Mapping[str, str],
    deadline: Deadline,
    log: Log,
) -> Outcome:
    major = environ.get("OCF_RA_VERSION_MAJOR") or "1"
    if major != "1":
        return Outcome(
            codes.ERR_GENERIC,
            f"the cluster speaks version {escape(major, 20)} of the resource agent API,"
            f" {agent.name} only version 1; install a newer mailman-ha",
        )
    performed = "monitor" if action == "status" else action
    examination = agent.examine(environ)
    call = _call(agent, performed, environ, examination, deadline, log)
    refused = _verdict_on_parameters(call, examination, log)
    if refused is not None:
        return refused
    deadline.doing(f"loading {module_name}")
    perform = getattr(_import(module_name + ".actions"), performed.replace("-", "_"), None)
    if perform is None:
        if performed == "validate-all":
            return Outcome(codes.SUCCESS)
        return Outcome(
            codes.ERR_UNIMPLEMENTED,
            f"{agent.name} declares the action {performed} but does not have it;"
            " this is a defect of the agent, please report it",
        )
    deadline.doing("")
    outcome = perform(call)
    if not isinstance(outcome, Outcome) or outcome.code not in _KNOWN_CODES:
        raise TypeError(f"{performed} must return an Outcome with an OCF code, not {outcome!r}")
    if action == "status":
        reason = f": {one_line(outcome.reason)}" if outcome.reason else ""
        _print(f"{call.instance} is {codes.status_words(outcome.code)}{reason}\n")
    return outcome


def _call(
    agent: AgentDeclaration,
    action: str,
    environ: Mapping[str, str],
    examination: Examination,
    deadline: Deadline,
    log: Log,
) -> Call:
    return Call(
        action=action,
        instance=environment.instance(environ, agent.name),
        parameters=examination.values,
        deadline=deadline,
        log=log,
        given_names=examination.given,
        faults=tuple(fault.problem for fault in examination.faults),
        check_level=agent.check_level(action, environment.check_level(environ)),
        is_probe=environment.is_probe(environ, action),
        node=environment.node(environ),
        state_path=environment.state_directory(environ),
        clone_number=environment.meta_number(environ, "clone"),
        clone_max=environment.meta_number(environ, "clone_max"),
        clone_node_max=environment.meta_number(environ, "clone_node_max"),
        globally_unique=environment.is_true(
            environ.get("OCF_RESKEY_CRM_meta_globally_unique", "false")
        ),
    )


def _verdict_on_parameters(call: Call, examination: Examination, log: Log) -> Outcome | None:
    """What wrong parameters mean for this action; None to go on.

    A stop and a probe go on, with the default in the place of what is wrong: the one must end
    what runs whatever the configuration says now, the other is asked on nodes that may never run
    the resource.  A recurring monitor fails with 1, since 6 from there would take the resource
    from every node without a try to start it anew.  All else is 6: wrong on every node alike.
    """
    if not examination.faults:
        return None
    resource = "" if call.action == "validate-all" else call.instance
    goes_on = call.action == "stop" or call.is_probe
    for fault in examination.faults:
        if goes_on:
            log.warning(f"{fault.sentence(resource)} ({call.action} goes on with the default)")
        else:
            log.error(fault.sentence(resource))
    if goes_on:
        return None
    reason = examination.faults[0].sentence(resource)
    others = [fault.parameter for fault in examination.faults[1:]]
    if others:
        reason += f" (also wrong: {', '.join(others)})"
    recurring_monitor = call.action == "monitor"
    return Outcome(codes.ERR_GENERIC if recurring_monitor else codes.ERR_CONFIGURED, reason)


def _outcome_of_error(
    error: BaseException, action: str, module_name: str, deadline: Deadline, log: Log
) -> Outcome:
    if isinstance(error, Refusal):
        return error.outcome
    doing = deadline.activity()
    meanwhile = f" while {doing}" if doing else ""
    if isinstance(error, (Terminated, KeyboardInterrupt)):
        signal = "SIGTERM" if isinstance(error, Terminated) else "SIGINT"
        return Outcome(
            codes.ERR_GENERIC,
            f"{action} was ended by {signal}{meanwhile}; look who sent it, then repeat the action",
        )
    _log_traceback(error, log)
    missing = _foreign_package(error, module_name)
    if missing:
        return Outcome(
            codes.ERR_GENERIC if action == "stop" else codes.ERR_INSTALLED,
            f"the Python module {missing} is missing on this node;"
            f" install the distribution's package python3-{missing}",
        )
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return Outcome(
            codes.ERR_PERM, f"{action}{meanwhile}: {_os_error(error)}; run the agent as root"
        )
    if isinstance(error, OSError):
        return Outcome(
            codes.ERR_GENERIC,
            f"{action} failed{meanwhile}: {_os_error(error)};"
            " mend that, then clean up the resource",
        )
    return Outcome(
        codes.ERR_GENERIC,
        f"{action} failed{meanwhile} by a defect of the agent: {type(error).__name__}:"
        f" {escape(str(error), 200)} ({_place(error)}); please report it with the log",
    )


def _conclude(
    outcome: Outcome,
    action: str,
    environ: Mapping[str, str],
    deadline: Deadline,
    log: Log,
) -> int:
    reason = one_line(outcome.reason)
    unremarkable = outcome.code == codes.SUCCESS or (
        outcome.code == codes.NOT_RUNNING and environment.is_probe(environ, action)
    )
    if reason and unremarkable:
        log.info(reason)
    elif reason:
        deadline.doing(f"logging the reason: {reason}")
        log.exit_reason(reason)
    log.debug(f"{environment.instance(environ, '')} {action} : {outcome.code}".strip())
    deadline.finish()
    if reason and not unremarkable:
        try:
            os.write(2, environment.exit_reason_line(environ, reason))
        except OSError:
            pass
    return outcome.code


def _end_in_order_when_terminated() -> Callable[[], None]:
    raised: list[bool] = []

    def terminate(_number: int, _frame: object) -> None:
        if not raised:  # a second one must not interrupt the undoing
            raised.append(True)
            raise Terminated

    try:
        before = _signal.signal(_signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: then somebody else runs this process
        return lambda: None

    def restore() -> None:
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL if before is None else before)

    return restore


def _open_missing_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed.

    Otherwise the next file opened gets that number, and an exit reason is written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)


def _import(name: str) -> Any:
    __import__(name)
    return sys.modules[name]


def _print(text: str) -> Outcome:
    try:
        _write(1, text)
    except BrokenPipeError:
        pass  # the reader has seen enough
    except OSError as error:
        return Outcome(codes.ERR_GENERIC, f"cannot write to stdout: {error.strerror}")
    return Outcome(codes.SUCCESS)


def _write(file: int, text: str) -> None:
    left = text.encode("utf-8", "backslashreplace")
    while left:
        left = left[os.write(file, left) :]


def _foreign_package(error: BaseException, module_name: str) -> str:
    """The package outside this project that could not be found; '' if it is not that."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    package = (error.name or "").partition(".")[0]
    return "" if package in ("mailman_ha", module_name.partition(".")[0]) else package


def _os_error(error: OSError) -> str:
    name = error.filename
    subject = f"{escape(name)}: " if isinstance(name, (str, bytes)) else ""
    return subject + (error.strerror or type(error).__name__)


def _frames(error: BaseException) -> list[str]:
    frames = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append(f"{os.path.basename(code.co_filename)}:{step.tb_lineno} in {code.co_name}")
        step = step.tb_next
    return frames


def _place(error: BaseException) -> str:
    frames = _frames(error)
    return frames[-1] if frames else "at an unknown place"


def _log_traceback(error: BaseException, log: Log) -> None:
    """One line for every log, and all of it, with the source lines, where debugging is on."""
    way = " < ".join(reversed(_frames(error)))
    log.error(f"{type(error).__name__}: {escape(str(error), 200)}, raised at {escape(way)}")
    if log.debugging:
        import traceback

        for entry in traceback.format_exception(type(error), error, error.__traceback__):
            for line in entry.splitlines():
                log.debug(line)
