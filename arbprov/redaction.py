"""Removes secrets from text that leaves the task: results, logs and tracebacks."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import html
import json
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import attrs

from arbprov.payload.json import parse_object
from arbprov.payload.validation import ValidationFailure

__all__ = ["Redactor", "call_secrets", "find_secrets", "find_secrets_in_json", "redact"]

# Gets the secrets that the running call comes to know, such as access tokens; None where no error
# of a call would show them.
call_secrets: ContextVar[list[str] | None] = ContextVar("arbprov_secrets", default=None)

_REDACTED = "[redacted]"
# Shorter values are common words and numbers, and shorter tokens are used in tests only: removing
# them would garble the text.
_MIN_LENGTH = 4
# Numbers of fewer digits are amounts and years, which any text may have.
_MIN_DIGITS = 7
_NUMBER = re.compile(r"-?(?P<digits>\d+)(?P<fraction>\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
# Names of fields whose numbers are secrets, however short.
_SECRET_NAME = re.compile(
    "(?i:pass|pwd|secret|token|auth|key|code|otp|cvc|cvv|credential|signature|security)"
    "|(?<![A-Za-z])(?i:pin)(?![a-z])|Pin(?![a-z])"
)
_ALPHANUMERIC = re.compile("[A-Za-z0-9]+")
# Other forms of a character: + for a blank in an HTML form, an indented line in a traceback.
_VARIANTS = {" ": r"|\+", "\n": r"|\n[ |]+"}
# Between the digits of a number, as people write it.
_SEPARATOR = "[,_.' \u00a0\u202f]?"
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=".decode())
# Bytes of a secret whose base64 is looked for behind other bytes too, as in HTTP's Basic
# authentication; of fewer bytes, too few characters do not depend on the bytes around them.
_MIN_BASE64 = 6


def find_secrets(account: Any, *, name: str = "") -> Iterator[str]:
    """Yield, as text, the values of an account, and the keys that are not identifiers.

    Booleans, None and texts of fewer than 4 characters are not secrets. A number, also as a text,
    is a secret if it has 7 digits or more, or if the name of its field says that it is secret.

    >>> list(find_secrets({"user": {"name": "ann", "token": "hunter22"}, "pin": 12345}))
    ['hunter22', '12345']
    >>> list(find_secrets({"limit": 1000, "card": 4111111111111111}))
    ['4111111111111111']
    """
    if isinstance(account, dict):
        for key, item in account.items():
            # An identifier names a field, and messages about the field need its name.
            if not key.isidentifier():
                yield from find_secrets(key)
            yield from find_secrets(item, name=key)
    elif isinstance(account, list):
        for item in account:
            yield from find_secrets(item, name=name)
    elif account is not None and not isinstance(account, bool):
        text = str(account)
        if _NUMBER.fullmatch(text):
            digits = sum(map(str.isdigit, text))
            is_secret = digits >= _MIN_DIGITS or _SECRET_NAME.search(name)
        else:
            is_secret = True
        if is_secret and len(text) >= _MIN_LENGTH:
            yield text


def find_secrets_in_json(account: bytes) -> Iterator[str]:
    """Yield the secrets of an account as a task carries it; all of it, if it is not valid JSON."""
    try:
        yield from find_secrets(parse_object(account))
    except ValidationFailure:
        yield account.decode(errors="backslashreplace")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text`, as valid Unicode, with ``[redacted]`` in place of each secret.

    A secret is also found in another case, as a repr, as JSON, HTML or hex, in a URL, in base64,
    and decoded from base64.

    >>> redact("https://example.com/?key=hunter%2022", ["hunter 22"])
    'https://example.com/?key=[redacted]'
    """
    return Redactor(secrets).redact(text)


@attrs.frozen
class _Form:
    """A form of a secret.

    Attributes:
        text: The form itself, or what `pattern` is made of.
        literal: A part of it that no escaping changes, in lower case; a quick check for the form.
        is_base64: Whether it is a part of a base64 text, which is removed as a whole.
        is_escapable: Whether its characters may be escaped in any of several ways.
    """

    text: str
    literal: str
    is_base64: bool = False
    is_escapable: bool = False

    def pattern(self) -> re.Pattern[str]:
        """Return the pattern that finds the form."""
        if self.is_base64:
            return re.compile(re.escape(self.text))
        text = self.text
        if self.is_escapable and not (text.isascii() and text.isalnum()):
            # Backslashes in a row would make the pattern ambiguous, and a failing search endless.
            text = "".join(map(_character_pattern, re.sub(r"\\+", r"\\", text)))
        return re.compile(text, re.IGNORECASE)


class Redactor:
    """Removes secrets from texts; their forms are computed once.

    Args:
        secrets: The secrets; those of fewer than 4 characters are left out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = secrets
        self._patterns: dict[_Form, re.Pattern[str]] = {}

    @functools.cached_property
    def _forms(self) -> list[_Form]:
        secrets = dict.fromkeys(s for s in self._secrets if len(s) >= _MIN_LENGTH)
        return list(dict.fromkeys(form for secret in secrets for form in _forms(secret)))

    def narrow(self, texts: Iterable[str]) -> Redactor:
        """Return a redactor of the secrets that may occur in some of `texts`."""
        narrowed = Redactor(())
        narrowed._forms = self._forms_in("\0".join(texts).lower())
        return narrowed

    def redact(self, text: str) -> str:
        """Return `text`, as valid Unicode, with ``[redacted]`` in place of each secret."""
        # Most texts hold no secret; a search for the literal part is much faster than a pattern.
        spans = [span for form in self._forms_in(text.lower()) for span in self._find(form, text)]
        if spans:
            text = _replace(text, spans)
        return text if text.isascii() else text.encode(errors="replace").decode()

    def _forms_in(self, lowered: str) -> list[_Form]:
        return [form for form in self._forms if form.literal in lowered]

    def _find(self, form: _Form, text: str) -> Iterator[tuple[int, int]]:
        pattern = self._patterns.get(form)
        if pattern is None:
            pattern = self._patterns[form] = form.pattern()
        for match in pattern.finditer(text):
            start, end = match.span()
            if form.is_base64:
                while start > 0 and text[start - 1] in _BASE64:
                    start -= 1
                while end < len(text) and text[end] in _BASE64:
                    end += 1
            yield start, end


def _replace(text: str, spans: list[tuple[int, int]]) -> str:
    parts, position = [], 0
    start, end = -1, -1
    for span in sorted(spans):
        if span[0] < end or span[0] == start:
            end = max(end, span[1])
            continue
        if end >= 0:
            parts += [text[position:start], _REDACTED]
            position = end
        start, end = span
    return "".join([*parts, text[position:start], _REDACTED, text[end:]])


def _forms(secret: str) -> Iterator[_Form]:
    """Yield the forms of a secret."""
    if number := _NUMBER.fullmatch(secret):
        yield from _number_forms(secret, number)
    else:
        for text in _decode(secret):
            for form in {unicodedata.normalize(name, text) for name in ("NFC", "NFD")} | {text}:
                literal = max(_ALPHANUMERIC.findall(form), key=len, default="").lower()
                yield _Form(form, literal, is_escapable=True)
    raw = secret.encode(errors="replace")
    for escape in (raw.hex(), "".join(f"%{byte:02x}" for byte in raw)):
        yield _Form(re.escape(escape), escape)
    code_points = "".join(f"\\u{ord(character):04x}" for character in secret)
    yield _Form(re.escape(code_points), code_points)
    for offset in range(3 if len(raw) >= _MIN_BASE64 else 1):
        # The characters that depend on the secret alone, not on the bytes before and after it.
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            part = encode(b"\0" * offset + raw).decode()[first:last]
            yield _Form(part, part.lower(), is_base64=True)


def _number_forms(secret: str, number: re.Match[str]) -> Iterator[_Form]:
    digits, fraction = number["digits"], (number["fraction"] or "").rstrip("0").rstrip(".")
    if number.end("digits") + len(number["fraction"] or "") < len(secret):  # with an exponent
        value = float(secret)
        yield _Form(re.escape(secret), secret.lower())
        if value.is_integer() and abs(value) < 1e22:
            digits = str(int(abs(value)))
            yield _Form(_SEPARATOR.join(digits), "")
        return
    pattern = _SEPARATOR.join(digits)
    if fraction:
        pattern += re.escape(fraction)
    yield _Form(pattern, digits[:1])
    if not fraction and len(digits) >= _MIN_DIGITS and len(digits) <= 300:
        yield _Form(re.escape(f"{float(digits):e}"), f"{float(digits):e}")
        yield _Form(hex(int(digits)), hex(int(digits)))


def _decode(secret: str) -> Iterator[str]:
    """Yield a secret, and the text of it as a handler that types it as bytes or a UUID has it."""
    yield secret.strip() or secret
    with contextlib.suppress(binascii.Error, ValueError):
        if len(decoded := base64.b64decode(secret, validate=True)) >= _MIN_LENGTH:
            yield decoded.decode(errors="backslashreplace")
    with contextlib.suppress(ValueError):
        yield str(uuid.UUID(secret))


@functools.lru_cache(maxsize=1_000)
def _character_pattern(character: str) -> str:
    """Return a pattern that matches a character as it is, escaped, or escaped several times."""
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
    forms.append("".join(f"%{byte:02X}" for byte in in_bytes))
    entities = {html.escape(character), f"&#{ord(character)};", f"&#x{ord(character):x};"}
    # HTML that is escaped twice too.
    forms += [
        re.escape(entity).replace("\\&", "&(?:amp;){,9}").replace("&#", "&(?:amp;){,9}#")
        for entity in entities
        if entity != character
    ]
    return f"(?:{'|'.join(forms)}{_VARIANTS.get(character, '')})"
