"""What the doctor gives to be typed, typed: the real pcs, crm and cibadmin of this machine take it,
on a file that has the finding, and the finding is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mailman_ha.doctor.finding import Finding

from tests.topology import pacemaker_tools
from tests.topology.test_rendering import need_tools

from .good_site import GROUP, attributes, cib, in_a_file, operation, order, slice_clone
from .test_constraints import without
from .test_good_sites import BASE_CLONE, MAIL

pytestmark = pytest.mark.slow


def changed(*pairs: tuple[str, str]) -> str:
    """The plain site with these texts in the place of those."""
    text = GROUP
    for old, new in pairs:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    return cib(text)


LIGHT = operation("mailman", "monitor", "15s", "30s")
DEEP = operation("mailman", "monitor", "60s", "40s", 10)
START = operation("mailman", "start", "0", "90s")
STOP = operation("mailman", "stop", "0", "90s")
PROBE = operation("mailman", "monitor", "0", "30s")
OFF = ' enabled="false"'


def off(text: str) -> str:
    return text.replace("<op ", f"<op{OFF} ")


FOUND = {
    "short start": changed((START, operation("mailman", "start", "0", "20s"))),
    "short stop": changed((STOP, operation("mailman", "stop", "0", "20s"))),
    "short light monitor": changed((LIGHT, operation("mailman", "monitor", "15s", "5s"))),
    "short deep monitor": changed((DEEP, operation("mailman", "monitor", "60s", "20s", 10))),
    "short stop of the share": changed((
        operation("share", "stop", "0", "60s"), operation("share", "stop", "0", "20s"))),
    "short monitor of a slice": cib(GROUP + slice_clone().replace('"30s"', '"29s"')),
    "no stop": changed((STOP, "")),
    "stop that is off": changed((STOP, off(STOP))),
    "no light monitor": changed((LIGHT, "")),
    "no light monitor, and a probe": changed((LIGHT, PROBE)),
    "no deep monitor": changed((DEEP, "")),
    "deep monitor that is off": changed((DEEP, off(DEEP))),
    "no deep monitor, and its interval is taken": changed(
        (LIGHT, operation("mailman", "monitor", "1min", "30s")), (DEEP, "")),
    "no monitor": changed((LIGHT, ""), (DEEP, "")),
    **{
        f"ignored {name}": changed((text, text.replace("<op ", '<op on-fail="ignore" ')))
        for name, text in (("start", START), ("stop", STOP), ("light", LIGHT), ("deep", DEEP))
    },
    "ignored by default": cib(others=(
        f"<op_defaults>{attributes('meta', 'd', on__fail='ignore')}</op_defaults>")),
    **{f"without {name}": without(name) for name in (
        "share-janitor", "address-mailman", "janitor", "mailman")},
    "slices without their share": cib(
        BASE_CLONE + MAIL + slice_clone(), order("base-clone", "mail")),
    "slices that find no room": cib(GROUP + slice_clone(clone__node__max="2")),
    "clone without slices": cib(GROUP + slice_clone(globally__unique="", clone__node__max="")),
    "no fencing": cib(properties='<nvpair id="s" name="stonith-enabled" value="false"/>'),
}

#: What is no command as it stands: a placeholder, or what is to be done in an editor.
NOT_TYPED = re.compile(r"crm configure edit |.*(\.\.\.|\(|[A-Z]{4})", re.DOTALL)


def ways(one: Finding) -> list[str]:
    """The commands that a finding gives, as they are typed."""
    given = [text for text in (one.mend, one.pcs, one.crm) if text]
    return [
        text for text in given
        if text.split()[0] in ("cibadmin", "crm_resource", "pcs", "crm")
        and not NOT_TYPED.match(text.replace("INFINITY", "").replace("OCF_CHECK_LEVEL", ""))
    ]


#: Types {1} where {0}.xml is the cluster's configuration.
TYPE = """
(
    export CIB_file=$PWD/{0}.xml
    pcs() {{ command pcs -f "$CIB_file" "$@"; }}
    {1}
) > {0}.said 2>&1 || echo "(exit status $?)" >> {0}.said
"""


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what came of each command: the configuration, and what was said."""
    need_tools()
    directory = tmp_path_factory.mktemp("typed")
    program = ["cd /exchange"]
    for name, text in FOUND.items():
        for file, _, command in commands(name):
            (directory / f"{file}.xml").write_text(text)
            program.append(TYPE.format(file, command))
    (directory / "program").write_text("\n".join(program))
    pacemaker_tools.load(directory, (), {}, besides="sh /exchange/program")
    return directory


def commands(name: str) -> list[tuple[str, Finding, str]]:
    """The name of a file, the finding and the command, of each that is given for a spoiled site."""
    return [
        (f"{[*FOUND].index(name)}-{number}-{command.split()[0]}", one, command)
        for number, one in enumerate(in_a_file(FOUND[name])) for command in ways(one)
    ]


@pytest.mark.parametrize("name", FOUND)
def test_what_is_given_to_be_typed_is_taken_and_ends_the_finding(typed: Path, name: str) -> None:
    found = in_a_file(FOUND[name])
    given = commands(name)
    assert {one.seen for _, one, _ in given} == {one.seen for one in found} != set()
    for file, one, command in given:
        said = (typed / f"{file}.said").read_text()
        assert "(exit status" not in said, f"$ {command}\n{said}"
        left = in_a_file((typed / f"{file}.xml").read_text())
        assert one.seen not in [other.seen for other in left], command
        assert len(left) < len(found), command
