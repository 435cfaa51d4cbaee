"""Where an installation's programs lie, from the agent's parameters alone.

Nothing here touches the installation itself: 2.1's whole prefix may lie on a share that hangs,
and `stop` must still know Mailman's processes when it sees them.
"""

from __future__ import annotations

import os

from mailman_ha.ocf.record import record

VERSION_21 = "2.1"
VERSION_3 = "3"
VERSIONS = (VERSION_21, VERSION_3)

#: Where 2.1 is installed from source, by Debian and by Red Hat.
PREFIXES_21 = ("/usr/local/mailman", "/usr/lib/mailman", "/var/lib/mailman")
#: Where Mailman 3's programs are installed by Debian, from the project's guide, and by pip.
BINDIRS_3 = ("/usr/lib/mailman3/bin", "/opt/mailman/venv/bin", "/usr/local/bin", "/usr/bin")
CONFIGS_3 = ("/etc/mailman3/mailman.cfg", "/etc/mailman.cfg")


class NotFound(Exception):
    """No Mailman where it was looked for; the text says where, and which parameter to set."""


@record
class Location:
    """One installation's place: `prefix` for 2.1; `bindir` and `config` for 3.

    `bindirs` are all directories from which its programs may have been started. `working_dir` is
    the one in which they work, without links; empty where that is not known.
    """

    version: str
    bindirs: tuple[str, ...]
    prefix: str = ""
    config: str = ""
    working_dir: str = ""

    @property
    def starter(self) -> str:
        """The program that starts the master."""
        return os.path.join(
            self.bindirs[0], "mailmanctl" if self.version == VERSION_21 else "mailman"
        )

    def describe(self) -> str:
        """For a sentence: which Mailman, and where."""
        where = self.prefix if self.version == VERSION_21 else self.config
        return f"Mailman {self.version} ({where})"


def candidates(version: str, prefix: str, bindir: str, config: str) -> tuple[Location, ...]:
    """Every place the parameters leave open, most likely first; nothing is looked at.

    `version` is one of VERSIONS or ``auto``. A parameter that belongs to one version decides for
    it where `version` is ``auto``.
    """
    if version not in VERSIONS:
        if prefix and not (bindir or config):
            version = VERSION_21
        elif (bindir or config) and not prefix:
            version = VERSION_3
    found: list[Location] = []
    if version != VERSION_3:
        for one in (prefix,) if prefix else PREFIXES_21:
            clean = os.path.normpath(one)
            found.append(Location(VERSION_21, _bindirs_21(clean), prefix=clean))
    if version != VERSION_21:
        for path in (config,) if config else CONFIGS_3:
            for directory in (bindir,) if bindir else BINDIRS_3:
                found.append(
                    Location(
                        VERSION_3,
                        (os.path.normpath(directory),),
                        config=os.path.normpath(path),
                    )
                )
    return tuple(found)


def _bindirs_21(prefix: str) -> tuple[str, ...]:
    # Debian's and Red Hat's PREFIX/bin is a link to /usr/lib/mailman/bin, and that is the name
    # under which the master starts its runners.
    bindirs = [os.path.join(prefix, "bin")]
    if prefix == "/var/lib/mailman":
        bindirs.append("/usr/lib/mailman/bin")
    return tuple(bindirs)


def find(version: str, prefix: str, bindir: str, config: str) -> Location:
    """The first candidate that is there. Raises NotFound.

    Looks at the file system; where 2.1's prefix lies on a share that hangs, so does this.
    """
    places = candidates(version, prefix, bindir, config)
    for place in places:
        if os.path.isfile(place.starter) and (
            place.version == VERSION_21 or os.path.isfile(place.config)
        ):
            return place
    first = places[0]
    missing = [
        path
        for path in (first.starter, first.config)
        if path and not os.path.isfile(path)
    ]
    if len(places) == 1:
        raise NotFound(
            f"{first.describe()} is not here: {' and '.join(missing)} missing; mount the share it "
            f"lies on, install it, or correct the parameter "
            f"{'prefix' if first.version == VERSION_21 else 'bindir or config'}"
        )
    raise NotFound(
        "no Mailman found in " + ", ".join(sorted({place.bindirs[0] for place in places}))
        + "; set prefix (2.1) or bindir and config (3)"
    )
