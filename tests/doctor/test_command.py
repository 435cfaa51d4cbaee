"""mailman-ha doctor as it is typed, beside a cluster whose programs are made up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mailman_ha.doctor import node_facts

from tests.agents.agent_runs import Agents, ClusterPicture, NodePicture
from tests.installations import Installation

from .good_site import ADDRESS, FENCES, GROUP, JANITOR, MASTER, SHARE, cib, facts

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PROGRAM = CHECKOUT / "lib" / "mailman_ha" / "cli" / "mailman-ha"
SCHEMA = CHECKOUT / "lib" / "mailman_ha" / "cli" / "schemas" / "doctor.json"

LISTED = (
    '<pacemaker-result><list name="Registered fence devices" count="1"><item name="device">f'
    '</item></list><status code="0" message="OK"/></pacemaker-result>'
)


@dataclass(frozen=True)
class Report:
    """How the command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What --json printed, checked against the schema."""
        content = json.loads(self.stdout)
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(content)
        assert content["fine"] == (self.code == 0)
        findings: list[dict[str, Any]] = content["findings"]
        return findings

    def of(self, check: str) -> list[tuple[str, str]]:
        return [(one["severity"], one["seen"]) for one in self.findings if one["check"] == check]


class Node:
    """The shell of node mail1."""

    def __init__(self, agents: Agents, nodes: tuple[str, ...] = ("mail1", "mail2")) -> None:
        self.agents = agents
        now = time.time()
        agents.cluster(ClusterPicture({name: NodePicture(fenced_at=now - 60) for name in nodes}))
        agents.program("stonith_admin", f"echo '{LISTED}'")
        agents.program("crm_node", "echo mail1")

    def configured(self, text: str) -> None:
        path = self.agents.directory / "whole-cib.xml"
        path.write_text(text)
        self.agents.program("cibadmin", f"exec cat {path}")

    def doctor(self, *words: str, user: int = 0) -> Report:
        environ = {
            "PATH": f"{self.agents._bin}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
            "HA_RSCTMP": str(self.agents.state_dir), "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [str(PROGRAM), "doctor", *words], env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
            user=user or None, group=user or None, extra_groups=[] if user else None,
        )
        return Report(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def node(agents: Agents) -> Node:
    return Node(agents)


def cib_of(installation: Installation, **how: str) -> str:
    """The plain site, for this installation."""
    given = "".join(
        f'<nvpair id="P-{name}" name="{name}" value="{value}"/>'
        for name, value in installation.agent_parameters().items()
    )
    def with_parameters(text: str, ident: str) -> str:
        return text.replace(
            f'<nvpair id="{ident}-mailman_version" name="mailman_version" value="3"/>',
            given.replace("P-", f"{ident}-"))
    return cib(
        f'<group id="mail">{SHARE}{with_parameters(JANITOR, "janitor")}{ADDRESS}'
        f'{with_parameters(MASTER, "mailman")}</group>', **how)


STATUS = (
    '<node_state id="2" uname="mail2"><transient_attributes id="2"><instance_attributes id="i">'
    '<nvpair id="n" name="mailman-ha-facts" value="{}"/></instance_attributes>'
    "</transient_attributes></node_state>"
)


def test_installation_on_the_root_file_system_is_seen_through(
    node: Node, installation: Installation
) -> None:
    node.configured(cib_of(installation))
    report = node.doctor("--json")
    assert report.code == 1, report.stderr
    (share,) = report.of("share")
    assert share[0] == "error"
    assert "this node's own root file system" in share[1]
    assert str(installation.lock_dir) in share[1]
    assert [seen for _, seen in report.of("versions")] == [
        "node mail2 has published nothing since it joined the cluster: its Mailman, user ids, host "
        "name and clock are not known here"]
    assert report.of("cluster") == report.of("fencing") == report.of("constraints") == []
    # the stand-in and the test's Mailman 3 are signed with this machine's name, which is no node's
    assert [severity for severity, _ in report.of("host names")] == ["error"]


def test_what_another_node_published_is_compared(
    node: Node, make_installation: Callable[..., Installation]
) -> None:
    line = node_facts.line(facts("mail2", uid=4711, release="1.2.3", services=1))
    node.configured(cib_of(make_installation("standin"), status=STATUS.format(line)))
    report = node.doctor("--json")
    seen = [text for _, text in report.of("versions")]
    assert any("Mailman's user id differs" in text and "4711 on mail2" in text for text in seen)
    assert any("1.2.3 on mail2" in text for text in seen)
    assert any("node mail2's own ways" in text for _, text in report.of("services"))


def test_publish_tells_the_others(
    node: Node, make_installation: Callable[..., Installation]
) -> None:
    site = make_installation("standin")
    node.configured(cib_of(site))
    node.doctor("--publish")
    (call,) = node.agents.attribute_calls()
    name, value = call.split()[:2]
    assert name == "--name=mailman-ha-facts"
    told = node_facts.parse(value.partition("=")[2])
    assert told is not None
    assert told.uid == os.stat(site.lock_dir).st_uid


def test_publishing_that_fails_is_told(node: Node) -> None:
    node.configured(cib(GROUP))
    node.agents.program("attrd_updater", "echo no cluster >&2; exit 102")
    report = node.doctor("--publish", "--json")
    assert report.code == 1
    assert "nothing was published" in report.stderr
    assert report.findings


def test_text_for_a_person_has_each_finding_whole(node: Node) -> None:
    node.configured(cib(GROUP, fences=""))
    report = node.doctor()
    assert report.code == 1
    lines = report.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("ERROR (fencing)"))
    assert lines[first + 1].split()[0] == "why"
    assert lines[first + 2].split()[0] == "pcs"
    assert lines[first + 3].split()[0] == "crm"
    assert "error: " in lines[-2] or "error: " in lines[-1]
    assert "\x1b" not in report.stdout


def test_cluster_that_is_down_is_told_and_the_rest_is_looked_at(
    node: Node, make_installation: Callable[..., Installation]
) -> None:
    for name in ("cibadmin", "crm_mon", "stonith_admin", "crm_node"):
        node.agents.program(name, "echo 'Connection refused' >&2; exit 102")
    site = make_installation("standin")
    parameters = site.agent_parameters()
    report = node.doctor("--json", "--prefix", parameters["prefix"], "--mailman-version", "2.1")
    unseen = report.of("cluster")
    assert [severity for severity, _ in unseen] == ["could not look"] * 2
    assert "no cluster runs on this node" in unseen[1][1]
    assert [severity for severity, _ in report.of("share")] == ["error"]


def test_configuration_on_the_disk_is_read_when_the_cluster_is_down(node: Node) -> None:
    """With the disk's CIB in its place, in a mount namespace."""
    node.configured(cib(GROUP, fences=""))
    path = node.agents.directory / "whole-cib.xml"
    for name in ("cibadmin", "crm_mon", "stonith_admin", "crm_node"):
        node.agents.program(name, "exit 102")
    script = (
        'mount -t tmpfs none /var/lib/pacemaker && mkdir /var/lib/pacemaker/cib && '
        f'cp {path} /var/lib/pacemaker/cib/cib.xml && exec {PROGRAM} doctor --json'
    )
    if not os.path.isdir("/var/lib/pacemaker"):
        pytest.skip("no Pacemaker here")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script],
        env={"PATH": f"{node.agents._bin}:/usr/sbin:/usr/bin:/sbin:/bin",
             "HA_RSCTMP": str(node.agents.state_dir)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )
    report = Report(done.returncode, done.stdout, done.stderr)
    assert ("error", "fencing is on, but there is no fencing device that is not disabled") in (
        report.of("fencing"))
    assert report.of("cluster")[-1][0] == "note"


def test_programs_that_hang_are_given_up(node: Node) -> None:
    node.configured(cib(GROUP))
    node.agents.program("crm_mon", "exec sleep 100")
    begun = time.monotonic()
    report = node.doctor("--json")
    assert time.monotonic() - begun < 60
    assert "did not end within 10.0 s" in report.of("cluster")[0][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_root_it_says_what_it_could_not_see(
    node: Node, make_installation: Callable[..., Installation]
) -> None:
    copy = node.agents.directory / "lib"
    shutil.copytree(CHECKOUT / "lib", copy / "lib")
    site = make_installation("standin")
    node.configured(cib_of(site))
    Path(site.agent_parameters()["prefix"]).chmod(0o700)
    environ = {"PATH": f"{node.agents._bin}:/usr/sbin:/usr/bin:/sbin:/bin",
               "HA_RSCTMP": str(node.agents.state_dir), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [str(copy / "lib/mailman_ha/cli/mailman-ha"), "doctor", "--json"], env=environ,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        user=65534, group=65534, extra_groups=[],
    )
    report = Report(done.returncode, done.stdout, done.stderr)
    assert report.code == 1
    unseen = [one for one in report.findings if one["severity"] == "could not look"]
    assert any(one["seen"].startswith("Mailman on this node: ") for one in unseen), unseen
    assert any(one["mend"].startswith("as root") for one in unseen)
    assert report.of("constraints") == []


#: XML cannot hold ESC, but the C1 control that terminals take for ESC [.
EVIL = "ma&#x9b;31mil&#10;[bold]2[/bold]\\&#x202e;"


def test_hostile_values_are_escaped(node: Node) -> None:
    group = GROUP.replace('"/var/lib/mailman3"', f'"/var/{EVIL}"').replace(
        "hard,lookupcache=none", f"soft,{EVIL}").replace('id="share"', f'id="{EVIL}"')
    node.configured(cib(
        group, fences="", nodes=("mail1", EVIL), status=STATUS.format(EVIL).replace(
            'uname="mail2"', f'uname="{EVIL}"')))
    for words in ((), ("--json",)):
        report = node.doctor(*words)
        assert report.code == 1, report.stderr
        assert report.stdout.isascii()
        assert "\\x0a[bold]2[/bold]" in report.stdout.replace("\\\\", "\\")
        assert not any(line.startswith("[bold]") for line in report.stdout.splitlines())


def test_configuration_in_a_file_is_judged_alone(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "cib.xml"
    path.write_text(cib(GROUP))
    report = node.doctor("--cib", str(path), "--json")
    assert (report.code, report.findings) == (0, [])
    assert json.loads(report.stdout)["only_configuration"] is True
    path.write_text(cib(GROUP, fences=FENCES.replace("mail2", "mail9")))
    assert node.doctor("--cib", str(path)).code == 1


@pytest.mark.parametrize("text", [None, "", "no xml", "<cib/>", "<!DOCTYPE x []><cib/>"])
def test_file_that_is_no_configuration_is_wrong_usage(
    node: Node, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "cib.xml"
    if text is not None:
        path.write_text(text)
    report = node.doctor("--cib", str(path))
    assert report.code == 2
    assert str(path) in report.stderr
    assert "Traceback" not in report.stderr
    assert node.doctor("--cib", str(path), "--publish").code == 2


def test_resource_with_wrong_parameters_is_told_and_the_rest_is_looked_at(node: Node) -> None:
    node.configured(cib(GROUP.replace('value="3"', 'value="4"'), fences=""))
    report = node.doctor("--json")
    assert any("mailman_version" in seen for _, seen in report.of("cluster"))
    assert report.of("fencing")


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))
