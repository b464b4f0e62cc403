"""The bundled hub: a durable queue of tasks that providers work for, and clients of it.

>>> from arbprov.localhub import LocalHub
>>> with LocalHub() as hub:
...     ticket = hub.put("forecast", {"city": "Paris"})
...     # A provider with `hub_url=hub.url` and `auth_token=hub.token` would run the task now.
...     ticket.done
False
"""

from arbprov.executors.forking import importing_grpc
from arbprov.localhub.tickets import BacklogFull, HubStopped, Submission, Ticket

with importing_grpc():
    from arbprov.localhub.client import LocalHubClient
    from arbprov.localhub.server import LocalHub

__all__ = ["BacklogFull", "HubStopped", "LocalHub", "LocalHubClient", "Submission", "Ticket"]
