"""What a person reads: tables and short texts. The only module that knows rich.

On a terminal rich lays a table out so that it fits, in colour unless NO_COLOR is set. Anywhere
else (a pipe, a file) every row is one line of plain text, nothing is cut or wrapped, and rich is
not even loaded. A terminal without rich gets the same plain lines and a word on what to install.

Every text is taken as text: what looks like markup of rich stays as it is, and what is not
printable is written as `one_line` does. Names of files belong through `ocf.escape.escape` first.
"""

from __future__ import annotations

import sys

from mailman_ha.ocf.escape import one_line
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Union

# What a text is about; how that looks is decided here.
GOOD = "good"
DOUBT = "doubt"
BAD = "bad"
FAINT = "faint"
STRONG = "strong"

_LOOKS = {
    "": "", GOOD: "green", DOUBT: "yellow", BAD: "bold red", FAINT: "dim", STRONG: "bold",
}

_GAP = "  "

#: Nobody reads more on a terminal, and laying it out takes seconds.
MOST_ROWS_ON_A_TERMINAL = 500

_MISSING = (
    "mailman-ha: the distribution's package python3-rich is not installed, so tables are plain; "
    "apt-get install python3-rich (dnf install python3-rich)"
)


@record
class Column:
    """A column. `least` is the width (characters) below which it is not pressed; `right` aligns
    numbers."""

    title: str
    least: int = 4
    right: bool = False


@record
class Cell:
    """A text and what it is about (GOOD, DOUBT, BAD, FAINT, STRONG, or '' for nothing special)."""

    text: str
    look: str = ""


if TYPE_CHECKING:
    Text = Union[str, Cell]


def show(columns: Sequence[Column], rows: Iterable[Sequence[Text]]) -> None:
    """Print a table, the rows in this order; on a terminal at most MOST_ROWS_ON_A_TERMINAL."""
    cells = [[_pair(one) for one in row] for row in rows]
    console = _console()
    if console is None:
        _show_plainly(columns, cells)
        return
    from rich.table import Table
    from rich.text import Text as RichText

    shown = cells[:MOST_ROWS_ON_A_TERMINAL]
    titles = [one_line(column.title) for column in columns]
    natural = [
        max(map(len, (title, *(row[number][0] for row in shown))))
        for number, title in enumerate(titles)
    ]
    least = [max(column.least, len(title)) for column, title in zip(columns, titles)]
    # Gaps are columns of their own: rich counts padding behind the last column, too.
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold")
    for number, width in enumerate(fit(natural, least, console.width)):
        if number:
            table.add_column("", width=len(_GAP))
        table.add_column(
            RichText(titles[number]), justify="right" if columns[number].right else "left",
            width=width, overflow="fold",
        )
    for row in shown:
        laid: list[Any] = []
        for text, look in row:
            laid += [RichText(text, style=_LOOKS[look]), ""]
        table.add_row(*laid[:-1])
    console.print(table)
    left = len(cells) - MOST_ROWS_ON_A_TERMINAL
    if left > 0:
        say(f"... and {left} rows more: pipe the output into less, or take --json", FAINT)


def fit(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """The widths of columns that shall fit into `width` with the gaps between them.

    The widest that may still be pressed is pressed first; where even the least widths are too
    much, the widest of all. (rich itself presses below a column's least width, takes that back,
    and cuts what then stands out.)
    """
    widths = list(natural)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for floors in (least, [1] * len(widths)):
        while excess > 0:
            pressed = max(
                range(len(widths)), key=lambda one: (widths[one] > floors[one], widths[one])
            )
            if widths[pressed] <= floors[pressed]:
                break
            widths[pressed] -= 1
            excess -= 1
    return widths


def fields(named: Iterable[tuple[str, Text]]) -> None:
    """Print names and what they stand for, one under the other. An empty name goes on with the
    one before."""
    rows = [(one_line(name), *_pair(text)) for name, text in named]
    console = _console()
    if console is None:
        width = max((len(row[0]) for row in rows), default=0)
        sys.stdout.writelines(
            f"{name:<{width}}  {text}".rstrip() + "\n" for name, text, _ in rows
        )
        return
    from rich.table import Table
    from rich.text import Text as RichText

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text, look in rows:
        grid.add_row(RichText(name, style="bold"), RichText(text, style=_LOOKS[look]))
    console.print(grid)


def say(text: str, look: str = "") -> None:
    """Print one paragraph, wrapped on a terminal; '' prints an empty line."""
    text = one_line(text)
    console = _console()
    if console is None:
        sys.stdout.write(text + "\n")
        return
    from rich.text import Text as RichText

    console.print(RichText(text, style=_LOOKS[look], overflow="fold"))


def _pair(text: Text) -> tuple[str, str]:
    """The text, harmless, and its look. No Cell: of these there are as many as a table has."""
    if isinstance(text, str):
        return one_line(text), ""
    return one_line(text.text), text.look


def _show_plainly(
    columns: Sequence[Column], rows: Sequence[Sequence[tuple[str, str]]]
) -> None:
    lines = [[one_line(column.title).upper() for column in columns]]
    lines += [[text for text, _ in row] for row in rows]
    widths = [max(map(len, texts)) for texts in zip(*lines)]
    widths[-1] = 0 if not columns[-1].right else widths[-1]
    for line in lines:
        sys.stdout.write(
            _GAP.join(
                text.rjust(width) if column.right else text.ljust(width)
                for text, width, column in zip(line, widths, columns)
            ).rstrip() + "\n"
        )


_kept: list[Any] = []


def _console() -> Any:
    """rich's console where stdout is a terminal, else None; decided once."""
    if not _kept:
        _kept.append(_make_console())
    return _kept[0]


def _make_console() -> Any:
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        sys.stderr.write(_MISSING + "\n")
        return None
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
