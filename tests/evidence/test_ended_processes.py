"""A node's word on processes that have ended there: said, read back, and not taken from garbage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.evidence import cluster, ended_processes
from pytest_subprocess import FakeProcess

pids = st.frozensets(st.integers(1, 4_194_304), max_size=40)


@given(pids, st.floats(0, 4e9))
def test_what_is_said_is_read_back(ended: frozenset[int], now: float) -> None:
    with FakeProcess() as programs:
        programs.register([ended_processes.node_attributes.PROGRAM, programs.any()])
        assert ended_processes.publish(ended, now, 5) == ""
        (words,) = programs.calls
    (value,) = [word.partition("=")[2] for word in words if word.startswith("--update=")]
    when, read = ended_processes.parse(value)
    assert when is not None and abs(when - now) < 0.001
    assert read <= ended and (read == ended or len(value) > 240)


@given(st.text(max_size=60) | st.text("0123456789._-+", max_size=60))
def test_garbage_tells_of_no_process_or_of_whole_numbers(value: str) -> None:
    when, ended = ended_processes.parse(value)
    assert (when is None and not ended) or (when >= 0 and all(pid >= 0 for pid in ended))


def test_word_of_a_node_is_found_in_what_crm_mon_prints() -> None:
    document = (
        b'<pacemaker-result><summary><cluster_options stonith-enabled="true"/></summary>'
        b'<nodes><node name="n1" online="true"/><node name="n2" online="true"/></nodes>'
        b'<node_attributes><node name="n2"><attribute name="other" value="7"/>'
        b'<attribute name="mailman-ha-ended" value="1795514415.250_3008_3010"/></node>'
        b"</node_attributes></pacemaker-result>"
    )
    found = cluster.parse(document).nodes
    assert (found["n2"].ended_at, found["n2"].ended) == (1795514415.25, {3008, 3010})
    assert (found["n1"].ended_at, found["n1"].ended) == (None, frozenset())
