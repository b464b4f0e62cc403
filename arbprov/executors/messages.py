"""The messages between the provider and a handler's process: calls, answers, log records."""

from __future__ import annotations

import contextlib
import enum
import logging
import operator
import pickle
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._utils import class_name, format_user_traceback, simplify_error, text_of
from arbprov.clock import SystemClock
from arbprov.context import TaskContext
from arbprov.errors import HandlerProcessError
from arbprov.limits import CallLimits, Headroom
from arbprov.logs.json_lines import describe_exception
from arbprov.responses import error_response

if TYPE_CHECKING:
    from arbprov.dispatcher import Call

__all__ = ["CallRequest", "ContextState", "Failure", "Kind", "Message", "RecordState"]

# The loggers whose levels a handler's process takes over.
_LOGGERS = ("", "arbprov")
# A message's kind and the number of its call.
_HEADER = struct.Struct("!BQ")
# The types whose values any process can unpickle.
_PLAIN = frozenset({bool, float, int, str, type(None)})


class Kind(enum.IntEnum):
    """The kinds of messages."""

    READY = 0
    CALL = 1
    RESULT = 2
    FAILURE = 3
    REFUND = 4
    REPORT = 5
    LOG = 6
    CHARGE_AGED = 7
    # The handler waits for the answer to it, with its limits.
    QUESTION = 8
    ANSWER = 9


@attrs.frozen
class Message:
    """A message whose kind and call can be read even if its body can't be unpickled.

    Args:
        kind: The meaning of the body.
        call: The number of the call that the message belongs to; 0 before the first.
        body: A pickled value.

    >>> Message.decode(Message(Kind.RESULT, 7, b"...").encode()).call
    7
    """

    kind: Kind
    call: int
    body: bytes | memoryview = attrs.field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Return the message as bytes."""
        return b"".join((_HEADER.pack(self.kind, self.call), self.body))

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Return the message in `data`.

        Raises:
            ValueError: `data` is not a message.
        """
        try:
            kind, call = _HEADER.unpack_from(data)
        except struct.error as error:
            raise ValueError(f"not a message: {error}") from None
        return cls(Kind(kind), call, memoryview(data)[_HEADER.size :])

    def load(self) -> Any:
        """Unpickle the body; the classes in it may raise any error."""
        return pickle.loads(self.body)  # noqa: S301 - from a process of our own


@attrs.frozen
class ContextState:
    """The part of a task's context that is sent to the handler's process."""

    id: str
    provider: str
    attempt: int
    remaining: float
    logger: str
    payload: Mapping[str, Any] = attrs.field(repr=False)
    account: Mapping[str, Any] = attrs.field(repr=False)
    headroom: Sequence[Headroom]
    limit_names: Sequence[str]
    has_manual_limits: bool

    @classmethod
    def of(cls, call: Call) -> ContextState:
        """Return the state of a call's context."""
        ctx = call.ctx
        return cls(
            id=ctx.id,
            provider=ctx._provider,
            attempt=ctx.attempt,
            remaining=ctx.remaining,
            logger=ctx.logger.name,
            payload=ctx.payload,
            account=ctx.account,
            headroom=ctx.limits.headroom,
            limit_names=ctx.limits.names,
            has_manual_limits=call.manual is not None,
        )

    def restore(self, action: str, limits: CallLimits) -> TaskContext:
        """Return a context in this state."""
        clock = SystemClock()
        return TaskContext(
            id=self.id,
            action=action,
            deadline=clock.monotonic() + self.remaining,
            logger=logging.getLogger(self.logger),
            payload=self.payload,
            account=self.account,
            limits=limits,
            attempt=self.attempt,
            provider=self.provider,
            clock=clock,
        )


@attrs.frozen
class CallRequest:
    """A call of a handler, as it is sent to the process.

    Args:
        action: The name of the handler's action.
        args: The positional arguments; None in the place of the task's context.
        kwargs: The keyword arguments; None in the place of the task's context.
        levels: The levels of the provider's loggers by their names.
        begin_before: The time of the system's monotonic clock until which the handler may begin.
        context_places: The indexes and names of the arguments that are the task's context.
        context: The task's context, if the handler takes it or acquires limits.
    """

    action: str
    args: list[Any] = attrs.field(repr=False)
    kwargs: dict[str, Any] = attrs.field(repr=False)
    levels: Mapping[str, int]
    begin_before: float
    context_places: Sequence[str | int] = ()
    context: ContextState | None = None

    @classmethod
    def of(cls, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CallRequest:
        """Return the request for a call."""
        levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        # In this order: a stop of this process in between takes time from the handler's start.
        now = time.monotonic()
        begin_before = now + call.begin_before - call.ctx._clock.monotonic()
        request = cls(call.task.action, list(args), dict(kwargs), levels, begin_before)
        arguments: list[tuple[str | int, Any]] = [*enumerate(args), *kwargs.items()]
        places = [place for place, value in arguments if value is call.ctx]
        if not places and call.manual is None:
            return request
        request.set_context(places, None)
        return attrs.evolve(request, context_places=places, context=ContextState.of(call))

    def encode(self) -> bytes:
        """Return the request as bytes.

        Raises:
            HandlerProcessError: An argument can't be pickled.
        """
        try:
            return pickle.dumps(self)
        except Exception as error:
            raise HandlerProcessError(
                f"The action's arguments can't be sent to its process: {error}; "
                f"define their classes at the top of a module"
            ) from None

    def set_context(self, places: Sequence[str | int], context: TaskContext | None) -> None:
        """Put a context in its places among the arguments."""
        for place in places:
            target: Any = self.kwargs if isinstance(place, str) else self.args
            target[place] = context


@attrs.frozen
class Failure:
    """An exception of a handler: as text, and pickled where that is possible.

    Args:
        pickled: The exception, if the provider may be able to unpickle it.
        type: The name of its class.
        text: Its text.
        message: The message of its result.
        traceback: Its traceback, as text.
    """

    pickled: bytes | None = attrs.field(repr=False)
    type: str
    text: str = attrs.field(repr=False)
    message: str = attrs.field(repr=False)
    traceback: str = attrs.field(repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return an exception in the form that is sent to the provider."""
        text = text_of(error)
        message = text
        with contextlib.suppress(BaseException):  # its arguments may be anything
            message = _exact(error_response(error).message)
        traceback = format_user_traceback(error)
        return cls(_pickle_error(error, text), class_name(error), text, message, traceback)

    def restore(self) -> BaseException:
        """Return the exception, or a substitute with its class name and message."""
        # The provider may lack the exception's module, or have another state of it.
        with contextlib.suppress(BaseException):
            if self.pickled is not None:
                error = _unpickle_error(self.pickled)
                if text_of(error) == self.text:
                    return error
        # The substitute has neither the class nor the arguments that the message depends on.
        return simplify_error(self.type, self.message)


@attrs.frozen
class RecordState:
    """A log record, whose attributes are sent each for itself.

    Args:
        attributes: The attributes that any process can unpickle.
        pickled: The other attributes: pickled, if that is possible, and as text.
    """

    attributes: Mapping[str, Any] = attrs.field(repr=False)
    pickled: Mapping[str, tuple[bytes | None, str]] = attrs.field(repr=False)

    @classmethod
    def of(cls, record: logging.LogRecord, text: str) -> RecordState:
        """Return a record in the form that is sent to the provider.

        Args:
            record: The record.
            text: The record's formatted message, with its traceback.
        """
        message = _exact(text)
        attributes: dict[str, Any] = {
            "name": text_of(record.name),
            "levelno": int(operator.index(record.levelno)),
            "msg": message,
            "message": message,
            # They are in the message, and may not be picklable.
            **dict.fromkeys(("args", "exc_info", "exc_text", "stack_info")),
        }
        if record.exc_info and record.exc_info[1] is not None:
            attributes |= describe_exception(record.exc_info[1])
        pickled: dict[str, tuple[bytes | None, str]] = {}
        for key, value in vars(record).items():
            if key in attributes:
                continue
            if type(value) in _PLAIN:
                attributes[text_of(key)] = value
                continue
            name, value_text = text_of(key), text_of(value)
            pickled[name] = None, value_text
            with contextlib.suppress(BaseException):
                pickled[name] = pickle.dumps(value), value_text
        return cls(attributes, pickled)

    def restore(self) -> logging.LogRecord:
        """Return the record; an attribute that can't be unpickled becomes its text."""
        record = logging.makeLogRecord(self.attributes)
        for name, (pickled, text) in self.pickled.items():
            vars(record)[name] = text
            with contextlib.suppress(BaseException):
                if pickled is not None:
                    vars(record)[name] = pickle.loads(pickled)  # noqa: S301 - our own process
        return record


def _pickle_error(error: BaseException, text: str) -> bytes | None:
    # Many exceptions can be pickled but not unpickled, because their __init__ does not take
    # their own args; the second form does without __init__.
    for has_init in (True, False):
        with contextlib.suppress(BaseException):
            pickled = pickle.dumps(error if has_init else (type(error), error.args, vars(error)))
            if text_of(_unpickle_error(pickled)) == text:
                return pickled
    return None


def _unpickle_error(pickled: bytes) -> BaseException:
    form = pickle.loads(pickled)  # noqa: S301 - from a process of our own
    if isinstance(form, tuple):
        kind, args, state = form
        form = kind.__new__(kind, *args)
        vars(form).update(state)
    if not isinstance(form, BaseException):
        raise TypeError(f"{type(form).__name__} is not an exception")
    return form


def _exact(text: str) -> str:
    """Return `text` as a plain `str`: a subclass may come from a module that only one side has."""
    return str.join("", (text,))
