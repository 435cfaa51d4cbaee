"""Images: one read-only Debian tree per suite and kind, built once and kept in a cache.

A tree is built in a temporary directory of the cache and renamed when it is whole, so a build
that was cut short is never taken for an image. Its name carries a hash of the recipe: a changed
package list gives a new image. The trees are never written to afterwards; every node lays an
overlay over its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

SUITES = ("bookworm", "trixie")

PACKAGES = (
    "corosync",
    "crmsh",
    "e2fsprogs",
    "iproute2",
    "iputils-arping",
    "kmod",  # the Filesystem agent calls modprobe
    "mailman3",
    "make",
    "pacemaker",
    "pacemaker-cli-utils",
    "pcs",
    "postgresql",  # runs outside the nodes, for sites that serve on several at once
    "procps",
    "psmisc",  # the Filesystem agent's stop calls fuser
    "python3-psutil",
    "python3-psycopg2",
    "python3-yaml",
    "resource-agents",
    "util-linux",
)

# No package starts a service while the image is built, and none in a node either.
POLICY = {"usr/sbin/policy-rc.d": (0o755, "#!/bin/sh\nexit 101\n")}

APT = {
    "etc/apt/apt.conf.d/90lab": (
        0o644,
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\n'
        'Acquire::Retries "3";\nDpkg::Use-Pty "false";\n',
    ),
}

# What the recipe leaves in the tree besides the packages; part of the image's key.
TREE_FILES = {
    **POLICY,
    **APT,
    "etc/dpkg/dpkg.cfg.d/lab": (
        0o644,
        "force-unsafe-io\n"
        "force-confold\n"
        "path-exclude=/usr/share/man/*\n"
        "path-exclude=/usr/share/info/*\n"
        "path-exclude=/usr/share/locale/*\n",
    ),
    # A database cluster is made for each lab, none in the image.
    "etc/postgresql-common/createcluster.conf": (0o644, "create_main_cluster = false\n"),
}

# $1: work directory, $2: suite, $3: mirror or empty, $4...: packages. Runs in namespaces of its
# own, so a build that is killed leaves no mount and no process. eatmydata: an image that was cut
# short is thrown away anyhow, so nothing needs to be synced while it grows.
RECIPE = """
set -e
tree=$1/tree files=$1/files suite=$2 mirror=$3
shift 3
debootstrap --variant=minbase --include=eatmydata "$suite" "$tree" $mirror
cp -a "$files/." "$tree"
cp /etc/resolv.conf "$tree/etc/resolv.conf"
mount -t proc proc "$tree/proc"
chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \\
    sh -ec 'apt-get -q update; eatmydata apt-get -q -y install "$@"; apt-get clean' sh "$@"
umount "$tree/proc"
rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/resolv.conf"
"""

# What the bare tree has ready to be installed: in it lies what a new machine would fetch, so that
# tests that install there are not about the network.
BARE_DOWNLOADS = (
    "bash-completion",
    "crmsh",
    "libxml2-utils",  # ocf-tester calls xmllint
    "make",
    "man-db",
    "pacemaker",
    "pcs",
    "python3-argcomplete",
    "python3-psutil",
    "python3-rich",
    "python3-yaml",
    "resource-agents",
    "rpm",
)

BARE_FILES = {
    **POLICY,
    **APT,
    "etc/dpkg/dpkg.cfg.d/lab": (0o644, "force-unsafe-io\n"),
}

BARE_RECIPE = """
set -e
tree=$1/tree files=$1/files suite=$2 mirror=$3
shift 3
debootstrap --variant=minbase "$suite" "$tree" $mirror
cp -a "$files/." "$tree"
cp /etc/resolv.conf "$tree/etc/resolv.conf"
mount -t proc proc "$tree/proc"
chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \\
    sh -ec 'apt-get -q update; apt-get -q -y install --download-only "$@"' sh "$@"
umount "$tree/proc"
rm -f "$tree/etc/resolv.conf"
"""


@dataclass(frozen=True)
class Kind:
    """A kind of image: what its name begins with, and what it is made of."""

    prefix: str
    packages: tuple[str, ...]
    files: dict[str, tuple[int, str]]
    recipe: str


NODE = Kind("", PACKAGES, TREE_FILES, RECIPE)
BARE = Kind("bare-", BARE_DOWNLOADS, BARE_FILES, BARE_RECIPE)
"""A node of the lab; and a machine on which nothing is installed yet."""


class ImageFailure(Exception):
    """An image could not be built; the text names the suite, the reason and the log."""


def cache_directory() -> Path:
    """Where images are kept between runs; MAILMAN_HA_LAB_CACHE names another place."""
    return Path(os.environ.get("MAILMAN_HA_LAB_CACHE") or "/var/cache/mailman-ha-lab")


def image_path(suite: str, kind: Kind = NODE) -> Path:
    """Where the image of this suite, by the present recipe, stands or will stand."""
    recipe = repr((suite, kind.packages, sorted(kind.files.items()), kind.recipe))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return cache_directory() / f"{kind.prefix}{suite}-{key}"


def host_mirror() -> str:
    """The Debian mirror this machine's own apt uses, or '' for debootstrap's default.

    Only a Debian host's main archive will do: another distribution's does not carry the suites.
    """
    if not shutil.which("apt-get"):
        return ""
    fields = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Identifier: Packages"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] == "Debian" and words[1] == "main" and "-" not in words[2]:
            return words[3]
    return ""


def host_proxy() -> dict[str, str]:
    """The proxy this machine's apt is configured with, as an environment for debootstrap."""
    if not shutil.which("apt-config"):
        return {}
    dump = subprocess.run(
        ["apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout.strip()
    return {"http_proxy": dump} if dump.startswith("http") else {}


def node_image(
    suite: str, progress: Callable[[str], None] = lambda text: None, kind: Kind = NODE
) -> Path:
    """The path of the suite's image; builds it first (a minute or two) when it is missing.

    Two that want the same image wait for each other. Raises ImageFailure.
    """
    if suite not in SUITES:
        raise ImageFailure(f"no such suite: {suite}; the lab knows {' and '.join(SUITES)}")
    image = image_path(suite, kind)
    if image.is_dir():
        return image
    image.parent.mkdir(parents=True, exist_ok=True)
    name = kind.prefix + suite
    with open(image.parent / f"{name}.lock", "w", encoding="ascii") as lock:
        progress(f"waiting for or building the image of {name} (once, about two minutes)")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.is_dir():
            discard_unfinished(image.parent, name)
            build(suite, image, kind)
    return image


def bare_image(suite: str, progress: Callable[[str], None] = lambda text: None) -> Path:
    """The same of a machine on which nothing is installed, with what `BARE_DOWNLOADS` needs."""
    return node_image(suite, progress, BARE)


def discard_unfinished(cache: Path, name: str) -> None:
    """Remove what a build that was cut short left; call it with the image's lock held."""
    for leftover in cache.glob(f"building-{name}-*"):
        shutil.rmtree(leftover)


def build(suite: str, image: Path, kind: Kind) -> None:
    """Build the suite's tree beside `image` and rename it there when it is whole."""
    work = Path(tempfile.mkdtemp(prefix=f"building-{kind.prefix}{suite}-", dir=image.parent))
    for name, (mode, text) in kind.files.items():
        file = work / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
        file.chmod(mode)
    log = image.parent / f"{kind.prefix}{suite}.log"
    command: list[str] = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork"]
    command += ["--kill-child=SIGKILL", "sh", "-c", kind.recipe, "sh"]
    command += [str(work), suite, host_mirror(), *kind.packages]
    with open(log, "wb") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **host_proxy()},
            check=False,
        )
    if done.returncode != 0:
        shutil.rmtree(work)
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ImageFailure(
            f"the image of {suite} could not be built: {''.join(last)} (whole story in {log})"
        )
    (work / "tree").rename(image)
    shutil.rmtree(work)
