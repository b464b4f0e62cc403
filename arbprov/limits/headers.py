"""What an API's response says about a quota: its status and its headers. Pure.

Headers are read in three forms, whatever the case of their names, and the first form that is there
counts:

1. names of the vendor's own, given by the author;
2. ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-11);
3. ``RateLimit-Limit``, ``-Remaining``, ``-Used`` and ``-Reset``, also as ``X-RateLimit-...`` and
   ``X-Rate-Limit-...``.

``Retry-After`` (RFC 9110, 10.2.3) goes before all of them.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from arbprov._utils import SOON, read_seconds

__all__ = ["ApiAnswer", "HeaderNames", "read_response"]

# A vendor's own headers, by what they say.
HeaderNames = Mapping[Literal["limit", "remaining", "used", "reset", "retry_after"], str]

_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit")
# A number above it, as a reset, is a moment in seconds since 1970 and not a duration: it is in 2001.
_EPOCH = 1e9
# A number above it is a moment in milliseconds.
_EPOCH_MS = 1e11
# Longer values are not read: no API sends them.
_MAX_LENGTH = 1_000

_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)", re.ASCII)
# As in "6m0s" or "20ms".
_DURATION = re.compile(
    r"(?:([\d.]{1,15})d)?(?:([\d.]{1,15})h)?(?:([\d.]{1,15})m(?!s))?(?:([\d.]{1,15})s)?"
    r"(?:([\d.]{1,15})ms)?",
    re.ASCII,
)
# Seconds of the units above.
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
# An item of a structured field (RFC 9651): a string or a token, with parameters.
_ITEM = re.compile(
    r'\s*(?:"(?P<name>(?:[^"\\]|\\["\\])*)"|(?P<token>[A-Za-z*][^\s",;=()]*))'
    r'(?P<parameters>(?:;\s*[a-z*][\w.*-]*(?:=(?:"(?:[^"\\]|\\["\\])*"|[^\s",;()]+))?)*)\s*(?:,|$)'
)
_PARAMETER = re.compile(r";\s*(?P<key>[qwrt])=(?P<value>-?\d{1,15})(?![\d.])")


@attrs.frozen
class ApiAnswer:
    """What a response says about a quota; None for what it does not say.

    Attributes:
        limit: Units of the quota.
        remaining: Units that are left of it.
        reset_in: Seconds until it is free again.
        retry_after: Seconds after which the API takes calls again, if it has throttled this one.
    """

    limit: float | None = None
    remaining: float | None = None
    reset_in: float | None = None
    retry_after: float | None = None

    @property
    def used(self) -> float | None:
        """The share of the quota that is used, from 0 to 1."""
        if self.remaining is None or not self.limit:
            return None
        return min(max(0.0, 1 - self.remaining / self.limit), 1.0)


def read_response(
    status: int,
    headers: Mapping[str, str],
    now: float,
    names: HeaderNames | None = None,
    policy: str | None = None,
) -> ApiAnswer:
    """Return what a response says about a quota; what can't be read is left out.

    Args:
        status: The HTTP status.
        headers: The headers.
        now: Seconds since 1970, for headers that name a moment.
        names: The vendor's own headers.
        policy: The policy of a ``RateLimit`` header that is meant, if there are several; else the
            policy of which the least is left.

    >>> read_response(200, {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "15"}, now=0).used
    0.75
    >>> read_response(429, {"Retry-After": "30"}, now=0).retry_after
    30.0
    """
    lowered = {
        name.lower(): value
        for name, value in headers.items()
        if isinstance(value, str) and len(value) <= _MAX_LENGTH
    }
    own = {kind: name.lower() for kind, name in (names or {}).items()}
    # The API's own clock, if it is known: this machine's may differ.
    now = _read_moment(lowered.get("date", "")) or now
    answer = (
        _read_named(lowered, own, now)
        or _read_structured(lowered, policy)
        or next(filter(None, (_read_named(lowered, n, now) for n in _CONVENTIONS)), ApiAnswer())
    )
    retry_after = lowered.get(own.get("retry_after", "retry-after"))
    wait = None if retry_after is None else _read_reset(retry_after, now)
    is_throttled = (
        status == 429
        or (status in (403, 503) and wait is not None)
        # As GitHub documents it.
        or (status == 403 and answer.remaining == 0)
    )
    if not is_throttled:
        return answer
    if wait is None:
        wait = SOON if answer.reset_in is None else answer.reset_in
    return attrs.evolve(answer, retry_after=wait)


_CONVENTIONS = [
    {kind: f"{prefix}-{kind}" for kind in ("limit", "remaining", "used", "reset")}
    for prefix in _PREFIXES
]


def _read_named(
    headers: Mapping[str, str], names: Mapping[Any, str], now: float
) -> ApiAnswer | None:
    """Return what headers of the given names say; None if they say nothing."""
    values = {kind: headers[name] for kind, name in names.items() if name in headers}
    limit, remaining = _read_number(values.get("limit")), _read_number(values.get("remaining"))
    used = values.get("used")
    if used is not None and "/" in used:  # as in "32/40"
        used, _, of = used.partition("/")
        limit = _read_number(of)
    units = _read_number(used)
    if remaining is None and limit is not None and units is not None:
        remaining = max(0.0, limit - units)
    reset_in = _read_reset(values["reset"], now) if "reset" in values else None
    answer = ApiAnswer(limit, remaining, reset_in)
    return None if answer == ApiAnswer() else answer


def _read_structured(headers: Mapping[str, str], policy: str | None) -> ApiAnswer | None:
    """Return what the RateLimit header says of a policy; None if there is none."""
    quotas = {name: keys.get("q") for name, keys in _items(headers.get("ratelimit-policy", ""))}
    answers = {
        name: ApiAnswer(quotas.get(name), keys["r"], read_seconds(keys.get("t")))
        for name, keys in _items(headers.get("ratelimit", ""))
        if "r" in keys
    }
    if policy in answers:
        return answers[policy]
    # The policies without a quota come last: how much of them is used is unknown.
    order = sorted(
        answers.values(), key=lambda each: (each.used is None, -(each.used or 0.0), each.remaining)
    )
    return order[0] if order else None


def _items(value: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield each item of a structured field: its name, and its numeric parameters.

    A field that is not well-formed yields what stands before the fault.
    """
    place = 0
    while place < len(value) and (match := _ITEM.match(value, place)):
        place = match.end()
        parameters = _PARAMETER.finditer(match["parameters"])
        name = match["token"] or re.sub(r"\\(.)", r"\1", match["name"])
        yield name, {part["key"]: int(part["value"]) for part in parameters}


def _read_number(text: str | None) -> float | None:
    """Return the number that a header begins with, as in ``"100, 100;w=60"``."""
    match = _NUMBER.match(text or "")
    return float(match[1]) if match else None


def _read_reset(text: str, now: float) -> float | None:
    """Return the seconds until the moment, or of the duration, that a header names."""
    text = text.strip()
    if match := _NUMBER.fullmatch(text):
        number = float(match[1])
        if number > _EPOCH_MS:
            number /= 1000
        return read_seconds(number - now if number > _EPOCH else number)
    if (match := _DURATION.fullmatch(text)) and any(match.groups()):
        parts = zip(match.groups(), _UNITS, strict=True)
        return read_seconds(sum((_read_number(part) or 0.0) * unit for part, unit in parts))
    moment = _read_moment(text)
    return None if moment is None else read_seconds(moment - now)


def _read_moment(text: str) -> float | None:
    """Return an ISO 8601 or an HTTP date as seconds since 1970; without a zone it is UTC."""
    for read in (_from_iso, email.utils.parsedate_to_datetime):
        try:
            moment = read(text)
            return moment.replace(tzinfo=moment.tzinfo or dt.timezone.utc).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _from_iso(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(
        re.sub(r"(\.\d{6})\d+", r"\1", re.sub("[zZ]$", "+00:00", text))
    )
