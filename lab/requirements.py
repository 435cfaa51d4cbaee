"""What this machine must have for a lab to run; everything missing is one sentence."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from .image import cache_directory, image_path

# Debian package of each program the lab calls on the host.
PROGRAMS = {
    "ip": "iproute2",
    "make": "make",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}

# Tried in throw-away namespaces: what the kernel must allow, and how to say that it does not.
TRIALS = (
    (
        "namespaces (network, mount, uts, ipc, pid)",
        "unshare --net --mount --uts --ipc --pid --fork --kill-child=SIGKILL true",
    ),
    (
        "a bridge and veth pairs in a network namespace",
        "unshare --net sh -ec 'ip link add name br0 type bridge; "
        "ip link add name v0 type veth peer name v1'",
    ),
    (
        "an overlay mount on a tmpfs",
        "unshare --mount sh -ec 'mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir l u w r; "
        "mount -t overlay overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w r'",
    ),
)


def missing(suite: str) -> list[str]:
    """One sentence for each thing a lab of this suite lacks here; empty when it can run."""
    if os.geteuid() != 0:
        return ["the lab needs root: it makes namespaces, mounts and a loop device; use sudo"]
    sentences = []
    programs = dict(PROGRAMS)
    if not image_path(suite).is_dir():
        programs["debootstrap"] = "debootstrap"
        if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
            sentences.append(
                "debootstrap cannot check what it downloads without Debian's keys: "
                "apt-get install debian-archive-keyring"
            )
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program, package in sorted(programs.items()):
        if not shutil.which(program, path=path):
            sentences.append(f"{program} is not installed: apt-get install {package}")
    if importlib.util.find_spec("aiosmtpd") is None:
        sentences.append(
            "aiosmtpd (the SMTP sink) is not there for this Python: "
            "`make venv` in the checkout, or pip install aiosmtpd"
        )
    if not Path("/dev/loop-control").exists():
        sentences.append("/dev/loop-control is missing: load the loop module (modprobe loop)")
    if not sentences:
        sentences += [sentence for what, trial in TRIALS if (sentence := failure(what, trial))]
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except OSError as trouble:
        sentences.append(f"the image cache {cache_directory()} cannot be made: {trouble.strerror}")
    return sentences


def failure(what: str, trial: str) -> str:
    """Why the kernel refuses a trial, in one sentence; '' when it does not."""
    done = subprocess.run(
        ["sh", "-c", trial],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    reason = (done.stdout.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"this machine does not allow {what}: {reason}"
