"""Comments and long commands of rendered files, set in lines of at most WIDTH characters."""

from __future__ import annotations

import re
import textwrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WIDTH = 100
_INDENT = "    "


def comment(paragraphs: Iterable[str], mark: str = "# ") -> Iterator[str]:
    """Comment lines, with an empty one for an empty paragraph that others follow, and between text
    and what is kept as it is: paragraphs that begin with two blanks.

    No line of text ends in a backslash, after which crm would take the next for its rest, nor in a
    hyphen, with which no comment of a CIB ends.
    """
    lines: list[str] = []
    kept = False
    for text in paragraphs:
        if text.startswith("  ") != kept and lines and lines[-1]:
            lines.append("")
        kept = text.startswith("  ")
        if kept or not text:
            lines.append(text)
        else:
            wrapped = textwrap.wrap(
                text, WIDTH - len(mark), break_long_words=False, break_on_hyphens=False
            )
            lines += (f"{line} ." if line.endswith(("\\", "-")) else line for line in wrapped)
    while lines and not lines[-1]:
        lines.pop()
    for line in lines:
        yield f"{mark}{line}".rstrip()


def for_a_cib(paragraphs: Iterable[str]) -> Iterator[str]:
    """The paragraphs as they may stand in a comment of a CIB, into which crm puts its own as well,
    each line by itself. It holds no two hyphens in a row, and does not end in one: text has them
    drawn apart, what is kept has \\x2d for the second, and a sentence at the end says so."""
    escaped = False
    for paragraph in paragraphs:
        if paragraph.startswith("  "):
            text = re.sub("(?<=-)-|-$", r"\\x2d", paragraph)
            escaped = escaped or text != paragraph
            yield text
        else:
            yield re.sub("-(?=-)", "- ", paragraph)
    if escaped:
        yield (
            "Write a hyphen for each \\x2d above: a comment of a CIB holds no two in a row, and "
            "none at its end."
        )


def command(clauses: Sequence[Sequence[str]]) -> Iterator[str]:
    """One command, whose lines but the last end in a backslash. The first clause begins it; each
    other begins a line, unless all of the command fits into one. Words are quoted already."""
    whole = " ".join(word for clause in clauses for word in clause)
    if len(whole) <= WIDTH:
        yield whole
        return
    lines: list[str] = []
    for number, clause in enumerate(clauses):
        line = "" if number == 0 else _INDENT
        for word in clause:
            longer = f"{line} {word}" if line.strip() else f"{line}{word}"
            if line.strip() and len(longer) + 2 > WIDTH:
                lines.append(line)
                longer = f"{_INDENT}{word}"
            line = longer
        if line.strip():
            lines.append(line)
    for line in lines[:-1]:
        yield f"{line} \\"
    yield lines[-1]
