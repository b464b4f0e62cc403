"""`LocalHub`: a hub in this process, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent import futures
from importlib.util import find_spec
from typing import Any, TypeVar

import attrs
import grpc
import grpc.aio
from typing_extensions import Self

from arbprov._utils import MEBIBYTE, format_count
from arbprov.errors import ConfigurationError
from arbprov.localhub.api.server import ApiServer
from arbprov.localhub.health import HealthService
from arbprov.localhub.queue import QueueSettings, TaskQueue
from arbprov.localhub.reports import Reports
from arbprov.localhub.rpc import HubMethods
from arbprov.localhub.stores.factory import make_store
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import NewTask, StoredTask
from arbprov.localhub.tickets import BacklogFull, HubStopped, Submission, Ticket
from arbprov.localhub.tokens import Tokens
from arbprov.payload.serialize import TaskData
from arbprov.task import Task
from arbprov.wire.tokens import check_token

__all__ = ["LocalHub"]

logger = logging.getLogger("arbprov")

ReturnT = TypeVar("ReturnT")

_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
# Seconds that running calls have at a stop, and a stop has in all.
_GRACE = 1.0
_STOP_TIMEOUT = 30.0
# Seconds between two looks whether the hub's thread has ended.
_STOP_CHECK = 1.0
# The most seconds between two renewals of a lease.
_RENEW_INTERVAL = 20.0


class LocalHub:
    """A hub in this process: put tasks in, and a provider runs them.

    Start and stop it with ``with``, or with `start` and `stop`.

    Args:
        address: ``127.0.0.1:PORT`` or ``unix:PATH``; port 0 means any free port. Loopback only,
            since connections are not encrypted.
        token: Token that providers must use, a line of text; by default, a random token.
        hold: Seconds to hold a poll while there is no task. A provider that stops waits this long.
        capacity: How many tasks of `put` and `call` may be without a result.
        store: Where the tasks are kept: ``memory``, ``sqlite:PATH`` or ``postgresql://...``.
        lease: Seconds after which a task without a result is handed out again; providers that
            renew their leases have 60 seconds at most.
        keep: Seconds to keep tasks that have ended; of these, the hub keeps the latest million.
        retries_limits: Whether a task over a rate limit waits and is handed out again, as
            `arbprov hub` does it; otherwise, a ``limit`` is its result, as tests want it.
        max_message_size: Bytes of the largest message that it accepts.
        http: Where to serve the HTTP API, as ``127.0.0.1:PORT``; None for nowhere. It needs the
            extra ``[hub]``.
        allowed_hosts: Names by which other machines reach the HTTP API, which has no encryption;
            without any, it must be on loopback.
        report_interval: Seconds between two reports of each provider's process: its actions, slots
            and limits, for people; 0 asks for none.

    Attributes:
        address: The address; since `start`, with the real port.
        http_address: Where the HTTP API is; since `start`, with the real port. None without it.
        store: Where it keeps its tasks, without a password.
        token: Set it while the hub runs to rotate the token.

    Raises:
        ConfigurationError: The address is not on loopback, its port or the token is not valid, or
            there is no such kind of store.

    >>> from arbprov import ProviderApp
    >>> from arbprov.testing import serving
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... def forecast(city: str) -> dict:
    ...     return {"city": city}
    >>> with LocalHub(hold=0.1) as hub, serving(app, hub):
    ...     hub.call("forecast", {"city": "Paris"}).data
    {'city': 'Paris'}
    """

    def __init__(
        self,
        address: str = "127.0.0.1:0",
        *,
        token: str | None = None,
        hold: float = 1.0,
        capacity: int = 10_000,
        store: str = "memory",
        lease: float = 600.0,
        keep: float = 7 * 24 * 3600.0,
        retries_limits: bool = False,
        max_message_size: int = 64 * MEBIBYTE,
        http: str | None = None,
        allowed_hosts: Sequence[str] = (),
        report_interval: float = 5.0,
    ) -> None:
        if not f"{address}:".startswith(_LOOPBACK):
            raise ConfigurationError(
                f"the bundled hub can't listen on {address!r}: it is for this machine only; "
                f"use an address such as 127.0.0.1:50051 or unix:/tmp/hub.sock"
            )
        port = address.rpartition(":")[2]
        # gRPC would use the lowest 16 bits of a larger number.
        if not address.startswith("unix:") and not (port.isdecimal() and int(port) < 2**16):
            raise ConfigurationError(
                f"the bundled hub can't listen on {address!r}: a port is from 1 to 65535, "
                f"or 0 for any free port"
            )
        self.address = address
        self.http_address = http
        self._allowed_hosts = allowed_hosts
        self.token = secrets.token_urlsafe(16) if token is None else check_token(token, "token=")
        self._capacity = capacity
        self._store = make_store(store)
        self.store = self._store.name
        # A lease outlives two renewals that fail.
        self._settings = QueueSettings(
            hold=hold, lease=lease, renew_interval=min(_RENEW_INTERVAL, lease / 3), max_age=keep
        )
        self._retries_limits = retries_limits
        self._report_interval = report_interval
        self._options = {
            # By default, two hubs can listen on one port, and each gets some of the providers.
            "grpc.so_reuseport": 0,
            "grpc.max_receive_message_length": max_message_size,
            "grpc.max_send_message_length": -1,
        }
        self._submissions: deque[Submission] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._open: dict[str, Ticket] = {}
        # Calls that came before the start; then None.
        self._before_start: list[Callable[[], Coroutine[Any, Any, object]]] | None = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._queue: TaskQueue
        self._reports: Reports
        self._methods: HubMethods
        self._health: HealthService | None
        self._server: Any

    # Tasks and results.

    def put(
        self,
        action: str,
        payload: TaskData = None,
        *,
        account: TaskData = None,
        provider: str = "",
        id: str | None = None,
        **options: Any,
    ) -> Ticket:
        """Put a task in and return the ticket for its result.

        Args:
            action: Name of the action to run.
            payload: The task's payload: a mapping to encode as JSON, or bytes to send unchanged.
            account: The task's account, in the same form.
            provider: Name of the provider that must run it; empty for any provider.
            id: The task's id; by default, a new id. The id of a task that has ended runs that task
                again, as another attempt.
            options: More of `arbprov.localhub.submitting.make_task`, e.g. ``priority``. With the
                ``idempotency_key`` of an earlier task, the ticket is for that task.

        Raises:
            BacklogFull: Too many tasks have no result yet.
            HubStopped: The hub has stopped.
            TypeError: The action or the id is not a text.
            ValueError: A task with this id has no result yet, or the id is empty, ``.`` or ``..``.

        >>> hub = LocalHub()
        >>> hub.put("forecast", {"city": "Paris"}, id="t1").task
        Task(id='t1', action='forecast')
        """
        new = make_task(action, payload, account=account, provider=provider, id=id, **options)
        ticket = Ticket(Task(new.id, new.action, new.payload, new.account), provider)
        with self._lock:
            if len(self._open) >= self._capacity:
                raise BacklogFull(
                    f"the hub has {format_count(self._capacity, 'task')} without a result, "
                    f"and keeps no more; wait for some results"
                )
            if new.id in self._open:
                raise ValueError(
                    f"there is a task {new.id!r} without a result already; use another id"
                )
            self._open[new.id] = ticket
        self._run(lambda: self._submit(new, ticket))
        return ticket

    def call(
        self, action: str, payload: TaskData = None, *, timeout: float = 10.0, **options: Any
    ) -> Submission:
        """Put a task in, wait for its result and return it; see `put` and `Ticket.result`."""
        return self.put(action, payload, **options).result(timeout)

    def cancel(self, *ids: str, reason: str) -> list[str]:
        """Cancel tasks, and return the ids of the tasks that had not ended.

        A cancelled task has no result, even if its provider still sends one.

        Args:
            ids: The tasks' ids.
            reason: Why, for their tickets and for people.

        >>> with LocalHub() as hub:
        ...     ticket = hub.put("forecast", {"city": "Paris"}, id="t1")
        ...     hub.cancel("t1", reason="not needed any more")
        ...     ticket.result().message
        ['t1']
        'the task is cancelled: not needed any more'
        """
        return self._run(lambda: self._queue.cancel(ids, reason)) or []

    @property
    def submissions(self) -> list[Submission]:
        """The latest `capacity` results, repeated results included."""
        return list(self._submissions)

    def rate_limit(self, seconds: float) -> None:
        """Ask every polling provider to pause its polls for `seconds` from now on."""

        async def pause() -> None:
            self._queue.pause_polls(seconds)

        self._run(pause)

    async def _submit(self, task: NewTask, ticket: Ticket) -> None:
        def on_end(ended: StoredTask) -> None:
            """Give the ticket its result, whichever hub of the store has recorded it."""
            self._queue.unwatch(ended.id, on_end)
            with self._lock:
                is_open = self._open.pop(task.id, None) is not None
            if is_open:
                ticket.future.set_result(Submission.of(ended))

        self._queue.watch(task.id, on_end)
        (accepted,) = await self._queue.submit([task])
        if accepted.id != task.id:
            # The task of the same idempotency key may have ended long ago.
            self._queue.unwatch(task.id, on_end)
            self._queue.watch(accepted.id, on_end)
            ticket.task = attrs.evolve(ticket.task, id=accepted.id)
            for ended in await self._queue.store.ended([accepted.id]):
                on_end(ended)
        elif not accepted.is_new:
            await self._queue.retry([accepted.id])

    def _on_result(self, submission: Submission) -> None:
        self._submissions.append(submission)

    # Start and stop.

    @property
    def url(self) -> str:
        """The address as a provider's `hub_url`, with the scheme for plaintext."""
        return self.address if self.address.startswith("unix:") else f"grpc://{self.address}"

    def start(self) -> Self:
        """Listen on `address`, set it to the real port, and return the hub.

        Raises:
            ConfigurationError: Another server listens on the address, or the store can't be used.
        """
        started: futures.Future[str] = futures.Future()
        self._thread = threading.Thread(
            target=self._run_loop, args=[started], name="arbprov-hub", daemon=True
        )
        self._thread.start()
        self.address = started.result()
        return self

    def stop(self) -> None:
        """Answer the held polls, and stop."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_TIMEOUT)
        self._end_tickets()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, work: Callable[[], Coroutine[Any, Any, ReturnT]]) -> ReturnT | None:
        """Run a coroutine in the hub's thread and return its value; before the start, keep it."""
        with self._lock:
            if self._before_start is not None:
                self._before_start.append(work)
                return None
        return self._wait_for(work())

    def _wait_for(self, coroutine: Coroutine[Any, Any, ReturnT]) -> ReturnT:
        """Return what a coroutine returns in the hub's thread.

        Raises:
            HubStopped: The hub has stopped before.
        """
        assert self._thread is not None
        try:
            running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise HubStopped("the hub has stopped") from None
        while True:
            try:
                return running.result(_STOP_CHECK)
            except futures.TimeoutError:
                # A loop that ends forgets what it was to run next.
                if not self._thread.is_alive():
                    raise HubStopped("the hub has stopped") from None

    def _run_loop(self, started: futures.Future[str]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            _report_failure(error, started)

    async def _serve(self, started: futures.Future[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._queue = TaskQueue(self._store, self._settings)
        await self._queue.start()
        try:
            tokens = Tokens(self._store, lambda: self.token)
            self._reports = Reports(interval=self._report_interval)
            self._methods = HubMethods(
                self._queue, tokens, self._retries_limits, self._on_result, self._reports
            )
            # Of the extra `hub`.
            self._health = HealthService() if find_spec("grpc_health") else None
            async with self._serve_http(tokens):
                self._server, address = await self._listen(self.address)
                await self._catch_up()
                started.set_result(address)
                await self._stopping.wait()
                await self._queue.answer_held_calls()
                await self._stop_server()
        finally:
            await self._queue.stop()

    @contextlib.asynccontextmanager
    async def _serve_http(self, tokens: Tokens) -> AsyncIterator[None]:
        if self.http_address is None:
            yield
            return
        server = ApiServer(
            self._queue,
            tokens,
            self.http_address,
            allowed_hosts=self._allowed_hosts,
            reports=self._reports,
        )
        self.http_address = await server.start()
        try:
            yield
        finally:
            await server.stop()

    async def _stop_server(self) -> None:
        if self._health is not None:
            await self._health.stop()
        await self._server.stop(_GRACE)

    async def _catch_up(self) -> None:
        """Run the calls that came before the start."""
        while True:
            with self._lock:
                assert self._before_start is not None
                work, self._before_start = self._before_start, []
                if not work:
                    self._before_start = None
                    return
            for step in work:
                await step()

    async def _listen(self, address: str) -> tuple[Any, str]:
        """Return a running server and its address."""
        handlers = [self._handlers()]
        if self._health is not None:
            handlers.append(self._health.handler)
        server = grpc.aio.server(handlers=handlers, options=[*self._options.items()])
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"the hub can't listen on {address}, perhaps because another server does; "
                f"choose another address, such as 127.0.0.1:0 for any free port"
            ) from error
        await server.start()
        if address.startswith("unix:"):
            return server, address
        return server, f"{address.rpartition(':')[0]}:{port}"

    def _handlers(self) -> grpc.GenericRpcHandler:
        return self._methods

    def _end_tickets(self) -> None:
        with self._lock:
            tickets, self._open = self._open, {}
        for ticket in tickets.values():
            ticket.future.set_exception(HubStopped("the hub has stopped"))


def _report_failure(error: BaseException, started: futures.Future[str]) -> None:
    """Have an error be raised by the start, or log it if the start is over."""
    if started.done():
        logger.error("the bundled hub has failed", exc_info=error)
    else:
        started.set_exception(error)
