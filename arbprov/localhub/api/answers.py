"""Responses with JSON."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Mapping
from typing import Any

import attrs
from starlette.responses import Response

from arbprov.localhub.api.problems import ApiProblem, view_problem
from arbprov.payload.json import dumps

__all__ = ["answer", "answer_problem"]

PROBLEM = "application/problem+json"


def answer(
    view: Any,
    status: int = 200,
    *,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with a view, in which integers are exact."""
    content = _to_json(view)
    try:
        body = dumps(content).encode()
    except UnicodeEncodeError:
        # A payload that was sent as bytes may hold half a character, as an escape.
        body = json.dumps(content, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type)


def answer_problem(error: ApiProblem) -> Response:
    """Return the response of a refusal."""
    return answer(view_problem(error), error.status, media_type=PROBLEM, headers=error.headers)


def _to_json(value: Any) -> Any:
    """Return a view as dicts; a payload inside is JSON already, and may have any depth."""
    if attrs.has(type(value)):
        return {
            field.name: _to_json(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value.value if isinstance(value, enum.Enum) else value
