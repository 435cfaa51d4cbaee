"""What an action is handed, and how it reads its parameters."""

from __future__ import annotations

import pytest
from mailman_ha.ocf import codes
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log
from mailman_ha.ocf.outcome import Outcome, Refusal


def call(**parameters: str) -> Call:
    return Call("start", "res", parameters, Deadline(20), Log({}), frozenset(parameters))


def test_parameters_are_read_by_kind() -> None:
    made = call(text="a b", number="-7", span="2min", flag="Yes")
    assert made.text("text") == "a b"
    assert made.integer("number") == -7
    assert made.seconds("span") == 120.0
    assert made.flag("flag") is True
    assert made.given("text")
    assert not made.given("other")


@pytest.mark.parametrize("read", ["integer", "seconds", "flag"])
@pytest.mark.parametrize("value", ["", "rubbish\n"])
def test_unreadable_parameter_refuses_with_6_and_a_sentence(read: str, value: str) -> None:
    with pytest.raises(Refusal) as raised:
        getattr(call(p=value), read)("p")
    assert raised.value.outcome.code == codes.ERR_CONFIGURED
    shown = "is 'rubbish\\x0a'" if value else "is not set"
    assert raised.value.outcome.reason.startswith(f"parameter p {shown} but must be ")
    assert str(raised.value) == raised.value.outcome.reason


def test_undeclared_parameter_is_a_defect() -> None:
    with pytest.raises(KeyError):
        call().text("missing")


def test_outcome_needs_no_reason() -> None:
    assert Outcome(codes.SUCCESS) == Outcome(0, "")
