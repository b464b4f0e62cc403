"""Test a provider: without a hub, a network or waiting, or with a hub that fails on purpose.

`TestClient` and `VirtualClock` need no gRPC. `FaultyHub` is a real gRPC hub that plays the faults
of `arbprov.testing.faults`; it listens behind a `TcpProxy`, which also works on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbprov.testing.client import TestClient, VirtualClock

if TYPE_CHECKING:
    from arbprov.testing.faulty_hub import FaultyHub
    from arbprov.testing.loop import SkippingLoop
    from arbprov.testing.provider import serving
    from arbprov.testing.proxy import TcpProxy

__all__ = ["FaultyHub", "SkippingLoop", "TcpProxy", "TestClient", "VirtualClock", "serving"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the test client needs neither gRPC nor asyncio.
    if name == "FaultyHub":
        from arbprov.testing import faulty_hub

        return faulty_hub.FaultyHub
    if name == "SkippingLoop":
        from arbprov.testing import loop

        return loop.SkippingLoop
    if name == "TcpProxy":
        from arbprov.testing import proxy

        return proxy.TcpProxy
    if name == "serving":
        from arbprov.testing import provider

        return provider.serving
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
