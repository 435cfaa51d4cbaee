"""pytest fixtures on tests.installations; conftest.py takes them with

    from tests.installation_fixture import *

`installation`         a private Mailman: stand-in, Mailman 3; 2.1 where MAILMAN21_PREFIX is set
`installation21`       the same without Mailman 3
`make_installation`    makes more, or one with options: make_installation("standin", slices=...)

A test that needs only some of them says `@pytest.mark.parametrize("installation", ["standin"],
indirect=True)`; a "mailman21" asked for like this, or by make_installation, is skipped where
MAILMAN21_PREFIX is not set.  The kinds are KINDS and, without Mailman 3, KINDS21.

Where a test is marked `no_posts`, a Mailman 3 has one runner and not the four that carry a post:
each takes a second of a processor to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.installations import Installation, PrivateSpace, RealMailman21

__all__ = [
    "KINDS",
    "KINDS21",
    "installation",
    "installation21",
    "make_installation",
    "private_space",
]

KINDS21 = ("standin", "mailman21") if RealMailman21.original() else ("standin",)
KINDS = (*KINDS21, "mailman3")


@pytest.fixture(scope="session")
def private_space() -> Iterator[PrivateSpace]:
    """The directory of this test run, reachable for Mailman's user."""
    space = PrivateSpace()
    yield space
    space.close()


@pytest.fixture
def make_installation(
    request: pytest.FixtureRequest, private_space: PrivateSpace
) -> Iterator[Callable[..., Installation]]:
    made: list[Installation] = []
    no_posts = request.node.get_closest_marker("no_posts") is not None

    def make(kind: str, **options: object) -> Installation:
        if kind == "mailman21" and RealMailman21.original() is None:
            pytest.skip("MAILMAN21_PREFIX names no installation of Mailman 2.1")
        if kind == "mailman3" and no_posts:
            options = {"runners": ("in",), **options}
        installation = private_space.installation(kind, **options)
        made.append(installation)
        return installation

    yield make
    for installation in made:
        installation.close()


@pytest.fixture(params=KINDS)
def installation(
    request: pytest.FixtureRequest, make_installation: Callable[..., Installation]
) -> Installation:
    return make_installation(request.param)


@pytest.fixture(params=KINDS21)
def installation21(
    request: pytest.FixtureRequest, make_installation: Callable[..., Installation]
) -> Installation:
    return make_installation(request.param)
