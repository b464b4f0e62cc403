"""The bundled hub's gRPC server: a hub's two methods, and a method that calls actions."""

from __future__ import annotations

import hmac
import itertools
import json
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import attrs
import grpc
from typing_extensions import Self

from arbprov._proto import hub_pb2
from arbprov.errors import ConfigurationError
from arbprov.localhub.backlog import Backlog, BacklogFull, HubStopped, Submission, Ticket
from arbprov.payload.serialize import TaskData, encode_task_data
from arbprov.payload.validation import ValidationFailure
from arbprov.task import Task

__all__ = ["LocalHub"]

_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
_OPTIONS: list[tuple[str, int]] = [
    # By default, two hubs can listen on one port, and each gets some of the providers.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
# Each held poll and each waiting call occupies a thread; results need the rest.
_THREADS = 64
_HELD_POLLS = 32
_WAITING_CALLS = 16
_GRACE = 1.0


class LocalHub:
    """A hub in this process: put tasks in, and a provider runs them.

    Start and stop it with ``with``, or with `start` and `stop`.

    Args:
        address: ``127.0.0.1:PORT`` or ``unix:PATH``; port 0 means any free port. Loopback only,
            since connections are not encrypted.
        token: Token that providers must use; by default, a random token.
        hold: Seconds to hold a poll while there is no task. A provider that stops waits this long.
        capacity: How many tasks may be without a result.

    Attributes:
        address: The address; since `start`, with the real port.
        token: Set it while the hub runs to rotate the token.

    Raises:
        ConfigurationError: The address is not on loopback, or its port is not valid.

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
        self.token = secrets.token_urlsafe(16) if token is None else token
        self._hold = hold
        self._backlog = Backlog(capacity)
        # Makes ids unique over restarts: a provider does not run an id twice.
        self._id_prefix = secrets.token_hex(3)
        self._ids = itertools.count(1)
        self._paused_until = 0.0
        self._poll_slots = threading.BoundedSemaphore(_HELD_POLLS)
        self._call_slots = threading.BoundedSemaphore(_WAITING_CALLS)
        self._server: grpc.Server | None = None
        self._options = list(_OPTIONS)

    # Tasks and results.

    def put(
        self,
        action: str,
        payload: TaskData = None,
        *,
        account: TaskData = None,
        provider: str = "",
        id: str | None = None,
    ) -> Ticket:
        """Put a task in and return the ticket for its result.

        Args:
            action: Name of the action to run.
            payload: The task's payload: a mapping to encode as JSON, or bytes to send unchanged.
            account: The task's account, in the same form.
            provider: Name of the provider that must run it; empty for any provider.
            id: The task's id; by default, a new id. A provider does not run an id twice.

        Raises:
            BacklogFull: Too many tasks have no result yet.
            TypeError: The action or the id is not a text.
            ValueError: A task with this id has no result yet, or the id is blank.

        >>> hub = LocalHub()
        >>> hub.put("forecast", {"city": "Paris"}, id="t1").task
        Task(id='t1', action='forecast')
        """
        task_id = f"{self._id_prefix}-{next(self._ids)}" if id is None else id
        # Here, since a poll could neither be answered with such a task nor return it.
        for name, value in (("action", action), ("id", task_id)):
            if not isinstance(value, str):
                raise TypeError(f"the task's {name} must be a text, not {value!r}")
            value.encode()
        if not task_id:
            # A task without an id means that there is no task.
            raise ValueError("the task's id must not be empty")
        task = Task(
            task_id,
            action,
            encode_task_data(payload),
            b"" if account is None else encode_task_data(account),
        )
        ticket = Ticket(task, provider)
        self._backlog.put(ticket)
        return ticket

    def call(
        self, action: str, payload: TaskData = None, *, timeout: float = 10.0, **options: Any
    ) -> Submission:
        """Put a task in, wait for its result and return it; see `put` and `Ticket.result`."""
        return self.put(action, payload, **options).result(timeout)

    @property
    def submissions(self) -> list[Submission]:
        """The latest `capacity` results, repeated results included."""
        return list(self._backlog.submissions)

    def rate_limit(self, seconds: float) -> None:
        """Ask every polling provider to pause its polls for `seconds` from now on."""
        self._paused_until = time.monotonic() + seconds
        self._backlog.wake()

    # Start and stop.

    @property
    def url(self) -> str:
        """The address as a provider's `hub_url`, with the scheme for plaintext."""
        return self.address if self.address.startswith("unix:") else f"grpc://{self.address}"

    def start(self) -> Self:
        """Listen on `address`, set it to the real port, and return the hub.

        Raises:
            ConfigurationError: Another server listens on the address.
        """
        self._server, self.address = self._listen(self.address)
        return self

    def _listen(self, address: str) -> tuple[grpc.Server, str]:
        """Return a running server and its address."""
        threads = futures.ThreadPoolExecutor(_THREADS, "arbprov-hub")
        server = grpc.server(threads, handlers=[self._handlers()], options=self._options)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"the hub can't listen on {address}, perhaps because another server does; "
                f"choose another address, such as 127.0.0.1:0 for any free port"
            ) from error
        server.start()
        if address.startswith("unix:"):
            return server, address
        return server, f"{address.rpartition(':')[0]}:{port}"

    def stop(self) -> None:
        """Answer the held polls, and stop."""
        self._backlog.close()
        if self._server is not None:
            self._server.stop(_GRACE).wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The gRPC methods.

    def _handlers(self) -> grpc.GenericRpcHandler:
        return _Methods(
            {
                "/Hub/GetTask": grpc.unary_unary_rpc_method_handler(
                    self._get_task,
                    hub_pb2.ProviderRequest.FromString,
                    hub_pb2.Task.SerializeToString,
                ),
                "/Hub/SubmitTaskResult": grpc.unary_unary_rpc_method_handler(
                    self._submit,
                    hub_pb2.TaskResult.FromString,
                    hub_pb2.Task.SerializeToString,
                ),
                "/arbprov.LocalHub/Call": grpc.unary_unary_rpc_method_handler(self._call),
            }
        )

    def _get_task(
        self, request: hub_pb2.ProviderRequest, context: grpc.ServicerContext
    ) -> hub_pb2.Task:
        self._authenticate(request.auth_token, context)
        ticket = self._take(request.provider, context)
        if ticket is None:
            pause = self._pause_left()
            if not pause:
                return hub_pb2.Task()
            hint = json.dumps({"wait_time": pause})
            return hub_pb2.Task(action="rate_limited", payload=hint.encode())
        if not context.is_active():
            # The provider has given up this poll.
            self._backlog.put_back(ticket)
            return hub_pb2.Task()
        task = ticket.task
        return hub_pb2.Task(
            id=task.id, action=task.action, payload=task.payload, account=task.account
        )

    def _take(self, provider: str, context: grpc.ServicerContext) -> Ticket | None:
        held = self._poll_slots.acquire(blocking=False)
        try:
            context.add_callback(self._backlog.wake)
            return self._backlog.take(
                provider,
                self._hold if held else 0.0,
                wanted=lambda: context.is_active() and not self._pause_left(),
            )
        finally:
            if held:
                self._poll_slots.release()

    def _pause_left(self) -> float:
        return max(0.0, self._paused_until - time.monotonic())

    def _submit(self, request: hub_pb2.TaskResult, context: grpc.ServicerContext) -> hub_pb2.Task:
        self._authenticate(request.auth_token, context)
        self._backlog.complete(
            Submission(
                id=request.id,
                provider=request.provider,
                action=request.action,
                status=request.status,
                payload=request.payload,
                result=request.result,
                account=request.account,
            )
        )
        return hub_pb2.Task()

    def _call(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        """Run an action for `LocalHubClient`: takes JSON, returns the `Submission` as JSON."""
        request = json.loads(body)
        self._authenticate(request.pop("token"), context)
        if not self._call_slots.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls wait already")
        try:
            submission = self.call(**request)
        except ValidationFailure as failure:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failure.problems[0]))
        except (TypeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TimeoutError as error:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))
        except BacklogFull as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except HubStopped as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            self._call_slots.release()
        return json.dumps(attrs.asdict(submission)).encode()

    def _authenticate(self, token: str, context: grpc.ServicerContext) -> None:
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds methods by their full names: the hub's service has no package."""

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._methods.get(details.method)
