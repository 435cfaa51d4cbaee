"""The real agents before those who judge agents: ocf-tester, its DTD, pcs' RNG, crmsh, man."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION as JANITOR
from mailman_ha.agents.mailman_master.declaration import DECLARATION as MASTER
from mailman_ha.agents.qfiles_slice.declaration import DECLARATION as SLICE

from tests import metadata_checks
from tests.agents.slice_fixture import COUNT, OPTIONS
from tests.installations import Installation

AGENTS = Path(__file__).resolve().parent.parent.parent / "agents"
NAMES = ("mailman-master", "list-lock-janitor", "qfiles-slice")


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_valid_for_ocf_tester_and_for_pcs(name: str) -> None:
    metadata = metadata_checks.metadata_of(AGENTS / name)
    metadata_checks.assert_valid_by_dtd(metadata)
    metadata_checks.assert_valid_by_rng(metadata)


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_printed_for_nobody_without_an_environment(name: str) -> None:
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        [AGENTS / name, "meta-data"], env={}, user=nobody.pw_uid, group=nobody.pw_gid,
        extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/",
    )
    assert done.returncode == 0 and done.stderr == b""
    assert done.stdout == metadata_checks.metadata_of(AGENTS / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("describer", metadata_checks.DESCRIBERS)
def test_pacemakers_shells_describe_the_agent(name: str, describer: str) -> None:
    text = metadata_checks.described_by(describer, AGENTS / name, "mailman", name)
    assert "allow_unfenced" in text and "host_map" in text


@pytest.mark.parametrize("declaration", [MASTER, JANITOR, SLICE], ids=NAMES)
def test_manual_page_sets_without_a_warning_and_names_every_parameter(declaration) -> None:
    page = metadata_checks.assert_manual_page_is_sound(declaration.manual_page())
    for parameter in declaration.parameters:
        assert parameter.name in page


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_agent_passes_ocf_tester(
    name: str, make_installation: Callable[..., Installation]
) -> None:
    real = ["mailman21"] if "MAILMAN21_PREFIX" in os.environ else []
    for kind in ("standin", "mailman3", *real):
        is_slice = name == "qfiles-slice"
        installation = make_installation(kind, **(OPTIONS[kind] if is_slice else {}))
        given = installation.agent_parameters()
        if is_slice:
            given |= {"queue": "in", "slice": "1", "slices": str(COUNT)}
        metadata_checks.assert_passes_ocf_tester(
            AGENTS / name, given, {"HA_RSCTMP": "/run/resource-agents"}
        )
        assert not installation.processes()
