"""The parser of mailman-ha, and how every command begins and ends.

A command is a module of this package, named in :data:`COMMANDS`, with

    NAME: str                                   the word that is typed
    HELP: str                                   one line
    DESCRIPTION: str                            (optional) more of it; empty lines part paragraphs
    declare(parser: argparse.ArgumentParser)    adds its arguments; --json is there already
    run(options: argparse.Namespace) -> int     does it; answers FINE or NEEDS_YOU (see `ending`)

What only `run` needs is imported in `run`: the parser of every command is built for --help, and
that must be quick. A command raises UsageError and CannotDo for what is told in one sentence.
With --json it prints one object by `json_output.write`, else tables by `table`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys

from mailman_ha import __version__
from mailman_ha.cli.ending import NEEDS_YOU, USAGE, CannotDo, UsageError
from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.ocf.outcome import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn

#: Modules of this package, in the order of the help; one that is not there is not listed.
COMMANDS = ("locks", "explain", "sweep", "slices", "doctor", "render", "simulate")

BROKEN_PIPE = 141
INTERRUPTED = 130

PROGRAM = "mailman-ha"
SUMMARY = "Shows and mends what the mailman-ha resource agents watch over."
EPILOG = (
    "exit status: 0 all is fine, 1 something needs you, 2 wrong usage. "
    "`mailman-ha COMMAND --help` tells more of a command, mailman-ha(8) of all."
)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are safe to print, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Help whose paragraphs stay apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = argparse.HelpFormatter._fill_text
        return "\n\n".join(fill(self, part, width, indent) for part in text.split("\n\n"))


def available() -> tuple[str, ...]:
    """Those of COMMANDS that are installed."""
    return tuple(
        name for name in COMMANDS if importlib.util.find_spec(f"{__package__}.{name}") is not None
    )


def build_parser(commands: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """The parser with these commands; all that are there by default."""
    parser = _Parser(
        prog=PROGRAM, description=SUMMARY, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    under = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )
    for name in available() if commands is None else commands:
        module = _command(name)
        one = under.add_parser(
            module.NAME,
            help=module.HELP,
            description=getattr(module, "DESCRIPTION", module.HELP),
            formatter_class=_Plain,
            allow_abbrev=False,
        )
        one.add_argument(
            "--json", action="store_true",
            help=f"print one JSON object (schema mailman-ha/{module.NAME}/1) instead",
        )
        one.set_defaults(run=module.run)
        module.declare(one)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is typed; answers the exit status."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    try:
        if "_ARGCOMPLETE" in os.environ:
            return _complete()
        # One command's parser is enough where the first word names it: the others stay unloaded.
        alone = typed[:1] if typed and typed[0] in available() else None
        options = build_parser(alone).parse_args(typed)
        status = _run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has seen enough; what is still buffered must not complain at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def _prepare_streams() -> None:
    """Let nothing that is printed fail: neither a character the locale lacks nor a closed
    stream, in whose place the next file opened would come."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _run(options: argparse.Namespace) -> int:
    try:
        status: int = options.run(options)
        return status
    except UsageError as error:
        return _complain(options, str(error), USAGE)
    except CannotDo as error:
        return _complain(options, str(error), NEEDS_YOU)
    except Refusal as refusal:
        return _complain(options, refusal.outcome.reason, NEEDS_YOU)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "mailman_ha") or _debugging():
            raise
        return _complain(
            options,
            f"the Python module {escape(package)} is missing on this machine; install the "
            f"distribution's package python3-{escape(package.lower())}",
            NEEDS_YOU,
        )
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _debugging():
            raise
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = (
            f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})"
            if place is not None else ""
        )
        return _complain(
            options,
            f"a defect of {PROGRAM}: {type(error).__name__}: {escape(str(error), 200)}{where}; "
            "please report it with what HA_debug=1 in the environment shows",
            NEEDS_YOU,
        )


def _complain(options: argparse.Namespace, sentence: str, status: int) -> int:
    sentence = one_line(sentence)
    sys.stdout.flush()
    sys.stderr.write(f"{PROGRAM} {options.command}: {sentence}\n")
    if options.json:
        from mailman_ha.cli import json_output

        json_output.write("error", {"command": options.command, "error": sentence})
    return status


def _debugging() -> bool:
    return os.environ.get("HA_debug", "0") not in ("", "0")  # noqa: SIM112 (as the agents)


def _complete() -> int:
    """Answer the shell's question how the words go on; without argcomplete there is no answer."""
    try:
        import argcomplete
    except ImportError:
        return 1
    argcomplete.autocomplete(build_parser())
    return 1


def _command(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}")
