"""What an API's response says about a quota: its status and its headers. Pure.

Headers are read in these forms, whatever the case of their names; the first form that says
something counts:

1. names of the vendor's own, given by the author;
2. ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-11);
3. ``RateLimit`` with a limit, a remaining and a reset (draft 07 of the same);
4. ``RateLimit-Limit``, ``-Remaining``, ``-Used``, ``-Reset`` and ``-Reset-After``, also as
   ``X-RateLimit-...`` and ``X-Rate-Limit-...``.

``Retry-After`` (RFC 9110, 10.2.3) goes before all of them.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, get_args

import attrs

from arbprov._utils import read_seconds

__all__ = [
    "ApiAnswer",
    "ApiResponse",
    "HeaderNames",
    "ResponseWithStatus",
    "ResponseWithStatusCode",
    "check_header_names",
    "read_answer",
    "read_response",
]

_Kind = Literal["limit", "remaining", "used", "reset", "retry_after"]
# A vendor's own headers, by what they say.
HeaderNames = Mapping[_Kind, str]

_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit")
# A reset above it is a moment, in seconds since 1970, and not a duration: it is in 2001.
_EPOCH = 1e9
# A number above it is a moment in milliseconds.
_EPOCH_MS = 1e11
# Longer values and further headers are not read: no API sends them.
_MAX_LENGTH = 1_000
_MAX_HEADERS = 1_000

_NUMBER = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)", re.ASCII)
# As in "6m0s" or "20ms".
_DURATION = re.compile(
    r"(?:(\d{1,9}(?:\.\d{1,9})?)d)?(?:(\d{1,9}(?:\.\d{1,9})?)h)?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
# Seconds of the units above.
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)

# A list of RFC 9651: items or inner lists, each with parameters.
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_WORD = r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"
_BARE = (
    rf"(?:{_STRING}|{_WORD}|-?\d{{1,12}}\.\d{{1,3}}|-?\d{{1,15}}|:[A-Za-z0-9+/=]*:|\?[01]"
    r'|@-?\d{1,15}|%"(?:[ !#$&-~]|%[0-9a-f]{2})*")'
)
_KEY = r"[a-z*][a-z0-9_\-.*]*"
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_ITEM = rf"{_BARE}{_PARAMETERS}"
_MEMBER = re.compile(
    rf"(?:(?P<name>{_STRING}|{_WORD})|{_BARE}|\( *(?:{_ITEM}(?: +{_ITEM})*)? *\))"
    rf"(?P<parameters>{_PARAMETERS})",
    re.ASCII,
)
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_PARAMETER = re.compile(rf"; *(?P<key>{_KEY})(?:=(?P<value>{_BARE}))?", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,15}", re.ASCII)
# As in "limit=100, remaining=50, reset=30".
_DRAFT_07 = re.compile(r"\b(limit|remaining|reset)=(\d{1,15})\b", re.ASCII)


class ResponseWithStatusCode(Protocol):
    """A response of httpx, httpx2 or requests."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...


class ResponseWithStatus(Protocol):
    """A response of aiohttp or urllib3."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...


ApiResponse = ResponseWithStatusCode | ResponseWithStatus


@attrs.frozen
class ApiAnswer:
    """What a response says about a quota; None for what it does not say.

    Attributes:
        limit: Units of the quota.
        remaining: Units that are left of it.
        reset_in: Seconds until it is free again.
        is_throttled: Whether the API has refused the call, because a quota is used up.
        retry_after: Seconds after which it takes calls again, if it has refused this call.
    """

    limit: float | None = None
    remaining: float | None = None
    reset_in: float | None = None
    is_throttled: bool = False
    retry_after: float | None = None

    @property
    def used(self) -> float | None:
        """The share of the quota that is used, from 0 to 1.

        >>> ApiAnswer(limit=40, remaining=8).used
        0.8
        """
        if self.remaining is None or not self.limit:
            return None
        return min(max(0.0, 1 - self.remaining / self.limit), 1.0)


def check_header_names(names: HeaderNames | None) -> None:
    """Refuse names of headers that say nothing that is known.

    Raises:
        ValueError: A key is unknown, or a name is not a text.
    """
    known = get_args(_Kind)
    for kind, name in (names or {}).items():
        if kind not in known or not isinstance(name, str):
            raise ValueError(
                f"headers={{{kind!r}: {name!r}}} is not understood; it maps "
                f"{', '.join(map(repr, known))} to the names of the API's own headers"
            )


def read_response(
    response: ApiResponse, now: float, names: HeaderNames | None = None, policy: str | None = None
) -> ApiAnswer:
    """Return what a response says about a quota; see `read_answer`.

    Raises:
        TypeError: The object is not a response.
    """
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    items = getattr(getattr(response, "headers", None), "items", None)
    if not isinstance(status, int) or not callable(items):
        raise TypeError(
            f"{type(response).__qualname__} is not a response: it needs a status_code or a status, "
            f"and a mapping of headers"
        )
    return read_answer(status, items(), now, names, policy)


def read_answer(
    status: int,
    headers: Iterable[tuple[str, str]],
    now: float,
    names: HeaderNames | None = None,
    policy: str | None = None,
) -> ApiAnswer:
    """Return what a status and headers say about a quota; what can't be read is left out.

    Args:
        status: The HTTP status.
        headers: The names and values of the headers.
        now: Seconds since 1970, for headers that name a moment.
        names: The vendor's own headers.
        policy: The policy of a ``RateLimit`` header that is meant, if there are several; else the
            policy of which the least is left.

    >>> read_answer(200, [("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "15")], 0).used
    0.75
    >>> read_answer(429, [("Retry-After", "30")], 0).retry_after
    30.0
    """
    known = _lower(headers)
    own: dict[str, str] = {kind: name.lower() for kind, name in (names or {}).items()}
    # By the API's own clock, if it is known: this machine's may differ.
    now = _read_moment(known.get("date", "")) or now
    answer = (
        _read_named(known, own, now)
        or _read_policies(known, policy)
        or _read_draft_07(known.get("ratelimit", ""))
        or next(filter(None, (_read_named(known, each, now) for each in _CONVENTIONS)), ApiAnswer())
    )
    wait = _read_wait(known, own.get("retry_after", "retry-after"), now)
    is_throttled = (
        status == 429
        or (status in (403, 503) and wait is not None)
        # As GitHub documents it.
        or (status == 403 and answer.remaining == 0)
    )
    if not is_throttled:
        return answer
    wait = answer.reset_in if wait is None else wait
    return attrs.evolve(answer, is_throttled=True, retry_after=wait)


_CONVENTIONS: list[Mapping[str, str]] = [
    {
        kind: f"{prefix}-{kind.replace('_', '-')}"
        for kind in ("limit", "remaining", "used", "reset", "reset_after")
    }
    for prefix in _PREFIXES
]


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers by their names in lower case; a repeated header is one list."""
    known: dict[str, str] = {}
    for _, (name, value) in zip(range(_MAX_HEADERS), headers, strict=False):
        if isinstance(name, str) and isinstance(value, str):
            key = name.lower()
            known[key] = f"{known[key]}, {value}" if key in known else value
    return {name: value for name, value in known.items() if len(value) <= _MAX_LENGTH}


def _read_named(
    headers: Mapping[str, str], names: Mapping[str, str], now: float
) -> ApiAnswer | None:
    """Return what headers of the given names say; None if they say nothing."""
    values = {kind: headers[name] for kind, name in names.items() if name in headers}
    limit, remaining = _read_number(values.get("limit")), _read_number(values.get("remaining"))
    used, slash, total = values.get("used", "").partition("/")
    if slash:  # as in "32/40"
        limit = _read_number(total)
    units = _read_number(used)
    if units is not None:
        if limit is None and remaining is not None:
            limit = units + remaining
        elif limit is not None and remaining is None:
            remaining = max(0.0, limit - units)
    reset = values.get("reset_after", values.get("reset"))
    answer = ApiAnswer(limit, remaining, None if reset is None else _read_reset(reset, now))
    return None if answer == ApiAnswer() else answer


def _read_policies(headers: Mapping[str, str], policy: str | None) -> ApiAnswer | None:
    """Return what the RateLimit header says of a policy; None if there is none."""
    quotas = {
        name: numbers.get("q") for name, numbers in _read_list(headers.get("ratelimit-policy", ""))
    }
    answers: dict[str, ApiAnswer] = {}
    for name, numbers in _read_list(headers.get("ratelimit", "")):
        if numbers.get("r", -1) >= 0:
            reset_in = read_seconds(numbers.get("t"))
            answers[name] = ApiAnswer(quotas.get(name), numbers["r"], reset_in)
    if policy in answers:
        return answers[policy]
    # The policies without a quota come last: how much of them is used is unknown.
    order = sorted(
        answers.values(), key=lambda each: (each.used is None, -(each.used or 0.0), each.remaining)
    )
    return order[0] if order else None


def _read_list(value: str) -> list[tuple[str, dict[str, int]]]:
    """Return the strings and tokens in a list of RFC 9651, with their parameters that are integers.

    A field that is not well-formed is ignored, as the RFC demands.
    """
    value = value.strip(" ")
    found: list[tuple[str, dict[str, int]]] = []
    place = 0
    while match := _MEMBER.match(value, place):
        if name := match["name"]:
            if name.startswith('"'):
                name = re.sub(r"\\(.)", r"\1", name[1:-1])
            found.append((name, _read_integers(match["parameters"])))
        if match.end() == len(value):
            return found
        separator = _SEPARATOR.match(value, match.end())
        if separator is None:
            break
        place = separator.end()
    return []


def _read_integers(parameters: str) -> dict[str, int]:
    pairs = {part["key"]: part["value"] or "" for part in _PARAMETER.finditer(parameters)}
    return {key: int(text) for key, text in pairs.items() if _INTEGER.fullmatch(text)}


def _read_draft_07(value: str) -> ApiAnswer | None:
    numbers = {name: float(number) for name, number in _DRAFT_07.findall(value)}
    if not numbers:
        return None
    reset_in = read_seconds(numbers.get("reset"))
    return ApiAnswer(numbers.get("limit"), numbers.get("remaining"), reset_in)


def _read_wait(headers: Mapping[str, str], name: str, now: float) -> float | None:
    return _read_reset(headers[name], now) if name in headers else None


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
        return read_seconds(sum(float(part or 0) * unit for part, unit in parts))
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
    """Parse as Python 3.10 can: without a Z, and with three or six digits of a second."""
    text = re.sub("[zZ]$", "+00:00", text)
    return dt.datetime.fromisoformat(
        re.sub(r"\.(\d+)", lambda match: "." + match[1][:6].ljust(6, "0"), text)
    )
