"""Hostile names are harmless once escaped, and still tell themselves apart."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mailman_ha.ocf.escape import escape, one_line

NAMES = st.binary(max_size=40)
TEXTS = st.text(max_size=40)
ANY_CHARACTERS = st.text(st.characters(exclude_categories=()), max_size=40)


def unescape(shown: str) -> bytes:
    """The bytes that `escape` showed: the way back, which proves that nothing was lost."""
    found = bytearray()
    position = 0
    while position < len(shown):
        if shown[position] != "\\":
            found.append(ord(shown[position]))
            position += 1
        elif shown[position + 1] == "\\":
            found.append(0x5C)
            position += 2
        else:
            assert shown[position + 1] == "x"
            found.append(int(shown[position + 2 : position + 4], 16))
            position += 4
    return bytes(found)


@given(NAMES | ANY_CHARACTERS)
@example("\x1b]0;owned\x07")
@example("a\nb\r\x85\u2028c")
@example("\ud800")
@example(b"\xff\xfe\x00")
def test_escaped_name_is_one_line_of_printable_ascii(name: bytes | str) -> None:
    shown = escape(name)
    assert shown.isascii() and shown.isprintable()


@given(NAMES)
def test_escaped_bytes_can_be_recovered(name: bytes) -> None:
    assert unescape(escape(name)) == name


@given(ANY_CHARACTERS, ANY_CHARACTERS)
def test_different_names_stay_different(one: str, other: str) -> None:
    assume(one != other)
    assume(not _is_odd(one) and not _is_odd(other))
    assert escape(one) != escape(other)


def _is_odd(text: str) -> bool:
    """Text that no file name can be: surrogates by which valid UTF-8 was smuggled in."""
    try:
        return os.fsdecode(os.fsencode(text)) != text
    except UnicodeEncodeError:
        return True


@given(NAMES)
def test_name_is_shown_alike_as_bytes_and_as_text(name: bytes) -> None:
    assert escape(os.fsdecode(name)) == escape(name)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")))
def test_harmless_name_stays_as_it_is(name: str) -> None:
    assert escape(name) == name


@given(NAMES | TEXTS, st.integers(min_value=4, max_value=60))
def test_limit_is_kept_and_shows_that_it_cut(name: bytes | str, limit: int) -> None:
    whole = escape(name)
    shown = escape(name, limit)
    assert len(shown) <= limit
    if len(whole) <= limit:
        assert shown == whole
    else:
        assert shown == whole[: limit - 3] + "..."


@given(ANY_CHARACTERS)
@example("a\n\nb")
@example("\\x0a")
def test_sentence_becomes_one_printable_line_and_stays_so(sentence: str) -> None:
    line = one_line(sentence)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


@given(TEXTS)
def test_escaped_name_survives_in_a_sentence(name: str) -> None:
    shown = escape(name)
    assert one_line(f"the lock {shown} is held") == f"the lock {shown} is held"


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("plain", "plain"),
        ("first\nsecond", "first second"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("Müller", "Müller"),
        ("a\\b", "a\\b"),
        ("\udcff", "\\xff"),
    ],
)
def test_sentence_on_one_line(sentence: str, line: str) -> None:
    assert one_line(sentence) == line
