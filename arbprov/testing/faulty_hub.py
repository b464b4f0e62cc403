"""A hub over real gRPC that plays a script of faults.

>>> from arbprov import ProviderApp
>>> from arbprov.testing import FaultyHub, faults, serving
>>> app = ProviderApp("weather")
>>> @app.action
... def forecast(city: str) -> dict:
...     return {"city": city}
>>> with FaultyHub(faults.unavailable(2), faults.slow(0.1)) as hub, serving(app, hub):
...     hub.call("forecast", {"city": "Paris"}).data
{'city': 'Paris'}
>>> [poll.fault for poll in hub.polls[:2]]
['unavailable', 'unavailable']
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import attrs
import grpc
from typing_extensions import Self

from arbprov._proto import hub_pb2
from arbprov.localhub import LocalHub, Submission
from arbprov.localhub.rpc import HubMethods
from arbprov.payload.serialize import TaskData
from arbprov.testing.faults import Fault, Kind
from arbprov.testing.proxy import TcpProxy

__all__ = ["FaultyHub", "Received"]

_KINDS: dict[str, Kind] = {"/Hub/GetTask": "poll", "/Hub/SubmitTaskResult": "submit"}
_MESSAGES: dict[Kind, Any] = {"poll": hub_pb2.ProviderRequest, "submit": hub_pb2.TaskResult}
# Seconds beyond `hold` that a retired server gives its calls to end.
_DRAIN_GRACE = 1.0
# Faults that play at once.
_PLAYERS = 64

Metadata = tuple[tuple[str, str], ...]


@attrs.define
class Received:
    """A call that the hub received.

    Attributes:
        kind: ``"poll"`` or ``"submit"``.
        at: Time of arrival, by `time.monotonic`.
        raw: The message, encoded.
        fault: Name of the fault that the call played; empty if it played none.
    """

    kind: Kind
    at: float
    raw: bytes = attrs.field(repr=False)
    fault: str = ""

    @property
    def message(self) -> Any:
        """The decoded message, with the fields of ``hub.proto``."""
        return _MESSAGES[self.kind].FromString(self.raw)


class FaultyHub(LocalHub):
    """A bundled hub that plays a script of faults; after the last fault it is healthy.

    Polls and results play their faults separately, each in the script's order. Everything of
    `LocalHub` works too: `put`, `call`, `token`, `submissions`.

    Args:
        *script: Faults of `arbprov.testing.faults`.
        token: Token that providers must use; by default, a random token.
        hold: Seconds to hold a poll while there is no task.
        capacity: How many tasks may be without a result, and how many calls are recorded.
        max_message_size: Bytes of the largest message to accept; -1 for no limit.
        options: More options of the gRPC server, e.g. ``{"grpc.max_connection_age_ms": 500}``.

    Attributes:
        proxy: The `TcpProxy` before the hub; e.g. ``proxy.stall()`` freezes the hub.

    >>> from arbprov.testing import faults
    >>> with FaultyHub(faults.unavailable(2)) as hub:
    ...     [fault.name for fault in hub.script_left]
    ['unavailable', 'unavailable']
    """

    def __init__(
        self,
        *script: Fault,
        token: str | None = None,
        hold: float = 0.1,
        capacity: int = 10_000,
        max_message_size: int = -1,
        options: dict[str, int] | None = None,
    ) -> None:
        super().__init__(
            token=token, hold=hold, capacity=capacity, max_message_size=max_message_size
        )
        self._options |= options or {}
        self._changed = threading.Condition()
        self._script: dict[Kind, deque[Fault]] = {"poll": deque(), "submit": deque()}
        self._received: dict[Kind, deque[Received]] = {
            kind: deque(maxlen=capacity) for kind in self._script
        }
        self._handed_out: deque[str] = deque(maxlen=capacity)
        # Answers to hand out again, with their metadata.
        self._again: deque[tuple[bytes, Metadata]] = deque()
        self._retired: list[Any] = []
        # Faults block: each call that plays one has a thread.
        self._players = ThreadPoolExecutor(_PLAYERS, "arbprov-faults")
        self._going = threading.Lock()
        self._pauses: set[threading.Event] = set()
        self._stopped = False
        self.proxy = TcpProxy("")
        self.play(*script)

    def play(self, *steps: Fault) -> None:
        """Add faults to the script.

        >>> from arbprov.testing import faults
        >>> hub = FaultyHub()
        >>> hub.play(faults.slow(0.5), faults.refuse())
        >>> [fault.name for fault in hub.script_left]
        ['slow', 'invalid_argument']
        """
        with self._changed:
            for step in steps:
                self._script[step.on].extend([step] * step.times)

    def call(
        self, action: str, payload: TaskData = None, *, timeout: float = 60.0, **options: Any
    ) -> Submission:
        """Put a task in and return its result; see `LocalHub.call`.

        The default timeout is longer: a provider needs time for faults, e.g. 40 s for a hang.
        """
        return super().call(action, payload, timeout=timeout, **options)

    # Records.

    @property
    def polls(self) -> list[Received]:
        """The latest `capacity` polls."""
        return list(self._received["poll"])

    @property
    def submits(self) -> list[Received]:
        """The latest `capacity` results, refused and repeated results included."""
        return list(self._received["submit"])

    @property
    def handed_out(self) -> list[str]:
        """The ids of the tasks that were handed out, duplicates included."""
        return list(self._handed_out)

    @property
    def script_left(self) -> list[Fault]:
        """The faults that no call has played yet."""
        return [step for steps in self._script.values() for step in steps]

    def wait_until(self, condition: Callable[[Self], object], timeout: float = 10.0) -> None:
        """Wait until a condition is true.

        Args:
            condition: Gets the hub, and is checked again after each call.
            timeout: Maximum seconds to wait.

        Raises:
            TimeoutError: The condition did not become true in time.

        >>> from arbprov import ProviderApp
        >>> from arbprov.testing import serving
        >>> with FaultyHub() as hub, serving(ProviderApp("weather"), hub):
        ...     hub.wait_until(lambda hub: len(hub.polls) >= 3)
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(
                    f"the condition is not true after {timeout:g} s; {len(self.polls)} polls and "
                    f"{len(self.submits)} results came, and the script has left: "
                    f"{[step.name for step in self.script_left]}"
                )

    def assert_nothing_lost(self) -> None:
        """Check that each task handed out has a result, and that repeated results are equal.

        Raises:
            AssertionError: A task has no result, or two different results.

        >>> from arbprov import ProviderApp
        >>> from arbprov.testing import faults, serving
        >>> with FaultyHub(faults.die_during_submit()) as hub, serving(ProviderApp("weather"), hub):
        ...     status = hub.call("forecast", {"city": "Paris"}).status
        >>> hub.assert_nothing_lost()
        """
        lost = set(self.handed_out) - {submission.id for submission in self.submissions}
        if lost:
            raise AssertionError(f"tasks were handed out and have no result: {sorted(lost)}")
        first: dict[str, bytes] = {}
        for submit in self.submits:
            message = submit.message
            # The token may have been rotated between two attempts.
            message.auth_token = ""
            raw = message.SerializeToString(deterministic=True)
            if first.setdefault(message.id, raw) != raw:
                raise AssertionError(f"task {message.id!r} was sent with two different results")

    # Start and stop.

    def start(self) -> Self:
        """Start the hub and its proxy, set `address` to the proxy's, and return the hub."""
        super().start()
        self.proxy.target = self.address
        self.address = self.proxy.start().address
        return self

    def stop(self) -> None:
        """Answer the held calls, and stop hub and proxy."""
        with self._changed:
            self._stopped = True
            for over in self._pauses:
                over.set()
        super().stop()
        self._players.shutdown(wait=False)
        self.proxy.stop()

    def go_away(self) -> None:
        """Close every connection gracefully (GOAWAY); a new server gets the new connections.

        Running calls have `hold` and a second more to end.
        """
        with self._going:
            assert self._thread is not None, "the hub has not started"
            self._run(self._replace_server)

    async def _replace_server(self) -> None:
        retired = self._server
        self._server, self.proxy.target = await self._listen("127.0.0.1:0")
        grace = self._settings.hold + _DRAIN_GRACE
        self._retired.append(asyncio.create_task(retired.stop(grace)))

    async def _stop_server(self) -> None:
        await super()._stop_server()
        for stopping in self._retired:
            stopping.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)

    # The gRPC methods.

    def _handlers(self) -> grpc.GenericRpcHandler:
        return _Scripted(self._methods, self)

    def _sit_out(self, over: threading.Event, seconds: float | None) -> None:
        with self._changed:
            self._pauses.add(over)
            if self._stopped:
                over.set()
        over.wait(seconds)
        with self._changed:
            self._pauses.discard(over)


_HEALTHY = Fault("", "poll", lambda exchange: exchange.answer())


class _Scripted(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A hub's methods; the two methods that providers call play the script first."""

    def __init__(self, methods: HubMethods, hub: FaultyHub) -> None:
        self._methods = methods
        self._hub = hub

    def service(self, details: Any) -> Any:
        kind = _KINDS.get(details.method)
        if kind is None:
            return self._methods.service(details)
        method = self._methods.find(details.method)
        assert method is not None

        async def respond(request: bytes, context: Any) -> bytes:
            return await _Exchange(self._hub, kind, request, method, _Context(context)).play()

        return grpc.unary_unary_rpc_method_handler(respond)


class _Failed(Exception):
    """A fault ends its call with a status of gRPC."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(code, details)
        self.code = grpc.StatusCode[code]
        self.details = details


class _Context:
    """A call's context that lives as long as its fault, which may outlive the call.

    gRPC's own context must not be asked once the call is over: that can end the process.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._peer: str = context.peer()
        self._received = context.invocation_metadata()
        self.is_over = False
        self.metadata: Metadata = ()

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._received

    def done(self) -> bool:
        return self.is_over or self._context.done()

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Keep the metadata until the fault has ended, since it may fail the call instead."""
        self.metadata = tuple(metadata)

    async def begin_answer(self) -> None:
        """Send the metadata."""
        await self._context.send_initial_metadata(self.metadata)

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call with a status, unless it is over."""
        if not self.is_over:
            await self._context.abort(code, details)
        raise _Failed(code.name, details)


@attrs.define(eq=False)
class _Exchange:
    """One call; see `arbprov.testing.faults.Exchange`. Its public methods block, on a thread."""

    hub: FaultyHub
    kind: Kind
    request: bytes
    method: Callable[[bytes, Any], Awaitable[bytes]]
    context: _Context
    step: Fault = attrs.field(init=False)
    received: Received = attrs.field(init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop, init=False)
    # Set when the caller has gone.
    _gone: threading.Event = attrs.field(factory=threading.Event, init=False)

    async def play(self) -> bytes:
        """Record the call, play its fault, and return the response."""
        hub = self.hub
        with hub._changed:
            steps = hub._script[self.kind]
            self.step = steps.popleft() if steps else _HEALTHY
            self.received = Received(self.kind, time.monotonic(), self.request, self.step.name)
            hub._received[self.kind].append(self.received)
            hub._changed.notify_all()
        try:
            if self.step is _HEALTHY:
                answer = await self._answer()
            else:
                run = self._loop.run_in_executor
                answer = await run(hub._players, self.step.play, self)
        except _Failed as failure:
            await self.context.abort(failure.code, failure.details)
        except asyncio.CancelledError:
            self._gone.set()
            raise
        else:
            await self.context.begin_answer()
            return answer
        finally:
            self.context.is_over = True
            with hub._changed:
                hub._changed.notify_all()

    async def _answer(self) -> bytes:
        if self.kind == "poll" and self.hub._again:
            answer, self.context.metadata = self.hub._again.popleft()
        else:
            answer = await self.method(self.request, self.context)
        if self.kind == "poll" and (task := hub_pb2.Task.FromString(answer)).id:
            if self.hub.proxy.has_reset(self.context.peer().partition(":")[2]):
                self.repeat(answer)
                return b""
            self.hub._handed_out.append(task.id)
        return answer

    def answer(self) -> bytes:
        try:
            return self.hub._wait_for(self._answer())
        finally:
            # The call may have ended before, with its connection.
            with self.hub._changed:
                self.hub._changed.notify_all()

    def hand_out(self) -> bytes | None:
        answer = self.answer()
        if hub_pb2.Task.FromString(answer).id:
            return answer
        self.received.fault = ""
        self.hub._script[self.kind].appendleft(self.step)
        return None

    def fail(self, code: str, details: str) -> NoReturn:
        raise _Failed(code, details)

    def pause(self, seconds: float | None) -> None:
        self.hub._sit_out(self._gone, seconds)

    def die(self, *, keep: bool = False) -> NoReturn:
        self.hub.proxy.cut()
        if keep:
            # Only now: a test that waits for the result may put in the next task, and no poll on
            # a reset connection may take that task.
            self.answer()
        self.fail("UNAVAILABLE", "the hub has died")

    def go_away(self) -> None:
        self.hub.go_away()

    def repeat(self, task: bytes) -> None:
        self.hub._again.append((task, self.context.metadata))
