"""Testing a provider: without a hub, a network or waiting; or with a hub that fails as told.

`TestClient` and `VirtualClock` need no gRPC. `FaultyHub` speaks it for real, plays the steps of
`arbprov.testing.faults`, and stands behind a `TcpProxy`, which can be used alone too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbprov.testing.client import TestClient, VirtualClock

if TYPE_CHECKING:
    from arbprov.testing.faulty_hub import FaultyHub
    from arbprov.testing.provider import serving
    from arbprov.testing.proxy import TcpProxy

__all__ = ["FaultyHub", "TcpProxy", "TestClient", "VirtualClock", "serving"]


def __getattr__(name: str) -> Any:
    # The test client must do without gRPC and without asyncio.
    if name == "FaultyHub":
        from arbprov.testing import faulty_hub

        return faulty_hub.FaultyHub
    if name == "TcpProxy":
        from arbprov.testing import proxy

        return proxy.TcpProxy
    if name == "serving":
        from arbprov.testing import provider

        return provider.serving
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
