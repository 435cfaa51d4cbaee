"""From an agent's parameters to the Mailman they mean: the first step of every observation."""

from __future__ import annotations

import errno
import os
import socket

from mailman_ha.agents import bounded_child
from mailman_ha.agents.qfiles_slice import state_file as slice_state
from mailman_ha.evidence import hosts, process_table
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.mailman import asking, installation, location, processes
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.mailman.processes import MailmanProcesses, RememberedMaster
from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome, Refusal
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call

#: How long Mailman may take to tell its configuration, when it is needed and when it is only to
#: be known in time (seconds).
ASK_SECONDS = 30.0
ASK_AHEAD_SECONDS = 10.0


@record
class Absent:
    """No usable installation here, and why. `code` is the OCF code for an action that needs one."""

    why: str
    code: int = codes.ERR_INSTALLED


def find_installation(call: Call, seconds: float = ASK_SECONDS) -> Installation | Absent:
    """The installation that the parameters mean, asked for its configuration in `seconds`.

    Where Mailman or the share it lies on is missing, that comes back as :class:`Absent`, for a
    probe says "not running" there and a start refuses.
    """
    call.deadline.doing("looking for Mailman's programs")
    try:
        place = location.find(
            call.text("mailman_version"), call.text("prefix"), call.text("bindir"),
            call.text("config"),
        )
    except location.NotFound as error:
        return Absent(str(error))
    try:
        user = _known_user(call, place)
        asker = user or installation.find_reader_21(place.prefix)
        call.deadline.doing(f"asking {place.describe()} for its configuration")
        answer = asking.ask(
            place, call.state_dir, min(call.deadline.remaining(), seconds), asker.uid, asker.gid
        )
        user = user or installation.find_user(answer.user, call.text("group") or answer.group)
    except asking.CannotAsk as error:
        return Absent(str(error), codes.ERR_GENERIC)
    except installation.NoSuchUser as error:
        return Absent(str(error))
    lock_dir = call.text("lock_dir") or os.path.dirname(answer.master_lock)
    return Installation(place, answer, user, os.path.normpath(lock_dir))


def ask_ahead(call: Call) -> None:
    """Have Mailman tell its configuration now, where it can, so that a start finds it kept.

    The janitor's probe does, on every node at its boot: Mailman 3 takes a second, in which after a
    failover nobody would serve. In a child, since a configuration on a share may hang; whether
    there is an answer shows when one is needed.
    """
    call.deadline.doing("asking Mailman ahead for its configuration")
    seconds = min(ASK_AHEAD_SECONDS, call.deadline.remaining() / 2)
    bounded_child.run(lambda: find_installation(call, seconds * 0.8), seconds)


def _known_user(call: Call, place: Location) -> User | None:
    """Mailman's user; None for 2.1 where he is not given, since 2.1 names its own."""
    name, group = call.text("user"), call.text("group")
    if place.version == location.VERSION_3:
        return installation.find_user_3(name, group)
    return installation.find_user(name, group) if name else None


def validate(call: Call) -> Outcome:
    """Whether the parameters mean an installation that is here and tells its configuration."""
    host_map(call)
    site = find_installation(call)
    return Outcome(site.code, site.why) if isinstance(site, Absent) else Outcome(codes.SUCCESS)


def share_missing(site: Installation) -> str:
    """Why Mailman's data are not here, '' where they are: the lock and var directories exist."""
    for path in (site.answer.var_dir, site.lock_dir):
        try:
            os.stat(path)
        except OSError as error:
            return (
                f"{path} is not there ({error.strerror}): mount the share first (order the "
                "Filesystem resource before this one), or correct the parameter lock_dir"
            )
    return ""


def share_unusable(site: Installation) -> str:
    """Why Mailman cannot work with its data here, '' where it can: `share_missing`, or read-only.

    A file system that meets an error goes on read-only (ext4's default on Debian). Mailman then
    runs on and takes no message, and Filesystem's monitor sees nothing wrong below its level 20;
    another node, that mounts it afresh, can serve.
    """
    missing = share_missing(site)
    if missing:
        return missing
    for path in (site.answer.var_dir, site.lock_dir):
        try:
            read_only = _is_read_only(path)
        except OSError as error:
            return f"{path} cannot be looked at: {error.strerror}"
        if read_only:
            return (
                f"{path} lies on a file system that is read-only, so Mailman can take no "
                "message: see the kernel's log (dmesg) for why, and mount it afresh"
            )
    return ""


def _is_read_only(directory: str) -> bool:
    """Whether nothing can be made in `directory`. An ext4 that has aborted does not always say so
    of itself, but refuses a file; one without a name leaves no trace where it is made."""
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return True
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS  # NFS knows no such files, a squashed root may make none
    return False


def make_lock_dir(call: Call, site: Installation) -> None:
    """Make Mailman 3's lock directory on a share where Mailman has never run.

    Debian's package leaves it to the first start, but a lock is looked for before that. Made only
    where the var directory lies on another file system than the root's: on a bare mount point it
    would hide what is to be mounted there.
    """
    if site.location.version != location.VERSION_3 or os.path.lexists(site.lock_dir):
        return
    var_dir = site.answer.var_dir
    try:
        mounted = os.stat(var_dir).st_dev != os.stat("/").st_dev
        if mounted and os.path.dirname(site.lock_dir) == var_dir:
            with ActingAs(site.user.uid, site.user.gid):
                os.mkdir(site.lock_dir, 0o770)
            call.log.info(f"made {site.lock_dir}: Mailman has not run on this share yet")
    except OSError:
        return  # what is missing is said by share_missing


def own_processes(
    call: Call,
    site: Installation | None,
    remembered: RememberedMaster | None = None,
    with_slices: bool = False,
) -> MailmanProcesses:
    """Mailman's processes on this host, found in /proc alone: nothing of the share is touched.

    Without `site`, whatever the parameters could mean counts, and what Mailman said of itself
    when it was last asked. Runners that qfiles-slice started on this node belong to that and are
    left out, unless `with_slices`.
    """
    call.deadline.doing("reading the table of processes")
    found = _processes(call, site, remembered)
    if with_slices:
        return found
    slices = {state.identity for state in slice_state.read_all(call.state_dir)}
    return MailmanProcesses(
        found.masters,
        tuple(
            one for one in found.runners
            if (one.pid, one.process.stat.started_ticks) not in slices
        ),
    )


def nothing_runs(call: Call) -> bool:
    """Whether no process of this host is a master or runner of any Mailman.

    What a probe asks first: it runs on every node at its boot, once for each resource, and asking
    Mailman 3 for its configuration takes a second each time (one of them does: `ask_ahead`).
    """
    call.deadline.doing("reading the table of processes")
    return not process_table.read_all(processes.may_be_daemon)


def _processes(
    call: Call, site: Installation | None, remembered: RememberedMaster | None
) -> MailmanProcesses:
    # Of a remembered master's session all count, whatever they are called.
    wanted = processes.may_be_daemon if remembered is None else None
    if site is not None:
        return processes.select(
            process_table.read_all(wanted), site.locations, site.user.uid, site.answer.var_dir,
            remembered,
        )
    places = list(
        location.candidates(
            call.text("mailman_version"), call.text("prefix"), call.text("bindir"),
            call.text("config"),
        )
    )
    cwd = ""
    user_name = call.text("user")
    for place in tuple(places):
        answer = asking.last_answer(place, call.state_dir)
        if answer is not None:
            cwd = cwd or answer.var_dir
            user_name = user_name or answer.user
            places.append(
                Location(place.version, (answer.bin_dir,), place.prefix, place.config)
            )
    uid = None
    if user_name:
        try:
            uid = installation.find_user(user_name, "").uid
        except installation.NoSuchUser:
            uid = None
    return processes.select(process_table.read_all(wanted), places, uid, cwd, remembered)


def this_host(call: Call) -> ThisHost:
    """How this machine calls itself. Asks the resolver, as Mailman 3 does."""
    call.deadline.doing("asking the resolver for this host's full name")
    hostname = socket.gethostname()
    return ThisHost(hostname, socket.getfqdn(), call.node)


def read_host_map(call: Call) -> tuple[dict[str, str], str]:
    """The parameter host_map, and why it cannot be understood: then it is empty."""
    try:
        return hosts.parse_host_map(call.text("host_map")), ""
    except hosts.HostMapError as error:
        return {}, str(error)


def host_map(call: Call) -> dict[str, str]:
    """The parameter host_map. Refuses (ERR_CONFIGURED) what cannot be understood."""
    mapped, why = read_host_map(call)
    if why:
        raise Refusal(codes.ERR_CONFIGURED, host_map_trouble(call))
    return mapped


def host_map_trouble(call: Call) -> str:
    """Why the parameter host_map cannot be understood, and how it should look; '' where it can.

    It can be changed while Mailman runs, and only verdicts on other nodes need it: actions that
    have to do with what runs say this and go on, since Pacemaker stops what fails.
    """
    _, why = read_host_map(call)
    if not why:
        return ""
    return (
        f"parameter host_map: {why}; write it as \"node1=mail1.example.org "
        "node2=mail2.example.org\""
    )


def degraded_by_host_map(call: Call, outcome: Outcome) -> Outcome:
    """The `outcome` of a monitor: from level 10 on a success says what is wrong with host_map."""
    if outcome.code != codes.SUCCESS or call.check_level < 10:
        return outcome
    trouble = host_map_trouble(call)
    return Outcome(codes.DEGRADED, trouble) if trouble else outcome


def reload_host_map(call: Call) -> bool:
    """Whether the host_map that was given to a running resource can be used; logs why not."""
    trouble = host_map_trouble(call)
    if trouble:
        call.log.error(trouble)
    return not trouble
