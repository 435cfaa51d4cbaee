"""One lab for each suite and kind of Mailman, shared by the tests; each test finds it serving.

Where a lab cannot run, the tests fail and say what is missing: they are never skipped.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import pytest

from lab.client import Lab, LabFailure

from .failover import LIST, MAILMAN21_GIVEN, Standing, subscribers_of

#: Each suite and each Mailman. The other two pairs take part with ALL_KINDS=1; in CI they are in
#: the campaign's rounds, as is Mailman 3 with all of its runners.
KINDS = [("bookworm", "standin21"), ("trixie", "mailman3-few-runners")]
if os.environ.get("ALL_KINDS"):
    KINDS += [("bookworm", "mailman3-few-runners"), ("trixie", "standin21")]
if MAILMAN21_GIVEN:
    KINDS.append(("trixie", "mailman21"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is a cluster test, and may first have to build an image."""
    here = os.path.dirname(__file__) + os.sep
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let the fixtures know whether the test failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        item.stash[FAILED] = True


FAILED = pytest.StashKey[bool]()
MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a line of what a test measured; all lines are printed at the end of the run."""
    lines = request.config.stash.setdefault(MEASURED, [])

    def note(text: str) -> None:
        lines.append(f"{request.node.name}: {text}")
        print(text)

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What the tests measured, whether they passed or not."""
    if config.stash.get(MEASURED, []):
        terminalreporter.section("measured on the clusters")
        for line in config.stash[MEASURED]:
            terminalreporter.line(line)


def bring_up(suite: str, site: str, nodes: int = 2, word: str = "test") -> Lab:
    """A lab that serves a list; it goes down with this process, however that ends. `word` tells it
    from another of the same kind that is up."""
    name = f"{word}{nodes}-{os.getpid()}-{suite}-{site}"[:31]
    lab = Lab(name, suite=suite, nodes=nodes, site=site)
    lab.up(owned=True)
    try:
        lab.wait_members(90)
        lab.wait_serving(120)
        lab.create_list(LIST, subscribers_of(lab))
    except BaseException:
        lab.down()
        raise
    return lab


@pytest.fixture(scope="session", params=KINDS, ids="-".join)
def holder(request: pytest.FixtureRequest) -> Iterator[list[Lab]]:
    """The lab of this suite and site, in a list so that a broken one can be replaced."""
    labs: list[Lab] = []
    try:
        labs.append(bring_up(*request.param))
        yield labs
    finally:
        for lab in labs:
            lab.down()


@pytest.fixture
def standing(holder: list[Lab], request: pytest.FixtureRequest) -> Iterator[Standing]:
    """A lab with every node a member, one of them serving, and nothing on its slate."""
    lab = holder[0]
    try:
        lab.wait_members(60)
        lab.wait_serving(60)
    except LabFailure:  # an earlier test broke it, and has said so
        lab.down()
        lab = holder[0] = bring_up(lab.suite, lab.site.name)
    began = time.time()
    yield Standing(lab, began)
    if FAILED in request.node.stash:
        show(lab, began)


def show(lab: Lab, began: float) -> None:
    """Print what happened in the lab since then, for the report of a failed test."""
    with contextlib.suppress(LabFailure):
        print(lab.describe())
    for event in [*lab.events(), *lab.observations()]:
        if event["time"] >= began:
            print(f"{event['time'] - began:8.2f}", {**event, "time": None})
    for node in lab.node_names:
        with contextlib.suppress(LabFailure):
            log = lab.run(node, ["tail", "-n", "80", "/var/log/syslog"], check=False).stdout
            print(f"--- syslog of {node}\n{log}")
