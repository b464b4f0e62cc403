"""Results as people read them: the problems in an envelope, and the envelope itself."""

from __future__ import annotations

from typing import Any

import attrs

from arbprov.errors import Problem
from arbprov.localhub.page.words import cut_text, format_json
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure
from arbprov.responses import INVALID_RESULT

__all__ = ["Shown", "find_problems", "show_json"]

_MAX_PROBLEMS = 100


@attrs.frozen
class Shown:
    """JSON to show.

    Attributes:
        text: It, indented; as it came if it is not JSON; of very long JSON, the beginning.
        value: Its value; None if it is not JSON.
    """

    text: str
    value: Any = None


def show_json(raw: bytes) -> Shown:
    """Return JSON as it is shown.

    >>> print(show_json(b'{"a":1}').text)
    {
      "a": 1
    }
    >>> show_json(b"no JSON").text
    'no JSON'
    """
    try:
        value = parse_value(raw)
    except ValidationFailure:
        return Shown(cut_text(raw.decode(errors="replace")))
    return Shown(format_json(value), value)


def find_problems(envelope: Any) -> list[Problem]:
    """Return the problems that a provider has found in a payload or an account.

    Args:
        envelope: The value of a result's envelope.

    >>> problem = {"path": "days", "message": "expected an integer, got a string"}
    >>> find_problems({"data": {"response": {"problems": [problem]}}})
    [Problem(path='days', message='expected an integer, got a string')]
    """
    response = envelope
    for name in ("data", "response"):
        response = response.get(name) if isinstance(response, dict) else None
    found = response.get("problems") if isinstance(response, dict) else None
    # The paths of a result's problems are not those of the payload's fields.
    if not isinstance(found, list) or str(response.get("error")).startswith(INVALID_RESULT):
        return []
    return [
        Problem(str(one.get("path", "")), str(one.get("message", "")))
        for one in found[:_MAX_PROBLEMS]
        if isinstance(one, dict)
    ]
