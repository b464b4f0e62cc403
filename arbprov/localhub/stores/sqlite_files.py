"""Opens the files of a hub's store: private to their user, used by one hub, and undamaged.

A store at HUB has SQLite's HUB-wal and HUB-shm beside it, and HUB-owner, which its hub locks.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from arbprov._utils import MEBIBYTE
from arbprov.errors import ConfigurationError
from arbprov.localhub.stores.sqlite_schema import APPLICATION, VERSION, migrate
from arbprov.owned_files import (
    APPLICATION_AT,
    MAGIC,
    FileLock,
    count_lost_commits,
    explain_errors,
    own_files,
    sibling,
)

__all__ = ["claim_files", "open_memory", "open_reader", "open_writer"]

# A check of all pages reads the whole file, which may take minutes for a large one; damage that is
# found later fails what meets it.
_MAX_CHECKED_BYTES = 256 * MEBIBYTE
# All statements of the store stay prepared.
_CACHED_STATEMENTS = 256


def open_memory() -> sqlite3.Connection:
    """Return an empty database in memory, with all tables."""
    _check_sqlite()
    database = _connect(":memory:")
    migrate(database)
    return database


def claim_files(path: Path) -> FileLock:
    """Lock the store at `path`, and create its files if there are none.

    Nothing is changed, and nothing is left beside it, if the file is not a hub's store.

    Raises:
        ConfigurationError: The file is not a hub's store, is in use, or cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim_files(Path(folder) / "hub").close()
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['hub', 'hub-owner']
    """
    _check_sqlite()
    with explain_errors("store", path, _damage_error):
        try:
            return own_files(path, _check_is_store)
        except BlockingIOError:
            raise ConfigurationError(
                f"the store at {path} is in use by another hub; stop that hub, or give this one "
                f"another file"
            ) from None


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the store at `path` to write it, and bring it to this version.

    Raises:
        ConfigurationError: The file cannot be used; the message says why.
    """
    with explain_errors("store", path, _damage_error):
        if sibling(path, "-journal").exists():
            # A crash has cut off the creation of the tables, and a reader can't undo it.
            with contextlib.closing(_connect(path.as_uri())) as database:
                _check_version(database, path)
        # A connection that may write would remove a damaged log when it closes.
        with contextlib.closing(open_reader(path)) as reader:
            _check_version(reader, path)
            if (lost := count_lost_commits(path)) > 1:
                raise _damage_error(path, f"{lost} transactions in its -wal file cannot be read")
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(contextlib.closing(_connect(path.as_uri())))
            if path.stat().st_size <= _MAX_CHECKED_BYTES:
                verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise _damage_error(path, verdict)
            # Before the log: the file itself says from then on that it is a hub's store.
            migrate(database)
            _check_tables(database, path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA journal_size_limit = {64 * MEBIBYTE}")
            stack.pop_all()
            return database


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the store at `path` to read it only."""
    return _connect(f"{path.as_uri()}?mode=ro")


def _connect(uri: str) -> sqlite3.Connection:
    # Only one thread at a time uses a connection, but not always the same thread.
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )


def _check_sqlite() -> None:
    # Older versions have no RETURNING.
    if sqlite3.sqlite_version_info < (3, 35):
        raise ConfigurationError(
            f"a hub's store needs SQLite 3.35 or later, and this Python has "
            f"{sqlite3.sqlite_version}; use a newer Python, or a PostgreSQL store"
        )


def _check_is_store(path: Path) -> None:
    """Raise an error unless `path` is a hub's store, an empty file, or missing; change nothing."""
    log, journal = sibling(path, "-wal"), sibling(path, "-journal")
    size = path.stat().st_size if path.exists() else 0
    if not size:
        if log.exists() and log.stat().st_size:
            raise ConfigurationError(
                f"{path} is missing or empty, but {log} is not: part of the store was lost; put it "
                f"back, or remove both to start with an empty store"
            )
        return
    with path.open("rb") as file:
        header = file.read(100)
    # A crash during the creation of the tables leaves zeros, and a journal that says so.
    is_cut_off = journal.exists() and not header.strip(b"\0")
    if not header.startswith(MAGIC) and not is_cut_off:
        raise ConfigurationError(
            f"{path} is not a hub's store: file is not a database; use another path"
        )
    # The newest first page may be only in SQLite's log or journal. To look there would change them.
    is_newest = not log.exists() and not journal.exists()
    if is_newest and header[APPLICATION_AT] != APPLICATION.to_bytes(4, "big"):
        raise _foreign_error(path)


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION and (application or version or tables):
        raise _foreign_error(path)
    if version > VERSION:
        raise ConfigurationError(
            f"the store at {path} has version {version}, and this arbprov knows versions up to "
            f"{VERSION}; use the arbprov that wrote it, or another path"
        )


def _check_tables(database: sqlite3.Connection, path: Path) -> None:
    names = "SELECT name FROM sqlite_master"
    with contextlib.closing(open_memory()) as complete:
        missing = set(complete.execute(names)) - set(database.execute(names))
    if missing:
        raise _damage_error(path, f"it lacks {', '.join(sorted(name for (name,) in missing))}")


def _foreign_error(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is another program's database, not a hub's store; use another path"
    )


def _damage_error(path: Path, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"the store at {path} is damaged ({found.strip()}); restore it from a backup, or move its "
        f"files away to start with an empty store"
    )
