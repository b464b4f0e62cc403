"""Reads what clients send: bodies, parameters and paths, checked; nothing is ignored."""

from __future__ import annotations

import re
import typing
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import attrs
from starlette.requests import Request

from arbprov._utils import MEBIBYTE
from arbprov.errors import Problem
from arbprov.localhub.api.problems import ApiProblem, invalid, invalid_value
from arbprov.payload.converter import make_converter
from arbprov.payload.json import MAX_DEPTH, parse_value
from arbprov.payload.structuring import is_union, strip_annotation
from arbprov.payload.validation import Problems, ValidationFailure, unknown_field

__all__ = [
    "MAX_BODY",
    "check",
    "check_declared_size",
    "read_body",
    "read_bytes",
    "read_path",
    "read_query",
    "reject_parameters",
    "structure",
]

ShapeT = TypeVar("ShapeT")

#: Bytes of the largest body.
MAX_BODY = 64 * MEBIBYTE
# A payload of the greatest depth, in a task, in a list, in an object.
_MAX_DEPTH = MAX_DEPTH + 3
_MAX_PARAMETERS = 1_000
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_PAYLOAD = "payload."

_converter = make_converter(forbid_extra=True)


def check(value: Any, shape: type[ShapeT]) -> ShapeT:
    """Return JSON data as a shape.

    Raises:
        ValidationFailure: The data does not fit.
    """
    try:
        return _converter.structure(value, shape)
    except Exception as error:
        raise ValidationFailure.from_error(error) from None


def structure(value: Any, shape: type[ShapeT]) -> ShapeT:
    """Return JSON data as a shape.

    Raises:
        ApiProblem: The data does not fit.
    """
    try:
        return check(value, shape)
    except ValidationFailure as failure:
        raise invalid(failure.problems, failure.count) from None


# Bodies.


async def read_body(request: Request) -> Any:
    """Return the JSON value of a request's body; ``{}`` for none.

    Raises:
        ApiProblem: The body is not JSON, is too large, or says to be something else.
    """
    raw = await read_bytes(request)
    if not raw:
        return {}
    _check_type(request)
    try:
        return parse_value(raw, _MAX_DEPTH)
    except ValidationFailure as failure:
        raise invalid(failure.problems) from None


def check_declared_size(declared: str | None) -> None:
    """Refuse a body that its Content-Length says to be too large.

    Raises:
        ApiProblem: It is too large, or the length is not a number.
    """
    if declared is None:
        return
    if not (declared.isascii() and declared.isdecimal()):
        raise ApiProblem(400, "the header Content-Length is not a number")
    # More digits than a size has would take long to read.
    if len(declared) > 18 or int(declared) > MAX_BODY:
        raise _too_large()


async def read_bytes(request: Request, max_size: int = MAX_BODY) -> bytes:
    """Return a request's body.

    Raises:
        ApiProblem: It has more than `max_size` bytes.
    """
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_size:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> ApiProblem:
    return ApiProblem(
        413,
        f"the body is larger than {MAX_BODY // MEBIBYTE} MiB; send fewer tasks in a request",
    )


def _check_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise ApiProblem(
            415, "send the body as JSON, with the header Content-Type: application/json"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiProblem(415, "send the body without a Content-Encoding")


# Paths and parameters.


def read_path(request: Request, name: str) -> str:
    """Return a part of the path, decoded; it may have a slash in it, written as ``%2F``.

    Raises:
        ApiProblem: It is not UTF-8.
    """
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise invalid_value("not UTF-8", name) from None


def read_query(request: Request, shape: type[ShapeT]) -> ShapeT:
    """Return the parameters of a request's address as a shape.

    Raises:
        ApiProblem: A parameter is unknown, is there twice, or has a wrong value.
    """
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except UnicodeDecodeError:
        raise invalid_value("the address is not UTF-8") from None
    except ValueError:
        raise invalid_value(f"more than {_MAX_PARAMETERS:,} parameters") from None
    target_class: Any = shape
    kinds = {field.name: field.type for field in attrs.fields(attrs.resolve_types(target_class))}
    values: dict[str, Any] = {}
    problems = Problems()
    for name, text in pairs:
        if "payload" in kinds and name.startswith(_PAYLOAD):
            target, key, value = values.setdefault("payload", {}), name[len(_PAYLOAD) :], text
        elif name not in kinds or name == "payload":
            known = [_PAYLOAD + "NAME" if other == "payload" else other for other in kinds]
            problems.append(unknown_field(name, known, name))
            continue
        elif typing.get_origin(strip_annotation(kinds[name])) is list:
            values.setdefault(name, []).append(text)
            continue
        else:
            target, key, value = values, name, _from_text(text, kinds[name])
        if key in target:
            problems.append(Problem(name, "given twice"))
        target[key] = value
    if problems.count:
        raise invalid(problems.listed, problems.count)
    return structure(values, shape)


def _from_text(text: str, kind: Any) -> Any:
    """Return a number if the parameter may be one and its text is one; else the text."""
    plain = strip_annotation(kind)
    members = typing.get_args(plain) if is_union(plain) else (plain,)
    if float in members and _NUMBER.fullmatch(text):
        return float(text)
    return int(text) if int in members and _INTEGER.fullmatch(text) else text


def reject_parameters(request: Request) -> None:
    """Refuse a request with parameters, where there are none.

    Raises:
        ApiProblem: There are parameters.
    """
    read_query(request, _NoParameters)


@attrs.frozen
class _NoParameters:
    pass
