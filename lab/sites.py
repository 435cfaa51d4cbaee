"""What a lab serves: which Mailman, where its files lie, how its processes look.

A site knows how to lay its configuration over an image, how to fill an empty shared disk, which
resources stand between Filesystem and Mailman, and how to recognise a master and a runner in a
process table. Everything else in the lab is the same for all sites.
"""

from __future__ import annotations

import configparser
import re
import shutil
import smtplib
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .cluster import (
    DATABASE,
    DOMAIN,
    GROUP,
    OUTSIDE,
    VIRTUAL_ADDRESS,
    Clone,
    Operation,
    Resource,
    StandsOn,
)

if TYPE_CHECKING:
    from .client import Lab

SINK_PORT = 2525
LMTP_PORT = 8024

CONNECT_WITHIN = 1.0  # seconds for a connection to the LMTP server
ANSWER_WITHIN = 20.0  # seconds for its answer; giving up too early makes duplicates

CHECKOUT = Path(__file__).resolve().parent.parent

# Resource names, for tests and people.
FILESYSTEM, JANITOR, ADDRESS, MASTER = "share", "janitor", "address", "mailman"


class PostRefused(Exception):
    """A post was not accepted; the text is the server's or the network's reason.

    `in_doubt`: the answer was lost, so Mailman may have the post all the same.
    """

    def __init__(self, reason: str, in_doubt: bool = False) -> None:
        super().__init__(reason)
        self.in_doubt = in_doubt


class Entrance(ABC):
    """The way in for posts, kept open from one post to the next by one thread of somebody outside.

    Used in a thread on the lab's network.
    """

    @abstractmethod
    def post(self, sender: str, address: str, message: str) -> None:
        """Hand a post for the list to the active node; returning means Mailman accepted it.

        Raises PostRefused; the next post then tries a way of its own.
        """

    def close(self) -> None:  # noqa: B027  (not every way in has something to close)
        """Leave."""


class Site(ABC):
    """One kind of mail site."""

    name: str
    mount_point: str
    user = group = "list"  # whose Mailman's files and processes are
    runners: frozenset[str]  # runner names the master's set has, without their `:0:1`
    with_workers: frozenset[str] = frozenset()  # those that fork workers like themselves
    # Runner → in how many slices its queue is spread over the nodes, outside the master.
    slices: Mapping[str, int] = MappingProxyType({})
    on_several_nodes = False  # whether the share is mounted on all nodes at once
    needs_database = False  # whether PostgreSQL runs outside the nodes

    def missing(self) -> list[str]:
        """One sentence for each thing this machine lacks for this site; empty when it can be."""
        return []

    @abstractmethod
    def lay_out(self, image: Path, layer: Path) -> None:
        """Put the site's configuration into the layer that covers the image in every node."""

    @abstractmethod
    def seed(self, image: Path, share: Path) -> None:
        """Fill the freshly made shared file system, mounted at `share`."""

    def seed_database(self) -> list[list[str]]:
        """Commands, run in a node's file tree, that fill the empty database."""
        return []

    @abstractmethod
    def agent_parameters(self) -> dict[str, str]:
        """Parameters of mailman-master and list-lock-janitor that name this installation."""

    @abstractmethod
    def role(self, command_line: Sequence[str]) -> tuple[str, str] | None:
        """('master', '') or ('runner', 'in:0:1') for a Mailman daemon, else None."""

    @abstractmethod
    def create_list(self, address: str, subscribers: Sequence[str]) -> list[list[str]]:
        """Commands for the active node that make a list with these subscribers."""

    @abstractmethod
    def list_members(self, address: str) -> list[str]:
        """Command for the active node that prints a list's subscribers, one a line."""

    @abstractmethod
    def entrance(self, lab: Lab) -> Entrance:
        """A way in for posts; nothing is opened before the first."""

    @abstractmethod
    def takes_posts(self, lab: Lab) -> bool:
        """Whether a post would be accepted now. Called in a thread on the lab's network."""

    @abstractmethod
    def start_command(self, force: bool) -> list[str]:
        """What an operator types on a node to start Mailman by hand."""

    @abstractmethod
    def lock_directory(self) -> str:
        """Where the master lock lies on the share, as seen in a node."""

    @abstractmethod
    def master_lock_names(self, node: str, pid: int) -> tuple[str, str]:
        """File names of the master lock, and of the claim file of that master on that host."""

    def prepare_local_start(self, lab: Lab, node: str) -> None:
        """Make a start by hand possible on a node that has not mounted the share. An earlier fault
        may have closed the bare mount point to Mailman."""
        lab.run(node, ["chmod", "755", self.mount_point])

    def clear_local_start(self, lab: Lab, node: str) -> None:  # noqa: B027  nothing to do for most
        """Take back what `prepare_local_start` did; what it started must have ended."""

    def resources(self) -> list[Resource]:
        """The group `mail`, in its order of start."""
        below = [] if self.on_several_nodes else [self.filesystem(), self.janitor()]
        return [*below, self.address_resource(), self.master()]

    def clones(self) -> list[Clone]:
        """What runs on several nodes at once."""
        if not self.on_several_nodes:
            return []
        return [
            Clone(self.filesystem()),
            Clone(self.janitor()),
            *(
                Clone(self.slice_resource(runner), count) for runner, count in self.slices.items()
            ),
        ]

    def constraints(self) -> list[StandsOn]:
        """What runs only where something else does."""
        if not self.on_several_nodes:
            return []
        share, janitor, *sliced = self.clones()
        return [
            StandsOn(janitor.id, share.id),
            StandsOn(GROUP, janitor.id),
            *(StandsOn(clone.id, janitor.id, lasting=False) for clone in sliced),
        ]

    def filesystem(self) -> Resource:
        """The share: a disk, or where several nodes have it, a directory they all see."""
        device = {"device": "/dev/shared-disk", "fstype": "ext4"}
        if self.on_several_nodes:
            device = {"device": "/srv/shared-directory", "fstype": "none", "options": "bind"}
        return Resource(
            FILESYSTEM,
            "ocf:heartbeat:Filesystem",
            {**device, "directory": self.mount_point},
            (
                Operation("start", 30),
                Operation("stop", 30),
                Operation("monitor", 30, interval=10),
            ),
        )

    def janitor(self) -> Resource:
        """list-lock-janitor."""
        return Resource(
            JANITOR,
            "ocf:mailman:list-lock-janitor",
            self.agent_parameters(),
            (
                Operation("start", 30),
                Operation("stop", 30),
                Operation("monitor", 30, interval=15),
            ),
        )

    def address_resource(self) -> Resource:
        """The virtual address."""
        return Resource(
            ADDRESS,
            "ocf:heartbeat:IPaddr2",
            {"ip": VIRTUAL_ADDRESS, "cidr_netmask": "24", "nic": "eth0"},
            (
                Operation("start", 20),
                Operation("stop", 20),
                Operation("monitor", 20, interval=10),
            ),
        )

    def master(self) -> Resource:
        """mailman-master."""
        return Resource(
            MASTER,
            "ocf:mailman:mailman-master",
            self.agent_parameters(),
            (
                Operation("start", 60),
                Operation("stop", 60),
                Operation("monitor", 20, interval=5),
                Operation("monitor", 30, interval=13, level=10),
                Operation("monitor", 60, interval=31, level=20),
            ),
        )

    def slice_resource(self, runner: str) -> Resource:
        """qfiles-slice for the queue of this runner, to be cloned."""
        return Resource(
            slice_name(self.queue_of(runner)),
            "ocf:mailman:qfiles-slice",
            {**self.agent_parameters(), "queue": self.queue_of(runner)},
            (
                Operation("start", 60),
                Operation("stop", 60),
                Operation("monitor", 20, interval=10),
                Operation("monitor", 30, interval=20, level=10),
            ),
        )

    @abstractmethod
    def queue_of(self, runner: str) -> str:
        """The directory of a runner's queue, below `queue_directory`."""

    @abstractmethod
    def queue_directory(self) -> str:
        """The directory of all queues, below the mount point."""


class Mailman3(Site):
    """Debian's mailman3: its configuration, user and directories, the var directory shared."""

    name = "mailman3"
    mount_point = "/var/lib/mailman3"
    config = "/etc/mailman3/mailman.cfg"
    command = "/usr/bin/mailman"
    runners = frozenset(
        {
            *("archive", "bounces", "command", "digest", "in", "lmtp"),
            *("out", "pipeline", "rest", "retry", "task", "virgin"),
        }
    )
    with_workers = frozenset({"rest"})

    # What differs from the package's configuration: mail goes to the sink, comes in on every
    # address of the node, and there is no Postfix whose maps would need to be written.
    changes: ClassVar[dict[str, dict[str, str]]] = {
        "mta": {
            "incoming": "mailman.mta.null.NullMTA",
            "smtp_host": OUTSIDE,
            "smtp_port": str(SINK_PORT),
            "lmtp_host": "0.0.0.0",
            "lmtp_port": str(LMTP_PORT),
        },
    }

    additions: ClassVar[dict[str, dict[str, str]]] = {}  # sections the package's file lacks

    def lay_out(self, image: Path, layer: Path) -> None:
        """The package's mailman.cfg with the lab's changes, owned and readable as before."""
        original = image / self.config.lstrip("/")
        copy = layer / self.config.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copystat(original.parent, copy.parent)
        shutil.copy2(original, copy)
        copy_ownership(original, copy)
        text = original.read_text(encoding="utf-8")
        for section, settings in self.changes.items():
            for name, value in settings.items():
                text, found = re.subn(
                    rf"(?ms)^(\[{section}\]\n(?:(?!^\[).)*?^){name}:[^\n]*$",
                    rf"\g<1>{name}: {value}",
                    text,
                )
                if not found:
                    raise ValueError(f"{original} has no {name} in [{section}]")
        for section, settings in self.additions.items():
            lines = [f"{name}: {value}" for name, value in settings.items()]
            text = "\n".join([text.rstrip("\n"), "", f"[{section}]", *lines, ""])
        copy.write_text(text, encoding="utf-8")
        check = configparser.ConfigParser(interpolation=None, strict=False)
        check.read_string(text)
        for section, settings in {**self.changes, **self.additions}.items():
            for name, value in settings.items():
                assert check[section][name] == value, (section, name)

    def seed(self, image: Path, share: Path) -> None:
        """The var directory as the package made it, with an empty database, all of user list.

        Mailman makes the other directories when it first starts; the lock directory must be there
        before, because list-lock-janitor starts before Mailman.
        """
        original = image / self.mount_point.lstrip("/")
        subprocess.run(["cp", "-a", f"{original}/.", str(share)], check=True)
        copy_ownership(original, share)
        shutil.copymode(original, share)
        locks = share / "locks"
        locks.mkdir()
        copy_ownership(original, locks)

    def agent_parameters(self) -> dict[str, str]:
        return {
            "mailman_version": "3",
            "bindir": "/usr/lib/mailman3/bin",
            "config": self.config,
            "user": "list",
        }

    def role(self, command_line: Sequence[str]) -> tuple[str, str] | None:
        if len(command_line) >= 2 and command_line[1].endswith("/mailman3/bin/master"):
            return ("master", "")
        if len(command_line) >= 2 and command_line[1].endswith("/mailman3/bin/runner"):
            for word in command_line[2:]:
                if word.startswith("--runner="):
                    return ("runner", word[len("--runner=") :])
            return ("runner", "?")
        return None

    def mailman(self, *words: str) -> list[str]:
        """A `mailman` command as its own user."""
        return ["runuser", "-u", "list", "--", self.command, "-C", self.config, *words]

    def create_list(self, address: str, subscribers: Sequence[str]) -> list[list[str]]:
        add = 'printf "%s\\n" "$@" | exec ' + " ".join(
            self.mailman("addmembers", "-", address, "--no-welcome-msg")
        )
        return [
            self.mailman("create", "--domain", address),
            ["sh", "-c", add, "sh", *subscribers],
        ]

    def in_shell_of(self, address: str, code: str) -> list[str]:
        """Run this code on a list `m`, and keep what it changes."""
        shell = 'printf %s "$1" | exec ' + " ".join(self.mailman("shell", "-l", address))
        return ["sh", "-ec", shell, "sh", f"{code}commit()\n"]

    def list_members(self, address: str) -> list[str]:
        return self.mailman("members", address)

    def entrance(self, lab: Lab) -> Entrance:
        return LmtpEntrance()

    def queue_of(self, runner: str) -> str:
        return runner

    def queue_directory(self) -> str:
        return "queue"

    def takes_posts(self, lab: Lab) -> bool:
        try:
            with lmtp_connection():
                return True
        except LMTP_TROUBLE:
            return False

    def start_command(self, force: bool) -> list[str]:
        return self.mailman("start", *(["--force"] if force else []))

    def lock_directory(self) -> str:
        return f"{self.mount_point}/locks"

    def master_lock_names(self, node: str, pid: int) -> tuple[str, str]:
        host = node if "." in node else f"{node}.{DOMAIN}"
        return "master.lck", f"master.lck|{host}|{pid}|8648814394772772277"


#: Code for Mailman's shell: the list `m` keeps no archive, and has its rows in `listarchiver`.
NO_ARCHIVE = (
    "from mailman.interfaces.archiver import ArchivePolicy\n"
    "from mailman.interfaces.mailinglist import IListArchiverSet\n"
    "IListArchiverSet(m)\n"
    "m.archive_policy = ArchivePolicy.never\n"
)

LMTP_TROUBLE = (OSError, smtplib.SMTPException)


class LmtpConnection(smtplib.LMTP):
    """A connection to the lists' LMTP server. That the goodbye fails takes no 250 back."""

    def __exit__(self, *exception: Any) -> None:
        try:
            super().__exit__(*exception)
        except LMTP_TROUBLE:
            self.close()


def lmtp_connection() -> LmtpConnection:
    """Connect to the virtual address and wait for the greeting."""
    server = LmtpConnection(
        VIRTUAL_ADDRESS, LMTP_PORT, local_hostname=f"outside.{DOMAIN}", timeout=CONNECT_WITHIN
    )
    assert server.sock is not None
    server.sock.settimeout(ANSWER_WITHIN)
    return server


class LmtpEntrance(Entrance):
    """A connection to the LMTP server that stays open for the next post."""

    def __init__(self) -> None:
        self.server: LmtpConnection | None = None

    def post(self, sender: str, address: str, message: str) -> None:
        sent = False
        try:
            if self.server is None:
                self.server = lmtp_connection()
                self.server.ehlo_or_helo_if_needed()
            expect(250, self.server.mail(sender))
            expect(250, self.server.rcpt(address))
            sent = True
            expect(250, self.server.data(message))
        except smtplib.SMTPResponseException as trouble:
            self.close()
            raise PostRefused(str(trouble)) from trouble
        except LMTP_TROUBLE as trouble:
            self.close()
            raise PostRefused(str(trouble), in_doubt=sent) from trouble

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None


def expect(code: int, reply: tuple[int, bytes]) -> None:
    """Raise SMTPResponseException for any other reply of the server."""
    if reply[0] != code:
        raise smtplib.SMTPResponseException(*reply)


class Standin21(Site):
    """The stand-in for Mailman 2.1 of the tests, installed on the share under its prefix.

    Posts come in as they do with 2.1: the mail system of the node that has the share hands them
    to a program of Mailman's, and they are accepted when that ended with status 0.
    """

    name = "standin21"
    mount_point = "/srv/mailman"
    address = f"test@lists.{DOMAIN}"
    runners = frozenset(
        f"{kind}Runner"
        for kind in ["Arch", "Bounce", "Command", "Incoming", "News", "Outgoing", "Virgin", "Retry"]
    )
    subscribers = tuple(f"subscriber{number}@outside.{DOMAIN}" for number in (1, 2, 3))

    def lay_out(self, image: Path, layer: Path) -> None:
        """The mount point; all else is on the share."""
        (layer / self.mount_point.lstrip("/")).mkdir(parents=True)

    def settings(self) -> str:
        """What is appended to mm_cfg.py."""
        return f'SMTPHOST = "{OUTSIDE}"\nSMTPPORT = {SINK_PORT}\n'

    def seed(self, image: Path, share: Path) -> None:
        """Install under the path it has in the nodes, in a mount namespace of its own."""
        program = (
            "import sys; from pathlib import Path; from tests.standin import install; "
            "install(Path(sys.argv[1]), user='list', group='list', settings=sys.argv[2], "
            "lists={'test': sys.argv[3:]})"
        )
        top = str(Path(self.mount_point).parent)
        subprocess.run(
            [
                *("unshare", "--mount", "sh", "-ec"),
                'mount -t tmpfs tmpfs "$1"; mkdir "$2"; mount --bind "$3" "$2"; shift 3; exec "$@"',
                *("sh", top, self.mount_point, str(share)),
                *(sys.executable, "-c", program, self.mount_point, self.settings()),
                *self.subscribers,
            ],
            cwd=CHECKOUT,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )

    def agent_parameters(self) -> dict[str, str]:
        return {"mailman_version": "2.1", "prefix": self.mount_point, "user": self.user}

    def as_user(self) -> list[str]:
        """What makes a node's command one of Mailman's user."""
        identity = [f"--reuid={self.user}", f"--regid={self.group}", "--init-groups"]
        return ["setpriv", *identity, "--"]

    def role(self, command_line: Sequence[str]) -> tuple[str, str] | None:
        if f"{self.mount_point}/bin/mailmanctl" in command_line[1:3] and "start" in command_line:
            return ("master", "")
        if f"{self.mount_point}/bin/qrunner" in command_line[1:3]:
            for word in command_line:
                if word.startswith("--runner="):
                    return ("runner", word[len("--runner=") :])
            return ("runner", "?")
        return None

    def create_list(self, address: str, subscribers: Sequence[str]) -> list[list[str]]:
        """Nothing to do: the one list was made with the share."""
        if address != self.address or tuple(subscribers) != self.subscribers:
            raise ValueError(f"{self.name} has the list {self.address} with its own subscribers")
        return []

    def list_members(self, address: str) -> list[str]:
        program = (
            "import pickle, sys; "
            "print('\\n'.join(sorted(pickle.load(open(sys.argv[1], 'rb'))['members'])))"
        )
        name = address.split("@")[0]
        return ["python3", "-c", program, f"{self.mount_point}/lists/{name}/config.pck"]

    def entrance(self, lab: Lab) -> Entrance:
        return InjectEntrance(lab, self)

    def queue_of(self, runner: str) -> str:
        return {"IncomingRunner": "in", "OutgoingRunner": "out"}[runner]

    def queue_directory(self) -> str:
        return "qfiles"

    def active(self, lab: Lab) -> str:
        """The node whose mail system would get a post: the one with the virtual address."""
        wanted = f" {VIRTUAL_ADDRESS}/"
        for node in lab.inits():
            shown = subprocess.run(
                [*lab.enter(node), "ip", "-4", "-o", "address", "show", "dev", "eth0"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
            ).stdout
            if wanted in shown:
                return node
        raise PostRefused("no node has the virtual address")

    def takes_posts(self, lab: Lab) -> bool:
        try:
            self.active(lab)
        except PostRefused:
            return False
        return True

    def start_command(self, force: bool) -> list[str]:
        option = ["-s"] if force else []
        return [f"{self.mount_point}/bin/mailmanctl", *option, "start"]

    def lock_directory(self) -> str:
        return f"{self.mount_point}/locks"

    def master_lock_names(self, node: str, pid: int) -> tuple[str, str]:
        return "master-qrunner", f"master-qrunner.{node}.{pid}"

    def prepare_local_start(self, lab: Lab, node: str) -> None:
        """2.1 cannot run without its prefix: copy the share's to the bare mount point."""
        active = lab.active_node()
        if active is None:
            raise LookupError("no node serves, so there is no installation to copy")
        archive = subprocess.Popen(
            [*lab.enter(active), "tar", "-C", self.mount_point, "-c", "--exclude=./locks/*", "."],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with archive:
            subprocess.run(
                [*lab.enter(node), "tar", "-C", self.mount_point, "-x"],
                stdin=archive.stdout,
                check=True,
            )

    def clear_local_start(self, lab: Lab, node: str) -> None:
        """Remove the copy, also from under the share.

        With the copy in place a post is accepted, and lost, while the share is not mounted.
        """
        lab.run(node, ["sh", "-ec", CLEAR_UNDER_THE_SHARE, "sh", self.mount_point])


# A bind of the root is not recursive: it shows what lies under the mount points.
CLEAR_UNDER_THE_SHARE = """
mkdir -p /run/bare
mount --bind / /run/bare
find "/run/bare$1" -mindepth 1 -delete
umount /run/bare
rmdir /run/bare
"""


class InjectEntrance(Entrance):
    """The program that the mail system runs for each post, on the node it last found active."""

    def __init__(self, lab: Lab, site: Standin21) -> None:
        self.lab = lab
        self.site = site
        self.node: str | None = None
        self.prefix: list[str] = []

    def post(self, sender: str, address: str, message: str) -> None:
        if self.node is None:
            self.node = self.site.active(self.lab)
            self.prefix = self.lab.enter(self.node)
        inject = [f"{self.site.mount_point}/bin/inject", "-l", address.split("@")[0]]
        done = subprocess.run(
            [*self.prefix, *self.site.as_user(), *inject],
            input=message.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=ANSWER_WITHIN,
        )
        if done.returncode != 0:
            text = done.stderr.decode("utf-8", "replace").strip()
            reason = f"{self.node}: inject ended with {done.returncode}: {text}"
            self.node = None
            raise PostRefused(reason, in_doubt=True)


def sections_of_runners(
    left_out: Iterable[str], slices: Mapping[str, int] = MappingProxyType({})
) -> dict[str, dict[str, str]]:
    """Sections of mailman.cfg: the master starts none of these, and the queues are sliced so."""
    return {
        **{f"runner.{name}": {"start": "no"} for name in sorted(left_out)},
        **{
            f"runner.{name}": {"start": "no", "instances": str(count)}
            for name, count in slices.items()
        },
    }


class Mailman3FewRunners(Mailman3):
    """Mailman 3 with no more runners than a post and its digest need.

    Each takes more than a second of a processor to start, and a machine that is all the nodes has
    two: with half the runners, what a fail-over is seen to take is less of Mailman's.
    """

    name = "mailman3-few-runners"
    runners = frozenset({"digest", "in", "lmtp", "out", "pipeline", "retry"})
    additions = sections_of_runners(Mailman3.runners - runners)

    def create_list(self, address: str, subscribers: Sequence[str]) -> list[list[str]]:
        """A list without an archive: nobody would take its entries from the queue."""
        return [
            *super().create_list(address, subscribers), self.in_shell_of(address, NO_ARCHIVE)
        ]


class Mailman3Slices(Mailman3):
    """Mailman 3 on all nodes: `in` and `out` in slices, what else a post needs with the master on
    one of them."""

    name = "mailman3-slices"
    on_several_nodes = True
    needs_database = True
    slices = MappingProxyType({"in": 4, "out": 8})
    runners = frozenset({"lmtp", "pipeline", "retry"})
    changes: ClassVar[dict[str, dict[str, str]]] = {
        **Mailman3.changes,
        "database": {
            "class": "mailman.database.postgresql.PostgreSQLDatabase",
            "url": f"postgresql://{DATABASE}@{OUTSIDE}/{DATABASE}",
        },
    }
    additions = sections_of_runners(Mailman3.runners - runners - set(slices), slices)

    def seed_database(self) -> list[list[str]]:
        """Any command of Mailman's makes the tables; now nobody has to wait for another's."""
        return [self.mailman("info")]

    def create_list(self, address: str, subscribers: Sequence[str]) -> list[list[str]]:
        """A list that takes every post, without archive and digests.

        Mailman's rules for who may post cost more than all the rest of a post's way, and these
        labs look at queues. A new list without archive gets its rows in `listarchiver` from the
        first runner that sends for it; when several do so at the same time, it gets them twice,
        and every later post is shunted (MultipleResultsFound). So the rows are made here.
        """
        lean = NO_ARCHIVE + "m.digests_enabled = False\nm.posting_chain = 'accept'\n"
        return [*super().create_list(address, subscribers), self.in_shell_of(address, lean)]


class Standin21Slices(Standin21):
    """The stand-in for 2.1 on all nodes, sliced in the same way."""

    name = "standin21-slices"
    on_several_nodes = True
    slices = MappingProxyType({"IncomingRunner": 4, "OutgoingRunner": 8})
    runners = Standin21.runners - set(slices)

    def settings(self) -> str:
        """mm_cfg.py: the master leaves the sliced queues alone."""
        kept = f"[each for each in QRUNNERS if each[0] not in {sorted(self.slices)!r}]"
        return super().settings() + f"QRUNNERS = {kept}\n"


def slice_name(queue: str) -> str:
    """The name of the resource that serves a sliced queue."""
    return f"{queue}-slice"


class Dummies(Mailman3):
    """The cluster without our agents: for working on the lab itself."""

    name = "dummies"
    runners = frozenset()

    def resources(self) -> list[Resource]:
        """The same group with Dummy where our agents would be."""
        monitor = (Operation("monitor", 20, interval=10),)
        return [
            resource
            if not resource.agent.startswith("ocf:mailman:")
            else Resource(resource.id, "ocf:heartbeat:Dummy", {}, monitor)
            for resource in super().resources()
        ]


def copy_ownership(source: Path, target: Path) -> None:
    """Give the target the owner and group of the source."""
    status = source.stat()
    shutil.chown(target, status.st_uid, status.st_gid)
