"""The real Mailman 3 for tests, from PyPI, in a virtual environment that is built once and kept.

    python -m tests.mailman3_venv            builds it when it is missing, prints its bin directory

It lies in `.cache/mailman3` of the checkout (git-ignored).  Mailman runs as an unprivileged user,
so where that user cannot reach the checkout (one under /root, for example) the environment goes to
/var/cache/mailman-ha-tests/mailman3 instead.  MAILMAN3_BINDIR names a Mailman 3 that is already
installed and is used as it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("mailman==3.3.10", "setuptools<81")
CHECKOUT = Path(__file__).resolve().parent.parent
REACHED_BY_ALL = Path("/var/cache/mailman-ha-tests")


def readable_by_others(path: Path) -> bool:
    """Whether any user may walk into `path`: every directory above it grants x to others."""
    return all(part.stat().st_mode & 0o001 for part in [path, *path.parents] if part.exists())


def venv_directory() -> Path:
    cache = CHECKOUT / ".cache"
    return (cache if readable_by_others(CHECKOUT) else REACHED_BY_ALL) / "mailman3"


def interpreter() -> str:
    """A Python that the unprivileged user may run too: the system's, or else the running one."""
    system = Path("/usr/bin/python3")
    return str(system) if system.exists() else sys.executable


def ensure_mailman3() -> Path:
    """The bin directory of a Mailman 3, built first when it is missing.

    Two test runs that start at the same time build it once.  RuntimeError says what failed.
    """
    given = os.environ.get("MAILMAN3_BINDIR")
    if given:
        return Path(given)
    directory = venv_directory()
    directory.parent.mkdir(parents=True, exist_ok=True)
    stamp = directory / "complete"
    wanted = "\n".join((*REQUIREMENTS, interpreter())) + "\n"
    with open(directory.parent / "mailman3.building", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(directory, ignore_errors=True)
            old_mask = os.umask(0o022)
            try:
                _run([interpreter(), "-m", "venv", str(directory)])
                python = str(directory / "bin" / "python")
                _run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS])
                # The tests' user cannot write byte code here, so it is made now.
                _run([python, "-m", "compileall", "-q", str(directory / "lib")], accepted=(0, 1))
            finally:
                os.umask(old_mask)
            stamp.write_text(wanted)
    return directory / "bin"


def _run(command: list[str], accepted: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode not in accepted:
        raise RuntimeError(
            f"Mailman 3 for the tests could not be installed: {' '.join(command)} ended with "
            f"{done.returncode}:\n{done.stdout[-2000:]}"
        )


if __name__ == "__main__":
    print(ensure_mailman3())
