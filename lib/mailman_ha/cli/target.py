"""Which Mailman a command is about, and what the agents' code is handed to look at it.

In this order: the options typed, the parameters of a resource of the running cluster, what is
installed in the usual places. The rest is the agents' own: the same parameters with the same
checks, the same question to Mailman, the same state directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile

from mailman_ha.cli.ending import CannotDo, UsageError
from mailman_ha.ocf import log
from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from mailman_ha.evidence.cib import ResourceInCib
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: The heading of the options that every command on a running Mailman has.
WHICH_MAILMAN = "which Mailman"

#: Options that say by themselves which Mailman is meant.
PLACE = ("mailman_version", "prefix", "bindir", "config", "lock_dir")
#: Options that add to that.
BESIDES = ("user", "group", "host_map", "allow_unfenced")

#: The agents whose parameters tell where Mailman is, the best first.
JANITOR, MASTER, SLICE = "list-lock-janitor", "mailman-master", "qfiles-slice"
AGENTS = (JANITOR, MASTER, SLICE)

#: How long a command may take where nothing else is said (seconds); a share that hangs would hold
#: it for ever.
USUAL_SECONDS = 120.0

#: How long the cluster may take to answer one question (seconds).
CLUSTER_SECONDS = 10.0


@record
class Resources:
    """The Mailman resources that the cluster is configured for, or why that is not known
    (`trouble`; both are empty where there is no cluster)."""

    found: tuple[ResourceInCib, ...] = ()
    trouble: str = ""

    def of(self, agent: str) -> tuple[ResourceInCib, ...]:
        """Those that run `agent`."""
        return tuple(one for one in self.found if agent_of(one) == agent)


@record
class Target:
    """One Mailman: what the agents' code needs to look at it, and whence it is known.

    `source` is ``options``, ``resource`` or ``found``; `resource` the id of the resource whose
    parameters were taken.
    """

    call: Call
    site: Installation
    source: str
    resource: str
    resources: Resources

    def as_json(self) -> dict[str, object]:
        """The field `installation` of every command's output."""
        return {
            "version": self.site.location.version,
            "release": escape(self.site.answer.release),
            "lock_dir": escape(self.site.lock_dir),
            "user": escape(self.site.user.name),
            "source": self.source,
            "resource": escape(self.resource) or None,
        }

    def described(self) -> str:
        """For the head of a table: which Mailman, and whence that is known."""
        known = {
            "options": "as the options say",
            "resource": f"as resource {escape(self.resource)} says",
            "found": "found in the usual place",
        }[self.source]
        return (
            f"Mailman {escape(self.site.answer.release)}, locks in {escape(self.site.lock_dir)} "
            f"({known})"
        )


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which Mailman is meant."""
    group = parser.add_argument_group(
        WHICH_MAILMAN,
        "Without any of these the parameters of the cluster's own resources are taken; without a "
        "cluster, what is installed in the usual places. They mean what the agents' parameters of "
        "the same name mean.",
    )
    group.add_argument("--resource", metavar="ID", help="take the parameters of this resource")
    group.add_argument("--mailman-version", metavar="VERSION", help="auto, 2.1 or 3")
    group.add_argument("--prefix", metavar="DIR", help="2.1: the installation prefix")
    group.add_argument("--bindir", metavar="DIR", help="3: directory of mailman, master, runner")
    group.add_argument("--config", metavar="FILE", help="3: mailman.cfg")
    group.add_argument("--user", help="Mailman's user")
    group.add_argument("--group", help="Mailman's group")
    group.add_argument("--lock-dir", metavar="DIR", help="the directory of the locks")
    group.add_argument("--host-map", metavar="MAP", help='"node=host node=host"')
    group.add_argument(
        "--allow-unfenced", action="store_const", const="true",
        help="with stonith-enabled=false take offline for dead",
    )
    group.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=USUAL_SECONDS,
        help=f"give up after so long, as where the share hangs (usually {USUAL_SECONDS:.0f})",
    )


def _seconds(text: str) -> float:
    """An option's value in seconds; ValueError, as argparse wants it, for none."""
    number = float(text)
    if not 1 <= number <= 86400:
        raise ValueError(text)
    return number


@contextlib.contextmanager
def find(options: argparse.Namespace, keep_log: bool = False) -> Iterator[Target]:
    """The Mailman that is meant. A context manager: inside it the time runs, so printing is for
    afterwards; and who is not root works on a copy of the state directory. With `keep_log`, what
    the agents' code logs goes to syslog.

    Raises UsageError for options that mean nothing, CannotDo where Mailman, its share or its
    configuration cannot be reached.
    """
    from mailman_ha.agents import site as agent_site
    from mailman_ha.agents.site import Absent

    given = {
        name: value
        for name in (*PLACE, *BESIDES)
        if (value := getattr(options, name, None))
    }
    with _call(options, keep_log) as call:
        call.deadline.doing("asking cibadmin for the cluster's resources")
        resources = ask_for_resources()
        source, resource, parameters = choose(given, options.resource, resources)
        call = _with_parameters(call, parameters, source, resource)
        site = agent_site.find_installation(call)
        if isinstance(site, Absent):
            raise CannotDo(site.why + _as_another_user())
        call.deadline.doing(f"looking for the share at {site.lock_dir}")
        missing = agent_site.share_missing(site)
        if missing:
            raise CannotDo(missing + _as_another_user())
        yield Target(call, site, source, resource, resources)


def _as_another_user() -> str:
    if os.geteuid() == 0:
        return ""
    return f" (looked at as uid {os.geteuid()}: what that may not read looks missing; try as root)"


def agent_of(resource: ResourceInCib) -> str:
    """Which of our agents a resource runs; '' for any other."""
    kind, _, rest = resource.agent.partition(":")
    name = rest.rpartition(":")[2]
    return name if kind == "ocf" and name in AGENTS else ""


def ask_for_resources() -> Resources:
    """The cluster's Mailman resources; never raises for a cluster that does not answer."""
    from mailman_ha.evidence import cib
    from mailman_ha.evidence.cluster import NoClusterEvidence

    try:
        found = cib.ask(CLUSTER_SECONDS)
    except NoClusterEvidence as error:
        return Resources(trouble="" if error.none_here else str(error))
    return Resources(tuple(one for one in found if agent_of(one)))


def choose(
    given: Mapping[str, str], wanted: str | None, resources: Resources
) -> tuple[str, str, dict[str, str]]:
    """(source, resource id, parameters) for these options and resources.

    Raises UsageError where the resource is not there, or where several Mailmans could be meant.
    """
    if wanted is not None:
        for one in resources.found:
            if one.id == wanted:
                return "resource", one.id, {**_common(one), **given}
        why = (
            f"the cluster could not be asked for its resources ({resources.trouble})"
            if resources.trouble
            else "those of this cluster are: "
            + (", ".join(escape(one.id) for one in resources.found) or "none")
        )
        raise UsageError(f"there is no Mailman resource {escape(wanted)}: {why}")
    if any(name in given for name in PLACE):
        return "options", "", dict(given)
    candidates = sorted(
        resources.found, key=lambda one: (one.disabled, AGENTS.index(agent_of(one)))
    )
    if not candidates:
        return "found", "", dict(given)
    places: dict[object, str] = {}
    for one in candidates:
        place = _place(_common(one))
        if place is not None:
            places.setdefault(place, one.id)
    if len(places) > 1:
        raise UsageError(
            "the cluster's resources are for several Mailmans; say which with --resource "
            + " or --resource ".join(map(escape, places.values()))
        )
    return "resource", candidates[0].id, {**_common(candidates[0]), **given}


def _common(resource: ResourceInCib) -> dict[str, str]:
    """Those parameters of a resource that list-lock-janitor knows as well."""
    from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION

    known = {parameter.name for parameter in DECLARATION.parameters}
    return {name: value for name, value in resource.parameters if name in known}


def _place(parameters: Mapping[str, str]) -> object:
    """Where these parameters find a Mailman; None where they find none here."""
    from mailman_ha.mailman import location

    try:
        found = location.find(
            parameters.get("mailman_version", "auto"), parameters.get("prefix", ""),
            parameters.get("bindir", ""), parameters.get("config", ""),
        )
    except location.NotFound:
        return None
    return found.version, found.prefix, found.config, parameters.get("lock_dir", "")


@contextlib.contextmanager
def _call(options: argparse.Namespace, keep_log: bool) -> Iterator[Call]:
    """A Call without parameters yet, whose deadline runs."""
    from mailman_ha.ocf import environment
    from mailman_ha.ocf.call import Call
    from mailman_ha.ocf.deadline import Deadline

    command = options.command

    def last_words(lateness: str) -> bytes:
        text = lateness.replace("give the operation a longer timeout", "give a longer --timeout")
        return f"mailman-ha {command}: {text}\n".encode("utf-8", "backslashreplace")

    deadline = Deadline(options.timeout, last_words)
    deadline.watch()
    state_dir = environment.state_directory(os.environ)
    copy = "" if os.access(state_dir, os.W_OK) else _copy_of(state_dir)
    if copy:
        deadline.at_expiry(lambda: shutil.rmtree(copy, ignore_errors=True))
    try:
        yield Call(
            action="monitor", instance="mailman-ha", parameters={}, deadline=deadline,
            log=_Log(keep_log), state_path=copy or state_dir,
        )
    finally:
        deadline.finish()
        if copy:
            shutil.rmtree(copy, ignore_errors=True)


def _copy_of(state_dir: str) -> str:
    """A private copy of what the agents remember, for a user who may not write there (or where
    there is no such directory yet and only root may make it); '' for root."""
    if os.geteuid() == 0:
        return ""
    copy = tempfile.mkdtemp(prefix="mailman-ha-")
    with contextlib.suppress(OSError):
        for name in os.listdir(state_dir):
            if name.startswith(("mailman-ha-", f"{SLICE}-")):
                with contextlib.suppress(OSError):
                    shutil.copyfile(os.path.join(state_dir, name), os.path.join(copy, name))
    return copy


def _with_parameters(
    call: Call, parameters: Mapping[str, str], source: str, resource: str
) -> Call:
    """`call` with these parameters, checked as the agents check theirs."""
    from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION
    from mailman_ha.ocf.record import replace

    examined = DECLARATION.examine(
        {f"OCF_RESKEY_{name}": value for name, value in parameters.items()}
    )
    if examined.faults:
        fault = examined.faults[0]
        if source == "resource":
            raise UsageError(f"resource {escape(resource)}: {fault.sentence(resource)}")
        raise UsageError(fault.sentence().replace("parameter ", "option ", 1))
    call.deadline.doing("asking crm_node for this node's name")
    return replace(
        call, parameters=examined.values, given_names=examined.given, node=own_node(),
    )


def own_node() -> str | None:
    """The cluster's name for this node, as Pacemaker tells its agents; None where no cluster
    runs here."""
    from mailman_ha.evidence import command

    result = command.run(("crm_node", "-n"), CLUSTER_SECONDS)
    name = result.output.decode("utf-8", "replace").strip()
    return name if result.code == 0 and name and name.isprintable() else None


class _Log(log.Log):
    """What the agents' code logs while a person watches: to syslog where something is changed,
    else nowhere, for the command itself tells it."""

    def __init__(self, keep: bool) -> None:
        super().__init__(os.environ, "mailman-ha")
        self._facility = os.environ.get("HA_LOGFACILITY") or "daemon"
        self._keep = keep and self._facility != "none"

    def _log(self, level: str, text: str, stderr_too: bool = True) -> None:
        if self._keep and level != "DEBUG":
            self._to_syslog(level, f"{level}: {one_line(text)}")


def could_not_see(site: Installation) -> tuple[str, ...]:
    """What this process may not look at, in sentences; nothing where it is root."""
    uid = os.geteuid()
    if uid == 0:
        return ()
    missed = [
        f"run as uid {uid}, not as root: the arguments of other users' processes may be hidden"
    ]
    if uid != site.user.uid:
        missed.append(
            f"not run as Mailman's user {escape(site.user.name)}: files in "
            f"{escape(site.lock_dir)} that others may not read count as unreadable, and the file "
            "server's clock cannot be measured"
        )
    return tuple(missed)


def warn(sentence: str) -> None:
    """A sentence on stderr beside what is printed."""
    sys.stdout.flush()
    sys.stderr.write(f"mailman-ha: {sentence}\n")
