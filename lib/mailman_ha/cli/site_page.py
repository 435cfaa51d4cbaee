"""The manual page mailman-ha-site(5), made from the keys by which descriptions are checked.

To print it: `python3 -m mailman_ha.cli.site_page`.
"""

from __future__ import annotations

import sys

from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION as JANITOR
from mailman_ha.agents.mailman_master.declaration import DECLARATION as MASTER
from mailman_ha.agents.parameters import see_also
from mailman_ha.ocf import troff
from mailman_ha.ocf.metadata_xml import described
from mailman_ha.topology import document, keys
from mailman_ha.topology.site import TIMEOUTS, VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailman_ha.ocf.declaration import Parameter
    from mailman_ha.topology.keys import Key

EXAMPLE = """\
title: Two mail servers, Mailman 3, its data on NFS
nodes: [mail1, mail2]
address: 192.0.2.10/24
share: {kind: nfs, device: "nfs.example.org:/export/mailman", directory: /var/lib/mailman3}
mailman: {version: 3}
fencing:
  fence-mail1: {agent: fence_ipmilan, nodes: [mail1], delay: 5s,
                parameters: {ip: 192.0.2.101, username: admin, password: secret, lanplus: 1}}
  fence-mail2: {agent: fence_ipmilan, nodes: [mail2],
                parameters: {ip: 192.0.2.102, username: admin, password: secret, lanplus: 1}}
"""

_DESCRIPTION = (
    "A file that describes a site: its nodes, where Mailman's data lies, which Mailman it is, what "
    "fences a node. mailman-ha render makes the resources and constraints of Pacemaker from it, "
    "and mailman-ha simulate plays through what they do.",
    "It is YAML in UTF-8, at most "
    f"{document.GREATEST_SIZE} bytes. Every value is taken as text: 2.1 is no number and no is not "
    "false. Aliases and tags are refused. A span of time is seconds, or a number with s, min, h or "
    "d.",
    "Mistakes are told all at once, each with its line, its key and the way out, and nothing else "
    "is printed.",
)

_VALUES = {"path": "a path", "account": "a name", "span": "a span of time", "days": "days"}

_TAKERS = {
    "parameters": "all agents",
    "janitor": "list-lock-janitor",
    "master and slice": "mailman-master and qfiles-slice",
}

_PARTS = {
    "fencing": "the fence devices",
    "drbd": "DRBD, where share is of kind drbd",
    "share": "the Filesystem resource",
    "janitor": "list-lock-janitor",
    "address": "IPaddr2",
    "mailman": "mailman-master",
    "slices": "qfiles-slice",
}


def site_page() -> str:
    """The page in the man macros of troff, ending in a newline."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from troff.heading(
        "mailman-ha-site", 5, "description of a site for mailman-ha", "mailman-ha"
    )
    yield ".SH SYNOPSIS"
    yield f".B {troff.inline('mailman-ha render SITE.yaml --format pcs|crm|cib')}"
    yield ".br"
    yield f".B {troff.inline('mailman-ha simulate SITE.yaml --lose NODE')}"
    yield ".SH DESCRIPTION"
    yield from troff.prose(_DESCRIPTION)
    yield ".PP"
    yield "The least that a site is described by:"
    yield from troff.display(EXAMPLE.splitlines())
    yield ".SH KEYS"
    yield from _keys(keys.ROOT)
    yield from _section("A node", "Below a node's name.", keys.NODE)
    yield from _section(
        "The address", "In the place of IP/NETMASK.", keys.ADDRESS, "address"
    )
    for kind, known in keys.SHARE.items():
        yield from _section(
            f"The share, kind: {kind}",
            {
                "nfs": "A file server, mounted where it is needed by a Filesystem resource.",
                "disk": "A disk that all nodes reach, mounted on one of them at a time.",
                "drbd": "A disk that DRBD mirrors, mounted where it is promoted.",
                "none": "The site mounts it, or a cluster file system's own resources do.",
            }[kind],
            known,
            "share",
        )
    yield from _section("Mailman", "Below mailman.", keys.MAILMAN, "mailman")
    for name, (versions, taker, check) in keys.PARAMETERS.items():
        parameter = _declared(name)
        only = f" (Mailman {versions[0]})" if versions != VERSIONS else ""
        default = f" By default {parameter.default}." if parameter.default else ""
        yield from troff.entry(
            f"{troff.bold(name + ':')} {_VALUES[check]}{only}",
            [f"The parameter of {_TAKERS[taker]}. {' '.join(described(parameter))}{default}"],
        )
    yield from _section("A queue in slices", "Below the queue's name, in the place of a number.",
                        keys.QUEUE, "slices")
    yield from _section("A fence device", "Below the device's name.", keys.DEVICE, "fencing")
    yield from _timeouts()
    yield ".SH EXIT STATUS"
    yield troff.text("Of mailman-ha render and simulate:")
    yield from troff.entries((
        ("0", "The description is sound."),
        ("1", "simulate: it would leave something stopped, or could not be played."),
        ("2", "The description has mistakes, which are on stderr."),
    ))
    yield from troff.see_also((
        *see_also("mailman-ha-site"), ("pcs", 8), ("crm", 8), ("crm_simulate", 8),
    ))


def _section(
    title: str, place: str, known: Iterable[Key], below: str = ""
) -> Iterator[str]:
    yield f".SS {troff.word(title)}"
    yield troff.text(place + (f" Messages call them {below}.KEY." if below else ""))
    yield from _keys(known)


def _keys(known: Iterable[Key]) -> Iterator[str]:
    for key in known:
        told = [key.meaning]
        if key.default:
            told.append(f"Where it is not there: {key.default}.")
        elif key.required:
            told.append("It must be there.")
        yield from troff.entry(
            f"{troff.bold(key.name + ':')} {troff.inline(key.value)}", [" ".join(told)]
        )


def _timeouts() -> Iterator[str]:
    yield ".SS Timeouts"
    yield troff.text(
        "The parts, and the timeout of each operation (seconds) where none is given. That is also "
        f"the least: none may be shorter, nor longer than {keys.LONGEST_TIMEOUT} seconds. "
        "monitor-10 and monitor-20 are the monitors of those check levels."
    )
    for part, operations in TIMEOUTS.items():
        shown = ", ".join(f"{name} {seconds}" for name, seconds in operations.items())
        yield from troff.entry(f"{troff.bold(part + ':')} {_PARTS[part]}", [shown + "."])


def _declared(name: str) -> Parameter:
    for agent in (MASTER, JANITOR):
        for parameter in agent.parameters:
            if parameter.name == name:
                return parameter
    raise LookupError(f"no agent has a parameter {name}")


if __name__ == "__main__":
    sys.stdout.write(site_page())
