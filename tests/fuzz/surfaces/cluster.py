"""What Pacemaker's programs print: crm_mon's XML, times of fencing, node attributes, the CIB."""

from __future__ import annotations

import math
import re

from hypothesis import strategies as st
from mailman_ha.doctor import node_facts
from mailman_ha.doctor.observe import devices_listed, fencing_events
from mailman_ha.evidence import cib, cluster, ended_processes, hosts, mounts
from mailman_ha.evidence.cluster import NoClusterEvidence
from mailman_ha.evidence.hosts import HostMapError, ThisHost

from tests.agents.agent_runs import ClusterPicture, NodePicture
from tests.fuzz.surface import Surface, as_bytes, as_text, is_harmless, mutated

CRM_MON = ClusterPicture({
    "n1": NodePicture(), "n2": NodePicture(False, True, 1_700_000_000.0, ended="1700000000.5_7_8"),
}).xml().encode()
CRM_MON_3 = CRM_MON.replace(b":20Z", b":20.123456Z")
DECLARING = b'<!DOCTYPE a [<!ENTITY b "true">]>' + CRM_MON.partition(b"?>")[2]
BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<pacemaker-result>&b;</pacemaker-result>"
)
EXTERNAL = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><crm_mon>&a;</crm_mon>'
XML_WORDS = (
    b"<!DOCTYPE", b"<!ENTITY", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?xml", b"?>", b"encoding=",
    b'"utf-16"', b'"cp037"', b'"utf-7"', b'"rot13"', b'"base64"', b'"idna"', b'"mbcs"', b"&amp;",
    b"&#0;", b"&#27;", b"&#xD800;", b"&a;", b"xmlns:a=", b'"true"', b'"false"', b"</", b"/>",
    b"<a>",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0",
)
TIMES = (
    "2026-11-23 19:00:45Z", "2026-11-23 19:00:45.123456Z", "2026-11-23T19:00:45+01:00",
    "1970-01-01 00:00:00Z", "9999-12-31 23:59:60Z", "2024-02-29 00:00:00-23:59",
)


def crm_mon(document: bytes) -> None:
    """It is understood, or said not to be in one harmless line; what is missing is taken so that
    less is released."""
    try:
        found = cluster.parse(document)
    except NoClusterEvidence as error:
        assert is_harmless(str(error), 600)
        return
    assert b"<!DOCTYPE" not in document and b"<!ENTITY" not in document
    for name, node in found.nodes.items():
        assert name == node.name != ""
        assert node.online or b"false" in document
        assert node.fenced_at is None or b"success" in document
        assert node.fenced_at is None or math.isfinite(node.fenced_at)
        assert all(0 <= pid < 10**12 for pid in node.ended)
    assert not found.fencing_enabled or b"true" in document
    fencing_events(document)
    facts = hosts.resolve(found.nodes, ThisHost("n1", "n1.example.org", "n1"), {}, found)
    assert set(facts) == set(found.nodes)


def devices(document: bytes) -> None:
    """stonith_admin's answer."""
    found = devices_listed(document)
    assert found is None or all(isinstance(one, str) for one in found)


def a_cib(document: bytes) -> None:
    """The resources, or one harmless line."""
    try:
        found = cib.parse(document)
    except NoClusterEvidence as error:
        assert is_harmless(str(error), 3000)
        return
    for one in found:
        assert one.id and one.agent
        assert [name for name, _ in one.parameters] == sorted({n for n, _ in one.parameters})
        assert one.clone_max is None or 0 <= one.clone_max < 2**31


_TIME = re.compile(
    r"\s*[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]+)? ?"
    r"(Z|[+-][0-2][0-9]:[0-5][0-9])\s*"
)


def a_time(text: str) -> None:
    """A moment of some calendar, with an offset that some place on earth has, or none at all."""
    seconds = cluster.parse_time(text)
    if seconds is None:
        return
    assert _TIME.fullmatch(text), "that is no time"
    assert math.isfinite(seconds) and -62_135_683_200 <= seconds <= 253_402_387_200
    bare = text.strip()
    if not bare.endswith("Z"):
        utc = cluster.parse_time(bare[:-6] + "Z")
        assert utc is not None and abs(utc - seconds) < 86_400


def an_attribute(text: str) -> None:
    """Which processes have ended, or nothing."""
    at, pids = ended_processes.parse(text)
    assert at is not None or not pids
    assert at is None or 0 <= at < 10**12
    assert all(str(pid).isdigit() and pid < 10**12 for pid in pids)
    node_facts.parse(text)


def a_host_map(text: str) -> None:
    """A host has one node, or the map is refused."""
    try:
        found = hosts.parse_host_map(text)
    except HostMapError:
        return
    for host, node in found.items():
        assert host and node and f"{node}={host}" in text


def mount_table(text: str) -> None:
    """/proc/self/mountinfo, where a user may mount things under names of his own."""
    found = mounts.parse(text)
    assert len(found) <= text.count("\n") + 1
    mounts.of_path("/var/lib/mailman", found)


_CIB = b"""<cib><configuration><resources>
<template id="t" class="ocf" provider="mailman" type="qfiles-slice"><instance_attributes id="ti">
<nvpair id="a" name="queue" value="in"/></instance_attributes></template>
<clone id="c"><meta_attributes id="m"><nvpair id="x" name="globally-unique" value="true"/>
<nvpair id="y" name="clone-max" value="4"/></meta_attributes><primitive id="p" template="t">
<instance_attributes id-ref="ti"/><instance_attributes id="q" score="-INFINITY"><rule id="r"/>
<nvpair id="z" name="slices" value="#default"/></instance_attributes></primitive></clone>
<bundle id="b"><docker image="i" replicas="3x"/>
<primitive id="o" class="ocf" type="Dummy"/></bundle>
</resources></configuration></cib>"""
_DEVICES = b'<pacemaker-result><list><item>f1</item></list><status code="0"/></pacemaker-result>'

#: Sizes at which what is not linear shows.
_DEEP = (
    b"<a>" * 100_000, b"<a>" * 50_000 + b"</a>" * 50_000,
    b"<crm_mon><summary><cluster_options/></summary><nodes>" + b"<node>" * 20_000
    + b"</node>" * 20_000 + b"</nodes></crm_mon>",
    b"<resources>" + b"<group>" * 20_000 + b"</group>" * 20_000 + b"</resources>",
    b"<a " + b"".join(b'b%d="" ' % number for number in range(20_000)) + b"/>",
)
_times = st.one_of(
    st.sampled_from(TIMES),
    st.text(st.sampled_from("0123456789-:. TZ+٣²\n"), max_size=40),
    st.builds("{:04}-{:02}-{:02} {:02}:{:02}:{:02}{}".format, st.integers(0, 9999),
              st.integers(0, 13), st.integers(0, 32), st.integers(0, 25), st.integers(0, 61),
              st.integers(0, 61), st.sampled_from(("Z", ".5Z", "+99:99", "-99:99", "-00:60", " Z",
                                                    ".Z", "." + "9" * 400 + "Z"))),
)
_attributes = st.one_of(
    st.text(st.sampled_from("0123456789_.-²٣a"), max_size=60),
    st.builds(lambda at, pids: "_".join((f"{at:.3f}", *map(str, pids))),
              st.floats(0, 1e13), st.lists(st.integers(0, 10**13), max_size=8)),
    st.text(max_size=80), st.just("1.5" + "_7" * 20_000),
)

SURFACES = (
    Surface("crm-mon", st.one_of(mutated(CRM_MON, CRM_MON_3, DECLARING, BOMB, EXTERNAL,
                                         words=XML_WORDS),
                                 st.sampled_from(_DEEP)),
            crm_mon, decode=as_bytes, seeds=(CRM_MON, CRM_MON_3, BOMB, EXTERNAL), words=XML_WORDS,
            count=300),
    Surface("cib", st.one_of(mutated(_CIB, BOMB, EXTERNAL, words=XML_WORDS),
                             st.sampled_from(_DEEP)),
            a_cib, decode=as_bytes, seeds=(_CIB, BOMB), words=(*XML_WORDS, b"id-ref=",
                                                               b"template=")),
    Surface("fencing-devices", mutated(_DEVICES, BOMB, words=XML_WORDS), devices, decode=as_bytes,
            seeds=(_DEVICES,), words=XML_WORDS, count=150),
    Surface("fencing-times", _times, a_time, as_text, tuple(one.encode() for one in TIMES),
            count=400),
    Surface("node-attributes", _attributes, an_attribute, as_text, (b"1700000000.123_7_8",
                                                                    b"1_0.5_x"),
            count=500),
    Surface("host-map", st.text(st.sampled_from("ab.=, \n\x1b٣"), max_size=40), a_host_map,
            as_text, (b"n1=h1 n2=h2",)),
    Surface("mounts", st.text(st.sampled_from("a/ -\\0412\n,:"), max_size=120).map(
        lambda text: f"36 35 98:0 / /mnt rw - ext4 /dev/x rw\n{text}"), mount_table,
            as_text, (b"36 35 98:0 / /mnt\\040 rw - nfs4 h:/x rw",), count=200),
)
