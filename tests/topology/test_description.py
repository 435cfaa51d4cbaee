"""A description's mistakes are told at their line, by their key, with the way out."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailman_ha.topology import description, document, keys
from mailman_ha.topology.document import NotSound
from mailman_ha.topology.site import TIMEOUTS, Address, Device, Node, Queue, Share

from tests.fuzz.surface import bounded

from . import sites

GOOD = """\
title: Good
nodes:
  mail1:
  mail2: {host: lists2.example.org}
address: 192.0.2.10/24
share:
  kind: nfs
  device: nfs.example.org:/export/mailman
  directory: /var/lib/mailman3
mailman:
  version: 3
  database: postgresql://mailman:secret@db.example.org/mailman
slices:
  in: 4
fencing:
  fence-mail1: {agent: fence_ipmilan, nodes: [mail1], parameters: {ip: 192.0.2.101}}
  fence-mail2: {agent: fence_ipmilan, nodes: mail2, parameters: {ip: 192.0.2.102}}
timeouts:
  mailman: {start: 2min}
"""


def mistakes(text: str | bytes) -> list[str]:
    """What is told of a description, without the file's name in front."""
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(NotSound) as raised:
        description.loads(content, "site.yaml")
    told = str(raised.value).splitlines()
    assert all(line.startswith("site.yaml:") for line in told)
    assert all("; " in line and line.isprintable() for line in told)
    return [line[len("site.yaml:"):] for line in told]


def test_good_description_becomes_a_site() -> None:
    site = description.loads(GOOD.encode(), "site.yaml")
    assert site.nodes == (Node("mail1"), Node("mail2", "lists2.example.org"))
    assert site.address == Address("192.0.2.10", "24")
    assert site.share == Share(
        "nfs", "nfs.example.org:/export/mailman", "/var/lib/mailman3", "nfs4",
        "hard,lookupcache=none",
    )
    assert site.queues == (Queue("in", 4),)
    assert site.devices[0] == Device(
        "fence-mail1", "fence_ipmilan", ("mail1",), parameters=(("ip", "192.0.2.101"),)
    )
    assert site.timeout("mailman", "start") == 120
    assert site.timeout("mailman", "stop") == 90


def test_version_2_1_is_no_number() -> None:
    site, _ = sites.example("three-nodes-slices-21")
    assert site.mailman.version == "2.1"


#: What is put in the place of what, the line and key that are told, what is said, and the way out.
BAD = [
    ("title: Good", "titel: Good", "1: titel: ", "is no key here", "did you mean title?"),
    ("title: Good", "title: [Good]", "1: title: ", "is a list or a mapping", "write one value"),
    ("  mail1:\n", "  mail/1:\n", "3: nodes.mail/1: ", "is no node name", "crm_node -n"),
    ("  mail1:\n", "  mail1: {host: 'a b'}\n", "3: nodes.mail1.host: ", "is no host name",
     "hostname --fqdn"),
    ("  mail1:\n", "  mail1: {host: localhost}\n", "3: nodes.mail1.host: ",
     "every machine calls itself localhost", "/etc/hosts"),
    ("  mail1:\n", "  mail1: {host: one}\n  mail3:\n", "16: fencing: ",
     "no device fences mail3", "add mail3"),
    ("  mail1:\n", "  mail1: {host: lists2.example.org}\n", "4: nodes.mail2: ",
     "its host is lists2.example.org, and so is that of node mail1", "a host name of its own"),
    ("  mail1:\n", "  mail2:\n", "4: nodes.mail2: ", "was given in line 3 already", "one of the"),
    ("address: 192.0.2.10/24", "address: 192.0.2.300/24", "5: address: ",
     "192.0.2.300/24 is no address", "192.0.2.10/24"),
    ("address: 192.0.2.10/24", "address: 192.0.2.0/24", "5: address: ",
     "192.0.2.0 cannot be a server's address", "a free address"),
    ("address: 192.0.2.10/24", "address: {ip: 192.0.2.10, mask: 24}", "5: address.mask: ",
     "is no key here", "did you mean netmask?"),
    ("address: 192.0.2.10/24", "address: {ip: 192.0.2.10, nic: 'a b'}", "5: address.nic: ",
     "is no network interface", "eth0"),
    ("address: 192.0.2.10/24\n", "", "1: address: ", "is missing", "address: none"),
    ("kind: nfs", "kind: nsf", "7: share.kind: ", "nsf is none of", "did you mean nfs?"),
    ("  kind: nfs\n  device: nfs.example.org:/export/mailman",
     "  kind: disk\n  device: /dev/sdb1", "13: slices: ",
     "a share of kind disk can be mounted on one", "leave slices out"),
    ("device: nfs.example.org:/export/mailman", "device: /export", "8: share.device: ",
     "is no NFS export", "HOST:/PATH"),
    ("directory: /var/lib/mailman3", "directory: var/lib", "9: share.directory: ",
     "is no absolute path", "begin with /"),
    ("directory: /var/lib/mailman3", "directory: /a\n  options: soft,lookupcache=none",
     "10: share.options: ", "on a soft mount", "hard"),
    ("directory: /var/lib/mailman3", "directory: /a\n  options: hard", "10: share.options: ",
     "without lookupcache=none", "hard,lookupcache=none"),
    ("directory: /var/lib/mailman3", "directory: /a\n  resource: r0", "10: share.resource: ",
     "is no key for kind: nfs", "known here: kind, device"),
    ("version: 3", "version: 3.3", "11: mailman.version: ", "3.3 is none of 2.1, 3",
     "did you mean 3?"),
    ("version: 3", "version: 2.1", "12: mailman.database: ", "Mailman 2.1 has no database",
     "leave it out"),
    ("version: 3", "version: 3\n  prefix: /usr/local/mailman", "12: mailman.prefix: ",
     "belongs to Mailman 2.1", "leave it out"),
    ("version: 3", "version: 3\n  quarantine_keep: ever", "12: mailman.quarantine_keep: ",
     "ever is no number of days", "a whole number"),
    ("  database: postgresql://mailman:secret@db.example.org/mailman\n", "",
     "10: mailman.database: ", "is missing: with slices", "name its server: postgresql://"),
    ("postgresql://mailman:secret@db.example.org/mailman", "sqlite:////var/lib/x.db",
     "12: mailman.database: ", "SQLite on a share is for one node", "a server: postgresql://"),
    ("postgresql://mailman:secret@db.example.org/mailman", "postgresql://m@localhost:5432/m",
     "12: mailman.database: ", "localhost is another machine", "every node reaches"),
    ("in: 4", "in: 6", "14: slices.in: ", "only by a power of two, not 6", "write 4 or 8"),
    ("in: 4", "in: many", "14: slices.in: ", "many is no number of slices", "from 1 to 64"),
    ("in: 4", "inn: 4", "14: slices.inn: ", "Mailman 3 has no queue inn", "did you mean in?"),
    ("in: 4", "lmtp: 4", "14: slices.lmtp: ", "the runner lmtp has no queue", "known here:"),
    ("in: 4", "in: {slices: 2, prefer: [mail1, mial2]}", "14: slices.in.prefer: ",
     "mial2 is no node of this site", "did you mean mail2?"),
    ("in: 4", "in: {slices: 4, prefer: [mail1]}", "14: slices.in.prefer: ",
     "names 1 nodes for 4 slices", "one node for each slice"),
    ("nodes: mail2,", "nodes: mail1,", "15: fencing: ", "no device fences mail2", "add mail2"),
    ("nodes: mail2,", "delay: 5s,", "17: fencing.fence-mail2.delay: ",
     "would hold for all of its nodes alike", "delay: {mail1: 5s}"),
    ("nodes: mail2,", "nodes: mail2, delay: soon,", "17: fencing.fence-mail2.delay: ",
     "soon is no span of time", "90s"),
    ("nodes: mail2,", "ports: {mail9: 1},", "17: fencing.fence-mail2.ports: ",
     "mail9 is no node", "did you mean mail"),
    ("  fence-mail2:", "  2fence:", "17: fencing.2fence: ", "cannot be the name of a resource",
     "begin with a letter"),
    ("  fence-mail2:", "  mailman:", "17: fencing.mailman: ",
     "another resource or constraint of the rendered configuration has this name",
     "such as fence-mail2"),
    ("{ip: 192.0.2.102}", "{ip: 192.0.2.102, pcmk_host_list: mail2}",
     "17: fencing.fence-mail2.parameters.pcmk_host_list: ", "is not for this place",
     "nodes: [mail1, mail2]"),
    ("{ip: 192.0.2.102}", "{password: \"a\\nb\"}",
     "17: fencing.fence-mail2.parameters.password: ", "holds a line break", "one line"),
    ("{ip: 192.0.2.102}", "{password: 'a\\'}",
     "17: fencing.fence-mail2.parameters.password: ", "ends in a backslash", "another value"),
    ("start: 2min", "strat: 2min", "19: timeouts.mailman.strat: ", "is no key here",
     "did you mean start?"),
    ("start: 2min", "start: 5s", "19: timeouts.mailman.start: ", "5s is out of bounds",
     "whole seconds from 90"),
    ("  mailman: {start: 2min}", "  drbd: {start: 300}", "19: timeouts.drbd: ",
     "this site has no such resource", "leave it out"),
    ("title: Good", "title: *good", "1: ", "the alias *good is not understood", "write out"),
    ("title: Good", "title: !!python/object:os.system x", "1: title: ", "is not understood",
     "every value is taken as text"),
    ("title: Good", "title: Good: worse", "1: ", "is no YAML", "look at the indentation"),
    ("title: Good", "title: \"\\0\"", "1: title: ", "is no sentence", "printable characters"),
    ("title: Good", "{a: 1}: Good", "1: ", "a key is a list or a mapping", "write a word"),
]


@pytest.mark.parametrize(
    ("old", "new", "place", "what", "fix"), BAD, ids=[f"{new[:30]!r}" for _, new, *_ in BAD]
)
def test_mistake_is_told_at_its_line_with_the_way_out(
    old: str, new: str, place: str, what: str, fix: str
) -> None:
    assert GOOD.count(old) == 1
    told = mistakes(GOOD.replace(old, new))
    assert any(line.startswith(place) and what in line.partition("; ")[0]
               and fix in line for line in told), told


@pytest.mark.parametrize("section", ["nodes", "share", "mailman", "fencing", "address"])
def test_missing_and_empty_sections_are_told(section: str) -> None:
    lines = GOOD.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{section}:"))
    end = next(
        (number for number, line in enumerate(lines) if number > start and line[:1] != " "),
        len(lines),
    )
    without = "\n".join(lines[:start] + lines[end:])
    assert any(line.startswith(f"1: {section}: is missing; ") for line in mistakes(without))
    empty = "\n".join([*lines[:start], f"{section}:", *lines[end:]])
    assert any(f"{start + 1}: {section}: " in line for line in mistakes(empty))


def test_node_with_the_name_of_a_resource_is_refused() -> None:
    (told,) = mistakes(GOOD.replace("mail1", "mailman"))
    assert told.startswith("3: nodes.mailman: a resource or constraint")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("kind: nfs", "kind: nsf").replace("version: 3", "version: 4").replace(
        "title:", "titel:").replace("{start: 2min}", "{start: never}")
    told = mistakes(text)
    numbers = [int(line.partition(":")[0]) for line in told]
    assert numbers == sorted(numbers) and {1, 7, 11, 19} <= set(numbers)


def test_janitor_alone_takes_nothing_of_a_mailman_in_the_cluster() -> None:
    text = GOOD.replace("version: 3", "version: 3\n  run_by: site\n  max_queue_age: 1h")
    told = "\n".join(mistakes(text))
    for key in ("address", "slices", "mailman.max_queue_age", "timeouts.mailman"):
        assert f" {key}: " in told


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"), (b"# nothing\n", "is empty"), (b"just words", "has no keys"),
        (b"- a\n- b\n", "has no keys"), (b"a: b\n\xff\xfe", "is not UTF-8"),
        (b"title: \x07", "holds a control character"), (b"[" * 30000, "nested deeper"),
        (b"x: " * 9000, "is no YAML"), (b"#" * (document.GREATEST_SIZE + 1), "is longer than"),
        (b"a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]", "the alias"),
        (b"title: \"\\UFFFFFFFF\"\n", "is no"), (b"--- a\n--- b\n", "is no YAML"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_description_is_refused(content: bytes, what: str) -> None:
    began = time.monotonic()
    assert what in mistakes(content)[0]
    assert time.monotonic() - began < 5


def test_file_that_cannot_be_read_is_told(tmp_path) -> None:
    with pytest.raises(NotSound, match="cannot be read: No such file"):
        description.load(str(tmp_path / "absent.yaml"))


LINES = [line for text in (GOOD, sites.ALL_OF_IT) for line in text.splitlines()]
PIECES = st.sampled_from([
    *LINES, "  ", "-", ": ", "{", "}", "[", "]", "'", '"', "|", ">", "&a", "*a", "!!set", "? ",
    "~", "null", "0x1F", "1e9", "9" * 40, "\t", "\\", "%YAML 1.1", "---", "...", "<<: *a",
])


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=25), st.sampled_from(["\n", ""]))
def test_any_text_is_a_site_or_a_list_of_mistakes(pieces: list[str], between: str) -> None:
    _either(between.join(pieces))


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from([GOOD, sites.ALL_OF_IT]))
def test_a_changed_description_is_a_site_or_a_list_of_mistakes(
    data: st.DataObject, text: str
) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 6)))
        text = text[:start] + data.draw(st.one_of(PIECES, st.text(max_size=4))) + text[end:]
    _either(text)


def _either(text: str) -> None:
    try:
        site = description.loads(text.encode("utf-8", "surrogatepass"), "site.yaml")
    except NotSound as unsound:
        assert unsound.mistakes
        assert all(one.line >= 1 and one.what and one.fix for one in unsound.mistakes)
        assert all(line.isprintable() for line in str(unsound).splitlines())
    else:
        assert set(sites.rendered(site)) == {"crm", "pcs", "cib"}


README = sites.EXAMPLES.parent / "README.md"


def test_description_in_the_readme_is_sound_and_its_mistake_is_told_as_it_says() -> None:
    text = README.read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    description.loads(block.encode(), "site.yaml")
    (told,) = mistakes(block.replace("kind: nfs", "kind: nsf"))
    assert f"    site.yaml:{told}\n" in text
    for name in sites.NAMES:
        for language in ("yaml", "crm", "pcs"):
            assert f"(crm-examples/{name}.{language})" in text


def test_every_key_is_in_the_documentation() -> None:
    chapter = (README.parent / "docs" / "site.md").read_text()
    known = (keys.ROOT, keys.NODE, keys.ADDRESS, *keys.SHARE.values(), keys.MAILMAN, keys.QUEUE,
             keys.DEVICE)
    every = {name for part in known for name in keys.names(part)} | {*keys.PARAMETERS, *TIMEOUTS}
    assert [key for key in sorted(every) if not re.search(rf"\b{key}\b", chapter)] == []


@pytest.mark.parametrize("text", [
    "nodes: [" + ",".join(f"n{number}" for number in range(9000)) + "]",
    "nodes: [" + "a," * 30_000 + "]",
    "".join(f"k{number}: 1\n" for number in range(6000)),
    "a: !x b\n" * 5000,
    "nodes: [a, b]\nslices:\n" + "".join(f" q{number}: 4\n" for number in range(5000)),
    "nodes: [" + ",".join(f"n{n}" for n in range(4000)) + "]\nmailman: {version: 3}\nshare: none\n"
    "slices: {in: {slices: 4, prefer: [" + ",".join(f"m{n}" for n in range(4000)) + "]}}\n",
], ids=lambda text: text[:16])
def test_thousands_of_mistakes_are_not_all_told_and_take_no_longer(text: str) -> None:
    with bounded(3.0):
        told = mistakes(text)
    assert 1 <= len(told) <= document.MOST_MISTAKES + 1
    if len(told) > document.MOST_MISTAKES:
        assert any("may have more mistakes than these" in line for line in told)


def test_days_that_the_agents_do_not_understand_are_a_mistake() -> None:
    text = GOOD.replace("version: 3", f"version: 3\n  quarantine_keep: {'9' * 30}")
    assert any("mailman.quarantine_keep" in line for line in mistakes(text))


@pytest.mark.parametrize("nodes", ["nodes: [mail1]", "nodes: []",
                                   "nodes: " + "[a" + ", a" * 40 + "]", ""])
def test_delay_of_a_device_is_no_trouble_where_the_nodes_are_the_mistake(nodes: str) -> None:
    """It ended with a traceback instead of the mistake."""
    text = re.sub(r"nodes:\n  mail1:\n  mail2:.*", nodes, GOOD).replace(
        "nodes: [mail1], parameters", "delay: 5s, parameters")
    assert any(" nodes: " in line or "nodes:" in line for line in mistakes(text))
