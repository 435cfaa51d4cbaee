"""The commands of README.md and of the pages that it leads to, and where each is tried.

A block of commands (indented or fenced) is run as it stands. A command within a sentence is tried
where a rule of `PLACES` says. What no rule knows is an error: see test_every_command_has_a_place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
README = CHECKOUT / "README.md"

#: The README and the pages that go on where it stops, in the order in which one reads them.
PAGES = (README, *(CHECKOUT / "docs" / f"{name}.md" for name in (
    "site", "slices", "operations", "messages")))

#: With what a line begins that somebody is to type.
PROGRAMS = (
    "apt", "apt-get", "cibadmin", "cp", "crm", "crm_mon", "crm_node", "crm_resource", "curl",
    "dnf", "dpkg", "gzip", "install", "journalctl", "kill", "mailman", "mailman-ha", "mailmanctl",
    "make", "man", "mkdir", "mount", "pcs", "pip", "promtool", "ps", "python3", "rpm", "rsync",
    "sh", "stonith_admin", "sudo", "systemctl", "tail", "zcat",
)
CRM = ("primitive", "group", "clone", "order", "colocation", "location", "property", "ms")

#: Blocks that show something; each by a pattern of its first line.
SHOWN = (
    r"site\.yaml:\d+: ",  # what mailman-ha says
    r"STEP  ",
    r"# mailman-ha ",
    r"(ERROR|WARNING|NOTE) \(",
    r"\[[\w.]+\]$",  # mailman.cfg
    r" *mail1 ",  # pictures
    r"agents/ ",  # the tree of directories
    r"mailman_ha?_|# (HELP|TYPE) |- alert:|groups:",  # metrics and alerts
)


@dataclass(frozen=True)
class Block:
    """A block: where it stands, its language where it is fenced, its text."""

    where: str
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]

    @property
    def kind(self) -> str:
        """commands, crm (the language of crm configure), yaml, shown, or '' where it is unknown."""
        word = self.first.split()[0]
        if self.language == "yaml":
            return "yaml"
        if word in PROGRAMS:
            return "commands"
        if word in CRM:
            return "crm"
        return "shown" if any(re.match(one, self.first) for one in SHOWN) else ""

    def commands(self) -> list[str]:
        """Each command as it is typed, with its continuation lines and without the comment."""
        whole = self.text.replace("\\\n", "\\\n ")
        found: list[str] = []
        for line in whole.splitlines():
            if found and found[-1].endswith("\\"):
                found[-1] += "\n" + line
            elif line.strip():
                found.append(line.strip())
        return [re.sub(r"\s+#\s.*$", "", one, flags=re.MULTILINE) for one in found]

    def then(self) -> list[str]:
        """The commands that comments of the form `# then: …` give."""
        return re.findall(r"# then: (.+)$", self.text, re.MULTILINE)


def all_blocks() -> list[Block]:
    """The blocks of all pages."""
    return [
        block for page in PAGES
        for block in blocks(page.read_text(), str(page.relative_to(CHECKOUT)))
    ]


def all_within_sentences() -> list[str]:
    """The commands within sentences of all pages, each once."""
    found = [command for page in PAGES for command in within_sentences(page.read_text())]
    return list(dict.fromkeys(found))


def blocks(text: str, page: str = "") -> list[Block]:
    """The fenced and the indented blocks of a page in their order."""
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        begin = number
        if line.startswith("```"):
            number += 1
            while not lines[number].startswith("```"):
                number += 1
            inside = "\n".join(lines[begin + 1 : number])
            found.append(Block(f"{page}:{begin + 2}", line[3:].strip(), inside))
        elif line.startswith("    ") and (begin == 0 or not lines[begin - 1].strip()):
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
            inside = "\n".join(one[4:] for one in lines[begin : number + 1])
            block = Block(f"{page}:{begin + 1}", "", inside)
            # After an empty line a block goes on, unless something else begins there.
            if not block.kind and found and found[-1].kind == "shown" and not found[-1].language:
                continued = f"{found[-1].text}\n\n{inside}"
                found[-1] = Block(found[-1].where, "", continued)
            else:
                found.append(block)
        number += 1
    return found


def within_sentences(text: str) -> list[str]:
    """What stands in `…` in running text and tables and begins like a command, each once."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))
    return list(dict.fromkeys(
        span.replace("\\|", "|") for span in spans
        if span.split()[0] in PROGRAMS
    ))


# -- where commands within sentences are tried

TREE = "on a bare tree, beside a configuration in a file"
CLUSTER = "on a cluster"
PACKAGE = "on a bare tree, with the package"
TARGET = "by make -n: the target exists; CI runs it, or another test"
MENTIONED = "not run"

#: (pattern, place). The first that matches the whole command decides.
PLACES: tuple[tuple[str, str], ...] = (
    # What only names a program, or is told to be left alone.
    (r"(mailman|mailmanctl|kill|hostname|add_members)( (-9|-s|start|stop|--force|addmembers))*",
     MENTIONED),
    (r"(cp -a|rsync -aHAX|ps -fp P|kill -ALRM P)", MENTIONED),
    (r"mailman … .*|mailman \(ocf:.*", MENTIONED),  # what a status shows
    (r"(mailman unshunt|mailman shell -l LIST)", MENTIONED),  # Mailman's own, of the tests of it
    (r"(systemctl|journalctl) .*", MENTIONED),  # no systemd runs in a tree, nor in the lab
    (r"crm resource restart .*", MENTIONED),  # asks systemd whether Pacemaker runs
    (r"pcs -f FILE", MENTIONED),  # how the others are run here
    (r"mailman-ha( render| simulate)?", MENTIONED),
    (r"(pcs|crm) cluster stop", MENTIONED),  # asks systemd to stop Pacemaker
    (r"dnf .*", MENTIONED),  # the trees are Debian's; tests/packages installs the .rpm
    (r"apt-get purge mailman-ha", PACKAGE),
    (r"make .*", TARGET),
    (r"(pcs|crm) (resource|configure|property|constraint|ra|--wait resource) .*", TREE),
    (r"(man|python3) .*", TREE),
    (r"mailman-ha (render .*|simulate .*|doctor --cib .*)", TREE),
    (r"(pcs|crm) (node|stonith|status)\b.*", CLUSTER),
    (r"mailman-ha .*", CLUSTER),
    (r"(crm_mon|crm_node|stonith_admin) .*", CLUSTER),
)

#: Of those for a tree, what asks a running cluster all the same.
ASKS_THE_CLUSTER = re.compile(r"(pcs|crm) resource (cleanup|refresh)\b.*|pcs resource restart .*")


def place_of(command: str) -> str:
    """Where a command within a sentence is tried; '' where no rule knows it."""
    if ASKS_THE_CLUSTER.fullmatch(command):
        return CLUSTER
    return next((place for rule, place in PLACES if re.fullmatch(rule, command)), "")
