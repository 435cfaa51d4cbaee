"""The throwaway agent, set up where every user may run it, and run as Pacemaker would."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import mailman_ha
import pytest

from tests.private_directory import DISK, private_directory

PREFIX = "ocf-exit-reason:"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ended:
    """How a run of the agent ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def reason(self) -> str:
        """The exit reason, which must be the last line on stderr and the only one."""
        lines = self.stderr.splitlines()
        assert lines, "nothing on stderr"
        assert lines[-1].startswith(PREFIX), f"the last line is no exit reason: {self.stderr!r}"
        assert self.stderr.count(PREFIX) == 1, f"more than one exit reason: {self.stderr!r}"
        assert self.stderr.endswith("\n")
        return lines[-1][len(PREFIX) :]


def first_in_line(pid: int) -> None:
    """Give a process the processor before all others, where that is allowed.

    Its time is measured, and not how busy the machine is: beside a CI's other parts starting and
    collecting a Python alone takes up to half a second, and a tenth like this.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


class ExampleAgent:
    """The throwaway agent, ready to be run."""

    def __init__(self, tree: Path, place: Path) -> None:
        self.path = tree / "example"
        self.place = place
        self.state_dir = place / "state"

    def environ(self, **changes: str | None) -> dict[str, str]:
        """The environment as Pacemaker 2.1 makes it for a recurring monitor, with changes.

        A change's name is that of a parameter or meta attribute, or a variable's that begins
        with OCF_ or HA_.  None takes a variable out.
        """
        environ: dict[str, str] = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HA_RSCTMP": str(self.state_dir),
            "OCF_ROOT": "/usr/lib/ocf",
            "OCF_RA_VERSION_MAJOR": "1",
            "OCF_RA_VERSION_MINOR": "1",
            "OCF_RESOURCE_INSTANCE": "res",
            "OCF_RESOURCE_PROVIDER": "mailman",
            "OCF_RESOURCE_TYPE": "example",
            "OCF_RESKEY_CRM_meta_timeout": "20000",
            "OCF_RESKEY_CRM_meta_interval": "10000",
            "OCF_RESKEY_CRM_meta_on_node": "node1",
            "OCF_RESKEY_crm_feature_set": "3.16.2",
            "OCF_RESKEY_label": "a label",
        }
        for name, value in changes.items():
            full = name if name.startswith(("OCF_", "HA_", "PCMK_")) else f"OCF_RESKEY_{name}"
            if value is None:
                environ.pop(full, None)
            else:
                environ[full] = value
        return environ

    def start_process(
        self, *arguments: str, environ: Mapping[str, str], user: str | None = None
    ) -> subprocess.Popen[str]:
        """Start the agent and leave it running; the caller ends it."""
        return subprocess.Popen(
            [self.path, *arguments],
            env=environ,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            start_new_session=True,
            # a test run in the background may itself ignore it, and hand that down
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, user: str | None = None, **changes: str | None) -> Ended:
        """Run an action to its end, with changes of the environment."""
        return self.run_in(self.environ(**changes), *arguments, user=user)

    def run_in(self, environ: Mapping[str, str], *arguments: str, user: str | None = None) -> Ended:
        """Run an action to its end in exactly this environment."""
        began = time.monotonic()
        process = self.start_process(*arguments, environ=environ, user=user)
        first_in_line(process.pid)
        return self.end_of(process, began)

    @staticmethod
    def end_of(process: subprocess.Popen[str], began: float, patience: float = 60) -> Ended:
        """Wait for a run; if it outlasts the patience (seconds), kill its session and fail."""
        try:
            stdout, stderr = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"the agent hung; it had said: {stdout!r} {stderr!r}")
        return Ended(process.returncode, stdout, stderr, time.monotonic() - began)

    @property
    def running(self) -> bool:
        """Whether the resource, a file, is there."""
        return (self.state_dir / "example-res").exists()


@contextmanager
def built_tree() -> Iterator[Path]:
    """Agent and library where user nobody can read them too, compiled."""
    library = Path(mailman_ha.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    with private_directory("mailman-ha-example-agent-", DISK) as tree:
        shutil.copytree(library / "ocf", tree / "lib/mailman_ha/ocf", ignore=ignore)
        shutil.copy(library / "__init__.py", tree / "lib/mailman_ha")
        shutil.copytree(_HERE / "example_agent", tree / "example_agent", ignore=ignore)
        shutil.copy(_HERE / "example", tree)
        compile_with_system_python(tree)
        subprocess.run(["chmod", "-R", "a+rX", str(tree)], check=True)
        yield tree


def compile_with_system_python(tree: Path) -> None:
    """Leave bytecode for the interpreter that runs agents, as an installation does."""
    subprocess.run(["/usr/bin/python3", "-I", "-m", "compileall", "-q", str(tree)], check=True)


@pytest.fixture(scope="session")
def agent_tree() -> Iterator[Path]:
    """A directory with the agent and the library, readable for everybody."""
    with built_tree() as tree:
        yield tree


@pytest.fixture
def agent(agent_tree: Path, tmp_path: Path) -> ExampleAgent:
    """The throwaway agent with a state directory of its own."""
    (tmp_path / "state").mkdir(mode=0o755)
    return ExampleAgent(agent_tree, tmp_path)
