"""Every page is clean, is found by its name, and tells what the agents' metadata tells."""

from __future__ import annotations

import ast
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from mailman_ha.ocf import codes

from tests.manual_pages.conftest import CHECKOUT
from tests.topology import pacemaker_tools

AGENTS = ("mailman-master", "qfiles-slice", "list-lock-janitor")
NO_FENCING = (
    '<cluster_property_set id="cib-bootstrap-options"><nvpair id="cib-bootstrap-options-stonith" '
    'name="stonith-enabled" value="false"/></cluster_property_set>'
)
PAGES = {
    "mailman-ha-site": "man5/mailman-ha-site.5",
    **{f"ocf_mailman_{name}": f"man7/ocf_mailman_{name}.7" for name in AGENTS},
    "mailman-ha": "man8/mailman-ha.8",
}


def test_these_pages_are_installed_and_no_others(manual: Path) -> None:
    found = {str(path.relative_to(manual)) for path in manual.rglob("*") if path.is_file()}
    assert found == set(PAGES.values())


@pytest.mark.parametrize("name", PAGES)
def test_page_has_nothing_for_mandoc_and_man_to_complain_of(manual: Path, name: str) -> None:
    page = str(manual / PAGES[name])
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    for command in (
        ["mandoc", "-Tlint", page],
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        ["groff", "-man", "-Tutf8", "-ww", "-z", page],
    ):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )
        complaints = done.stderr + (done.stdout if command[0] == "mandoc" else "")
        assert done.returncode == 0 and not complaints, complaints


@pytest.mark.parametrize("name", PAGES)
def test_page_names_only_pages_of_the_suite_that_there_are(
    manual: Path, read: Callable[[str], str], name: str
) -> None:
    see_also = " ".join(read(name).partition("\nSEE ALSO\n")[2].split())
    assert name not in {one.partition("(")[0] for one in see_also.split(", ")}
    for other, path in PAGES.items():
        if other != name:
            assert f"{other}({path[3]})" in see_also, other


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def metadata(agent: str) -> ElementTree.Element:
    """What the installed agent's meta-data action prints."""
    done = subprocess.run(
        [CHECKOUT / "agents" / agent, "meta-data"], env={}, stdin=subprocess.DEVNULL,
        capture_output=True, check=True,
    )
    return ElementTree.fromstring(done.stdout)


def in_words(text: str) -> str:
    return " ".join(text.split())


def test_every_parameter_of_the_metadata_is_told_with_default_and_unit(
    agent: str, metadata: ElementTree.Element, read: Callable[[str], str]
) -> None:
    chapter = read(f"ocf_mailman_{agent}").partition("\nSUPPORTED PARAMETERS\n")[2].partition(
        "\nSUPPORTED ACTIONS\n")[0]
    told = [line.split()[0] for line in chapter.splitlines() if line[7:8].strip()]
    assert told == [one.get("name") for one in metadata.iter("parameter")]
    entries = in_words(chapter)
    for parameter in metadata.iter("parameter"):
        assert in_words(parameter.findtext("longdesc") or "?") in entries
        default = parameter.find("content").get("default")  # type: ignore[union-attr]
        entry = entries.partition(f"{parameter.get('name')} (")[2].partition(")")[0]
        assert (f'default "{default}"' in entry) == (default is not None)
        assert ("required" in entry) == (parameter.get("required") == "1")
        assert ("reloadable" in entry) == (parameter.get("reloadable") == "1")


def test_every_action_of_the_metadata_is_told_with_timeout_interval_and_level(
    agent: str, metadata: ElementTree.Element, read: Callable[[str], str]
) -> None:
    chapter = read(f"ocf_mailman_{agent}").partition("\nSUPPORTED ACTIONS\n")[2].partition(
        "\nEXIT STATUS\n")[0]
    entries = in_words(chapter)
    purposes = []
    for action in metadata.iter("action"):
        level = f", check level {action.get('depth')}" if action.get("depth") else ""
        entry = entries.partition(f"{action.get('name')}{level} ")[2].partition(" timeout:")[0]
        purposes.append(entry)
        rest = entries.partition(entry)[2]
        suggested = f" timeout: {action.get('timeout')}."
        if action.get("interval"):
            suggested += f" Suggested interval: {action.get('interval')}."
        assert rest.startswith(suggested), action.attrib
    assert len(set(purposes)) == len(purposes), "two actions are told alike"


def codes_in_use() -> set[int]:
    """The exit codes that the code of the agents and of the OCF layer gives."""
    found = set()
    for part in ("agents", "ocf"):
        for path in (CHECKOUT / "lib/mailman_ha" / part).rglob("*.py"):
            if path.name in ("codes.py", "manual_page.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                        and node.value.id == "codes" and node.attr.isupper()):
                    found.add(getattr(codes, node.attr))
    # The suite's agents have no promoted role; the layer only knows the code.
    return found - {codes.DEGRADED_PROMOTED}


def test_every_exit_code_that_is_used_is_told(agent: str, read: Callable[[str], str]) -> None:
    chapter = read(f"ocf_mailman_{agent}").partition("\nEXIT STATUS\n")[2].partition(
        "\nFILES\n")[0]
    told = {int(line.split()[0]) for line in chapter.splitlines() if line[7:8].isdigit()}
    assert told == codes_in_use() and codes.DEGRADED in told


def test_examples_of_the_pages_are_taken_by_pcs_and_by_crm_and_mean_the_same(
    read: Callable[[str], str], tmp_path: Path
) -> None:
    pacemaker_tools.need("pcs", "crm", "cibadmin", "unshare")
    commands: dict[str, list[str]] = {"pcs": [], "crm": []}
    for name in AGENTS:
        chapter = read(f"ocf_mailman_{name}").partition("\nEXAMPLES\n")[2].partition(
            "\nSEE ALSO\n")[0]
        with_pcs, _, with_crm = chapter.partition("With the crm shell:")
        commands["pcs"].append(with_pcs.partition("With pcs:")[2])
        commands["crm"].append(with_crm)
    # Fencing is the cluster's matter; without a word of it crm_verify complains.
    script = "sed -i 's|<crm_config/>|<crm_config>" + NO_FENCING + "</crm_config>|' empty.xml\n"
    script += "cp empty.xml pcs.xml; cp empty.xml crm.xml\n"
    # Without a cluster pcs wants -f, but for the commands that have the whole CIB in hands.
    script += 'pcs() { case "$*" in "-f "*|"cluster cib"*) command pcs "$@";; ' \
        '*) command pcs -f pcs.xml "$@";; esac; }\n'
    for language, typed in commands.items():
        script += f"export CIB_file=$PWD/{language}.xml\n" + "\n".join(
            textwrap.dedent(lines.strip("\n")) for lines in typed
        ) + "\n"
    script += "\nunset CIB_file; for file in pcs.xml crm.xml; do crm_verify -x $file; done\n"
    pacemaker_tools.load(tmp_path, ["mail1", "mail2"], {}, besides=script)
    made: dict[str, Any] = {
        language: pacemaker_tools.meaning(ElementTree.parse(tmp_path / f"{language}.xml").getroot())
        for language in commands
    }
    resources = {language: made[language].pop("resources") for language in commands}
    assert set(resources["crm"]) == {
        "mailman", "mailman-in", "mailman-in-clone", "mailman-janitor", "mailman-janitor-clone"
    }
    assert made["pcs"] == made["crm"]
    for name, (*what, operations) in resources["crm"].items():
        *what_pcs_makes, operations_of_pcs = resources["pcs"].pop(name)
        assert what_pcs_makes == what
        # pcs adds the operations that the metadata has besides, as reload-agent.
        assert operations <= operations_of_pcs
        assert len(operations) >= 4 or name.endswith("-clone")
    assert not resources["pcs"]
