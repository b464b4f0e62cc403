"""The process that handlers with ``isolation="process"`` run in, one after the other."""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

import attrs

from arbprov.clock import SystemClock
from arbprov.context import TaskContext
from arbprov.executors.forking import ForkGuard, end_fork
from arbprov.limits import Headroom, check_report
from arbprov.payload.serialize import to_builtins
from arbprov.task import ProviderResponse

__all__ = ["ContextState", "Failure", "Order", "serve"]

_LOOK_EVERY = 1.0
_STOPS = (signal.SIGINT, signal.SIGTERM)

Send = Callable[[str, Any], None]


@attrs.frozen
class ContextState:
    """What a handler's context is made of, where it runs."""

    id: str
    remaining: float
    logger: str
    payload: Mapping[str, Any] = attrs.field(repr=False)
    account: Mapping[str, Any] = attrs.field(repr=False)
    headroom: Sequence[Headroom]
    limit_names: Sequence[str]


@attrs.frozen
class Order:
    """One call of a handler.

    Args:
        action: Whose handler.
        args: Its positional arguments.
        kwargs: Its other arguments.
        levels: The levels of the provider's loggers, by their names.
        contexts: Which of its arguments are the task's context.
        context: What that is made of.
    """

    action: str
    args: list[Any] = attrs.field(repr=False)
    kwargs: dict[str, Any] = attrs.field(repr=False)
    levels: Mapping[str, int]
    contexts: Sequence[str | int] = ()
    context: ContextState | None = None


@attrs.frozen
class Failure:
    """What a handler raised: pickled, if that can be done, and as text in any case."""

    pickled: bytes | None = attrs.field(repr=False)
    type: str
    text: str = attrs.field(repr=False)
    traceback: str = attrs.field(repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what is to be sent of an error."""
        text, lines = _text(error), traceback.format_exception(type(error), error, _own_part(error))
        return cls(_pickled(error, text), type(error).__name__, text, "".join(lines))

    def error(self) -> BaseException:
        """Return the error; one of another class, but of the same name, if it was not pickled."""
        if self.pickled is None:
            stand_in: BaseException = type(self.type, (RuntimeError,), {})(self.text)
            return stand_in
        return _unpickled(self.pickled)


class _Limits:
    """The limits of a call, as its handler sees them from here; see `arbprov.limits.CallLimits`."""

    wait_time = 0.0
    allowed = True

    def __init__(self, data: ContextState, tell: Send) -> None:
        self.headroom = tuple(data.headroom)
        self.names = data.limit_names
        self._tell = tell

    def refund(self) -> None:
        """Have the provider's own process take back what the call was charged."""
        self._tell("refund", None)

    def report(self, name: str, *, used: float, reset_in: float) -> None:
        """Have the provider's own process note what the API says is used of a quota."""
        check_report(self.names, name, used, reset_in)
        self._tell("report", (name, used, reset_in))


def serve(link: Connection, handlers: Mapping[str, bytes]) -> None:
    """Run handlers, one after the other, until the provider closes its end of `link`.

    Args:
        link: Brings orders, and takes what comes of them.
        handlers: Each action's handler, pickled.
    """
    _stand_alone()
    callables = {action: pickle.loads(handler) for action, handler in handlers.items()}  # noqa: S301
    server = _Server(link, callables)
    with contextlib.suppress(EOFError, OSError):
        server.send("ready", None)
        # What the provider's module has set up would log everything a second time.
        logging.getLogger().handlers[:] = [_Forwarder(server.send)]  # type: ignore[arg-type]
        while True:
            server.follow(link.recv_bytes())


class _Server:
    def __init__(self, link: Connection, handlers: Mapping[str, Callable[..., Any]]) -> None:
        self._link = link
        self._handlers = handlers
        # A handler's threads may send too: what they log.
        self._lock = threading.RLock()
        self._serving: Order | None = None
        self._home = ForkGuard("the handler")
        self._home.keep()
        self._levels: Mapping[str, int] = {}

    def send(self, kind: str, value: Any) -> None:
        self._home.check()
        message = pickle.dumps((kind, value))
        with self._lock:
            self._link.send_bytes(message)

    def follow(self, pickled: bytes) -> None:
        """Do what an order says, and send what comes of it."""
        try:
            answer = ("answer", self._answer(pickled))
        except BaseException as error:
            answer = ("failure", Failure.of(error))
        if not self._home.is_here:
            end_fork()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with self._lock:
            self._serving = None
            self.send(*answer)

    def _answer(self, pickled: bytes) -> Any:
        order: Order = pickle.loads(pickled)  # noqa: S301 - of the process that has started this one
        self._serving = order
        self._set_levels(order.levels)
        args, kwargs = list(order.args), dict(order.kwargs)
        if order.context is not None:
            ctx = self._context(order, order.context)
            for place in order.contexts:
                target: Any = kwargs if isinstance(place, str) else args
                target[place] = ctx
        value = self._handlers[order.action](*args, **kwargs)
        return _sendable(_awaited(value) if inspect.isawaitable(value) else value)

    def _set_levels(self, levels: Mapping[str, int]) -> None:
        if levels != self._levels:
            self._levels = levels
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

    def _context(self, order: Order, data: ContextState) -> TaskContext:
        clock = SystemClock()
        return TaskContext(
            id=data.id,
            action=order.action,
            deadline=clock.monotonic() + data.remaining,
            logger=logging.getLogger(data.logger),
            payload=data.payload,
            account=data.account,
            limits=_Limits(data, lambda kind, value: self._tell(order, kind, value)),
            clock=clock,
        )

    def _tell(self, order: Order, kind: str, value: Any) -> None:
        with self._lock:
            if self._serving is not order:
                raise RuntimeError("the task has ended, so its limits take no more from it")
            self.send(kind, value)


def _sendable(value: Any) -> Any:
    """Return what a handler returned in data that JSON can carry, which anybody can unpickle."""
    if isinstance(value, ProviderResponse):
        return ProviderResponse(value.status, value.message, to_builtins(value.data))
    return to_builtins(value)


def _awaited(awaitable: Awaitable[Any]) -> Any:
    import asyncio

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def _pickled(error: BaseException, text: str) -> bytes | None:
    # Many an exception can be pickled, and not be made again of its args by its own __init__.
    for form in (error, (type(error), error.args, vars(error))):
        with contextlib.suppress(Exception):
            pickled = pickle.dumps(form)
            if _text(_unpickled(pickled)) == text:
                return pickled
    return None


def _unpickled(pickled: bytes) -> BaseException:
    form = pickle.loads(pickled)  # noqa: S301 - of our own process
    if isinstance(form, tuple):
        kind, args, state = form
        form = kind.__new__(kind, *args)
        vars(form).update(state)
    error: BaseException = form
    return error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception whose own __str__ fails
        return ""


def _own_part(error: BaseException) -> Any:
    part = error.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename == __file__:
        part = part.tb_next
    return part


# The process itself.


def _stand_alone() -> None:
    """Let only the provider end this process, and let it end with the provider."""
    # A group of its own: it does not hear Ctrl-C, and is killed with all that it has started.
    os.setsid()
    # Not SIG_IGN, which programs that a handler runs would inherit.
    for number in _STOPS:
        signal.signal(number, _do_nothing)
    # Blocked meanwhile, or a fork could miss what it is sent before it obeys again.
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_be_a_fork)
    _unblock()
    faulthandler.enable()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _do_nothing(*_: object) -> None:
    pass


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def _be_a_fork() -> None:
    """Let what a handler forks end by the signals that such processes are ended with."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The way to the provider is not theirs.
    logging.getLogger().handlers[:] = [logging.StreamHandler()]
    _unblock()


def _end_with(provider: int) -> None:
    """Kill this process, and what it has started, once the provider is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # Its end closes a pipe, but a fork of it may keep that open.
    while os.getppid() == provider:
        parent.join(_LOOK_EVERY)
    os.killpg(0, signal.SIGKILL)


class _Forwarder(QueueHandler):
    """Has the provider's own handlers log what is logged here."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue("log", record)  # type: ignore[operator]
