"""Findings on slices: in the CIB alone, and against Mailman's configuration."""

from __future__ import annotations

import time

import pytest
from mailman_ha.doctor import slices
from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING, Finding
from mailman_ha.doctor.observation import Observation
from mailman_ha.mailman.installation import Installation
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.record import replace

from .good_site import ANSWER, SITE, attributes, cib, configured, only, primitive, slice_clone


def found(resources: str, site: Installation | None = None) -> tuple[Finding, ...]:
    return tuple(slices.findings(Observation(
        configuration=configured(cib(resources)), from_file=site is None, site=site,
    )))


def single(name: str, number: int | str, count: int | str, queue: str = "in") -> str:
    return primitive(
        name, "ocf:mailman:qfiles-slice", queue=queue, slice=str(number), slices=str(count))


def site(runners: dict[str, int], instances: dict[str, int] | None = None) -> Installation:
    usual = {name: 1 for name, _ in ANSWER.runners}
    return replace(SITE, answer=replace(
        ANSWER,
        runners=tuple((name, count) for name, count in {**usual, **runners}.items() if count),
        instances=tuple((instances or {}).items()),
    ))


def test_complete_slices_have_no_finding() -> None:
    assert found(slice_clone()) == ()
    assert found("".join(single(f"s{number}", number, 3) for number in range(3))) == ()
    # two halves, one of them in two: unusual, but nothing is lost
    assert found(single("a", 0, 2) + single("b", 2, 4) + single("c", 3, 4)) == ()


def test_missing_slice_is_an_error() -> None:
    one = only(found(single("a", 0, 3) + single("c", 2, 3)))
    assert one.severity == ERROR
    assert one.seen == "the slices of queue in are not complete (missing: 1)"


def test_disabled_slice_is_a_missing_one() -> None:
    off = slice_clone().replace("<primitive", attributes(
        "meta", "off", target__role="Stopped") + "<primitive", 1)
    one = only(found(off))
    assert one.seen.endswith("(missing: 0, 1, 2, 3); disabled: mailman-in")
    assert one.mend == "crm_resource -r mailman-in --meta -d target-role"


@pytest.mark.parametrize("other", [single("b", 0, 2), single("b", 3, 8), slice_clone(name="b")])
def test_overlapping_slices_are_an_error(other: str) -> None:
    clashing = only(found(slice_clone() + other))
    assert clashing.severity == ERROR
    assert clashing.seen == "b and mailman-in are configured for the same part of queue in"


def test_queue_of_as_many_slices_as_there_may_be_is_examined_at_once() -> None:
    many = {"clone__max": "4096", "clone__node__max": "4096"}
    given = slice_clone(**many) + slice_clone(name="b", **many)
    begun = time.process_time()
    assert only(found(given)).seen == (
        "b and mailman-in are configured for the same part of queue in")
    assert time.process_time() - begun < 2  # of processor seconds; each with each takes far more


def test_every_two_that_have_a_part_in_common_are_named() -> None:
    told = found(slice_clone(clone__max="2") + single("whole", 0, 1) + single("b", 3, 8))
    assert [one.seen.partition(" are ")[0] for one in told] == [
        "b and mailman-in", "b and whole", "mailman-in and whole"]


def test_same_slice_of_another_mailman_is_no_overlap() -> None:
    other = slice_clone(name="b").replace(
        "</instance_attributes>",
        '<nvpair id="y" name="prefix" value="/opt/other"/></instance_attributes>', 1)
    assert found(slice_clone() + other) == ()


@pytest.mark.parametrize("meta", [
    {"globally__unique": "", "clone__node__max": ""}, {"globally__unique": "false"},
    {"clone__max": ""},
])
def test_clone_without_slices_is_an_error(meta: dict[str, str]) -> None:
    one = only(found(slice_clone(**meta)))
    assert one.severity == ERROR
    assert "needs globally-unique=true and clone-max" in one.seen
    assert "mailman-in-clone" in one.pcs


def test_survivors_that_cannot_take_all_are_a_warning() -> None:
    one = only(found(slice_clone(clone__node__max="2")))
    assert (one.severity, one.pcs) == (
        WARNING, "pcs resource meta mailman-in-clone clone-node-max=4")


@pytest.mark.parametrize("number,count", [("", ""), ("4", "4"), ("x", "4"), ("-1", "4")])
def test_slice_that_is_none_is_an_error(number: str, count: str) -> None:
    assert "does not say which slice" in only(found(single("a", number, count))).seen


def test_slice_of_no_queue_is_an_error() -> None:
    bare = slice_clone().replace('name="queue"', 'name="qeue"')
    assert only(found(bare)).seen == "mailman-in names no queue"


def test_absurd_number_of_slices_ends_soon() -> None:
    assert "2000000000 slices" in only(found(slice_clone(
        clone__max="2000000000", clone__node__max="2000000000"))).seen


def test_master_that_runs_the_queue_as_well_is_an_error() -> None:
    one = only(found(slice_clone(), site({"in": 4}, {"in": 4})))
    assert one.severity == ERROR
    assert "run queue in itself, beside mailman-in" in one.seen
    assert one.mend.endswith("[runner.in] start: no")


def test_instances_that_disagree_are_an_error() -> None:
    one = only(found(slice_clone(), site({"in": 0}, {"in": 2})))
    assert "mailman-in has 4 slices, Mailman's configuration says instances: 2" in one.seen
    assert one.mend.endswith("instances: 4")


def test_number_that_mailman_3_cannot_divide_by_is_an_error() -> None:
    three = slice_clone(clone__max="3", clone__node__max="3")
    assert "no power of two" in only(found(three, site({"in": 0}, {"in": 3}))).seen


def test_queue_that_mailman_has_not_is_an_error() -> None:
    assert "no runner for a queue inn" in only(found(slice_clone("inn"), site({}))).seen


@pytest.mark.parametrize("queue,severity", [("in", ERROR), ("archive", WARNING)])
def test_queue_that_nobody_runs_is_found(queue: str, severity: str) -> None:
    one = only(found("", site({queue: 0})))
    assert one.severity == severity
    assert f"queue {queue} is run neither by" in one.seen


def test_mailman_21_is_compared_by_its_own_names() -> None:
    place = Location("2.1", ("/usr/local/mailman/bin",), prefix="/usr/local/mailman")
    answer = replace(
        ANSWER, runners=(("IncomingRunner", 1), ("OutgoingRunner", 1)), instances=(),
        queues=(("IN", "/q/in"), ("OUT", "/q/out"), ("NEWS", "/q/news"), ("ARCH", "/q/archive")),
    )
    old = replace(SITE, location=place, answer=answer)
    seen = found(slice_clone(clone__max="3", clone__node__max="3"), old)
    assert [one.seen for one in seen] == [
        "Mailman's master is configured to run queue in itself, beside mailman-in",
        "queue archive is run neither by Mailman's master nor by a slice",
    ]
    assert seen[0].mend == "mm_cfg.py: take IncomingRunner out of QRUNNERS"


def test_slices_that_could_not_be_compared_are_told() -> None:
    seen = Observation(configuration=configured(cib(slice_clone())))
    assert only(tuple(slices.findings(seen))).severity == UNSEEN
