"""crm_mon's answer, read for what it is worth: where anything is missing, less is released."""

from __future__ import annotations

import calendar
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailman_ha.evidence import cluster
from mailman_ha.evidence.cluster import Cluster, NoClusterEvidence, Node

from tests.evidence.crm_mon_documents import NOT_CONNECTED, document, event, node

LIBRARY = Path(cluster.__file__).resolve().parent.parent.parent
MOMENT = calendar.timegm((2026, 11, 23, 19, 0, 45))
SCHEMA = Path("/usr/share/pacemaker/api/api-result.rng")


@pytest.mark.parametrize("version, fenced_at", [("2.1", MOMENT), ("3.0", MOMENT + 0.123456)])
def test_answer_of_either_pacemaker_is_read(version: str, fenced_at: float) -> None:
    assert cluster.parse(document(version)) == Cluster(
        nodes={
            "n1": Node("n1", online=True, unclean=False),
            "n2": Node("n2", online=False, unclean=False, fenced_at=fenced_at),
        },
        have_quorum=True, fencing_enabled=True, maintenance=False,
    )


@pytest.mark.skipif(not SCHEMA.exists() or not shutil.which("xmllint"), reason="no schema here")
def test_documents_of_these_tests_are_what_pacemakers_schema_allows(tmp_path: Path) -> None:
    """An error in the documents would prove the parser right about nothing."""
    newest = sorted(SCHEMA.parent.glob("api-result-2.*.rng"), key=lambda path: int(
        path.stem.rpartition(".")[2]))[-1]
    for name, text in (("2.1", document("2.1")), ("3.0", document("3.0")), ("none", NOT_CONNECTED)):
        path = tmp_path / f"{name}.xml"
        path.write_bytes(text.replace(b' feature_set="3.20.0"', b' feature_set="3.16.2"'))
        done = subprocess.run(
            ["xmllint", "--noout", "--relaxng", str(newest), str(path)],
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stderr


# -- fencing events

DEADLY = [("reboot", True), ("off", True), ("on", False), ("monitor", False), ("list", False),
          ("", False)]


@pytest.mark.parametrize("action, deadly", DEADLY)
def test_only_off_and_reboot_end_what_ran_on_a_node(action: str, deadly: bool) -> None:
    found = cluster.parse(document(events=event(action=action)))
    assert (found.nodes["n2"].fenced_at is not None) == deadly


@pytest.mark.parametrize("status", ["failed", "pending", "unknown", "", "Success"])
def test_fencing_that_did_not_succeed_proves_nothing(status: str) -> None:
    found = cluster.parse(document(events=event(status=status)))
    assert found.nodes["n2"].fenced_at is None


def test_later_failed_or_pending_fencing_does_not_undo_an_earlier_success() -> None:
    earlier, later = "2026-11-23 18:00:00Z", "2026-11-23 19:00:00Z"
    for status in ("failed", "pending"):
        events = event(later, status=status) + event(earlier)
        assert cluster.parse(document(events=events)).nodes["n2"].fenced_at == MOMENT - 3645


def test_of_several_fencings_of_a_node_the_last_counts_in_whatever_order_they_stand() -> None:
    moments = ["2026-11-23 18:00:00Z", "2026-11-23 19:00:45Z", "2025-01-01 00:00:00Z"]
    for order in (moments, moments[::-1], moments[1:] + moments[:1]):
        found = cluster.parse(document(events="".join(map(event, order))))
        assert found.nodes["n2"].fenced_at == MOMENT


def test_fencing_of_one_node_says_nothing_of_another() -> None:
    found = cluster.parse(document(events=event(target="n3") + event(target="N2")))
    assert found.nodes["n1"].fenced_at is None and found.nodes["n2"].fenced_at is None


@pytest.mark.parametrize("text, seconds", [
    ("2026-11-23 19:00:45Z", MOMENT),
    ("2026-11-23 19:00:45.123456Z", MOMENT + 0.123456),
    ("2026-11-23T19:00:45Z", MOMENT),
    ("2026-11-23 19:00:45 Z", MOMENT),
    ("2026-11-23 20:00:45+01:00", MOMENT),
    ("2026-11-23 20:00:45 +01:00", MOMENT),
    ("2026-11-23 13:30:45.5-05:30", MOMENT + 0.5),
    ("2026-11-23 19:00:45", None),
    ("2026-11-23 20:00:45 CET", None),
    ("Mon Nov 23 19:00:45 2026", None),
    ("2026-13-23 19:00:45Z", None),
    ("2026-11-23 19:00:45.12x456Z", None),
    ("2026-11-23 19:00:45.-1Z", None),
    ("2026-11-23 19:00:45+0²:00", None),
    ("2026-11-23 19:00:45+1:00", None),
    ("1764000000", None),
    ("Z", None),
    ("", None),
])
def test_time_of_a_fencing_is_read_exactly_or_not_at_all(text: str, seconds: float | None) -> None:
    assert cluster.parse_time(text) == pytest.approx(seconds, abs=1e-6)
    found = cluster.parse(document(events=event(text)))
    assert found.nodes["n2"].fenced_at == pytest.approx(seconds, abs=1e-6)


def test_time_is_utc_wherever_the_node_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert cluster.parse_time("2026-11-23 19:00:45Z") == MOMENT
    monkeypatch.delenv("TZ")
    time.tzset()


# -- nodes and options

def test_a_nodes_states_are_told_apart() -> None:
    nodes = (
        node("a", 1) + node("b", 2, online="false", unclean="true") + node("c", 3, standby="true")
        + node("d", 4, maintenance="true") + node("e", 5, online="false", pending="true")
    )
    found = cluster.parse(document(nodes=nodes)).nodes
    assert [one for one in found.values() if one.online] == [found["a"], found["c"], found["d"]]
    assert found["b"].unclean and found["c"].standby and found["d"].maintenance
    assert found["e"].pending and not found["a"].pending


def test_what_is_not_said_is_taken_the_way_that_releases_less() -> None:
    found = cluster.parse(document(nodes='<node name="n1"/>', options="<cluster_options/>"))
    assert found.nodes["n1"].online and not found.fencing_enabled
    for word in ("True", "yes", "1", ""):
        odd = cluster.parse(document(options=f'<cluster_options stonith-enabled="{word}"/>'))
        assert not odd.fencing_enabled
    assert cluster.parse(document(nodes=node("n1", 1, online="0"))).nodes["n1"].online


def test_quorum_and_maintenance_are_read() -> None:
    assert not cluster.parse(document(quorum="false")).have_quorum
    options = '<cluster_options stonith-enabled="true" maintenance-mode="true"/>'
    assert cluster.parse(document(options=options)).maintenance


# -- what is no answer

WHOLE = document()
BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">""" + b"".join(
    b'<!ENTITY %c "%s">' % (98 + number, b"&%c;" % (97 + number) * 10) for number in range(9)
) + b"]>\n" + (
    b"<pacemaker-result><summary><cluster_options/></summary><nodes>&j;</nodes></pacemaker-result>"
)

RUBBISH = {
    "nothing": b"",
    "words": b"Error: cluster is not available on this node",
    "html": b"<html><body>no</body></html>",
    "another root": WHOLE.replace(b"pacemaker-result", b"something"),
    "not connected": NOT_CONNECTED,
    "no nodes": WHOLE.replace(b"nodes>", b"knots>"),
    "no options": WHOLE.replace(b"cluster_options", b"options"),
    "a node without a name": document(nodes="<node/>"),
    "not UTF-8": WHOLE.replace(b'"n2"', b'"\xff\xfe"'),
    "an unknown encoding": WHOLE.replace(b'"1.0"', b'"1.0" encoding="x-none"', 1),
    "a multi-byte encoding": WHOLE.replace(b'"1.0"', b'"1.0" encoding="utf-7"', 1),
    "UTF-16": WHOLE.decode().encode("utf-16"),
    "NULs": WHOLE.replace(b"n1", b"\0\0"),
    "an entity bomb": BOMB,
    "an external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + WHOLE,
    "a parameter entity": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + WHOLE,
    "a hundred thousand levels": b"<a>" * 100_000,
    "two documents": WHOLE + WHOLE,
    "random bytes": os.urandom(4096),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_is_no_evidence_and_takes_no_time(what: str) -> None:
    began = time.monotonic()
    with pytest.raises(NoClusterEvidence) as refusal:
        cluster.parse(RUBBISH[what])
    assert time.monotonic() - began < 2.0
    assert str(refusal.value).isprintable() and not refusal.value.none_here


def test_answer_cut_off_anywhere_is_no_evidence() -> None:
    text = WHOLE.rstrip()
    for length in range(len(text)):
        with pytest.raises(NoClusterEvidence):
            cluster.parse(text[:length])


@settings(max_examples=150)
@given(st.data())
def test_answer_with_bytes_changed_never_does_more_than_fail(data: st.DataObject) -> None:
    text = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = cluster.parse(bytes(text))
    except NoClusterEvidence:
        return
    assert all(isinstance(one, Node) and name for name, one in found.nodes.items())


# -- asking

@pytest.fixture
def crm_mon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script called crm_mon, and nothing else, in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cluster, "CIB_FILE", str(tmp_path / "cib.xml"))

    def install(script: str) -> None:
        path = tmp_path / "crm_mon"
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)

    return install


def test_one_call_of_crm_mon_with_the_sections_needed_is_made(
    crm_mon: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "answer").write_bytes(WHOLE)
    crm_mon(f'echo "$@" >> {tmp_path}/calls; cat {tmp_path}/answer')
    assert cluster.ask(5.0) == cluster.parse(WHOLE)
    assert (tmp_path / "calls").read_text() == (
        "-1 --output-as=xml --include=none,dc,nodes,options,fencing,attributes\n"
    )


@pytest.mark.parametrize("script, said", [
    ("exit 1", "status 1"),
    ("echo oops >&2; exit 124", "oops"),
    ("echo rubbish", "no XML"),
    ("exit 0", "no XML"),
    ("kill -9 $$", "status -9"),
])
def test_crm_mon_in_trouble_is_no_evidence_but_no_proof_that_there_is_no_cluster(
    crm_mon: Callable[[str], None], script: str, said: str
) -> None:
    crm_mon(script)
    with pytest.raises(NoClusterEvidence, match=said) as refusal:
        cluster.ask(5.0)
    assert not refusal.value.none_here


def test_crm_mon_that_hangs_is_given_up_in_time(crm_mon: Callable[[str], None]) -> None:
    crm_mon("trap '' TERM; sleep 60 & wait; sleep 60")
    began = time.monotonic()
    with pytest.raises(NoClusterEvidence, match=r"did not end within 0\.5 s") as refusal:
        cluster.ask(0.5)
    assert time.monotonic() - began < 3.0
    assert not refusal.value.none_here


def test_no_cluster_is_believed_only_where_pacemaker_has_never_run(
    crm_mon: Callable[[str], None], tmp_path: Path
) -> None:
    for script in (None, "exit 102"):
        if script is not None:
            crm_mon(script)
        with pytest.raises(NoClusterEvidence) as refusal:
            cluster.ask(5.0)
        assert refusal.value.none_here
        (tmp_path / "cib.xml").write_text("")
        with pytest.raises(NoClusterEvidence) as refusal:
            cluster.ask(5.0)
        assert not refusal.value.none_here
        (tmp_path / "cib.xml").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize("closed", [True, False])
def test_who_may_not_look_whether_pacemaker_ran_takes_it_that_it_did(
    closed: bool,
) -> None:
    """Otherwise nobody's look would call this host's locks free of any cluster's doubt."""
    place = tempfile.mkdtemp(dir="/tmp")  # pytest's own directories are closed to others
    try:
        os.chmod(place, 0o700 if closed else 0o755)
        code = (
            f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); "
            "from mailman_ha.evidence import cluster; "
            f"cluster.CIB_FILE = {place + '/cib.xml'!r}; "
            "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
            "print(cluster.may_have_run())"
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(closed)
    finally:
        os.rmdir(place)


@pytest.mark.parametrize("offset", ["+99:99", "-99:99", "-24:00", "+00:60"])
def test_time_with_an_offset_that_no_place_has_is_none(offset: str) -> None:
    """-99:99 would make a fencing look four days younger, and a lock taken since look released."""
    assert cluster.parse_time(f"2026-11-23 19:00:45{offset}") is None


@pytest.mark.parametrize("text", ["2026-1-2 1:0:4.TZ", "2026-11- 3 19:00:45Z",
                                  "2026-11-23\n19:00:45Z",
                                  "2026-11-23 19:00:45.Z", "٢٠٢٦-11-23 19:00:45Z"])
def test_time_in_no_form_of_pacemakers_is_none(text: str) -> None:
    assert cluster.parse_time(text) is None
