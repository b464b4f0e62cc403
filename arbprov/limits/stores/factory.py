"""Opens the stores that authors name with ``store=`` or ``rate_limit_store=``."""

from __future__ import annotations

from typing import Any

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.declaration import OnStoreError, RateLimit
from arbprov.limits.stores.base import Store
from arbprov.limits.stores.memory import MemoryStore

__all__ = ["StoreFactory"]

_SCHEMES = ("redis", "rediss", "unix")


class StoreFactory:
    """Opens each store once, so that it decides over all its limits together.

    Args:
        clock: Tells the time.
        namespace: The name that the processes have in common that share limits.
        default: The store of limits without a ``store=``; if empty, they are in memory.

    >>> from arbprov.limits import declare
    >>> from arbprov.testing import VirtualClock
    >>> factory = StoreFactory(VirtualClock(), namespace="weather")
    >>> type(factory.open_store(declare("10/minute"))).__name__
    'MemoryStore'
    """

    def __init__(self, clock: Clock, namespace: str, default: Any = None) -> None:
        self._clock = clock
        self._namespace = namespace
        self._default = default
        self._memory = MemoryStore(clock)
        self._shared: dict[tuple[Any, OnStoreError], Store] = {}

    def open_store(self, declaration: RateLimit) -> Store:
        """Return the store of a limit.

        Raises:
            ConfigurationError: The URL or the client is not valid, or the package for it is not
                installed.
        """
        store = declaration.store or self._default
        if not store:
            return self._memory
        identity = (store if isinstance(store, str) else id(store), declaration.on_store_error)
        if identity not in self._shared:
            argument = (
                "store" if declaration.store else "rate_limit_store, or ARBPROV_RATE_LIMIT_STORE"
            )
            self._shared[identity] = self._open_redis(store, argument, declaration.on_store_error)
        return self._shared[identity]

    def _open_redis(self, store: Any, argument: str, on_store_error: OnStoreError) -> Store:
        # Limits in memory need neither of these modules.
        from arbprov.limits.stores.failover import FailoverStore
        from arbprov.limits.stores.redis import RedisStore

        if isinstance(store, str):
            client, name = _connect(store, argument)
        else:
            _check_client(store, argument)
            client, name = store, f"the rate limits' {type(store).__qualname__}"
        shared = RedisStore(client, self._namespace)
        return FailoverStore(shared, self._clock, on_store_error, name)


def _connect(text: str, argument: str) -> tuple[Any, str]:
    """Return a client for a URL, and the store's name in log lines, without the password."""
    from urllib.parse import urlsplit

    from arbprov.limits.stores.redis import connect

    url = urlsplit(text)
    if url.scheme not in _SCHEMES:
        # Without the URL itself: it may hold a password.
        raise ConfigurationError(
            f"{argument}: a store is a URL such as redis://host:6379/0, or a Redis client; "
            f"this one begins with {url.scheme + ':' if url.scheme else 'no scheme'}"
        )
    return connect(text), f"the rate limits' store {url.scheme}://{url.hostname or url.path}"


def _check_client(client: Any, argument: str) -> None:
    """Refuse an object that is not a Redis client, and a client without a timeout."""
    if not callable(getattr(client, "evalsha", None)):
        raise ConfigurationError(
            f"{argument}: a {type(client).__qualname__} is not a Redis client or its URL"
        )
    settings = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "socket_timeout" in settings and settings["socket_timeout"] is None:
        raise ConfigurationError(
            f"{argument}: this Redis client would wait for ever for a server that hangs; "
            "make it with a socket_timeout, such as 0.25 seconds"
        )
