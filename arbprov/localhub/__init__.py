"""The bundled hub: a durable queue of tasks that providers work for, and clients of it.

>>> from arbprov.localhub import LocalHub
>>> with LocalHub() as hub:
...     ticket = hub.put("forecast", {"city": "Paris"})
...     # A provider with `hub_url=hub.url` and `auth_token=hub.token` would run the task now.
...     ticket.done
False
"""

from typing import TYPE_CHECKING

from arbprov.executors.forking import importing_grpc
from arbprov.localhub.tickets import BacklogFull, HubStopped, Submission, Ticket

with importing_grpc():
    from arbprov.localhub.client import LocalHubClient
    from arbprov.localhub.server import LocalHub

if TYPE_CHECKING:
    from arbprov.localhub.clients.asynchronous import AsyncClient
    from arbprov.localhub.clients.plain import Client
else:

    def __getattr__(name: str) -> object:
        """Import what needs httpx only when it is used."""
        if name not in ("AsyncClient", "Client"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from arbprov.localhub.api.extra import check_installed

        check_installed(f"arbprov.localhub.{name}", "httpx")
        from arbprov.localhub.clients.asynchronous import AsyncClient
        from arbprov.localhub.clients.plain import Client

        return AsyncClient if name == "AsyncClient" else Client


__all__ = [
    "AsyncClient",
    "BacklogFull",
    "Client",
    "HubStopped",
    "LocalHub",
    "LocalHubClient",
    "Submission",
    "Ticket",
]
