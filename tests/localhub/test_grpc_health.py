"""gRPC's health service."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.waiting import TIMEOUT

from arbprov.errors import ConfigurationError
from arbprov.localhub.api import extra
from arbprov.localhub.health import HealthService

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_hub_serves_until_it_stops():
    async def main():
        health = HealthService()
        server = grpc.aio.server(handlers=[health.handler])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            watch = stub.Watch(request, timeout=TIMEOUT)
            seen = [
                (await stub.Check(request, timeout=TIMEOUT)).status,
                (await watch.read()).status,
            ]
            await health.stop()
            seen += [
                (await stub.Check(request, timeout=TIMEOUT)).status,
                (await watch.read()).status,
            ]
            watch.cancel()
        await server.stop(None)
        return seen

    assert asyncio.run(main()) == [SERVING, SERVING, NOT_SERVING, NOT_SERVING]


def test_without_the_extra_an_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigurationError, match=r"needs grpc_health: pip install 'arbprov\[hub\]'"
    ):
        HealthService()
