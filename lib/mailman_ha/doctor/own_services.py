"""What of the machine's own would start Mailman: enabled units, init's links, cron's lines.

Read from the files that say so, under a root directory: that works without systemd running and
without asking it.
"""

from __future__ import annotations

import os
import stat

from mailman_ha.doctor.observation import OwnService
from mailman_ha.doctor.services import CORE_UNITS

#: Where `systemctl enable` makes its links, and where a distribution may bring them.
_WANTS = (
    "etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system",
)
_CRON = ("etc/cron.d", "var/spool/cron/crontabs", "var/spool/cron")
_CRON_SCRIPTS = ("etc/cron.hourly", "etc/cron.daily", "etc/cron.weekly", "etc/cron.monthly")
#: Longer files are no crontabs (bytes).
_LONGEST = 1 << 20


def look(root: str = "/") -> tuple[tuple[OwnService, ...], tuple[str, ...]]:
    """What is on, and what could not be looked at, in sentences."""
    found: list[OwnService] = []
    unseen: list[str] = []
    for unit, where in _units(root):
        if unit not in [one.name for one in found]:
            found.append(OwnService("systemd", unit, where))
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        found += _init(root)  # under systemd an init script without a unit has a generated one
    else:
        found += [
            one for one in _init(root)
            if not any(_unit_exists(root, unit) for unit in (f"{one.name}.service",))
        ]
    found += _cron(root, unseen)
    return tuple(found), tuple(unseen)


def _units(root: str) -> list[tuple[str, str]]:
    found = []
    for directory in _WANTS:
        for target in _names(os.path.join(root, directory)):
            if not target.endswith((".wants", ".requires")):
                continue
            for unit in _names(os.path.join(root, directory, target)):
                stem = unit.partition(".")[0].partition("@")[0]
                if stem in CORE_UNITS and not _masked(root, unit):
                    found.append((unit, "/" + os.path.join(directory, target, unit)))
    return found


def _masked(root: str, unit: str) -> bool:
    try:
        return os.readlink(os.path.join(root, "etc/systemd/system", unit)) == "/dev/null"
    except OSError:
        return False


def _unit_exists(root: str, unit: str) -> bool:
    return any(os.path.lexists(os.path.join(root, directory, unit)) for directory in _WANTS)


def _init(root: str) -> list[OwnService]:
    found: dict[str, OwnService] = {}
    for level in "2345":
        for directory in (f"etc/rc{level}.d", f"etc/rc.d/rc{level}.d"):
            for name in _names(os.path.join(root, directory)):
                script = name[3:]
                if name[:1] == "S" and name[1:3].isdigit() and script in CORE_UNITS:
                    found.setdefault(
                        script, OwnService("init", script, f"/{directory}/{name}")
                    )
    return list(found.values())


def _cron(root: str, unseen: list[str]) -> list[OwnService]:
    files = [os.path.join(root, "etc/crontab")]
    for directory in (*_CRON, *_CRON_SCRIPTS):
        path = os.path.join(root, directory)
        try:
            files += [os.path.join(path, name) for name in sorted(os.listdir(path))]
        except PermissionError:
            unseen.append(f"{'/' + directory} may not be read by uid {os.geteuid()}")
        except OSError:
            continue
    found = []
    for path in files:
        shown = "/" + os.path.relpath(path, root)
        try:
            text = _text(path)
        except PermissionError:
            unseen.append(f"{shown} may not be read by uid {os.geteuid()}")
            continue
        except OSError:
            continue
        for line in text.splitlines():
            if starts_mailman(line):
                found.append(OwnService("cron", " ".join(line.split())[:120], shown))
                break
    return found


def starts_mailman(line: str) -> bool:
    """Whether a line of a crontab or a script starts or restarts Mailman's master."""
    words = line.partition("#")[0].replace(";", " ").replace("&", " ").split()
    names = [word.rpartition("/")[2] for word in words]
    for number, name in enumerate(names):
        following = names[number + 1 : number + 8]
        if name in ("mailmanctl", "mailman") and {"start", "restart"} & set(following):
            return True
        if name in ("service", "systemctl", "rc-service", "invoke-rc.d") and (
            {"start", "restart"} & set(following)
            and {word.partition(".")[0] for word in following} & set(CORE_UNITS)
        ):
            return True
    return False


def _text(path: str) -> str:
    """A regular file's text; '' for anything else. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.fsdecode(file.read(_LONGEST))


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
