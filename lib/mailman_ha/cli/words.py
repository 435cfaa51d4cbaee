"""Times for people."""

from __future__ import annotations

import time


def span(seconds: float | None) -> str:
    """A span of time in at most two units: ``45 s``, ``12 min``, ``4 h 48 min``, ``3 d 2 h``;
    ``?`` for None. What is below zero counts as its size."""
    if seconds is None:
        return "?"
    whole = int(abs(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def clock(seconds: float | None, now: float | None) -> str:
    """A moment beside others: without its date where that is the date of `now`."""
    told = moment(seconds)
    today = moment(now)[:11]
    return told[11:] if len(today) == 11 and told.startswith(today) else told


def moment(seconds: float | None) -> str:
    """A moment in UTC, ``2026-11-23 19:00:45Z``; ``?`` for None and for what no calendar has."""
    if seconds is None:
        return "?"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "?"
