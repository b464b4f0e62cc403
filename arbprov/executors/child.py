"""The process that runs handlers with ``isolation="process"``, one call at a time."""

from __future__ import annotations

import contextlib
import contextvars
import faulthandler
import functools
import inspect
import itertools
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from multiprocessing.connection import Connection
from typing import Any

from arbprov.clock import SystemClock
from arbprov.dispatcher import ChargeAgedError
from arbprov.executors.descendants import MARKER, kill_marked, kill_tree, list_children
from arbprov.executors.forking import ForkGuard, end_fork
from arbprov.executors.messages import (
    CallRequest,
    ContextState,
    Failure,
    Kind,
    Message,
    RecordState,
)
from arbprov.limits import Headroom, check_report, current_limits
from arbprov.limits.decision import check_name, read_checked
from arbprov.limits.headers import ApiResponse, HeaderNames
from arbprov.logs.formats import message_of
from arbprov.payload.serialize import to_builtins
from arbprov.task import ProviderResponse

__all__ = ["serve"]

# Seconds between checks whether the provider is still there.
_CHECK_INTERVAL = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EX_SOFTWARE = 70
_BROKEN = (
    b"arbprov: a message to the provider was interrupted or could not be sent, so the handler's "
    b"process ends here\n"
)

# The number of the call that some code belongs to, if it runs in the call's context; else 0.
_call_number: ContextVar[int] = ContextVar("arbprov_call", default=0)

Send = Callable[[Kind, Any], None]
Ask = Callable[[tuple[Any, ...]], tuple[Headroom, ...]]


def serve(
    connection: Connection,
    handlers: Mapping[str, bytes],
    mark: str = "",
    hidden: Iterable[str] = (),
) -> None:
    """Run handlers, one call at a time, until the provider closes its end of `connection`.

    Args:
        connection: Receives calls and sends results, logs, refunds and reports.
        handlers: Each action's pickled handler.
        mark: The value of `MARKER` for the programs that the handlers start.
        hidden: Environment variables to remove before the first call.
    """
    _detach(mark)
    callables = {action: pickle.loads(handler) for action, handler in handlers.items()}  # noqa: S301
    # Only now: the provider's module, which is imported until here, may read them.
    for variable in hidden:
        os.environ.pop(variable, None)
    server = _Server(connection, callables)
    with contextlib.suppress(EOFError, OSError):
        server.send(Kind.READY, b"")
        # The handlers that the provider's module set up would log each record a second time.
        logging.getLogger().handlers[:] = [_Forwarder(server.send_record)]
        while True:
            server.handle(server.receive())


class _Server:
    def __init__(self, connection: Connection, handlers: Mapping[str, Callable[..., Any]]) -> None:
        self._connection = connection
        self._handlers = handlers
        # Threads that a handler started may send log records at any time.
        self._lock = threading.RLock()
        self._unsent: deque[bytes] = deque()
        self._is_sending = False
        # The number of the current call, or else of the last.
        self._number = 0
        self._current: CallRequest | None = None
        # Calls, as soon as a thread of its own reads the answers to questions; see `_read`.
        self._calls: queue.SimpleQueue[bytes | None] | None = None
        self._questions = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Any]] = {}
        self._home = ForkGuard("the handler")
        self._home.claim()
        self._levels: Mapping[str, int] = {}

    def send_record(self, body: bytes) -> None:
        """Send a log record, with the number of the call in whose context it was logged."""
        self.send(Kind.LOG, body, _call_number.get())

    def send(self, kind: Kind, body: bytes, number: int | None = None) -> None:
        """Send a message to the provider; only the process that `serve` runs in may do so.

        Args:
            kind: The kind of the message.
            body: Its body.
            number: The number of its call, if that is not the current or the last call.
        """
        self._home.check()
        with self._lock:
            number = self._number if number is None else number
            self._unsent.append(Message(kind, number, body).encode())
            # A signal's handler may log while this thread sends; its record is sent next.
            if self._is_sending:
                return
            self._is_sending = True
            try:
                while self._unsent:
                    self._connection.send_bytes(self._unsent.popleft())
            except BaseException:
                # The pipe may hold a part of the message, and the provider would take the next
                # message for the rest of it.
                with contextlib.suppress(OSError):
                    os.write(2, _BROKEN)
                os._exit(_EX_SOFTWARE)
            self._is_sending = False

    def send_for(self, request: CallRequest, kind: Kind, value: Any) -> None:
        """Send a message on behalf of a call.

        Raises:
            RuntimeError: The call has ended.
        """
        with self._lock:
            if self._current is not request:
                raise RuntimeError("the task has ended, and with it the use of its limits")
            self.send(kind, pickle.dumps(value))

    def ask_for(self, request: CallRequest, question: tuple[Any, ...]) -> tuple[Headroom, ...]:
        """Ask the provider something on behalf of a call, and wait for the answer.

        Returns:
            The headroom of the call's limits.

        Raises:
            RuntimeError: The call has ended.
            BaseException: What the provider answers.
        """
        answers: queue.SimpleQueue[tuple[Failure | None, tuple[Headroom, ...]]]
        answers = queue.SimpleQueue()
        with self._lock:
            number = next(self._questions)
            self._waiting[number] = answers
            self.send_for(request, Kind.QUESTION, (number, *question))
            if self._calls is None:
                self._calls = queue.SimpleQueue()
                threading.Thread(target=self._read, args=[self._calls], daemon=True).start()
        failure, headroom = answers.get()
        if failure is not None:
            raise failure.restore()
        return headroom

    def _read(self, calls: queue.SimpleQueue[bytes | None]) -> None:
        """Receive all messages from now on: calls for the main thread, and answers."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                data = self._connection.recv_bytes()
                message = Message.decode(data)
                if message.kind is Kind.ANSWER:
                    number, failure, headroom = message.load()
                    self._waiting.pop(number).put((failure, headroom))
                else:
                    calls.put(data)
        calls.put(None)

    def receive(self) -> bytes:
        """Return the next call, as it was sent.

        Raises:
            EOFError: The provider has closed its end.
        """
        if self._calls is None:
            return self._connection.recv_bytes()
        data = self._calls.get()
        if data is None:
            raise EOFError
        return data

    def handle(self, data: bytes) -> None:
        """Make the call in a message, and send its result or its exception."""
        message = Message.decode(data)
        self._number = message.call
        try:
            # A copy for each call, as on threads.
            kind, body = (
                Kind.RESULT,
                pickle.dumps(contextvars.copy_context().run(self._call, message)),
            )
        except ChargeAgedError:
            kind, body = Kind.CHARGE_AGED, b""
        except BaseException as error:
            kind, body = Kind.FAILURE, pickle.dumps(Failure.of(error))
        if not self._home.belongs_here:
            end_fork()
        # An alarm that the handler has left set must not ring in another call.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with self._lock:
            self._current = None
            self.send(kind, body)

    def _call(self, message: Message) -> Any:
        request: CallRequest = message.load()
        self._current = request
        _call_number.set(message.call)
        if request.levels != self._levels:
            self._levels = request.levels
            for name, level in request.levels.items():
                logging.getLogger(name).setLevel(level)
        if request.context is not None:
            send = functools.partial(self.send_for, request)
            limits = _Limits(request.context, send, functools.partial(self.ask_for, request))
            if request.context.has_manual_limits:
                current_limits.set(limits)
            ctx = request.context.restore(request.action, limits)
            request.set_context(request.context_places, ctx)
        if time.monotonic() > request.begin_before:
            raise ChargeAgedError
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

    def __init__(self, state: ContextState, send: Send, ask: Ask) -> None:
        self._headroom = tuple(state.headroom)
        self._names = state.limit_names
        self._send = send
        self._ask = ask

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        """How much of each limit is left, as of the last answer."""
        return self._headroom

    @property
    def names(self) -> Sequence[str]:
        """The names that `report` and `observe` take."""
        return self._names

    def refund(self) -> None:
        """Have the provider take back the call's charges."""
        self._send(Kind.REFUND, None)

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Have the provider correct a limit's count by the API's own."""
        used, reset_in = check_report(self.names, name, used, reset_in)
        self._send(Kind.REPORT, (name, used, reset_in))

    def acquire(self, name: str, *, cost: int | None = None, max_wait: float | None = None) -> None:
        """Have the provider charge a manual limit, and wait for it."""
        if "asyncio" in sys.modules:
            from arbprov.executors.turns import refuse_to_block

            refuse_to_block()
        self._acquire(name, cost, max_wait)

    async def aacquire(
        self, name: str, *, cost: int | None = None, max_wait: float | None = None
    ) -> None:
        """Do as `acquire` does, beside the event loop."""
        import asyncio

        await asyncio.to_thread(self._acquire, name, cost, max_wait)

    def observe(
        self, response: ApiResponse, *, limit: str, headers: HeaderNames | None = None
    ) -> None:
        """Have the provider tell a limit what the API says about its quota."""
        check_name(self.names, limit)
        answer = read_checked(response, limit, headers, SystemClock().now())
        self._headroom = self._ask(("observe", limit, answer))

    def _acquire(self, name: str, cost: int | None, max_wait: float | None) -> None:
        self._headroom = self._ask(("acquire", name, cost, max_wait))


# The process itself.


def _detach(mark: str) -> None:
    """Let only the provider end this process, and end it together with the provider."""
    # In a session of its own, it does not get Ctrl-C and can be killed with its child processes.
    os.setsid()
    os.environ[MARKER] = mark
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
    threading.Thread(target=_exit_with_parent, args=(os.getppid(), mark), daemon=True).start()


def _unblock_stop_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _reset_after_fork() -> None:
    """Let a process that a handler forked end by signals and log to stderr, as usual."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The connection to the provider belongs to this process's parent.
    logging.getLogger().handlers[:] = [logging.StreamHandler()]
    _unblock_stop_signals()


def _exit_with_parent(provider: int, mark: str) -> None:
    """Wait for the provider's end, then kill this process and the processes that it started."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # `join` alone would wait for a pipe that a fork of the provider may keep open.
    while os.getppid() == provider:
        parent.join(_CHECK_INTERVAL)
    for pid in list_children(os.getpid()):
        kill_tree(pid)
    kill_marked(mark)
    os.killpg(0, signal.SIGKILL)


class _Forwarder(logging.Handler):
    """Forwards log records to the provider, whose own handlers write them."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            try:
                text = self.format(record)
            except BaseException:
                text = message_of(record)
            body = pickle.dumps(RecordState.of(record, text))
        except Exception:
            self.handleError(record)
        else:
            self._send(body)
