"""Tests of what is installed, by `make install` and by packages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: What `make install` and the packages are made of.
PARTS = ("Makefile", "README.md", "LICENSE", "agents", "crm-examples", "docs", "lib", "packaging")


def checkout_of_version(version: str | None, place: Path) -> Path:
    """A copy of what is installed and packaged, with another version's number where one is given.

    The change of number is a change of the library, as it is from one version to the next.
    """
    place.mkdir(parents=True)
    for name in PARTS:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    if version is not None:
        file = place / "lib/mailman_ha/__init__.py"
        line = f'__version__ = "{version}"'
        text, found = re.subn('(?m)^__version__ = ".*"', line, file.read_text())
        assert found == 1
        file.write_text(text)
    return place
