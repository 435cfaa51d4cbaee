"""Findings on clocks, versions, ids and host names, and the line by which nodes tell them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.doctor import configuration, node_facts, observe
from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING
from mailman_ha.evidence import node_attributes
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.ocf.record import replace

from .good_site import GOOD, cib, facts, only, spoiled

BOTH = {"mail1": facts("mail1"), "mail2": facts("mail2")}


def other(**changes: object) -> dict[str, object]:
    return {**BOTH, "mail2": facts("mail2", **changes)}


# -- clocks


@pytest.mark.parametrize("offset,severity", [(30.0, ERROR), (-30.0, ERROR), (6.0, WARNING)])
def test_clock_off_the_file_servers_is_found(offset: float, severity: str) -> None:
    one = only(spoiled(skew=ClockSkew(offset, 0.05)))
    assert (one.check, one.severity) == ("clocks", severity)
    way = "behind" if offset > 0 else "ahead of"
    assert one.seen == f"the clock of mail1 is {abs(offset):.0f} s {way} the file server's"


def test_clock_of_another_node_is_found() -> None:
    one = only(spoiled(facts=other(offset=-11)))
    assert one.seen == "the clock of mail2 is 11 s ahead of the file server's"
    assert one.severity == ERROR


def test_two_clocks_that_are_each_near_but_not_to_each_other_are_an_error() -> None:
    found = spoiled(skew=ClockSkew(6.0, 0.05), facts=other(offset=-6))
    assert found[0].severity == ERROR
    assert found[0].seen == "the clocks of mail2 and mail1 are 12 s apart"


def test_clock_that_nobody_keeps_is_a_warning() -> None:
    assert only(spoiled(synchronised=False)).severity == WARNING
    assert "mail2" in only(spoiled(facts=other(synchronised=False))).seen
    assert spoiled(synchronised=None) == ()


def test_clock_that_could_not_be_measured_is_told() -> None:
    one = only(spoiled(skew=None, no_skew="it did not end within 10.0 s"))
    assert (one.check, one.severity) == ("clocks", UNSEEN)


def test_kernel_is_asked_about_its_clock() -> None:
    assert observe.clock_is_kept() in (True, False)


# -- what must be alike


@pytest.mark.parametrize("changes,what", [
    ({"release": "3.3.8"}, "the version of Mailman differs: 3.3.10 on mail1, 3.3.8 on mail2"),
    ({"uid": 101}, "Mailman's user id differs: 38 on mail1, 101 on mail2"),
    ({"gid": 101}, "Mailman's group id differs: 38 on mail1, 101 on mail2"),
    ({"paths": "ffff"}, "Mailman's directories and lock files"),
    ({"runners": "ffff"}, "the runners that the configuration names"),
])
def test_what_differs_between_nodes_is_an_error(changes: dict[str, object], what: str) -> None:
    one = only(spoiled(facts=other(**changes)))
    assert (one.check, one.severity) == ("versions", ERROR)
    assert one.seen.startswith(what)


def test_other_version_of_the_suite_is_a_warning() -> None:
    assert only(spoiled(facts=other(suite="0.0.1"))).severity == WARNING


def test_what_a_node_could_not_see_does_not_differ() -> None:
    assert spoiled(facts=other(release="", uid=None, gid=None, paths="", runners="",
                               offset=None, synchronised=None)) == ()


def test_node_that_told_nothing_could_not_be_looked_at() -> None:
    one = only(spoiled(facts={"mail1": facts("mail1")}))
    assert one.severity == UNSEEN
    assert one.seen.startswith("node mail2 has published nothing since it joined")
    assert one.mend == "on mail2: mailman-ha doctor --publish"
    one = only(spoiled(facts={"mail1": facts("mail1"), "mail2": None}))
    assert "does not understand" in one.seen


def test_node_that_is_offline_is_said_to_be() -> None:
    assert GOOD.cluster is not None
    nodes = {**GOOD.cluster.nodes, "mail2": Node("mail2", online=False, unclean=False)}
    gone = Cluster(nodes, True, True, False)
    assert "node mail2 is offline" in only(
        spoiled(cluster=gone, facts={"mail1": facts("mail1")})).seen


# -- host names


def test_one_host_name_for_two_nodes_is_an_error() -> None:
    one = only(spoiled(facts=other(host="mail1.example.org")))
    assert (one.check, one.severity) == ("host names", ERROR)
    assert one.seen == "nodes mail1 and mail2 have one host name: mail1.example.org"


@pytest.mark.parametrize("host", ["localhost", "localhost.localdomain"])
def test_name_that_every_machine_has_is_an_error(host: str) -> None:
    one = only(spoiled(facts=other(host=host)))
    assert one.seen == f"Mailman on node mail2 would sign its locks as {host}"


def test_host_that_is_no_node_is_an_error_with_its_entry_for_host_map() -> None:
    one = only(spoiled(facts=other(host="lists2.example.org")))
    assert one.seen == (
        "Mailman on node mail2 signs its locks as lists2.example.org, which is no node's name")
    assert "mail2=lists2.example.org" in one.mend
    mapped = {"lists2.example.org": "mail2"}
    assert spoiled(facts=other(host="lists2.example.org"), host_map=mapped) == ()


def test_host_that_is_another_nodes_name_is_an_error() -> None:
    crossed = {"mail1": facts("mail1", host="mail2"), "mail2": facts("mail2", host="mail1")}
    found = spoiled(facts=crossed)
    assert [one.severity for one in found] == [ERROR, ERROR]
    assert "belongs to node mail2" in found[0].seen


def test_host_map_with_a_node_that_is_none_is_an_error() -> None:
    one = only(spoiled(host_map={"lists9.example.org": "mail9"}))
    assert "mail9, which is no node of the cluster" in one.seen


def test_host_map_that_cannot_be_understood_is_an_error() -> None:
    one = only(spoiled(host_map_trouble="'x\x1b' is not of the form NODE=HOST"))
    assert one.severity == ERROR
    assert "\x1b" not in one.seen


# -- the line


def test_facts_come_back_from_their_line_and_through_the_cib() -> None:
    told = facts("mail2", offset=-3, synchronised=False, services=2)
    line = node_facts.line(told)
    assert node_facts.parse(line) == told
    assert node_attributes._safe_value(line)
    status = (
        '<node_state id="2" uname="mail2"><transient_attributes id="2"><instance_attributes '
        f'id="i"><nvpair id="n" name="mailman-ha-facts" value="{line}"/></instance_attributes>'
        "</transient_attributes></node_state>"
    )
    assert configuration.parse(cib(status=status).encode()).facts == {"mail2": line}


@given(st.text(max_size=300))
def test_any_host_and_version_makes_a_line_that_attrd_takes(text: str) -> None:
    told = node_facts.NodeFacts(text, suite=text)
    line = node_facts.line(told)
    assert node_attributes._safe_value(line)
    assert node_facts.parse(line) is not None


@given(st.text(max_size=300) | st.from_regex(r"1_[-a-z0-9._]{5,90}", fullmatch=True))
def test_line_of_an_enemy_is_read_or_refused(text: str) -> None:
    found = node_facts.parse(text)
    assert found is None or set(found.host) <= node_facts._LETTERS


def test_line_is_published_as_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, str]] = []
    monkeypatch.setattr(
        node_attributes, "publish", lambda values, seconds: kept.append(dict(values)) or "")
    assert observe.publish(GOOD) == ""
    (values,) = kept
    found = node_facts.parse(values["mailman-ha-facts"])
    assert found is not None
    assert replace(found, day="20261124") == facts("mail1")


def test_21_signs_with_the_short_name() -> None:
    assert GOOD.site is not None
    old = replace(GOOD.site, location=replace(GOOD.site.location, version="2.1"))
    seen = replace(GOOD, site=old, this_host=ThisHost("lists", "mail1.example.org", "mail1"))
    told = observe.own_facts(seen)
    assert told is not None
    assert told.host == "lists"


def test_this_machines_own_name_is_what_python_says() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-c", "import socket; print(socket.getfqdn())"],
        capture_output=True, text=True, check=True,
    )
    here = ThisHost("x", done.stdout.strip(), None)
    told = observe.own_facts(replace(GOOD, this_host=here))
    assert told is not None
    assert told.host == done.stdout.strip()
