"""The packages that the tests install, built as `make deb rpm` builds them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packages import CHECKOUT, checkout_of_version

EPOCH = "1750000000"


class Packages:
    """The .deb and .rpm of this checkout, and those of a version after it."""

    def __init__(self, directory: Path) -> None:
        self.of_this: dict[str, Path] = {}
        self.of_next: dict[str, Path] = {}
        build(CHECKOUT, directory / "this", self.of_this)
        build(checkout_of_version("99.1", directory / "next"), directory / "built", self.of_next)


def build(checkout: Path, place: Path, built: dict[str, Path]) -> None:
    """`make deb rpm` of a checkout; lintian and rpmlint have their say in it."""
    done = subprocess.run(
        ["make", "-s", "-C", str(checkout), "deb", "rpm", f"BUILD={place}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": EPOCH},
    )
    assert done.returncode == 0, done.stdout
    for kind in ("deb", "rpm"):
        (built[kind],) = place.glob(f"*.{kind}")
