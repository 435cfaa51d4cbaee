"""A stand-in for Mailman 2.1, which no package registry has, for the tests.

`install(prefix, ...)` lays out an installation that looks, from the outside, like Mailman 2.1.39:
bin/mailmanctl, bin/qrunner, bin/paths.py, Mailman/mm_cfg.py, locks, data, qfiles and lists; its
programs keep Mailman's contract of files, locks, queues, processes and exit statuses.  What they do
with the mail itself is of no account.  test_contract.py holds stand-in and real Mailman against
each other.
"""

from __future__ import annotations

import grp
import os
import pickle
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "program"
DIRECTORIES = ("locks", "data", "qfiles", "lists", "logs", "archives/private")


def interpreter() -> str:
    """The Python that the stand-in runs on: the system's, which every user may execute."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def install(
    prefix: Path,
    *,
    user: str,
    group: str,
    var_prefix: Path | None = None,
    python: str | None = None,
    settings: str = "",
    lists: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Install the stand-in under `prefix` (made when missing).

    `var_prefix` takes locks, data, qfiles, lists and logs where it is another directory (the shared
    one).  `settings` is text appended to mm_cfg.py.  `lists` maps each list's name to its members'
    addresses; the site list `mailman` is always there.  With root's rights all files go to
    `user`:`group`.
    """
    var_prefix = var_prefix or prefix
    python = python or interpreter()
    values = {
        "@PYTHON@": python,
        "@PREFIX@": str(prefix),
        "@VAR_PREFIX@": str(var_prefix),
        "@USER@": user,
        "@GROUP@": group,
    }
    for part in ("bin", "Mailman"):
        (prefix / part).mkdir(parents=True, exist_ok=True)
        for source in sorted((PROGRAM / part).iterdir()):
            if not source.is_file():
                continue
            text = source.read_text()
            for mark, value in values.items():
                text = text.replace(mark, value)
            target = prefix / part / source.name
            target.write_text(text)
            target.chmod(0o644 if source.suffix == ".py" else 0o755)
    with open(prefix / "Mailman" / "mm_cfg.py", "a") as file:
        file.write("\n" + settings)
    for name in DIRECTORIES:
        (var_prefix / name).mkdir(parents=True, exist_ok=True)
        (var_prefix / name).chmod(0o2775)
    for name, members in {"mailman": (), **(lists or {})}.items():
        _make_list(var_prefix / "lists" / name, name, members)
    # Byte code is made now: later the programs run as several users, root among them.
    subprocess.run(
        [python, "-m", "compileall", "-q", str(prefix / "bin"), str(prefix / "Mailman")],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    if os.geteuid() == 0:
        _give_away(prefix, user, group)
        _give_away(var_prefix, user, group)


def remove(prefix: Path) -> None:
    """Remove what `install` made."""
    shutil.rmtree(prefix, ignore_errors=True)


def _make_list(directory: Path, name: str, members: Iterable[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o2775)
    settings = {
        "real_name": name.capitalize(),
        "host_name": "lists.example.test",
        "owner": ["owner@example.test"],
        "members": dict.fromkeys(members, 0),
        "post_id": 1.0,
    }
    config = directory / "config.pck"
    config.write_bytes(pickle.dumps(settings, 1))
    config.chmod(0o660)


def _give_away(top: Path, user: str, group: str) -> None:
    uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    for directory, _, files in os.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in files)]:
            os.lchown(path, uid, gid)
