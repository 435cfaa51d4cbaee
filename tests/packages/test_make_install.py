"""`make install` and `make uninstall`, as a packager and as a node's administrator use them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents.agent_runs import Agents
from tests.installations import Installation, wait_until
from tests.packages import CHECKOUT, checkout_of_version

AGENTS = ("list-lock-janitor", "mailman-master", "qfiles-slice")


def make(*words: str, checkout: Path = CHECKOUT, **environ: str) -> None:
    """Run make; what it says is shown where it fails."""
    done = subprocess.run(
        ["make", "-s", "-C", str(checkout), *words], stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environ},
    )
    assert done.returncode == 0, done.stdout


def tree(top: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file under `top`."""
    return {
        str(path.relative_to(top)): (path.stat().st_mode, path.read_bytes())
        for path in top.rglob("*") if path.is_file()
    }


def directories(top: Path) -> dict[str, int]:
    """Mode of every directory under `top`."""
    return {
        str(path.relative_to(top)): path.stat().st_mode & 0o7777
        for path in top.rglob("*") if path.is_dir()
    }


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """DESTDIR of an installation for /usr."""
    make("install", f"DESTDIR={tmp_path}/staged")
    return tmp_path / "staged"


def library_of(agent: Path) -> str:
    """The library that an installed agent names."""
    found = re.search(r'^LIBRARY = "(.*?)"', agent.read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_destdir_does_not_show_in_what_is_installed_for_prefix(staged: Path) -> None:
    agents = [staged / "usr/lib/ocf/resource.d/mailman" / name for name in AGENTS]
    programs = [*agents, staged / "usr/bin/mailman-ha"]
    libraries = {library_of(program) for program in programs}
    assert len(libraries) == 1
    library = libraries.pop()
    assert library.startswith("/usr/lib/mailman-ha/")
    assert (staged / library[1:] / "mailman_ha/ocf/runtime.py").is_file()
    assert (staged / "usr/share/mailman-ha/schemas/locks.json").is_file()
    assert all(os.access(program, os.X_OK) for program in programs)
    for name in ("man/man8/mailman-ha.8", "bash-completion/completions/mailman-ha"):
        assert (staged / "usr/share" / name).is_file(), name
    assert (staged / "usr/lib/tmpfiles.d/mailman-ha.conf").is_file()
    examples = {path.name for path in (staged / "usr/share/doc/mailman-ha/examples").iterdir()}
    assert examples == {path.name for path in (CHECKOUT / "crm-examples").iterdir()}
    for name, (mode, content) in tree(staged).items():
        assert bytes(staged) not in content, name
        assert mode & 0o777 == (0o755 if staged / name in programs else 0o644), name


def test_uninstall_takes_away_every_file_of_install(staged: Path) -> None:
    assert len(tree(staged)) > 100
    make("uninstall", f"DESTDIR={staged}")
    assert tree(staged) == {}
    assert not (staged / "usr/lib/mailman-ha").exists()
    assert not (staged / "usr/lib/ocf/resource.d/mailman").exists()


def test_two_installations_are_the_same_byte_for_byte(staged: Path, tmp_path: Path) -> None:
    """Also from elsewhere to a relative place, under another umask, and with other times."""
    other = checkout_of_version(None, tmp_path / "a checkout elsewhere")
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    subprocess.run(
        ["sh", "-c", "umask 077; exec make -s install DESTDIR=../again"],
        cwd=other, env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1234567890"}, check=True,
    )
    again, first = tree(tmp_path / "again"), tree(staged)
    assert again.keys() == first.keys()
    assert [name for name in first if first[name] != again[name]] == []
    assert set(directories(tmp_path / "again").values()) == {0o755}
    assert directories(tmp_path / "again") == directories(staged)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a mount namespace")
def test_nobody_installs_from_a_checkout_that_cannot_be_written(tmp_path: Path) -> None:
    """Everything but DESTDIR is read-only, so nothing is written anywhere else either."""
    checkout = checkout_of_version(None, tmp_path / "checkout")
    script = (
        'cd "$2" && mount -t tmpfs -o mode=755 none "$2" && cd "$2" && cp -r "$1" checkout && '
        "mkdir d && mount -t tmpfs -o mode=777 none d || exit 7; "
        "for each in $(awk '{print $5}' /proc/self/mountinfo); do "
        'case $each in "$2/d"|/dev*|/proc*|/sys*) ;; '
        '*) mount -o remount,bind,ro "$each" || exit 9;; esac; done; '
        "! touch /tmp/proof /var/tmp/proof checkout/proof 2>/dev/null || exit 8; "
        "setpriv --reuid=nobody --regid=nogroup --clear-groups "
        'make -s -C checkout install DESTDIR="$2/d" && find d -type f | wc -l'
    )
    with tempfile.TemporaryDirectory(prefix="mailman-ha-install-", dir="/tmp") as place:
        os.chmod(place, 0o755)  # for nobody
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", checkout,
             place],
            capture_output=True, text=True, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert int(done.stdout) > 100


def test_prefix_and_place_of_agents_are_honoured(tmp_path: Path) -> None:
    make("install", f"PREFIX={tmp_path}/opt", f"OCF_ROOT={tmp_path}/ocf")
    agent = tmp_path / "ocf/resource.d/mailman/mailman-master"
    assert library_of(agent).startswith(f"{tmp_path}/opt/lib/mailman-ha/")
    done = subprocess.run([agent, "meta-data"], env={}, capture_output=True, check=False)
    assert done.returncode == 0 and b"<resource-agent" in done.stdout
    command = [tmp_path / "opt/bin/mailman-ha", "locks", "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    make("install", f"PREFIX={tmp_path}/opt", f"DESTDIR={tmp_path}/d", "AGENTDIR=/elsewhere")
    assert (tmp_path / "d/elsewhere/mailman-master").is_file()


@pytest.mark.parametrize("agent", AGENTS)
def test_installed_agent_compiles_nothing(agent: str, tmp_path: Path) -> None:
    """Whatever the action, and whatever packaging has done to the files' times."""
    make("install", f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents")
    library = library_of(tmp_path / "agents" / agent)
    for path in Path(library).rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    before = tree(Path(library))
    for action in ("monitor", "start", "stop", "validate-all", "meta-data", "reload-agent"):
        said = sources_compiled(tmp_path / "agents" / agent, action, library, tmp_path)
        assert said == [], action
    assert tree(Path(library)) == before


def sources_compiled(agent: Path, action: str, library: str, state: Path) -> list[str]:
    """The library's files that a run of the action had to compile, as Python itself tells."""
    done = subprocess.run(
        ["/usr/bin/python3", "-ISv", agent, action], stdin=subprocess.DEVNULL, text=True,
        capture_output=True, check=False, errors="replace",
        env={"PATH": "/usr/bin:/bin", "HA_RSCTMP": str(state),
             "OCF_RESKEY_CRM_meta_timeout": "9000", "OCF_RESKEY_prefix": "/nonexistent",
             "OCF_RESKEY_mailman_version": "2.1", "OCF_RESKEY_queue": "in",
             "OCF_RESKEY_slice": "0", "OCF_RESKEY_slices": "1"},
    )
    loaded = re.findall(r"^# code object from '?(.*?)'?$", done.stderr, re.MULTILINE)
    ours = [path for path in loaded if path.startswith(library)]
    assert len(ours) > 5, done.stderr
    return [path for path in ours if not path.endswith(".pyc")]


@pytest.mark.slow
def test_monitors_go_on_while_other_versions_are_installed(
    agents: Agents, make_installation: Callable[..., Installation], tmp_path: Path
) -> None:
    """Up and down, in a loop, with monitors of every kind running all the time."""
    installation = make_installation("standin")
    versions = [checkout_of_version(number, tmp_path / number) for number in ("7.0.1", "7.0.2")]
    place = [f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents"]
    make("install", *place, checkout=versions[0])
    installed = tmp_path / "agents"

    def run(agent: str, action: str, **how: object) -> None:
        done = agents.run(str(installed / agent), action, installation, **how)  # type: ignore[arg-type]
        assert done.code == 0, (agent, action, done.code, done.stderr)
        counted.append(agent)

    counted: list[str] = []
    run("list-lock-janitor", "start", instance="janitor")
    run("mailman-master", "start")
    trouble: list[BaseException] = []
    enough = threading.Event()

    def monitors() -> None:
        try:
            while not enough.is_set():
                for level in (0, 10):
                    run("mailman-master", "monitor", level=level)
                    run("list-lock-janitor", "monitor", instance="janitor", level=level)
        except BaseException as error:
            trouble.append(error)

    monitoring = threading.Thread(target=monitors)
    monitoring.start()
    try:
        for number in range(2):
            make("install", *place, checkout=versions[(number + 1) % 2])
            left = [path.name for path in (tmp_path / "opt/lib/mailman-ha").iterdir()]
            assert [name.split("-")[0] for name in left] == [("7.0.2", "7.0.1")[number % 2]]
    finally:
        enough.set()
        monitoring.join()
    assert trouble == []
    assert len(counted) > 20
    run("mailman-master", "stop")
    run("list-lock-janitor", "stop", instance="janitor")


def test_action_that_began_before_an_installation_keeps_its_library(tmp_path: Path) -> None:
    """Old modules stay until the last action that may want them has ended."""
    old, new = (checkout_of_version(number, tmp_path / number) for number in ("7.0.1", "7.0.2"))
    place = [f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents"]
    make("install", *place, checkout=old)
    agent = tmp_path / "agents/mailman-master"
    library = Path(library_of(agent))
    # The action stands before its first import for as long as the FIFO has no writer.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = f"open({str(fifo)!r}).read()\nfrom mailman_ha"
    agent.write_text(agent.read_text().replace("from mailman_ha", waiting))
    action = subprocess.Popen(
        [agent, "meta-data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        installing = threading.Thread(target=lambda: make("install", *place, checkout=new))
        installing.start()
        wait_until(lambda: library_of(agent) != str(library), 60, "the new agent is in place")
        installing.join(1.0)
        assert installing.is_alive() and (library / "mailman_ha/ocf/runtime.py").is_file()
        fifo.write_text("go on\n")
        said, complaints = action.communicate(timeout=30)
        assert action.returncode == 0, complaints
        assert 'version="7.0.1"' in said
        installing.join(30)
        assert not installing.is_alive() and not library.exists()
    finally:
        action.kill()
        action.wait()


def test_damaged_library_is_made_whole_by_another_install(tmp_path: Path) -> None:
    place = [f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents"]
    make("install", *place)
    whole = tree(tmp_path / "opt")
    library = Path(library_of(tmp_path / "agents/mailman-master"))
    shutil.rmtree(library / "mailman_ha/locks")
    (library / "mailman_ha/__init__.py").write_text("")
    make("install", *place)
    assert tree(tmp_path / "opt") == whole


def uninstall(agents: Agents, place: list[str]) -> subprocess.CompletedProcess[str]:
    """`make uninstall` on a node whose cluster is the test's."""
    return subprocess.run(
        ["make", "-s", "-C", CHECKOUT, "uninstall", *place], stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env=agents.environment("uninstall", {}),
    )


def test_uninstall_is_refused_while_the_cluster_has_resources(
    agents: Agents, tmp_path: Path
) -> None:
    place = [f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents"]
    make("install", *place)
    before = tree(tmp_path / "opt") | tree(tmp_path / "agents")
    dummy = '<primitive id="d" class="ocf" provider="pacemaker" type="Dummy"/>'
    ours = '<primitive id="lists" class="ocf" provider="mailman" type="mailman-master"/>'
    agents.resources(f"<group>{dummy}{ours}</group>")
    done = uninstall(agents, place)
    assert done.returncode != 0
    assert "mailman-ha is not removed" in done.stdout and "(lists)" in done.stdout
    assert tree(tmp_path / "opt") | tree(tmp_path / "agents") == before
    agents.resources(dummy)
    done = uninstall(agents, place)
    assert done.returncode == 0, done.stdout
    assert tree(tmp_path / "opt") | tree(tmp_path / "agents") == {}


@pytest.mark.slow
def test_uninstall_waits_ten_seconds_for_a_cluster_that_does_not_answer(
    agents: Agents, tmp_path: Path
) -> None:
    """Pacemaker does not run here, so what hangs is not a cluster that could fence."""
    place = [f"PREFIX={tmp_path}/opt", f"AGENTDIR={tmp_path}/agents"]
    make("install", *place)
    agents.program("cibadmin", "exec sleep 1000")
    began = time.monotonic()
    done = uninstall(agents, place)
    assert done.returncode == 0, done.stdout
    assert 9 < time.monotonic() - began < 60
    assert tree(tmp_path / "opt") == {}
