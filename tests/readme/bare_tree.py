"""A bare Debian tree of a suite, and a new user's shell in it.

The tree is what debootstrap makes as minbase, kept in the lab's cache; each session has a copy of
its own, and what it downloads is kept, too. All of a session lives in namespaces of its own and in
one directory, and goes with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.image import cache_directory, host_mirror, host_proxy

from .commands import CHECKOUT

SUITES = ("bookworm", "trixie")
SECONDS = 1500  # on an idle machine it is one minute

# $1: where, $2: suite, $3: mirror or empty. eatmydata: a tree is thrown away after the session.
BUILD = """
set -e
debootstrap --variant=minbase --include=eatmydata "$2" "$1" $3
chroot "$1" apt-get -q clean
"""

#: A user who is there answers questions; and no service is started in a tree. Without what packages
#: only recommend, the tree has what the README says and not more.
ANSWERS = {
    "etc/apt/apt.conf.d/90answers": 'APT::Get::Assume-Yes "true";\nDpkg::Use-Pty "false";\n'
    'Acquire::Retries "3";\nAPT::Install-Recommends "false";\n',
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/dpkg/dpkg.cfg.d/quick": "force-unsafe-io\npath-exclude=/usr/share/man/*\n"
    "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/locale/*\n",
}

# $1: the tree, $2: the directory of steps, $3: the checkout, $4: downloaded packages. Each step is
# a script; its output and exit status lie beside it afterwards.
SESSION = r"""
set -e
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs none "$1/tmp"
mkdir "$1/steps" "$1/project"
mount --bind "$2" "$1/steps"
mount --bind "$3" "$1/project"
mount --bind "$4" "$1/var/cache/apt/archives"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb \
    DEBIAN_FRONTEND=noninteractive LD_PRELOAD=libeatmydata.so \
    ${http_proxy:+http_proxy="$http_proxy"} sh -c '
        for step in /steps/*.step; do
            cd /root; sh -e "$step" < /dev/null > "$step.out" 2>&1
            echo $? > "$step.status"
        done'
"""


@dataclass(frozen=True)
class Step:
    """What is typed: `text` is a script for sh, in which $PROJECT is the checkout."""

    name: str
    text: str


@dataclass(frozen=True)
class Done:
    """How a step ended, and all that it said."""

    step: Step
    status: int
    said: str


def bare_tree(suite: str) -> Path:
    """The suite's tree, built first where it is missing (a minute)."""
    key = hashlib.sha256(repr((suite, BUILD)).encode()).hexdigest()[:12]
    tree = cache_directory() / f"readme-{suite}-{key}"
    tree.parent.mkdir(parents=True, exist_ok=True)
    with open(tree.parent / f"readme-{suite}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in tree.parent.glob(f"readme-building-{suite}-*"):
            shutil.rmtree(left)
        if not tree.is_dir():
            work = Path(tempfile.mkdtemp(prefix=f"readme-building-{suite}-", dir=tree.parent))
            done = subprocess.run(
                ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork",
                 "--kill-child=SIGKILL", "sh", "-c", BUILD, "sh", str(work / "tree"), suite,
                 host_mirror()],
                env={**os.environ, **host_proxy()}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )
            assert done.returncode == 0, done.stdout[-2000:]
            (work / "tree").rename(tree)
            shutil.rmtree(work)
    return tree


def session(suite: str, steps: Sequence[Step], directory: Path) -> list[Done]:
    """Type these one after the other in a fresh tree; `directory` is an empty one to work in."""
    original = bare_tree(suite)
    archives = cache_directory() / f"readme-{suite}-archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    names = [f"{number:03}.step" for number in range(len(steps))]
    for name, step in zip(names, steps):
        (directory / name).write_text(f"PROJECT=/project\n{step.text}\n", encoding="utf-8")
    with open(archives.parent / f"readme-{suite}-archives.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in original.parent.glob(f"readme-session-{suite}-*"):  # of runs that were killed
            shutil.rmtree(left)
        tree = Path(tempfile.mkdtemp(prefix=f"readme-session-{suite}-", dir=original.parent))
        try:
            subprocess.run(["cp", "-a", f"{original}/.", str(tree)], check=True)
            for path, text in ANSWERS.items():
                (tree / path).write_text(text, encoding="ascii")
                (tree / path).chmod(0o755)
            shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
            ended = subprocess.run(
                ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--uts", "--ipc", "--pid",
                 "--fork", "--kill-child=SIGKILL", "sh", "-c", SESSION, "sh", str(tree),
                 str(directory), str(CHECKOUT), str(archives)],
                env={**os.environ, **host_proxy()}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
                check=False,
            )
        finally:
            shutil.rmtree(tree)
    assert ended.returncode == 0, ended.stdout
    return [
        Done(step, int((directory / f"{name}.status").read_text()),
             (directory / f"{name}.out").read_text(errors="replace"))
        for name, step in zip(names, steps)
    ]
