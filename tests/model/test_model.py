"""The model of the lock protocol keeps the promises, and each mutant of it breaks one."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.__main__ import VARIANTS, Variant, as_expected, check


@pytest.mark.parametrize("variant", VARIANTS, ids=[each.name for each in VARIANTS])
def test_every_interleaving_is_as_expected(variant: Variant, tmp_path: Path) -> None:
    result = check(variant, tmp_path)
    assert as_expected(variant, result), result
