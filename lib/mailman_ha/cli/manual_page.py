"""The manual page mailman-ha(8), made from the parser, so that it tells what the command does.

To print it: `python3 -m mailman_ha.cli.manual_page`.
"""

from __future__ import annotations

import argparse
import sys

from mailman_ha.agents.parameters import see_also
from mailman_ha.cli import main as command
from mailman_ha.cli.target import WHICH_MAILMAN
from mailman_ha.ocf import troff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DESCRIPTION = (
    "mailman-ha looks at a GNU Mailman that the resource agents of mailman-ha keep on a Pacemaker "
    "cluster: with their own eyes, for it is the same code that observes and judges. Names of "
    "files are printed as printable ASCII, any other byte as \\xNN."
)

_STATUS = (
    ("0", "All is fine."),
    ("1", "Something needs you: what was found does, or the command could not do its work. The "
     "last lines say what to type."),
    ("2", "Wrong usage, or a wrong site description."),
    ("130, 141", "Ended by Ctrl-C; the reader of the output went away."),
)

_ENVIRONMENT = (
    ("NO_COLOR", "No colours on a terminal. Where stdout is no terminal there never are any."),
    ("COLUMNS", "The width of tables on a terminal."),
    ("HA_LOGFACILITY", "The syslog facility for what a sweep did (daemon); none for no log."),
    ("HA_RSCTMP", "Where the agents keep what must not outlive a reboot (/run/resource-agents)."),
    ("HA_debug", "Set to 1 it shows the traceback of a defect."),
)

_FILES = (
    ("LOCK_DIR/mailman-ha.quarantine/", "What was released. evidence.jsonl there tells why, one "
     "line of JSON for each."),
    ("PREFIX/share/mailman-ha/schemas/", "The JSON Schemas of what --json prints, "
     "one for each command, and error.json."),
)

_EXAMPLES = (
    ("What holds Mailman up?", "mailman-ha locks"),
    ("Why is this list's web page stuck, and what can I do?", "mailman-ha explain mylist"),
    ("What would be released now?", "mailman-ha sweep --dry-run"),
    ("Does every queue have its runner?", "mailman-ha slices"),
)


def manual_page() -> str:
    """The page in the man macros of troff, ending in a newline."""
    return "\n".join(_lines(command.build_parser())) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from troff.heading(
        "mailman-ha", 8, command.SUMMARY[0].lower() + command.SUMMARY[1:-1], "mailman-ha"
    )
    yield ".SH SYNOPSIS"
    yield ".B mailman\\-ha"
    yield troff.text("COMMAND [--json] [options]")
    yield ".SH DESCRIPTION"
    yield troff.text(_DESCRIPTION)
    shared = None
    yield ".SH COMMANDS"
    for name, under in _commands(parser):
        yield f".SS {troff.word(name)}"
        yield from troff.prose((under.description or "").split("\n\n"))
        for group in under._action_groups:
            if group.title == WHICH_MAILMAN:
                shared = group
                continue
            yield from _options(under, group._group_actions)
        if any(group.title == WHICH_MAILMAN for group in under._action_groups):
            yield ".PP"
            yield "Also the options of the next section."
    if shared is not None:
        yield f".SH {troff.word('OPTIONS THAT SAY WHICH MAILMAN')}"
        yield troff.text(shared.description or "")
        yield from _options(parser, shared._group_actions)
    yield from _section("EXIT STATUS", _STATUS)
    yield from _section("ENVIRONMENT", _ENVIRONMENT)
    yield from _section("FILES", _FILES)
    yield ".SH EXAMPLES"
    for question, typed in _EXAMPLES:
        yield ".TP"
        yield troff.inline(question)
        yield f".B {troff.inline(typed)}"
    yield from troff.see_also((*see_also("mailman-ha"), ("pcs", 8), ("crm", 8), ("crm_mon", 8)))


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _options(
    parser: argparse.ArgumentParser, actions: Iterable[argparse.Action]
) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        value = ""
        if action.nargs != 0:
            shown = action.metavar or action.dest.upper()
            value = shown if isinstance(shown, str) else " ".join(shown)
        if action.option_strings:
            marked = ", ".join(map(troff.bold, action.option_strings))
            marked += f" {troff.inline(value)}" if value else ""
        else:
            marked = troff.bold(value)
        yield from troff.entry(marked, [formatter._expand_help(action)] if action.help else [])


def _section(title: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f".SH {troff.word(title)}"
    yield from troff.entries(entries)


if __name__ == "__main__":
    sys.stdout.write(manual_page())
