"""Starting a runner under a claim that names it: fork, claim, exec.

The claim on a slice must name the runner's own process, and stand before the runner touches the
queue. So a child is forked that makes itself Mailman's user in a session of its own, takes the
claim lock under its own pid, tells the agent, and waits. Only after the agent has looked at the
other claims once more and has written down what it started does the child become the runner, by
exec. If the agent dies before that, the child sees the end of the pipe and gives the claim up.
"""

from __future__ import annotations

import os
import select
import signal

from mailman_ha.evidence import command, process_identity
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import holding
from mailman_ha.ocf import codes
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.outcome import Refusal
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

#: A claim is taken for as long as Mailman's master takes its own lock (seconds; facts, section 2).
#: Nobody breaks it by its age: an expired claim is judged by its owner like any other.
LIFETIME = 30 * 3600.0

_GO = b"g"
_REPORT_LIMIT = 4096


@record
class Claimed:
    """A child that holds the claim and waits to become the runner."""

    pid: int
    started_ticks: int
    claim: str
    claim_inode: int
    go: int
    report: int


def claim(
    call: Call, site: Installation, arguments: list[str], lock_name: str, host: str, printed: str
) -> Claimed:
    """Fork the child that is to run `arguments`, and wait until it holds `lock_name`.

    Its standard streams are /dev/null and the file `printed`. Raises Refusal where the claim
    cannot be had.
    """
    report, child_report = os.pipe()
    child_go, go = os.pipe()
    call.deadline.doing(f"claiming {lock_name} in {site.lock_dir}")
    groups = os.getgrouplist(site.user.name, site.user.gid)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(report)
            os.close(go)
            _become_runner(site, arguments, lock_name, host, printed, groups,
                           child_report, child_go)
        finally:
            os._exit(1)
    os.close(child_report)
    os.close(child_go)
    answer = _read_report(call, report)
    found = process_identity.read(pid)
    word, _, rest = answer.partition(" ")
    if word == "claimed" and found is not None:
        inode, _, name = rest.partition(" ")
        return Claimed(
            pid, found.started_ticks, os.path.join(site.lock_dir, name), int(inode), go, report
        )
    os.close(go)
    os.close(report)
    if not word:
        os.kill(pid, signal.SIGKILL)  # our own child, not yet waited for: the pid is its
        call.deadline.check()
    raise Refusal(
        codes.ERR_GENERIC,
        f"{lock_name} in {site.lock_dir} could not be claimed: {rest or 'the child died'}",
    )


def let_go(child: Claimed) -> str:
    """Have the child become the runner; '' when it has, or why not."""
    try:
        os.write(child.go, _GO)
        os.close(child.go)
        # The pipe ends by exec; what comes instead is the reason why there was none.
        said = os.read(child.report, _REPORT_LIMIT)
    except BrokenPipeError:
        return "it was killed"
    finally:
        os.close(child.report)
    return said.decode("ascii", "replace").partition(" ")[2]


def call_off(child: Claimed) -> None:
    """Have the child give the claim up and end, and wait for that."""
    os.close(child.go)
    os.close(child.report)
    try:
        os.waitpid(child.pid, 0)
    except ChildProcessError:
        pass


def _read_report(call: Call, report: int) -> str:
    poll = select.poll()
    poll.register(report, select.POLLIN | select.POLLHUP)
    if not poll.poll(max(call.deadline.remaining(), 0.1) * 1000):
        return ""
    return os.read(report, _REPORT_LIMIT).decode("ascii", "replace") or "refused the child died"


def _become_runner(
    site: Installation,
    arguments: list[str],
    lock_name: str,
    host: str,
    printed: str,
    groups: list[int],
    report: int,
    go: int,
) -> None:
    """What the child does. Never returns but by an exception."""
    held = None
    try:
        _separate(printed, report, go)
        if os.geteuid() == 0:
            os.setgroups(groups)
            os.setgid(site.user.gid)
            os.setuid(site.user.uid)
        directory = lock_directory.open_lock_directory(site.lock_dir)
        held = holding.take(
            directory, site.lock_dir, lock_name, host, LIFETIME, 0.0, site.format,
            breaks_expired=False,
        )
        os.write(report, f"claimed {held.inode} {held.claim_name}".encode("ascii"))
        if os.read(go, 1) != _GO:
            return
        os.chdir(site.location.prefix or site.answer.var_dir)
        # Python ignores these two, and what is ignored stays so over exec. Until here it helps:
        # with the agent gone a report fails, instead of killing the child before it gives the
        # claim up.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execve(arguments[0], arguments, command.bare_environment())
    except BaseException as error:  # whatever it is, the child must end here
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        os.write(report, f"refused {escape(str(reason), 1000)}".encode("ascii", "replace"))
    finally:
        if held is not None:
            held.give_up()
        os._exit(1)


def _separate(printed: str, report: int, go: int) -> None:
    """Leave the agent's session, streams, files and signal handlers behind."""
    os.setsid()
    os.umask(0o007)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in (report, go):
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own
