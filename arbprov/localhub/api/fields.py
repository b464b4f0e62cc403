"""The types of fields in the API's JSON, with the bounds that its schemas show."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, overload

import attrs

__all__ = [
    "Alternatives",
    "Id",
    "Name",
    "OptionalId",
    "OptionalKey",
    "OptionalName",
    "OptionalSeconds",
    "OptionalWhen",
    "Range",
    "Text",
    "to_datetime",
    "to_seconds",
]

_UTC = dt.timezone.utc
# Times are before the year 5138, which each Python and each store can hold.
_MAX_SECONDS = 1e11
_MAX_TEXT = 200


@attrs.frozen(kw_only=True)
class Range:
    """The bounds of a number; None is no bound."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None
    lt: float | None = None

    def __call__(self, value: float | None) -> None:
        """Raise a ValueError for a number outside of the bounds; null is fine."""
        if value is None:
            return
        if self.gt is not None and not value > self.gt:
            raise ValueError(f"must be greater than {self.gt:g}")
        if self.ge is not None and not value >= self.ge:
            raise ValueError(f"must be at least {self.ge:g}")
        if self.le is not None and not value <= self.le:
            raise ValueError(f"must be at most {self.le:g}")
        if self.lt is not None and not value < self.lt:
            raise ValueError(f"must be less than {self.lt:g}")


@attrs.frozen(kw_only=True)
class TextBounds:
    """The bounds of a text: bytes of UTF-8, and no NUL, which PostgreSQL cannot keep.

    Attributes:
        is_path_part: Whether addresses have it as a part of their paths, of which browsers take
            . and .. away.
        pattern: The bounds for a schema, in characters.
    """

    min_size: int = 0
    max_size: int = _MAX_TEXT
    is_path_part: bool = False
    pattern: str = attrs.field(init=False)

    @pattern.default
    def _find_pattern(self) -> str:
        not_dots = r"(?!\.{1,2}$)" if self.is_path_part else ""
        return rf"^{not_dots}[^\x00]{{{self.min_size},{self.max_size}}}$"

    def __call__(self, value: str | None) -> None:
        """Raise a ValueError for a text outside of the bounds."""
        try:
            size = self.min_size if value is None else len(value.encode())
        except UnicodeEncodeError:
            raise ValueError("a string with a lone surrogate is not Unicode text") from None
        if size < self.min_size:
            raise ValueError("must not be empty")
        if size > self.max_size:
            raise ValueError(f"must have at most {self.max_size} bytes of UTF-8")
        if value is not None and "\0" in value:
            raise ValueError("must not contain NUL")
        if self.is_path_part and value in (".", ".."):
            raise ValueError("must not be . or .., which a browser takes out of an address")


@attrs.frozen(kw_only=True)
class Moment:
    """Asks for a time with an offset from UTC, or for seconds since 1970; null is fine."""

    pattern: str = r"(Z|[+-][0-9]{2}:[0-9]{2})$"
    gt: float = 0
    lt: float = _MAX_SECONDS

    def __call__(self, value: dt.datetime | float | None) -> None:
        """Raise a ValueError for a time without an offset, or a time that no store can hold."""
        if isinstance(value, dt.datetime):
            if value.tzinfo is None:
                raise ValueError("must end with Z or an offset such as +01:00")
            value = (value - dt.datetime(1970, 1, 1, tzinfo=_UTC)).total_seconds()
        if value is not None and not self.gt < value < self.lt:
            raise ValueError("must be after 1970 and before the year 5138")


@attrs.frozen(kw_only=True)
class Alternatives:
    """Asks for one or more items: with an empty list, a filter would mean every task."""

    min_length: int = 1

    def __call__(self, value: list[object]) -> None:
        """Raise a ValueError for an empty list."""
        if len(value) < self.min_length:
            raise ValueError("must not be empty; leave it out if any is meant")


#: A text that may be empty.
Text = Annotated[str, TextBounds()]
#: The id of a task, or the name of a token, which is in the address of its page.
Id = Annotated[str, TextBounds(min_size=1, is_path_part=True)]
#: The same, if it is given.
OptionalId = Annotated[str | None, TextBounds(min_size=1, is_path_part=True)]
#: A text that a task is found by.
Name = Annotated[str, TextBounds(min_size=1)]
#: The same, if it is given.
OptionalName = Annotated[str | None, TextBounds(min_size=1)]
#: A text of a search, if it is given.
OptionalKey = Annotated[str | None, TextBounds(min_size=1, max_size=1_000)]
#: Seconds, more than none, if they are given.
OptionalSeconds = Annotated[float | None, Range(gt=0, lt=_MAX_SECONDS)]
#: A time as RFC 3339 writes it, or in seconds since 1970, if it is given.
OptionalWhen = Annotated[dt.datetime | float | None, Moment()]


def to_seconds(when: dt.datetime | float | None) -> float | None:
    """Return a time in seconds since 1970.

    >>> to_seconds(dt.datetime(2026, 3, 20, tzinfo=dt.timezone.utc))
    1773964800.0
    """
    return when.timestamp() if isinstance(when, dt.datetime) else when


@overload
def to_datetime(seconds: float) -> dt.datetime: ...


@overload
def to_datetime(seconds: float | None) -> dt.datetime | None: ...


def to_datetime(seconds: float | None) -> dt.datetime | None:
    """Return a time in UTC from seconds since 1970.

    >>> to_datetime(1773964800.0).isoformat()
    '2026-03-20T00:00:00+00:00'
    """
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, _UTC)
