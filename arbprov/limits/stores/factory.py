"""Opens the stores that authors name with ``store=`` or ``rate_limit_store=``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError
from arbprov.limits.declaration import OnStoreError, RateLimit
from arbprov.limits.stores.base import Store
from arbprov.limits.stores.memory import MemoryStore

__all__ = ["StoreFactory", "WorkerPlace", "open_client"]

_SCHEMES = ("redis", "rediss", "unix")


@attrs.frozen
class WorkerPlace:
    """The place of a process among the workers of a provider; a worker that is replaced leaves it.

    Args:
        number: The worker's number, from 1 on.
        count: The number of workers.
        run: A name that the workers have in common, and nothing else.
        folder: A folder that only this user can write to, where a worker leaves files for its
            successor; empty if there is none.
    """

    number: int
    count: int
    run: str
    folder: str


class StoreFactory:
    """Opens each store once, so that it decides over all its limits together.

    Args:
        clock: Tells the time.
        namespace: The name that the processes have in common that share limits.
        default: The store of limits without a ``store=``; if empty, they are in memory.
        place: The place of this process, if it is one of several workers.

    >>> from arbprov.limits import declare
    >>> from arbprov.testing import VirtualClock
    >>> factory = StoreFactory(VirtualClock(), namespace="weather")
    >>> type(factory.open_store(declare("10/minute"))).__name__
    'MemoryStore'
    """

    def __init__(
        self, clock: Clock, namespace: str, default: Any = None, place: WorkerPlace | None = None
    ) -> None:
        self._clock = clock
        self._namespace = namespace
        self._default = default
        self._place = place
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
        from arbprov.limits.stores.outage_file import OutageFile
        from arbprov.limits.stores.redis import RedisStore

        client, name = open_client(store, argument, "the rate limits'")
        place = self._place
        if place is None:
            shared = RedisStore(client, self._namespace)
            return FailoverStore(shared, self._clock, on_store_error, name)
        # Workers open the same stores in the same order.
        index = len(self._shared)
        names = [f"{place.run}.{number}.{index}" for number in range(1, place.count + 1)]
        own_name = names[place.number - 1]
        shared = RedisStore(client, self._namespace, own_name, names)
        file = None
        if place.folder:
            path, *others = (
                Path(place.folder) / each for each in sorted(names, key=own_name.__ne__)
            )
            file = OutageFile(path, others)
        return FailoverStore(shared, self._clock, on_store_error, name, place.count, file)


def open_client(store: Any, argument: str, owner: str) -> tuple[Any, str]:
    """Return a client, and the server's name in log lines, without the password.

    Args:
        store: A URL or a client.
        argument: The name of the author's argument or variable, for errors.
        owner: Whose server it is, as in ``the rate limits'``.

    Raises:
        ConfigurationError: The URL or the client is not valid, or the package for it is not
            installed.
    """
    if not isinstance(store, str):
        _check_client(store, argument)
        return store, f"{owner} {type(store).__qualname__}"
    from arbprov.limits.stores.redis import connect

    scheme, place = _check_url(store, argument)
    try:
        return connect(store), f"{owner} store {scheme}://{place}"
    except ConfigurationError as error:
        raise ConfigurationError(f"{argument}: {error}") from None


def _check_url(text: str, argument: str) -> tuple[str, str]:
    """Return the scheme of a URL, and its host or the path of its socket.

    Errors do not quote the URL: a password with a reserved character stands in any part of it.
    """
    from urllib.parse import parse_qsl, urlsplit

    def refuse(problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"{argument}: {problem}; a store is a URL such as redis://host:6379/0, in whose "
            f"password / : @ ? # % [ and ] are written as %2F %3A %40 %3F %23 %25 %5B and %5D"
        )

    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
        (host or "").encode("idna")
        parse_qsl(url.query, strict_parsing=bool(url.query))
    except ValueError:
        raise refuse("this is not a valid URL") from None
    if url.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{argument}: a store is a URL such as redis://host:6379/0, or a Redis client; "
            f"this one begins with none of redis://, rediss:// and unix://"
        )
    if url.fragment or any(character.isspace() for character in text):
        raise refuse("this URL has a # or a blank in it")
    if url.scheme == "unix":
        if not url.path.strip("/") or "@" in url.path:
            raise refuse("this URL has no path of a socket, or one with an @")
        return url.scheme, url.path
    if not host:
        raise refuse("this URL has no host")
    if not re.fullmatch(r"(/[0-9]*)?", url.path):
        raise refuse("after the host, this URL has something else than the number of a database")
    return url.scheme, host


def _check_client(client: Any, argument: str) -> None:
    """Refuse an object that is not a Redis client, an asyncio client, and one without a timeout."""
    if not callable(getattr(client, "evalsha", None)):
        raise ConfigurationError(
            f"{argument}: {type(client).__qualname__} is not a Redis client or its URL"
        )
    if inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
        kind = type(client)
        raise ConfigurationError(
            f"{argument}: {kind.__module__}.{kind.__qualname__} is an asyncio client, and limits "
            f"need a plain one: redis.Redis(...) with the same arguments"
        )
    settings = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "socket_timeout" in settings and settings["socket_timeout"] is None:
        raise ConfigurationError(
            f"{argument}: this Redis client would wait for ever for a server that hangs; "
            "make it with a socket_timeout, such as 0.25 seconds"
        )
