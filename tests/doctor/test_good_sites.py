"""A site that is set up right has no finding: not a made-up one, and none of the examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from mailman_ha.doctor import configuration, observe
from mailman_ha.doctor.examination import examine, judged
from mailman_ha.ocf.record import replace

from tests.topology.pacemaker_tools import load

from . import good_site
from .good_site import GOOD, cib, colocation, configured, in_a_file, order, slice_clone, texts

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "crm-examples"

BASE_CLONE = (
    f'<clone id="base-clone"><group id="base">{good_site.SHARE}{good_site.JANITOR}</group></clone>'
)
MAIL = f'<group id="mail">{good_site.ADDRESS}{good_site.MASTER}</group>'
SLICED = cib(
    BASE_CLONE + MAIL + slice_clone("in") + slice_clone("out"),
    order("base-clone", "mail") + colocation("mail", "base-clone")
    + order("base-clone", "mailman-in-clone", kind="Optional")
    + order("base-clone", "mailman-out-clone", kind="Optional")
    + colocation("mailman-in-clone", "base-clone") + colocation("mailman-out-clone", "base-clone"),
)

#: One plain site, said in the ways that a CIB can say it.
MEMBERS = good_site.SHARE + good_site.JANITOR + good_site.ADDRESS + good_site.MASTER
SETS = (
    '<rsc_order id="o"><resource_set id="o1"><resource_ref id="share"/><resource_ref '
    'id="janitor"/><resource_ref id="address"/><resource_ref id="mailman"/></resource_set>'
    '</rsc_order><rsc_colocation id="c" score="INFINITY"><resource_set id="c1"><resource_ref '
    'id="share"/><resource_ref id="janitor"/><resource_ref id="address"/><resource_ref '
    'id="mailman"/></resource_set></rsc_colocation>'
)
SETS_APART = (
    '<rsc_order id="o"><resource_set id="o1"><resource_ref id="share"/></resource_set>'
    '<resource_set id="o2"><resource_ref id="janitor"/></resource_set><resource_set id="o3" '
    'sequential="false"><resource_ref id="address"/></resource_set><resource_set id="o4">'
    '<resource_ref id="mailman"/></resource_set></rsc_order><rsc_colocation id="c" '
    'score="INFINITY"><resource_set id="c1"><resource_ref id="address"/><resource_ref '
    'id="mailman"/></resource_set><resource_set id="c2"><resource_ref id="janitor"/>'
    '</resource_set><resource_set id="c3"><resource_ref id="share"/></resource_set>'
    "</rsc_colocation>"
)
PAIRS = (
    order("share", "janitor") + order("janitor", "address")
    + order("address", "mailman", score="INFINITY")
    + colocation("janitor", "share") + colocation("mailman", "janitor")
    + colocation("address", "mailman")
)
TAGGED = (
    "<tags><tag id=\"upper\"><obj_ref id=\"address\"/><obj_ref id=\"mailman\"/></tag></tags>"
)


def test_site_set_up_right_has_no_finding() -> None:
    assert texts(examine(GOOD)) == []
    assert len(judged(GOOD)) == 10


@pytest.mark.parametrize("text", [
    pytest.param(cib(MEMBERS, SETS), id="sets"),
    pytest.param(cib(MEMBERS, SETS_APART), id="sets one after the other"),
    pytest.param(cib(MEMBERS, PAIRS), id="pairs"),
    pytest.param(
        cib(MEMBERS, order("share", "janitor") + order("janitor", "upper")
            + order("address", "mailman") + colocation("janitor", "share")
            + colocation("upper", "janitor"), others=TAGGED), id="tag"),
    pytest.param(SLICED, id="slices"),
])
def test_however_the_constraints_are_written_they_are_understood(text: str) -> None:
    assert texts(in_a_file(text)) == []


def test_slices_that_mailman_agrees_with_have_no_finding() -> None:
    answer = replace(
        good_site.ANSWER,
        runners=tuple(pair for pair in good_site.ANSWER.runners if pair[0] not in ("in", "out")),
        instances=(("in", 4), ("out", 4)),
    )
    site = replace(good_site.SITE, answer=answer)
    facts = {"mail1": good_site.facts("mail1"), "mail2": good_site.facts("mail2")}
    seen = replace(GOOD, configuration=configured(SLICED), site=site, facts=facts)
    assert texts(examine(seen)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.crm")))
def test_examples_have_no_finding(name: str, tmp_path: Path) -> None:
    nodes = ["mail1", "mail2", "mail3"][: 3 if name.startswith("three") else 2]
    load(tmp_path, nodes, {"crm": (EXAMPLES / name).read_text()})
    seen = observe.file_alone(str(tmp_path / "crm.xml"))
    assert seen.configuration is not None
    assert seen.configuration.of(*configuration.OURS), "nothing of ours was loaded"
    assert texts(examine(seen)) == []
