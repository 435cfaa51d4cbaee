"""The package on the nodes of a running cluster: upgraded under it, and not taken from under it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.client import Completed, Lab
from tests.cluster.conftest import bring_up
from tests.packages.built_packages import Packages

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SUITE, SITE = "trixie", "standin21"
#: Longer than the longest interval of a monitor in the lab, in seconds.
ALL_MONITORS = 12.0


def put(lab: Lab, node: str, package: Path) -> str:
    """Copy a package file to a node; its name there."""
    name = f"/root/{package.name}"
    Path(f"/proc/{lab.inits()[node]}/root{name}").write_bytes(package.read_bytes())
    return name


def install(lab: Lab, node: str, package: Path) -> None:
    lab.run(node, ["dpkg", "-i", put(lab, node, package)], timeout=120)


def version(lab: Lab, node: str) -> str:
    return lab.run(node, ["mailman-ha", "--version"]).stdout.split()[-1]


def remove(lab: Lab, node: str, how: str = "--remove") -> Completed:
    return lab.run(node, ["dpkg", how, "mailman-ha"], timeout=120, check=False)


@pytest.fixture(scope="module")
def lab(packages: Packages) -> Iterator[Lab]:
    """A cluster that serves, its nodes with the package in place of the lab's `make install`."""
    lab = bring_up(SUITE, SITE, word="pkg")
    try:
        for node in lab.node_names:
            install(lab, node, packages.of_this["deb"])
            # The image takes no manual pages from packages, so these are not replaced.
            lab.run(node, ["rm", "-rf", "/usr/share/man"])
        yield lab
    finally:
        lab.down()


@pytest.fixture
def undisturbed(lab: Lab) -> Iterator[Callable[[], None]]:
    """A check that the cluster has served all the time, with the same processes: call it."""
    node = lab.wait_serving(60)
    daemons = lab.daemons()

    def check() -> None:
        time.sleep(ALL_MONITORS)
        assert lab.wait_serving(1) == node
        assert lab.daemons() == daemons
        assert lab.failures() == []

    yield check


def test_cluster_serves_on_through_upgrade_and_downgrade(
    lab: Lab, packages: Packages, undisturbed: Callable[[], None]
) -> None:
    before = version(lab, "n1")
    for package, wanted in ((packages.of_next, "99.1"), (packages.of_this, before)):
        for node in lab.node_names:
            install(lab, node, package["deb"])
            assert version(lab, node) == wanted
        undisturbed()


def test_removal_is_refused_while_the_cluster_has_resources(
    lab: Lab, undisturbed: Callable[[], None]
) -> None:
    for node in lab.node_names:
        done = remove(lab, node)
        assert done.returncode != 0
        assert "not removed" in done.stderr and "crm cluster stop" in done.stderr
        ours = done.stderr.split("(")[1].split(")")[0].split()
        assert set(ours) == {"mailman", "janitor"}
        status = ["dpkg-query", "-W", "-f", "${db:Status-Status}", "mailman-ha"]
        assert lab.run(node, status).stdout == "installed"
    undisturbed()


def test_removal_is_refused_in_time_where_the_cluster_does_not_answer(lab: Lab) -> None:
    node = passive(lab)
    lab.run(node, ["sh", "-c", "kill -STOP $(pidof pacemaker-based)"])
    try:
        began = time.monotonic()
        done = remove(lab, node)
        assert done.returncode != 0 and "mailman" in done.stderr.split("(")[1]
        assert time.monotonic() - began < 30
    finally:
        lab.run(node, ["sh", "-c", "kill -CONT $(pidof pacemaker-based)"])
    lab.wait_members(90)


def test_purge_on_a_node_whose_cluster_is_stopped_leaves_no_file(
    lab: Lab, packages: Packages
) -> None:
    served = lab.wait_serving(60)
    node = passive(lab)
    lab.run(node, ["sh", "-c", "kill $(pidof pacemakerd)"])
    stopped = ["sh", "-c", "! pidof pacemakerd"]
    lab.wait_until(
        "Pacemaker is stopped", lambda: lab.run(node, stopped, check=False).returncode == 0, 60
    )
    done = remove(lab, node, "--purge")
    assert done.returncode == 0, done.stderr
    find = ["find", "/usr", "/run", "/etc", "/var/lib", "-xdev", "-name", "*mailman-ha*"]
    apart = ("/usr/lib/mailman-ha-lab",)
    left = lab.run(node, find).stdout.split()
    assert [name for name in left if not name.startswith(apart)] == []
    assert lab.run(node, ["ls", "/usr/lib/ocf/resource.d"]).stdout.split().count("mailman") == 0
    install(lab, node, packages.of_this["deb"])
    lab.run(node, ["setsid", "-f", "sh", "-c", "exec pacemakerd >/dev/null 2>&1"])
    lab.wait_members(90)
    assert lab.wait_serving(60) == served


def passive(lab: Lab) -> str:
    """The node that does not serve."""
    (other,) = set(lab.node_names) - {lab.active_node()}
    return other
