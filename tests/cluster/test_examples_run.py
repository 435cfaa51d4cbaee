"""Each example is brought up on a real cluster: its resources, groups, clones and constraints as
they are rendered, with the lab's nodes, share, address, fence agent and Mailman in the place of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from mailman_ha.ocf.record import replace
from mailman_ha.topology import cib_xml, pcs_commands, shape, transition
from mailman_ha.topology.site import DRBD, NONE, SITE, Address, Device, Node, Share, Site

from lab.client import Lab
from lab.cluster import VIRTUAL_ADDRESS
from tests.topology import sites
from tests.topology.pacemaker_tools import PROJECT

from .conftest import bring_up

#: The labs, and the examples that are brought up on each, one after the other.
RUNS = {
    ("trixie", "mailman3", 2): ("two-nodes-nfs", "two-nodes-drbd"),
    ("bookworm", "standin21", 2): ("two-nodes-disk",),
    ("bookworm", "mailman3-slices", 3): ("three-nodes-slices", "mailman3-postgresql"),
    ("trixie", "standin21-slices", 3): ("three-nodes-slices-21", "janitor-alone"),
}
SETTLED = 60  # seconds

#: A stand-in for DRBD's agent, which needs a kernel module: it only notes its state.
INSTALL_DRBD = (
    "mkdir -p /usr/lib/ocf/resource.d/linbit; "
    'printf %s "$1" > /usr/lib/ocf/resource.d/linbit/drbd; '
    "chmod 755 /usr/lib/ocf/resource.d/linbit/drbd"
)

#: Everything stops, then what is configured is what the example says, then everything starts.
REPLACE = f"""
crm_attribute --name stop-all-resources --update true
crm_resource --wait --timeout {SETTLED}
printf %s "$1" > /tmp/resources.xml; printf %s "$2" > /tmp/constraints.xml
cibadmin --replace --scope constraints --xml-text '<constraints/>'
cibadmin --replace --scope resources --xml-file /tmp/resources.xml
cibadmin --replace --scope constraints --xml-file /tmp/constraints.xml
crm_attribute --name stop-all-resources --delete
crm_resource --wait --timeout {SETTLED}
crm_verify -L -V
"""

#: Nothing is configured any more.
CLEAR = f"""
crm_attribute --name stop-all-resources --update true
crm_resource --wait --timeout {SETTLED}
cibadmin --replace --scope constraints --xml-text '<constraints/>'
cibadmin --replace --scope resources --xml-text '<resources/>'
crm_attribute --name stop-all-resources --delete
"""

#: A site's description as commands for pcs, typed on a node of the cluster.
LOAD = f"""
printf %s "$1" > /tmp/site.pcs
sh /tmp/site.pcs
crm_resource --wait --timeout {SETTLED}
"""


def test_each_example_has_a_lab_to_run_on() -> None:
    assert sorted(name for names in RUNS.values() for name in names) == sites.NAMES


@pytest.fixture(scope="module", params=RUNS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab that serves with its own configuration."""
    suite, site, nodes = request.param
    lab = bring_up(suite, site, nodes)
    try:
        yield lab
    finally:
        lab.down()


def in_lab(site: Site, lab: Lab) -> Site:
    """The site with the lab's things in the place of its own, and of the same shape."""
    names = {node.name: ours for node, ours in zip(site.nodes, lab.node_names)}
    parameters = {**lab.site.agent_parameters()}
    version = parameters.pop("mailman_version")
    assert version == site.mailman.version
    share = Share(site.share.kind)
    if site.share.kind != NONE:
        everywhere = lab.site.on_several_nodes
        share = replace(
            site.share, directory=lab.site.mount_point,
            device="/srv/shared-directory" if everywhere else "/dev/shared-disk",
            fstype="none" if everywhere else "ext4", options="bind" if everywhere else "",
        )
    return replace(
        site,
        nodes=tuple(Node(names[node.name]) for node in site.nodes),
        address=Address(VIRTUAL_ADDRESS, "24", "eth0") if site.address else None,
        share=share,
        mailman=replace(site.mailman, parameters=tuple(parameters.items())),
        devices=tuple(
            Device(device.name, "fence_lab", tuple(names[node] for node in device.nodes),
                   delays=tuple((names[node], 2) for node, _ in device.delays))
            for device in site.devices
        ),
    )


def running(lab: Lab, node: str) -> set[str]:
    """The resources that run now."""
    text = lab.run(node, ["crm_mon", "-1", "--output-as=xml"]).stdout
    return {
        resource.get("id", "") for resource in ElementTree.fromstring(text).iter("resource")
        if resource.get("active") == "true" and resource.get("failed") == "false"
    }


def test_examples_come_up_as_they_are_rendered(lab: Lab) -> None:
    for name in RUNS[lab.suite, lab.site.name, len(lab.node_names)]:
        site = in_lab(sites.example(name)[0], lab)
        node = lab.node_names[0]
        drbd = (PROJECT / "tests" / "topology" / "stand_ins" / "drbd").read_text()
        for each in lab.node_names:
            if site.share.kind == DRBD:
                lab.run(each, ["sh", "-ec", INSTALL_DRBD, "sh", drbd])
        configuration = shape.build(site)
        root = cib_xml.tree(configuration)
        parts = [ElementTree.tostring(root.find(f"./configuration/{part}"), encoding="unicode")
                 for part in ("resources", "constraints")]
        if site.share.kind == NONE:  # the site mounts it itself, once the cluster has let it go
            mount = f"mount --bind /srv/shared-directory {lab.site.mount_point}"
            lab.run(node, ["crm_attribute", "--name", "stop-all-resources", "--update", "true"])
            lab.run(node, ["crm_resource", "--wait", "--timeout", str(SETTLED)], SETTLED + 5)
            for each in lab.node_names:
                lab.run(each, ["sh", "-ec", mount])
        said = lab.run(node, ["sh", "-ec", REPLACE, "sh", *parts], 3 * SETTLED)
        for bad in ("warning", "error"):
            assert bad not in (said.stdout + said.stderr).lower(), name
        found = running(lab, node)
        wanted = [*transition.instances(configuration), *(device.name for device in site.devices)]
        assert [one for one in wanted if one not in found] == [], name
        assert lab.failures() == [], name
        if site.mailman.run_by != SITE:
            assert len(lab.masters()) == 1, name


@pytest.mark.parametrize("lab", [("trixie", "mailman3", 2)], indirect=True, ids=["trixie-mailman3"])
def test_site_that_is_loaded_with_pcs_outlives_its_node(lab: Lab) -> None:
    """No resource was tried where its share is not, so none is banned from the other node."""
    site = in_lab(sites.example("two-nodes-nfs")[0], lab)
    node = lab.node_names[0]
    lab.run(node, ["sh", "-ec", CLEAR], 2 * SETTLED)
    lab.run(
        node, ["sh", "-ec", LOAD, "sh", pcs_commands.render(shape.build(site))], 2 * SETTLED
    )
    assert lab.failures() == []
    (active,) = lab.masters()
    lab.kill(active)
    lab.wait_until(
        "Mailman runs on the other node",
        lambda: [one for one in lab.masters() if one != active], 90,
    )
    assert lab.failures() == []
