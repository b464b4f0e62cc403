"""The processes that handlers with ``isolation="process"`` run in, from the provider's side."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import attrs

from arbprov._utils import describe_exit, quote
from arbprov.dispatcher import Call
from arbprov.errors import HandlerProcessError, TaskTimeoutError
from arbprov.executors.child import ContextState, Failure, Order, serve
from arbprov.executors.forking import HANDLER_PROCESS

__all__ = ["HandlerProcess", "ProcessHandler", "ProcessPool"]

logger = logging.getLogger("arbprov")

_SPAWN = multiprocessing.get_context("spawn")
# How often to look whether a process is there, if its end of the pipe does not say so.
_LOOK_EVERY = 1.0
# A process that has closed its end of the pipe is about to end.
_END_WITHIN = 2.0
_GLANCE_EVERY = 0.01
# Of a stop, for those that have nothing to do.
_GOODBYE = 0.3
_STOPS = (signal.SIGINT, signal.SIGTERM)
_LOGGERS = ("", "arbprov")


class HandlerProcess:
    """One process, for one call after the other.

    Args:
        name: The process's name.
        handlers: Each action's handler, pickled.
    """

    def __init__(self, name: str, handlers: Mapping[str, bytes]) -> None:
        self._link, self._other_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=serve, args=(self._other_end, dict(handlers)), name=name
        )
        self._ended = False
        self.is_started = False
        self.is_killed = False

    @property
    def is_alive(self) -> bool:
        """Whether it can take another call."""
        return not (self._ended or self.is_killed) and self._process.exitcode is None

    def start(self) -> None:
        """Start it and wait until it is ready; blocks.

        Raises:
            HandlerProcessError: It did not get so far.
        """
        try:
            with _stops_blocked():
                self._process.start()
        except Exception as error:
            self._ended = True
            raise HandlerProcessError(
                f"the process that the action runs in can't be started: {error}"
            ) from error
        finally:
            self._other_end.close()
        if self.is_killed:
            self.kill()
        self._receive()
        self.is_started = True

    def run(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the handler of a call and return what it returned; blocks.

        Raises:
            HandlerProcessError: The process has ended, or can't be told.
            TaskTimeoutError: The process was killed.
            BaseException: The handler's.
        """
        try:
            self._send(_order(call, args, kwargs))
            return self._answer(call)
        except HandlerProcessError as error:
            if self.is_killed:
                raise TaskTimeoutError(call.route.timeout) from None
            if self._ended:
                task, action = quote(call.task.id), call.task.action
                logger.error("task %s of action %r: %s", task, action, error)
            raise

    def kill(self) -> None:
        """End it now, and all that it has started; any thread may do so."""
        self.is_killed = True
        if self._process.pid is None or self._process.exitcode is not None:
            return
        # Its group is there once it has begun to run, and has its number.
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def say_goodbye(self) -> None:
        """Let it end, as one that has nothing to do does by itself."""
        self._link.close()

    def wait(self, seconds: float) -> None:
        """Wait for its end, but no longer than some seconds."""
        # Not `join`: to that, a process that has closed its files has ended, and it waits for ever.
        until = time.monotonic() + seconds
        while self._process.exitcode is None and time.monotonic() < until:
            time.sleep(_GLANCE_EVERY)

    def _send(self, order: bytes) -> None:
        try:
            self._link.send_bytes(order)
        except OSError:
            raise self._end() from None

    def _answer(self, call: Call) -> Any:
        while True:
            kind, value = self._receive()
            if kind == "answer":
                return value
            if kind == "failure":
                raise _restored(value)
            if kind == "refund":
                call.ctx.limits.refund()
            elif kind == "report":
                name, used, reset_in = value
                call.ctx.limits.report(name, used=used, reset_in=reset_in)
            else:
                _log(value)

    def _receive(self) -> tuple[str, Any]:
        try:
            if not self._has_message():
                raise self._end()
            kind, value = pickle.loads(self._link.recv_bytes())  # noqa: S301 - of our own process
        except (EOFError, OSError):
            raise self._end() from None
        return kind, value

    def _has_message(self) -> bool:
        # The pipe stays open as long as something holds it that the handler has started.
        while not self._link.poll(_LOOK_EVERY):
            if self._process.exitcode is not None:
                return self._link.poll(0)
        return True

    def _end(self) -> HandlerProcessError:
        self._ended = True
        self.wait(_END_WITHIN)
        stage = "" if self.is_started else " before it was ready"
        text = f"The process that the action runs in {describe_exit(self._process.exitcode)}{stage}"
        return HandlerProcessError(text)


@attrs.frozen
class ProcessHandler:
    """Takes the place of a call's handler, which runs in a process."""

    process: HandlerProcess
    call: Call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler."""
        return self.process.run(self.call, args, kwargs)

    def cancel(self) -> None:
        """End the handler."""
        self.process.kill()


class ProcessPool:
    """Processes that are started when they are needed, and kept; only one thread may use it.

    Args:
        handlers: Each action's handler, pickled.
    """

    def __init__(self, handlers: Mapping[str, bytes]) -> None:
        self._handlers = handlers
        self._numbers = itertools.count(1)
        self._idle: list[HandlerProcess] = []
        self._busy: set[HandlerProcess] = set()
        # Before the interpreter, at its end, waits for them for ever.
        atexit.register(self.close)

    def take(self) -> HandlerProcess:
        """Return a process that nobody uses; it may have to be started."""
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                break
            logger.warning("a process that had nothing to do has ended, and another is started")
        else:
            process = HandlerProcess(f"{HANDLER_PROCESS}-{next(self._numbers)}", self._handlers)
        self._busy.add(process)
        return process

    def give_back(self, process: HandlerProcess) -> None:
        """Have a process that was taken take other calls, if it can."""
        self._busy.discard(process)
        if process.is_alive:
            self._idle.append(process)
        else:
            process.kill()

    def close(self) -> None:
        """End all processes, those at once that are busy."""
        atexit.unregister(self.close)
        for process in self._busy:
            process.kill()
        for process in self._idle:
            process.say_goodbye()
        for process in self._idle:
            process.wait(_GOODBYE)
            process.kill()


class _Elsewhere(Exception):
    """Shows where in the other process an error was raised."""

    def __str__(self) -> str:
        return f"in the handler's process\n\n{self.args[0]}"


def _order(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    order = Order(call.task.action, list(args), dict(kwargs), levels)
    places: list[tuple[str | int, Any]] = [*enumerate(order.args), *order.kwargs.items()]
    if contexts := [place for place, value in places if value is call.ctx]:
        for place in contexts:
            target: Any = order.kwargs if isinstance(place, str) else order.args
            target[place] = None
        order = attrs.evolve(order, contexts=contexts, context=_context(call))
    try:
        return pickle.dumps(order)
    except Exception as error:
        raise HandlerProcessError(
            f"The arguments of the action can't be sent to its process: {error}; "
            f"define their classes at the top of a module"
        ) from None


def _context(call: Call) -> ContextState:
    ctx = call.ctx
    return ContextState(
        id=ctx.id,
        remaining=ctx.remaining,
        logger=ctx.logger.name,
        payload=ctx.payload,
        account=ctx.account,
        headroom=ctx.limits.headroom,
        limit_names=ctx.limits.names,
    )


def _restored(failure: Failure) -> BaseException:
    error = failure.error()
    error.__cause__ = _Elsewhere(failure.traceback)
    return error


def _log(record: logging.LogRecord) -> None:
    target = logging.getLogger(record.name)
    if target.isEnabledFor(record.levelno):
        target.handle(record)


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    """Have what is started here begin deaf to the signals that stop the provider."""
    # Its own start would end the blocking.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
