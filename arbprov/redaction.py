"""Keeping secrets out of texts that leave the task: results, logs, tracebacks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

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
    forms = {form for secret in secrets for form in _forms(secret)}
    # The longest first, since one secret may hold another.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, _REDACTED)
    return text if text.isascii() else text.encode(errors="replace").decode()


def _forms(secret: str) -> Iterable[str]:
    """Return a secret as it is, and as a repr, as JSON and as a URL would have it."""
    if secret.isascii() and secret.isalnum():
        return (secret,)
    in_url = secret.encode(errors="replace")
    return (
        secret,
        repr(secret)[1:-1],
        # A repr escapes the apostrophe only if there are quotation marks too.
        repr(secret + "'\"")[1:-4],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(in_url),
        quote(in_url, safe=""),
        quote_plus(in_url),
    )
