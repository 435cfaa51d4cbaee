"""mailman-ha explain LOCK: everything that is known of one lock, and what to do."""

from __future__ import annotations

import os
import stat

from mailman_ha.cli import json_output, locks, table, target
from mailman_ha.cli.ending import FINE, NEEDS_YOU, CannotDo, UsageError
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from mailman_ha.agents.lock_sweep import Judged
    from mailman_ha.cli.lock_chain import Chain, FileFacts
    from mailman_ha.cli.lock_rows import LockRow
    from mailman_ha.cli.locks import Seen
    from mailman_ha.cli.target import Target
    from mailman_ha.locks.directory import LockDirectory

NAME = "explain"
HELP = "tell all that is known of one lock, and what to type"
DESCRIPTION = (
    "Tells the whole chain for one lock: the file, its claim files, its owner, each piece of "
    "evidence with its source and time, the verdict, and what to type. LOCK is the name of a lock "
    "(a list's name will do), of a claim file, or a path in the lock directory. A lock that was "
    "released is looked up in the evidence log of the quarantine.\n\n"
    "Works with the cluster down and without root, and then says which evidence is missing. "
    "Nothing is changed.\n\n"
    "Ends with 1 where the lock needs you, as `mailman-ha locks` does."
)

#: How much of the evidence log's end is searched (bytes).
_LOG_LIMIT = 4 << 20

#: What the master's lock may be called, however Mailman calls it.
MASTER = "master"

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


def declare(parser: argparse.ArgumentParser) -> None:
    lock = parser.add_argument(
        "lock", metavar="LOCK",
        help=f"name of a lock, claim file or list; {MASTER} for the master's lock; or a path",
    )
    lock.completer = _names_of_locks  # type: ignore[attr-defined]
    target.declare(parser)


def _names_of_locks(parsed_args: argparse.Namespace, **_others: object) -> list[str]:
    """For the shell: the names in the lock directory, where they can be had."""
    from mailman_ha.locks import directory as lock_directory

    parsed_args.command = NAME
    with target.find(parsed_args) as mailman:
        site = mailman.site
        found = lock_directory.read(site.lock_dir, site.format, site.master_lock)
    names = [lock.name for lock in found.locks] + [
        one.name for orphan in found.orphans for one in (orphan, *orphan.twins)
    ]
    return [name for name in names if name == escape(name)]


@record
class Explained:
    """What was observed of one lock: `claims` are the claim files that share its inode."""

    seen: Seen
    judged: Judged
    file: FileFacts | None
    claims: tuple[FileFacts, ...]


def run(options: argparse.Namespace) -> int:
    from mailman_ha.cli import lock_chain, lock_rows

    with target.find(options) as mailman:
        listing = _listing(mailman)
        name = _name(options.lock, mailman)
        found = _find(name, listing)
        if found is None and name == MASTER:
            name = mailman.site.master_lock
            found = _find(name, listing)
        past = None if found else _released(name, mailman)
        explained = _observe(mailman, *found) if found else None
    if explained is None:
        return _tell_past(options, mailman, name, past)
    seen = explained.seen
    standards = lock_rows.Standards(seen.stuck_after, seen.swept)
    told = {row.name: row for row in lock_rows.rows(seen.look, standards)}
    row = told.pop(explained.judged.name)
    unseen = target.could_not_see(mailman.site)
    chain = lock_chain.chain(
        explained.judged, explained.file, explained.claims, seen.look.evidence, seen.around,
        mailman.site.lock_dir, unseen,
    )
    waiting = [one for one in told.values() if one.kind == lock_rows.CLAIM] if (
        explained.judged.is_lock
    ) else []
    if options.json:
        json_output.write(NAME, {
            "installation": mailman.as_json(),
            "cluster": lock_rows.cluster_as_json(seen.around),
            "lock": lock_rows.as_json(row),
            "waiting": [lock_rows.as_json(one) for one in waiting],
            "evidence": [link.as_json() for link in chain.links],
            "missing": list(chain.missing),
            "released": None,
        })
    else:
        _print(explained, mailman, row, chain, waiting)
    return NEEDS_YOU if row.needs_you else FINE


def _print(
    explained: Explained, mailman: Target, row: LockRow, chain: Chain, waiting: list[LockRow]
) -> None:
    from mailman_ha.cli import lock_rows
    from mailman_ha.cli.words import clock, span

    table.say(mailman.described(), table.FAINT)
    table.say("")
    expiry = "not known"
    if row.expires_in is not None:
        expiry = (
            f"expired {span(row.expires_in)} ago: any Mailman may break it by its own rules"
            if row.expired else f"expires in {span(row.expires_in)}"
        )
    who = "nobody is named" if row.pid is None else (
        f"pid {row.pid} on host {escape(row.host or '')}"
        + (f", node {escape(row.node)}" if row.node else "")
        + (f": {row.program}" if row.program else "")
    )
    table.fields([
        ("Lock" if row.kind != "claim" else "Claim", table.Cell(escape(row.name), table.STRONG)),
        ("Owner", who),
        ("Touched", f"{span(row.age)} ago, {expiry}" if row.age is not None else expiry),
    ])
    table.say("")
    now = explained.seen.look.evidence.now if explained.seen.look.evidence is not None else None
    table.show(
        (table.Column("Evidence", least=8), table.Column("Found", least=24),
         table.Column("Source", least=12), table.Column("As of", least=9)),
        ([link.subject, link.found, link.source, "" if link.at is None else clock(link.at, now)]
         for link in chain.links),
    )
    for one in waiting:
        table.say(f"waiting for it: {escape(one.name)}: {one.why}", table.FAINT)
    if chain.missing:
        table.say("")
        for sentence in chain.missing:
            table.say(f"not seen: {sentence}", table.DOUBT)
    table.say("")
    table.fields([
        ("Verdict", table.Cell(row.verdict, lock_rows.look_of(row))),
        ("Why", row.why),
        ("Do", table.Cell(row.remedy or "nothing", table.STRONG if row.needs_you else "")),
    ])


def _listing(mailman: Target) -> LockDirectory:
    from mailman_ha.evidence.user_identity import ActingAs
    from mailman_ha.locks import directory as lock_directory

    site = mailman.site
    try:
        with ActingAs(site.user.uid, site.user.gid):
            return lock_directory.read(site.lock_dir, site.format, site.master_lock)
    except OSError as error:
        raise CannotDo(locks.cannot_list(mailman, error)) from error


def _name(typed: str, mailman: Target) -> str:
    """The file name that is meant. Raises UsageError for a path to somewhere else."""
    if os.sep not in typed:
        if typed in ("", ".", ".."):
            raise UsageError(f"{typed or 'an empty text'} is no lock's name")
        return typed
    lock_dir = os.path.realpath(mailman.site.lock_dir)
    parent, name = os.path.split(os.path.abspath(typed))
    if os.path.realpath(parent) != lock_dir or not name:
        raise UsageError(
            f"{escape(typed)} does not lie in the lock directory {escape(lock_dir)}; give a name "
            "or a path in it (mailman-ha locks lists them)"
        )
    return name


def _find(name: str, listing: LockDirectory) -> tuple[str, frozenset[str]] | None:
    """The name in the directory that is meant, and the locks that must be judged for it. None
    where there is none."""
    for wanted in (name, f"{name}.lock"):
        for lock in listing.locks:
            if lock.name == wanted or wanted in lock.claims:
                return lock.name, frozenset((lock.name,))
        for orphan in listing.orphans:
            if wanted in (orphan.name, *(twin.name for twin in orphan.twins)):
                return orphan.name, frozenset(lock_name for lock_name, _ in orphan.readings)
        if wanted in listing.odd:
            return wanted, frozenset((wanted,))
    return None


def _observe(mailman: Target, name: str, only: frozenset[str]) -> Explained | None:
    """Look at one lock; None where it went meanwhile."""
    from mailman_ha.evidence.user_identity import ActingAs

    seen = locks.observe(mailman, only, closely=True)
    for judged in seen.look.judged:
        if judged.name == name:
            break
    else:
        return None
    site = mailman.site
    with ActingAs(site.user.uid, site.user.gid):
        file = _file_facts(site.lock_dir, name)
        claims = tuple(
            facts for facts in (_file_facts(site.lock_dir, one) for one in judged.claims)
            if facts is not None
        )
    return Explained(seen, judged, file, claims)


def _file_facts(lock_dir: str, name: str) -> FileFacts | None:
    from mailman_ha.cli.lock_chain import FileFacts

    try:
        status = os.lstat(os.path.join(lock_dir, name))
    except OSError:
        return None
    return FileFacts(
        name, _KINDS.get(stat.S_IFMT(status.st_mode), "other"), status.st_ino, status.st_nlink,
        stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_size,
        status.st_ctime, status.st_mtime,
    )


def _released(name: str, mailman: Target) -> dict[str, Any] | None:
    """The last line of the evidence log on a release of `name`; None where there is none."""
    import json

    from mailman_ha.evidence.user_identity import ActingAs
    from mailman_ha.locks.directory import QUARANTINE
    from mailman_ha.locks.release import EVIDENCE_LOG

    site = mailman.site
    path = os.path.join(site.lock_dir, QUARANTINE, EVIDENCE_LOG)
    try:
        with ActingAs(site.user.uid, site.user.gid):
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode):
                    return None
                tail = os.pread(file, _LOG_LIMIT, max(status.st_size - _LOG_LIMIT, 0))
            finally:
                os.close(file)
    except OSError:
        return None
    names = (escape(name), escape(f"{name}.lock"))
    for line in reversed(tail.splitlines()):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and entry.get("released") in names:
            return entry
    return None


#: What a line of the evidence log tells; it is hostile input like all in the lock directory.
_LOGGED = ("time", "released", "state", "why", "host", "pid", "node", "by_node", "by_resource")


def _tell_past(
    options: argparse.Namespace, mailman: Target, name: str, past: dict[str, Any] | None
) -> int:
    """Tell of a lock that is not there: when it was released, if it was. Raises UsageError."""
    lock_dir = escape(mailman.site.lock_dir)
    if past is None:
        raise UsageError(
            f"there is no lock {escape(name)} in {lock_dir}, and its quarantine knows of none; "
            "mailman-ha locks lists those that are there"
        )
    logged = {
        field: None if past.get(field) is None else escape(str(past[field]), 400)
        for field in _LOGGED
    }
    moved = past.get("moved_to")
    files = [escape(str(one), 300) for one in moved[:16]] if isinstance(moved, list) else []
    if options.json:
        json_output.write(NAME, {
            "installation": mailman.as_json(), "cluster": None, "lock": None, "waiting": [],
            "evidence": [], "missing": [], "released": {**logged, "moved_to": files},
        })
        return FINE
    table.say(mailman.described(), table.FAINT)
    table.say("")
    table.fields([
        ("Lock", table.Cell(logged["released"] or "", table.STRONG)),
        ("Now", "not there any more: it was released"),
        ("When", logged["time"] or "?"),
        ("By", f"{logged['by_resource'] or '?'} on {logged['by_node'] or '?'}"),
        ("Verdict", logged["state"] or "?"),
        ("Why", logged["why"] or "?"),
        *(("Kept as", f"{lock_dir}/mailman-ha.quarantine/{one}") for one in files),
        ("Source", f"{lock_dir}/mailman-ha.quarantine/evidence.jsonl"),
    ])
    return FINE
