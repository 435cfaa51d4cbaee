"""Tests of what is installed, by `make install` and by packages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: What `make install` and the packages are made of.
PARTS = ("Makefile", "README.md", "LICENSE", "agents", "crm-examples", "docs", "lib", "packaging")


#: What is appended to each module of a version that a test makes.
OF_ONE_VERSION = """
from mailman_ha import __version__ as _version_of_the_library
if _version_of_the_library != {version!r}:
    raise SystemExit(__name__ + " of {version} beside modules of " + _version_of_the_library)
"""


def checkout_of_version(version: str | None, place: Path) -> Path:
    """A copy of what is installed and packaged, or where `version` is given another version of it.

    Every module of that version is another one than it was, and none will work beside a module of
    any version but its own.
    """
    place.mkdir(parents=True)
    for name in PARTS:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    if version is not None:
        library = place / "lib/mailman_ha"
        for file in library.rglob("*.py"):
            if file != library / "__init__.py":
                file.write_text(file.read_text() + OF_ONE_VERSION.format(version=version))
        line = f'__version__ = "{version}"'
        file = library / "__init__.py"
        text, found = re.subn('(?m)^__version__ = ".*"', line, file.read_text())
        assert found == 1
        file.write_text(text)
    return place
