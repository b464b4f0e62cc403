"""Keeping secrets out of texts that leave the task: results, logs, tracebacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["redact", "secrets_of"]

_REDACTED = "[redacted]"
# Shorter values are words and numbers of every text; to take those out would only garble it.
_SHORTEST = 4


def secrets_of(account: Any) -> Iterator[str]:
    """Yield every value of an account that could give it away, as text."""
    if isinstance(account, dict):
        for item in account.values():
            yield from secrets_of(item)
    elif isinstance(account, list):
        for item in account:
            yield from secrets_of(item)
    elif (
        account is not None
        and not isinstance(account, bool)
        and len(text := str(account)) >= _SHORTEST
    ):
        yield text


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with ``[redacted]`` in the place of each secret, and as valid Unicode."""
    # The longest first, since one secret may hold another.
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, _REDACTED)
    return text if text.isascii() else text.encode(errors="replace").decode()
