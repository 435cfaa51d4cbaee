"""Findings on fencing."""

from __future__ import annotations

import pytest
from mailman_ha.doctor import observe
from mailman_ha.doctor.finding import ERROR, NOTE, UNSEEN, WARNING
from mailman_ha.doctor.observation import FencingEvent

from tests.evidence import crm_mon_documents

from .good_site import GOOD, GROUP, attributes, cib, configured, fence, only, spoiled

OFF = '<nvpair id="s" name="stonith-enabled" value="{}"/>'
DYNAMIC = '<primitive id="fence-all" class="stonith" type="fence_vmware"/>'


@pytest.mark.parametrize("word", ["false", "off", "no", "0", "False"])
def test_fencing_switched_off_is_an_error(word: str) -> None:
    one = only(spoiled(configuration=configured(cib(properties=OFF.format(word)))))
    assert (one.check, one.severity) == ("fencing", ERROR)
    assert one.pcs == "pcs property set stonith-enabled=true"
    assert one.crm == "crm configure property stonith-enabled=true"


def test_fencing_without_a_device_is_an_error() -> None:
    one = only(spoiled(configuration=configured(cib(fences=""))))
    assert one.severity == ERROR
    assert "no fencing device" in one.seen


def test_disabled_device_is_none() -> None:
    stopped = fence("mail1").replace(
        "</primitive>", attributes("meta", "x", target__role="Stopped") + "</primitive>"
    )
    one = only(spoiled(configuration=configured(cib(fences=stopped))))
    assert "not disabled" in one.seen


def test_node_that_no_device_can_fence_is_an_error() -> None:
    one = only(spoiled(
        configuration=configured(cib(fences=fence("mail1"))),
        able={"mail1": ("fence-mail1",), "mail2": ()},
    ))
    assert one.severity == ERROR
    assert one.seen == "no fencing device can fence node mail2"
    assert "pcmk_host_list=mail2" in one.pcs
    assert "pcmk_host_list=mail2" in one.crm


def test_device_for_several_nodes_counts_for_each() -> None:
    for names in ({"pcmk_host_list": "mail1,mail2"}, {"pcmk_host_map": "mail1:4;mail2:5"}):
        device = DYNAMIC.replace("/>", ">") + attributes("instance", "d", **names) + "</primitive>"
        assert spoiled(configuration=configured(cib(fences=device)), able=None) == ()


def test_device_that_asks_its_hardware_is_believed_when_the_fencer_says_so() -> None:
    assert spoiled(configuration=configured(cib(fences=DYNAMIC))) == ()
    seen = spoiled(configuration=configured(cib(fences=DYNAMIC)), able=None)
    assert {one.severity for one in seen} == {UNSEEN}
    assert {one.mend for one in seen} == {
        "with the cluster running: stonith_admin --list mail1",
        "with the cluster running: stonith_admin --list mail2",
    }


def test_fencing_by_watchdog_needs_no_device() -> None:
    watchdog = '<nvpair id="w" name="stonith-watchdog-timeout" value="10s"/>'
    assert spoiled(configuration=configured(cib(fences="", properties=watchdog))) == ()


def test_fencing_never_tested_is_a_warning_with_the_command_that_tests_it() -> None:
    one = only(spoiled(fencing_events=GOOD.fencing_events[:1]))
    assert one.severity == WARNING
    assert "mail2 has not been fenced" in one.seen
    assert (one.pcs, one.crm) == ("pcs stonith fence mail2", "crm node fence mail2")


@pytest.mark.parametrize("event", [
    FencingEvent("mail2", "on", "success", 5.0),
    FencingEvent("mail2", "off", "success", 5.0, confirmed=True),
])
def test_what_proves_nothing_is_no_test(event: FencingEvent) -> None:
    one = only(spoiled(fencing_events=(GOOD.fencing_events[0], event)))
    assert "mail2 has not been fenced" in one.seen


def test_last_fencing_that_failed_is_an_error() -> None:
    failed = FencingEvent("mail2", "reboot", "failed", 2000.0)
    one = only(spoiled(fencing_events=(*GOOD.fencing_events, failed)))
    assert one.severity == ERROR
    assert one.seen == "the last fencing of node mail2 failed"
    older = FencingEvent("mail2", "reboot", "failed", 500.0)
    assert spoiled(fencing_events=(*GOOD.fencing_events, older)) == ()


def test_fencing_under_way_is_a_note() -> None:
    pending = FencingEvent("mail2", "reboot", "pending", 2000.0)
    assert only(spoiled(fencing_events=(*GOOD.fencing_events, pending))).severity == NOTE


def test_allow_unfenced_beside_fencing_is_a_warning() -> None:
    text = GROUP.replace('name="mailman_version"', 'name="allow_unfenced"').replace(
        'value="3"', 'value="true"')
    configuration = configured(cib(text))
    assert observe._allows_unfenced(configuration)
    assert not observe._allows_unfenced(GOOD.configuration)
    assert only(spoiled(allow_unfenced=True)).severity == WARNING


#: What crm_mon of Pacemaker 3.0.0 printed after a fencing and a `stonith_admin --confirm`.
RECORDED = b"""<pacemaker-result api-version="2.38" request="crm_mon -1 --output-as=xml">
  <fence_history>
    <fence_event action="off" target="n1" client="stonith_admin.1659" origin="n2" status="success" \
delegate="a human" completed="2026-11-24 03:54:26.378466Z"/>
    <fence_event action="reboot" target="n1" client="stonith_admin.1520" origin="n2" \
status="success" delegate="n2" completed="2026-11-24 03:54:20.810466Z"/>
  </fence_history>
  <status code="0" message="OK"/>
</pacemaker-result>
"""


def test_confirmation_by_a_person_is_told_from_a_fencing() -> None:
    confirmed, fenced = observe.fencing_events(RECORDED)
    assert (confirmed.confirmed, fenced.confirmed) == (True, False)
    assert fenced.completed == pytest.approx(1795492460.81)


@pytest.mark.parametrize("version", ["2.1", "3.0"])
def test_history_of_crm_mon_is_read(version: str) -> None:
    confirmed = crm_mon_documents.event(target="n1").replace('delegate="n1"', 'delegate="a human"')
    document = crm_mon_documents.document(version, events=(
        crm_mon_documents.event("2026-11-23 19:00:45Z")
        + crm_mon_documents.event("", status="pending") + confirmed
    ))
    first, second, third = observe.fencing_events(document)
    assert (first.target, first.action, first.status) == ("n2", "reboot", "success")
    assert (first.completed, first.confirmed) == (1795460445.0, False)
    assert (second.status, second.completed) == ("pending", None)
    assert third.confirmed

#: What stonith_admin of Pacemaker 3.0.0 printed in the lab.
LISTED = b"""<pacemaker-result api-version="2.38" request="stonith_admin --list=n2 --output-as=xml">
  <list name="registered fence devices" count="1">
    <item name="device">power-switch</item>
  </list>
  <status code="0" message="OK"/>
</pacemaker-result>
"""
NONE_LISTED = b"""<pacemaker-result api-version="2.38" request="stonith_admin --list=x">
  <list name="registered fence devices" count="0"/>
  <status code="0" message="OK"/>
</pacemaker-result>
"""
NOT_CONNECTED = b"""<pacemaker-result api-version="2.25" request="stonith_admin --list=n2">
  <status code="102" message="Not connected"/></pacemaker-result>"""


def test_devices_that_the_fencer_names_are_read() -> None:
    assert observe.devices_listed(LISTED) == ("power-switch",)
    assert observe.devices_listed(NONE_LISTED) == ()
    for broken in (NOT_CONNECTED, b"", b"<x", b"<!DOCTYPE x><x/>"):
        assert observe.devices_listed(broken) is None
