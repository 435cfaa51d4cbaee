"""The packages, built once for a test run."""

from __future__ import annotations

import pytest

from tests.packages.built_packages import Packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(tmp_path_factory.mktemp("packages"))
