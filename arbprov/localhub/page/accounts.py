"""Names for accounts that tell people whose they are, and no program how to use them."""

from __future__ import annotations

import re
from typing import Any

from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure
from arbprov.wire.accounts import find_account_key

__all__ = ["mask_name", "short_key"]

# Fields that name an account, the best first.
_NAMES = (
    "name",
    "login",
    "user",
    "username",
    "email",
    "account",
    "customer",
    "tenant",
    "shop",
    "id",
)
_NO_ACCOUNT = find_account_key(b"")
_SECRET = re.compile("pass|pwd|secret|token|auth|key|code|credential", re.IGNORECASE)
# Shorter values are common words, which tell nothing.
_SHORT = 3
_SHOWN = 2
# Of longer names, the last character tells similar names apart.
_LONG = 5


def mask_name(account: bytes) -> str:
    """Return the beginning of an account's name; empty if no field of it names it.

    Args:
        account: The account as JSON.

    >>> mask_name(b'{"api_key": "hunter22", "name": "Acme"}')
    'name Ac…'
    >>> mask_name(b'{"api_key": "hunter22"}')
    ''
    """
    try:
        fields = parse_value(account or b"{}")
    except ValidationFailure:
        return ""
    if not isinstance(fields, dict):
        return ""
    return next((f"{name} {_mask(value)}" for name, value in _candidates(fields)), "")


def _candidates(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields that may name an account, the best first."""
    found = []
    for place, wanted in enumerate(_NAMES):
        for name, value in fields.items():
            words = name.lower().split("_")
            is_plain = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
            if wanted in words and is_plain and not _SECRET.search(name):
                found.append((place, len(words), name, value))
    return [(name, value) for _, _, name, value in sorted(found, key=lambda one: one[:3])]


def _mask(value: str | int) -> str:
    text = str(value)
    if len(text) <= _SHORT:
        return text
    return f"{text[:_SHOWN]}…{text[-1] if len(text) > _LONG else ''}"


def short_key(key: str) -> str:
    """Return the beginning of an account's key, for people; ``none`` for that of no account.

    >>> short_key("31a6457b55b3678a"), short_key("44136fa355b3678a")
    ('31a6457b', 'none')
    """
    return "none" if key == _NO_ACCOUNT else key[:8]
