"""What the simulation tells is what Pacemaker's scheduler does, in an order that can happen."""

from __future__ import annotations

import shutil
from xml.etree import ElementTree

import pytest
from mailman_ha.topology import description, picture, shape, simulation, transition
from mailman_ha.topology.simulation import Simulation

from . import sites

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _tools() -> None:
    if shutil.which("crm_simulate", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("crm_simulate is not installed; make test-packages")


def play(name: str, kind: str, thing: str, node: str = "") -> Simulation:
    """The simulation of an example, held against what is true of every one."""
    site = sites.example(name)[0]
    played = simulation.simulate(site, kind, thing, node)
    for place, step in enumerate(played.steps):
        assert all(other < place for other, _ in step.after), "before what it waits for"
    running = {(one, node.partition(" ")[0]) for one, nodes in played.before.items()
               for node in nodes}
    for step in played.steps:
        name = next((one for one in (step.resource, transition.base_name(step.resource))
                     if one in played.before), step.resource)
        if step.action in ("stop", "ended"):
            assert (name, step.node) in running, "stopped where it ran"
            running.discard((name, step.node))
        elif step.action == "start":
            if len(played.before[name]) == 1:
                assert name not in {one for one, _ in running}, "never on two nodes"
            running.add((name, step.node))
    assert running == {(one, node.partition(" ")[0]) for one, nodes in played.after.items()
                       for node in nodes}, "the steps lead from before to after"
    return played


def words(played: Simulation) -> list[str]:
    return [" ".join(filter(None, (step.action, step.resource, step.node)))
            for step in played.steps]


def place(played: Simulation, step: str) -> int:
    return words(played).index(step)


def test_lost_node_is_fenced_before_anything_starts_and_the_group_starts_in_order() -> None:
    played = play("two-nodes-nfs", "lose", "mail1")
    told = words(played)
    members = ("mailman-share", "mailman-janitor", "mailman-address", "mailman")
    starts = [f"start {member} mail2" for member in members]
    assert [step for step in told if step in starts] == starts
    assert told.index("fence mail1") < told.index(starts[0])
    assert all(f"ended {member} mail1" in told for member in members)
    first = played.steps[told.index(starts[1])]
    assert first.after == ((told.index(starts[0]), "group mail"),)
    assert played.missing == ()
    assert played.after["mailman"] == ("mail2",)


def test_standby_fences_nobody_and_stops_in_the_other_order() -> None:
    played = play("two-nodes-nfs", "standby", "mail1")
    told = words(played)
    assert not any(step.startswith("fence ") for step in told)
    stops = [f"stop {name} mail1" for name in
             ("mailman", "mailman-address", "mailman-janitor", "mailman-share")]
    assert [step for step in told if step in stops] == stops
    assert place(played, stops[-1]) < place(played, "start mailman-share mail2")
    assert played.steps[place(played, stops[0])].why == "mail1 is on standby"


def test_drbd_is_promoted_before_the_share_is_mounted() -> None:
    played = play("two-nodes-drbd", "lose", "mail1")
    promoted, mounted = (place(played, step) for step in
                         ("promote mailman-drbd mail2", "start mailman-share mail2"))
    assert (promoted, "order drbd-before-mail") in played.steps[mounted].after
    assert played.before["mailman-drbd"] == ("mail1 (promoted)", "mail2")
    assert played.after["mailman-drbd"] == ("mail2 (promoted)",)


@pytest.mark.parametrize("name", ["three-nodes-slices", "three-nodes-slices-21"])
def test_survivors_take_the_slices_of_the_lost_node_and_keep_their_own(name: str) -> None:
    before = play(name, "standby", "mail1").before
    slices = {one: nodes for one, nodes in before.items() if ":" in one}
    assert {node for nodes in slices.values() for node in nodes} == {"mail1", "mail2", "mail3"}
    played = play(name, "lose", "mail2")
    moved = {step.resource for step in played.steps if step.action == "start" and
             ":" in step.resource}
    assert moved == {one for one, nodes in slices.items() if nodes == ("mail2",)}
    assert played.missing == ()


def test_where_the_share_fails_the_slices_stop_first_and_leave() -> None:
    played = play("three-nodes-slices", "fail", "mailman-share", "mail1")
    told = words(played)
    mine = [one for one, nodes in played.before.items() if ":" in one and nodes == ("mail1",)]
    assert mine
    for one in mine:
        assert told.index(f"stop {one} mail1") < told.index("stop mailman-share mail1")
        assert played.after[one] != ("mail1",)
        step = played.steps[told.index(f"stop {one} mail1")]
        assert step.why == (
            f"it runs only where mail-base-clone does (colocation "
            f"{one.partition(':')[0].partition('-')[2]}-with-base)"
        )


def test_failed_slice_is_stopped_and_started_and_nothing_else_is_touched() -> None:
    before = play("three-nodes-slices", "standby", "mail1").before
    (node,) = before["mailman-in:2"]
    played = play("three-nodes-slices", "fail", "mailman-in:2")
    assert words(played) == [f"stop mailman-in:2 {node}", f"start mailman-in:2 {node}"]
    assert played.steps[0].why == "its monitor failed"


def test_slices_with_places_of_their_own_are_where_they_would_rather_be() -> None:
    text = (sites.EXAMPLES / "three-nodes-slices-21.yaml").read_text()
    text = text.replace("  in: 3  ", "  in: {slices: 3, prefer: [mail2, mail3, mail2]}  ")
    site = description.loads(text.encode(), "site.yaml")
    played = simulation.simulate(site, "lose", "mail3")
    assert [played.before[f"mailman-in-{number}"] for number in range(3)] == [
        ("mail2",), ("mail3",), ("mail2",)]
    moved = [step.resource for step in played.steps
             if step.action == "start" and step.resource.startswith("mailman-in")]
    assert moved == ["mailman-in-1"] and played.missing == ()


@pytest.mark.parametrize("name", sites.NAMES)
def test_every_example_serves_again_whichever_node_is_lost(name: str) -> None:
    site = sites.example(name)[0]
    for node in site.nodes:
        played = play(name, "lose", node.name)
        assert played.missing == ()
        assert words(played).count(f"fence {node.name}") == 1
        for one in transition.instances(shape.build(site)):
            assert played.after[one], f"{one} runs nowhere"


def test_what_the_site_does_not_have_is_told() -> None:
    site = sites.example("two-nodes-nfs")[0]
    with pytest.raises(simulation.NoSuchThing, match="its nodes: mail1, mail2"):
        simulation.simulate(site, "lose", "mail9")
    with pytest.raises(simulation.NoSuchThing, match="its resources: fence-mail1"):
        simulation.simulate(site, "fail", "mail")
    with pytest.raises(simulation.NoSuchThing, match="mailman does not run on mail2, but on mail1"):
        simulation.simulate(site, "fail", "mailman", "mail2")


def test_missing_crm_simulate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = simulation.command.run
    monkeypatch.setattr(
        simulation.command, "run",
        lambda words, *more, **options: real(["/nonexistent/" + words[0], *words[1:]], *more,
                                             **options),
    )
    with pytest.raises(simulation.CannotSimulate, match="apt-get install pacemaker-cli-utils"):
        simulation.simulate(sites.example("two-nodes-nfs")[0], "lose", "mail1")
    played = Simulation(transition.Event("lose", "a"), {}, (), {}, ())
    with pytest.raises(picture.CannotDraw, match="apt-get install graphviz"):
        picture.svg(played, "title")


def test_picture_has_every_step_and_arrow() -> None:
    if shutil.which("dot") is None:
        pytest.skip("dot is not installed; make test-packages")
    played = play("three-nodes-slices", "lose", "mail3")
    root = ElementTree.fromstring(picture.svg(played, 'A "title" \\n & <b>'))
    groups = [group.get("class") for group in root.iter(f"{SVG}g")]
    assert groups.count("node") == len(played.steps)
    assert groups.count("edge") == sum(len(step.after) for step in played.steps)
    text = " ".join(each.text or "" for each in root.iter(f"{SVG}text"))
    assert 'A "title" \\n & <b>' in text
    assert "1. fence mail3" in text and "order base-before-in" in text
