"""Findings on order and colocation, with Pacemaker's own scheduler as the judge of sets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from mailman_ha.doctor import configuration
from mailman_ha.doctor.configuration import reachable
from mailman_ha.doctor.finding import ERROR, WARNING

from .good_site import (
    ADDRESS,
    GROUP,
    JANITOR,
    MASTER,
    SHARE,
    attributes,
    cib,
    colocation,
    configured,
    in_a_file,
    only,
    order,
    slice_clone,
    texts,
)
from .test_good_sites import BASE_CLONE, MAIL, MEMBERS, PAIRS

#: The plain site with a constraint for each need, so that each can be left out.
ORDERS = {
    "share-janitor": order("share", "janitor"), "janitor-mailman": order("janitor", "mailman"),
    "address-mailman": order("address", "mailman"),
}
PLACES = {
    "janitor": colocation("janitor", "share"), "mailman": colocation("mailman", "janitor"),
    "address": colocation("address", "mailman"),
}


def without(*left_out: str, **instead: str) -> str:
    chosen = {**ORDERS, **PLACES, **instead}
    return cib(MEMBERS, "".join(text for name, text in chosen.items() if name not in left_out))


def test_base_of_these_tests_has_no_finding() -> None:
    assert texts(in_a_file(without())) == []


def test_no_order_of_share_and_janitor_is_an_error_for_all_that_follow() -> None:
    found = in_a_file(without("share-janitor"))
    assert [one.seen for one in found] == [
        "nothing says that share starts before janitor",
        "nothing says that share starts before mailman",
    ]
    assert {one.severity for one in found} == {ERROR}
    assert found[0].pcs == "pcs constraint order start share then start janitor"
    assert found[0].crm == "crm configure order share-before-janitor Mandatory: share janitor"


def test_no_order_of_janitor_and_master_is_seen() -> None:
    found = in_a_file(without("janitor-mailman"))
    assert ("constraints", WARNING, "nothing says that janitor starts before mailman") in texts(
        found)
    assert ("constraints", ERROR, "nothing says that share starts before mailman") in texts(found)


def test_no_order_of_address_and_master_is_a_warning() -> None:
    one = only(in_a_file(without("address-mailman")))
    assert (one.severity, one.seen) == (WARNING, "nothing orders address and mailman")
    assert only(in_a_file(without("address-mailman"))).crm == (
        "crm configure order address-before-mailman Mandatory: address mailman")


def test_master_that_may_run_without_the_share_is_an_error() -> None:
    found = in_a_file(without("mailman"))
    assert ("constraints", ERROR, "nothing keeps mailman where share is") in texts(found)
    assert ("constraints", WARNING, "nothing keeps mailman where janitor is") in texts(found)
    error = next(one for one in found if one.severity == ERROR)
    assert error.pcs == "pcs constraint colocation add mailman with share INFINITY"
    assert error.crm == "crm configure colocation mailman-with-share inf: mailman share"


def test_address_elsewhere_is_an_error() -> None:
    one = only(in_a_file(without("address")))
    assert (one.severity, one.seen) == (ERROR, "no address is kept where mailman is")


def test_colocation_below_infinity_is_an_error() -> None:
    found = in_a_file(without(janitor=colocation("janitor", "share", "500")))
    assert any("only where that is convenient" in one.seen for one in found)
    assert found[0].severity == ERROR


def test_ban_from_each_other_is_no_colocation() -> None:
    assert in_a_file(without(address=colocation("address", "mailman", "-INFINITY")))


def test_order_that_does_not_hold_at_stop_is_an_error() -> None:
    found = in_a_file(without(**{
        "share-janitor": order("share", "janitor", symmetrical="false")}))
    assert {one.severity for one in found} == {ERROR}
    assert all("symmetrical=false" in one.seen for one in found)
    assert "fenced" in found[0].matters


@pytest.mark.parametrize("extra", [
    {"kind": "Serialize"}, {"first_action": "stop"}, {"then_action": "stop"},
])
def test_order_of_something_else_is_none(extra: dict[str, str]) -> None:
    assert in_a_file(without(**{"share-janitor": order("share", "janitor", **extra)}))


@pytest.mark.parametrize("word,missing", [
    ("ordered", "starts before"), ("collocated", "nothing keeps"),
])
def test_group_that_is_none_is_not_taken_for_one(word: str, missing: str) -> None:
    text = GROUP.replace("</group>", attributes("meta", "mail", **{word: "false"}) + "</group>")
    found = in_a_file(cib(text))
    assert any(missing in one.seen for one in found)
    assert any(one.severity == ERROR for one in found)


def test_slices_without_the_share_are_an_error() -> None:
    base = order("base-clone", "mail") + colocation("mail", "base-clone")
    found = in_a_file(cib(BASE_CLONE + MAIL + slice_clone(), base))
    errors = [one for one in found if one.severity == ERROR]
    assert [one.seen for one in errors] == [
        "nothing says that share starts before mailman-in",
        "nothing keeps mailman-in where share is",
    ]
    assert errors[0].pcs == (
        "pcs constraint order start base-clone then start mailman-in-clone kind=Optional")
    assert errors[1].crm == (
        "crm configure colocation mailman-in-clone-with-base-clone inf: mailman-in-clone "
        "base-clone")


def test_being_where_a_clone_is_does_not_bring_two_together() -> None:
    """The address and the master both stand where the clone is, which is everywhere."""
    found = in_a_file(cib(
        BASE_CLONE + ADDRESS + MASTER,
        order("base-clone", "mailman") + colocation("mailman", "base-clone")
        + order("base-clone", "address") + colocation("address", "base-clone")
        + order("address", "mailman"),
    ))
    assert only(found).seen == "no address is kept where mailman is"


def test_missing_janitor_is_a_warning() -> None:
    group = f'<group id="mail">{SHARE}{ADDRESS}{MASTER}</group>'
    one = only(in_a_file(cib(group)))
    assert (one.severity, one.seen) == (WARNING, "there is no list-lock-janitor")


def test_cluster_without_any_of_our_resources_is_told() -> None:
    one = only(in_a_file(cib(SHARE)))
    assert one.seen == "the cluster has no mailman resource at all"


def test_janitor_alone_is_a_site() -> None:
    assert in_a_file(cib(f'<group id="g">{SHARE}{JANITOR}</group>')) == ()


def test_constraint_under_a_rule_does_not_count() -> None:
    ruled = order("share", "janitor").replace(
        "/>", '><rule id="r" score="INFINITY"><date_expression id="d" operation="gt" '
        'start="2100-01-01"/></rule></rsc_order>')
    assert in_a_file(without(**{"share-janitor": ruled}))


def test_orders_in_a_circle_end() -> None:
    text = cib(MEMBERS, PAIRS + order("mailman", "share", id_x="1"))
    assert reachable("share", configured(text).orders) == {
        "share", "janitor", "address", "mailman"}


# -- Pacemaker's scheduler is asked which of a set depends on which

COLOCATED_SETS = (
    '<rsc_colocation id="c" score="INFINITY"><resource_set id="s1"{}><resource_ref id="A"/>'
    '<resource_ref id="B"/></resource_set><resource_set id="s2"><resource_ref id="C"/>'
    '<resource_ref id="D"/></resource_set></rsc_colocation>'
)


@pytest.mark.skipif(not shutil.which("crm_simulate"), reason="no Pacemaker here")
@pytest.mark.parametrize("apart", ["", ' sequential="false"'])
@pytest.mark.parametrize("banned", "ABCD")
def test_sets_are_read_as_the_scheduler_reads_them(
    tmp_path: Path, banned: str, apart: str
) -> None:
    dummies = "".join(
        f'<primitive id="{name}" class="ocf" provider="heartbeat" type="Dummy"/>' for name in "ABCD"
    )
    states = "".join(
        f'<node_state id="{number}" uname="mail{number}" in_ccm="true" crmd="online" join="member" '
        f'expected="member"><lrm id="{number}"><lrm_resources/></lrm></node_state>'
        for number in "12"
    )
    ban = "".join(
        f'<rsc_location id="l{number}" rsc="{banned}" node="mail{number}" score="-INFINITY"/>'
        for number in "12"
    )
    text = cib(
        dummies, COLOCATED_SETS.format(apart) + ban, fences="", status=states,
        properties='<nvpair id="s" name="stonith-enabled" value="false"/>',
    ).replace("<cib ", '<cib have-quorum="1" ', 1)
    path = tmp_path / "cib.xml"
    path.write_text(text)
    done = subprocess.run(
        ["crm_simulate", "-S", "-x", str(path)], capture_output=True, text=True, check=True,
    )
    started = set(re.findall(r"\* Start +(\w)", done.stdout))
    relations = configuration.parse(text.encode()).colocations
    assert started == set("ABCD") - reachable(banned, relations, backwards=True), done.stdout
