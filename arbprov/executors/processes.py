"""The processes of handlers with ``isolation="process"``, from the provider's side."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import functools
import itertools
import logging
import multiprocessing
import os
import pickle
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import attrs

from arbprov._utils import describe_exit, quote
from arbprov.dispatcher import Call, ChargeAgedError
from arbprov.errors import HandlerProcessError, TaskTimeoutError
from arbprov.executors.child import serve
from arbprov.executors.descendants import kill_marked, kill_tree
from arbprov.executors.forking import HANDLER_PROCESS
from arbprov.executors.messages import CallRequest, Failure, Kind, Message, RecordState
from arbprov.limits import CallLimits, Headroom

__all__ = ["HandlerProcess", "ProcessHandler", "ProcessPool"]

logger = logging.getLogger("arbprov")

_SPAWN = multiprocessing.get_context("spawn")
# In seconds. How often to check for the exit of a process whose end of the pipe stays open.
_CHECK_INTERVAL = 1.0
# How long the exit code of a process may take after its end of the pipe is closed.
_EXIT_TIMEOUT = 2.0
_EXIT_POLL_INTERVAL = 0.01
# How long an idle process may take to exit by itself when the provider stops.
_EXIT_GRACE = 0.3
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ANSWERS = frozenset({Kind.RESULT, Kind.FAILURE, Kind.CHARGE_AGED})
_OF_A_CALL = _ANSWERS | {Kind.REFUND, Kind.REPORT, Kind.QUESTION}


class HandlerProcess:
    """A process that runs handlers, one call at a time.

    Args:
        name: The process's name.
        handlers: Each action's pickled handler.
        hidden: Environment variables that the handlers must not see.
    """

    def __init__(
        self, name: str, handlers: Mapping[str, bytes], hidden: Iterable[str] = ()
    ) -> None:
        self._mark = secrets.token_hex(16)
        self._sweep: threading.Thread | None = None
        self._connection, self._other_end = _SPAWN.Pipe()
        self._sending = threading.Lock()
        self._process = _SPAWN.Process(
            target=serve,
            args=(self._other_end, dict(handlers), self._mark, list(hidden)),
            name=name,
        )
        # The number of the last call, and whether its answer is missing.
        self._number = 0
        self._owes_answer = False
        self._has_ended = False
        self.is_started = False
        self.is_killed = False

    @property
    def is_alive(self) -> bool:
        """Whether the process can take another call."""
        is_usable = not (self._has_ended or self.is_killed or self._owes_answer)
        return is_usable and self._process.exitcode is None

    def start(self) -> None:
        """Start the process and block until it is ready.

        Raises:
            HandlerProcessError: The system refused to start it, or it ended before it was ready.
        """
        try:
            with _block_stop_signals():
                self._process.start()
        except Exception as error:
            self._has_ended = True
            raise HandlerProcessError(f"The action's process can't be started: {error}") from error
        finally:
            self._other_end.close()
        if self.is_killed:
            self.kill()
        if self._receive().kind is not Kind.READY:
            raise self._end("has sent data that are not an answer")
        self.is_started = True

    def run(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call's handler, block until it ends, and return its result.

        Raises:
            HandlerProcessError: The process ended, or the arguments can't be sent to it.
            TaskTimeoutError: The process was killed.
            ChargeAgedError: The charge was too old when the handler was about to begin.
            BaseException: The handler's own exception.
        """
        try:
            answer = self._exchange(call, CallRequest.of(call, args, kwargs).encode())
        except HandlerProcessError as error:
            if self.is_killed:
                raise TaskTimeoutError(call.route.timeout) from None
            if self._has_ended:
                task, action = quote(call.task.id), call.task.action
                logger.error("task %s of action %r: %s", task, action, error)
            raise
        if answer.kind is Kind.CHARGE_AGED:
            raise ChargeAgedError
        try:
            value = answer.load()
        except BaseException as error:
            raise HandlerProcessError(
                f"The action's result can't be read by the provider: {error}"
            ) from None
        if answer.kind is Kind.RESULT:
            return value
        failure = value.restore()
        failure.__cause__ = _RemoteTraceback(value.traceback)
        raise failure

    def kill(self) -> None:
        """Kill the process and the processes that it started now; any thread may call this."""
        self.is_killed = True
        self._kill()

    def kill_group(self) -> None:
        """Kill the process and its group, but no processes in other sessions."""
        assert self._process.pid, "killpg(0) would kill the provider"
        # No other process gets the group's number as long as the group has members.
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def request_exit(self) -> None:
        """Close the connection, so that an idle process exits by itself."""
        self._connection.close()

    def wait(self, timeout: float) -> None:
        """Wait for the process's exit, `timeout` seconds at most, and for its kill."""
        if self._sweep is not None:
            self._sweep.join(timeout)
        # `join` would wait for ever for a process that closed its files and runs on.
        gives_up_at = time.monotonic() + timeout
        while self._process.exitcode is None and time.monotonic() < gives_up_at:
            time.sleep(_EXIT_POLL_INTERVAL)

    def _kill(self) -> None:
        if self._process.pid is None or self._sweep is not None:
            return
        if self._process.exitcode is None:
            kill_tree(self._process.pid)
        self.kill_group()
        # Looks at all processes of the machine, so not in the event loop's thread.
        sweep = threading.Thread(target=kill_marked, args=(self._mark,), daemon=True)
        sweep.start()
        # Only now: the thread that waits for the process may join it at once.
        self._sweep = sweep

    def _exchange(self, call: Call, request: bytes) -> Message:
        """Send a call to the process, and return its answer; nothing else ends the call."""
        self._number += 1
        self._owes_answer = True
        try:
            with self._sending:
                self._connection.send_bytes(Message(Kind.CALL, self._number, request).encode())
        except OSError:
            raise self._end() from None
        while True:
            message = self._receive()
            if message.kind is Kind.LOG:
                # This thread's context is the call's. The process may have logged before the call,
                # or on a thread that belongs to no call.
                own = message.call == self._number
                context = contextvars.copy_context() if own else contextvars.Context()
                context.run(_log, message)
            elif message.call != self._number or message.kind not in _OF_A_CALL:
                raise self._end("has answered another call, and was killed")
            elif message.kind in _ANSWERS:
                self._owes_answer = False
                return message
            elif message.kind is Kind.QUESTION:
                self._answer(call, message)
            else:
                _change_limits(call, message)

    def _answer(self, call: Call, message: Message) -> None:
        """Acquire or correct a limit for the handler, and send it the outcome."""
        try:
            number, method, *arguments = message.load()
        except BaseException:
            _report_error("a question of a handler's process can't be read")
            return
        limits = call.decision if call.manual is None else call.manual
        if method == "observe":
            self._send_outcome(number, limits, lambda: limits.apply(*arguments))
            return
        name, cost, max_wait = arguments
        acquire = functools.partial(limits.acquire, name, cost=cost, max_wait=max_wait)
        # It may wait, and the handler may end before.
        thread = threading.Thread(
            target=self._send_outcome, args=(number, limits, acquire), daemon=True
        )
        thread.start()

    def _send_outcome(self, number: int, limits: CallLimits, ask: Callable[[], object]) -> None:
        failure: Failure | None = None
        headroom: tuple[Headroom, ...] = ()
        try:
            ask()
            headroom = limits.headroom
        except BaseException as error:
            failure = Failure.of(error)
        body = pickle.dumps((number, failure, headroom))
        # A process that is gone needs no answer, and `_receive` finds that out.
        with self._sending, contextlib.suppress(OSError):
            self._connection.send_bytes(Message(Kind.ANSWER, self._number, body).encode())

    def _receive(self) -> Message:
        try:
            # The pipe stays open as long as a program that the handler started holds it.
            while not self._connection.poll(_CHECK_INTERVAL):
                if self._process.exitcode is not None and not self._connection.poll(0):
                    raise EOFError
            data = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._end() from None
        try:
            return Message.decode(data)
        except ValueError:
            raise self._end("has sent data that are not an answer, and was killed") from None

    def _end(self, reason: str = "") -> HandlerProcessError:
        """Give the process up, and return the error that says why.

        Args:
            reason: What is wrong with a process that still runs; without it, the process has ended.
        """
        self._has_ended = True
        if reason:
            self._kill()
            return HandlerProcessError(f"The action's process {reason}")
        self.wait(_EXIT_TIMEOUT)
        stage = "" if self.is_started else " before it was ready"
        exit_text = describe_exit(self._process.exitcode)
        return HandlerProcessError(f"The action's process {exit_text}{stage}")


def _log(message: Message) -> None:
    """Log a record of the process; the author's filters and log handlers decide about no call."""
    try:
        state: RecordState = message.load()
        record = state.restore()
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
    except BaseException:
        _report_error("a log record of a handler's process is lost")


def _change_limits(call: Call, message: Message) -> None:
    """Refund a call's charges or correct its limits, as its handler asked."""
    try:
        if message.kind is Kind.REFUND:
            call.ctx.limits.refund()
        else:
            name, used, reset_in = message.load()
            call.ctx.limits.report(name, used=used, reset_in=reset_in)
    except BaseException:
        _report_error(f"{message.kind.name.lower()} of a handler's process has failed")


def _report_error(text: str) -> None:
    """Write the current exception to stderr, as `logging` does with an error of a log handler."""
    with contextlib.suppress(BaseException):
        logging.Handler().handleError(logging.makeLogRecord({"msg": text}))


@attrs.frozen
class ProcessHandler:
    """Takes the place of a call's handler and runs it in a process."""

    process: HandlerProcess
    call: Call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler; see `HandlerProcess.run`."""
        return self.process.run(self.call, args, kwargs)

    def cancel(self) -> None:
        """Kill the process."""
        self.process.kill()


class ProcessPool:
    """Processes, started on demand and reused; only one thread may use the pool.

    Args:
        handlers: Each action's pickled handler.
        hidden: Environment variables that the handlers must not see.
    """

    def __init__(self, handlers: Mapping[str, bytes], hidden: Iterable[str] = ()) -> None:
        self._handlers = handlers
        self._hidden = list(hidden)
        self._numbers = itertools.count(1)
        self._idle: list[HandlerProcess] = []
        self._busy: set[HandlerProcess] = set()
        # Otherwise `multiprocessing` waits for the processes, for ever, when the interpreter exits.
        atexit.register(self.close)

    def acquire(self) -> HandlerProcess:
        """Return an idle process, or a new process that the caller has to start."""
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                break
            logger.warning("an idle process has ended; a new one takes its place")
        else:
            name = f"{HANDLER_PROCESS}-{next(self._numbers)}"
            process = HandlerProcess(name, self._handlers, self._hidden)
        self._busy.add(process)
        return process

    def release(self, process: HandlerProcess) -> None:
        """Take a process back for other calls, or kill what is left of it if it has ended."""
        self._busy.discard(process)
        if process.is_alive:
            self._idle.append(process)
        else:
            process.kill()

    def close(self) -> None:
        """Kill busy processes, and idle processes too if they do not exit soon."""
        atexit.unregister(self.close)
        for process in self._busy:
            process.kill()
        for process in self._idle:
            process.request_exit()
        for process in self._idle:
            process.wait(_EXIT_GRACE)
            if process.is_alive:
                process.kill_group()
        gives_up_at = time.monotonic() + _EXIT_GRACE
        for process in (*self._busy, *self._idle):
            process.wait(max(0.0, gives_up_at - time.monotonic()))


class _RemoteTraceback(Exception):
    """Shows where an exception was raised in the handler's process."""

    def __str__(self) -> str:
        return f"in the handler's process\n\n{self.args[0]}"


@contextlib.contextmanager
def _block_stop_signals() -> Iterator[None]:
    """Start a process inside the ``with`` block with the signals blocked that stop the provider."""
    # The tracker's own start would unblock them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
