"""A hub over real gRPC that numbers attempts, has leases, and takes reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import grpc
import grpc.aio

from arbprov._proto import hub_pb2
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token

from .waiting import TIMEOUT


@attrs.define(eq=False)
class LeasingHub:
    """Hands out the tasks in `tasks`, each with its metadata, and records what a provider sends.

    A poll without a task waits a moment, and has the metadata `always` only. `refusals` are the
    statuses that end calls of a method, by its name.
    """

    always: tuple[tuple[str, str], ...] = ()
    tasks: list[tuple[str, tuple[tuple[str, str], ...]]] = attrs.field(factory=list)
    refusals: dict[str, grpc.StatusCode] = attrs.field(factory=dict)
    # Answers to renewals; when they have ended, nothing is cancelled or lost.
    renewals: list[bytes] = attrs.field(factory=list)
    # Answers to reports; when they have ended, no actions are asked for.
    reports: list[bytes] = attrs.field(factory=list)
    has_leases: bool = True
    takes_reports: bool = True
    polled_with: list[dict[str, Any]] = attrs.field(factory=list)
    submitted: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    messages: list[bytes] = attrs.field(factory=list)
    renewed: list[dict[str, Any]] = attrs.field(factory=list)
    reported: list[dict[str, Any]] = attrs.field(factory=list)

    async def get_task(self, request: bytes, context: Any) -> bytes:
        self.polled_with.append(_sent(context))
        name, metadata = self.tasks.pop(0) if self.tasks else ("", ())
        await context.send_initial_metadata((*self.always, *metadata))
        await self._refuse("GetTask", context)
        if not name:
            await asyncio.sleep(0.02)
            return b""
        return hub_pb2.Task(id=name, action="work").SerializeToString()

    async def submit(self, request: bytes, context: Any) -> bytes:
        self.submitted.append((hub_pb2.TaskResult.FromString(request).id, _sent(context)))
        self.messages.append(request)
        return b""

    async def renew(self, request: bytes, context: Any) -> bytes:
        self.renewed.append(json.loads(request))
        await self._refuse("Renew", context)
        return self.renewals.pop(0) if self.renewals else b'{"cancelled": [], "lost": []}'

    async def report(self, request: bytes, context: Any) -> bytes:
        self.reported.append(json.loads(request))
        await self._refuse("Report", context)
        return self.reports.pop(0) if self.reports else b"{}"

    async def _refuse(self, method: str, context: Any) -> None:
        if method in self.refusals:
            await context.abort(self.refusals[method], "because of the test")

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[GrpcHub]:
        """Run the hub, and yield a client of it."""
        server = grpc.aio.server()
        services = {"Hub": {"GetTask": self.get_task, "SubmitTaskResult": self.submit}}
        if self.has_leases:
            services["arbprov.Leases"] = {"Renew": self.renew}
        if self.takes_reports:
            services["arbprov.Providers"] = {"Report": self.report}
        for service, methods in services.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(method)
                for name, method in methods.items()
            }
            server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, handlers)]
            )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        token = Token("sample-token")
        token.read()
        client = GrpcHub(
            f"127.0.0.1:{port}",
            provider="weather",
            token=token,
            poll_timeout=TIMEOUT,
            submit_timeout=TIMEOUT,
            **options,
        )
        try:
            yield client
        finally:
            await client.close()
            await server.stop(None)


def _sent(context: Any) -> dict[str, Any]:
    """Return the metadata of arbprov's that came with a call."""
    sent = dict(context.invocation_metadata())
    return {name: value for name, value in sent.items() if name.startswith("arbprov-")}
