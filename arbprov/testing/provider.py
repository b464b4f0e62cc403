"""Runs an app for a hub during a test."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from arbprov.app import ProviderApp

__all__ = ["serving"]


class _AnyHub(Protocol):
    token: str

    @property
    def url(self) -> str: ...


@contextmanager
def serving(app: ProviderApp, hub: _AnyHub, *, stop_within: float = 30.0) -> Iterator[Future[None]]:
    """Run `app` for `hub` in a thread, and stop it at the end of the block.

    Args:
        app: The provider.
        hub: A `LocalHub` or a `FaultyHub`.
        stop_within: Seconds in which the app must stop.

    Yields:
        A future of ``app.run``, which is done early only if the app fails.

    Raises:
        Exception: ``app.run`` raised this.
        TimeoutError: The app did not stop in time.

    >>> from arbprov import ProviderApp
    >>> from arbprov.localhub import LocalHub
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... def forecast(city: str) -> dict:
    ...     return {"city": city}
    >>> with LocalHub(hold=0.1) as hub, serving(app, hub):
    ...     hub.call("forecast", {"city": "Paris"}).data
    {'city': 'Paris'}
    """
    with ThreadPoolExecutor(1) as pool:
        # The app sees the test's context variables, as it would in the main thread.
        run = contextvars.copy_context().run
        running = pool.submit(run, app.run, hub_url=hub.url, auth_token=hub.token)
        try:
            yield running
        finally:
            if not running.done():
                app.stop()
            running.result(stop_within)
