"""mailman-ha simulate, as an operator types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mailman_ha.cli import main as cli_main
from mailman_ha.ocf.record import replace
from mailman_ha.topology import simulation

from tests.cli.operator_runs import check_schema
from tests.cli.test_render import EXAMPLES, run

NFS = str(EXAMPLES / "two-nodes-nfs.yaml")
SLICES = str(EXAMPLES / "three-nodes-slices.yaml")


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("crm_simulate", "dot"):
        if shutil.which(tool, path="/usr/sbin:/usr/bin") is None:
            pytest.skip(f"{tool} is not installed; make test-packages")


def test_loss_of_a_node_is_told_in_words_and_drawn(command: Path, tmp_path: Path) -> None:
    picture = tmp_path / "lost.svg"
    done = run(command, "simulate", NFS, "--lose", "mail1", "--svg", picture)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "All nodes are online and everything runs; then mail1 is lost."
    fenced, mounted, started = (
        next(number for number, line in enumerate(lines) if words in line) for words in
        ("mail1 is fenced", "mailman-share starts on mail2", "mailman starts on mail2")
    )
    assert fenced < mounted < started
    assert lines[started].endswith(": group mail")
    assert "mailman mail1 mail2" in lines
    assert "Everything that served before runs again." in lines
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert [path.name for path in tmp_path.iterdir()] == ["lost.svg"]


@pytest.mark.parametrize(
    "words", [("--lose", "mail2"), ("--standby", "mail3"), ("--fail", "mailman-share"),
              ("--fail", "mailman-janitor", "--on", "mail3"), ("--fail", "mailman-in:1")],
    ids=" ".join,
)
def test_json_keeps_its_schema(command: Path, words: tuple[str, ...]) -> None:
    done = run(command, "simulate", "--json", SLICES, *words)
    content = json.loads(done.stdout)
    check_schema(content, "simulate")
    assert content["event"]["kind"] == words[0][2:]
    assert content["event"]["node"] == {"--fail": words[-1] if "--on" in words else
                                        content["event"]["node"]}.get(words[0], words[1])
    assert content["steps"] and not content["needs_you"] and done.returncode == 0


def test_what_does_not_run_any_more_needs_a_human(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = simulation.simulate
    monkeypatch.setattr(
        simulation, "simulate", lambda *given: replace(real(*given), missing=("mailman",))
    )
    assert cli_main.main(["simulate", NFS, "--lose", "mail2"]) == 1
    assert "Not running any more: mailman." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lose", "mail9"), "--lose mail9: it has no such node; its nodes: mail1, mail2"),
        (("--fail", "x\x1b"), "it has no such resource; its resources: fence-mail1"),
        (("--fail", "mailman", "--on", "mail2"), "does not run on mail2, but on mail1"),
        (("--lose", "mail1", "--on", "mail2"), "--on is for --fail"),
        (("--lose", "mail1", "--standby", "mail2"), "not allowed with argument"),
        ((), "one of the arguments --lose --standby --fail is required"),
    ],
)
def test_wrong_words_end_with_2(command: Path, words: tuple[str, ...], said: str) -> None:
    done = run(command, "simulate", NFS, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "\x1b" not in done.stderr


def test_picture_that_cannot_be_written_is_told(command: Path, tmp_path: Path) -> None:
    done = run(command, "simulate", NFS, "--lose", "mail1", "--svg", tmp_path / "no" / "x.svg")
    assert done.returncode == 1
    assert "cannot be written: No such file or directory; name another file" in done.stderr


def test_mistakes_of_the_description_are_told(command: Path, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("nodes: [a]\n")
    done = run(command, "simulate", "--json", path, "--lose", "a")
    content = json.loads(done.stdout)
    check_schema(content, "simulate")
    assert done.returncode == 2 and content["needs_you"]
    assert {one["key"] for one in content["mistakes"]} >= {"nodes", "share", "fencing"}
