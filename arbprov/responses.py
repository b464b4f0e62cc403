"""Results and errors as the hub gets them: status, message, data, and the envelope around them."""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import attrs

from arbprov._utils import MEBIBYTE, class_name, errors_in_group, text_of
from arbprov.errors import (
    ActionNotFoundError,
    InvalidPayloadError,
    Problem,
    RateLimited,
    TaskError,
    TaskTimeoutError,
)
from arbprov.payload.json import dumps
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import (
    MAX_COUNTED,
    MAX_PROBLEMS,
    OwnWords,
    ValidationFailure,
)
from arbprov.redaction import Redactor
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = [
    "ARBPROV_KEYS",
    "INVALID_RESULT",
    "MAX_RESULT_SIZE",
    "ResultTooLargeError",
    "error_response",
    "error_result",
    "group_members",
    "name_fields",
    "redact_result",
    "success_result",
    "write_envelope",
]

# Bytes of a result's message and data, as JSON. Protobuf ends the process with a message of 2 GiB,
# and SQLite stores at most 1,000,000,000 bytes, the task's payload and account included.
MAX_RESULT_SIZE = 256 * MEBIBYTE

# How the text of an error begins that is about what the action returned, not about its payload.
INVALID_RESULT = "The action returned what JSON can't carry: "

# Bytes of JSON: with these, the result of an error stays below 64 KiB.
MAX_TEXT_BYTES = 8 * 1024
_MAX_PROBLEM_BYTES = 1024
_MAX_PROBLEMS_BYTES = 32 * 1024
# Bytes that the keys of a problem add.
_PROBLEM_OVERHEAD = 24
# Errors of an exception group that its text lists.
_MAX_MEMBERS = 10
# Groups and errors that are searched for them.
_MAX_GROUPS = 1_000
# Characters of a text that are searched for secrets; the rest is cut off anyway.
_MAX_REDACTED = 64 * 1024
# The last line of the text of httpx's and httpx2's HTTPStatusError, which says nothing of the task.
_STATUS_LINK = re.compile(r"\nFor more information check: https://\S+\Z")

# Every key that arbprov itself writes into `data`, also for the headroom of limits.
ARBPROV_KEYS = frozenset(
    [
        "action",
        "attempts",
        "available_actions",
        "cooldown",
        "error",
        "limit",
        "limits",
        "message",
        "path",
        "problem_count",
        "problems",
        "remaining",
        "timeout",
        "type",
        "until",
        "wait_time",
    ]
)


class ResultTooLargeError(TaskError):
    """The error that is sent in place of a result that is too large."""


@functools.singledispatch
def error_response(error: BaseException) -> ProviderResponse:
    """Return the response to an error, without a traceback.

    An error's type goes before its text where that is not a sentence of the author's, but the
    Python form of some value.

    >>> error_response(ValueError("sold out")).data
    {'error': 'sold out', 'type': 'ValueError'}
    >>> error_response(KeyError("city")).data
    {'error': "KeyError: 'city'", 'type': 'KeyError'}
    """
    name, text = class_name(error), _STATUS_LINK.sub("", text_of(error))
    if text and _is_repr(error):
        text = f"{name}: {text}"
    text = text or name
    if members := group_members(error):
        text += f": {'; '.join(map(_describe_member, members))}"
    return _error(text, error=text, type=name)


def group_members(error: BaseException) -> list[BaseException]:
    """Return the first errors in an exception group and the groups inside it, else nothing.

    >>> group_members(ValueError("sold out"))
    []
    """
    members: list[BaseException] = []
    pending = errors_in_group(error)
    for _ in range(_MAX_GROUPS):
        if not pending or len(members) == _MAX_MEMBERS:
            break
        member = pending.pop(0)
        if inner := errors_in_group(member):
            pending[:0] = inner
        else:
            members.append(member)
    return members


def _describe_member(error: BaseException) -> str:
    name, text = class_name(error), error_response(error).message
    return text if text.startswith(name) else f"{name}: {text}"


def _is_repr(error: BaseException) -> bool:
    """Return whether an error's text is the Python form of its arguments."""
    show = type(error).__str__
    if show is KeyError.__str__:
        return True
    is_message = len(error.args) == 1 and isinstance(error.args[0], str)
    return show is BaseException.__str__ and not is_message


@error_response.register
def _(error: ActionNotFoundError) -> ProviderResponse:
    return _error(str(error), error=str(error), available_actions=error.available_actions)


@error_response.register
def _(error: InvalidPayloadError) -> ProviderResponse:
    return _problem_response(error.message, error.problems, error.count)


@error_response.register
def _(error: ValidationFailure) -> ProviderResponse:
    return _problem_response("", error.problems, error.count, INVALID_RESULT)


@error_response.register
def _(error: TaskTimeoutError) -> ProviderResponse:
    return _error(str(error), error=str(error), timeout=error.timeout)


@error_response.register
def _(error: RateLimited) -> ProviderResponse:
    data = {"wait_time": error.retry_after, "limit": error.limit, **error.details}
    return ProviderResponse(Status.LIMIT, error.reason, data)


def _error(message: str, **details: Any) -> ProviderResponse:
    return ProviderResponse(Status.ERROR, message, details)


def _problem_response(
    message: str, problems: Sequence[Problem], count: int, start: str = ""
) -> ProviderResponse:
    """Return the response with the first problems, and with how many there are if that is more.

    Args:
        message: The text of the error; by default, the problems after `start`.
        problems: The problems.
        count: How many there are; they may not all be listed.
        start: The beginning of the text.
    """
    listed: list[dict[str, str]] = []
    size = 0
    for problem in problems[:MAX_PROBLEMS]:
        entry = {
            "path": _shorten(problem.path, _MAX_PROBLEM_BYTES),
            "message": _shorten(problem.message, _MAX_PROBLEM_BYTES),
        }
        size += sum(len(_encode(text)) for text in entry.values()) + _PROBLEM_OVERHEAD
        if listed and size > _MAX_PROBLEMS_BYTES:
            break
        listed.append(entry)
    text = message or start + "; ".join(str(Problem(**entry)) for entry in listed)
    text = _shorten(text, MAX_TEXT_BYTES)
    details: dict[str, Any] = {}
    if more := count - len(listed):
        details = {"problem_count": count}
        at_least = "more than " if count >= MAX_COUNTED else ""
        if not message:
            text += f"; and {at_least}{more:,} more problem{'s' if more > 1 else ''}"
    return _error(text, error=text, problems=listed, **details)


def _shorten(text: str, max_bytes: int) -> str:
    """Return the beginning of a text whose JSON is longer than `max_bytes`, with its length."""
    # JSON has at most six bytes for a character.
    if len(text) * 6 <= max_bytes:
        return text
    start = text[:max_bytes]
    while len(_encode(start)) > max_bytes:
        start = start[: len(start) * 3 // 4]
    return text if len(start) == len(text) else f"{start}... ({len(text):,} characters)"


def _encode(text: str) -> bytes:
    # A lone surrogate has no bytes.
    return dumps(text.encode(errors="replace").decode()).encode()


def success_result(task: Task, value: Any) -> TaskResult:
    """Return the result of a handler that returned `value`.

    Raises:
        ValidationFailure: A part of the value has no JSON form.
    """
    if isinstance(value, ProviderResponse):
        return TaskResult(task, value.status, value.message, to_builtins(value.data))
    data = {} if value is None else to_builtins(value)
    return TaskResult(task, Status.SUCCESS, Status.SUCCESS.default_message, data)


def error_result(task: Task, error: BaseException, redactor: Redactor) -> TaskResult:
    """Return the redacted result of a task that ends with an error.

    What arbprov itself has written is not redacted: it holds no value of an account, and an account
    that has a word of it would only garble it.

    Raises:
        ValidationFailure: A part of the error's details has no JSON form.
    """
    # `issubclass` runs no code of the error's class, as `isinstance` may.
    if issubclass(type(error), (InvalidPayloadError, ValidationFailure)):
        error = _redact_problems(cast("InvalidPayloadError", error), redactor)
    response = error_response(error)
    message, data = response.message, response.data
    if not issubclass(type(error), (InvalidPayloadError, ValidationFailure, *_OWN_ERRORS)):
        message = _redact_text(message, redactor)
        data = {
            key: _redact_text(item, redactor)
            if isinstance(item, str)
            else _redact_data(item, redactor)
            for key, item in data.items()
        }
    return TaskResult(task, response.status, message, to_builtins(data))


# Errors whose texts arbprov writes, and that hold only names from the author's code.
_OWN_ERRORS = (ActionNotFoundError, TaskTimeoutError)


def _redact_problems(
    error: InvalidPayloadError | ValidationFailure, redactor: Redactor
) -> InvalidPayloadError | ValidationFailure:
    """Return an error with its problems redacted, except for what arbprov itself has written."""
    problems = error.problems[:MAX_PROBLEMS]
    texts = [text for problem in problems for text in (problem.path, problem.message)]
    narrowed = redactor.narrow(text[:_MAX_REDACTED] for text in texts)
    redacted = [
        Problem(
            _redact_path(problem.path, narrowed),
            problem.message
            if isinstance(problem.message, OwnWords)
            else _redact_text(problem.message, narrowed),
        )
        for problem in problems
    ]
    if isinstance(error, ValidationFailure):
        return ValidationFailure(redacted, error.count)
    return InvalidPayloadError(redacted, _redact_text(error.message, redactor), error.count)


def _redact_path(path: str, redactor: Redactor) -> str:
    """Return a path with its names redacted, except for the argument, which arbprov names."""
    argument, dot, rest = path.partition(".")
    if argument in ("account", "payload"):
        return argument + dot + _redact_text(rest, redactor)
    return _redact_text(path, redactor)


def _redact_text(text: str, redactor: Redactor) -> str:
    """Return a text redacted, and shortened if it is long."""
    if len(text) <= _MAX_REDACTED:
        return _shorten(redactor.redact(text), MAX_TEXT_BYTES)
    start = redactor.redact(text[:_MAX_REDACTED])
    if len(start) <= MAX_TEXT_BYTES:  # a secret may have been cut at the end
        start = start[: start.rfind("[redacted]")]
    while len(_encode(start)) > MAX_TEXT_BYTES:
        start = start[: min(MAX_TEXT_BYTES, len(start) * 3 // 4)]
    return f"{start}... ({len(text):,} characters)"


def redact_result(result: TaskResult, redactor: Redactor) -> TaskResult:
    """Return a result with its message and its data redacted."""
    is_default = result.message == result.status.default_message
    message = result.message if is_default else redactor.redact(result.message)
    data = _redact_data(result.data, redactor.narrow(_texts(result.data)))
    return attrs.evolve(result, message=message, data=data)


def _texts(data: Any) -> Iterator[str]:
    """Yield the texts in JSON data, keys included."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, item in data.items():
            yield key
            yield from _texts(item)
    elif isinstance(data, list):
        for item in data:
            yield from _texts(item)


def _redact_data(data: Any, redactor: Redactor) -> Any:
    if isinstance(data, str):
        return redactor.redact(data)
    if isinstance(data, dict):
        # A key that arbprov writes is not a secret, and readers of the result rely on it.
        return {
            key if key in ARBPROV_KEYS else redactor.redact(key): _redact_data(item, redactor)
            for key, item in data.items()
        }
    if isinstance(data, list):
        return [_redact_data(item, redactor) for item in data]
    return data


def name_fields(provider: str, action: str) -> str:
    """Return the envelope's fields that name the provider and the action, as JSON."""
    return f'"provider":{dumps(provider)},"action":{dumps(action)}'


def write_envelope(
    result: TaskResult, names: str, now: dt.datetime, timezone: dt.tzinfo, timezone_name: str
) -> str:
    """Return a result's envelope as JSON.

    Args:
        result: The result.
        names: Its `name_fields`.
        now: The time, to the second.
        timezone: Of the envelope's `now`.
        timezone_name: Of the envelope's `timezone`.

    Raises:
        ResultTooLargeError: Message and data together have more bytes than `MAX_RESULT_SIZE`.
    """
    if len(result.message) > MAX_RESULT_SIZE // 4:
        _check_size(result.message)
    message, response = dumps(result.message), dumps(result.data)
    # A character has up to four bytes.
    if len(message) + len(response) > MAX_RESULT_SIZE // 4:
        _check_size(message, response)
    times = _time_fields(now.timestamp() // 1, timezone, timezone_name)
    return (
        f'{{"status":"{result.status.value}","message":{message},'
        f'"data":{{{names},{times},"response":{response}}}}}'
    )


def _check_size(*texts: str) -> None:
    size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    if size > MAX_RESULT_SIZE:
        raise ResultTooLargeError(
            f"the result has {size:,} bytes, and at most {MAX_RESULT_SIZE:,} can be sent; return "
            f"less, or where the data can be found"
        )


# Each second is written only once, not for each task.
@functools.lru_cache(maxsize=16)
def _time_fields(second: float, timezone: dt.tzinfo, name: str) -> str:
    now_utc = dt.datetime.fromtimestamp(second, dt.timezone.utc)
    now = now_utc.astimezone(timezone)
    return f'"timezone":{dumps(name)},"now":"{now.isoformat()}","now_utc":"{now_utc.isoformat()}"'
