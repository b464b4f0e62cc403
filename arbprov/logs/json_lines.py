"""The log as JSON lines, in the names of OpenTelemetry: the one place for these names.

The fields are those of its log data model, version 1.55; `trace_id`, `span_id` and `trace_flags`
are top-level, as its rules for JSON logs say. The attributes are those of its semantic conventions,
and arbprov's own.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import re
import time
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

from arbprov._utils import class_name, text_of
from arbprov.logs.current import current_task
from arbprov.logs.formats import message_of

__all__ = [
    "EXCEPTION_MESSAGE",
    "EXCEPTION_TYPE",
    "SERVICE_NAME",
    "WORKER",
    "JsonFormatter",
    "describe_exception",
]

# Of the resource.
SERVICE_NAME = "service.name"
WORKER = "arbprov.worker"
# Attributes, beside those in `_encode_origin`.
TASK_ID = "arbprov.task.id"
ACTION = "arbprov.action"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
STACKTRACE = "code.stacktrace"
# Top-level fields, by the attributes of a record that hold them; the second three are those of
# OpenTelemetry's own instrumentation of `logging`.
_TRACE = {
    "trace_id": "trace_id",
    "span_id": "span_id",
    "trace_flags": "trace_flags",
    "otelTraceID": "trace_id",
    "otelSpanID": "span_id",
}
# Attributes that `logging` and others set, which do not become attributes of the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "otelServiceName", "otelTraceSampled")
}
# Names that an author's `extra` must not take.
_TAKEN = frozenset(
    {
        *("code.file.path", "code.function.name", "code.line.number", STACKTRACE),
        *("process.pid", "thread.name", TASK_ID, ACTION),
    }
)
_OF_EXCEPTIONS = frozenset({EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE})
# Characters of a task's id, which may have any length.
_MAX_ID = 1_000
# Line separators beside \n, which JSON need not escape, and halves of surrogate pairs.
_ODD = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=text_of
)


class JsonFormatter(logging.Formatter):
    r"""Formats each record as a JSON object on a line, with the task that it belongs to.

    Args:
        resource: What logs, by the names of OpenTelemetry's resource attributes.

    >>> formatter = JsonFormatter({"service.name": "weather"})
    >>> record = logging.LogRecord("shop", logging.INFO, "shop.py", 7, "one\ntwo", (), None)
    >>> record.city = "Paris"
    >>> line = json.loads(formatter.format(record))
    >>> line["body"], line["attributes"]["city"], line["scope"], line["resource"]
    ('one\ntwo', 'Paris', {'name': 'shop'}, {'service.name': 'weather'})
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        super().__init__()
        self.resource = resource

    @property
    def resource(self) -> Mapping[str, str]:
        """What logs."""
        return self._resource

    @resource.setter
    def resource(self, resource: Mapping[str, str]) -> None:
        self._resource = resource
        self._end = f',"resource":{_encode(dict(resource))}}}'

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON, without a line break."""
        created = record.created
        second = math.floor(created)
        micros = int((created - second) * 1_000_000)
        level, origin, scope = _encode_origin(
            record.levelno,
            record.levelname,
            record.pathname,
            record.funcName,
            record.lineno,
            record.process,
            record.threadName,
            record.name,
        )
        attributes = [origin, _encode_task()]
        trace = ""
        if record.exc_info or record.exc_text or record.stack_info:
            attributes.append(self._encode_exception(record))
        if not _STANDARD.issuperset(record.__dict__):
            trace, extra = _encode_extra(record)
            attributes.append(extra)
        line = (
            f'{{"timestamp":"{_format_second(second)}.{micros:06d}Z"'
            f'{level},"body":{encode_basestring(message_of(record))}{trace}'
            f',"attributes":{{{"".join(attributes)}}}'
            f"{scope}{self._end}"
        )
        return line if line.isascii() else _ODD.sub(_escape, line)

    def _encode_exception(self, record: logging.LogRecord) -> str:
        found: dict[str, str] = {}
        info = record.exc_info
        error = info[1] if isinstance(info, tuple) else None
        if isinstance(error, BaseException):
            found = describe_exception(error)
        if record.exc_text:
            found[EXCEPTION_STACKTRACE] = record.exc_text
        elif info and error is not None:
            found[EXCEPTION_STACKTRACE] = self.formatException(info)
        if record.stack_info:
            found[STACKTRACE] = record.stack_info
        return _encode_members(found)


def describe_exception(error: BaseException) -> dict[str, str]:
    """Return the type and the message of an exception, as attributes.

    >>> describe_exception(KeyError("city"))
    {'exception.type': 'KeyError', 'exception.message': "'city'"}
    """
    module = text_of(getattr(type(error), "__module__", ""))
    name = class_name(error)
    return {
        EXCEPTION_TYPE: name if module in {"builtins", ""} else f"{module}.{name}",
        EXCEPTION_MESSAGE: text_of(error),
    }


def _encode_extra(record: logging.LogRecord) -> tuple[str, str]:
    """Return the trace's fields, and the author's `extra`, as members of JSON objects."""
    trace: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    has_exception = bool(record.exc_info or record.exc_text)
    for key, value in record.__dict__.items():
        if key in _STANDARD:
            continue
        name = key if type(key) is str else text_of(key)
        if name in _TRACE:
            # OpenTelemetry's instrumentation writes 0 outside a trace.
            if type(value) is str and value.strip("0"):
                trace[_TRACE[name]] = value
        elif name in _TAKEN or (has_exception and name in _OF_EXCEPTIONS):
            extra[f"extra.{name}"] = value
        else:
            extra[name] = value
    return _encode_members(trace), _encode_members(extra)


def _encode_members(members: Mapping[str, Any]) -> str:
    return "".join(
        f",{encode_basestring(name)}:{_encode(value)}" for name, value in members.items()
    )


def _encode(value: Any) -> str:
    """Return a value as JSON; as a text if JSON can't hold it, so that no line is lost."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    try:
        return str(value) if kind is int else _ENCODER.encode(value)
    except BaseException:
        return encode_basestring(text_of(value))


def _encode_task() -> str:
    task = current_task.get()
    if task is None:
        return ""
    name, action = encode_basestring(task.id[:_MAX_ID]), encode_basestring(task.action[:_MAX_ID])
    return f',"{TASK_ID}":{name},"{ACTION}":{action}'


# These are the same for many records.


@functools.lru_cache(maxsize=4)
def _format_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@functools.lru_cache(maxsize=1_000)
def _encode_origin(
    level: int,
    level_name: Any,
    path: Any,
    function: Any,
    line: Any,
    process: Any,
    thread: Any,
    logger: Any,
) -> tuple[str, str, str]:
    """Return the fields of the level, the attributes of place and thread, and the scope."""
    fields = (
        f',"severity_text":{encode_basestring(text_of(level_name))}'
        f',"severity_number":{_severity_number(level)}'
    )
    attributes = (
        f'"code.file.path":{_encode(path)},"code.function.name":{_encode(function)},'
        f'"code.line.number":{_encode(line)},'
        f'"process.pid":{_encode(process)},"thread.name":{_encode(thread)}'
    )
    return fields, attributes, f',"scope":{{"name":{encode_basestring(text_of(logger))}}}'


def _severity_number(level: int) -> int:
    """Return OpenTelemetry's number of a level; levels between two of Python's count upwards."""
    tens, rest = divmod(min(max(level, 0), 59), 10)
    return 4 * tens + 1 + min(rest, 3) if level > 0 else 0


def _escape(found: re.Match[str]) -> str:
    """Return an odd character as JSON escapes it; a half of a pair as the text of its escape.

    Strict readers of JSON refuse halves of pairs, escaped ones too.
    """
    code = ord(found[0])
    return f"\\\\u{code:04x}" if code >= 0xD800 and code < 0xE000 else f"\\u{code:04x}"
