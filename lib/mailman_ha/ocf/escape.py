"""Make hostile names harmless to print.

Names in a lock directory or a queue are written by other programs: they may hold newlines,
terminal escape sequences, and bytes that are no UTF-8.  Whatever is printed or logged goes
through here first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Name = Union[str, bytes]


def escape(name: Name, limit: int = 0) -> str:
    r"""Write a name as one line of printable ASCII.

    A byte outside printable ASCII becomes `\xNN` and a backslash is doubled, so that different
    names stay different.  Text is taken as the file system takes it: UTF-8, with the surrogates
    by which Python carries undecodable bytes; hence `escape(name) == escape(os.fsencode(name))`
    where the file system's encoding is UTF-8.  Surrogates that stand for no byte become `\uNNNN`.

    With a limit (characters, 0 = none) a longer result is cut and ends in `...`.
    """
    if isinstance(name, str):
        if name.isascii() and name.isprintable() and "\\" not in name:
            shown = name
        else:
            shown = "".join(map(_shown_character, name))
    else:
        shown = "".join(map(_shown_byte, name))
    if limit and len(shown) > limit:
        return shown[: max(limit - 3, 0)] + "..."
    return shown


def one_line(sentence: str) -> str:
    r"""Put a sentence of our own on one line: whatever is not printable becomes `\xNN` or `\uNNNN`.

    A safety net for log lines and exit reasons.  Backslashes stay as they are, because names in
    the sentence have been through `escape` before; so applying it twice changes nothing more.
    """
    if sentence.isprintable():
        return sentence
    return "".join(
        character if character.isprintable() else _shown_character(character)
        for character in " ".join(sentence.splitlines())
    )


def _shown_byte(byte: int) -> str:
    if byte == 0x5C:
        return "\\\\"
    if 0x20 <= byte < 0x7F:
        return chr(byte)
    return f"\\x{byte:02x}"


def _shown_character(character: str) -> str:
    try:
        return "".join(map(_shown_byte, character.encode("utf-8", "surrogateescape")))
    except UnicodeEncodeError:
        return f"\\u{ord(character):04x}"
