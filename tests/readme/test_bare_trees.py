"""The README's commands typed on a bare bookworm and a bare trixie, in its order: what it says to
install, `make install`, its description rendered and loaded, its pcs and crm blocks, and all that
its sentences give to be typed that needs no cluster. A configuration in a file is the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
from mailman_ha.topology import cib_xml, description, shape

from tests.topology import pacemaker_tools

from .bare_tree import SUITES, Done, Step, session
from .commands import PACKAGE, TREE, Block, all_blocks, all_within_sentences, place_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

#: What any Debian that a person works on has, and a bare tree has not; the shell of who takes crm;
#: and stand-ins for fence agents, which come with the machine that they are for.
BEFORE = "apt-get -q update"
BESIDES = """
apt-get -q install crmsh man-db
for name in fence_ipmilan fence_apc_snmp; do
    cp "$PROJECT/tests/topology/stand_ins/fence_agent" /usr/sbin/$name
done
cibadmin --empty > empty.xml
nodes='<node id="1" uname="mail1"/><node id="2" uname="mail2"/>'
sed -i "s|<nodes/>|<nodes>$nodes</nodes>|; s|<cib |<cib have-quorum=\\"1\\" |" empty.xml
"""

#: What the README's blocks stand on: a cluster that has these resources. The fencing that it has
#: is another block's.
GROUND = """
for file in pcs crm; do
    pcs -f $file.xml property set stonith-enabled=false
    pcs -f $file.xml resource create base ocf:heartbeat:Dummy
    pcs -f $file.xml resource group add mail-base base
    pcs -f $file.xml resource clone mail-base
    pcs -f $file.xml resource create web ocf:heartbeat:Dummy
done
"""

#: The configurations in files: what the blocks of each shell make, and what is rendered.
FILES = ("pcs", "crm", "site-pcs", "site-crm", "site-cib")

COPIES = f"for file in {' '.join(FILES)}; do cp empty.xml $file.xml; done"

WITH_PACKAGE = ", the package"

#: Every file that is of mailman-ha, but for what man has set and keeps.
LEFT = (
    "find / -xdev -path /project -prune -o -path /var/cache/man -prune -o "
    "-iname '*mailman?ha*' -print -o -path '*resource.d/mailman*' -print"
)

#: What a command within a sentence has before it, as the sentence says.
FIRST = {"pcs resource clone mailman-janitor": "pcs resource group remove mail mailman-janitor"}

#: Every command that is the shell's own is typed as it stands; pcs and crm work on a file. Of pcs'
#: commands, those that name a file are let alone, and those of the whole CIB go by CIB_file.
ON_FILES = """
pcs() {{
    case "$*" in
        "resource describe "*|"-f "*|"cluster cib"*) command pcs "$@";;
        *) command pcs -f {0}.xml "$@";;
    esac
}}
export CIB_file=$PWD/{0}.xml
"""
#: What names a package that was built: a session of its own, for it is another way to install.
BUILT = "./build/"
WITH_1 = re.compile(r"mailman-ha doctor .*")  # finds something to say of a mere file


def typed(command: str) -> Step | None:
    """The step of a command in a block; None where it is tried elsewhere."""
    program = command.split()[0]
    place = place_of(command)
    if program == "dnf" or BUILT in command:
        return None
    if program == "make":
        if command.split()[1] != "install":
            return None
        return Step(command, f"cd $PROJECT; {command}")
    if place not in ("", TREE) and program in ("mailman-ha", "pcs", "crm"):
        return None
    file = program if program in ("pcs", "crm") else "pcs"
    return Step(command, ON_FILES.format(file) + command)


def then(command: str) -> Step:
    """The step of a command that loads what was rendered, each into a file of its own."""
    language = {"sh": "pcs", "crm": "crm", "cibadmin": "cib"}[command.split()[0]]
    return Step(command, ON_FILES.format(f"site-{language}") + command)


def steps() -> list[Step]:
    """The whole session."""
    found = [Step("before", BEFORE)]
    named = "mailman-share|mailman-address"
    installed = False
    for block in all_blocks():
        if block.kind == "yaml":
            found.append(Step("site.yaml", f"cat > site.yaml <<'END'\n{block.text}\nEND"))
        elif block.kind == "crm":
            ids = {line.split()[1] for line in block.commands()}
            # The block is the part that matters: the rest is as the pcs block has it.
            others = [
                step.name.partition("pcs -f mailman.xml ")[2] for step in found
                if "mail" in ids and re.match(
                    rf"pcs -f mailman.xml resource create ({named}) ", step.name)
            ]
            lines = "".join(f"command pcs -f crm.xml {one}\n" for one in others)
            text = f"cat > block <<'END'\n{block.text}\nEND\n{lines}crm configure load update block"
            found.append(Step(block.where, ON_FILES.format("crm") + text))
        elif block.kind == "commands":
            commands = [typed(command) for command in block.commands()]
            found += [step for step in commands if step is not None]
            found += [then(command) for command in block.then()]
            if not installed and "make install" in block.commands():
                installed = True
                found += [Step("besides", BESIDES), Step("files", COPIES), Step("ground", GROUND)]
    # What the blocks have made, before more is done to it.
    found += [Step(f"show {name}", f"cat {name}.xml") for name in FILES]
    for command in all_within_sentences():
        if place_of(command) == TREE:
            text = command.replace(" --wait", "").replace("FILE", "pcs.xml")
            first = FIRST.get(command, "")
            program = command.split()[0]
            file = program if program in ("pcs", "crm") else "pcs"
            found.append(Step(command, f"{ON_FILES.format(file)}{first}\n{text}"))
    found.append(Step("make uninstall", "cd $PROJECT; make uninstall"))
    found.append(Step("left", LEFT))
    return found


def package_steps() -> list[Step]:
    """The session of who installs the package: its block, and what takes it away again."""
    (block,) = [one for one in all_blocks() if "make deb" in one.commands()]
    (purge,) = [one for one in all_within_sentences() if place_of(one) == PACKAGE]
    words = [*block.commands(), "mailman-ha --version", purge]
    typed_there = [Step(word, f"cd $PROJECT; {word}") for word in words]
    return [Step("before", BEFORE), *typed_there, Step("left", LEFT)]


@dataclass(frozen=True)
class Session:
    """What came of it: every step by what was typed."""

    done: list[Done]

    def said(self, command: str) -> str:
        (one,) = [one for one in self.done if one.step.name == command]
        return one.said

    def cib(self, name: str) -> ElementTree.Element:
        return ElementTree.fromstring(self.said(f"show {name}"))


@pytest.fixture(scope="module")
def users() -> Iterator[dict[str, Future[list[Done]]]]:
    """A session on each suite, side by side; then those of who installs the package."""
    with ThreadPoolExecutor(len(SUITES)) as pool:
        yield {
            f"{suite}{name}": pool.submit(session, suite, typed_there)
            for name, typed_there in (("", steps()), (WITH_PACKAGE, package_steps()))
            for suite in SUITES
        }


@pytest.mark.parametrize("suite", SUITES)
def test_package_is_built_installed_and_taken_away_as_it_is_said(
    users: dict[str, Future[list[Done]]], suite: str
) -> None:
    done = users[f"{suite}{WITH_PACKAGE}"].result()
    for one in done:
        assert one.status == 0, f"$ {one.step.name}\n{one.said[-1500:]}"
    assert done[-1].said == "", "left behind"


@pytest.fixture(params=SUITES)
def user(request: pytest.FixtureRequest, users: dict[str, Future[list[Done]]]) -> Session:
    """The session on a suite."""
    return Session(users[request.param].result())


def test_every_command_ends_well(user: Session) -> None:
    failed = [
        f"$ {one.step.name}\n{one.said[-1500:]}\n(exit status {one.status})" for one in user.done
        if one.status not in ((0, 1) if WITH_1.fullmatch(one.step.name) else (0,))
    ]
    assert not failed, "\n\n".join(failed)
    assert len(user.done) > 40


def test_no_command_needs_a_package_that_was_not_said(user: Session) -> None:
    told = "\n".join(one.said for one in user.done)
    assert "not found" not in told and "No module named" not in told
    assert "is not installed here" not in told  # as mailman-ha and its pictures say it


def test_description_means_the_same_in_all_three_languages(user: Session) -> None:
    (block,) = [one for one in all_blocks() if one.kind == "yaml"]
    site = description.loads(block.text.encode(), "site.yaml")
    wanted = pacemaker_tools.meaning(cib_xml.tree(shape.build(site)))
    for language in ("pcs", "crm", "cib"):
        assert pacemaker_tools.meaning(user.cib(f"site-{language}")) == wanted, language


def test_blocks_for_pcs_and_for_crm_configure_the_same(user: Session) -> None:
    made = {shell: pacemaker_tools.meaning(user.cib(shell)) for shell in ("pcs", "crm")}
    resources = {shell: made[shell]["resources"] for shell in made}
    assert resources["crm"].keys() == resources["pcs"].keys()  # type: ignore[attr-defined]
    assert {"mail", "mailman", "mailman-janitor", "mailman-share", "mailman-in-clone"} <= set(
        resources["crm"])  # type: ignore[call-overload]
    for name, (*what, operations) in resources["crm"].items():  # type: ignore[attr-defined]
        *what_pcs_makes, operations_of_pcs = resources["pcs"][name]  # type: ignore[index]
        assert what == what_pcs_makes, name
        assert operations <= operations_of_pcs, name
        asked = "Mailman's" if name in ("mailman", "mailman-in", "mailman-janitor") else ""
        assert len(operations) >= 2 or not asked, name
    assert order_and_place(user.cib("crm")) == order_and_place(user.cib("pcs")) != []


def order_and_place(cib: ElementTree.Element) -> list[tuple[str, ...]]:
    """Which resources wait for and stand on which."""
    return sorted(
        (one.tag, *(one.get(name, "") for name in ("first", "then", "kind", "rsc", "with-rsc")))
        for one in cib.iterfind("./configuration/constraints/*") if one.tag != "rsc_location"
    )


def test_simulation_says_what_the_readme_shows(user: Session) -> None:
    (command,) = [one.step.name for one in user.done if "--lose mail1" in one.step.name]
    said = [" ".join(line.split()) for line in user.said(command).splitlines()]
    (shown,) = [one for one in all_blocks() if one.first.startswith("STEP")]
    for line in shown.text.splitlines():
        if line.strip() != "...":
            assert " ".join(line.split()) in said, line
    assert "Everything that served before runs again." in said


def test_manual_pages_are_there(user: Session) -> None:
    assert "MAILMAN-HA(8)" in user.said("man mailman-ha")


def test_uninstalling_leaves_nothing(user: Session) -> None:
    assert user.said("left") == ""


def test_every_block_was_typed(user: Session) -> None:
    names = {one.step.name for one in user.done}
    told: Callable[[Block], bool] = lambda block: (  # noqa: E731
        block.where in names if block.kind == "crm" else
        all(typed(one) is None or one in names for one in block.commands())
    )
    assert all(told(block) for block in all_blocks() if block.kind in ("crm", "commands"))
    assert sum(name.startswith("apt-get install") for name in names) >= 2
