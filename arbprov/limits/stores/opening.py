"""From what an author gives as `store=` to the store."""

from __future__ import annotations

from typing import Any

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.declaration import OnStoreError, RateLimit
from arbprov.limits.stores.base import Store
from arbprov.limits.stores.memory import MemoryStore

__all__ = ["StoreOpener"]

_SCHEMES = ("redis", "rediss", "unix")


class StoreOpener:
    """Opens each store once; limits of one store are one decision there.

    Args:
        clock: Tells the time.
        namespace: What the processes have in common that share limits.
        default: The store of a limit that names none, as with `store=`; empty for the memory.
    """

    def __init__(self, clock: Clock, namespace: str, default: Any = None) -> None:
        self._clock = clock
        self._namespace = namespace
        self._default = default
        self._memory = MemoryStore(clock)
        self._shared: dict[tuple[Any, OnStoreError], Store] = {}

    def __call__(self, terms: RateLimit) -> Store:
        """Return the store of a limit.

        Raises:
            ConfigurationError: It is none, or the package that it needs is not installed.
        """
        wanted = terms.store or self._default
        if not wanted:
            return self._memory
        identity = (wanted if isinstance(wanted, str) else id(wanted), terms.on_store_error)
        if identity not in self._shared:
            origin = "store" if terms.store else "rate_limit_store, or ARBPROV_RATE_LIMIT_STORE"
            self._shared[identity] = self._open(wanted, origin, terms.on_store_error)
        return self._shared[identity]

    def _open(self, wanted: Any, origin: str, on_store_error: OnStoreError) -> Store:
        # Neither these nor what they import is needed while all limits are in memory.
        from arbprov.limits.stores.failover import FailoverStore
        from arbprov.limits.stores.redis import RedisStore

        client, name = _client(wanted, origin)
        store = RedisStore(client, self._namespace)
        return FailoverStore(store, self._clock, on_store_error, name)


def _client(wanted: Any, origin: str) -> tuple[Any, str]:
    if not isinstance(wanted, str):
        return _checked(wanted, origin), f"the rate limits' {type(wanted).__qualname__}"
    from urllib.parse import urlsplit

    from arbprov.limits.stores.redis import connect

    url = urlsplit(wanted)
    if url.scheme not in _SCHEMES:
        # Not the text itself: it may hold a password.
        raise ConfigurationError(
            f"{origin}: a store is a URL such as redis://host:6379/0, or a Redis client; this one "
            f"begins with {url.scheme + ':' if url.scheme else 'no scheme'}"
        )
    return connect(wanted), f"the rate limits' store {url.scheme}://{url.hostname or url.path}"


def _checked(client: Any, origin: str) -> Any:
    if not callable(getattr(client, "evalsha", None)):
        raise ConfigurationError(
            f"{origin}: a {type(client).__qualname__} is no Redis client and no URL of one"
        )
    settings = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "socket_timeout" in settings and settings["socket_timeout"] is None:
        raise ConfigurationError(
            f"{origin}: this Redis client would wait for ever for a server that hangs; "
            "make it with a socket_timeout, such as 0.25 seconds"
        )
    return client
