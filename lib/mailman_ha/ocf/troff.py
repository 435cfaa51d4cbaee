"""Manual pages in the man macros of troff, so that man and mandoc print what is meant."""

from __future__ import annotations

import textwrap

from mailman_ha import RELEASED, __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: mandoc complains about source lines that are longer than 80 bytes.
_WIDTH = 76

_ESCAPES = str.maketrans({
    "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti",
})


def heading(name: str, section: int, told: str, manual: str) -> Iterator[str]:
    """The page's first lines: its title, and its NAME with what it is in one line."""
    title = word(name.upper())
    yield f".TH {title} {section} {RELEASED} {word('mailman-ha ' + __version__)} {word(manual)}"
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield _filled(f"{inline(name)} \\- {inline(told)}")


def prose(told: Iterable[str]) -> Iterator[str]:
    """Paragraphs."""
    for number, paragraph in enumerate(told):
        if number:
            yield ".PP"
        yield text(paragraph)


def entry(marked: str, told: Iterable[str]) -> Iterator[str]:
    """A term with what is said of it below it, in paragraphs; `marked` is troff already."""
    yield ".TP"
    yield marked
    for number, paragraph in enumerate(told):
        if number:
            yield ".sp"
        yield text(paragraph)


def entries(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Terms in bold, each with one paragraph."""
    for name, told in pairs:
        yield from entry(bold(name), [told])


def display(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they are typed, indented."""
    yield ".PP"
    yield ".in +4n"
    yield ".EX"
    for line in lines:
        yield inline(line) if line else "\\&"
    yield ".EE"
    yield ".in"


def see_also(pages: Iterable[tuple[str, int]]) -> Iterator[str]:
    """The section SEE ALSO, of (name, section of the manual)."""
    yield ".SH SEE ALSO"
    # man(7) wants them by section, then by name.
    named = [f".BR {inline(name)} ({section})"
             for name, section in sorted(pages, key=lambda page: (page[1], page[0]))]
    yield from [line + "," for line in named[:-1]]
    yield named[-1]


def bold(shown: str) -> str:
    """`shown` in bold, within a line."""
    return f"\\fB{inline(shown)}\\fR"


def word(shown: str) -> str:
    """`shown` as one argument of a macro."""
    return '"' + inline(shown).replace('"', "\\(dq") + '"'


def text(shown: str) -> str:
    """`shown` as running text, in lines of a source's length."""
    return _filled(shown.translate(_ESCAPES))


def _filled(escaped: str) -> str:
    lines = textwrap.wrap(escaped, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_protected, lines))


def inline(shown: str) -> str:
    """`shown` as troff has to read it to print it, on one line."""
    return _protected(shown.translate(_ESCAPES))


def _protected(escaped: str) -> str:
    """The line, which is no request even where it begins like one."""
    return "\\&" + escaped if escaped.startswith(".") else escaped
