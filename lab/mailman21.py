"""The real Mailman 2.1 in the lab, where MAILMAN21_PREFIX names an installation on this machine.

The installation is only read. Its programs are copied to the lab's share, which the nodes mount at
the installation's own path; its lists, archives, mail and locks are left out. Its interpreter goes
into what covers the image in every node, also at its own path.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cluster import DOMAIN
from .sites import ANSWER_WITHIN, Entrance, PostRefused, Standin21, Standin21Slices

if TYPE_CHECKING:
    from .client import Lab

VARIABLE = "MAILMAN21_PREFIX"

# What an installation says about itself, asked of its own interpreter in its bin directory.
QUESTION = """
import json, sys
import paths
from Mailman import mm_cfg
trees = [sys.prefix, sys.exec_prefix, getattr(sys, "real_prefix", sys.prefix)]
trees.append(getattr(sys, "base_prefix", sys.prefix))
names = ["PREFIX", "VAR_PREFIX", "MAILMAN_USER", "MAILMAN_GROUP"]
print(json.dumps({"trees": trees, "names": [getattr(mm_cfg, name) for name in names]}))
"""

# Trees of the system's: an interpreter there cannot be laid over another system's.
SYSTEM = {Path("/"), Path("/usr"), Path("/usr/local")}

# What is made anew on the share, so that nothing of the installation's own mail is.
LEFT_OUT = ("archives/*/*", "data/*", "lists/*", "locks/*", "logs/*", "qfiles/*", "spam/*")
KEPT_DATA = ("last_mailman_version", "sitelist.cfg")

# Posts on standard input, each after a line with its length; `accepted` is said to each.
INJECT = """
import sys
sys.path.insert(0, sys.argv[1])
import paths
from Mailman import Post
while True:
    size = sys.stdin.readline()
    if not size:
        break
    Post.inject(sys.argv[2], sys.stdin.read(int(size)))
    sys.stdout.write("accepted\\n")
    sys.stdout.flush()
"""

# $1: the share, $2: the installation's path; the rest is run with the first at the second.
AT_ITS_PATH = 'mount --bind "$1" "$2"; shift 2; exec "$@"'


class NotUsable(Exception):
    """There is no installation for the lab to use; the text is one sentence that says why."""


@dataclass(frozen=True)
class Installation:
    """A Mailman 2.1 on this machine; `interpreter` with its arguments, `trees` what it lies in."""

    prefix: Path
    interpreter: tuple[str, ...]
    trees: tuple[Path, ...]
    user: str
    group: str
    uid: int
    gid: int


def installation() -> Installation:
    """The one that MAILMAN21_PREFIX names. NotUsable says why it will not do."""
    given = os.environ.get(VARIABLE)
    if not given:
        raise NotUsable(
            f"this site is a Mailman 2.1 of yours: set {VARIABLE} to the prefix of an installation"
        )
    prefix = Path(given).resolve()
    control = prefix / "bin" / "mailmanctl"
    try:
        with open(control, "rb") as file:
            first = file.readline().decode("utf-8", "replace")
        if not first.startswith("#!"):
            raise NotUsable(f"{control} does not name its interpreter, so it cannot be asked")
        interpreter = tuple(first[2:].split())
        done = subprocess.run(
            [*interpreter, "-B", "-c", QUESTION],
            cwd=control.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as trouble:
        raise NotUsable(f"{VARIABLE}={given} names no Mailman 2.1: {trouble}") from trouble
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotUsable(f"the Mailman 2.1 in {prefix} does not tell its configuration: {last}")
    answer = json.loads(done.stdout)
    own_prefix, var_prefix, user, group = answer["names"]
    if not prefix == Path(own_prefix) == Path(var_prefix):
        raise NotUsable(
            f"the lab needs a Mailman 2.1 that is all in one prefix: {prefix} has "
            f"PREFIX={own_prefix} and VAR_PREFIX={var_prefix}"
        )
    trees = outermost({Path(tree) for tree in answer["trees"]})
    for tree in trees:
        if tree.resolve() in SYSTEM:
            raise NotUsable(
                f"the interpreter of {prefix} is the system's in {tree}, which cannot be copied "
                "into a node; the lab needs one with a directory of its own"
            )
    try:
        uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as trouble:
        raise NotUsable(
            f"the Mailman 2.1 in {prefix} is user {user}'s and group {group}'s, "
            "but this machine does not have both"
        ) from trouble
    return Installation(prefix, interpreter, trees, user, group, uid, gid)


def outermost(trees: set[Path]) -> tuple[Path, ...]:
    """The directories of these that are in none of the others."""
    return tuple(sorted(each for each in trees if trees.isdisjoint(each.parents)))


class Mailman21(Standin21):
    """The installation that MAILMAN21_PREFIX names, with a list of the lab's own."""

    name = "mailman21"

    def __init__(self) -> None:
        """Ask the installation about itself; `missing` says when there is none."""
        self.found: Installation | None = None
        self.trouble: list[str] = []
        try:
            self.found = installation()
        except NotUsable as trouble:
            self.trouble = [str(trouble)]
        else:
            self.mount_point = str(self.found.prefix)
            self.user, self.group = self.found.user, self.found.group

    def missing(self) -> list[str]:
        return self.trouble

    def agent_parameters(self) -> dict[str, str]:
        return {**super().agent_parameters(), "group": self.group}

    def lay_out(self, image: Path, layer: Path) -> None:
        """The mount point, the interpreter, and Mailman's user and group as this machine has them.

        ValueError where the image has their numbers for somebody else.
        """
        assert self.found is not None
        super().lay_out(image, layer)
        for tree in self.found.trees:
            if not tree.is_relative_to(self.mount_point):
                copy = layer / tree.relative_to("/")
                copy.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-a", f"{tree}/.", str(copy)], check=True)
        for file, entry in (
            ("etc/group", f"{self.group}:x:{self.found.gid}:"),
            (
                "etc/passwd",
                f"{self.user}:x:{self.found.uid}:{self.found.gid}:"
                f"Mailman:{self.mount_point}:/usr/sbin/nologin",
            ),
        ):
            add_account(image / file, layer / file, entry)

    def settings(self) -> str:
        """mm_cfg.py: mail of lists.lab.example, to the sink, without archives and digests."""
        host = self.address.split("@")[1]
        return (
            f"{super().settings()}"
            f"DEFAULT_EMAIL_HOST = DEFAULT_URL_HOST = {host!r}\n"
            "VIRTUAL_HOSTS.clear()\n"
            "add_virtualhost(DEFAULT_URL_HOST, DEFAULT_EMAIL_HOST)\n"
            "MTA = None\n"
            "DELIVERY_MODULE = 'SMTPDirect'\n"
            "DEFAULT_ARCHIVE = DEFAULT_DIGESTABLE = DEFAULT_SEND_WELCOME_MSG = 0\n"
            f"QRUNNERS = {[(runner, 1) for runner in sorted(self.runners)]}\n"
        )

    def seed(self, image: Path, share: Path) -> None:
        """The installation without its own lists and mail, and the lists made by its programs."""
        copy_tree(Path(self.mount_point), share, LEFT_OUT)
        for name in KEPT_DATA:
            original = Path(self.mount_point, "data", name)
            if original.exists():
                subprocess.run(["cp", "-a", str(original), str(share / "data")], check=True)
        configuration = share / "Mailman" / "mm_cfg.py"
        with open(configuration, "a", encoding="utf-8") as file:
            file.write(f"\n{self.settings()}")
        configuration.with_suffix(".pyc").unlink(missing_ok=True)
        name = self.address.split("@")[0]
        for command, words in (
            (["newlist", "-q", "mailman", f"owner@outside.{DOMAIN}", "lab"], ()),
            (["newlist", "-q", name, f"owner@outside.{DOMAIN}", "lab"], ()),
            (["add_members", "-r", "-", "-w", "n", "-a", "n", name], self.subscribers),
        ):
            self.run_seeding(share, command, "".join(f"{word}\n" for word in words))
        for leftover in [*share.glob("locks/*"), *share.glob("logs/*"), *share.glob("qfiles/*/*")]:
            leftover.unlink()

    def run_seeding(self, share: Path, command: Sequence[str], given: str) -> None:
        """Run one of Mailman's programs as its user, with the share at the installation's path."""
        subprocess.run(
            [
                *("unshare", "--mount", "sh", "-ec", AT_ITS_PATH, "sh"),
                *(str(share), self.mount_point, *self.as_user()),
                *(f"{self.mount_point}/bin/{command[0]}", *command[1:]),
            ],
            cwd="/",
            check=True,
            input=given.encode(),
            stdout=sys.stderr,
        )

    def list_members(self, address: str) -> list[str]:
        return [*self.as_user(), f"{self.mount_point}/bin/list_members", address.split("@")[0]]


class Mailman21Slices(Mailman21, Standin21Slices):
    """The same on all nodes, sliced as the stand-in is."""

    name = "mailman21-slices"

    def entrance(self, lab: Lab) -> Entrance:
        return OpenEntrance(lab, self)


class OpenEntrance(Entrance):
    """bin/inject's own work in a process that stays for the next post, where there are thousands.

    A start of bin/inject costs a fifth of a second of processor time, nearly all of it for imports.
    """

    def __init__(self, lab: Lab, site: Mailman21) -> None:
        self.lab = lab
        self.site = site
        self.node = ""
        self.process: subprocess.Popen[bytes] | None = None

    def post(self, sender: str, address: str, message: str) -> None:
        process = self.process or self.opened(address.split("@")[0])
        assert process.stdin is not None
        assert process.stdout is not None
        text = message.encode()
        try:
            process.stdin.write(b"%d\n%s" % (len(text), text))
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], ANSWER_WITHIN)
            said = process.stdout.readline() if ready else b"no answer"
        except OSError as trouble:
            said = str(trouble).encode()
        if said != b"accepted\n":
            self.close()
            reason = said.decode("utf-8", "replace").strip() or "inject was cut off"
            raise PostRefused(f"{self.node}: {reason}", in_doubt=True)

    def opened(self, name: str) -> subprocess.Popen[bytes]:
        """A process for posts to this list, on the node that is active now."""
        assert self.site.found is not None
        self.node = self.site.active(self.lab)
        program = [*self.site.found.interpreter, "-c", INJECT, f"{self.site.mount_point}/bin", name]
        self.process = subprocess.Popen(
            [*self.lab.enter(self.node), *self.site.as_user(), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return self.process

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            with contextlib.suppress(OSError):  # what it did not read is lost with it
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.kill()  # nsenter; the program in the node ends when its input does
            self.process.wait()
            self.process = None


def copy_tree(source: Path, target: Path, left_out: Sequence[str]) -> None:
    """Copy a directory's content, owners and modes and all, without what the patterns name."""
    exclude = [f"--exclude=./{pattern}" for pattern in left_out]
    sending = ["tar", "-C", str(source), "-c", *exclude, "."]
    with subprocess.Popen(sending, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-C", str(target), "-xp"], stdin=archive.stdout, check=True)
    if archive.returncode != 0:
        raise subprocess.CalledProcessError(archive.returncode, sending)


def add_account(original: Path, copy: Path, entry: str) -> None:
    """Add a line of passwd or group to the copy, unless the image's file has that name and number.

    ValueError where it has one of the two and not the other.
    """
    text = original.read_text(encoding="utf-8")
    name, _, number = entry.split(":")[:3]
    for line in text.splitlines():
        words = line.split(":")
        if (words[0], words[2]) == (name, number):
            return
        if words[0] == name or words[2] == number:
            raise ValueError(
                f"{name} is number {number} on this machine, but {original} has {line}; "
                f"give Mailman's {original.name} entry another number here, and its files too"
            )
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(original, copy)
    with open(copy, "a", encoding="utf-8") as file:
        file.write(f"{entry}\n")
