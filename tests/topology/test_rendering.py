"""The three renderings of a site mean the same to the real pcs, crm and cibadmin of this machine.

The examples are held before the tools of both Debian releases in tests/cluster/test_examples.py;
here it is the odd ones.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION as JANITOR
from mailman_ha.agents.mailman_master.declaration import DECLARATION as MASTER
from mailman_ha.agents.qfiles_slice.declaration import DECLARATION as SLICE
from mailman_ha.topology import cib_xml, description, prose, shape
from mailman_ha.topology.resources import Primitive
from mailman_ha.topology.site import TIMEOUTS

from . import pacemaker_tools, sites


def need_tools() -> None:
    """Skip where this machine has no Pacemaker's tools, as the tests of metadata do."""
    for program in ("pcs", "crm", "cibadmin", "crm_simulate", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; make test-packages")


@pytest.mark.slow
def test_everything_odd_means_the_same_to_pcs_crm_and_cibadmin(tmp_path: Path) -> None:
    need_tools()
    site = description.loads(sites.ALL_OF_IT.encode(), "site.yaml")
    nodes = [node.name for node in site.nodes]
    loaded = pacemaker_tools.load(tmp_path, nodes, sites.rendered(site))
    pacemaker_tools.assert_all_mean(loaded, cib_xml.tree(shape.build(site)))


@pytest.mark.slow
def test_script_for_pcs_runs_as_it_stands(tmp_path: Path) -> None:
    need_tools()
    site, path = sites.example("janitor-alone")
    texts = sites.rendered(site, path)
    nodes = [node.name for node in site.nodes]
    loaded = pacemaker_tools.load(
        tmp_path, nodes, {"pcs in full": texts["pcs"], "cib": texts["cib"]}
    )
    pacemaker_tools.assert_all_mean(loaded, cib_xml.tree(shape.build(site)))


@pytest.mark.parametrize("name", sites.NAMES)
def test_example_is_what_its_description_renders_to(name: str) -> None:
    texts = sites.rendered(*sites.example(name))
    for language in ("crm", "pcs"):
        path = sites.EXAMPLES / f"{name}.{language}"
        assert path.read_text() == texts[language], (
            f"{path.name} is not what {name}.yaml renders to; make it anew: "
            f"lib/mailman_ha/cli/mailman-ha render crm-examples/{name}.yaml --format {language}"
        )


def test_every_example_stands_beside_its_description() -> None:
    assert len(sites.NAMES) >= 6
    for path in sites.EXAMPLES.iterdir():
        assert path.suffix in (".yaml", ".crm", ".pcs", ".xml")
        assert path.stem in sites.NAMES, f"{path.name} has no description"


@pytest.mark.parametrize("name", [*sites.NAMES, "odd"])
def test_agents_accept_what_they_are_given(name: str) -> None:
    text = sites.ALL_OF_IT if name == "odd" else (sites.EXAMPLES / f"{name}.yaml").read_text()
    site = description.loads(text.encode(), name)
    declarations = {f"ocf:mailman:{each.name}": each for each in (MASTER, JANITOR, SLICE)}
    seen = 0
    for primitive in shape.build(site).primitives():
        if primitive.agent in declarations:
            known = {each.name: each for each in declarations[primitive.agent].parameters}
            for parameter, value in primitive.parameters:
                assert known[parameter].fault(value) == "", (primitive.id, parameter, value)
            seen += 1
    assert seen


@pytest.mark.parametrize(
    ("part", "declaration"), [("mailman", MASTER), ("janitor", JANITOR), ("slices", SLICE)],
    ids=["mailman", "janitor", "slices"],
)
def test_timeouts_and_intervals_are_those_the_agents_ask_for(part: str, declaration) -> None:
    asked = {
        f"{action.name}-{action.depth}" if action.depth else action.name: action
        for action in declaration.actions
        if action.name in ("start", "stop", "monitor")
    }
    assert {name: action.timeout for name, action in asked.items()} == TIMEOUTS[part]
    assert {
        name: action.interval for name, action in asked.items() if action.interval
    } == shape.INTERVALS[part]


@pytest.mark.parametrize("name", [*sites.NAMES, "odd"])
def test_lines_are_short_and_comments_harmless(name: str) -> None:
    text = sites.ALL_OF_IT if name == "odd" else (sites.EXAMPLES / f"{name}.yaml").read_text()
    texts = sites.rendered(description.loads(text.encode(), name))
    for language in ("crm", "pcs"):
        for line in texts[language].splitlines():
            if line.startswith("#"):
                assert "--" not in line and not line.endswith("\\")
            assert len(line) <= 100 or name == "odd"
    ElementTree.fromstring(texts["cib"])


def test_script_for_pcs_runs_nothing_of_a_description(tmp_path: Path) -> None:
    """Each word of a value reaches pcs as it is, whatever a shell would make of it."""
    site = description.loads(sites.ALL_OF_IT.encode(), "site.yaml")
    (tmp_path / "script").write_text(sites.rendered(site)["pcs"])
    note = tmp_path / "note"
    note.write_text('for word; do printf "%s\\0" "$word"; done\n')
    done = subprocess.run(
        ["/bin/sh", tmp_path / "script"], env={"PATH": "/nonexistent", "PCS": f"/bin/sh {note}"},
        capture_output=True, check=False,
    )
    assert done.returncode == 0 and done.stderr == b""
    said = done.stdout.decode().split("\0")
    for primitive in shape.build(site).parts:
        if isinstance(primitive, Primitive):
            for pair in primitive.parameters:
                assert "=".join(pair) in said


def test_comment_keeps_hyphens_apart_and_its_last_backslash_from_the_next_line() -> None:
    (line,) = prose.comment(["a---b \\"])
    assert line == "# a- - -b \\ ."
