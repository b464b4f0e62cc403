"""Times, durations and counts as people read them."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

__all__ = [
    "cut_text",
    "format_age",
    "format_clock",
    "format_duration",
    "format_json",
    "format_short_count",
    "format_span",
    "format_time",
]

_MAX_TEXT = 100_000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def format_duration(seconds: float) -> str:
    """Return a duration.

    >>> [format_duration(value) for value in (0.0004, 0.0123, 1.25, 75, 7_400, 200_000)]
    ['0.4 ms', '12 ms', '1.2 s', '1 min 15 s', '2 h 3 min', '2 d 7 h']
    """
    if seconds < 0.001:
        return f"{max(seconds, 0) * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return _split(int(seconds))


def _split(seconds: int) -> str:
    """Return a minute or more in the two largest units that it fills."""
    place = next(place for place, (size, _) in enumerate(_UNITS) if seconds >= size)
    (size, name), (smaller, smaller_name) = _UNITS[place : place + 2]
    count, rest = divmod(seconds, size)
    more = f" {rest // smaller} {smaller_name}" if rest >= smaller else ""
    return f"{count} {name}{more}"


def format_age(seconds: float) -> str:
    """Return how long ago something was, or in how long it will be.

    >>> [format_age(value) for value in (0.4, 42.0, 130.0, 7_300.0, 100_000.0, -90.0)]
    ['now', '42 s ago', '2 min ago', '2 h ago', '1 d ago', 'in 1 min']
    """
    if abs(seconds) < 1:
        return "now"
    text = format_span(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def format_span(seconds: float) -> str:
    """Return how long something has lasted, in the largest unit that it fills.

    >>> [format_span(value) for value in (0.4, 42.0, 130.0, 100_000.0)]
    ['0 s', '42 s', '2 min', '1 d']
    """
    size, name = next((size, name) for size, name in _UNITS if seconds >= size or size == 1)
    return f"{seconds // size:.0f} {name}"


def format_time(when: float) -> str:
    """Return a time, in seconds since 1970, in UTC.

    >>> format_time(1773964800.0)
    '2026-03-20 00:00:00 UTC'
    """
    return f"{dt.datetime.fromtimestamp(when, dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def format_clock(when: float, now: float) -> str:
    """Return a time of today in UTC; of another day, with its date.

    >>> format_clock(1773964800.0, 1773968400.0), format_clock(1773964800.0, 1774051200.0)
    ('00:00:00 UTC', '2026-03-20 00:00:00 UTC')
    """
    date, _, clock = format_time(when).partition(" ")
    return clock if format_time(now).startswith(date) else f"{date} {clock}"


def format_short_count(count: int) -> str:
    """Return a count in a few characters.

    >>> [format_short_count(count) for count in (7, 9_999, 12_345, 1_000_000)]
    ['7', '9,999', '12.3k', '1M']
    """
    if count < 10_000:
        return f"{count:,}"
    size, name = (1_000_000, "M") if count >= 1_000_000 else (1_000, "k")
    tenths = count * 10 // size
    return f"{tenths // 10}{f'.{tenths % 10}' if tenths % 10 else ''}{name}"


def format_json(value: Any) -> str:
    """Return a value as indented JSON; of a very long value, the beginning.

    >>> print(format_json({"a": [1]}))
    {
      "a": [
        1
      ]
    }
    """
    return cut_text(json.dumps(value, indent=2, ensure_ascii=False))


def cut_text(text: str) -> str:
    r"""Return a text; of a very long text, the beginning, and how much more there is.

    >>> cut_text("a" * 100_007)[100_000:]
    '\n… 7 more characters; the API has all'
    """
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[:_MAX_TEXT]}\n… {len(text) - _MAX_TEXT:,} more characters; the API has all"
