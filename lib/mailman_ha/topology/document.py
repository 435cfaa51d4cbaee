"""A YAML text as a tree that knows its lines, and the mistakes found in it.

Nothing is built from what the text says but mappings, lists and texts: a version 2.1 is the text
"2.1", and `no` is the text "no". Aliases are refused, so a few lines cannot stand for millions.
"""

from __future__ import annotations

import difflib

import yaml

from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Union

#: No site needs more; what is longer is some other file (bytes).
GREATEST_SIZE = 1 << 16

#: Nobody reads more at a time, and finding what was probably meant takes a while for each.
MOST_MISTAKES = 100

#: How deep mappings and lists may stand in one another.
GREATEST_DEPTH = 8

_PLAIN_TAGS = frozenset(
    "tag:yaml.org,2002:" + name
    for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "map", "seq")
)


@record
class Mistake:
    """Something wrong in a description: where, at which key ('' for the file as a whole), what,
    and the way out. Lines count from 1."""

    file: str
    line: int
    key: str
    what: str
    fix: str

    def __str__(self) -> str:
        at = f"{self.key}: " if self.key else ""
        return one_line(f"{escape(self.file)}:{self.line}: {at}{self.what}; {self.fix}")


class NotSound(Exception):
    """The description cannot be used. `mistakes` has all that was found, in the file's order."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: (one.line, one.key, one.what)))
        super().__init__("\n".join(map(str, self.mistakes)))


def note(mistakes: list[Mistake], mistake: Mistake) -> None:
    """Add to the mistakes found so far. Raises NotSound with them where they are too many."""
    mistakes.append(mistake)
    if len(mistakes) >= MOST_MISTAKES:
        last = max(one.line for one in mistakes)
        more = Mistake(mistake.file, last, "", "may have more mistakes than these", "correct them "
                       "first, then try again")
        raise NotSound([*mistakes, more])


@record
class Text:
    """A scalar as it was written, without its quotes; `empty` where nothing was (or ~, null)."""

    line: int
    text: str
    empty: bool = False


@record
class Items:
    """A list."""

    line: int
    items: tuple[Any, ...]


@record
class Mapping:
    """A mapping: (key, line of the key, value) in the file's order, no key twice."""

    line: int
    entries: tuple[tuple[str, int, Any], ...]


if TYPE_CHECKING:
    Tree = Union[Text, Items, Mapping]


def read(path: str) -> tuple[Tree, list[Mistake]]:
    """Read a file and parse it. Raises NotSound where it cannot be read, or is no YAML."""
    try:
        with open(path, "rb") as file:
            content = file.read(GREATEST_SIZE + 1)
    except OSError as error:
        raise NotSound(
            [Mistake(path, 1, "", f"cannot be read: {error.strerror}", "give the path of a file "
                     "with a site's description")]
        ) from error
    return parse(content, path)


def parse(content: bytes, file: str) -> tuple[Tree, list[Mistake]]:
    """The tree, and the mistakes that leave one (keys given twice). Raises NotSound."""
    if len(content) > GREATEST_SIZE:
        raise NotSound(
            [Mistake(file, 1, "", f"is longer than {GREATEST_SIZE} bytes",
                     "give the file of a site's description")]
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotSound([Mistake(file, line, "", "is not UTF-8", "save it as UTF-8")]) from error
    try:
        root = _Parser(text, file).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotSound(
            [Mistake(file, line, "", "holds a control character", "remove it")]
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ": ".join(part for part in (error.context, error.problem) if part)
        raise NotSound(
            [Mistake(file, mark.line + 1 if mark else 1, "", f"is no YAML ({said})",
                     "look at the indentation, brackets and quotes here and in the line before")]
        ) from error
    except (ValueError, OverflowError) as error:  # what PyYAML makes of "\UFFFFFFFF"
        line = text.count("\n", 0, max(text.find("\\U"), 0)) + 1
        raise NotSound(
            [Mistake(file, line, "", "is no YAML (an escape stands for no character)",
                     "look at what follows \\U")]
        ) from error
    if root is None:
        raise NotSound(
            [Mistake(file, 1, "", "is empty", "describe the site: nodes, address, share, mailman "
                     "and fencing")]
        )
    mistakes: list[Mistake] = []
    return _tree(root, file, "", mistakes), mistakes


class _Parser(yaml.SafeLoader):
    """PyYAML's parser up to its node graph, without aliases and with a bound on the depth."""

    def __init__(self, text: str, file: str) -> None:
        self._depth = 0
        self._file = file
        super().__init__(text)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise NotSound(
                [Mistake(self._file, line, "", f"the alias *{escape(event.anchor or '', 40)} is "
                         "not understood here", "write out what it stands for")]
            )
        if self._depth >= GREATEST_DEPTH:
            raise NotSound(
                [Mistake(self._file, line, "", f"is nested deeper than {GREATEST_DEPTH} levels",
                         "no part of a description needs that: look at the indentation")]
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _tree(node: Any, file: str, key: str, mistakes: list[Mistake]) -> Tree:
    line = node.start_mark.line + 1
    if node.tag not in _PLAIN_TAGS:
        note(mistakes, Mistake(
            file, line, key, f"the tag {escape(node.tag, 60)} is not understood",
            "leave it out: every value is taken as text",
        ))
    if isinstance(node, yaml.ScalarNode):
        plain = node.style is None
        return Text(line, node.value, plain and node.value in ("", "~", "null", "Null", "NULL"))
    if isinstance(node, yaml.SequenceNode):
        return Items(line, tuple(_tree(item, file, key, mistakes) for item in node.value))
    entries: list[tuple[str, int, Tree]] = []
    first: dict[str, int] = {}
    for name, value in node.value:
        at = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            note(mistakes, Mistake(
                file, at, key, "a key is a list or a mapping", "write a word as the key"
            ))
            continue
        below = below_key(key, name.value)
        if name.value in first:
            note(mistakes, Mistake(
                file, at, below, f"was given in line {first[name.value]} already",
                "keep one of the two",
            ))
            continue
        first[name.value] = at
        entries.append((name.value, at, _tree(value, file, below, mistakes)))
    return Mapping(line, tuple(entries))


def below_key(key: str, name: str) -> str:
    """The key `name` under `key`, as messages call it."""
    shown = escape(name, 60) or "''"
    return f"{key}.{shown}" if key else shown


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The way out for an unknown word: the one that was probably meant, or all there are."""
    names = list(known)
    close = difflib.get_close_matches(word.lower()[:60], [name.lower() for name in names], 1, 0.6)
    for name in names:
        if close and name.lower() == close[0]:
            return f"did you mean {name}?"
    return f"known here: {', '.join(names)}"
