"""The packages on machines on which nothing was installed before: one Debian 12, one Debian 13.

Everything is installed as an administrator does it, by apt from the .deb, and then used: by
Pacemaker's shells, by ocf-tester, by man and bash, and by monitors that go on during upgrades.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.image import SUITES
from tests.installations import wait_until
from tests.packages import CHECKOUT, checkout_of_version
from tests.packages.built_packages import Packages, build
from tests.packages.fresh_machine import FreshMachine, fresh_machine

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

AGENTS = ("list-lock-janitor", "mailman-master", "qfiles-slice")
PLACE = "/usr/lib/ocf/resource.d/mailman"
LIBRARIES = "/usr/lib/mailman-ha"
PREFIX = "/srv/mailman"  # of the stand-in for Mailman 2.1
GIVEN = {"mailman_version": "2.1", "prefix": PREFIX, "user": "list"}
SLICE = {"queue": "in", "slice": "0", "slices": "1"}


class Machine:
    """A machine with what the tests have in common."""

    def __init__(self, machine: FreshMachine, packages: Packages) -> None:
        self.machine = machine
        self.run = machine.run
        machine.path("/root/packages").mkdir()
        self.this = {kind: self.take(file) for kind, file in packages.of_this.items()}
        self.next = {kind: self.take(file) for kind, file in packages.of_next.items()}

    def take(self, file: Path) -> str:
        """A package file's name on the machine."""
        return self.machine.put(file, f"/root/packages/{file.name}")

    def apt(self, *words: str) -> str:
        return self.run("apt-get", "-q", "-y", *words).stdout

    def libraries(self) -> list[str]:
        """The versions of the libraries that lie there, with their content's mark."""
        directory = self.machine.path(LIBRARIES)
        return sorted(each.name for each in directory.iterdir()) if directory.is_dir() else []

    def version(self) -> str:
        return self.run("mailman-ha", "--version").stdout.split()[-1]

    def agent(
        self, name: str, action: str, level: int = 0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run an agent as Pacemaker does, on the stand-in."""
        environ = {f"OCF_RESKEY_{key}": value for key, value in self.parameters(name).items()}
        if action == "monitor":
            environ |= {"OCF_CHECK_LEVEL": str(level), "OCF_RESKEY_CRM_meta_interval": "10000"}
        return self.run(
            f"{PLACE}/{name}", action, check=check, OCF_ROOT="/usr/lib/ocf",
            OCF_RESOURCE_INSTANCE=f"the-{name}", OCF_RESKEY_CRM_meta_timeout="60000", **environ,
        )

    def parameters(self, name: str) -> dict[str, str]:
        hosts = " ".join(f"fresh={host}" for host in ("fresh", "fresh.example.org"))
        return {**GIVEN, "host_map": hosts, **(SLICE if name == "qfiles-slice" else {})}

    def install_standin(self) -> None:
        """Mailman 2.1's stand-in; the master leaves the queue `in` to the slice."""
        if self.machine.path(PREFIX).exists():
            return
        self.machine.put(CHECKOUT / "tests/standin", "/root/standin")
        program = (
            "import sys; sys.path.insert(0, '/root'); from pathlib import Path; "
            "from standin import install; install(Path(sys.argv[1]), user='list', group='list', "
            "settings='QRUNNERS = [(\"OutgoingRunner\", 1)]\\n', lists={'test': ['anne@x.test']})"
        )
        self.run("python3", "-B", "-c", program, PREFIX)

    def compiled(self, name: str, action: str) -> list[str]:
        """The library's files that a run of this action had to compile, as Python tells."""
        environ = {f"OCF_RESKEY_{key}": value for key, value in self.parameters(name).items()}
        said = self.run(
            "python3", "-ISv", f"{PLACE}/{name}", action, check=False,
            OCF_RESOURCE_INSTANCE=f"the-{name}", OCF_RESKEY_CRM_meta_timeout="60000",
            OCF_RESKEY_CRM_meta_interval="10000", OCF_CHECK_LEVEL="0", **environ,
        ).stderr
        loaded = re.findall(r"^# code object from '?(.*?)'?$", said, re.MULTILINE)
        ours = [path for path in loaded if path.startswith(LIBRARIES)]
        assert len(ours) > 5, said
        return [path for path in ours if not path.endswith(".pyc")]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Janitor, master and slice running, as a cluster has them."""
        self.install_standin()
        for name in AGENTS:
            self.agent(name, "start")
        try:
            yield
        finally:
            for name in reversed(AGENTS):
                self.agent(name, "stop")

    @contextmanager
    def monitored(self) -> Iterator[Callable[[], int]]:
        """Monitors in a loop; each must find everything well. Gives how many have so far."""
        counted: list[str] = []
        trouble: list[BaseException] = []
        enough = threading.Event()

        def monitors(name: str) -> None:
            try:
                while not enough.is_set():
                    for level in (0, 0, 0, 10):
                        self.agent(name, "monitor", level)
                        counted.append(name)
            except BaseException as error:
                trouble.append(error)

        threads = [threading.Thread(target=monitors, args=[name]) for name in AGENTS]
        for thread in threads:
            thread.start()
        try:
            yield lambda: len(counted)
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        if trouble:
            raise trouble[0]


@pytest.fixture(scope="module", params=SUITES)
def machine(request: pytest.FixtureRequest, packages: Packages) -> Iterator[Machine]:
    """A machine of each suite, on which the tests of this file build upon each other."""
    with fresh_machine(request.param) as fresh:
        yield Machine(fresh, packages)


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """The machine with this version's .deb."""
    if not machine.machine.path(PLACE).exists():
        machine.apt("install", machine.this["deb"])
    return machine


def test_apt_brings_all_that_is_needed(machine: Machine) -> None:
    assert machine.run("sh", "-c", "! command -v python3").returncode == 0, "it is a bare machine"
    machine.apt("install", machine.this["deb"])
    for name in AGENTS:
        assert machine.agent(name, "meta-data").stdout.startswith("<?xml")
    for asked in ("crm_mon", "cibadmin", "attrd_updater", "stonith_admin", "crm_simulate"):
        machine.run("sh", "-c", f"command -v {asked}")
    program = (
        "import importlib, pathlib, sys; library = pathlib.Path(sys.argv[1]); "
        "sys.path.insert(0, str(library)); "
        "names = ['.'.join(p.relative_to(library).with_suffix('').parts) for p in "
        "library.rglob('*.py')]; [importlib.import_module(n) for n in names]; print(len(names))"
    )
    (library,) = machine.libraries()
    done = machine.run("python3", "-IB", "-c", program, f"{LIBRARIES}/{library}")
    assert int(done.stdout) > 100


def test_pacemakers_shells_describe_the_agents(installed: Machine) -> None:
    installed.apt("install", "crmsh", "pcs")
    for name in AGENTS:
        for command in (["crm", "ra", "info"], ["pcs", "resource", "describe"]):
            done = installed.run(*command, f"ocf:mailman:{name}")
            assert "host_map" in done.stdout and "ERROR" not in done.stderr, done


def test_man_shows_every_page(installed: Machine) -> None:
    installed.apt("install", "man-db")
    listed = installed.run("dpkg", "-L", "mailman-ha").stdout.split()
    pages = [path for path in listed if re.search(r"/man\d/.", path)]
    assert "/usr/share/man/man8/mailman-ha.8.gz" in pages
    for page in pages:
        name, section = re.fullmatch(r"(.*)\.(\d)\.gz", Path(page).name).groups()  # type: ignore[union-attr]
        assert installed.run("man", "-w", section, name).stdout.strip() == page
        shown = installed.run("man", "--warnings", section, name, MANWIDTH="80")
        assert len(shown.stdout.splitlines()) > 20 and not shown.stderr, shown


def test_bash_completes_the_command(installed: Machine) -> None:
    installed.apt("install", "bash-completion", "python3-argcomplete")
    script = (
        "source /usr/share/bash-completion/bash_completion; "
        "if declare -F _comp_load; then _comp_load mailman-ha; "
        "else _completion_loader mailman-ha; fi >/dev/null; "
        "complete -p mailman-ha || exit; COMP_LINE='mailman-ha s'; COMP_POINT=${#COMP_LINE}; "
        "COMP_TYPE=9; COMP_WORDS=(mailman-ha s); COMP_CWORD=1; _mailman_ha mailman-ha; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    lines = installed.run("bash", "--norc", "-c", script).stdout.split("\n")
    assert lines[0].startswith("complete ") and lines[0].endswith(" mailman-ha")
    assert {"slices", "sweep", "simulate"} <= {line.strip() for line in lines[1:]}


@pytest.mark.parametrize("name", AGENTS)
def test_agent_passes_ocf_tester(installed: Machine, name: str) -> None:
    installed.apt("install", "libxml2-utils")  # xmllint, for ocf-tester
    installed.install_standin()
    pairs = installed.parameters(name).items()
    given = [word for key, value in pairs for word in ("-o", f"{key}={value}")]
    done = installed.run("ocf-tester", "-n", "tested", *given, f"{PLACE}/{name}", check=False)
    assert f"{PLACE}/{name} passed all tests" in done.stdout, done.stdout + done.stderr


def test_monitor_compiles_nothing(installed: Machine) -> None:
    with installed.serving():
        for name in AGENTS:
            for action in ("monitor", "validate-all", "meta-data"):
                assert installed.compiled(name, action) == [], (name, action)


def test_monitors_go_on_through_upgrade_and_downgrade(installed: Machine) -> None:
    this, later = installed.this["deb"], installed.next["deb"]
    with installed.serving(), installed.monitored() as counted:
        for package, version in ((later, "99.1"), (this, None), (this, None), (later, "99.1"),
                                 (this, None)):  # fmt: skip
            before = counted()
            installed.run("dpkg", "-i", package)
            assert installed.version() == version or version is None
            assert len(installed.libraries()) == 1
            for name in AGENTS:
                assert installed.compiled(name, "monitor") == [], name
        assert counted() > before
    assert installed.version() != "99.1"


def test_action_that_began_before_an_upgrade_keeps_its_library(installed: Machine) -> None:
    (library,) = installed.libraries()
    installed.run("mkfifo", "/root/fifo")
    agent = installed.machine.path(f"{PLACE}/mailman-master")
    waiting = "open('/root/fifo').read()\nfrom mailman_ha"
    agent.write_text(agent.read_text().replace("from mailman_ha", waiting))
    with ThreadPoolExecutor() as at_once:
        action = at_once.submit(installed.agent, "mailman-master", "meta-data")
        upgrade = at_once.submit(installed.run, "dpkg", "-i", installed.next["deb"])
        try:
            wait_until(lambda: "99.1" in agent.read_text(), 60, "the new agent is in place")
            wait([upgrade], timeout=1.0)
            assert not upgrade.done() and not action.done()
            assert library in installed.libraries()
        finally:
            installed.run("sh", "-c", "timeout 20 sh -c 'echo go on > /root/fifo'")
        version = library.split("-")[0]
        assert f'version="{version}"' in action.result().stdout
        upgrade.result()
    assert [name.split("-")[0] for name in installed.libraries()] == ["99.1"]
    installed.run("rm", "/root/fifo")
    installed.run("dpkg", "-i", installed.this["deb"])


def test_purge_leaves_no_file(installed: Machine) -> None:
    installed.run("dpkg", "--purge", "mailman-ha")
    installed.run("mkdir", "-p", "/run/resource-agents")  # the package resource-agents', at boot
    before = files(installed)
    installed.run("dpkg", "-i", installed.this["deb"])
    with installed.serving():
        (library,) = installed.libraries()
    stray = f"{LIBRARIES}/{library}/mailman_ha/locks/__pycache__/removed_module.cpython-399.pyc"
    installed.machine.path(stray).write_bytes(b"")
    installed.run("dpkg", "--remove", "mailman-ha")
    assert not installed.machine.path(LIBRARIES).exists()
    assert not installed.machine.path(PLACE).exists()
    installed.run("dpkg", "--purge", "mailman-ha")
    assert files(installed) - before == set()


def files(machine: Machine) -> set[str]:
    """Names of everything on the machine but the package managers' own and Mailman's."""
    apart = ("/var/lib/dpkg/", "/var/lib/rpm", "/var/log/", "/var/cache/", "/run/lock", PREFIX,
             "/root/")  # fmt: skip
    return {name for name in machine.machine.files() if not name.startswith(apart)}


def test_rpm_is_installed_upgraded_and_removed(installed: Machine) -> None:
    """On Debian, so without its own dependencies: they have other names there."""
    machine = installed
    machine.apt("install", "rpm")
    machine.run("dpkg", "--purge", "mailman-ha")
    machine.run("mkdir", "-p", "/run/resource-agents")
    before = files(machine)
    machine.run("rpm", "-i", "--nodeps", machine.this["rpm"])
    with machine.serving(), machine.monitored() as counted:
        for name in AGENTS:
            assert machine.compiled(name, "monitor") == [], name
        machine.run("rpm", "-U", "--nodeps", machine.next["rpm"])
        assert machine.version() == "99.1" and len(machine.libraries()) == 1
        for name in AGENTS:
            assert machine.compiled(name, "monitor") == [], name
        seen = counted()
        machine.run("rpm", "-U", "--nodeps", "--oldpackage", machine.this["rpm"])
        assert machine.version() != "99.1" and len(machine.libraries()) == 1
        assert counted() > seen
    machine.run("rpm", "-e", "mailman-ha")
    of_rpms_own_machines = {"/usr/share/licenses"}  # owned by every such distribution's base
    assert files(machine) - before <= of_rpms_own_machines


def test_rpm_asks_for_what_the_agents_need(packages: Packages) -> None:
    asked = subprocess.run(
        ["rpm", "-qp", "--requires", packages.of_this["rpm"]], capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()
    wanted = {"(pacemaker or resource-agents)", "pacemaker-cli", "python3 >= 3.9",
              "python3-psutil", "python3-pyyaml"}  # fmt: skip
    assert wanted <= set(asked)
    assert [one for one in asked if "99." in one or "build" in one] == []


def test_deb_and_rpm_hold_the_same_files(packages: Packages, tmp_path: Path) -> None:
    deb = subprocess.run(
        ["dpkg-deb", "-c", packages.of_this["deb"]], capture_output=True, text=True, check=True
    ).stdout
    in_deb = {line.split(None, 5)[5][1:] for line in deb.splitlines() if not line.endswith("/")}
    rpm = subprocess.run(
        ["rpm", "-qlp", packages.of_this["rpm"]], capture_output=True, text=True, check=True
    ).stdout
    in_rpm = set(rpm.splitlines())
    of_deb_alone = ("/usr/share/doc/", "/usr/share/lintian/", "/usr/share/python3/")
    assert {name for name in in_deb - in_rpm if not name.startswith(of_deb_alone)} == set()
    assert all(f"{PLACE}/{name}" in in_rpm & in_deb for name in AGENTS)
    assert not any(name.endswith(".pyc") for name in in_rpm | in_deb)


def test_packages_are_the_same_byte_for_byte_wherever_they_are_built(
    packages: Packages, tmp_path: Path
) -> None:
    again: dict[str, Path] = {}
    build(checkout_of_version(None, tmp_path / "elsewhere"), tmp_path / "elsewhere/build", again)
    for kind in ("deb", "rpm"):
        assert again[kind].read_bytes() == packages.of_this[kind].read_bytes(), kind
