"""No link of our pages leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from .markdown import CHECKOUT, PAGES, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    found = [link for link in links(text) if "://" not in link]
    assert found or "\nWritten by `make " in text, "the page links nowhere"
    for link in found:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(CHECKOUT), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {CHECKOUT / "README.md"}
    while True:
        more = {
            (page.parent / link.partition("#")[0]).resolve()
            for page in reached for link in links(page.read_text())
            if link.partition("#")[0].endswith(".md") and "://" not in link
        }
        if more <= reached:
            break
        reached |= more
    assert set(PAGES) <= reached
