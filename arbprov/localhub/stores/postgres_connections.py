"""The connections of a PostgreSQL store: its URL, its pool, and its errors as a hub's.

No name, error or log line has a password: texts of libpq that may quote the URL are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import attrs
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import StrDumper
from psycopg_pool import AsyncConnectionPool

from arbprov.errors import ConfigurationError, HubError

__all__ = ["Connections", "find_name", "read_url", "replace_odd"]

T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]

_POOL_SIZE = 4
# Seconds until a call gives up that finds no server, or no free connection.
_PATIENCE = 10.0
# Seconds after which a connection that was lost is left to the next call.
_RECONNECT_TIMEOUT = 2.0
# How often a transaction is run that the server ends for another's sake.
_MAX_RUNS = 10
# For what the URL does not say; a peer that vanished is noticed within a minute.
_DEFAULTS = {
    "application_name": "arbprov hub",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# The server or the connection is gone, or the server is a standby now.
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
)
# Without it, a plan that was made for an empty table would read a large one from end to end.
_SETTINGS = "SET LOCAL enable_seqscan = off"
_HOSTS = re.compile(r"[\w.\-]*(:\d+)?(,[\w.\-]*(:\d+)?)*|\[[0-9a-fA-F:.]+\](:\d+)?")


def find_name(url: str) -> str:
    """Return a URL without user, password and options.

    >>> find_name("postgresql://hub:secret@db.example:5433/tasks?sslmode=require")
    'postgresql://db.example:5433/tasks'
    """
    place = url.partition("://")[2].rpartition("@")[2].partition("?")[0]
    hosts, _, database = place.partition("/")
    return f"postgresql://{hosts}/{database}" if _HOSTS.fullmatch(hosts) else "postgresql://"


@attrs.frozen
class Settings:
    """What a URL says.

    Attributes:
        parameters: The parameters of libpq.
        is_prepared: Whether statements may be prepared.
    """

    parameters: str = attrs.field(repr=False)
    is_prepared: bool


def read_url(url: str) -> Settings:
    """Read the URL of a database.

    Args:
        url: As libpq takes it, and with `prepared_statements=off` for a pooler that hands
            connections from transaction to transaction and does not know prepared statements.

    Raises:
        ConfigurationError: The URL is not valid.

    >>> read_url("postgresql://db.example/tasks?prepared_statements=off").is_prepared
    False
    """
    address, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    prepared = dict(options).get("prepared_statements", "on")
    rest = urlencode([option for option in options if option[0] != "prepared_statements"])
    try:
        known = conninfo_to_dict(f"{address}?{rest}")
    except psycopg.Error:  # its text may hold a part of the password
        known = {}
    # An @ or a / in the password makes libpq take parts of it for something else.
    ports = str(known.get("port", "")).replace(",", "")
    names = f"{known.get('host')}{known.get('dbname')}"
    if not known or not (ports.isdigit() or not ports) or "@" in names:
        raise ConfigurationError(
            f"{find_name(url)} is not a valid URL of a PostgreSQL database; write "
            f"postgresql://USER:PASSWORD@HOST/DATABASE, with %40 for an @ and %2F for a / in the "
            f"password"
        )
    if prepared not in ("on", "off"):
        raise ConfigurationError(f"{find_name(url)}: prepared_statements must be on or off")
    return Settings(
        make_conninfo(**_DEFAULTS | {key: str(value) for key, value in known.items()}),
        prepared == "on",
    )


def replace_odd(text: str) -> str:
    """Return a text with signs for the characters that PostgreSQL cannot keep.

    >>> replace_odd(chr(0)) == chr(0x2400)
    True
    """
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="backslashreplace").decode()


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> bytes:
        return replace_odd(obj).encode()


class Connections:
    """A pool of connections, and the settings that it shares with the connections beside it.

    Args:
        settings: The URL's settings.
        name: The store's name.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._pool = AsyncConnectionPool(
            settings.parameters,
            kwargs=self._options,
            configure=_configure,
            min_size=1,
            max_size=_POOL_SIZE,
            open=False,
            timeout=_PATIENCE,
            reconnect_timeout=_RECONNECT_TIMEOUT,
        )
        self._check: asyncio.Task[None] | None = None

    @property
    def _options(self) -> dict[str, Any]:
        return {"autocommit": True, "prepare_threshold": 5 if self._settings.is_prepared else None}

    async def connect(self) -> Connection:
        """Open a connection beside the pool, in autocommit mode."""
        connection = await psycopg.AsyncConnection.connect(
            self._settings.parameters, **self._options
        )
        await _configure(connection)
        return connection

    async def open(self, prepare: Callable[[Connection, str], Awaitable[None]]) -> None:
        """Prepare the database with a first connection, then open the pool.

        Raises:
            ConfigurationError: The database cannot be used.
        """
        try:
            async with await self.connect() as connection:
                await prepare(connection, self._name)
        except psycopg.Error as error:
            raise ConfigurationError(f"{self._name} cannot be used: {_describe(error)}") from None
        await self._pool.open()

    async def close(self) -> None:
        """Close the pool; calls that are under way fail."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.gather(self._check, return_exceptions=True)
        await self._pool.close()

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run statements in a transaction, again if the server ends it for another's sake.

        The statements are sent without waiting for answers that are read later.

        Raises:
            HubError: The connection was lost, or the server refuses; whether the transaction
                was committed is not known.
        """
        for run in range(1, _MAX_RUNS + 1):
            try:
                async with (
                    self._pool.connection() as connection,
                    connection.pipeline(),
                    connection.transaction(),
                ):
                    await connection.execute(_SETTINGS)
                    return await work(connection)
            except (errors.DeadlockDetected, errors.SerializationFailure) as error:
                if run == _MAX_RUNS:
                    raise self._as_hub_error(error) from None
            except _UNAVAILABLE as error:
                raise self._as_hub_error(error) from None
        raise AssertionError

    async def read(self, query: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """Return the rows of a query.

        Raises:
            HubError: The connection was lost, or the server refuses.
        """
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(query.encode(), parameters)
                return await cursor.fetchall()
        except _UNAVAILABLE as error:
            raise self._as_hub_error(error) from None

    async def _replace_lost(self) -> None:
        with contextlib.suppress(psycopg.Error):
            await self._pool.check()

    def _as_hub_error(self, error: psycopg.Error) -> HubError:
        if self._check is None or self._check.done():
            # One lost connection is rarely alone: replace the others before calls meet them.
            self._check = asyncio.create_task(self._replace_lost())
        return HubError(f"{self._name} does not answer: {_describe(error)}")


async def _configure(connection: Connection) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
    connection.adapters.register_dumper(str, _TextDumper)


def _describe(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
