"""Rendered configurations before those who must understand them: the real pcs, crm and cibadmin of
a machine or of a node image, each into an empty CIB.

All of them work in a mount namespace of their own, on a copy-on-write view of a root directory, in
which our agents are installed and fence agents and DRBD have stand-ins. It takes root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PROJECT = Path(__file__).resolve().parent.parent.parent
AGENTS = ("mailman-master", "list-lock-janitor", "qfiles-slice")
FENCE_AGENTS = ("fence_ipmilan", "fence_apc_snmp")
LANGUAGES = ("pcs", "crm", "cib")
SECONDS = 240

#: Makes the view of $ROOT, in which $EXCHANGE is /exchange, and runs $PROGRAM in it.
VIEW = r"""
set -e
view=$(mktemp -d); trap 'umount -l "$view"; rmdir "$view"' EXIT
mount -t tmpfs none "$view"; mkdir "$view/upper" "$view/work" "$view/root"
agents=$view/upper/usr/lib/ocf/resource.d; mkdir -p "$agents/mailman" "$agents/linbit"
mkdir -p "$view/upper/usr/sbin" "$view/upper/exchange" "$view/upper/project"
for name in $AGENTS; do
    printf '#!/bin/sh\nexec /project/agents/%s "$@"\n' "$name" > "$agents/mailman/$name"
    chmod 755 "$agents/mailman/$name"
done
cp "$PROJECT/tests/topology/stand_ins/drbd" "$agents/linbit/drbd"
for name in $FENCE_AGENTS; do
    cp "$PROJECT/tests/topology/stand_ins/fence_agent" "$view/upper/usr/sbin/$name"
done
mount -t overlay none -o "lowerdir=$ROOT,upperdir=$view/upper,workdir=$view/work" "$view/root"
mount --rbind /proc "$view/root/proc"; mount --rbind /dev "$view/root/dev"
mount -t tmpfs none "$view/root/tmp"
mount --bind "$PROJECT" "$view/root/project"; mount --bind "$EXCHANGE" "$view/root/exchange"
status=0; chroot "$view/root" sh -ec "$PROGRAM" || status=$?
umount -l "$view/root"
exit $status
"""

#: A cluster that has its nodes and nothing else.
EMPTY = r"""
cd /exchange
cibadmin --empty > empty.xml
sed -i 's|<cib |<cib have-quorum="1" |; s|<nodes/>|<nodes>'"$NODES"'</nodes>|
        s|<status/>|<status>'"$STATES"'</status>|' empty.xml
"""

#: What DRBD's agent would have noted: both nodes' data is good.
PROMOTABLE = (
    '<transient_attributes id="{0}"><instance_attributes id="status-{0}">'
    '<nvpair id="status-{0}-drbd" name="master-mailman-drbd" value="10000"/>'
    "</instance_attributes></transient_attributes>"
)

ACTION = re.compile(r"^ +\* Resource action: (\S+)\s+(start|stop|promote) on (\S+)$", re.MULTILINE)

LOADERS = {
    "pcs": "/usr/bin/python3 -Es /project/tests/topology/pcs_in_one_process.py {0} {1}",
    "pcs in full": "CIB_file=$PWD/{1} sh {0}",
    "crm": "CIB_file={1} crm configure load update {0}",
    "cib": "CIB_file={1} cibadmin -M -c -o configuration -x {0}",
}

#: What Pacemaker makes of it: the verdict, and what it would do from nothing on, when a node is
#: lost, and when it is back; for the CIB that is each node, for the others the first.
JUDGE = r"""
{ crm_verify -V -x {1}; CIB_file=$PWD/{1} crm_verify -L -V; } > {1}.verdict 2>&1 \
    || echo "crm_verify failed" >> {1}.verdict
cp {1} played.xml
played=${NAMES%% *}; [ {1} = cib.xml ] && played=$NAMES
simulate() { crm_simulate -x played.xml -S -O played.xml "$@" | grep -v '^Using the original'; }
{
    echo "event start"
    for round in 1 2 3; do simulate; done
    for node in $played; do
        for event in --node-fail --node-up; do
            echo "event $event $node"
            simulate $event $node; simulate
        done
    done
} > {1}.played 2>&1
"""


@dataclass(frozen=True)
class Loaded:
    """What came of one file: the CIB, what its loader and crm_verify said, what was played."""

    cib: ElementTree.Element
    said: str
    verdict: str
    played: str



def need(*programs: str) -> None:
    """Fail with the programs' names where this machine has them not, or we are not root."""
    missing = [name for name in programs if shutil.which(name) is None]
    assert not missing, f"{', '.join(missing)}: not installed here; make test-packages"
    assert os.geteuid() == 0, "needs root, for a mount namespace"


def load(
    directory: Path,
    nodes: Iterable[str],
    files: Mapping[str, str],
    root: str = "/",
    besides: str = "",
) -> dict[str, Loaded]:
    """Load `files` (a text for each of LOADERS) into CIBs that have these nodes, with the tools
    that are installed under `root`; `directory` is an empty one to work in, and /exchange there.
    `besides` is run there in the end."""
    names = list(nodes)
    members = "".join(
        f'<node id="{number}" uname="{name}"/>' for number, name in enumerate(names, 1)
    )
    states = "".join(
        f'<node_state id="{number}" uname="{name}" in_ccm="true" crmd="online" join="member" '
        f'expected="member"><lrm id="{number}"><lrm_resources/></lrm>{PROMOTABLE.format(number)}'
        "</node_state>"
        for number, name in enumerate(names, 1)
    )
    program = [EMPTY]
    for language, text in files.items():
        source, target = (f"{language.replace(' ', '-')}.{end}" for end in ("text", "xml"))
        (directory / source).write_text(text)
        program.append(f"cp empty.xml {target}\n")
        loader = LOADERS[language].format(source, target)
        program.append(f"{{ {loader}; }} > {target}.said 2>&1 || {{ cat {target}.said; exit 1; }}")
        program.append(JUDGE.replace("{1}", target))
    program.append(besides)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", VIEW],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8",
            "TERM": "dumb", "ROOT": root, "PROJECT": str(PROJECT), "EXCHANGE": str(directory),
            "PROGRAM": "\n".join(program), "AGENTS": " ".join(AGENTS),
            "FENCE_AGENTS": " ".join(FENCE_AGENTS), "NODES": members, "STATES": states,
            "NAMES": " ".join(names),
        },
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", timeout=SECONDS, check=False,
    )
    assert done.returncode == 0, done.stdout
    found = {}
    for language in files:
        target = directory / f"{language.replace(' ', '-')}.xml"
        found[language] = Loaded(
            ElementTree.parse(target).getroot(),
            *(Path(f"{target}.{end}").read_text() for end in ("said", "verdict", "played")),
        )
    return found


def done_at(played: str, event: str) -> list[tuple[str, str, str]]:
    """What was done at an event (`start`, `--node-fail mail2`): (resource, action, node)."""
    happened = played.partition(f"event {event}\n")[2].partition("\nevent ")[0]
    return [(found[1], found[2], found[3]) for found in ACTION.finditer(happened)]


def transitions(played: str) -> list[list[str]]:
    """What crm_simulate said, step by step, without the order in which it lists what is alike."""
    steps: list[list[str]] = []
    for line in played.splitlines():
        if line and not line.startswith(" "):
            steps.append([line])
        elif line:
            steps[-1].append(line.strip())
    return [[step[0], *sorted(step[1:])] for step in steps]


def meaning(cib: ElementTree.Element) -> dict[str, object]:
    """What a CIB configures, by name, with nothing of how it is written."""
    resources: dict[str, object] = {}
    for element in cib.iterfind("./configuration/resources//*[@id]"):
        if element.tag in ("primitive", "group", "clone"):
            resources[element.get("id", "")] = (
                element.tag,
                ":".join(element.get(name, "") for name in ("class", "provider", "type")),
                tuple(
                    child.get("id") for child in element if child.tag in ("primitive", "group")
                ),
                _values(element, "instance_attributes"),
                _values(element, "meta_attributes"),
                frozenset(map(_operation, element.iterfind("./operations/op"))),
            )
    return {
        "resources": resources,
        "constraints": {
            # pcs names locations itself.
            element.get("id") if element.tag != "rsc_location" else _constraint(element):
            _constraint(element)
            for element in cib.iterfind("./configuration/constraints/*")
        },
        "properties": {
            pair.get("name"): pair.get("value")
            for pair in cib.iterfind("./configuration/crm_config//nvpair")
        },
    }


def _values(element: ElementTree.Element, kind: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        (pair.get("name", ""), pair.get("value", ""))
        for pair in element.iterfind(f"./{kind}/nvpair")
    )


def _operation(element: ElementTree.Element) -> tuple[object, ...]:
    attributes = {key: value for key, value in element.attrib.items() if key != "id"}
    attributes["interval"] = attributes["interval"].rstrip("s")
    return (frozenset(attributes.items()), _values(element, "instance_attributes"))


def _constraint(element: ElementTree.Element) -> tuple[object, ...]:
    """A constraint, with what Pacemaker takes where nothing is said."""
    usual = {
        "rsc_order": {"kind": "Mandatory", "first-action": "start", "then-action": "start"},
        "rsc_colocation": {"with-rsc-role": "Started", "rsc-role": "Started"},
    }.get(element.tag, {})
    given = {**usual, **element.attrib}
    del given["id"]
    return element.tag, frozenset(given.items())


#: What pcs may say to a good script: that a file has no nodes it could ask, and that it has handed
#: its copy over; and pcs 0.12 lets agents look at their parameters, who miss devices and kernel
#: modules that only nodes have. An image that no init runs has none to detect.
HARMLESS = re.compile(
    r"^(Adding .*|CIB updated|Warning: Validation for node existence .*"
    r"|Warning: Validating resource options using the resource agent itself .*"
    r"|Warning: Validation result from agent:|  .*"
    r"|Warning: Unable to detect init system\..*|)$"
)


def assert_all_mean(loaded: Mapping[str, Loaded], wanted: ElementTree.Element) -> None:
    """Each CIB means what was wanted; its loader and crm_verify have nothing to say to it; and
    Pacemaker would do the same."""
    wanted_meaning = meaning(wanted)
    steps = transitions(loaded["cib"].played)
    assert any("start on" in line for step in steps for line in step)
    for language, one in loaded.items():
        assert [line for line in one.said.splitlines() if not HARMLESS.match(line)] == [], language
        assert one.verdict == "", language
        assert meaning(one.cib) == wanted_meaning, language
        own = transitions(one.played)
        assert own == steps[: len(own)] and len(own) > 10, language
