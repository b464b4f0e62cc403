"""gRPC's health service, for load balancers and probes."""

from __future__ import annotations

from typing import Any

import grpc

from arbprov.localhub.api.extra import check_installed

__all__ = ["HealthService"]


class HealthService:
    """Answers gRPC's health checks: serving, until it is stopped.

    Attributes:
        handler: The handler for a server of `grpc.aio`.

    Raises:
        ConfigurationError: The extra `hub` is not installed.
    """

    def __init__(self) -> None:
        check_installed("the hub's health service", "grpc_health")
        # Imported here, since the extra may be missing.
        from grpc_health.v1 import health, health_pb2_grpc

        self._servicer = health.aio.HealthServicer()
        registered: list[grpc.GenericRpcHandler] = []
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, _Registry(registered))
        (self.handler,) = registered

    async def stop(self) -> None:
        """Answer from now on that the hub does not serve, also to the clients that watch."""
        await self._servicer.enter_graceful_shutdown()


class _Registry:
    """Takes the handlers that the generated code adds to a server."""

    def __init__(self, handlers: list[grpc.GenericRpcHandler]) -> None:
        self._handlers = handlers

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Do nothing: the generic handler has the same methods."""
