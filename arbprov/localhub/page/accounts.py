"""Names for accounts that tell people whose they are, and no program how to use them."""

from __future__ import annotations

import re
from typing import Any

from arbprov.localhub.store import Store
from arbprov.localhub.tasks import TaskFilter
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure
from arbprov.wire.accounts import find_account_key

__all__ = ["find_full_key", "mask_name", "short_key"]

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
_SHORT_KEY = 8
_NONE = "none"
# Keys that the hub makes are longer.
_SHORTENED = re.compile("[0-9a-f]{8,15}")
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
    return _NONE if key == _NO_ACCOUNT else key[:_SHORT_KEY]


async def find_full_key(store: Store, text: str) -> str:
    """Return the key of the account that people mean; the same text if no account has it.

    Args:
        store: Has the tasks.
        text: A key, or what `short_key` returns for it.
    """
    is_short = text == _NONE or _SHORTENED.fullmatch(text)
    if not is_short or await store.count(TaskFilter(account_key=text), most=1):
        return text
    if text == _NONE:
        return _NO_ACCOUNT
    tasks = await store.search(TaskFilter(account_prefix=text), limit=1)
    return tasks[0].account_key if tasks else text
