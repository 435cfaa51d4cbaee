"""The metadata and the manual page: right for those who read them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter
from mailman_ha.ocf.metadata_xml import paragraphs

from tests import metadata_checks as checks

from .conftest import ExampleAgent
from .example_agent.declaration import DECLARATION


def test_metadata_passes_the_dtd_of_ocf_tester(agent: ExampleAgent) -> None:
    with checks.skip_if_missing():
        checks.assert_valid_by_dtd(checks.metadata_of(agent.path))


def test_metadata_passes_the_ocf_1_1_schema_of_pcs(agent: ExampleAgent) -> None:
    with checks.skip_if_missing():
        checks.assert_valid_by_rng(checks.metadata_of(agent.path))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"<version>1.1</version>", b""),
        (b'<action name="start"', b'<action nome="start"'),
        (b"<actions>", b"<actions><surprise/>"),
    ],
)
def test_both_judges_do_object_to_wrong_metadata(
    agent: ExampleAgent, right: bytes, wrong: bytes
) -> None:
    """The measure of the two tests above."""
    metadata = checks.metadata_of(agent.path)
    assert right in metadata
    with checks.skip_if_missing():
        for judge in (checks.assert_valid_by_dtd, checks.assert_valid_by_rng):
            with pytest.raises(AssertionError):
                judge(metadata.replace(right, wrong, 1))


@pytest.mark.parametrize("describer", checks.DESCRIBERS)
def test_tool_of_the_administrator_describes_the_agent(agent: ExampleAgent, describer: str) -> None:
    with checks.skip_if_missing():
        said = checks.described_by(describer, agent.path, "mailman", "example")
    for parameter in DECLARATION.parameters:
        assert parameter.name in said
        assert parameter.shortdesc in said or parameter.longdesc in said
    assert "ocf:mailman:example" in said or '<resource-agent name="example"' in said


def test_crm_resource_validates_parameters(agent: ExampleAgent) -> None:
    with checks.skip_if_missing():
        wrong = checks.validated_by_crm_resource(
            agent.path, "mailman", "example", {"label": "x", "size": "0"}
        )
        right = checks.validated_by_crm_resource(agent.path, "mailman", "example", {"label": "x"})
    assert "parameter size is '0' but must be at least 1" in wrong
    assert "parameter" not in right


def test_agent_passes_ocf_tester(agent: ExampleAgent) -> None:
    with checks.skip_if_missing():
        checks.assert_passes_ocf_tester(
            agent.path, {"label": "x y"}, {"HA_RSCTMP": str(agent.state_dir)}
        )


def test_ocf_tester_does_find_a_broken_agent(agent: ExampleAgent) -> None:
    """The measure of the test above."""
    with checks.skip_if_missing():
        environ = {"HA_RSCTMP": str(agent.state_dir)}
        done = checks.run_ocf_tester(agent.path, {"label": "x", "mood": "say:0"}, environ)
    assert done.returncode != 0


def test_metadata_says_all_that_is_declared(agent: ExampleAgent) -> None:
    root = ElementTree.fromstring(checks.metadata_of(agent.path))
    assert root.get("name") == "example"
    assert root.findtext("version") == "1.1"
    for parameter in DECLARATION.parameters:
        element = root.find(f"parameters/parameter[@name='{parameter.name}']")
        assert element is not None
        content = element.find("content")
        assert content is not None
        assert (content.get("default") or "") == parameter.default
        assert element.get("required") == str(int(parameter.required))
        assert element.get("reloadable") == str(int(parameter.reloadable))
        assert (element.get("unique-group") or "") == parameter.unique_group
    listed = [action.attrib for action in root.iter("action")]
    assert {"name": "monitor", "timeout": "40s", "interval": "60s", "depth": "10"} in listed
    names = {action["name"] for action in listed}
    assert names == {
        "start",
        "stop",
        "monitor",
        "reload-agent",
        "notify",
        "validate-all",
        "meta-data",
    }


# Control characters have no place in XML 1.0, nor in a description.
DESCRIPTIONS = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
)


@given(shortdesc=DESCRIPTIONS, longdesc=DESCRIPTIONS, default=DESCRIPTIONS)
def test_any_description_survives_the_xml(shortdesc: str, longdesc: str, default: str) -> None:
    if not default.isprintable():
        default = ""
    agent = AgentDeclaration(
        name="a",
        shortdesc=shortdesc,
        longdesc=longdesc,
        parameters=(Parameter("p", shortdesc, longdesc, default=default),),
        actions=(Action("start", 20),),
    )
    root = ElementTree.fromstring(agent.metadata())
    assert root.findtext("shortdesc") == shortdesc
    told = "\n\n".join(paragraphs(longdesc))
    assert root.findtext("longdesc") == f"\n{told}\n"
    content = root.find("parameters/parameter/content")
    assert content is not None
    assert (content.get("default") or "") == default


def test_metadata_can_be_parsed_as_text() -> None:
    """crmsh parses it as text, which lxml refuses where an encoding is declared."""
    assert "encoding" not in DECLARATION.metadata().partition("?>")[0]


def test_paragraphs_are_parted_by_empty_lines() -> None:
    told = paragraphs("\n  one\n  line\n \n   \n  another\n\n")
    assert told == ["one line", "another"]


def test_usage_names_every_action() -> None:
    usage = DECLARATION.usage()
    for name in ("start", "stop", "monitor", "reload-agent", "validate-all", "meta-data", "status"):
        assert name in usage.splitlines()[0]


def test_manual_page_is_sound_and_tells_everything() -> None:
    with checks.skip_if_missing():
        page = checks.assert_manual_page_is_sound(DECLARATION.manual_page())
    text = " ".join(page.split())
    for parameter in DECLARATION.parameters:
        assert parameter.name in text
        assert parameter.longdesc in text
    assert ".Nothing else happens; it isn't meant for use\\or pleasure." in text
    assert "op monitor interval=60s timeout=40s OCF_CHECK_LEVEL=10" in text
    assert "Allowed values: red, green." in text
    assert "Suggested timeout: 40s. Suggested interval: 60s." in text


@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1))
def test_no_description_is_taken_for_a_troff_request(text: str) -> None:
    agent = AgentDeclaration("a", text, text, (Parameter("p", text, text),), ())
    known = {".TH", ".SH", ".PP", ".TP", ".B", ".BR", ".EX", ".EE", ".in", ".nh", ".ad", ".sp"}
    for line in agent.manual_page().splitlines():
        if line[:1] in (".", "'"):
            assert line.split()[0] in known


def test_manual_page_can_be_printed_for_installation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mailman_ha.ocf.manual_page", "tests.ocf.example_agent"],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == DECLARATION.manual_page()


def test_every_module_says_what_it_is_for() -> None:
    package = Path(importlib.import_module("mailman_ha.ocf").__file__ or "").parent
    modules = sorted(package.glob("*.py"))
    assert len(modules) > 10
    for module in modules:
        assert module.read_text().startswith('"""'), module
