"""mailman-ha-site(5) and the checker of descriptions know the same keys, defaults and bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mailman_ha.cli.site_page import EXAMPLE
from mailman_ha.topology import description, rendering
from mailman_ha.topology.document import NotSound
from mailman_ha.topology.site import TIMEOUTS

from tests.topology.test_description import GOOD

NONSENSE = "zzqqxx"
SHARES = {
    "nfs": "kind: nfs\n  device: n:/e\n  directory: /m",
    "disk": "kind: disk\n  device: /dev/sdb1\n  directory: /m",
    "drbd": "kind: drbd\n  resource: r0\n  directory: /m",
    "none": "kind: none",
}
WITHOUT_SLICES = GOOD.partition("slices:")[0] + "fencing:" + GOOD.partition("fencing:")[2]
NFS = GOOD.partition("share:\n  ")[2].partition("\nmailman:")[0]

#: Each section of the page, and a description with a nonsense key in that place.
PLACES = {
    "KEYS": f"{GOOD}{NONSENSE}: 1\n",
    "A node": GOOD.replace("{host: lists2.example.org}", f"{{{NONSENSE}: 1}}"),
    "The address": GOOD.replace("192.0.2.10/24", f"{{ip: 192.0.2.10, {NONSENSE}: 1}}"),
    "Mailman": GOOD.replace("version: 3", f"version: 3\n  {NONSENSE}: 1"),
    "A queue in slices": GOOD.replace("in: 4", f"in: {{slices: 4, {NONSENSE}: 1}}"),
    "A fence device": GOOD.replace("nodes: mail2,", f"nodes: mail2, {NONSENSE}: 1,"),
    "Timeouts": GOOD + f"  {NONSENSE}: 1\n",
    **{
        f"The share, kind: {kind}": WITHOUT_SLICES.replace(NFS, f"{text}\n  {NONSENSE}: 1")
        for kind, text in SHARES.items()
    },
}


def mistakes(text: str) -> list[str]:
    """What the checker says of a description; nothing where it is sound."""
    try:
        description.loads(text.encode(), "site.yaml")
    except NotSound as trouble:
        return str(trouble).splitlines()
    return []


@pytest.fixture
def told(read: Callable[[str], str]) -> dict[str, dict[str, str]]:
    """The page's keys by section, each with what is said of it."""
    sections: dict[str, dict[str, str]] = {}
    title = key = ""
    for line in read("mailman-ha-site").splitlines():
        if re.match(r"( {3})?\S", line):
            title, key = line.strip(), ""
        elif found := re.match(r" {7}([a-z_0-9-]+):( .*)", line):
            key = found[1]
            sections.setdefault(title, {})[key] = found[2]
        elif key and line.startswith(" " * 14):
            sections[title][key] += " " + line.strip()
    return sections


@pytest.mark.parametrize("place", PLACES)
def test_page_tells_the_keys_that_the_checker_knows_and_no_others(
    told: dict[str, dict[str, str]], place: str
) -> None:
    (said,) = [line for line in mistakes(PLACES[place]) if NONSENSE in line]
    known = said.partition("known here: ")[2].split(", ")
    assert list(told[place]) == known


def test_page_has_no_section_of_keys_besides_these(told: dict[str, dict[str, str]]) -> None:
    assert set(told) == set(PLACES)


def without(text: str, *path: str) -> str:
    """The description without the key at this path."""
    tree = yaml.load(text, yaml.BaseLoader)
    below = tree
    for name in path[:-1]:
        below = below[name]
    below.pop(path[-1])
    return str(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("place", "path", "text"),
    [
        ("KEYS", (), GOOD),
        ("The share, kind: nfs", ("share",), GOOD),
        ("The share, kind: disk", ("share",), WITHOUT_SLICES.replace(NFS, SHARES["disk"])),
        ("The share, kind: drbd", ("share",), WITHOUT_SLICES.replace(NFS, SHARES["drbd"])),
        ("Mailman", ("mailman",), WITHOUT_SLICES),
        ("A fence device", ("fencing", "fence-mail1"), GOOD),
        ("A queue in slices", ("slices", "in"), GOOD.replace("in: 4", "in: {slices: 4}")),
        ("The address", ("address",), GOOD.replace("192.0.2.10/24", "{ip: 192.0.2.10}")),
    ],
)
def test_page_says_of_each_key_whether_it_must_be_there(
    told: dict[str, dict[str, str]], place: str, path: tuple[str, ...], text: str
) -> None:
    tree = yaml.load(text, yaml.BaseLoader)
    for name in path:
        tree = tree[name]
    assert mistakes(text) == []
    for key, said in told[place].items():
        refused = key in tree and any(
            f"{key}: is missing" in line for line in mistakes(without(text, *path, key))
        )
        assert ("It must be there." in said) == refused, key


def test_defaults_that_the_page_tells_are_those_that_hold(
    told: dict[str, dict[str, str]]
) -> None:
    for kind in ("nfs", "disk", "drbd"):
        text = WITHOUT_SLICES.replace(NFS, SHARES[kind])
        share = description.loads(text.encode(), "site.yaml").share
        said = told[f"The share, kind: {kind}"]
        for key in ("fstype", "options", "device"):
            default = said[key].partition("Where it is not there: ")[2].rstrip(".")
            if default:
                assert getattr(share, key) == default.replace("RESOURCE", "r0")
        assert "Where it is not there" in said["fstype"]
    site = description.loads(GOOD.encode(), "site.yaml")
    assert f"Where it is not there: {site.mailman.run_by}." in told["Mailman"]["run_by"]
    assert site.devices[0].nodes == ("mail1",)
    everybody = GOOD.replace(" nodes: [mail1],", "")
    assert description.loads(everybody.encode(), "x").devices[0].nodes == ("mail1", "mail2")
    assert "Where it is not there: all." in told["A fence device"]["nodes"]


def test_timeouts_that_the_page_tells_are_the_least_that_the_checker_takes(
    told: dict[str, dict[str, str]]
) -> None:
    for part, operations in TIMEOUTS.items():
        shown = re.findall(r"([a-z0-9-]+) (\d+)[,.]", told["Timeouts"][part])
        assert shown == [(name, str(seconds)) for name, seconds in operations.items()]
    least = TIMEOUTS["mailman"]["start"]
    for seconds, sound in ((least, True), (least - 1, False), (3600, True), (3601, False)):
        said = mistakes(GOOD.replace("start: 2min", f"start: {seconds}"))
        assert (said == []) is sound, said


def test_bounds_that_the_page_tells_are_those_of_the_checker(
    told: dict[str, dict[str, str]]
) -> None:
    def nodes(count: int) -> list[str]:
        names = ", ".join(f"n{number}" for number in range(count))
        return mistakes(
            f"nodes: [{names}]\naddress: none\nshare: none\nmailman: {{version: 3}}\n"
            "fencing: {f: {agent: fence_x}}\n"
        )

    assert "from 2 to 32," in told["KEYS"]["nodes"]
    assert [bool(nodes(count)) for count in (1, 2, 32, 33)] == [True, False, False, True]
    assert "at most 64;" in told["A queue in slices"]["slices"]
    assert not mistakes(GOOD.replace("in: 4", "in: 64")) and mistakes(
        GOOD.replace("in: 4", "in: 128"))
    assert "at most 300 seconds" in told["A fence device"]["delay"]
    for seconds, sound in ((300, True), (301, False)):
        said = mistakes(GOOD.replace("nodes: [mail1],", f"nodes: [mail1], delay: {seconds},"))
        assert (said == []) is sound, said


def test_example_of_the_page_is_sound_and_is_the_one_of_the_readme(
    read: Callable[[str], str]
) -> None:
    site = description.loads(EXAMPLE.encode(), "site.yaml")
    assert "mailman-janitor" in rendering.render(site, "pcs", "site.yaml")
    shown = read("mailman-ha-site")
    for line in EXAMPLE.splitlines():
        assert line in shown
    readme = Path(__file__).resolve().parent.parent.parent / "README.md"
    assert f"```yaml\n{EXAMPLE}```" in readme.read_text()
