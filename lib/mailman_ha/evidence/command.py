"""Running another program with a bound: it ends, or is ended, within the time given.

Output goes to anonymous files in memory and never to a pipe: a daemon that a program leaves
behind keeps a pipe open for ever (facts, section 1, Mailman 3's start), a file troubles nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

#: How much of a program's output is read (bytes).
OUTPUT_LIMIT = 4 << 20

#: A program that prints more than this is ended: what it prints lies in memory (bytes).
GREATEST_OUTPUT = 32 << 20

#: How long a killed program may take to go away before it is left behind (seconds); one that
#: hangs in the kernel (a frozen file server) does not go at all.
GRACE_AFTER_KILL = 1.0

_USUAL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@record
class CommandResult:
    """How a program ended. `code` is None where it could not be started or did not end in time;
    then `trouble` says why in words, and `missing` whether there is no such program."""

    name: str
    code: int | None
    output: bytes = b""
    errors: bytes = b""
    trouble: str = ""
    missing: bool = False

    def complaint(self) -> str:
        """One line on what went wrong: the trouble, or the exit status and the last line said."""
        if self.trouble:
            return f"{self.name} {self.trouble}"
        said = (self.errors.strip() or self.output.strip()).splitlines()
        last = f": {escape(said[-1][:300])}" if said else ""
        return f"{self.name} ended with status {self.code}{last}"


def run(
    arguments: Sequence[str],
    seconds: float,
    *,
    uid: int | None = None,
    gid: int | None = None,
    cwd: str = "/",
    environment: Mapping[str, str] | None = None,
) -> CommandResult:
    """Run `arguments` for at most `seconds`; as `uid` and `gid` where given and we are root."""
    name = os.path.basename(arguments[0])
    with _file_in_memory("output") as output, _file_in_memory("errors") as errors:
        process: subprocess.Popen[bytes] | None = None
        try:
            with _signals_held_back():
                process = subprocess.Popen(
                    list(arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    cwd=cwd,
                    env=bare_environment(environment),
                    start_new_session=True,
                    **_identity(uid, gid),
                )
            trouble = _wait(process, max(seconds, 0.05), (output, errors))
        except (OSError, subprocess.SubprocessError) as error:
            if process is not None:
                _kill_group(process)
                raise
            reason = getattr(error, "strerror", None) or str(error)
            return CommandResult(
                name,
                None,
                trouble=f"cannot be run ({escape(reason)})",
                missing=isinstance(error, FileNotFoundError),
            )
        except BaseException:
            if process is not None:
                _kill_group(process)
            raise
        code = None if trouble else process.returncode
        if trouble:
            _kill_group(process)
        return CommandResult(name, code, _content(output), _content(errors), trouble)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let handlers that may raise wait until the block ends: raised while a program is started, its
    process would be there and nobody would know it."""
    handlers: dict[int, Any] = {}
    came: list[int] = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for held, handler in handlers.items():
            signal.signal(held, handler)
        for late in came:
            signal.raise_signal(late)


def _wait(process: subprocess.Popen[bytes], seconds: float, printed: Sequence[Any]) -> str:
    """Wait until `process` has ended; why it must be ended, in words, where it does not."""
    give_up_at = time.monotonic() + seconds
    while True:
        left = give_up_at - time.monotonic()
        try:
            process.wait(timeout=max(min(left, 0.1), 0.001))
            return ""
        except subprocess.TimeoutExpired:
            pass
        if any(os.fstat(file.fileno()).st_size > GREATEST_OUTPUT for file in printed):
            return f"printed more than {GREATEST_OUTPUT >> 20} MiB and was killed"
        if left <= 0:
            return f"did not end within {seconds:.1f} s and was killed"


def bare_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program may see of our environment: where programs are, and a fixed language."""
    return {
        "PATH": os.environ.get("PATH") or _USUAL_PATH,
        "LC_ALL": "C.UTF-8",
        **(added or {}),
    }


def _identity(uid: int | None, gid: int | None) -> dict[str, Any]:
    """Keyword arguments for Popen that make a root process another user's."""
    if uid is None or gid is None or os.geteuid() != 0 or uid == 0:
        return {}
    return {"user": uid, "group": gid, "extra_groups": [gid]}


def _file_in_memory(name: str) -> Any:
    return os.fdopen(os.memfd_create(name), "w+b", buffering=0)


def _content(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read(OUTPUT_LIMIT)
    return content


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    give_up_at = time.monotonic() + GRACE_AFTER_KILL
    while process.poll() is None and time.monotonic() < give_up_at:
        time.sleep(0.01)
