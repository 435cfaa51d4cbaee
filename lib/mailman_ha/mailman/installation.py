"""One installation as the agents use it: its place, its own answer, and whose it is."""

from __future__ import annotations

import grp
import os
import pwd

from mailman_ha.locks import grammar
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.location import VERSION_21, Location
from mailman_ha.ocf.record import record, replace

#: 2.1's runners by the queue they serve (facts, section 3).
QUEUES_21 = {
    "ArchRunner": "ARCH",
    "BounceRunner": "BOUNCE",
    "CommandRunner": "CMD",
    "IncomingRunner": "IN",
    "NewsRunner": "NEWS",
    "OutgoingRunner": "OUT",
    "VirginRunner": "VIRGIN",
    "RetryRunner": "RETRY",
}

#: What the queues' directories are called where nobody changed 2.1's defaults.
USUAL_DIRECTORIES_21 = {
    "archive": "ArchRunner",
    "bounces": "BounceRunner",
    "commands": "CommandRunner",
    "in": "IncomingRunner",
    "news": "NewsRunner",
    "out": "OutgoingRunner",
    "virgin": "VirginRunner",
    "retry": "RetryRunner",
}

#: Queues in which entries wait by design, so that their age says nothing: retries are left for
#: 15 minutes at a time and for days; Mailman 3's digest and shunt queues are no runner's backlog.
WAITING_QUEUES = ("RetryRunner", "retry", "digest", "shunt", "bad")

#: Mailman 3's runners that take from no queue, and queues that no runner serves.
RUNNERS_WITHOUT_QUEUE_3 = ("lmtp", "rest", "task")
QUEUES_WITHOUT_RUNNER_3 = ("shunt", "bad")

#: Mailman 3's usual users, Debian's first; 2.1 names its own.
USERS_3 = ("list", "mailman")


class NoSuchUser(Exception):
    """Mailman's user or group is unknown on this node; the text says which and what to do."""


@record
class User:
    """Whose Mailman is: names and ids."""

    name: str
    uid: int
    gid: int


@record
class Installation:
    """A Mailman installation with everything that does not change while it runs."""

    location: Location
    answer: Answer
    user: User
    lock_dir: str

    @property
    def format(self) -> str:
        """Which of the lock library's formats its locks have."""
        return grammar.FORMAT_21 if self.location.version == VERSION_21 else grammar.FORMAT_3

    @property
    def master_lock(self) -> str:
        """The name of the master's lock file in `lock_dir`."""
        return os.path.basename(self.answer.master_lock)

    @property
    def locations(self) -> tuple[Location, ...]:
        """The location, widened by the directory from which Mailman itself starts its programs,
        and with the one in which they work."""
        bindirs = self.location.bindirs
        if self.answer.bin_dir not in bindirs:
            bindirs = (*bindirs, self.answer.bin_dir)
        return (replace(self.location, bindirs=bindirs, working_dir=self.answer.working_dir),)

    def expected_runners(self) -> tuple[tuple[str, int, int], ...]:
        """(runner, slice, slices) of every runner process that the master keeps."""
        return tuple(
            (name, number, count)
            for name, count in self.answer.runners
            for number in range(count)
        )

    def queue_directory(self, runner: str) -> str | None:
        """The directory of the queue that `runner` serves; None where it has none."""
        queues = dict(self.answer.queues)
        if self.location.version == VERSION_21:
            return queues.get(QUEUES_21.get(runner, ""))
        if runner in RUNNERS_WITHOUT_QUEUE_3:
            return None
        return queues.get(runner)

    def runners_by_queue(self) -> dict[str, str]:
        """The runner of each queue that one serves, by the name of the queue's directory."""
        if self.location.version == VERSION_21:
            queues = dict(self.answer.queues)
            return {
                os.path.basename(queues[key]): runner
                for runner, key in QUEUES_21.items()
                if key in queues
            }
        return {
            name: name
            for name, _ in self.answer.queues
            if name not in RUNNERS_WITHOUT_QUEUE_3 + QUEUES_WITHOUT_RUNNER_3
        }


def find_user(name: str, group: str) -> User:
    """The user called `name`, with `group` or his own. Raises NoSuchUser."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise NoSuchUser(
            f"there is no user {name} on this node; create it with the same uid on every node, or "
            "set the parameter user"
        ) from None
    gid = entry.pw_gid
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise NoSuchUser(
                f"there is no group {group} on this node; create it with the same gid on every "
                "node, or set the parameter group"
            ) from None
    return User(name, entry.pw_uid, gid)


def find_reader_21(prefix: str) -> User:
    """As whom 2.1 is asked for its configuration, which is a program, before it has named its user:
    nobody, in the group of its files, for which Mailman's own check_perms keeps them readable. Not
    root: whoever can write there would be root then."""
    try:
        entry = pwd.getpwnam("nobody")
        name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
    except KeyError:
        name, uid, gid = "nobody", 65534, 65534
    try:
        gid = os.stat(prefix).st_gid or gid
    except OSError:
        pass  # what is missing is told by whoever looks for the programs
    return User(name, uid, gid)


def find_user_3(name: str, group: str) -> User:
    """Mailman 3's user: `name`, or the first of its usual ones that exists. Raises NoSuchUser."""
    if name:
        return find_user(name, group)
    for usual in USERS_3:
        try:
            return find_user(usual, group)
        except NoSuchUser:
            continue
    raise NoSuchUser(
        f"none of Mailman 3's usual users ({', '.join(USERS_3)}) exists; set the parameter user"
    )
