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
@pytest.mark.parametrize("name", ["janitor-alone", "two-nodes-drbd"])
def test_script_for_pcs_runs_as_it_stands(tmp_path: Path, name: str) -> None:
    """From the copy that it fetches to what it hands over, with the real pcs throughout."""
    need_tools()
    site, path = sites.example(name)
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
            if line.startswith("#") and language == "crm":  # which puts it into the CIB
                assert "--" not in line and not line.endswith(("\\", "-"))
            assert len(line) <= 100 or name == "odd"
    ElementTree.fromstring(texts["cib"])


#: In the place of pcs: shows the words that it is given, and fails where one of them is $FAILS.
SHOWS_ITS_WORDS = """#!/bin/sh
for word; do printf '%s\\0' "$word"; done
printf '\\n\\0'
for word; do [ "$word" != "$FAILS" ] || exit 1; done
"""
#: All that a script for pcs may run besides.
OF_A_SHELL = ("cp", "mktemp", "rm")


def run_script_for_pcs(
    tmp_path: Path, text: str, fails: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """How the script ended, with the words of each pcs command that it ran; `tmp_path`/tmp is
    where it may leave files."""
    programs = tmp_path / "bin"
    for directory in (programs, tmp_path / "tmp"):
        directory.mkdir()
    for name in OF_A_SHELL:
        path = shutil.which(name)
        assert path is not None
        (programs / name).symlink_to(path)
    (programs / "pcs").write_text(SHOWS_ITS_WORDS)
    (programs / "pcs").chmod(0o755)
    (tmp_path / "script").write_text(text)
    done = subprocess.run(
        ["/bin/sh", tmp_path / "script"], capture_output=True, text=True, check=False,
        env={"PATH": str(programs), "TMPDIR": str(tmp_path / "tmp"), "FAILS": fails},
    )
    assert done.stderr == ""
    return done, [one.split("\0")[:-1] for one in done.stdout.split("\n\0") if one]


def test_script_for_pcs_runs_nothing_of_a_description(tmp_path: Path) -> None:
    """Each word of a value reaches pcs as it is, whatever a shell would make of it."""
    site = description.loads(sites.ALL_OF_IT.encode(), "site.yaml")
    done, commands = run_script_for_pcs(tmp_path, sites.rendered(site)["pcs"])
    assert done.returncode == 0
    said = [word for command in commands for word in command]
    for primitive in shape.build(site).parts:
        if isinstance(primitive, Primitive):
            for pair in primitive.parameters:
                assert "=".join(pair) in said


@pytest.mark.parametrize("name", [*sites.NAMES, "odd"])
def test_script_for_pcs_changes_nothing_in_the_cluster_before_all_is_there(
    tmp_path: Path, name: str
) -> None:
    """A resource whose constraints are still to come is started where it fails, and is banned."""
    text = sites.ALL_OF_IT if name == "odd" else (sites.EXAMPLES / f"{name}.yaml").read_text()
    site = description.loads(text.encode(), name)
    done, (first, *inside, last) = run_script_for_pcs(tmp_path, sites.rendered(site)["pcs"])
    assert done.returncode == 0
    assert first[:2] == ["cluster", "cib"]
    old = first[2]
    new = inside[0][1]
    assert new != old and {tuple(words[:2]) for words in inside} == {("-f", new)}
    assert last == ["cluster", "cib-push", new, f"diff-against={old}"]
    assert inside[-1][2:4] == ["property", "set"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_script_for_pcs_loads_nothing_where_a_command_fails(tmp_path: Path) -> None:
    texts = sites.rendered(*sites.example("two-nodes-nfs"))
    done, commands = run_script_for_pcs(tmp_path, texts["pcs"], fails="mailman")
    assert done.returncode != 0
    assert "mailman" in commands[-1] and "cib-push" not in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


def test_comment_for_a_cib_keeps_hyphens_apart_and_its_last_backslash_from_the_next_line() -> None:
    (line,) = prose.comment(prose.for_a_cib(["a---b \\"]))
    assert line == "# a- - -b \\ ."
    lines = [*prose.comment(["word - " * 30])]
    assert len(lines) > 1 and not any(line.endswith("-") for line in lines)


@pytest.mark.parametrize("password", ["pa--ss", "---", "%2D-"])
def test_configuration_in_comments_is_kept_as_it_is_or_says_how_it_is_written(
    password: str,
) -> None:
    path = sites.EXAMPLES / "mailman3-postgresql.yaml"
    url = f"postgresql://mailman:{password}@db.example.org/mailman-{password}"
    text = path.read_text().replace("postgresql://mailman:secret@db.example.org/mailman", url)
    assert url in text
    texts = sites.rendered(description.loads(text.encode(), path.name))
    assert f"#   url: {url}\n" in texts["pcs"] and "x2d" not in texts["pcs"]
    for language in ("crm", "cib"):
        (line,) = [one for one in texts[language].splitlines() if "url: " in one]
        assert "--" not in line and not line.endswith(("-", "\\"))
        kept = line.partition("url: ")[2].replace("\\x2d", "-")
        assert kept == url
        assert "a hyphen for each \\x2d above" in " ".join(texts[language].split())
    ElementTree.fromstring(texts["cib"])


def test_configuration_without_two_hyphens_needs_no_word_on_them() -> None:
    texts = sites.rendered(*sites.example("mailman3-postgresql"))
    assert not any("x2d" in text for text in texts.values())
