"""Having an app work for a hub while a test looks on."""

from __future__ import annotations

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
    """Have `app` work for `hub` in a thread, and stop it at the end.

    Args:
        app: The provider.
        hub: A `LocalHub` or a `FaultyHub`.
        stop_within: Seconds that the stop may take.

    Yields:
        What the run comes to; it ends early only if the app fails.

    Raises:
        Exception: What the app's run has raised.
        TimeoutError: It did not stop in time.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=hub.url, auth_token=hub.token)
        try:
            yield running
        finally:
            if not running.done():
                app.stop()
            running.result(stop_within)
