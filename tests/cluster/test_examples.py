"""The examples as an administrator would use them: loaded by the real pcs and the real crm."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from .failover import Standing

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "crm-examples"

LOAD_PCS = """
cibadmin --empty > /tmp/example.xml
PCS="pcs -f /tmp/example.xml" sh /tmp/example.pcs >&2
crm_verify -V -x /tmp/example.xml >&2
cat /tmp/example.xml
"""

LOAD_CRM = """
cibadmin --empty > /tmp/example.xml
CIB_file=/tmp/example.xml crm configure load update /tmp/example.crm >&2
crm_verify -V -x /tmp/example.xml >&2
cat /tmp/example.xml
"""


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


def loaded(standing: Standing, name: str, program: str) -> dict[str, dict[str, str]]:
    """Load an example on a node; the attributes of each resource in the CIB that comes of it."""
    lab = standing.lab
    node = lab.wait_serving()
    lab.run(node, ["sh", "-ec", 'printf %s "$1" > "$2"', "sh", example(name), f"/tmp/{name}"])
    suffix = Path(name).suffix
    lab.run(node, ["cp", f"/tmp/{name}", f"/tmp/example{suffix}"])
    done = lab.run(node, ["sh", "-ec", program])
    cib = ElementTree.fromstring(done.stdout)
    return {
        element.get("id", ""): {
            pair.get("name", ""): pair.get("value", "")
            for pair in element.findall("./instance_attributes/nvpair")
        }
        for element in cib.iter("primitive")
    }


def test_examples_for_pcs_and_crm_load_and_mean_the_same_resources(standing: Standing) -> None:
    by_pcs = loaded(standing, "two-nodes-nfs.pcs", LOAD_PCS)
    by_crm = loaded(standing, "two-nodes-nfs.crm", LOAD_CRM)
    assert by_pcs == by_crm
    assert set(by_pcs) == {
        "fence-mail1", "fence-mail2", "mailman-share", "mailman-janitor", "mailman-address",
        "mailman",
    }
