"""The command that calls an action as a task did."""

from __future__ import annotations

import json
import shlex

from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure

__all__ = ["make_call_command"]

# Operating systems refuse longer arguments.
_MAX_PAYLOAD = 100_000


def make_call_command(action: str, payload: bytes, provider: str = "") -> str:
    r"""Return the shell command that runs a new task like another; empty if no shell can run it.

    The account is not in it, since its values are secret.

    Args:
        action: The task's action.
        payload: The task's payload.
        provider: The provider that must run the task; any if empty.

    >>> make_call_command("forecast", b'{"city": "Paris"}')
    'arbprov call forecast \'{"city": "Paris"}\''
    """
    try:
        value = parse_value(payload)
    except ValidationFailure:
        return ""
    if not isinstance(value, dict) or len(payload) > _MAX_PAYLOAD:
        return ""
    # Control characters do something else in a terminal.
    if not (action + provider).isprintable() or action.startswith("-"):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    words = ["arbprov", "call", action, text]
    if provider:
        words += ["--provider", provider]
    return shlex.join(words)
