"""Private Mailman installations for tests: the stand-in for 2.1, the real Mailman 3, the real 2.1.

Each has directories of its own, a system user's, and real processes.  What a test does to one
touches no other and nothing of the machine's.  `tests.installation_fixture` makes pytest fixtures
of them.
"""

from __future__ import annotations

import grp
import os
import pickle
import pwd
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import ClassVar

from mailman_ha.evidence import process_identity

from lab.sites import NO_ARCHIVE
from tests import standin
from tests.mailman3_venv import ensure_mailman3
from tests.private_processes import (
    MARK,
    PrivateProcess,
    end_processes_of,
    processes_of,
)
from tests.smtp_sink import SmtpSink

TEST_USER = "mailman-ha-test"
MEMBERS = ("anne@example.test", "bart@example.test")
LIFETIME_OF_MASTER_LOCK = 30 * 3600.0


def test_user() -> tuple[str, str]:
    """(user, group) of Mailman: a system user, made once; without root's rights, oneself."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    try:
        pwd.getpwnam(TEST_USER)
    except KeyError:
        made = subprocess.run(
            [
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                TEST_USER,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        # 9: another test run made it at the same moment
        if made.returncode not in (0, 9):
            raise RuntimeError(f"no user {TEST_USER} could be made: {made.stdout!r}") from None
    return TEST_USER, grp.getgrgid(pwd.getpwnam(TEST_USER).pw_gid).gr_name


test_user.__test__ = False  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class DeadLock:
    """A lock whose holder never was: what a dead node leaves behind."""

    lock: Path
    claim: Path
    host: str
    pid: int


class Installation:
    """One private Mailman.  The subclasses know where its version keeps things."""

    kind: ClassVar[str]
    version: ClassVar[str]
    """As the agents' parameter mailman_version has it: "2.1" or "3"."""
    master_program: ClassVar[str]
    runner_program: ClassVar[str]
    starter_programs: ClassVar[tuple[str, ...]]

    lock_dir: Path
    master_lock: Path
    pid_file: Path
    queue_dir: Path
    in_queue: Path
    log_dir: Path

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.user, self.group = test_user()
        self.uid = pwd.getpwnam(self.user).pw_uid
        self.gid = grp.getgrnam(self.group).gr_gid
        self.sink = SmtpSink()

    # What the subclasses say

    @property
    def host(self) -> str:
        """This host's name as this version of Mailman writes it into its locks."""
        raise NotImplementedError

    def agent_parameters(self) -> dict[str, str]:
        """Parameters of the agents for this installation, without the OCF_RESKEY_ in front."""
        raise NotImplementedError

    def expected_runners(self) -> set[tuple[str, int, int]]:
        """(runner, slice, slices) of every runner that the configuration asks for."""
        raise NotImplementedError

    def start_command(self, force: bool = False) -> list[str]:
        raise NotImplementedError

    def stop_command(self) -> list[str]:
        raise NotImplementedError

    def claim_name(self, lock: Path, host: str, pid: int, last: str | None) -> str:
        """Path of the claim file on `lock`; `last` is the counter (2.1) or random number (3)."""
        raise NotImplementedError

    def post(self, message: str | bytes | None = None) -> str:
        """Put a message to the test list into the incoming queue; answers its Message-ID."""
        raise NotImplementedError

    # Commands and processes

    def agent_environment(self) -> dict[str, str]:
        """agent_parameters() as Pacemaker hands them over."""
        given = self.agent_parameters()
        return {f"OCF_RESKEY_{name}": value for name, value in given.items()}

    def run(
        self,
        command: Sequence[str | Path],
        *,
        host: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        input_text: str | None = None,
    ) -> Finished:
        """Run a command as Mailman's user, its output in files, never in pipes.

        `host` makes it run under that host name (a UTS namespace of its own; needs root): so one
        machine plays the other node.  `environment` is added to a small fixed one.
        """
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            tempfile.TemporaryFile() as given,
        ):
            given.write((input_text or "").encode())
            given.seek(0)
            process = self.spawn(
                command, host=host, environment=environment, stdin=given, stdout=out, stderr=err
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            out.seek(0)
            err.seek(0)
            return Finished(
                code, out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")
            )

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        host: str | None = None,
        environment: Mapping[str, str] | None = None,
        **streams: object,
    ) -> subprocess.Popen[bytes]:
        """Start a command as run() does and do not wait.  No stream given: /dev/null."""
        words = [str(word) for word in command]
        identity: dict[str, object] = {}
        if os.geteuid() == 0:
            identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
        if host is not None:
            words = [
                "unshare",
                "--uts",
                "--",
                standin.interpreter(),
                "-ISc",
                _AS_OTHER_HOST,
                host,
                str(self.uid),
                str(self.gid),
                *words,
            ]
            identity = {}
        for name in ("stdin", "stdout", "stderr"):
            streams.setdefault(name, subprocess.DEVNULL)
        process: subprocess.Popen[bytes] = subprocess.Popen(
            words,
            cwd=self.directory,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.directory),
                "LANG": "C.UTF-8",
                MARK: str(self.directory),
                **(environment or {}),
            },
            **identity,  # type: ignore[call-overload]
            **streams,
        )
        return process

    def start_by_hand(
        self,
        *,
        force: bool = False,
        wait: bool = True,
        host: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Start Mailman as an operator does, `force`d with -s (2.1) or --force (3).

        With `wait`, a start that succeeds has all its processes up and able to take signals when
        this returns; a refused one is what the answer's returncode and stderr say.
        """
        before = {process.pid for process in self.masters()}
        finished = self.run(self.start_command(force), host=host, environment=environment)
        if wait and self._start_succeeded(finished):
            self.wait_until_serving(besides=before)
        return finished

    def _start_succeeded(self, finished: Finished) -> bool:
        raise NotImplementedError

    def stop_by_hand(self, *, wait: bool = True, timeout: float = 30.0) -> Finished:
        """Stop Mailman as an operator does; with `wait` until no process of it, nor its pid, is
        left."""
        before = self.processes()
        finished = self.run(self.stop_command())
        if wait:
            wait_until(
                lambda: not self.processes() and all(process.gone() for process in before),
                timeout,
                f"{self.kind} has stopped",
            )
        return finished

    def processes(self) -> list[PrivateProcess]:
        """Every living process that belongs to this installation."""
        return processes_of(self.directory)

    def masters(self) -> list[PrivateProcess]:
        """Masters, however many there are.  A starter, or a child that still waits, is none."""
        return [
            process
            for process in self.processes()
            if self._runs(process, self.master_program)
            and process.pid == process.session
            and (self.version == "3" or process.catches(signal.SIGALRM))
        ]

    def runners(self) -> list[PrivateProcess]:
        return [process for process in self.processes() if runner_of(process) is not None]

    def master_pid(self) -> int | None:
        """The one master's pid, None where none runs.  AssertionError where two do."""
        masters = self.masters()
        assert len(masters) < 2, f"two masters: {masters}"
        return masters[0].pid if masters else None

    def kill(self, pid: int) -> None:
        """SIGKILL a process and wait until the kernel calls it ended, if only as a zombie.

        Before that it has no arguments any more but still counts as running: for as long as its
        memory takes to be given back.
        """
        started = process_identity.read(pid)
        assert started is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: not process_identity.is_alive(pid, started.started_ticks), 10,
            f"process {pid} has ended",
        )

    def runner_pids(self) -> dict[tuple[str, int, int], list[int]]:
        """Pids by (runner, slice, slices); more than one pid means a doubled slice."""
        found: dict[tuple[str, int, int], list[int]] = {}
        for process in self.runners():
            key = runner_of(process)
            assert key is not None
            found.setdefault(key, []).append(process.pid)
        return found

    def _runs(self, process: PrivateProcess, program: str) -> bool:
        return len(process.arguments) > 1 and os.path.basename(process.arguments[1]) == program

    def wait_until_serving(
        self, timeout: float = 60.0, besides: set[int] | frozenset[int] = frozenset()
    ) -> int:
        """Until a master not in `besides` and every runner of it take signals; the master's pid."""
        found: list[int] = []

        def serving() -> bool:
            found[:] = [
                process.pid
                for process in self.masters()
                if process.pid not in besides
                and process.catches(signal.SIGTERM)
                and process.catches(signal.SIGHUP)
            ]
            if not found:
                return False
            own = {
                runner_of(process)
                for process in self.runners()
                if process.session == found[0] and process.catches(signal.SIGTERM)
            }
            return own >= self.expected_runners()

        wait_until(serving, timeout, f"{self.kind} serves")
        return found[0]

    # Locks and queues

    def list_lock(self, name: str = "test") -> Path:
        """The lock file of a list, or of that name."""
        return self.lock_dir / f"{name}.lock"

    def make_dead_lock(
        self,
        host: str | None = None,
        pid: int | None = None,
        *,
        lock: Path | None = None,
        last: str | None = None,
        expires_in: float = LIFETIME_OF_MASTER_LOCK,
        content: bytes | None = None,
    ) -> DeadLock:
        """Make a lock and its claim as this version would have, held by `host` and `pid`.

        Default: this host, a pid that is free, the master's lock.  `expires_in` seconds from now
        (negative: expired).  `last` is the claim's last field: a counter in 2.1 (the master's lock
        has none by default, others 0), a number in 3 (random by default).  `content` replaces the
        claim's path in the files.
        """
        lock = lock or self.master_lock
        host = self.host if host is None else host
        pid = free_pid() if pid is None else pid
        claim = Path(self.claim_name(lock, host, pid, last))
        descriptor = os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o664)
        try:
            os.write(descriptor, os.fsencode(claim) if content is None else content)
            if os.geteuid() == 0:
                os.fchown(descriptor, self.uid, self.gid)
        finally:
            os.close(descriptor)
        os.link(claim, lock)
        expiry = time.time() + expires_in
        os.utime(claim, (expiry, expiry))
        return DeadLock(lock, claim, host, pid)

    def lock_owner(self) -> tuple[str, int] | None:
        """(host, pid) that the master's lock names; None for no lock or no owner in it."""
        raise NotImplementedError

    def waiting_entries(self) -> list[Path]:
        """Entries that wait or are under way, in queues that have a runner."""
        queues = {self.queue_of(runner) for runner, _, _ in self.expected_runners()}
        return sorted(
            path
            for queue in queues
            if queue is not None and queue.is_dir()
            for path in queue.iterdir()
            if path.suffix in (".pck", ".bak")
        )

    def queue_of(self, runner: str) -> Path | None:
        """The directory that a runner works through; None where it has no queue."""
        raise NotImplementedError

    # The end

    def end_processes(self) -> None:
        """SIGKILL to every process of this installation, and wait until all are gone."""
        end_processes_of(self.directory)

    def close(self) -> None:
        """End all processes and give the directory back."""
        self.sink.close()
        try:
            self.end_processes()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _give_to_user(self, top: Path) -> None:
        if os.geteuid() == 0:
            for directory, _, files in os.walk(top):
                for path in [directory, *(os.path.join(directory, name) for name in files)]:
                    os.lchown(path, self.uid, self.gid)


class Mailman21(Installation):
    """What the stand-in and the real Mailman 2.1 have in common."""

    version = "2.1"
    master_program = "mailmanctl"
    runner_program = "qrunner"
    starter_programs = ("mailmanctl",)
    QUEUES: ClassVar[dict[str, str]] = {
        "ArchRunner": "archive",
        "BounceRunner": "bounces",
        "CommandRunner": "commands",
        "IncomingRunner": "in",
        "NewsRunner": "news",
        "OutgoingRunner": "out",
        "VirginRunner": "virgin",
        "RetryRunner": "retry",
    }

    def __init__(
        self,
        directory: Path,
        *,
        slices: Mapping[str, int] | None = None,
        without: Sequence[str] = (),
        settings: str = "",
    ) -> None:
        """`slices`: number of slices by runner; `without`: runners left out of QRUNNERS;
        `settings`: text appended to mm_cfg.py."""
        super().__init__(directory)
        self.prefix = directory / "mailman"
        self.lock_dir = self.prefix / "locks"
        self.master_lock = self.lock_dir / "master-qrunner"
        self.pid_file = self.prefix / "data" / "master-qrunner.pid"
        self.queue_dir = self.prefix / "qfiles"
        self.in_queue = self.queue_dir / "in"
        self.log_dir = self.prefix / "logs"
        self.lists_dir = self.prefix / "lists"
        self.mailmanctl = self.prefix / "bin" / "mailmanctl"
        self.runner_table = [
            (name, (slices or {}).get(name, 1)) for name in self.QUEUES if name not in without
        ]
        self._install(
            f"SMTPHOST = '127.0.0.1'\nSMTPPORT = {self.sink.port}\n"
            f"MAILMAN_USER = {self.user!r}\nMAILMAN_GROUP = {self.group!r}\n"
            f"QRUNNERS = {self.runner_table!r}\nQRUNNER_SLEEP_TIME = 0.2\n{settings}\n"
        )

    def _install(self, settings: str) -> None:
        raise NotImplementedError

    @property
    def host(self) -> str:
        return socket.gethostname()

    def agent_parameters(self) -> dict[str, str]:
        return {
            "mailman_version": "2.1",
            "prefix": str(self.prefix),
            "user": self.user,
            "group": self.group,
        }

    def expected_runners(self) -> set[tuple[str, int, int]]:
        return {
            (name, number, slices) for name, slices in self.runner_table for number in range(slices)
        }

    def queue_of(self, runner: str) -> Path | None:
        return self.queue_dir / self.QUEUES[runner]

    def start_command(self, force: bool = False) -> list[str]:
        return [str(self.mailmanctl), *(["-s"] if force else []), "start"]

    def stop_command(self) -> list[str]:
        return [str(self.mailmanctl), "stop"]

    def control(self, *arguments: str, **how: object) -> Finished:
        """Run mailmanctl as Mailman's user."""
        return self.run([self.mailmanctl, *arguments], **how)  # type: ignore[arg-type]

    def _start_succeeded(self, finished: Finished) -> bool:
        return finished.returncode == 0 and "Starting" in finished.stdout

    def claim_name(self, lock: Path, host: str, pid: int, last: str | None) -> str:
        if last is None and lock != self.master_lock:
            last = "0"
        return f"{lock}.{host}.{pid}" + (f".{last}" if last is not None else "")

    def lock_owner(self) -> tuple[str, int] | None:
        try:
            name = os.path.basename(self.master_lock.read_text())
        except FileNotFoundError:
            return None
        fields = name.split(".")
        if len(fields) < 3 or not fields[-1].isdigit():
            return None
        return ".".join(fields[1:-1]), int(fields[-1])

    def post(self, message: str | bytes | None = None) -> str:
        text, message_id = compose(message)
        done = self.run([self.prefix / "bin" / "inject", "-l", "test"], input_text=text)
        assert done.returncode == 0, done
        return message_id

    def save_list(self, assignments: str = "info = 'changed'\n", **how: object) -> Finished:
        """Change the configuration of the list `test` and save it (bin/config_list)."""
        source = self.directory / f"assignments-{uuid.uuid4().hex}"
        source.write_text(assignments)
        source.chmod(0o644)
        command = [self.prefix / "bin" / "config_list", "-i", source, "test"]
        return self.run(command, **how)  # type: ignore[arg-type]

    def asked(self, *names: str) -> dict[str, object]:
        """Settings of mm_cfg, asked for as the agents do (contract 6)."""
        python = self.mailmanctl.read_text().splitlines()[0].lstrip("#! ")
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import paths; from Mailman import mm_cfg\n"
            "import json; print(json.dumps(dict((n, getattr(mm_cfg, n)) for n in sys.argv[2:])))"
        )
        done = self.run([python, "-c", program, self.prefix / "bin", *names])
        assert done.returncode == 0, done
        import json

        answer: dict[str, object] = json.loads(done.stdout)
        return answer


class StandIn(Mailman21):
    """tests/standin."""

    kind = "standin"

    def _install(self, settings: str) -> None:
        standin.install(
            self.prefix,
            user=self.user,
            group=self.group,
            settings=settings,
            lists={"test": MEMBERS},
        )


class RealMailman21(Mailman21):
    """A private copy of the Mailman 2.1 that MAILMAN21_PREFIX names.  The original is only read."""

    kind = "mailman21"
    COPIED = ("Mailman", "bin", "cron", "scripts")
    LINKED = ("messages", "templates", "pythonlib", "icons", "mail", "cgi-bin")
    EMPTY = (
        "locks",
        "logs",
        "data",
        "lists",
        "qfiles",
        "spam",
        "archives/private",
        "archives/public",
    )

    @staticmethod
    def original() -> Path | None:
        """The installation to copy, None where MAILMAN21_PREFIX names none."""
        given = os.environ.get("MAILMAN21_PREFIX")
        return Path(given).resolve() if given else None

    def _install(self, settings: str) -> None:
        original = self.original()
        assert original is not None
        self.prefix.mkdir()
        for name in self.COPIED:
            shutil.copytree(original / name, self.prefix / name, symlinks=True)
        for name in self.LINKED:
            if (original / name).is_dir():
                (self.prefix / name).symlink_to(original / name)
        for name in self.EMPTY:
            (self.prefix / name).mkdir(parents=True)
        for name in ("last_mailman_version", "sitelist.cfg"):
            if (original / "data" / name).exists():
                shutil.copy(original / "data" / name, self.prefix / "data" / name)
        for path in [*self.prefix.glob("*/paths.py"), self.prefix / "Mailman" / "Defaults.py"]:
            path.write_text(path.read_text().replace(str(original), str(self.prefix)))
            path.with_suffix(".pyc").unlink(missing_ok=True)
        with open(self.prefix / "Mailman" / "mm_cfg.py", "a") as file:
            file.write(f"\n{settings}")
        (self.prefix / "Mailman" / "mm_cfg.pyc").unlink(missing_ok=True)
        with open(self.prefix / "bin" / "paths.py", "a") as file:
            file.write((Path(standin.__file__).parent / "instrument_real.py").read_text())
        self._give_to_user(self.prefix)
        for name in ("mailman", "test"):
            self._take_or_make_list(original, name)
        for queue in self.queue_dir.iterdir():
            for entry in queue.iterdir():
                entry.unlink()
        # pid files, logs and the like of the set-up
        for path in [*self.log_dir.iterdir(), *self.lock_dir.iterdir()]:
            path.unlink()

    def _take_or_make_list(self, original: Path, name: str) -> None:
        if (original / "lists" / name).is_dir():
            shutil.copytree(original / "lists" / name, self.lists_dir / name)
            for archive in (name, f"{name}.mbox"):
                (self.prefix / "archives" / "private" / archive).mkdir()
            self._give_to_user(self.prefix / "archives")
            self._give_to_user(self.lists_dir)
            return
        tool = self.prefix / "bin"
        self._must(tool / "newlist", "-q", name, "owner@example.test", "secret")
        if name == "test":
            self._must(
                tool / "add_members",
                "-r",
                "-",
                "-w",
                "n",
                "-a",
                "n",
                name,
                input_text="\n".join(MEMBERS) + "\n",
            )

    def _must(self, *command: str | Path, input_text: str | None = None) -> None:
        done = self.run(command, input_text=input_text)
        assert done.returncode == 0, (command, done)


class Mailman3(Installation):
    """The real Mailman 3 on a private var directory, with as few runners as carry a message."""

    kind = "mailman3"
    version = "3"
    master_program = "master"
    runner_program = "runner"
    starter_programs = ("mailman",)
    WITHOUT_QUEUE = ("lmtp", "rest", "task")
    ALL_RUNNERS = (
        "archive",
        "bounces",
        "command",
        "digest",
        "in",
        "lmtp",
        "nntp",
        "out",
        "pipeline",
        "rest",
        "retry",
        "task",
        "virgin",
    )
    LIST_ID = "test.lists.example.test"

    def __init__(
        self,
        directory: Path,
        *,
        runners: Sequence[str] = ("in", "pipeline", "out", "lmtp"),
        slices: Mapping[str, int] | None = None,
        settings: str = "",
        template: Path | None = None,
    ) -> None:
        """`runners`: those to run; `slices`: instances by runner (powers of two); `settings`: text
        appended to mailman.cfg; `template`: var directory with the test list (make_template)."""
        super().__init__(directory)
        self.bindir = ensure_mailman3()
        self.var_dir = directory / "var"
        self.config = directory / "mailman.cfg"
        self.lock_dir = self.var_dir / "locks"
        self.master_lock = self.lock_dir / "master.lck"
        self.pid_file = self.var_dir / "master.pid"
        self.queue_dir = self.var_dir / "queue"
        self.in_queue = self.queue_dir / "in"
        self.log_dir = self.var_dir / "logs"
        self.lmtp_port = free_port()
        self._instances = dict(slices or {})
        self._runner_slices = {name: self._instances.get(name, 1) for name in runners}
        if template is not None:
            shutil.copytree(template, self.var_dir)
        else:
            self.var_dir.mkdir()
        self.config.write_text(self._configuration() + settings)
        self._give_to_user(directory)

    def _configuration(self) -> str:
        sections = [
            f"[mailman]\nlayout: private\nsite_owner: owner@example.test\n"
            f"[paths.private]\nvar_dir: {self.var_dir}\nbin_dir: {self.bindir}\n"
            "queue_dir: $var_dir/queue\nlist_data_dir: $var_dir/lists\nlog_dir: $var_dir/logs\n"
            "lock_dir: $var_dir/locks\ndata_dir: $var_dir/data\ncache_dir: $var_dir/cache\n"
            "etc_dir: $var_dir/etc\nmessages_dir: $var_dir/messages\n"
            "archive_dir: $var_dir/archives\ntemplate_dir: $var_dir/templates\n"
            "pid_file: $var_dir/master.pid\nlock_file: $lock_dir/master.lck\n"
            "[mta]\nincoming: mailman.mta.null.NullMTA\nsmtp_host: 127.0.0.1\n"
            f"smtp_port: {self.sink.port}\nlmtp_host: 127.0.0.1\nlmtp_port: {self.lmtp_port}\n"
        ]
        for name in self.ALL_RUNNERS:
            if name in self._runner_slices:
                sections.append(
                    f"[runner.{name}]\nstart: yes\ninstances: {self._runner_slices[name]}\n"
                    "sleep_time: 0.2s\n"
                )
            else:
                # What is sliced without the master: the runners of qfiles-slice.
                instances = self._instances.get(name, 1)
                sections.append(
                    f"[runner.{name}]\nstart: no\ninstances: {instances}\nsleep_time: 0.2s\n"
                )
        return "".join(sections)

    @classmethod
    def make_template(cls, directory: Path) -> Path:
        """Make a var directory with the list `test` and two members, to be copied by the tests."""
        directory.mkdir(parents=True, exist_ok=True)
        making = cls(directory)
        try:
            members = directory / "members"
            members.write_text("\n".join(MEMBERS) + "\n")
            members.chmod(0o644)
            address = cls.LIST_ID.replace("test.", "test@", 1)
            for words in (["create", address], ["addmembers", str(members), address]):
                done = making.mailman(*words)
                assert done.returncode == 0, done
            # Without rows for its archivers a list gets them at its first post, and twice from two
            # runners that deliver at the same time: then Mailman puts all its posts aside. And no
            # archive runner runs here: a copy of each post would wait in its queue for ever.
            done = making.mailman("shell", "-l", address, input_text=f"{NO_ARCHIVE}commit()\n")
            assert done.returncode == 0, done
        finally:
            making.sink.close()
        database = sqlite3.connect(making.var_dir / "data" / "mailman.db")
        with database:
            database.execute("UPDATE mailinglist SET digests_enabled = 0")
            # the shell tells of no error by its status
            assert database.execute("SELECT count(*) > 1 FROM listarchiver").fetchone() == (1,)
            assert database.execute("SELECT archive_policy FROM mailinglist").fetchall() == [(0,)]
        database.close()
        for left in [*making.queue_dir.glob("*/*"), *making.lock_dir.iterdir()]:
            left.unlink()
        shutil.rmtree(making.log_dir)
        return making.var_dir

    @property
    def host(self) -> str:
        return socket.getfqdn()

    def agent_parameters(self) -> dict[str, str]:
        return {
            "mailman_version": "3",
            "bindir": str(self.bindir),
            "config": str(self.config),
            "user": self.user,
            "group": self.group,
        }

    def expected_runners(self) -> set[tuple[str, int, int]]:
        return {
            (name, number, slices)
            for name, slices in self._runner_slices.items()
            for number in range(slices)
        }

    def queue_of(self, runner: str) -> Path | None:
        return None if runner in self.WITHOUT_QUEUE else self.queue_dir / runner

    def mailman(self, *arguments: str, **how: object) -> Finished:
        """Run the `mailman` command as Mailman's user."""
        command = [self.bindir / "mailman", "-C", self.config, *arguments]
        return self.run(command, **how)  # type: ignore[arg-type]

    def start_command(self, force: bool = False) -> list[str]:
        return [
            str(self.bindir / "mailman"),
            "-C",
            str(self.config),
            "start",
            *(["--force"] if force else []),
        ]

    def stop_command(self) -> list[str]:
        return [str(self.bindir / "mailman"), "-C", str(self.config), "stop"]

    def _start_succeeded(self, finished: Finished) -> bool:
        return finished.returncode == 0

    def claim_name(self, lock: Path, host: str, pid: int, last: str | None) -> str:
        return f"{lock}|{host}|{pid}|{last or random.randrange(2**63)}"

    def lock_owner(self) -> tuple[str, int] | None:
        try:
            name = os.path.basename(self.master_lock.read_text())
        except FileNotFoundError:
            return None
        fields = name.split("|")
        return (fields[1], int(fields[2])) if len(fields) == 4 else None

    def post(self, message: str | bytes | None = None) -> str:
        text, message_id = compose(message)
        now = time.time()
        saved = pickle.dumps(text, 0)
        base = f"{now!r}+{sha1(saved + repr(now).encode()).hexdigest()}"
        data = {
            "listid": self.LIST_ID,
            "to_list": True,
            "version": 3,
            "_parsemsg": True,
            "received_time": now,
        }
        temporary = self.in_queue / f"{base}.pck.tmp"
        self.in_queue.mkdir(mode=0o770, exist_ok=True, parents=True)
        temporary.write_bytes(saved + pickle.dumps(data, 0))
        if os.geteuid() == 0:
            os.chown(self.in_queue, self.uid, self.gid)
            os.chown(temporary, self.uid, self.gid)
        temporary.rename(self.in_queue / f"{base}.pck")
        return message_id


def runner_of(process: PrivateProcess) -> tuple[str, int, int] | None:
    """(runner, slice, slices) of a runner's command line, None for any other process."""
    words = process.arguments
    if len(words) < 3 or os.path.basename(words[1]) not in ("qrunner", "runner"):
        return None
    for word in words[2:]:
        if word.startswith("--runner="):
            name, _, rest = word[len("--runner=") :].partition(":")
            number, _, slices = (rest or "0:1").partition(":")
            return name, int(number), int(slices)
    return None


def compose(message: str | bytes | None) -> tuple[str, str]:
    """(text, Message-ID) of a message to the test list, with a header where none is given."""
    if message is not None:
        text = message.decode("ascii") if isinstance(message, bytes) else message
        for line in text.splitlines():
            if line.lower().startswith("message-id:"):
                return text, line.partition(":")[2].strip()
    else:
        text = "\nHello.\n"
    message_id = f"<{uuid.uuid4().hex}@example.test>"
    subject = "" if "subject:" in text.lower() else "Subject: a test\n"
    return (
        f"From: {MEMBERS[0]}\nTo: test@lists.example.test\nMessage-ID: {message_id}\n{subject}"
        + text,
        message_id,
    )


def free_pid() -> int:
    """A pid that no process has and none will get soon: near the top of the kernel's range."""
    top = int(Path("/proc/sys/kernel/pid_max").read_text())
    while True:
        pid = random.randrange(top - 2000, top)
        if not Path(f"/proc/{pid}").exists():
            return pid


def free_port() -> int:
    """A free TCP port below the range from which the kernel takes ports for connections."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll every 50 ms.  TimeoutError "not ...: `what`" after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.05)


_AS_OTHER_HOST = """
import os, socket, sys
host, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
socket.sethostname(host)
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
os.execvp(sys.argv[4], sys.argv[4:])
"""


class PrivateSpace:
    """A directory in /tmp that any user may enter, for the installations of one test run.

    It lies beside pytest's own temporary directories, because those are closed to the user that
    Mailman runs as.  A warden process ends what is left in it and removes it if the run is killed.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailman-ha-", dir="/tmp"))
        self.directory.chmod(0o755)
        self._count = 0
        self._template3: Path | None = None
        self._warden = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warden.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._warden.stdin is not None
        self._warden.stdin.write(os.fsencode(self.directory) + b"\n")
        self._warden.stdin.flush()

    def new_directory(self) -> Path:
        """An empty directory, owned by Mailman's user, that all may enter."""
        self._count += 1
        directory = self.directory / str(self._count)
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        user, group = test_user()
        if os.geteuid() == 0:
            shutil.chown(directory, user, group)
        return directory

    def installation(self, kind: str, **options: object) -> Installation:
        """A new installation: kind "standin", "mailman3" or "mailman21"."""
        directory = self.new_directory()
        if kind == "mailman3":
            if self._template3 is None:
                self._template3 = Mailman3.make_template(self.new_directory())
            return Mailman3(directory, template=self._template3, **options)  # type: ignore
        classes = {"standin": StandIn, "mailman21": RealMailman21}
        return classes[kind](directory, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        try:
            end_processes_of(self.directory)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
            assert self._warden.stdin is not None
            self._warden.stdin.close()
            self._warden.wait(30)
