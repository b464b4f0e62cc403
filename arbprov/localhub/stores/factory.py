"""Which store a hub uses, by the text of its setting."""

from __future__ import annotations

from pathlib import Path

from arbprov.errors import ConfigurationError
from arbprov.localhub.store import Store
from arbprov.localhub.stores.sqlite import SqliteStore

__all__ = ["make_store"]


def make_store(url: str) -> Store:
    """Return a store that is not open yet.

    Args:
        url: ``memory``, ``sqlite:PATH`` or ``postgresql://USER@HOST/DATABASE``.

    Raises:
        ConfigurationError: There is no such kind of store, or its package is not installed.

    >>> make_store("memory").name
    'memory'
    """
    if url == "memory":
        return SqliteStore(None)
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteStore(Path(rest).expanduser())
    if scheme in ("postgresql", "postgres"):
        from arbprov.localhub.stores.postgres import PostgresStore

        return PostgresStore(url)
    # Without the text itself, which may have a password.
    raise ConfigurationError(
        "the hub's store must be memory, sqlite:PATH or postgresql://USER@HOST/DATABASE"
    )
