"""Hold an agent against those who judge it: ocf-tester, its DTD, and what pcs, crmsh and
Pacemaker make of its metadata.  Used for the throwaway agent and for the real ones.

Every check runs the real tool; a tool that is not installed raises `ToolMissing`, which
`skip_if_missing` turns into a skipped test, naming the Debian package.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

DTD_DIRECTORY = Path("/usr/share/resource-agents")
RNG = Path("/usr/share/pcs/data/ocf-1.1.rng")
OCF_ROOT = Path("/usr/lib/ocf")
DESCRIBERS = ("crm_resource", "pcs", "crm")
_PACKAGES = {
    "xmllint": "libxml2-utils",
    "ocf-tester": "resource-agents",
    "crm_resource": "pacemaker-cli-utils",
    "pcs": "pcs",
    "crm": "crmsh",
    "groff": "groff-base",
    str(DTD_DIRECTORY / "ra-api-1.dtd"): "resource-agents",
    str(RNG): "pcs",
}
_SECONDS = 120


class ToolMissing(Exception):
    """A program or file that a check needs is not on this machine."""


@contextmanager
def skip_if_missing() -> Iterator[None]:
    """Skip the test, with the package's name, where a tool is missing."""
    try:
        yield
    except ToolMissing as error:
        pytest.skip(str(error))


def tool(name: str) -> str:
    """Where a program is.  Raises ToolMissing."""
    found = shutil.which(name, path=_search_path())
    if found is None:
        raise ToolMissing(f"{name} is not installed; apt-get install {_PACKAGES.get(name, name)}")
    return found


def metadata_of(agent_path: Path) -> bytes:
    """What the agent prints for meta-data, with nothing at all in the environment."""
    done = subprocess.run(
        [agent_path, "meta-data"],
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"meta-data ended with {done.returncode}: {done.stderr!r}"
    assert done.stderr == b"", f"meta-data wrote to stderr: {done.stderr!r}"
    return done.stdout


def assert_valid_by_dtd(metadata: bytes) -> None:
    """Check metadata the way ocf-tester does: against its ra-api-1.dtd, where that lies."""
    _require_file(DTD_DIRECTORY / "ra-api-1.dtd")
    assert b'SYSTEM "ra-api-1.dtd"' in metadata, "the metadata does not ask for ra-api-1.dtd"
    _assert_lint_is_silent(["--valid"], metadata)


def assert_valid_by_rng(metadata: bytes, rng: Path = RNG) -> None:
    """Check metadata against the schema of OCF 1.1 that pcs has."""
    _require_file(rng)
    _assert_lint_is_silent(["--relaxng", str(rng)], metadata)


def _assert_lint_is_silent(options: Sequence[str], metadata: bytes) -> None:
    done = subprocess.run(
        [tool("xmllint"), "--noout", "--nonet", *options, "-"],
        input=metadata,
        cwd=DTD_DIRECTORY if DTD_DIRECTORY.is_dir() else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
        check=False,
    )
    said = done.stdout.decode(errors="replace").replace("- validates", "").strip()
    assert done.returncode == 0 and not said, f"xmllint {' '.join(options)}: {said}"


def described_by(describer: str, agent_path: Path, provider: str, name: str) -> str:
    """How crm_resource, pcs or crmsh (`crm`) describes the agent to an administrator.

    The three look for agents in one fixed place.  So that nothing is installed there, the agent
    is shown to them in a mount namespace of its own, which takes root.
    """
    if os.geteuid() != 0:
        raise ToolMissing("only root may make a mount namespace; run this as root")
    agent = f"ocf:{provider}:{name}"
    program = tool(describer)
    command = {
        "crm_resource": [program, "--show-metadata", agent],
        "pcs": [program, "resource", "describe", agent, "--full"],
        "crm": [program, "ra", "info", agent],
    }[describer]
    return _run_where_installed(command, agent_path, provider, name)


def validated_by_crm_resource(
    agent_path: Path, provider: str, name: str, parameters: Mapping[str, str]
) -> str:
    """What `crm_resource --validate` says to parameters of a resource not yet configured."""
    options = [f"--option={key}={value}" for key, value in parameters.items()]
    agent = ["--class", "ocf", "--provider", provider, "--agent", name]
    return _run_where_installed(
        [tool("crm_resource"), "--validate", *agent, *options], agent_path, provider, name, None
    )


def _run_where_installed(
    command: Sequence[str],
    agent_path: Path,
    provider: str,
    name: str,
    expected: int | None = 0,
) -> str:
    agents = OCF_ROOT / "resource.d"
    if not agents.is_dir():
        raise ToolMissing(f"there is no {agents}; apt-get install resource-agents")
    with tempfile.TemporaryDirectory(prefix="mailman-ha-cluster-tools-") as home:
        entry = shlex.quote(f"{agents}/{provider}/{name}")
        wrapper = f'#!/bin/sh\nexec {shlex.quote(str(agent_path))} "$@"\n'
        script = (
            f"mount -t tmpfs -o mode=755 none {agents} && mkdir {agents}/{provider}"
            f" && printf %s {shlex.quote(wrapper)} >{entry} && chmod 755 {entry}"
            f" && exec {shlex.join(command)}"
        )
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            env={"PATH": _search_path(), "HOME": home, "LC_ALL": "C.UTF-8", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    said = done.stdout.decode(errors="replace")
    if expected is not None:
        assert done.returncode == expected, f"{command} ended with {done.returncode}: {said}"
    assert "ERROR" not in said or expected is None, f"{command}: {said}"
    return said


def run_ocf_tester(
    agent_path: Path, parameters: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Let ocf-tester put an agent through its paces, with these parameters.

    `environ` is added to a bare environment.  The answer's returncode is 0 where the agent passed
    all tests, and stdout ends with that sentence.  ocf-tester really starts and stops the
    resource.
    """
    options = [option for item in parameters.items() for option in ("-o", "=".join(item))]
    command = [tool("ocf-tester"), "-n", f"test-{agent_path.name}", *options, str(agent_path)]
    return subprocess.run(
        command,
        env={
            "PATH": _search_path(),
            "OCF_ROOT": str(OCF_ROOT),
            "LC_ALL": "C.UTF-8",
            **(environ or {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=20 * _SECONDS,
        check=False,
    )


def assert_passes_ocf_tester(
    agent_path: Path, parameters: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> None:
    """Run ocf-tester and show all it said unless the agent passed every test."""
    done = run_ocf_tester(agent_path, parameters, environ)
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert f"{agent_path} passed all tests" in done.stdout, said


def assert_manual_page_is_sound(page: str) -> str:
    """Let groff set a manual page with every warning on; returns the page as text."""
    done = subprocess.run(
        [tool("groff"), "-man", "-Tascii", "-P-cbou", "-ww"],
        input=page,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ToolMissing(f"there is no {path}; apt-get install {_PACKAGES.get(str(path), '?')}")


def _search_path() -> str:
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
