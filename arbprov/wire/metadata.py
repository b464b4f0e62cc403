"""The metadata beside the hub's messages: the attempt of a task, and how often to renew and report.

A hub that sends none of it numbers no attempts, has no leases, and takes no reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = [
    "ATTEMPT",
    "RENEW",
    "RENEWS",
    "REPORT",
    "REPORTS",
    "TRACEPARENT",
    "Metadata",
    "read_attempt",
    "read_interval",
    "read_texts",
]

Metadata = tuple[tuple[str, str], ...]

# Of a task, and of its result.
ATTEMPT = "arbprov-attempt"
# Of the answer to a poll: seconds between renewals.
RENEW = "arbprov-renew"
# Of a poll: this provider renews its leases.
RENEWS = "arbprov-renews"
# Of the answer to a poll: seconds between reports.
REPORT = "arbprov-report"
# Of a poll: this provider reports.
REPORTS = "arbprov-reports"
TRACEPARENT = "traceparent"

# SQLite has no larger integers; and a hub must not keep a provider busy.
_ATTEMPT_FORMAT = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECONDS_FORMAT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_MIN_INTERVAL = 0.1


def read_texts(metadata: Iterable[Any] | None) -> dict[str, str]:
    """Return the metadata of an answer whose values are texts, by name.

    >>> read_texts([("arbprov-attempt", "2"), ("trace-bin", b"...")])
    {'arbprov-attempt': '2'}
    """
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def read_attempt(text: str) -> int:
    """Return the number of an attempt; 0 if there is none.

    >>> read_attempt("2"), read_attempt("two"), read_attempt("")
    (2, 0, 0)
    """
    return int(text) if text and _ATTEMPT_FORMAT.fullmatch(text) else 0


def read_interval(text: str) -> float:
    """Return the seconds between renewals or reports, at least a tenth; 0 if there are none.

    >>> read_interval("20"), read_interval("0.001"), read_interval("0"), read_interval("soon")
    (20.0, 0.1, 0.0, 0.0)
    """
    seconds = float(text) if text and _SECONDS_FORMAT.fullmatch(text) else 0.0
    return max(_MIN_INTERVAL, seconds) if seconds else 0.0
