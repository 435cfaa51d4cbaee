"""The examples as an administrator would use them: loaded by the real pcs and the real crm."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import KINDS
from .failover import Standing

#: The examples are judged by the pcs, crm and Pacemaker of each suite, whatever Mailman it serves.
pytestmark = pytest.mark.parametrize("holder", KINDS[:2], indirect=True, ids="-".join)

#: pcs is started some 25 times for one example, which takes minutes on a busy machine (seconds).
LOADING_SECONDS = 300

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "crm-examples"
PAIRS = sorted({path.stem for path in EXAMPLES.iterdir()})

#: The file has no nodes, so crm_verify misses a quorum; a second word of warning is one too many.
VERIFY = """
crm_verify -V -x /tmp/example.xml >/tmp/said 2>&1 || { cat /tmp/said >&2; exit 1; }
if grep -v 'due to lack of quorum' /tmp/said >&2; then exit 1; fi
cat /tmp/example.xml
"""

LOAD_PCS = """
cibadmin --empty > /tmp/example.xml
PCS="pcs -f /tmp/example.xml" sh /tmp/example.pcs >&2
""" + VERIFY

LOAD_CRM = """
cibadmin --empty > /tmp/example.xml
CIB_file=/tmp/example.xml crm configure load update /tmp/example.crm >&2
""" + VERIFY


def example(name: str) -> str:
    """An example, with the fence agent that the nodes of the lab have in the place of its own."""
    text = (EXAMPLES / name).read_text()
    lines = []
    for line in text.splitlines():
        if "fence_ipmilan" in line or "lanplus=1" in line:
            line = re.sub(r"\s(ip|username|password|lanplus)=\S+", "", line)
            line = line.replace("fence_ipmilan", "fence_lab")
        lines.append(line)
    return "\n".join(lines) + "\n"


#: The CIB that came of an example on a suite: each is loaded once.
LOADED: dict[tuple[str, str], str] = {}


def loaded(standing: Standing, name: str) -> ElementTree.Element:
    """Load an example on a node; the CIB that comes of it."""
    lab = standing.lab
    if (lab.suite, name) not in LOADED:
        node = lab.wait_serving()
        suffix = Path(name).suffix
        keep = ["sh", "-ec", 'printf %s "$1" > "$2"', "sh"]
        lab.run(node, [*keep, example(name), f"/tmp/example{suffix}"])
        program = {".pcs": LOAD_PCS, ".crm": LOAD_CRM}[suffix]
        done = lab.run(node, ["sh", "-ec", program], timeout=LOADING_SECONDS)
        LOADED[lab.suite, name] = done.stdout
    return ElementTree.fromstring(LOADED[lab.suite, name])


def resources(cib: ElementTree.Element) -> dict[str, tuple[object, ...]]:
    """Each resource with its members, its parameters and what its meta attributes say."""
    return {
        element.get("id", ""): (
            element.tag,
            [child.get("id") for child in element if child.tag in ("primitive", "group")],
            *(
                {
                    pair.get("name", ""): pair.get("value", "")
                    for pair in element.findall(f"./{kind}_attributes/nvpair")
                }
                for kind in ("instance", "meta")
            ),
        )
        for element in cib.iter()
        if element.tag in ("primitive", "group", "clone")
    }


def monitors(cib: ElementTree.Element) -> set[tuple[str | None, ...]]:
    """Each monitor: of which resource, how often, how long, at which level."""
    return {
        (primitive.get("id"), operation.get("interval"), operation.get("timeout"),
         *(pair.get("value") for pair in operation.iter("nvpair")))
        for primitive in cib.iter("primitive")
        for operation in primitive.iter("op")
        if operation.get("name") == "monitor"
    }


def constraints(cib: ElementTree.Element) -> set[tuple[str, ...]]:
    """What stands where and what before what, with what Pacemaker takes where nothing is said."""
    found = set()
    for element in cib.iter("rsc_order"):
        assert element.get("first-action", "start") == element.get("then-action", "start")
        found.add(("order", element.get("first", ""), element.get("then", ""),
                   element.get("kind", "Mandatory")))
    for element in cib.iter("rsc_colocation"):
        found.add(("colocation", element.get("rsc", ""), element.get("with-rsc", ""),
                   element.get("score", "")))
    for element in cib.iter("rsc_location"):
        found.add(("location", element.get("rsc", ""), element.get("node", ""),
                   element.get("score", "")))
    return found


def comments(name: str) -> list[str]:
    """What an example says must stand in Mailman's configuration."""
    text = (EXAMPLES / name).read_text()
    return re.findall(r"^#   (?:\[|start|instances|class|QRUNNERS|lmtp_host).*", text, re.MULTILINE)


@pytest.mark.parametrize("pair", PAIRS)
def test_examples_for_pcs_and_crm_load_without_a_warning_and_mean_the_same(
    standing: Standing, pair: str
) -> None:
    by_pcs = loaded(standing, f"{pair}.pcs")
    by_crm = loaded(standing, f"{pair}.crm")
    assert {"mailman", "mailman-share", "mailman-janitor", "mailman-address"} <= set(
        resources(by_pcs))
    for part in (resources, monitors, constraints):
        assert part(by_pcs) == part(by_crm), part.__doc__
        assert part(by_pcs)
    assert comments(f"{pair}.pcs") == comments(f"{pair}.crm")


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if "slices" in pair])
def test_survivor_of_the_examples_with_slices_may_take_them_all(
    standing: Standing, pair: str
) -> None:
    found = resources(loaded(standing, f"{pair}.crm"))
    for queue in ("in", "out"):
        _, members, _, meta = found[f"mailman-{queue}-clone"]
        assert members == [f"mailman-{queue}"]
        assert isinstance(meta, dict)
        assert meta["globally-unique"] == "true"
        assert meta["clone-node-max"] == meta["clone-max"]
        if "-21" not in pair:
            section = f"#   [runner.{queue}]"
            said = comments(f"{pair}.crm")
            instances = said[said.index(section) + 2].split()[2]
            assert instances == meta["clone-max"], "Mailman 3 goes by instances"


#: Pacemaker's own scheduler plays what happens, starting from three nodes that run nothing.
#: Each event is a line; what follows it is all that is done because of it.
EVENTS = """
play() {
    for _ in 1 2 3; do
        crm_simulate -x /tmp/played.xml -S -O /tmp/played.xml "$@"
        set --
    done
}
echo event up; play
echo event lost; play --node-fail mail2
echo event back; play --node-up mail2
echo event failed; play --op-inject mailman-share_monitor_20000@mail1=1
"""
ACTION = re.compile(r"^ +\* Resource action: (\S+)\s+(start|stop) on (\S+)$", re.MULTILINE)


def three_nodes_that_run_nothing(cib: ElementTree.Element) -> str:
    """The CIB of an example with its nodes, all of them online."""
    cib.set("have-quorum", "1")
    nodes, status = cib.find("./configuration/nodes"), cib.find("./status")
    assert nodes is not None and status is not None
    for number in "123":
        ElementTree.SubElement(nodes, "node", id=number, uname=f"mail{number}")
        state = ElementTree.SubElement(
            status, "node_state", id=number, uname=f"mail{number}", in_ccm="true",
            crmd="online", join="member", expected="member",
        )
        ElementTree.SubElement(
            ElementTree.SubElement(state, "lrm", id=number), "lrm_resources")
    return ElementTree.tostring(cib, encoding="unicode")


def played(standing: Standing, pair: str) -> dict[str, list[tuple[str, str, str]]]:
    """What Pacemaker would do, in its order, at each of EVENTS: (resource, action, node)."""
    cib = three_nodes_that_run_nothing(loaded(standing, f"{pair}.crm"))
    lab = standing.lab
    node = lab.wait_serving()
    lab.run(node, ["sh", "-ec", 'printf %s "$1" > /tmp/played.xml', "sh", cib])
    text = lab.run(node, ["sh", "-ec", EVENTS], timeout=LOADING_SECONDS).stdout
    return {
        name: [found.groups() for found in ACTION.finditer(happened)]  # type: ignore[misc]
        for name, _, happened in (
            part.partition("\n") for part in text.split("event ")[1:]
        )
    }


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if "slices" in pair])
def test_examples_with_slices_move_only_what_must_move(standing: Standing, pair: str) -> None:
    done = played(standing, pair)
    place = {}
    for resource, action, node in done["up"]:
        if resource.startswith(("mailman-in", "mailman-out")):
            assert action == "start"
            place[resource] = node
    assert set(place.values()) == {"mail1", "mail2", "mail3"}, "not spread"

    def of_slices(event: str) -> set[tuple[str, str]]:
        return {(resource, action) for resource, action, _ in done[event] if resource in place}

    taken = {resource for resource, node in place.items() if node == "mail2"}
    assert of_slices("lost") == {(resource, "start") for resource in taken}
    assert "mailman-share" in {resource for resource, _, _ in done["back"]}
    assert of_slices("back") == set(), "a node that joins must not trouble the others' slices"

    on_mail1 = [entry for entry in done["failed"] if entry[1:] == ("stop", "mail1")]
    names = [resource.partition(":")[0] for resource, _, _ in on_mail1]
    assert {"mailman-in", "mailman-out", "mailman-share"} <= set(names)
    assert names.index("mailman-share") > max(
        number for number, name in enumerate(names) if name in ("mailman-in", "mailman-out")
    ), "the share is taken away under the runners"
    stopped = {resource for resource, _, _ in on_mail1 if resource in place}
    assert {resource for resource, action, node in done["failed"]
            if resource in stopped and action == "start" and node != "mail1"} == stopped
