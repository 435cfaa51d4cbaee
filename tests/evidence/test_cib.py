"""The cluster's configuration as cibadmin prints it, with Pacemaker itself as the judge."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailman_ha.evidence import cib, cluster, command
from mailman_ha.evidence.cib import ResourceInCib
from mailman_ha.evidence.cluster import NoClusterEvidence

from tests.fuzz.surface import bounded

with_pacemaker = pytest.mark.skipif(
    not (shutil.which("cibadmin") and shutil.which("crm_resource")), reason="no Pacemaker here"
)
DUMMY = 'class="ocf" provider="heartbeat" type="Dummy"'
ENVIRONMENT = dict(os.environ)


def typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program as an administrator would, whatever the test has done to PATH."""
    return subprocess.run(
        words, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=True,
    )


def section(text: str) -> bytes:
    return f"<resources>{text}</resources>".encode()


def whole_cib(resources: str) -> str:
    return (
        '<cib crm_feature_set="3.16.2" validate-with="pacemaker-3.8" epoch="1" num_updates="0" '
        'admin_epoch="0"><configuration><crm_config/><nodes/>'
        f"<resources>{resources}</resources><constraints/></configuration><status/></cib>"
    )


def values(kind: str, name: str, score: str = "", rule: bool = False, **pairs: str) -> str:
    """One set of attributes."""
    return (
        f'<{kind}_attributes id="{name}"' + (f' score="{score}"' if score else "") + ">"
        + (f'<rule id="{name}-r" score="0" boolean-op="and"><date_expression id="{name}-d" '
           'operation="gt" start="2100-01-01"/></rule>' if rule else "")
        + "".join(
            f'<nvpair id="{name}-{key}" name="{key.replace("_", "-")}" value="{value}"/>'
            for key, value in pairs.items()
        )
        + f"</{kind}_attributes>"
    )


def only(text: str) -> ResourceInCib:
    (found,) = cib.parse(section(text))
    return found


@pytest.fixture
def cib_file(tmp_path: Path) -> Path:
    """A CIB as cibadmin begins one."""
    path = tmp_path / "made.xml"
    path.write_text(typed("cibadmin", "--empty").stdout)
    return path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script called cibadmin, and nothing else, in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cluster, "CIB_FILE", str(tmp_path / "cib.xml"))
    (tmp_path / "bin").mkdir()

    def install(script: str) -> None:
        path = tmp_path / "bin" / "cibadmin"
        path.write_text(f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\n")
        path.chmod(0o755)

    return install


def ask_of(path: Path, program: Callable[[str], None]) -> dict[str, ResourceInCib]:
    """What the real cibadmin answers for a CIB in a file."""
    program(f'CIB_file={path} exec cibadmin "$@"')
    return {one.id: one for one in cib.ask(20.0)}


# -- made by the tools of administrators, printed by the real cibadmin

PCS = (
    "resource create --force mailman-in ocf:heartbeat:Dummy state=/run/in fake=a "
    "clone clone-max=4 clone-node-max=4 globally-unique=true",
    "resource create --force anonymous ocf:heartbeat:Dummy clone interleave=true",
    "resource create --force promotable ocf:heartbeat:Dummy promotable promoted-max=1",
    "resource create --force out-0 ocf:heartbeat:Dummy fake=0 --group slices",
    "resource create --force out-1 ocf:heartbeat:Dummy fake=1 --group slices",
    "resource create --force alone ocf:heartbeat:Dummy",
    "stonith create --force fence fence_dummy",
    "resource disable out-1 mailman-in-clone",
)


@with_pacemaker
@pytest.mark.skipif(not shutil.which("pcs"), reason="no pcs here")
def test_configuration_made_by_pcs_is_read(cib_file: Path, program: Callable[[str], None]) -> None:
    for line in PCS:
        typed("pcs", "-f", str(cib_file), *line.split())
    dummy = "ocf:heartbeat:Dummy"
    assert ask_of(cib_file, program) == {one.id: one for one in (
        ResourceInCib(
            "mailman-in", dummy, (("fake", "a"), ("state", "/run/in")), clone=True,
            globally_unique=True, clone_max=4, clone_node_max=4, disabled=True,
        ),
        ResourceInCib("anonymous", dummy, clone=True),
        ResourceInCib("promotable", dummy, clone=True),
        ResourceInCib("out-0", dummy, (("fake", "0"),)),
        ResourceInCib("out-1", dummy, (("fake", "1"),), disabled=True),
        ResourceInCib("alone", dummy),
        ResourceInCib("fence", "stonith:fence_dummy"),
    )}


CRM = """
rsc_template slice ocf:heartbeat:Dummy params fake=template state=/run/t meta target-role=Stopped
primitive out-0 @slice params fake=own
primitive out-1 @slice meta target-role=Started
primitive in ocf:heartbeat:Dummy
clone in-clone in meta clone-max=8 clone-node-max=8 globally-unique=true
primitive a ocf:heartbeat:Dummy
primitive b ocf:heartbeat:Dummy
group both a b meta target-role=Stopped
clone both-clone both meta clone-max=3
"""


@with_pacemaker
@pytest.mark.skipif(not shutil.which("crm"), reason="no crm here")
def test_configuration_made_by_crm_with_a_template_and_a_cloned_group_is_read(
    cib_file: Path, program: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "made.crm").write_text(CRM)
    typed("crm", "--force", "configure", "load", "update", str(tmp_path / "made.crm"),
          CIB_file=str(cib_file), HOME=str(tmp_path))
    dummy = "ocf:heartbeat:Dummy"
    assert ask_of(cib_file, program) == {one.id: one for one in (
        ResourceInCib("out-0", dummy, (("fake", "own"), ("state", "/run/t")), disabled=True),
        ResourceInCib("out-1", dummy, (("fake", "template"), ("state", "/run/t"))),
        ResourceInCib("in", dummy, clone=True, globally_unique=True, clone_max=8,
                      clone_node_max=8),
        ResourceInCib("a", dummy, clone=True, clone_max=3, disabled=True),
        ResourceInCib("b", dummy, clone=True, clone_max=3, disabled=True),
    )}


@with_pacemaker
def test_cluster_without_resources_has_none(
    cib_file: Path, program: Callable[[str], None]
) -> None:
    assert ask_of(cib_file, program) == {}


# -- where a value comes from

def asked_of_pacemaker(path: Path, resource: str, name: str) -> str | None:
    done = typed("crm_resource", "--resource", resource, "--get-parameter", name,
                 CIB_file=str(path))
    if not done.stdout:
        assert "not found" in done.stderr, done.stderr
        return None
    return done.stdout[:-1]


SCORES = st.sampled_from(["", "", "", "0", "1", "50", "-3", "INFINITY", "-INFINITY", "+INFINITY"])
ANY_SETS = st.lists(
    st.tuples(SCORES, st.sets(st.sampled_from("ab"), min_size=1)), max_size=3,
)


@with_pacemaker
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clone=ANY_SETS, group=ANY_SETS, template=ANY_SETS, primitive=ANY_SETS,
       borrowed=st.booleans())
def test_value_is_taken_from_where_pacemaker_takes_it(
    tmp_path: Path,
    clone: list[tuple[str, set[str]]], group: list[tuple[str, set[str]]],
    template: list[tuple[str, set[str]]], primitive: list[tuple[str, set[str]]],
    borrowed: bool,
) -> None:
    def sets(owner: str, chosen: list[tuple[str, set[str]]]) -> str:
        return "".join(
            values("instance", f"{owner}{number}", score,
                   **{name: f"{owner}{number}{name}" for name in sorted(names)})
            for number, (score, names) in enumerate(chosen)
        )

    reference = '<instance_attributes id-ref="group0"/>' if borrowed and group else ""
    resources = (
        f'<template id="t" {DUMMY}>{sets("template", template)}</template>'
        f'<clone id="c">{sets("clone", clone)}<group id="g">{sets("group", group)}'
        f'<primitive id="p" template="t">{sets("own", primitive)}{reference}</primitive>'
        "</group></clone>"
    )
    path = tmp_path / "asked.xml"
    path.write_text(whole_cib(resources))
    (found,) = cib.parse(path.read_bytes())
    for name in "ab":
        assert found.text(name) == asked_of_pacemaker(path, "p", name)


REFERENCES = (
    f'<primitive id="p" {DUMMY}><instance_attributes id="s">'
    '<nvpair id="x" name="plain" value="1"/><nvpair id="y" name="twice" value="first"/>'
    '<nvpair id="y2" name="twice" value="second"/><nvpair id-ref="x" name="renamed"/>'
    '<nvpair id="e" name="empty" value=""/><nvpair id="n" name="none"/>'
    '<nvpair id="d" name="default" value="#default"/></instance_attributes></primitive>'
    f'<primitive id="q" {DUMMY}><instance_attributes id-ref="s"/></primitive>'
    f'<primitive id="r" {DUMMY}><instance_attributes id="o"><nvpair id-ref="x"/>'
    "</instance_attributes></primitive>"
)


@with_pacemaker
@pytest.mark.parametrize("resource", ["p", "q", "r"])
@pytest.mark.parametrize("name", ["plain", "twice", "renamed", "empty", "none", "default"])
def test_reference_stands_for_what_pacemaker_finds_there(
    tmp_path: Path, resource: str, name: str
) -> None:
    path = tmp_path / "asked.xml"
    path.write_text(whole_cib(REFERENCES))
    found = {one.id: one for one in cib.parse(path.read_bytes())}
    assert found[resource].text(name) == asked_of_pacemaker(path, resource, name)


def test_reference_to_outside_the_section_is_left_out() -> None:
    found = only(
        f'<primitive id="p" {DUMMY}><instance_attributes id-ref="elsewhere"/>'
        '<instance_attributes id="i"><nvpair id-ref="far"/><nvpair id="f" name="a" value="1"/>'
        "</instance_attributes></primitive>"
    )
    assert found.parameters == (("a", "1"),)


def test_value_under_a_rule_counts_only_where_nothing_else_is_said() -> None:
    found = only(
        '<clone id="c">' + values("instance", "cs", b="clone")
        + f'<primitive id="p" {DUMMY}>'
        + values("instance", "ruled", score="INFINITY", rule=True, a="no", b="no", c="maybe")
        + values("instance", "plain", a="yes") + "</primitive></clone>"
    )
    assert dict(found.parameters) == {"a": "yes", "b": "clone", "c": "maybe"}


# -- clones and roles

@pytest.mark.parametrize("given_values, unique, most, on_a_node", [
    ({}, False, None, None),
    ({"globally_unique": "true", "clone_max": "4", "clone_node_max": "4"}, True, 4, 4),
    ({"globally_unique": "YES", "clone_max": "4x"}, True, 4, None),
    ({"globally_unique": "no", "clone_node_max": "2"}, False, None, 2),
    ({"clone_node_max": "2"}, True, None, 2),
    ({"clone_node_max": "1"}, False, None, 1),
    ({"globally_unique": "maybe", "clone_max": "many"}, False, None, None),
    ({"globally_unique": "on", "clone_max": "0"}, True, 0, None),
    ({"globally_unique": "1", "clone_max": "9" * 5000}, True, 2**31 - 1, None),
])
@pytest.mark.parametrize("tag", ["clone", "master"])
@pytest.mark.parametrize("inner", ["{}", '<group id="g">{}</group>'])
def test_clone_is_described_by_what_the_clone_says(
    tag: str, inner: str, given_values: dict[str, str], unique: bool, most: int | None,
    on_a_node: int | None,
) -> None:
    primitive = inner.format(
        f'<primitive id="p" {DUMMY}>' + values("meta", "pm", clone_max="77") + "</primitive>"
    )
    found = only(f'<{tag} id="c">' + values("meta", "m", **given_values) + primitive + f"</{tag}>")
    assert found == ResourceInCib(
        "p", "ocf:heartbeat:Dummy", clone=True, globally_unique=unique, clone_max=most,
        clone_node_max=on_a_node,
    )


@pytest.mark.parametrize("replicas, most", [('replicas="3"', 3), ("", 1)])
def test_what_lies_in_a_bundle_counts_as_an_anonymous_clone(replicas: str, most: int) -> None:
    found = only(
        f'<bundle id="b"><docker image="x" {replicas}/><network/>'
        f'<primitive id="p" {DUMMY}/>' + values("meta", "m", target_role="Stopped") + "</bundle>"
    )
    assert found == ResourceInCib(
        "p", "ocf:heartbeat:Dummy", clone=True, clone_max=most, disabled=True)


STOPPED, STARTED = {"target_role": "Stopped"}, {"target_role": "Started"}


def roles(owner: str, said: str) -> str:
    """Sets of meta attributes: S for Stopped, R for running; in brackets under a rule."""
    return "".join(
        values("meta", f"{owner}{number}", rule=word.startswith("["),
               **(STOPPED if "S" in word else STARTED))
        for number, word in enumerate(said.split())
    )


@pytest.mark.parametrize("clone, group, template, primitive, disabled", [
    ("", "", "", "", False),
    ("", "", "", "S", True),
    ("", "", "S", "", True),
    ("", "S", "", "", True),
    ("S", "", "", "", True),
    ("S", "S", "S", "R", False),
    ("S", "S", "R", "", False),
    ("S", "R", "", "", False),
    ("R", "R", "R", "S", True),
    ("R", "R", "", "R S", True),
    ("", "", "", "S R", False),
    ("", "", "", "[S]", False),
    ("S", "", "", "[S]", True),
    ("S", "", "", "[R]", False),
    ("", "", "", "[R] S", False),
    ("", "", "", "[S] R", False),
    ("[R]", "", "", "S", True),
    ("[R] S", "", "", "", False),
])
def test_nearest_target_role_counts_and_a_rule_leaves_it_open(
    clone: str, group: str, template: str, primitive: str, disabled: bool
) -> None:
    found = only(
        f'<template id="t" {DUMMY}>{roles("t", template)}</template>'
        f'<clone id="c">{roles("c", clone)}<group id="g">{roles("g", group)}'
        f'<primitive id="p" template="t">{roles("p", primitive)}</primitive></group></clone>'
    )
    assert found.disabled == disabled


@pytest.mark.parametrize("attribute", ["is-managed=false", "target-role=Promoted", "state=Stopped",
                                       "target-role="])
def test_nothing_but_the_role_stopped_disables(attribute: str) -> None:
    name, _, value = attribute.partition("=")
    found = only(f'<primitive id="p" {DUMMY}>'
                 + values("meta", "m", **{name.replace("-", "_"): value}) + "</primitive>")
    assert not found.disabled
    assert only(f'<primitive id="p" {DUMMY}>' + values("meta", "m", target_role="stopped")
                + "</primitive>").disabled


@pytest.mark.parametrize("text, agent", [
    ('class="ocf" provider="mailman" type="qfiles-slice"', "ocf:mailman:qfiles-slice"),
    ('class="systemd" type="mailman3"', "systemd:mailman3"),
])
def test_agent_is_named_as_administrators_name_it(text: str, agent: str) -> None:
    assert only(f'<primitive id="p" {text}/>').agent == agent
    assert only(f'<template id="t" {text}/><primitive id="p" template="t"/>').agent == agent


# -- what is no answer

P = f'<primitive id="p" {DUMMY}/>'
WHOLE = section(
    f'<template id="t" {DUMMY}>' + values("instance", "ti", a="1")
    + '</template><clone id="c"><primitive id="p" template="t">' + values("meta", "m", score="5",
                                                                         target_role="Stopped")
    + '</primitive></clone><group id="g">' + P.replace('"p"', '"q"') + "</group>"
)
BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">""" + b"".join(
    b'<!ENTITY %c "%s">' % (98 + number, b"&%c;" % (97 + number) * 10) for number in range(9)
) + b"]>\n" + section('<primitive id="&j;" class="ocf" type="Dummy"/>')

RUBBISH = {
    "nothing": b"",
    "words": b"Could not connect to the CIB: Transport endpoint is not connected",
    "another root": section(P).replace(b"resources", b"somethings"),
    "a cib without resources": b"<cib><configuration/></cib>",
    "two sections": b"<cib>" + section(P) * 2 + b"</cib>",
    "a resource without an id": section(f"<primitive {DUMMY}/>"),
    "a resource without an agent": section('<primitive id="p"/>'),
    "a resource without a type": section('<primitive id="p" class="ocf"/>'),
    "a template that is not there": section('<primitive id="p" template="t"/>'),
    "a template without an agent": section('<template id="t"/><primitive id="p" template="t"/>'),
    "not UTF-8": WHOLE.replace(b'"p"', b'"\xff\xfe"'),
    "an unknown encoding": b'<?xml version="1.0" encoding="x-none"?>' + WHOLE,
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "NULs": WHOLE.replace(b"Dummy", b"\0\0"),
    "an entity bomb": BOMB,
    "an external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + WHOLE,
    "a document type hidden in a comment's dress": b"<!--<!----><!DOCTYPE x>" + WHOLE,
    "a hundred thousand levels": b"<a>" * 100_000,
    "a hundred thousand groups": section("<group>" * 100_000 + "</group>" * 100_000),
    "two documents": WHOLE + WHOLE,
    "random bytes": os.urandom(4096),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_what_is_no_answer_is_refused_in_a_sentence_and_takes_no_time(what: str) -> None:
    began = time.monotonic()
    with pytest.raises(NoClusterEvidence) as refusal:
        cib.parse(RUBBISH[what])
    assert time.monotonic() - began < 2.0
    assert str(refusal.value).isprintable() and not refusal.value.none_here


def test_answer_cut_off_anywhere_is_no_evidence() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(NoClusterEvidence):
            cib.parse(WHOLE[:length])


@settings(max_examples=200)
@given(st.data())
def test_answer_with_bytes_changed_never_does_more_than_fail(data: st.DataObject) -> None:
    text = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = cib.parse(bytes(text))
    except NoClusterEvidence:
        return
    assert all(isinstance(one, ResourceInCib) and one.id and one.agent for one in found)


@pytest.mark.parametrize("score", [
    "-" * 100_000 + "3", "9" * 100_000, "²", "INFINITYx", "-+-", " 5",
])
def test_odd_score_counts_as_some_number(score: str) -> None:
    found = only(f'<primitive id="p" {DUMMY}>' + values("instance", "a", score=score, x="1")
                 + "</primitive>")
    assert found.text("x") == "1"


def test_references_in_a_circle_end() -> None:
    found = only(
        f'<primitive id="p" {DUMMY}><instance_attributes id="a" id-ref="b"/>'
        '<instance_attributes id="b" id-ref="a"><nvpair id="n" id-ref="n" name="x" value="1"/>'
        "</instance_attributes></primitive>"
    )
    assert found.text("x") == "1"


# -- asking

@pytest.mark.parametrize("script, said", [
    ("exit 1", "status 1"),
    ("echo oops >&2; exit 124", "oops"),
    ("echo rubbish", "no XML"),
    ("exit 0", "no XML"),
    ("kill -9 $$", "status -9"),
    (f"echo '<resources/>'; head -c {command.OUTPUT_LIMIT} /dev/zero | tr '\\0' ' '", "more than"),
])
def test_cibadmin_in_trouble_is_no_evidence_but_no_proof_that_there_is_no_cluster(
    program: Callable[[str], None], script: str, said: str
) -> None:
    program(script)
    with pytest.raises(NoClusterEvidence, match=said) as refusal:
        cib.ask(5.0)
    assert not refusal.value.none_here


def test_cibadmin_that_hangs_is_given_up_in_time(program: Callable[[str], None]) -> None:
    program("trap '' TERM; sleep 60 & wait; sleep 60")
    began = time.monotonic()
    with pytest.raises(NoClusterEvidence, match=r"did not end within 0\.5 s"):
        cib.ask(0.5)
    assert time.monotonic() - began < 3.0


def test_only_the_resources_are_asked_for(program: Callable[[str], None], tmp_path: Path) -> None:
    program(f'echo "$@" >> {tmp_path}/calls; echo "<resources/>"')
    assert cib.ask(5.0) == ()
    assert (tmp_path / "calls").read_text() == "--query --scope resources\n"


def test_no_cluster_is_believed_only_where_pacemaker_has_never_run(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    for script in (None, "exit 102"):
        if script is not None:
            program(script)
        for ran in (False, True):
            if ran:
                (tmp_path / "cib.xml").write_text("")
            with pytest.raises(NoClusterEvidence) as refusal:
                cib.ask(5.0)
            assert refusal.value.none_here == (not ran)
        (tmp_path / "cib.xml").unlink()


@pytest.mark.parametrize("inherited", ["template", "group"])
def test_attributes_of_thousands_inherited_by_thousands_are_refused_in_time(inherited: str) -> None:
    pairs = "".join(f'<nvpair name="p{number}" value="v"/>' for number in range(5000))
    attributes = f'<instance_attributes id="i">{pairs}</instance_attributes>'
    if inherited == "template":
        users = "".join(f'<primitive id="r{number}" template="t"/>' for number in range(5000))
        text = f'<template id="t" class="ocf" type="x">{attributes}</template>{users}'
    else:
        users = "".join(f'<primitive id="r{n}" class="ocf" type="x"/>' for n in range(5000))
        text = f'<group id="g">{attributes}{users}</group>'
    with bounded(2.0), pytest.raises(NoClusterEvidence, match="more attributes than any cluster"):
        cib.parse(f"<resources>{text}</resources>".encode())


def test_large_cluster_is_read() -> None:
    pairs = "".join(f'<nvpair name="p{number}" value="v"/>' for number in range(30))
    text = "".join(
        f'<primitive id="r{n}" class="ocf" type="x"><instance_attributes id="i{n}">{pairs}'
        "</instance_attributes></primitive>" for n in range(2000)
    )
    assert len(cib.parse(f"<resources>{text}</resources>".encode())) == 2000
