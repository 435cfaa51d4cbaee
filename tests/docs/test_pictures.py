"""The pictures are what their programs draw: from the library, and from a real failover."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pictures import architecture, failover
from pictures.failover import Failover
from tests.architecture.test_imports import FLOOR_OF

from .markdown import CHECKOUT

DOCS = CHECKOUT / "docs"
PICTURES = sorted(DOCS.glob("*.svg"))
NAME = "{http://www.w3.org/2000/svg}"

SHORT = Failover(
    "n1", "n2", 0.4, 2.5, 2.0, 5.25, accepted=[-1.5, -0.5, 5.5, 6.0], delivered=[5.25, 5.5, 6.5],
    lost=0, twice=1,
)


def test_pictures_that_the_readme_shows_are_there() -> None:
    assert {path.name for path in PICTURES} == {"architecture.svg", "failover.svg"}
    readme = (CHECKOUT / "README.md").read_text()
    for path in PICTURES:
        assert re.search(rf"!\[[^\]]{{40,}}\]\(docs/{path.name}\)", readme), "no text in its place"


def test_architecture_is_drawn_as_the_library_is() -> None:
    drawn = (DOCS / "architecture.svg").read_text()
    assert drawn == architecture.draw().svg(), "make pictures, and commit docs/architecture.svg"


def test_architecture_has_every_package_and_puts_none_above_what_imports_it() -> None:
    imported = architecture.imports()
    rows = architecture.floors(imported)
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    assert set(row_of) == set(FLOOR_OF)
    assert imported["agents"] and imported["ocf"] == set()
    for name, others in imported.items():
        assert all(row_of[other] > row_of[name] for other in others)
        assert all(FLOOR_OF[other] > FLOOR_OF[name] for other in others)


def test_packages_that_import_each_other_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="a → b → a"):
        architecture.floors({"a": {"b"}, "b": {"a"}})


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert architecture.without_what_follows({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {
        "a": {"b"}, "b": {"c"}, "c": set()
    }


def test_failover_of_the_docs_is_drawn_from_the_measurements_in_it() -> None:
    drawn = (DOCS / "failover.svg").read_text()
    measured = failover.read(drawn)
    assert drawn == failover.draw(measured).svg(), "drawn by hand, or by another program"
    assert measured.lost == 0 and measured.delivery is not None
    assert len(measured.accepted) >= 50 and len(measured.delivered) == len(measured.accepted)


def test_failover_that_the_readme_tells_in_words_is_the_one_of_the_picture() -> None:
    measured = failover.read((DOCS / "failover.svg").read_text())
    readme = (CHECKOUT / "README.md").read_text()
    (words,) = re.findall(r"!\[([^\]]+)\]\(docs/failover\.svg\)", readme)
    for moment, what in measured.steps()[1:]:
        assert f"{moment:.1f} s {what}" in " ".join(words.split())
    assert failover.put_words(readme, (DOCS / "failover.svg").read_text()) == readme


def test_every_moment_and_every_post_is_in_the_picture() -> None:
    tree = ElementTree.fromstring(failover.draw(SHORT).svg())
    texts = [one.text or "" for one in tree.iter(f"{NAME}text")]
    for moment, what in SHORT.steps():
        assert f"{moment:.1f} s" in texts and what in texts
    ticks = [one for one in tree.iter(f"{NAME}polyline") if one.get("class") == "tick"]
    assert len(ticks) == 7
    order = [moment for moment, _ in SHORT.steps()]
    assert order == sorted(order) == [0.0, 0.4, 2.0, 2.5, 5.25, 5.5]


@pytest.mark.parametrize("missing", ["fenced", "address", "master", "delivery"])
def test_what_never_happened_is_not_drawn(missing: str) -> None:
    without = replace(SHORT, **{missing: None})
    tree = ElementTree.fromstring(failover.draw(without).svg())
    assert len(without.steps()) == len(SHORT.steps()) - 1
    for box in tree.iter(f"{NAME}rect"):
        assert float(box.get("width", "0")) > 0 and float(box.get("x", "0")) >= 0


def test_measurements_survive_the_picture() -> None:
    again = failover.read(failover.draw(SHORT).svg())
    assert again == SHORT


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_picture_is_readable_on_light_and_dark_and_has_words_for_who_cannot_see(
    path: Path,
) -> None:
    text = path.read_text()
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    named = (root.get("aria-labelledby") or "").split()
    assert [root.find(f"{NAME}{tag}").get("id") for tag in ("title", "desc")] == named  # type: ignore
    assert len(root.findtext(f"{NAME}desc") or "") > 100
    light, _, dark = (root.findtext(f"{NAME}style") or "").partition("prefers-color-scheme: dark")
    for kind in {one.get("class", "").split(" ")[0] for one in root.iter()} - {""}:
        if f".{kind} {{ fill" in light or f".{kind} {{ stroke" in light:
            assert f".{kind} {{" in dark, kind
    assert not re.search(r"(href|src|url)\s*=\s*\"http", text), "it loads something"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2 reckons it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_everything_that_it_is_written_on(page: int) -> None:
    from pictures.drawing import COLOURS

    fills = {
        name: found[1] for name, pair in COLOURS.items()
        if (found := re.search(r"fill: (#[0-9a-f]{6})", pair[page]))
    }
    for ink in ("text", ".faint"):
        for ground in (".page", ".box", ".good", ".bad", ".work", ".idle"):
            if ink == ".faint" and ground not in (".page", ".box"):
                continue  # never written there
            assert contrast(fills[ink], fills[ground]) >= 4.5, (ink, ground)
