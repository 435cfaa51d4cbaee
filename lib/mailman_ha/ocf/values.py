"""Parameter values as text, and what they mean.  Pure."""

from __future__ import annotations

from mailman_ha.ocf.environment import decimal

_TRUE = ("yes", "true", "1", "on", "ja", "y")
_FALSE = ("no", "false", "0", "off", "nein", "n")
_SECONDS_IN = {
    "": 1.0,
    "us": 0.000001,
    "usec": 0.000001,
    "ms": 0.001,
    "msec": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "d": 86400.0,
}


def parse_integer(text: str) -> int:
    """A whole number in decimal digits, with or without a sign.  Raises ValueError."""
    body = text[1:] if text[:1] in ("-", "+") else text
    number = decimal(body)
    if number is None:
        raise ValueError("must be a whole number")
    return -number if text[:1] == "-" else number


def parse_flag(text: str) -> bool:
    """Yes or no, in the words ocf-shellfuncs knows and their opposites.  Raises ValueError.

    Unlike ocf_is_true, anything else is an error rather than a quiet no.
    """
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("must be true or false")


def parse_seconds(text: str) -> float:
    """A span of time in seconds, or with a unit as Pacemaker writes them: 90, 90s, 5min, 2h, 1d.

    Raises ValueError.
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    number = decimal(digits.strip())
    factor = _SECONDS_IN.get(text[len(digits) :].lower())
    if number is None or factor is None:
        raise ValueError("must be a span of time such as 90, 90s, 5min, 2h or 1d")
    return number * factor
