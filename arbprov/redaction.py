"""Removes secrets from text that leaves the task: results, logs and tracebacks."""

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
# Shorter values are common words and numbers, and shorter tokens are used in tests only: removing
# them would garble the text.
_MIN_LENGTH = 4
_ALPHANUMERIC = re.compile("[A-Za-z0-9]+")
# Other forms of a character: + for a blank in an HTML form, an indented line in a traceback.
_VARIANTS = {" ": r"|\+", "\n": r"|\n[ |]+"}


def find_secrets(account: Any) -> Iterator[str]:
    """Yield, as text, the values of an account, and the keys that are not identifiers.

    Booleans, None and texts of fewer than 4 characters are not secrets.

    >>> list(find_secrets({"user": {"name": "ann", "token": "hunter22"}, "pin": 12345}))
    ['hunter22', '12345']
    """
    if isinstance(account, dict):
        for key, item in account.items():
            # An identifier names a field, and messages about the field need its name.
            if not key.isidentifier():
                yield from find_secrets(key)
            yield from find_secrets(item)
    elif isinstance(account, list):
        for item in account:
            yield from find_secrets(item)
    elif account is not None and not isinstance(account, bool):
        text = str(account)
        if len(text) >= _MIN_LENGTH:
            yield text


def find_secrets_in_json(account: bytes) -> Iterator[str]:
    """Yield the secrets of an account as a task carries it; all of it, if it is not valid JSON."""
    try:
        yield from find_secrets(parse_object(account))
    except ValidationFailure:
        yield account.decode(errors="backslashreplace")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text`, as valid Unicode, with ``[redacted]`` in place of each secret.

    A secret is also found as a repr, as JSON, in a URL, and decoded from base64.

    >>> redact("https://example.com/?key=hunter%2022", ["hunter 22"])
    'https://example.com/?key=[redacted]'
    """
    # Most texts hold no secret; a search for the literal part is much faster than a pattern.
    encodings = {
        encoding
        for secret in secrets
        if len(secret) >= _MIN_LENGTH
        for encoding in _encodings(secret)
        if _longest_literal(encoding) in text
    }
    # The longest first, since a secret may contain another.
    patterns = [_pattern(encoding) for encoding in sorted(encodings, key=len, reverse=True)]
    if patterns:
        text = re.sub("|".join(patterns), _REDACTED, text)
    return text if text.isascii() else text.encode(errors="replace").decode()


def _encodings(secret: str) -> Iterator[str]:
    """Yield a secret, and the text of it as a handler that types it as bytes or a UUID has it."""
    yield secret.strip() or secret
    with contextlib.suppress(binascii.Error, ValueError):
        if len(decoded := base64.b64decode(secret, validate=True)) >= _MIN_LENGTH:
            yield decoded.decode(errors="backslashreplace")
    with contextlib.suppress(ValueError):
        yield str(uuid.UUID(secret))


def _longest_literal(secret: str) -> str:
    """Return the longest part of a secret that no escaping changes."""
    return max(_ALPHANUMERIC.findall(secret), key=len, default="")


def _pattern(secret: str) -> str:
    """Return a pattern that matches a secret as it is, escaped, or escaped several times."""
    if secret.isascii() and secret.isalnum():
        return secret
    # Consecutive backslashes would make the pattern ambiguous, and a failing search endless.
    return "".join(map(_character_pattern, re.sub(r"\\+", r"\\", secret)))


@functools.lru_cache(maxsize=1_000)
def _character_pattern(character: str) -> str:
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
    # Upper case, as `quote` writes it, or lower case.
    forms.append("(?i:" + "".join(f"%{byte:02X}" for byte in in_bytes) + ")")
    return f"(?:{'|'.join(forms)}{_VARIANTS.get(character, '')})"
