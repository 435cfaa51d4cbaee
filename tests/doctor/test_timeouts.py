"""Findings on operations and their timeouts."""

from __future__ import annotations

import pytest
from mailman_ha.doctor import configuration
from mailman_ha.doctor.finding import ERROR, WARNING

from .good_site import FENCES, GROUP, attributes, cib, configured, in_a_file, only, slice_clone


def changed(old: str, new: str) -> str:
    assert GROUP.count(old) == 1, GROUP.count(old)
    return cib(GROUP.replace(old, new))


@pytest.mark.parametrize("name,interval,given,asked,severity", [
    ("start", "0", "90s", "90", WARNING), ("stop", "0", "90s", "90", ERROR),
    ("monitor", "15s", "30s", "30", WARNING), ("monitor", "60s", "40s", "40", WARNING),
])
def test_timeout_below_the_advice_is_found(
    name: str, interval: str, given: str, asked: str, severity: str
) -> None:
    old = f'id="mailman-{name}-{interval}" name="{name}" interval="{interval}" timeout="{given}"'
    one = only(in_a_file(changed(old, old.replace(f'timeout="{given}"', 'timeout="19s"'))))
    assert (one.check, one.severity) == ("timeouts", severity)
    assert f"is 19 s; the agent asks for {asked} s" in one.seen
    changed_to = f'<op id="mailman-{name}-{interval}" timeout="{asked}s"/>'
    assert one.mend == f"cibadmin --modify --xml-text '{changed_to}'"


def test_timeout_of_the_share_counts_too() -> None:
    old = 'id="share-stop-0" name="stop" interval="0" timeout="60s"'
    one = only(in_a_file(changed(old, old.replace("60s", "20s"))))
    assert one.severity == ERROR
    assert "share: the timeout of stop is 20 s" in one.seen


def test_operation_that_is_not_configured_has_pacemakers_timeout() -> None:
    stop = '<op id="mailman-stop-0" name="stop" interval="0" timeout="90s"></op>'
    one = only(in_a_file(changed(stop, "")))
    assert "20 s (no timeout is given); the agent asks for 90 s" in one.seen
    assert one.pcs == "pcs resource op add mailman stop interval=0s timeout=90s"
    assert one.crm == "crm configure edit mailman  (op stop interval=0s timeout=90s)"


def test_defaults_of_operations_count_where_none_is_given() -> None:
    stop = 'id="mailman-stop-0" name="stop" interval="0" timeout="90s"'
    bare = GROUP.replace(stop, stop.replace(' timeout="90s"', ""))
    usual = f"<op_defaults>{attributes('meta', 'd', timeout='{}')}</op_defaults>"
    assert in_a_file(cib(bare, others=usual.format("2min"))) == ()
    assert "is 45 s (no timeout" in only(in_a_file(cib(bare, others=usual.format("45")))).seen


def test_operations_of_a_template_count() -> None:
    start = GROUP.index('<primitive id="mailman"')
    end = GROUP.index("</primitive>", start) + len("</primitive>")
    master = GROUP[start:end]
    template = master.replace('<primitive id="mailman"', '<template id="t"').replace(
        "</primitive>", "</template>")
    using = GROUP.replace(master, '<primitive id="mailman" template="t"/>')
    assert in_a_file(cib(using, fences=template + FENCES)) == ()
    short = template.replace('timeout="90s"', 'timeout="50s"')
    assert len(in_a_file(cib(using, fences=short + FENCES))) == 2




def test_missing_monitors_are_found() -> None:
    deep = GROUP.index('<op id="mailman-monitor-60s"')
    light = GROUP.index('<op id="mailman-monitor-15s"')
    end = GROUP.index("</op>", deep) + len("</op>")
    one = only(in_a_file(cib(GROUP[:deep] + GROUP[end:])))
    assert (one.severity, one.seen) == (WARNING, "mailman has no monitor at level 10")
    assert one.pcs.endswith("monitor interval=60s timeout=40s OCF_CHECK_LEVEL=10")
    one = only(in_a_file(cib(GROUP[:light] + GROUP[deep:])))
    assert (one.severity, one.seen) == (WARNING, "mailman has no monitor at level 0")
    found = in_a_file(cib(GROUP[:light] + GROUP[end:]))
    assert (found[0].severity, found[0].seen) == (ERROR, "mailman has no monitor")
    assert "never noticed" in found[0].matters


@pytest.mark.parametrize("name", ["stop", "start"])
def test_failures_that_are_to_be_ignored_are_an_error(name: str) -> None:
    old = f'id="mailman-{name}-0" name="{name}"'
    one = only(in_a_file(changed(old, old + ' on-fail="ignore"')))
    assert one.severity == ERROR
    assert ("two masters" in one.matters) == (name == "stop")


def test_slices_are_measured_by_their_own_agent() -> None:
    text = slice_clone().replace('timeout="30s"', 'timeout="29s"')
    found = in_a_file(cib(GROUP + text))
    assert "mailman-in: the timeout of monitor at level 10 is 29 s; the agent asks for 30 s" in [
        one.seen for one in found]


@pytest.mark.parametrize("text,value", [
    ("90", 90.0), ("90s", 90.0), ("1min", 60.0), ("500ms", 0.5), ("PT1M30S", 90.0),
    ("PT2H", 7200.0), ("PT", 0.0), ("PTM", None), ("PT5X", None), ("PT5", None),
    ("soon", None), ("", None),
])
def test_spans_of_time_are_read_as_pacemaker_writes_them(text: str, value: float | None) -> None:
    assert configuration.seconds(text) == value


def test_timeout_that_cannot_be_read_is_not_judged() -> None:
    stop = 'id="mailman-stop-0" name="stop" interval="0" timeout="90s"'
    assert in_a_file(changed(stop, stop.replace("90s", "soon"))) == ()
    assert configured(changed(stop, stop.replace("90s", "soon"))).of(configuration.MASTER)
