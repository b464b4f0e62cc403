"""The messages of `/arbprov.Leases/Renew` as bytes of JSON; the hub's protobuf has none for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from arbprov.payload.json import parse_object
from arbprov.payload.validation import ValidationFailure
from arbprov.task import TaskKey
from arbprov.wire.hub import Renewal

__all__ = ["decode_renewal", "encode_renewal"]


def encode_renewal(auth_token: str, provider: str, tasks: Sequence[TaskKey]) -> bytes:
    """Return the request to renew the leases of tasks.

    >>> encode_renewal("sample-token", "weather", [("t1", 2)])
    b'{"token": "sample-token", "provider": "weather", "tasks": [["t1", 2]]}'
    """
    return json.dumps({"token": auth_token, "provider": provider, "tasks": tasks}).encode()


def decode_renewal(message: bytes) -> Renewal:
    """Return the hub's answer; a list that it lacks is empty.

    Raises:
        ValueError: It is not such an answer.

    >>> decode_renewal(b'{"cancelled": [["t1", 2]], "lost": []}')
    Renewal(cancelled=frozenset({('t1', 2)}), lost=frozenset())
    """
    try:
        answer = parse_object(message)
    except ValidationFailure as failure:
        raise ValueError(str(failure.problems[0])) from None
    return Renewal(_read_keys(answer, "cancelled"), _read_keys(answer, "lost"))


def _read_keys(answer: dict[str, Any], name: str) -> frozenset[TaskKey]:
    pairs = answer.get(name, [])
    if not isinstance(pairs, list) or not all(map(_is_key, pairs)):
        raise ValueError(f"{name} is not a list of pairs of an id and an attempt")
    return frozenset((task_id, attempt) for task_id, attempt in pairs)


def _is_key(pair: Any) -> bool:
    return isinstance(pair, list) and [type(part) for part in pair] == [str, int]
