"""JSON text to data and back, by orjson where that is installed and else by the standard library.

Which one it is shows in the time it takes, and in how some floats are written: 1e16 is the same
number as 1e+16, and 0.00001 the same as 1e-05. Nothing else may differ, error messages included.
"""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

from arbprov.payload.validation import ValidationFailure

__all__ = ["JsonBackend", "OrJson", "StandardJson", "fastest_json"]


class JsonBackend(Protocol):
    """Reads and writes JSON."""

    def parse(self, raw: bytes) -> Any:
        """Return what a text holds.

        Raises:
            Misfit: It is no UTF-8, no JSON, or holds a number that no double or no `int` can.
            RecursionError: It is nested deeper than the interpreter can go.
        """
        ...

    def dump(self, data: Any) -> str:
        """Return data that `arbprov.payload.json.plain` has made as compact text."""
        ...


class StandardJson:
    """The standard library's JSON, which is the measure of what is right."""

    def parse(self, raw: bytes) -> Any:
        """Return what a text holds; see `JsonBackend.parse`."""
        try:
            return _decoded(raw.decode())
        except UnicodeDecodeError as error:
            raise ValidationFailure(f"not UTF-8: byte {error.start} can't be decoded") from None
        except json.JSONDecodeError as error:
            raise ValidationFailure(f"not JSON: {error.msg} (character {error.pos})") from None
        except ValueError:
            raise ValidationFailure(
                "holds an integer of more than 4,300 digits, which is too long"
            ) from None

    def dump(self, data: Any) -> str:
        """Return plain data as compact text."""
        return _ENCODER.encode(data)


def _decoded(text: str) -> Any:
    try:
        data, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    # If there are blanks around it, or it is no JSON at all, the slower one tells.
    return data if end == len(text) else _DECODER.decode(text)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValidationFailure("holds a number that is too large for a double")
    return number


def _no_constant(name: str) -> Any:
    raise ValidationFailure(f"not JSON: {name} is no JSON number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)


class OrJson:
    """orjson, and the standard library for whatever orjson refuses or would read otherwise.

    Raises:
        ImportError: orjson is not installed.
    """

    def __init__(self) -> None:
        import orjson

        self._loads = orjson.loads
        self._dumps = orjson.dumps
        self._standard = StandardJson()

    def parse(self, raw: bytes) -> Any:
        """Return what a text holds; see `JsonBackend.parse`."""
        # An integer of more than 64 bits would be a float, and no error.
        if _LONG not in raw.translate(_SIGNS_AND_DIGITS):
            try:
                return self._loads(raw)
            except ValueError:
                pass  # the standard library has the message, or takes it after all
        return self._standard.parse(raw)

    def dump(self, data: Any) -> str:
        """Return plain data as compact text."""
        try:
            return self._dumps(data).decode()
        except TypeError:  # an integer of more than 64 bits, or a lone surrogate
            return self._standard.dump(data)


# What 64 bits can't hold has 20 digits, or 19 with a minus before them.
_SIGNS_AND_DIGITS = bytes(ord("0") if byte in b"-0123456789" else byte for byte in range(256))
_LONG = b"0" * 20


def fastest_json() -> JsonBackend:
    """Return the fastest backend of those that are installed."""
    try:
        return OrJson()
    except ImportError:
        return StandardJson()
