"""The command as a whole: help, completion, manual page, installation, terminals and pipes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.cli import main as cli_main
from mailman_ha.cli.lock_rows import in_short
from mailman_ha.cli.table import fit
from mailman_ha.cli.words import clock, moment, span

from tests.agents.agent_runs import ClusterPicture, NodePicture
from tests.cli.operator_runs import CHECKOUT, SCHEMAS, CommandRun, Operator
from tests.cli.test_locks import lay_one_of_each

OWN = ("locks", "explain", "sweep", "slices")
SYSTEM_PYTHON = "/usr/bin/python3"


def run(command: Path | str, *words: str, **environment: str) -> CommandRun:
    done = subprocess.run(
        [command, *words], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                                **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )
    return CommandRun(done.returncode, done.stdout, done.stderr)


# -- help and usage

def test_help_lists_every_command_that_is_there(command: Path) -> None:
    done = run(command, "--help")
    assert done.code == 0
    for name in cli_main.available():
        assert re.search(rf"^ +{name} +\S", done.stdout, re.MULTILINE), name
    assert set(OWN) <= set(cli_main.available())


@pytest.mark.parametrize("name", cli_main.available())
def test_each_command_has_help_with_json(command: Path, name: str) -> None:
    done = run(command, name, "--help", COLUMNS="80")
    assert done.code == 0 and not done.stderr
    assert "--json" in done.stdout and f"mailman-ha/{name}/1" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "words", [(), ("nonsense",), ("locks", "--nonsense"), ("explain",), ("locks", "surplus")]
)
def test_wrong_usage_ends_with_2(command: Path, words: tuple[str, ...]) -> None:
    done = run(command, *words)
    assert done.code == 2 and "usage:" in done.stderr and not done.stdout


def test_what_was_typed_is_printed_harmlessly(command: Path) -> None:
    done = run(command, "locks", "\x1b[31m\nsurplus")
    assert done.code == 2 and "\x1b" not in done.stderr


def test_version(command: Path) -> None:
    assert re.fullmatch(r"mailman-ha \d\S*\n", run(command, "--version").stdout)


def test_help_is_quick(command: Path) -> None:
    """What only running needs is not loaded for the parser."""
    done = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-c",
         f"import sys; sys.path.insert(0, {str(CHECKOUT / 'lib')!r}); "
         "from mailman_ha.cli.main import build_parser; build_parser(); print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"rich", "psutil", "yaml", "subprocess", "argcomplete"}


def test_module_that_is_missing_is_no_command(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    shutil.copytree(CHECKOUT / "lib", library, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "mailman_ha" / "cli" / "slices.py").unlink()
    done = run(library / "mailman_ha" / "cli" / "mailman-ha", "--help")
    assert done.code == 0 and "slices" not in done.stdout.split() and "locks" in done.stdout
    assert run(library / "mailman_ha" / "cli" / "mailman-ha", "slices").code == 2


def test_defect_is_told_in_one_line_and_in_full_on_demand(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    shutil.copytree(CHECKOUT / "lib", library, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "mailman_ha" / "cli" / "slices.py").write_text(
        "NAME = 'slices'\nHELP = 'broken'\ndef declare(parser): pass\n"
        "def run(options): raise KeyError('\\x1b[31mx')\n"
    )
    command = library / "mailman_ha" / "cli" / "mailman-ha"
    done = run(command, "slices")
    assert done.code == 1 and len(done.stderr.splitlines()) == 1
    assert "KeyError" in done.stderr and "slices.py:4" in done.stderr and "\x1b" not in done.stderr
    assert "Traceback" in run(command, "slices", HA_debug="1").stderr


# -- terminals and pipes

def one_of_each_with_long_names(operator: Operator) -> None:
    lay_one_of_each(operator)
    installation = operator.installation
    installation.make_dead_lock(
        "a-rather-long-host-name.subdomain.example.org", 4194304,
        lock=installation.list_lock("announcements-of-the-whole-university-and-its-friends"),
    )


@pytest.mark.parametrize("columns", [60, 80, 132])
@pytest.mark.parametrize(
    "words", [("locks",), ("sweep", "--dry-run"), ("slices",), ("explain", "lost")],
    ids=lambda words: words[0],
)
def test_tables_fit_the_terminal(
    standin: Operator, columns: int, words: tuple[str, ...]
) -> None:
    one_of_each_with_long_names(standin)
    done = standin.on_terminal(*words, columns=columns)
    assert done.lines
    for line in done.lines:
        assert len(line.rstrip()) <= columns, line
    # Nothing was cut: letter for letter it is what a pipe gets.
    assert letters(done) == letters(standin.run(*words))


def letters(done: CommandRun) -> Counter[str]:
    """How often each letter is printed; titles count as if in small letters."""
    return Counter(one for one in " ".join(done.lines).lower() if one.isalpha())


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=9),
    st.integers(20, 250),
)
def test_columns_fit_whatever_they_hold(columns: list[tuple[int, int]], width: int) -> None:
    natural = [max(pair) for pair in columns]
    least = [pair[1] for pair in columns]
    gaps = 2 * (len(columns) - 1)
    widths = fit(natural, least, width)
    assert all(1 <= one <= most for one, most in zip(widths, natural))
    if sum(natural) + gaps <= width:
        assert widths == natural
    elif len(columns) + gaps <= width:
        assert sum(widths) + gaps == width
    if sum(least) + gaps <= width:
        assert all(one >= low for one, low in zip(widths, least))


def test_short_columns_stay_whole_at_80(standin: Operator) -> None:
    one_of_each_with_long_names(standin)
    done = standin.on_terminal("locks", columns=80)
    (title,) = [line for line in done.lines if line.startswith("Lock")]
    assert title.split() == ["Lock", "Owner", "Age", "Expires", "Verdict", "Evidence"]
    for verdict in ("dead here", "stranger", "unknown", "expired", "1 d 5 h"):
        assert any(verdict in line for line in done.lines), verdict


def test_colours_are_for_terminals_only(standin: Operator) -> None:
    one_of_each_with_long_names(standin)
    assert standin.on_terminal("locks").coloured
    assert not standin.run("locks", environment={"FORCE_COLOR": "1"}).coloured
    none = standin.on_terminal("locks", environment={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", none.stdout)


def test_pipe_gets_whole_names_one_lock_a_line(standin: Operator) -> None:
    one_of_each_with_long_names(standin)
    done = standin.run("locks", environment={"COLUMNS": "40"})
    (line,) = [one for one in done.lines if one.startswith("announcements")]
    assert line.startswith("announcements-of-the-whole-university-and-its-friends.lock")
    assert "4194304 on a-rather-long-host-name.subdomain.example.org" in line
    assert "stranger" in line
    assert not any(line != line.rstrip() for line in done.lines)


def test_reader_that_goes_away_ends_it_quietly(standin: Operator) -> None:
    standin.installation.lock_dir.mkdir(exist_ok=True)
    for number in range(3000):
        (standin.installation.lock_dir / f"list{number}.lock").touch()
    done = subprocess.run(
        ["bash", "-c", f"{standin.command} locks | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=standin.environment(), capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "141" and not done.stderr


def test_ctrl_c_ends_it_quietly(standin: Operator) -> None:
    standin.agents.program("crm_mon", f"touch {standin.bin}/asked; sleep 60")
    standin.installation.make_dead_lock("n2", 4242)
    process = subprocess.Popen(
        [standin.command, "locks"], env=standin.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A test run in a shell's background ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if (standin.bin / "asked").exists():
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert (standin.bin / "asked").exists()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and not out and not errors, errors


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "C.UTF-8"])
def test_any_locale_will_do(standin: Operator, locale: str) -> None:
    one_of_each_with_long_names(standin)
    for words in (("locks",), ("locks", "--json"), ("explain", "lost")):
        given = {"LANG": locale, "LC_ALL": locale, "PYTHONIOENCODING": "ascii"}
        done = standin.run(*words, environment=given)
        assert done.code in (0, 1) and not done.stderr, done.stderr


def test_closed_stdout_is_no_traceback(standin: Operator) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{standin.command} locks --json >&-"], env=standin.environment(),
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert "Traceback" not in done.stderr


# -- python3-rich and others missing

def without(tmp_path: Path, command: Path, *modules: str) -> Path:
    """The installed command, run where these modules cannot be imported."""
    wrapper = tmp_path / "mailman-ha"
    text = command.read_text().splitlines(keepends=True)
    block = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in modules)
    wrapper.write_text(text[0] + block + "".join(text[1:]))
    wrapper.chmod(0o755)
    return wrapper


def test_without_rich_the_package_is_named_and_the_table_is_plain(
    standin: Operator, command: Path, tmp_path: Path
) -> None:
    lay_one_of_each(standin)
    standin.command = without(tmp_path, command, "rich")
    done = standin.on_terminal("locks", columns=80)
    assert "python3-rich is not installed" in done.text and done.code == 0
    assert "Traceback" not in done.stdout
    assert any(line.startswith("lost.lock ") for line in done.lines)
    assert len(standin.run("locks", "--json").locks()) == 6
    piped = standin.run("locks")
    assert not piped.stderr and any(line.startswith("lost.lock ") for line in piped.lines)


def test_without_psutil_the_package_is_named(
    standin: Operator, command: Path, tmp_path: Path
) -> None:
    standin.command = without(tmp_path, command, "psutil")
    done = standin.run("locks", "--json")
    assert done.code == 1 and "python3-psutil" in done.json("error")["error"]
    assert len(done.stderr.splitlines()) == 1


# -- schemas

def test_every_command_has_a_schema_that_tells_each_field() -> None:
    def undescribed(schema: object, where: str) -> list[str]:
        if isinstance(schema, list):
            return [bad for one in schema for bad in undescribed(one, where)]
        if not isinstance(schema, dict):
            return []
        bad = []
        for name, one in schema.get("properties", {}).items():
            if not one.get("description"):
                bad.append(f"{where}.{name}")
        if "properties" in schema and schema.get("additionalProperties") is not False:
            bad.append(f"{where}: additionalProperties")
        for key, one in schema.items():
            bad += undescribed(one, f"{where}.{key}")
        return bad

    for name in (*OWN, "error"):
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        assert schema["properties"]["schema"]["const"] == f"mailman-ha/{name}/1"
        assert undescribed(schema, name) == []


@pytest.mark.parametrize("name", cli_main.available())
def test_each_command_has_its_schema(name: str) -> None:
    assert (SCHEMAS / f"{name}.json").is_file()


# -- completion

def completions(prefix: Path, line: str, environment: dict[str, str]) -> list[str]:
    """What bash offers for `line`, through the installed file."""
    script = (
        f"source {prefix}/share/bash-completion/completions/mailman-ha; "
        f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; "
        f"COMP_WORDS=({line}); COMP_CWORD=1; _mailman_ha {prefix}/bin/mailman-ha; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert not done.stderr, done.stderr
    return [one.strip() for one in done.stdout.splitlines() if one.strip()]


def test_shell_completes_commands_options_and_locks(standin: Operator, prefix: Path) -> None:
    lay_one_of_each(standin)
    environment = standin.environment()
    assert completions(prefix, "mailman-ha lo", environment) == ["locks"]
    assert "--dry-run" in completions(prefix, "mailman-ha sweep --d", environment)
    assert "--resource" in completions(prefix, "mailman-ha locks --res", environment)
    assert completions(prefix, "mailman-ha explain los", environment) == ["lost.lock"]


def test_completion_without_argcomplete_offers_nothing_and_does_nothing(
    standin: Operator, command: Path, tmp_path: Path, prefix: Path
) -> None:
    place = tmp_path / "usr" / "bin"
    place.mkdir(parents=True)
    without(place, command, "argcomplete")
    shutil.copytree(prefix / "share", tmp_path / "usr" / "share")
    environment = standin.environment()
    assert completions(tmp_path / "usr", "mailman-ha lo", environment) == []


def test_bash_finds_the_completion_file_by_itself(prefix: Path) -> None:
    done = subprocess.run(
        ["bash", "-n", str(prefix / "share/bash-completion/completions/mailman-ha")],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0 and not done.stderr


# -- manual page

def test_manual_page_has_no_warning_and_tells_everything(prefix: Path) -> None:
    page = prefix / "share/man/man8/mailman-ha.8"
    checked = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True, check=False,
    )
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    linted = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, check=False
    )
    assert linted.returncode == 0 and not linted.stderr, linted.stderr
    read = subprocess.run(
        ["man", "-l", str(page)], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING":
             ""},
    )
    text = re.sub(".\b", "", read.stdout)
    for name in cli_main.available():
        assert re.search(rf"^ +{name}$", text, re.MULTILINE), name
    for said in ("--dry-run", "--resource ID", "--host-map MAP", "EXIT STATUS", "NO_COLOR",
                 "evidence.jsonl", "--json"):
        assert said in text, said
    assert max(map(len, text.splitlines())) <= 100


# -- how it is called

def test_runs_in_place_from_a_checkout() -> None:
    done = run(CHECKOUT / "lib/mailman_ha/cli/mailman-ha", "--help")
    assert done.code == 0 and "locks" in done.stdout


def test_runs_by_another_name_through_a_link(command: Path, tmp_path: Path) -> None:
    link = tmp_path / "mha"
    link.symlink_to(CHECKOUT / "lib/mailman_ha/cli/mailman-ha")
    assert run(link, "--help").stdout.startswith("usage: mailman-ha")


def test_environment_of_python_does_not_reach_it(command: Path, tmp_path: Path) -> None:
    """It runs as root: PYTHONPATH and modules in the current directory must not count."""
    (tmp_path / "argparse.py").write_text("raise SystemExit('taken in')\n")
    done = subprocess.run(
        [command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0 and not done.stderr


@pytest.mark.skipif(sys.version_info < (3, 9), reason="the suite's own floor")
def test_all_of_it_compiles_for_the_oldest_python() -> None:
    import ast

    for path in (CHECKOUT / "lib/mailman_ha/cli").glob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 9))


# -- words

@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "?"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (17300, "4 h 48 min"),
     (86400, "1 d"), (-93600, "1 d 2 h")],
)
def test_span(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


def test_clock_leaves_out_todays_date() -> None:
    assert clock(1795460445.7, 1795460500.0) == "19:00:45Z"
    assert clock(1795460445.7, 1795560500.0) == clock(1795460445.7, None) == "2026-11-23 19:00:45Z"
    assert clock(None, None) == "?"


def test_moment_of_any_number() -> None:
    assert moment(1795460445.7) == "2026-11-23 19:00:45Z"
    for absurd in (None, 1e30, -1e30, float("nan"), float("inf")):
        assert moment(absurd) == "?"


@pytest.mark.parametrize(
    ("why", "short"),
    [
        ("pid 7 on this host (n1) is gone", "gone"),
        ("pid 7 on this host (n1) is alive: python3 qrunner", "alive: python3 qrunner"),
        ("held by pid 7 on node n2, which is offline and not fenced yet",
         "offline and not fenced yet"),
        ("held by pid 7 on node n2 (host mail2.example.org), fenced since", "fenced since"),
        ("held by pid 7 on host x.example.org, which is no node of this cluster",
         "no node of this cluster"),
        ("held by pid 7 on host x: the cluster could not be asked (crm_mon)",
         "the cluster could not be asked (crm_mon)"),
        ("it is empty and no claim file shares its inode", "it is empty and no claim file shares "
         "its inode"),
        ("pid 7 on this host (n1) held it before this host booted",
         "held it before this host booted"),
    ],
)
def test_owner_is_told_once(why: str, short: str) -> None:
    assert in_short(why) == short


def test_picture_of_the_cluster_is_told(standin: Operator) -> None:
    standin.agents.cluster(ClusterPicture(
        {"n1": NodePicture(), "n2": NodePicture(online=False, unclean=True)}, stonith=False
    ))
    standin.installation.lock_dir.mkdir(exist_ok=True)
    told = standin.run("locks").stdout
    assert "n1 online, n2 unclean; quorum; fencing off" in told
