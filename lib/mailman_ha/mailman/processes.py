"""Which processes of this host belong to one installation, and what each of them is.

Recognised by their arguments (contract, section 5), which need nothing from the share. Pure: it
reads a process table, it does not make one.
"""

from __future__ import annotations

import os

from mailman_ha.mailman.location import VERSION_21, Location
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailman_ha.evidence.process_table import Process

MASTER = "master"
RUNNER = "runner"

_DAEMONS = ("mailmanctl", "qrunner", "master", "runner")


@record
class Role:
    """What a process does for Mailman. `runner`, `slice` and `slices` are a runner's own
    (2.1: ``IncomingRunner``, 3: ``in``); a runner without a slice serves slice 0 of 1."""

    kind: str
    runner: str = ""
    slice: int = 0
    slices: int = 1


@record
class MailmanProcess:
    """A process with its role."""

    process: Process
    role: Role

    @property
    def pid(self) -> int:
        return self.process.stat.pid

    @property
    def lives(self) -> bool:
        return not self.process.stat.ended

    def describe(self) -> str:
        """Short, for a sentence."""
        if self.role.kind == MASTER:
            return f"master {self.pid}"
        return f"runner {self.role.runner}:{self.role.slice}:{self.role.slices} {self.pid}"


@record
class MailmanProcesses:
    """The masters and runners of one installation on this host, zombies left out."""

    masters: tuple[MailmanProcess, ...] = ()
    runners: tuple[MailmanProcess, ...] = ()

    @property
    def all(self) -> tuple[MailmanProcess, ...]:
        return self.masters + self.runners

    def __bool__(self) -> bool:
        return bool(self.masters or self.runners)


def classify(arguments: Sequence[str], location: Location, cwd: str = "") -> Role | None:
    """The role of a process with these `arguments` in the installation at `location`, or None.

    A 2.1 master keeps the words of whoever started it, ``bin/mailmanctl start`` for example, and
    works in its prefix: a relative path counts where the working directory `cwd` is that.
    """
    for index, argument in enumerate(arguments[:4]):
        directory, name = os.path.split(argument)
        in_place = directory in location.bindirs or (
            not directory.startswith("/") and bool(cwd) and cwd == location.prefix
        )
        if not in_place or not _runs_python(arguments[:index]):
            continue
        rest = arguments[index + 1 :]
        if location.version == VERSION_21:
            if name == "mailmanctl" and "start" in rest:
                return Role(MASTER)
            if name == "qrunner":
                return _runner(rest)
        elif name in ("master", "runner") and _uses_config(rest, location.config):
            return Role(MASTER) if name == "master" else _runner(rest)
    return None


def classify_title(arguments: Sequence[str]) -> Role | None:
    """The role of a Mailman 3 process that set its title (3.3.10 with setproctitle).

    Such a title holds no path, so the caller must know by other means whose process it is.
    """
    title = " ".join(arguments).strip()
    if title == "mailman: master":
        return Role(MASTER)
    start = title.find("mailman: runner [")
    if start >= 0 and (start == 0 or title.startswith("gunicorn: ")):
        name = title[start + len("mailman: runner [") :].partition("]")[0]
        return _named(name)
    return None


def may_be_daemon(arguments: Sequence[str]) -> bool:
    """Whether a process may be a master or runner of *some* Mailman, by its program's name alone.

    True for all that :func:`classify` and :func:`classify_title` know of any installation: where no
    process is one, none of this installation runs, and Mailman need not be asked where it lies.
    """
    if classify_title(arguments) is not None:
        return True
    return any(
        os.path.basename(argument) in _DAEMONS and _runs_python(arguments[:index])
        for index, argument in enumerate(arguments[:4])
    )


def _runs_python(before: Sequence[str]) -> bool:
    """Whether `before`, the words before a program's path, run it: an interpreter with options.

    Nothing else does: an editor or a pager on the same file is a stranger.
    """
    if not before:
        return True
    name = os.path.basename(before[0])
    return ("python" in name or "pypy" in name) and all(
        option.startswith("-") or before[place] in ("-W", "-X")
        for place, option in enumerate(before[1:])
    )


def _uses_config(rest: Sequence[str], config: str) -> bool:
    """Whether options of master or runner name `config`, or none at all."""
    for index, option in enumerate(rest):
        if option in ("-C", "--config"):
            return index + 1 < len(rest) and os.path.normpath(rest[index + 1]) == config
        if option.startswith("--config="):
            return os.path.normpath(option[len("--config=") :]) == config
    return True


def _runner(rest: Sequence[str]) -> Role:
    for index, option in enumerate(rest):
        if option.startswith("--runner="):
            return _named(option[len("--runner=") :])
        if option in ("-r", "--runner") and index + 1 < len(rest):
            return _named(rest[index + 1])
    return Role(RUNNER)


def _named(text: str) -> Role:
    name, _, numbers = text.partition(":")
    slice_text, _, slices_text = numbers.partition(":")
    if all(
        text.isascii() and text.isdigit() and len(text) < 7 for text in (slice_text, slices_text)
    ):
        return Role(RUNNER, name, int(slice_text), int(slices_text))
    return Role(RUNNER, name)


@record
class RememberedMaster:
    """A master as an agent last saw it: its runners stay in its session, also after its death."""

    pid: int
    started_ticks: int
    uid: int


def select(
    table: Iterable[Process],
    locations: Sequence[Location],
    uid: int | None = None,
    cwd: str = "",
    remembered: RememberedMaster | None = None,
) -> MailmanProcesses:
    """The living processes in `table` that belong to any of `locations`.

    `uid` is Mailman's user (None: not known, any): whoever else puts our paths on a command line
    is a stranger. Root counts, for a master started by root runs as root until it gives that up.
    A process that only has a title counts where it works in Mailman's directory: `cwd`, or that of
    a location, whose links are followed as the kernel does when it says where a process works.
    Whatever belongs to the `remembered` master's session counts, even where the parameters have
    changed since.
    """
    masters: list[MailmanProcess] = []
    runners: list[MailmanProcess] = []
    working_dirs = {cwd, *(location.working_dir for location in locations)} - {""}
    for process in table:
        if process.stat.ended:
            continue
        role = None
        works_there = process.cwd in working_dirs
        if uid is None or process.uid in (uid, 0):
            for location in locations:
                directory = location.prefix if works_there else process.cwd
                role = classify(process.arguments, location, directory)
                if role is not None:
                    break
            if role is None and works_there:
                role = classify_title(process.arguments)
        if role is None and remembered is not None:
            role = _role_in_session(process, remembered)
        if role is None:
            continue
        found = MailmanProcess(process, role)
        (masters if role.kind == MASTER else runners).append(found)
    return MailmanProcesses(tuple(masters), _without_workers(runners))


def _role_in_session(process: Process, remembered: RememberedMaster) -> Role | None:
    """The role of a process of the remembered master's session; None for any other.

    The kernel gives a session's number to nobody else while the session has members; a process
    that has the number as its own pid must be the remembered one by its start.
    """
    stat = process.stat
    if process.uid != remembered.uid or stat.session != remembered.pid:
        return None
    if stat.pid == remembered.pid:
        return Role(MASTER) if stat.started_ticks == remembered.started_ticks else None
    if stat.started_ticks < remembered.started_ticks:
        return None
    title = classify_title(process.arguments)
    if title is not None:
        return title
    for argument in process.arguments[:4]:
        if os.path.basename(argument) in ("qrunner", "runner"):
            return _runner(process.arguments)
    return Role(RUNNER) if looks_like_mailman(process.arguments) else None


def _without_workers(runners: list[MailmanProcess]) -> tuple[MailmanProcess, ...]:
    """Children of a runner with the same arguments (the REST server's workers) come last.

    They are to be ended like any other, but are no second runner of a slice: their role's slice
    is kept and told apart by :func:`workers`.
    """
    pids = workers(runners)
    return tuple(sorted(runners, key=lambda one: one.pid in pids))


def workers(runners: Sequence[MailmanProcess]) -> frozenset[int]:
    """The pids of those that are the child of another runner of the same role."""
    roles = {one.pid: one.role for one in runners}
    return frozenset(
        one.pid for one in runners if roles.get(one.process.stat.parent) == one.role
    )


def looks_like_mailman(arguments: Sequence[str], location: Location | None = None) -> bool:
    """Whether a process may be *any* part of a Mailman: master, runner, command, CGI, cron job.

    Generous on purpose: what looks like Mailman is never taken for a reused pid's stranger on
    looks alone. With `location`, any of the arguments lying under the prefix counts as well.
    """
    for argument in arguments[:6]:
        lowered = argument.lower()
        if "mailman" in lowered or "qrunner" in lowered:
            return True
        directory, name = os.path.split(argument)
        if location is not None and directory in location.bindirs and name:
            return True
    return False
