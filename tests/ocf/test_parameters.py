"""Parameters: what is checked, when, and what a wrong one does to each action."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mailman_ha.ocf import codes, environment
from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter
from mailman_ha.ocf.values import parse_flag, parse_integer, parse_seconds

from .conftest import ExampleAgent
from .example_agent.declaration import DECLARATION

WRONG = [
    ("directory", "relative/path", "must be an absolute path"),
    ("size", "many", "must be a whole number"),
    ("size", "0", "must be at least 1"),
    ("size", "-5", "must be at least 1"),
    ("size", "1.5", "must be a whole number"),
    ("size", "٣", "must be a whole number"),
    ("pace", "soon", "must be a span of time"),
    ("pace", "4s", "must be at least 5"),
    ("quiet", "perhaps", "must be true or false"),
    ("colour", "blue", "must be one of: red, green"),
    ("label", "two\nlines", "must be printable text on one line"),
    ("label", "\x1b[31m", "must be printable text on one line"),
]


@pytest.mark.parametrize("action", ["start", "reload-agent", "validate-all", "notify"])
@pytest.mark.parametrize(("name", "value", "wrong"), WRONG)
def test_wrong_value_is_6_naming_parameter_value_and_way_out(
    agent: ExampleAgent, action: str, name: str, value: str, wrong: str
) -> None:
    ended = agent.run(action, **{name: value})
    assert ended.code == codes.ERR_CONFIGURED
    assert ended.reason.startswith(f"parameter {name} is '")
    assert wrong in ended.reason
    if action == "validate-all":
        assert ended.reason.endswith("give it another value")
    else:
        assert f"crm_resource -r res -p {name} -v VALUE" in ended.reason
    assert not agent.running


@pytest.mark.parametrize("action", ["start", "reload-agent", "validate-all"])
@pytest.mark.parametrize("label", [None, ""])
def test_missing_required_parameter_is_6(
    agent: ExampleAgent, action: str, label: str | None
) -> None:
    ended = agent.run(action, label=label)
    assert ended.code == codes.ERR_CONFIGURED
    assert "parameter label (A label to be told apart by) is required but not set" in ended.reason


def test_every_wrong_parameter_is_logged_and_named(agent: ExampleAgent) -> None:
    ended = agent.run("start", size="x", pace="y", label=None)
    assert ended.reason.startswith("parameter size is 'x'")
    assert ended.reason.endswith("(also wrong: pace, label)")
    assert ended.stderr.count("ERROR: parameter ") == 3


@pytest.mark.parametrize(("name", "value", "wrong"), WRONG)
def test_stop_with_wrong_parameters_really_stops(
    agent: ExampleAgent, name: str, value: str, wrong: str
) -> None:
    assert agent.run("start").code == codes.SUCCESS
    ended = agent.run("stop", **{name: value})
    assert ended.code == codes.SUCCESS
    assert not agent.running
    assert f"WARNING: parameter {name} is '" in ended.stderr


@pytest.mark.parametrize("mood", ["say:1", "crash", "refuse", "exit", "import"])
def test_stop_with_wrong_parameters_never_claims_success(agent: ExampleAgent, mood: str) -> None:
    """If the stop itself fails, that parameters are wrong makes it no success."""
    ended = agent.run("stop", mood=mood, size="x", pace="y", label=None)
    assert ended.code not in (codes.SUCCESS, codes.ERR_CONFIGURED)
    assert ended.reason


def test_stop_and_probe_learn_what_was_wrong(agent: ExampleAgent) -> None:
    for action, interval in (("stop", "10000"), ("monitor", "0")):
        told = agent.place / "told"
        agent.run(
            action,
            mood="tell",
            directory=str(agent.place),
            size="x",
            CRM_meta_interval=interval,
        )
        assert "faults=(\"parameter size is 'x' but must be a whole number\",)" in told.read_text()
        told.unlink()


def test_recurring_monitor_with_wrong_parameters_is_1_never_6(agent: ExampleAgent) -> None:
    """6 would take the resource from every node, without even a try to start it anew."""
    ended = agent.run("monitor", size="x")
    assert ended.code == codes.ERR_GENERIC
    assert "parameter size" in ended.reason


@pytest.mark.parametrize("running", [False, True])
def test_probe_with_wrong_parameters_says_what_is_there(agent: ExampleAgent, running: bool) -> None:
    if running:
        agent.run("start")
    ended = agent.run("monitor", size="x", label=None, CRM_meta_interval="0")
    assert ended.code == (codes.SUCCESS if running else codes.NOT_RUNNING)
    assert "WARNING: parameter size" in ended.stderr


def test_validate_all_accepts_what_start_accepts(agent: ExampleAgent) -> None:
    ended = agent.run("validate-all", size="7", pace="2min", quiet="yes", colour="green")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")


def test_validate_all_speaks_in_lines_crmsh_reads(agent: ExampleAgent) -> None:
    ended = agent.run("validate-all", size="x", pace="y")
    lines = ended.stderr.splitlines()
    assert [line.partition(" is ")[0] for line in lines[:2]] == [
        "ERROR: parameter size",
        "ERROR: parameter pace",
    ]
    warned = agent.run("validate-all", mood="worried")
    assert warned.code == codes.SUCCESS
    assert warned.stderr == "WARNING: the label is odd; choose another\n"


def test_validate_all_looks_at_the_node_only_when_asked(agent: ExampleAgent) -> None:
    """(OCF Resource Agent API 1.1, "Check Levels": at 0 the local environment is left alone.)"""
    assert agent.run("validate-all").code == codes.SUCCESS
    ended = agent.run("validate-all", OCF_CHECK_LEVEL="10")
    assert ended.code == codes.ERR_ARGS
    assert "/nowhere" in ended.reason


def test_action_gets_what_pacemaker_says(agent: ExampleAgent) -> None:
    agent.run(
        "start",
        mood="tell",
        directory=str(agent.place),
        size="7",
        CRM_meta_clone="2",
        CRM_meta_clone_max="4",
    )
    told = (agent.place / "told").read_text()
    for part in (
        "action='start'",
        "instance='res'",
        "'size': '7'",
        "'pace': '10s'",
        "'colour': 'red'",
        "given_names=frozenset(",
        "check_level=0",
        "is_probe=False",
        "node='node1'",
        f"state_path='{agent.state_dir}'",
        "clone_number=2",
        "clone_max=4",
        "timeout=20.0",
    ):
        assert part in told, part


def test_action_by_hand_gets_none_where_pacemaker_says_nothing(agent: ExampleAgent) -> None:
    environ = {"OCF_RESKEY_label": "x", "OCF_RESKEY_mood": "tell"}
    environ["OCF_RESKEY_directory"] = str(agent.place)
    agent.run_in({**environ, "HA_RSCTMP": str(agent.state_dir)}, "monitor")
    told = (agent.place / "told").read_text()
    for part in (
        "instance='example'",
        "is_probe=True",
        "node=None",
        "clone_number=None",
        "clone_max=None",
    ):
        assert part in told, part


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, 0),
        ({"OCF_CHECK_LEVEL": "10"}, 10),
        ({"OCF_CHECK_LEVEL": "19"}, 10),
        ({"OCF_CHECK_LEVEL": "20"}, 10),
        ({"OCF_CHECK_LEVEL": "9"}, 0),
        ({"OCF_CHECK_LEVEL": "x"}, 0),
        ({"OCF_RESKEY_OCF_CHECK_LEVEL": "10"}, 10),
    ],
)
def test_next_lower_check_level_is_taken(
    agent: ExampleAgent, environ: dict[str, str], level: int
) -> None:
    agent.run("monitor", mood="tell", directory=str(agent.place), **environ)
    assert f"check_level={level}," in (agent.place / "told").read_text()


@pytest.mark.parametrize(
    ("action", "level", "seconds"),
    [("start", "0", 60.0), ("monitor", "0", 20.0), ("monitor", "10", 40.0)],
)
def test_by_hand_the_declared_timeout_holds_if_it_is_longer_than_usual(
    agent: ExampleAgent, action: str, level: str, seconds: float
) -> None:
    agent.run(
        action,
        mood="tell",
        directory=str(agent.place),
        CRM_meta_timeout=None,
        OCF_CHECK_LEVEL=level,
    )
    assert f"timeout={seconds}" in (agent.place / "told").read_text()


# properties

TEXTS = st.text(max_size=20)


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_whole_numbers_are_read_as_written(number: int) -> None:
    assert parse_integer(str(number)) == number
    if number >= 0:
        assert parse_integer(f"+{number}") == number
        assert parse_integer(f"000{number}"[-18:]) == number


@given(TEXTS)
@example("٣")
@example("1_000")
@example(" 1")
@example("-")
@example("+-1")
def test_only_ascii_digits_with_a_sign_are_whole_numbers(text: str) -> None:
    body = text[1:] if text[:1] in ("+", "-") else text
    plain = bool(body) and set(body) <= set(string.digits)
    try:
        parse_integer(text)
        accepted = True
    except ValueError:
        accepted = False
    assert accepted == plain


@given(TEXTS)
def test_flag_is_true_false_or_an_error(text: str) -> None:
    try:
        value = parse_flag(text)
    except ValueError:
        assert not environment.is_true(text)
    else:
        assert value is (text.lower() in ("yes", "true", "1", "on", "ja", "y"))


@given(st.integers(0, 10**9), st.sampled_from(["", "s", "sec", "ms", "min", "m", "h", "hr", "d"]))
def test_span_of_time_is_number_times_unit(number: int, unit: str) -> None:
    factors = {"ms": 0.001, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86400}
    expected = number * factors.get(unit, 1)
    assert parse_seconds(f"{number}{unit}") == pytest.approx(expected)
    assert parse_seconds(f"{number}{unit.upper()}") == pytest.approx(expected)


@given(TEXTS)
def test_span_of_time_is_never_negative_and_never_another_error(text: str) -> None:
    try:
        assert parse_seconds(text) >= 0
    except ValueError as error:
        assert "must be a span of time" in str(error)


@given(st.dictionaries(st.sampled_from([p.name for p in DECLARATION.parameters]), TEXTS))
def test_examination_always_yields_usable_values_and_blames_exactly_the_wrong(
    configured: dict[str, str],
) -> None:
    found = DECLARATION.examine({f"OCF_RESKEY_{name}": text for name, text in configured.items()})
    blamed = {fault.parameter for fault in found.faults}
    assert set(found.values) == {parameter.name for parameter in DECLARATION.parameters}
    assert not blamed & found.given
    for parameter in DECLARATION.parameters:
        text = configured.get(parameter.name) or ""
        value = found.values[parameter.name]
        if parameter.name in found.given:
            assert value == text
            assert parameter.fault(value) == ""
        else:
            assert value == parameter.default
        must_be_blamed = bool(parameter.fault(text)) if text else parameter.required
        assert (parameter.name in blamed) == must_be_blamed
    for fault in found.faults:
        for sentence in (fault.sentence(), fault.sentence("a resource\n")):
            assert fault.parameter in sentence
            assert sentence.isprintable() and sentence.isascii()


@given(
    kind=st.sampled_from(["string", "path", "integer", "boolean", "seconds"]),
    minimum=st.none() | st.integers(-3, 3),
    text=TEXTS,
)
def test_value_without_a_fault_can_be_read(kind: str, minimum: int | None, text: str) -> None:
    parameter = Parameter("p", "short", "long", kind=kind, minimum=minimum)
    if parameter.fault(text):
        return
    readers = {"integer": parse_integer, "boolean": parse_flag, "seconds": parse_seconds}
    if kind in readers:
        value = readers[kind](text)
        if minimum is not None and kind != "boolean":
            assert value >= minimum
    if kind == "path":
        assert text.startswith("/")
    assert "\n" not in text and "\0" not in text


# declarations that contradict themselves


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "number"},
        {"kind": "select"},
        {"kind": "string", "values": ("a",)},
        {"kind": "integer", "default": "x"},
        {"kind": "integer", "default": "1", "minimum": 2},
        {"kind": "path", "default": "tmp"},
        {"kind": "select", "values": ("a", "b"), "default": "c"},
        {"required": True, "default": "x"},
        {"name": "CRM_meta_timeout"},
        {"name": "trace_ra"},
    ],
)
def test_contradictory_parameter_is_refused_at_once(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"name": "p", "shortdesc": "s", "longdesc": "l", **wrong}
    with pytest.raises(ValueError, match="parameter "):
        Parameter(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "actions",
    [
        (Action("start", 20), Action("start", 30)),
        (Action("monitor", 20, 10, 0), Action("monitor", 20, 20, 0)),
        (Action("monitor", 20, 10, 0), Action("monitor", 20, 10, 10)),
    ],
)
def test_actions_no_cluster_could_tell_apart_are_refused(actions: tuple[Action, ...]) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        AgentDeclaration("a", "s", "l", (), actions)


def test_same_parameter_twice_is_refused() -> None:
    parameter = Parameter("p", "s", "l")
    with pytest.raises(ValueError, match="parameter p is declared twice"):
        AgentDeclaration("a", "s", "l", (parameter, parameter), ())
