"""JSON text: read strictly from a task, and written compactly for the hub.

orjson reads and writes it where that is installed, else the standard library does. They differ in
speed, and in how they write some floats (1e16 or 1e+16, 0.00001 or 1e-05), never in the value.
Everything else is the same, error messages included.
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

from arbprov.payload.validation import ValidationFailure, json_kind

__all__ = [
    "MAX_DEPTH",
    "JsonBackend",
    "OrjsonBackend",
    "StandardBackend",
    "dumps",
    "fastest_backend",
    "parse_object",
    "parse_value",
    "too_deep",
]

# Deeper than any document in practice, and far from the interpreter's recursion limit.
MAX_DEPTH = 100


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`; no bytes at all stand for ``{}``.

    Raises:
        ValidationFailure: It is not UTF-8, not JSON or not an object, is nested deeper than
            `MAX_DEPTH`, or holds a number that is too large for a double.
    """
    data = parse_value(raw) if raw else {}
    if type(data) is not dict:
        raise ValidationFailure(f"expected a JSON object, got {json_kind(data)}")
    return data


def parse_value(raw: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Return the JSON value in `raw`.

    Args:
        raw: The JSON document.
        max_depth: The most levels that it may have.

    Raises:
        ValidationFailure: It is not UTF-8 or not JSON, is nested too deep, or holds a number that
            is too large for a double.
    """
    # Each level has two brackets, so a document with fewer bytes or brackets can't be too deep.
    may_be_deep = len(raw) > 2 * max_depth and raw.count(b"{") + raw.count(b"[") > max_depth
    try:
        data = _backend.loads(raw)
    except RecursionError:
        raise too_deep() from None
    if may_be_deep and _is_deeper(data, max_depth):
        raise too_deep()
    return data


def _is_deeper(data: Any, levels: int) -> bool:
    nodes = [data]
    for _ in range(levels):
        containers = [node for node in nodes if isinstance(node, (dict, list))]
        nodes = [
            child
            for node in containers
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return any(isinstance(node, (dict, list)) for node in nodes)


def too_deep() -> ValidationFailure:
    """Return the failure of a document or a result with more than `MAX_DEPTH` levels."""
    return ValidationFailure(f"nested deeper than {MAX_DEPTH} levels")


def dumps(data: Any) -> str:
    """Return data as compact JSON text.

    Args:
        data: A value that `arbprov.payload.serialize.to_builtins` returned.
    """
    return _backend.dumps(data)


class JsonBackend(Protocol):
    """A library that reads and writes JSON."""

    def loads(self, raw: bytes) -> Any:
        """Return the data in a JSON document.

        Raises:
            ValidationFailure: It is not UTF-8 or not JSON, or a number is too large.
            RecursionError: It is nested deeper than the interpreter can read.
        """
        ...

    def dumps(self, data: Any) -> str:
        """Return data that `to_builtins` has made as compact JSON text."""
        ...


class StandardBackend:
    """The standard library's JSON, made strict; the reference for other backends."""

    def loads(self, raw: bytes) -> Any:
        """Return the data in a JSON document; see `JsonBackend.loads`."""
        try:
            text = raw.decode()
            try:
                data, end = _DECODER.raw_decode(text)
            except json.JSONDecodeError:
                end = -1
            # decode() is slower, accepts blanks around the document, and explains errors.
            return data if end == len(text) else _DECODER.decode(text)
        except ValidationFailure:  # of the decoder's own functions; it is a ValueError too
            raise
        except UnicodeDecodeError as error:
            raise ValidationFailure(f"not UTF-8: byte {error.start} can't be decoded") from None
        except json.JSONDecodeError as error:
            raise ValidationFailure(f"not JSON: {error.msg} (character {error.pos})") from None
        except ValueError:
            raise ValidationFailure(
                "holds an integer of more than 4,300 digits, which is too long"
            ) from None

    def dumps(self, data: Any) -> str:
        """Return data as compact JSON text."""
        return _ENCODER.encode(data)


def _make_decoder() -> json.JSONDecoder:
    def parse_float(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise ValidationFailure("holds a number that is too large for a double")
        return number

    def refuse_constant(name: str) -> Any:
        raise ValidationFailure(f"not JSON: {name} is not a JSON number")

    return json.JSONDecoder(parse_float=parse_float, parse_constant=refuse_constant)


_DECODER = _make_decoder()
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)


class OrjsonBackend:
    """orjson, and the standard library for all that orjson refuses or reads differently.

    Raises:
        ImportError: orjson is not installed.
    """

    def __init__(self) -> None:
        import orjson

        self._loads = orjson.loads
        self._dumps = orjson.dumps
        self._standard = StandardBackend()

    def loads(self, raw: bytes) -> Any:
        """Return the data in a JSON document; see `JsonBackend.loads`."""
        # orjson reads an integer of more than 64 bits as a float.
        if _LONG_NUMBER not in raw.translate(_SIGNS_AND_DIGITS):
            try:
                return self._loads(raw)
            except ValueError:
                pass  # the standard library has the message, or reads it after all
        return self._standard.loads(raw)

    def dumps(self, data: Any) -> str:
        """Return data as compact JSON text."""
        try:
            return self._dumps(data).decode()
        except TypeError:  # an integer of more than 64 bits, or a lone surrogate
            return self._standard.dumps(data)


# An integer that needs more than 64 bits has 20 digits, or 19 and a minus.
_SIGNS_AND_DIGITS = bytes(ord("0") if byte in b"-0123456789" else byte for byte in range(256))
_LONG_NUMBER = b"0" * 20


def fastest_backend() -> JsonBackend:
    """Return the fastest backend that is installed."""
    try:
        return OrjsonBackend()
    except ImportError:
        return StandardBackend()


_backend = fastest_backend()
