"""Fresh databases on one PostgreSQL server for the whole run."""

from __future__ import annotations

import atexit
import functools
import itertools
from urllib.parse import quote

import attrs
import psycopg

from .postgres_servers import PostgresServer

_numbers = itertools.count()
# A `now()` that goes before the server's own for those who search this schema first.
_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.time (ahead interval NOT NULL);
INSERT INTO clock.time VALUES ('0');
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT pg_catalog.now() + ahead FROM clock.time';
"""


@attrs.frozen
class Database:
    """An empty database.

    Attributes:
        name: Its name.
        url: What a store connects with.
    """

    name: str
    url: str

    def run(self, query: str, *parameters: object) -> list[tuple]:
        """Run a statement; return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    async def advance(self, seconds: float) -> None:
        """Let time pass for the stores of this database, if it has a clock."""
        self.run("UPDATE clock.time SET ahead = ahead + make_interval(secs => %s)", seconds)


@functools.cache
def shared_server() -> PostgresServer:
    """Return the server, which ends with the process."""
    server = PostgresServer()
    atexit.register(server.close)
    return server


def new_database(server: PostgresServer | None = None, *, clock: bool = False) -> Database:
    """Return a new database.

    Args:
        server: The server; None for the one that is shared.
        clock: Whether its time can be advanced.
    """
    server = server or shared_server()
    name = f"hub{next(_numbers)}"
    with server.client() as client:
        client.execute(f"CREATE DATABASE {name}")
    url = server.url.replace("@/postgres", f"@/{name}")
    database = Database(name, url)
    if clock:
        database.run(_CLOCK)
        database = Database(name, f"{url}&options={quote('-csearch_path=clock,pg_catalog')}")
    return database
