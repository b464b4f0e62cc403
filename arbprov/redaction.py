"""Keeping secrets out of texts that leave the task: results, logs, tracebacks."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from arbprov.payload.json import parse_object
from arbprov.payload.validation import ValidationFailure

__all__ = ["find_secrets", "find_secrets_in_json", "redact"]

_REDACTED = "[redacted]"
# Shorter values are words and numbers of every text, and shorter tokens are those of tests; to take
# those out would only garble it.
_SHORTEST = 4
_SAME_EVERYWHERE = re.compile("[A-Za-z0-9]+")
# What else may stand for a character: a form has + for a blank, and tracebacks set lines in.
_MORE = {" ": r"|\+", "\n": r"|\n[ |]+"}


def find_secrets(account: Any) -> Iterator[str]:
    """Yield every value of an account that could give it away, as text, and every odd key."""
    if isinstance(account, dict):
        for key, item in account.items():
            # Others are the names of fields, without which no problem could be told.
            if not key.isidentifier():
                yield from find_secrets(key)
            yield from find_secrets(item)
    elif isinstance(account, list):
        for item in account:
            yield from find_secrets(item)
    elif (
        account is not None
        and not isinstance(account, bool)
        and len(text := str(account)) >= _SHORTEST
    ):
        yield text


def find_secrets_in_json(account: bytes) -> Iterator[str]:
    """Yield the secrets of an account as it came: all of it, if it can't be read."""
    try:
        yield from find_secrets(parse_object(account))
    except ValidationFailure:
        yield account.decode(errors="backslashreplace")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with ``[redacted]`` in the place of each secret, and as valid Unicode."""
    # What is surely not there needs no pattern, and almost always that is all of them.
    long = (secret for secret in secrets if len(secret) >= _SHORTEST)
    forms = {form for secret in long for form in _forms(secret) if _anchor(form) in text}
    # The longest first, since one secret may hold another.
    patterns = [_pattern(form) for form in sorted(forms, key=len, reverse=True)]
    if patterns:
        text = re.sub("|".join(patterns), _REDACTED, text)
    return text if text.isascii() else text.encode(errors="replace").decode()


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret, and what it becomes by being typed as bytes or as a UUID."""
    yield secret.strip() or secret
    with contextlib.suppress(binascii.Error, ValueError):
        if len(decoded := base64.b64decode(secret, validate=True)) >= _SHORTEST:
            yield decoded.decode(errors="backslashreplace")
    with contextlib.suppress(ValueError):
        yield str(uuid.UUID(secret))


def _anchor(secret: str) -> str:
    """Return the longest part of a secret that is the same in all that may stand for it."""
    return max(_SAME_EVERYWHERE.findall(secret), key=len, default="")


def _pattern(secret: str) -> str:
    """Return what finds a secret as it is, and as a repr, JSON, a URL, or these of each other."""
    if secret.isascii() and secret.isalnum():
        return secret
    # Several in a row would have many ways to be found, and take for ever to be not.
    return "".join(map(_character, re.sub(r"\\+", r"\\", secret)))


@functools.lru_cache(maxsize=1_000)
def _character(character: str) -> str:
    if character == "\\":
        return r"(?:\\{1,99}|(?:%5[Cc]){1,99})"
    if character.isascii() and character.isalnum():
        return character
    in_bytes = character.encode(errors="replace")
    escapes = {json.dumps(character)[1:-1], ascii(character)[1:-1], repr(in_bytes)[2:-1]}
    forms = [
        re.escape(escape).replace(r"\\", r"\\{1,33}") for escape in escapes if escape[0] == "\\"
    ]
    forms.append(r"\\{,33}" + re.escape(character))
    # Upper case, as `quote` writes it, or lower.
    forms.append("(?i:" + "".join(f"%{byte:02X}" for byte in in_bytes) + ")")
    return f"(?:{'|'.join(forms)}{_MORE.get(character, '')})"
