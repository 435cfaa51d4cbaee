"""Mending what dead writers left of the lists' configurations (2.1), and emptying quarantine."""

from __future__ import annotations

import os
import time

from mailman_ha.agents import lock_evidence
from mailman_ha.agents.list_lock_janitor.judge import IN_GOOD_HANDS
from mailman_ha.evidence.user_identity import ActingAs
from mailman_ha.lists import half_saves
from mailman_ha.lists.half_saves import HalfSave
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks import holding
from mailman_ha.locks import verdict as verdicts
from mailman_ha.locks.directory import Inspection
from mailman_ha.locks.release import Quarantine, QuarantineError
from mailman_ha.locks.verdict import Verdict
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mailman_ha.agents.lock_evidence import Surroundings
    from mailman_ha.mailman.installation import Installation
    from mailman_ha.ocf.call import Call

DAY = 86400.0

#: How long one sweep waits for the locks of lists, all in all, and for how long it takes one
#: (seconds).
LIST_LOCK_WAIT = 1.0
LIST_LOCK_LIFETIME = 60.0


def mend(
    call: Call,
    site: Installation,
    around: Callable[[], Surroundings],
    lists_dir: str,
    stuck_after: float = float("inf"),
) -> tuple[str, ...]:
    """Mend every half-finished save of a dead writer.

    Answers what needs a human: what stood in the way, and saves older than `stuck_after` seconds
    that may be the newest state of a list, but whose writer is not proven dead.
    """
    call.deadline.doing(f"looking for half-finished saves in {lists_dir}")
    try:
        with ActingAs(site.user.uid, site.user.gid):
            saves = list(half_saves.find(lists_dir))
    except OSError as error:
        return (f"{escape(lists_dir)} cannot be listed: {error.strerror}",)
    if not saves:
        return ()
    surroundings = around()
    problems: list[str] = []
    with ActingAs(site.user.uid, site.user.gid):
        skew = lock_evidence.measure_skew(site.lock_dir)
    evidence = lock_evidence.gather(
        call, site, surroundings, {save.writer for save in saves}, skew
    )
    if evidence.maintenance:
        return ()
    host = surroundings.this_host.node or surroundings.this_host.hostname
    mending: dict[str, list[tuple[HalfSave, Inspection, Verdict]]] = {}
    with ActingAs(site.user.uid, site.user.gid):
        for save in saves:
            seen = _inspect(save)
            if seen is None:
                continue
            verdict = verdicts.judge_claim((save.writer,), seen, evidence)
            if verdict.may_release:
                mending.setdefault(save.directory, []).append((save, seen, verdict))
            elif (
                verdict.state not in IN_GOOD_HANDS
                and evidence.now + evidence.clock_offset - seen.changed_at > stuck_after
                and _is_wanted(save, seen)
            ):
                problems.append(_unproven(save, verdict))
        if not mending:
            return tuple(problems)
        waits_until = time.monotonic() + min(LIST_LOCK_WAIT, call.deadline.remaining())
        try:
            with Quarantine(site.lock_dir, host) as quarantine:
                # A list without a configuration goes first: of any other nothing is needed.
                for dead in sorted(mending.values(), key=lambda dead: dead[0][0].has_config):
                    problem = _mend_list(call, site, quarantine, host, dead, waits_until)
                    if problem:
                        problems.append(problem)
        except QuarantineError as error:
            problems.append(str(error))
        except half_saves.OutOfTime:
            problems.append(
                f"the time was over while {call.deadline.activity()}; the next sweep goes on, "
                "and if this is said again, give the operation a longer timeout"
            )
    return tuple(problems)


def _inspect(save: HalfSave) -> Inspection | None:
    try:
        directory = _open_list(save)
        try:
            return lock_directory.inspect(directory, save.name)
        finally:
            os.close(directory)
    except OSError:
        return None  # finished, removed, or no regular file: nothing of ours


def _is_wanted(save: HalfSave, seen: Inspection) -> bool:
    """Whether the list has no newer state than `save`."""
    try:
        directory = _open_list(save)
        try:
            return not half_saves.has_config(directory) and half_saves.is_newest(
                directory, seen.expires_ns
            )
        finally:
            os.close(directory)
    except OSError:
        return False  # the list has just been removed


def _unproven(save: HalfSave, verdict: Verdict) -> str:
    """The sentence on a save that may be the list's newest state, and stays for its writer."""
    import shlex

    path = escape(os.path.join(save.directory, save.name))
    way_out = verdict.remedy
    if verdict.state != verdicts.LOST:
        # The verdict's own ways are those with a lock, which may be moved aside.
        config = escape(os.path.join(save.directory, half_saves.CONFIG))
        way_out = (
            f"once no Mailman writes it, `mv -n {shlex.quote(path)} {shlex.quote(config)}`, or "
            "move it away to go on from config.pck.last"
        )
    if verdict.state == verdicts.STRANGER:
        host = save.writer.host
        way_out = f'if a node calls itself {host}, set host_map="NODE={host}"; otherwise, {way_out}'
    return (
        f"the list {escape(save.list_name)} has no config.pck, and its newest state may be {path}: "
        f"{verdict.why}; {way_out}"
    )


def _open_list(save: HalfSave) -> int:
    return os.open(
        save.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    )


def _mend_list(
    call: Call,
    site: Installation,
    quarantine: Quarantine,
    host: str,
    dead: list[tuple[HalfSave, Inspection, Verdict]],
    waits_until: float,
) -> str:
    """Carry out what is judged for the saves of one list, under its own lock; why not, in words.

    Whatever stands in the way of one save keeps the older ones from being finished in its place.
    Raises OutOfTime.
    """
    first = dead[0][0]
    where = first.directory
    _begin(call, where)
    try:
        held = holding.take(
            quarantine.directory, site.lock_dir, f"{first.list_name}.lock", host,
            LIST_LOCK_LIFETIME, max(waits_until - time.monotonic(), 0.0), site.format,
        )
    except (holding.NotHeldError, OSError):
        return ""  # the list is in use: the next sweep finds what is left then
    try:
        directory = _open_list(first)
        try:
            # Of several whole files the newest is the list's state. (The time that is a lock's
            # expiry is when any other file was written.)
            for save, seen, verdict in sorted(dead, key=lambda one: -one[1].expires_ns):
                where = os.path.join(save.directory, save.name)
                _begin(call, where)
                held.refresh()
                if not _mend_one(call, quarantine, host, directory, save, seen, verdict):
                    break
        finally:
            os.close(directory)
    except holding.NotHeldError:
        pass
    except OSError as error:
        return f"the half-finished save {escape(where)} could not be mended: {error.strerror}"
    finally:
        held.give_up()
    return ""


def _begin(call: Call, where: str) -> None:
    call.deadline.doing(f"mending half-finished saves: {escape(where)}")
    if call.deadline.passed():
        raise half_saves.OutOfTime


def _mend_one(
    call: Call,
    quarantine: Quarantine,
    host: str,
    directory: int,
    save: HalfSave,
    seen: Inspection,
    verdict: Verdict,
) -> bool:
    """Carry out what is judged for one save of the list whose open directory is `directory`; False
    where somebody has written it since. Raises OSError and OutOfTime."""
    where = escape(os.path.join(save.directory, save.name))
    try:
        now = lock_directory.inspect(directory, save.name)
    except OSError as error:
        if lock_directory.is_gone(error):  # another node's janitor was faster
            return True
        raise
    if (now.inode, now.changed_ns) != (seen.inode, seen.changed_ns):
        return False
    current = replace(save, has_config=half_saves.has_config(directory))
    newest = half_saves.is_newest(directory, now.expires_ns)
    whole = not current.has_config and newest and _is_whole(call, directory, save.name)
    decision = half_saves.judge(current, True, newest, whole)
    if decision == half_saves.FINISH and half_saves.finish(directory, current):
        done = "finished"
    else:
        quarantine.adopt(directory, save.name, now.inode)
        done = "put aside"
    quarantine.log(
        {"list_save": where, "done": done, "state": verdict.state, "why": verdict.why,
         "host": save.writer.host, "pid": save.writer.pid, "by_node": host}
    )
    outdated = "" if newest else ", which is older than config.pck.last"
    call.log.info(f"{done} the half-finished save {where}{outdated}: {verdict.why}")
    return True


def _is_whole(call: Call, directory: int, name: str) -> bool:
    file = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
    )
    with os.fdopen(file, "rb") as opened:
        return half_saves.is_whole(opened, lambda: not call.deadline.passed())


def empty_quarantine(call: Call, site: Installation, days: int) -> None:
    """Remove what has been in quarantine for more than `days` days (0: never)."""
    if days <= 0 or call.deadline.passed():
        return
    if not os.path.isdir(os.path.join(site.lock_dir, lock_directory.QUARANTINE)):
        return
    call.deadline.doing("removing what was kept long enough in quarantine")
    with ActingAs(site.user.uid, site.user.gid):
        try:
            with Quarantine(site.lock_dir, "janitor") as quarantine:
                removed = quarantine.purge(days * DAY)
        except (QuarantineError, OSError) as error:
            call.log.warning(f"the quarantine was not emptied: {escape(str(error))}")
            return
    if removed:
        call.log.info(f"removed {removed} files kept in quarantine for more than {days} days")
