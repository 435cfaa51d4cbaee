"""mailman-ha render, as an operator types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.operator_runs import CHECKOUT, check_schema

EXAMPLES = CHECKOUT / "crm-examples"


def run(command: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *words], env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )


@pytest.mark.parametrize("language", ["crm", "pcs"])
def test_installed_command_renders_an_example_to_what_stands_beside_it(
    command: Path, language: str
) -> None:
    done = run(command, "render", EXAMPLES / "two-nodes-drbd.yaml", "--format", language)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (EXAMPLES / f"two-nodes-drbd.{language}").read_text()


def test_json_holds_the_same_text(command: Path) -> None:
    path = EXAMPLES / "two-nodes-nfs.yaml"
    done = run(command, "render", "--json", path, "--format", "cib")
    content = json.loads(done.stdout)
    check_schema(content, "render")
    assert content["text"] == run(command, "render", path, "--format", "cib").stdout
    assert content["mistakes"] == [] and done.returncode == 0


def test_every_mistake_has_a_line_on_stderr_and_the_status_is_2(
    command: Path, tmp_path: Path
) -> None:
    path = tmp_path / "site\x1b[31m.yaml"
    text = (EXAMPLES / "two-nodes-nfs.yaml").read_text()
    path.write_text(text.replace("kind: nfs", "kind: nsf").replace("version: 3", "version: 4"))
    done = run(command, "render", path, "--format", "crm")
    assert (done.returncode, done.stdout) == (2, "")
    first, second, last = done.stderr.splitlines()
    assert "\x1b" not in done.stderr
    assert "yaml:10: share.kind: nsf is none of" in first and "did you mean nfs?" in first
    assert "mailman.version: 4 is none of" in second
    assert last.startswith("mailman-ha render: the description has 2 mistakes")
    content = json.loads(run(command, "render", "--json", path, "--format", "crm").stdout)
    check_schema(content, "render")
    assert content["text"] is None
    assert [one["key"] for one in content["mistakes"]] == ["share.kind", "mailman.version"]


def test_format_must_be_named(command: Path) -> None:
    done = run(command, "render", EXAMPLES / "two-nodes-nfs.yaml")
    assert done.returncode == 2 and "--format" in done.stderr
