"""The installed pages, and what a reader sees of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of manual pages that `make install` fills."""
    root = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        ["make", "-s", "install", f"DESTDIR={root}"], cwd=CHECKOUT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return root / "usr/share/man"


@pytest.fixture
def read(manual: Path) -> Callable[[str], str]:
    """A page, found by its name as a reader finds it, set for 100 columns."""

    def by_name(name: str) -> str:
        done = subprocess.run(
            ["man", name], capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100",
                 "MANPATH": str(manual), "MANOPT": "--no-hyphenation --no-justification"},
        )
        assert done.returncode == 0, done.stderr
        return re.sub(".\b", "", done.stdout)

    return by_name
