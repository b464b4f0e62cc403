"""The bundled hub's gRPC server: the hub's two methods, and one to call actions with."""

from __future__ import annotations

import hmac
import itertools
import json
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from types import TracebackType
from typing import Any

import attrs
import grpc
from typing_extensions import Self

from arbprov._proto import hub_pb2
from arbprov.errors import ConfigurationError
from arbprov.localhub.backlog import Backlog, BacklogFull, HubStopped, Submission, Ticket
from arbprov.payload.json import Data, encode
from arbprov.payload.validation import ValidationFailure
from arbprov.task import Task

__all__ = ["LocalHub"]

_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
_OPTIONS: list[tuple[str, int]] = [
    # Without this, two hubs on one port would share its providers between them.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
# A held poll and a waiting call each take a thread; the others are for results.
_THREADS = 64
_HELD_POLLS = 32
_WAITING_CALLS = 16
_GRACE = 1.0


class LocalHub:
    """A hub of one's own: put tasks in, and have a provider work on them.

    It starts and stops with ``with``, or `start` and `stop`.

    Args:
        address: ``127.0.0.1:PORT`` or ``unix:PATH``; port 0 takes a free one. Loopback only,
            since the hub's wire has no encryption.
        token: What a provider has to show; a random one, if not given.
        hold: Seconds that a poll is held while there is nothing to do; a provider that stops waits
            for its poll.
        capacity: How many tasks may be without a result.

    Attributes:
        token: Can be set while the hub runs, as if it had been rotated.

    Raises:
        ConfigurationError: The address is not of this machine's loopback, has no such port, or is
            taken.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:0",
        *,
        token: str | None = None,
        hold: float = 1.0,
        capacity: int = 10_000,
    ) -> None:
        if not address.startswith(_LOOPBACK):
            raise ConfigurationError(
                f"the bundled hub can't listen on {address!r}: it is for this machine only, "
                f"as in 127.0.0.1:50051 or unix:/tmp/hub.sock"
            )
        if not _has_port(address):
            # gRPC would take the port's last 16 bits.
            raise ConfigurationError(
                f"the bundled hub can't listen on {address!r}: a port is from 1 to 65535, "
                f"or 0 for any free one"
            )
        self.address = address
        self.token = secrets.token_urlsafe(16) if token is None else token
        self._hold = hold
        self._backlog = Backlog(capacity)
        # No provider may take a task of this hub for one of an earlier hub's.
        self._name = secrets.token_hex(3)
        self._ids = itertools.count(1)
        self._paused_until = 0.0
        self._held = threading.BoundedSemaphore(_HELD_POLLS)
        self._calls = threading.BoundedSemaphore(_WAITING_CALLS)
        self._server: grpc.Server | None = None
        self._options = list(_OPTIONS)

    # For who puts tasks in.

    def put(
        self,
        action: str,
        payload: Data = None,
        *,
        account: Data = None,
        provider: str = "",
        id: str | None = None,
    ) -> Ticket:
        """Put a task in and return the ticket for its result.

        Args:
            action: Which action to run.
            payload: A mapping that becomes JSON, or bytes that are sent as they are.
            account: The same.
            provider: Who is to run it; anybody, if not given.
            id: The task's id; a new one, if not given. A provider runs no id twice.

        Raises:
            BacklogFull: Too many tasks are without a result.
        """
        number = f"{self._name}-{next(self._ids)}" if id is None else id
        task = Task(number, action, encode(payload), b"" if account is None else encode(account))
        ticket = Ticket(task, provider)
        self._backlog.put(ticket)
        return ticket

    def call(
        self, action: str, payload: Data = None, *, timeout: float = 10.0, **options: Any
    ) -> Submission:
        """Put a task in and return its result; see `put` and `Ticket.result`."""
        return self.put(action, payload, **options).result(timeout)

    @property
    def submissions(self) -> list[Submission]:
        """All results that came, repeated ones too, as far back as `capacity` reaches."""
        return list(self._backlog.submissions)

    def rate_limit(self, seconds: float) -> None:
        """Ask every provider that polls for no more polls, for `seconds` from now on."""
        self._paused_until = time.monotonic() + seconds
        self._backlog.wake()

    # Its life.

    @property
    def url(self) -> str:
        """The hub's address as a provider's `hub_url`, which says that there is no encryption."""
        return self.address if self.address.startswith("unix:") else f"grpc://{self.address}"

    def start(self) -> Self:
        """Listen, and return the hub itself; from here on, `address` has the real port."""
        self._server, self.address = self._listen(self.address)
        return self

    def _listen(self, address: str) -> tuple[grpc.Server, str]:
        """Return a server that runs, and where it listens."""
        threads = futures.ThreadPoolExecutor(_THREADS, "arbprov-hub")
        server = grpc.server(threads, handlers=[self._handlers()], options=self._options)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"the hub can't listen on {address}; if another one does, give this one "
                f"another address, such as 127.0.0.1:0 for any free port"
            ) from error
        server.start()
        if address.startswith("unix:"):
            return server, address
        return server, f"{address.rpartition(':')[0]}:{port}"

    def stop(self) -> None:
        """Answer the polls that are held, and end."""
        self._backlog.close()
        if self._server is not None:
            self._server.stop(_GRACE).wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # The wire.

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
            return self._nothing()
        if not context.is_active():
            # The provider that asked is gone.
            self._backlog.put_back(ticket)
            return hub_pb2.Task()
        task = ticket.task
        return hub_pb2.Task(
            id=task.id, action=task.action, payload=task.payload, account=task.account
        )

    def _take(self, provider: str, context: grpc.ServicerContext) -> Ticket | None:
        held = self._held.acquire(blocking=False)
        try:
            context.add_callback(self._backlog.wake)
            wanted = lambda: context.is_active() and not self._pause()  # noqa: E731
            return self._backlog.take(provider, self._hold if held else 0.0, wanted)
        finally:
            if held:
                self._held.release()

    def _nothing(self) -> hub_pb2.Task:
        if pause := self._pause():
            hint = json.dumps({"wait_time": pause})
            return hub_pb2.Task(action="rate_limited", payload=hint.encode())
        return hub_pb2.Task()

    def _pause(self) -> float:
        return max(0.0, self._paused_until - time.monotonic())

    def _submit(self, request: hub_pb2.TaskResult, context: grpc.ServicerContext) -> hub_pb2.Task:
        self._authenticate(request.auth_token, context)
        self._backlog.settle(
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
        """Run one action for `LocalHubClient`: JSON in, the `Submission` as JSON out."""
        request = json.loads(body)
        self._authenticate(request.pop("token"), context)
        if not self._calls.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls wait already")
        try:
            submission = self.call(**request)
        except ValidationFailure as misfit:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(misfit.problems[0]))
        except TimeoutError as error:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))
        except BacklogFull as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except HubStopped as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            self._calls.release()
        return json.dumps(attrs.asdict(submission)).encode()

    def _authenticate(self, token: str, context: grpc.ServicerContext) -> None:
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")


def _has_port(address: str) -> bool:
    port = address.rpartition(":")[2]
    return address.startswith("unix:") or (port.isdecimal() and int(port) < 2**16)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods by their full names: the hub's service has no package."""

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._methods.get(details.method)
