"""The process that runs handlers with ``isolation="process"``, one call at a time."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import inspect
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._utils import format_user_traceback
from arbprov.clock import SystemClock
from arbprov.context import TaskContext
from arbprov.errors import HandlerProcessError
from arbprov.executors.forking import ForkGuard, end_fork
from arbprov.limits import CallLimits, Headroom, check_report
from arbprov.payload.serialize import to_builtins
from arbprov.task import ProviderResponse

if TYPE_CHECKING:
    from arbprov.dispatcher import Call

__all__ = ["CallRequest", "ContextState", "Failure", "serve"]

# Seconds between checks whether the provider is still there.
_CHECK_INTERVAL = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The loggers whose levels a handler's process takes over.
_LOGGERS = ("", "arbprov")

Send = Callable[[str, Any], None]


@attrs.frozen
class ContextState:
    """The part of a task's context that is sent to the handler's process."""

    id: str
    remaining: float
    logger: str
    payload: Mapping[str, Any] = attrs.field(repr=False)
    account: Mapping[str, Any] = attrs.field(repr=False)
    headroom: Sequence[Headroom]
    limit_names: Sequence[str]

    @classmethod
    def of(cls, ctx: TaskContext) -> ContextState:
        """Return the state of a context."""
        return cls(
            id=ctx.id,
            remaining=ctx.remaining,
            logger=ctx.logger.name,
            payload=ctx.payload,
            account=ctx.account,
            headroom=ctx.limits.headroom,
            limit_names=ctx.limits.names,
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
        context_places: The indexes and names of the arguments that are the task's context.
        context: The task's context, if the handler takes it.
    """

    action: str
    args: list[Any] = attrs.field(repr=False)
    kwargs: dict[str, Any] = attrs.field(repr=False)
    levels: Mapping[str, int]
    context_places: Sequence[str | int] = ()
    context: ContextState | None = None

    @classmethod
    def of(cls, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CallRequest:
        """Return the request for a call."""
        levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        request = cls(call.task.action, list(args), dict(kwargs), levels)
        arguments: list[tuple[str | int, Any]] = [*enumerate(args), *kwargs.items()]
        places = [place for place, value in arguments if value is call.ctx]
        if not places:
            return request
        request.set_context(places, None)
        return attrs.evolve(request, context_places=places, context=ContextState.of(call.ctx))

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
    """An exception of a handler: as text, and pickled where that is possible."""

    pickled: bytes | None = attrs.field(repr=False)
    type: str
    text: str = attrs.field(repr=False)
    traceback: str = attrs.field(repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return an exception in the form that is sent to the provider."""
        text = _text_of(error)
        traceback = format_user_traceback(error)
        return cls(_pickle_error(error, text), type(error).__name__, text, traceback)

    def restore(self) -> BaseException:
        """Return the exception, or a substitute with its class name and text."""
        if self.pickled is None:
            substitute: BaseException = type(self.type, (RuntimeError,), {})(self.text)
            return substitute
        return _unpickle_error(self.pickled)


def serve(connection: Connection, handlers: Mapping[str, bytes]) -> None:
    """Run handlers, one call at a time, until the provider closes its end of `connection`.

    Args:
        connection: Receives calls and sends results, logs, refunds and reports.
        handlers: Each action's pickled handler.
    """
    _detach()
    callables = {action: pickle.loads(handler) for action, handler in handlers.items()}  # noqa: S301
    server = _Server(connection, callables)
    with contextlib.suppress(EOFError, OSError):
        server.send("ready", None)
        # The handlers that the provider's module set up would log each record a second time.
        logging.getLogger().handlers[:] = [_Forwarder(server.send)]  # type: ignore[arg-type]
        while True:
            server.handle(connection.recv_bytes())


class _Server:
    def __init__(self, connection: Connection, handlers: Mapping[str, Callable[..., Any]]) -> None:
        self._connection = connection
        self._handlers = handlers
        # Threads that a handler started may send log records at any time.
        self._lock = threading.RLock()
        self._current: CallRequest | None = None
        self._home = ForkGuard("the handler")
        self._home.claim()
        self._levels: Mapping[str, int] = {}

    def send(self, kind: str, value: Any) -> None:
        """Send a message to the provider; only the process that `serve` runs in may do so."""
        self._home.check()
        message = pickle.dumps((kind, value))
        with self._lock:
            self._connection.send_bytes(message)

    def send_for(self, request: CallRequest, kind: str, value: Any) -> None:
        """Send a message on behalf of a call.

        Raises:
            RuntimeError: The call has ended.
        """
        with self._lock:
            if self._current is not request:
                raise RuntimeError("the task has ended, so its limits take no refund and no report")
            self.send(kind, value)

    def handle(self, message: bytes) -> None:
        """Make the call in a message, and send its result or its exception."""
        try:
            response = ("result", self._call(message))
        except BaseException as error:
            response = ("failure", Failure.of(error))
        if not self._home.belongs_here:
            end_fork()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with self._lock:
            self._current = None
            self.send(*response)

    def _call(self, message: bytes) -> Any:
        request: CallRequest = pickle.loads(message)  # noqa: S301 - from the provider itself
        self._current = request
        if request.levels != self._levels:
            self._levels = request.levels
            for name, level in request.levels.items():
                logging.getLogger(name).setLevel(level)
        if request.context is not None:
            limits = _Limits(request.context, functools.partial(self.send_for, request))
            ctx = request.context.restore(request.action, limits)
            request.set_context(request.context_places, ctx)
        value = self._handlers[request.action](*request.args, **request.kwargs)
        if inspect.isawaitable(value):
            # Slow to import, and most plain handlers return data.
            import asyncio

            async def wait() -> Any:
                return await value

            value = asyncio.run(wait())
        # JSON data unpickles without the classes of the handler's module.
        if isinstance(value, ProviderResponse):
            return ProviderResponse(value.status, value.message, to_builtins(value.data))
        return to_builtins(value)


class _Limits:
    """The limits of a call in the handler's process; see `arbprov.limits.CallLimits`."""

    wait_time = 0.0
    allowed = True

    def __init__(self, state: ContextState, send: Send) -> None:
        self.headroom = tuple(state.headroom)
        self.names = state.limit_names
        self._send = send

    def refund(self) -> None:
        """Have the provider take back the call's charges."""
        self._send("refund", None)

    def report(self, name: str, *, used: float, reset_in: float) -> None:
        """Have the provider correct a limit's count by the API's own."""
        check_report(self.names, name, used, reset_in)
        self._send("report", (name, used, reset_in))


def _pickle_error(error: BaseException, text: str) -> bytes | None:
    # Many exceptions can be pickled but not unpickled, because their __init__ does not take
    # their own args; the second form does without __init__.
    for form in (error, (type(error), error.args, vars(error))):
        with contextlib.suppress(Exception):
            pickled = pickle.dumps(form)
            if _text_of(_unpickle_error(pickled)) == text:
                return pickled
    return None


def _unpickle_error(pickled: bytes) -> BaseException:
    form = pickle.loads(pickled)  # noqa: S301 - from a process of our own
    if isinstance(form, tuple):
        kind, args, state = form
        form = kind.__new__(kind, *args)
        vars(form).update(state)
    error: BaseException = form
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the exception's own __str__ fails
        return ""


# The process itself.


def _detach() -> None:
    """Let only the provider end this process, and end it together with the provider."""
    # In a session of its own, it does not get Ctrl-C and can be killed with its child processes.
    os.setsid()
    # Not SIG_IGN: programs that a handler starts would inherit it.
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    # A fork would lose a signal that arrives before `_reset_after_fork`, so they wait until then.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS),
        after_in_parent=_unblock_stop_signals,
        after_in_child=_reset_after_fork,
    )
    _unblock_stop_signals()
    faulthandler.enable()
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()


def _unblock_stop_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _reset_after_fork() -> None:
    """Let a process that a handler forked end by signals and log to stderr, as usual."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The connection to the provider belongs to this process's parent.
    logging.getLogger().handlers[:] = [logging.StreamHandler()]
    _unblock_stop_signals()


def _exit_with_parent(provider: int) -> None:
    """Wait for the provider's end, then kill this process and its child processes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # `join` alone would wait for a pipe that a fork of the provider may keep open.
    while os.getppid() == provider:
        parent.join(_CHECK_INTERVAL)
    os.killpg(0, signal.SIGKILL)


class _Forwarder(QueueHandler):
    """Forwards log records to the provider, whose own handlers write them."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue("log", record)  # type: ignore[operator]
