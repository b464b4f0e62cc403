"""Calls per second without a hub: through the test client, or with only JSON both ways.

calls.py client|bare CALLS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

PAYLOAD = {"city": "Paris", "days": 3}


def echo(city: str, days: int = 3) -> dict[str, Any]:
    """Return the arguments."""
    return {"city": city, "days": days}


def client() -> Callable[[], Any]:
    """Return a call through arbprov's test client."""
    from arbprov import ProviderApp

    app = ProviderApp("bench")
    app.action(echo)
    call = app.test_client().call
    return lambda: call("echo", PAYLOAD)


def bare() -> Callable[[], Any]:
    """Return a call with JSON both ways."""
    return lambda: json.loads(json.dumps({"data": echo(**json.loads(json.dumps(PAYLOAD)))}))


def main(which: str, count: str) -> None:
    """Print the calls per second."""
    call = {"client": client, "bare": bare}[which]()
    call()
    began = time.perf_counter()
    for _ in range(int(count)):
        call()
    print(int(count) / (time.perf_counter() - began))


if __name__ == "__main__":
    main(*sys.argv[1:])
