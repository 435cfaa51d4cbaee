"""The agents of resource-agents on real resources of their own: what a monitor usually costs.

IPaddr2 has an address of the loopback device, Filesystem a tmpfs, pgsql a PostgreSQL and postfix a
Postfix, each with a directory of its own, on no port, and ended when done.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.measuring import Program
from bench.surroundings import environment_of

HEARTBEAT = Path("/usr/lib/ocf/resource.d/heartbeat")
ADDRESS = "127.8.7.6"

#: Just what Postfix's master must have to be up; nothing listens on the network.
MASTER_CF = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
local unix - n n - - local
showq unix n - n - - showq
"""


def quiet(*command: str, environment: Mapping[str, str] | None = None, check: bool = True) -> None:
    """Run a command to its end. RuntimeError with what it said where it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=None if environment is None else {**os.environ, **environment}, check=False, text=True,
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")


@contextmanager
def address() -> Iterator[dict[str, str]]:
    quiet("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    try:
        yield {"ip": ADDRESS, "cidr_netmask": "32", "nic": "lo"}
    finally:
        quiet("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo", check=False)


@contextmanager
def file_system(directory: Path) -> Iterator[dict[str, str]]:
    quiet("mount", "-t", "tmpfs", "tmpfs", str(directory))
    try:
        yield {"device": "tmpfs", "directory": str(directory), "fstype": "tmpfs"}
    finally:
        quiet("umount", str(directory), check=False)


@contextmanager
def postgresql(directory: Path) -> Iterator[dict[str, str]]:
    """A server that is reached by a socket in its directory."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    shutil.chown(directory, "postgres", "postgres")
    data, log = directory / "data", directory / "log"

    def as_owner(*command: str) -> None:
        quiet("runuser", "-u", "postgres", "--", *command)

    as_owner(str(programs / "initdb"), "--no-sync", "-A", "trust", "-D", str(data))
    options = f"-c listen_addresses= -c unix_socket_directories={directory} -c fsync=off"
    control = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
    as_owner(*control, "-l", str(log), "-o", options, "start")
    try:
        yield {
            "pgctl": control[0], "psql": str(programs / "psql"), "pgdata": str(data),
            "pghost": str(directory), "logfile": str(log),
        }
    finally:
        as_owner(*control, "-m", "immediate", "stop")


@contextmanager
def postfix(directory: Path) -> Iterator[dict[str, str]]:
    """A mail system without any service on the network; its agent finds it by MAIL_CONFIG."""
    for name in ("etc", "spool", "data"):
        (directory / name).mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(directory / "data", owner.pw_uid, owner.pw_gid)
    (directory / "etc" / "master.cf").write_text(MASTER_CF)
    (directory / "etc" / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {directory}/spool\n"
        f"data_directory = {directory}/data\ncommand_directory = /usr/sbin\n"
        "daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\n"
        "inet_interfaces = loopback-only\ninet_protocols = ipv4\nmydestination =\n"
    )
    given = {"MAIL_CONFIG": str(directory / "etc")}
    quiet("postfix", "start", environment=given)
    try:
        yield given
    finally:
        quiet("postfix", "stop", environment=given)


@contextmanager
def monitors(top: Path) -> Iterator[dict[str, Program]]:
    """The monitor of each of the four, by the agent's name."""
    with ExitStack() as stack:
        def directory(name: str) -> Path:
            made = top / name
            made.mkdir()
            stack.callback(shutil.rmtree, made, ignore_errors=True)
            return made

        parameters = {
            "IPaddr2": stack.enter_context(address()),
            "Filesystem": stack.enter_context(file_system(directory("mount"))),
            "pgsql": stack.enter_context(postgresql(directory("postgresql"))),
        }
        given = {
            agent: {f"OCF_RESKEY_{name}": value for name, value in its.items()}
            for agent, its in parameters.items()
        }
        given["postfix"] = stack.enter_context(postfix(directory("postfix")))
        yield {
            agent: Program(
                [str(HEARTBEAT / agent), "monitor"],
                {**environment_of(f"bench-{agent}", top), **its},
            )
            for agent, its in given.items()
        }
