"""Judging for mailman-master: pure functions of a snapshot. No I/O, no clock."""

from __future__ import annotations

from mailman_ha.agents.site import Absent
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.processes import MailmanProcess, workers
from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome
from mailman_ha.ocf.record import record
from mailman_ha.queues import slices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.agents.lock_sweep import SweepReport
    from mailman_ha.agents.mailman_master.observe import MasterLock, Snapshot

#: A master refreshes its lock every 24 h for 30 h; with less than this left (seconds) it did not.
REFRESH_MISSED = 5 * 3600.0

#: How many of a kind a sentence names.
_SHOWN = 6


@record
class StartPlan:
    """What `start` has to do. `outcome` is set where nothing is left to do or it is refused;
    otherwise `end_first` says whether stray processes must go before Mailman is started."""

    outcome: Outcome | None = None
    end_first: bool = False
    why: str = ""


def holder(snapshot: Snapshot) -> MailmanProcess | None:
    """The living master of this host that holds the master lock, or None."""
    lock = snapshot.lock
    if lock.lock is None or lock.claim is None:
        return None
    # Two names in the directory, two links by the claim file itself: this is how a lock is held.
    if lock.claim.inode != lock.lock.inode or lock.claim.links != 2 or len(lock.lock.claims) != 1:
        return None
    for master in snapshot.processes.masters:
        if master.pid in lock.holders:
            return master
    return None


def monitor(snapshot: Snapshot, level: int, max_queue_age: float) -> Outcome:
    """The outcome of a monitor at `level` (0, 10 or 20); `max_queue_age` in seconds, 0: none."""
    processes = snapshot.processes
    if not processes:
        if snapshot.lock.trouble:
            return Outcome(codes.NOT_RUNNING, f"no Mailman runs here; {snapshot.lock.trouble}")
        return Outcome(codes.NOT_RUNNING)
    if not processes.masters:
        return Outcome(
            codes.ERR_GENERIC,
            f"the master is gone but its runners live on ({_named(processes.runners)}); stop ends "
            "them",
        )
    site = snapshot.site
    if isinstance(site, Absent) or snapshot.share_missing:
        return Outcome(
            codes.ERR_GENERIC,
            f"{_named(processes.masters)} runs here but cannot use its data: "
            f"{snapshot.share_missing}",
        )
    master = holder(snapshot)
    if master is None:
        return Outcome(
            codes.ERR_GENERIC,
            f"{_named(processes.masters)} runs here but does not hold the master lock: "
            f"{lock_holder(snapshot.lock)}",
        )
    strays = tuple(one for one in processes.masters if not _belongs_to(one, master))
    if strays:
        return Outcome(
            codes.ERR_GENERIC, f"besides {master.describe()} a second master runs: {_named(strays)}"
        )
    if level >= 10:
        trouble = runner_trouble(snapshot, site, master)
        if trouble:
            return Outcome(codes.ERR_GENERIC, trouble)
    if level >= 20 and max_queue_age > 0:
        trouble = queue_trouble(snapshot, master, max_queue_age)
        if trouble:
            return Outcome(codes.ERR_GENERIC, trouble)
    if level >= 10:
        worry = lock_worry(snapshot, master)
        if worry:
            return Outcome(codes.DEGRADED, worry)
    return Outcome(codes.SUCCESS)


def lock_holder(lock: MasterLock) -> str:
    """In words, whose the master lock is."""
    if lock.trouble:
        return lock.trouble
    if lock.lock is None:
        return "the lock is gone"
    if lock.others:
        host, pid = lock.others[0]
        return f"it is held by pid {pid} on {host}"
    if lock.holders:
        return f"it is held by pid {lock.holders[0]} of this host, which is no master of Mailman's"
    return "its holder cannot be told"


def runner_trouble(snapshot: Snapshot, site: Installation, master: MailmanProcess) -> str:
    """What is wrong with the runners: '' where each configured slice has exactly one that runs."""
    if master.process.stat.stopped:
        return f"{master.describe()} is stopped (SIGSTOP): it starts no runner and keeps no lock"
    # Without a name it is a command that a runner started, as nntp's does with gatenews.
    of_runners = workers(snapshot.processes.runners)
    runners = [
        one for one in snapshot.processes.runners
        if one.role.runner and one.pid not in of_runners
    ]
    stopped = [one for one in runners if one.process.stat.stopped]
    if stopped:
        return f"stopped (SIGSTOP): {_named(stopped)}"
    running: dict[tuple[str, int, int], int] = {}
    for one in runners:
        key = (one.role.runner, one.role.slice, one.role.slices)
        running[key] = running.get(key, 0) + 1
    # A title does not tell its runner's slice: each slice without another runner has one of those.
    titles = {(name, 0, 1) for name, count in site.answer.runners if count > 1}
    missing = []
    for key in site.expected_runners():
        if key not in running:
            title = (key[0], 0, 1)
            if running.get(title):
                running[title] -= 1
            else:
                missing.append(key)
    twice = sorted(key for key, count in running.items() if count > (0 if key in titles else 1))
    if twice:
        return (
            "more than one runner on " + ", ".join(_slice(key) for key in twice[:_SHOWN])
            + ": they take each other's messages"
        )
    configured = {name for name, count in site.answer.runners if count > 0}
    extra = sorted(key for key in running if key[0] not in configured)
    if extra:
        return (
            "running, though the configuration no longer has them: "
            + ", ".join(_slice(key) for key in extra[:_SHOWN])
            + "; a restart goes by the configuration as it is now"
        )
    if missing:
        return (
            "not running: " + ", ".join(_slice(key) for key in missing[:_SHOWN])
            + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
            + "; the master gives a runner up that died too often, see Mailman's error log"
        )
    return ""


def queue_trouble(snapshot: Snapshot, master: MailmanProcess, max_queue_age: float) -> str:
    """The queue that stands still: its oldest entry is older than `max_queue_age` seconds, and
    the master has had as long to work on it."""
    had = snapshot.now - master.process.stat.started_at()
    if had < max_queue_age:
        return ""
    worst = None
    for queue in snapshot.queues:
        if queue.backlog.oldest is None:
            continue
        age = snapshot.now - queue.backlog.oldest
        if age > max_queue_age and (worst is None or age > worst[1]):
            worst = (queue, age)
    if worst is None:
        return ""
    return (
        f"the queue of {worst[0].runner} stands still: "
        f"{worst[0].backlog.waiting + worst[0].backlog.in_work} entries, the "
        f"oldest {worst[1]:.0f} s old (max_queue_age {max_queue_age:.0f})"
    )


def lock_worry(snapshot: Snapshot, master: MailmanProcess) -> str:
    """Why a lock that is still held may not be for long: '' where it was refreshed in time."""
    claim = snapshot.lock.claim
    if claim is None or claim.expires_at - snapshot.now > REFRESH_MISSED:
        return ""
    left = claim.expires_at - snapshot.now
    return (
        f"the master lock expires in {left / 3600:.1f} h and was not refreshed, after that anyone "
        f"may break it; have it refreshed with `kill -ALRM {master.pid}`"
    )


def start(snapshot: Snapshot) -> StartPlan:
    """What `start` has to do here, before the locks are looked at."""
    site = snapshot.site
    if isinstance(site, Absent):
        return StartPlan(Outcome(site.code, site.why))
    if snapshot.share_missing:
        return StartPlan(Outcome(codes.ERR_INSTALLED, snapshot.share_missing))
    seen = monitor(snapshot, 0, 0)
    if seen.code == codes.SUCCESS:
        return StartPlan(Outcome(codes.SUCCESS))
    if snapshot.processes:
        # This resource is this installation on this node: what runs of it and holds no lock was
        # left over or started by hand, and would be the second set of runners.
        return StartPlan(end_first=True, why=seen.reason)
    if snapshot.lock.trouble:
        return StartPlan(Outcome(codes.ERR_GENERIC, snapshot.lock.trouble))
    return StartPlan()


def after_sweep(report: SweepReport, master_lock: str, site: Installation) -> Outcome | None:
    """Whether the locks allow a start: None, or the refusal."""
    kept = report.kept_lock(master_lock)
    if kept is not None:
        also = f" ({report.problems[0]})" if report.problems else ""
        return Outcome(
            codes.ERR_GENERIC,
            f"the master lock {site.lock_dir}/{master_lock} is kept: {kept.verdict.sentence()}"
            f"{also}",
        )
    queues = queues_of_master(site)
    for one in report.kept:
        claimed = slices.of_lock_name(one.name)
        if claimed is not None and claimed[0] in queues:
            return Outcome(
                codes.ERR_GENERIC,
                f"the master would run the queue {claimed[0]}, but a runner on a slice of it has "
                f"the claim {site.lock_dir}/{one.name}: {one.verdict.sentence()}; take the queue "
                "from the master's configuration, or disable the qfiles-slice resources first",
            )
    return None


def queues_of_master(site: Installation) -> frozenset[str]:
    """The queues that the master is configured to run, by the names of their directories."""
    runs = dict(site.answer.runners)
    return frozenset(
        queue for queue, runner in site.runners_by_queue().items() if runs.get(runner, 0) > 0
    )


def _belongs_to(one: MailmanProcess, master: MailmanProcess) -> bool:
    """Whether `one` is the master, the starter that is about to leave it, or its child that has
    yet to become a runner: all have the master's arguments."""
    return (
        one.pid == master.pid
        or one.process.stat.parent == master.pid
        or one.pid == master.process.stat.parent
    )


def _named(processes: tuple[MailmanProcess, ...] | list[MailmanProcess]) -> str:
    text = ", ".join(one.describe() for one in processes[:_SHOWN])
    more = len(processes) - _SHOWN
    return f"{text} and {more} more" if more > 0 else text


def _slice(key: tuple[str, int, int]) -> str:
    name, number, count = key
    return name if count == 1 else f"{name}:{number}:{count}"
