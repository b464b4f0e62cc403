"""The spool's file: an SQLite database that one process writes and only its user can read.

Each task is a row. While the task runs, the row has its payload and account; then its result
(``message``); and once the hub has the result, the number of results that the hub accepted before
(``taken``) and their bytes (``total``). The columns cannot contradict each other.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from arbprov._utils import MEBIBYTE
from arbprov.errors import ConfigurationError
from arbprov.outbox.journal import StoredResult
from arbprov.task import Task

__all__ = ["SpoolEntry", "SpoolFile", "drop_dead_letters", "read_spool"]

# "arbp": tells a spool from another program's database.
_APPLICATION = 0x61726270
_VERSION = 1
_SCHEMA = f"""
BEGIN;
CREATE TABLE task (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    payload BLOB,
    account BLOB,
    message BLOB,
    taken INTEGER,
    total INTEGER,
    at REAL NOT NULL
);
CREATE INDEX task_open ON task (number) WHERE taken IS NULL;
CREATE INDEX task_taken ON task (taken, total) WHERE taken IS NOT NULL;
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    message BLOB NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_BEGIN = """
INSERT OR IGNORE INTO task (id, action, payload, account, at)
VALUES (:id, :action, :payload, :account, :at)
"""
_FINISH = """
UPDATE task SET message = :message, payload = NULL, account = NULL, taken = NULL, at = :at
WHERE id = :id
"""
_TAKEN = "UPDATE task SET taken = :taken, total = :total, at = :at WHERE id = :id"
_NO_DEAD_LETTER = "DELETE FROM dead_letter WHERE id = :id AND message = :message"
_DEAD_LETTER = "INSERT OR REPLACE INTO dead_letter VALUES (:id, :message, :reason, :at)"
_NEXT = """
SELECT taken + 1, total + length(message) FROM task
WHERE taken IS NOT NULL ORDER BY taken DESC LIMIT 1
"""
_OLDEST = "SELECT taken, total FROM task WHERE taken IS NOT NULL ORDER BY taken LIMIT 1"
_INTERRUPTED = """
SELECT id, action, payload, account FROM task WHERE taken IS NULL AND message IS NULL
ORDER BY number
"""
_NEXT_STORED = """
SELECT number, id, message FROM task
WHERE taken IS NULL AND message IS NOT NULL AND number > ? ORDER BY number LIMIT 1
"""
_ENTRIES = """
SELECT CASE WHEN message IS NULL THEN 'started' ELSE 'pending' END,
       id, at, action, length(message), NULL, NULL
FROM task WHERE taken IS NULL
UNION ALL
SELECT 'dead', id, at, NULL, length(message), reason, message FROM dead_letter
ORDER BY at
"""


@attrs.frozen
class SpoolEntry:
    """A task or a dead letter in a spool.

    Attributes:
        state: ``started`` (the task runs), ``pending`` (its result waits for the hub) or ``dead``
            (the hub refuses its result for good).
        id: The task's id.
        at: When the state was reached, in seconds since 1970.
        action: The task's action; None for a dead letter, whose message has it.
        size: Bytes of the result.
        reason: Why the hub refuses the result.
        message: The refused result, encoded.
    """

    state: str
    id: str
    at: float
    action: str | None
    size: int | None
    reason: str | None
    message: bytes | None = attrs.field(repr=False)


class SpoolFile:
    """An open spool. Its methods block; only one thread at a time may call them.

    Args:
        path: Path of the file, which is created if it does not exist.
        max_results: How many results to keep that the hub has.
        max_bytes: Bytes of these results together.

    Raises:
        ConfigurationError: The file cannot be used; the message says why.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spool = SpoolFile(Path(folder) / "spool")
    ...     returned = spool.commit([
    ...         lambda: spool.begin(Task("t1", "forecast")),
    ...         lambda: spool.finish("t1", b"result"),
    ...     ])
    ...     spool.find_result("t1")
    ...     spool.close()
    b'result'
    """

    def __init__(
        self, path: Path, *, max_results: int = 100_000, max_bytes: int = 256 * MEBIBYTE
    ) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        with _explain_errors(path):
            _create_private_files(path)
            self._lock = _acquire_lock(path)
            try:
                self._database = _open_database(path)
                following = self._database.execute(_NEXT).fetchone()
            except BaseException:
                self._lock.close()
                raise
        # How many results the hub has accepted so far, and their bytes together.
        self._taken: int = following[0] if following else 0
        self._total: int = following[1] if following else 0

    def close(self) -> None:
        """Close the file and unlock it for another process."""
        self._database.close()
        self._lock.close()

    # Changes: each can be repeated after a failure without harm.

    def commit(self, changes: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make changes in one durable transaction; return the values that they returned.

        Raises:
            sqlite3.Error: The transaction failed; none or all of the changes were made, so repeat
                them.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            returned = [change() for change in changes]
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
        return returned

    def begin(self, task: Task) -> bytes | None:
        """Add a task; if it is known, return its result, or None while it has none."""
        row = attrs.asdict(task) | {"at": time.time()}
        if self._database.execute(_BEGIN, row).rowcount:
            return None
        return self.find_result(task.id)

    def finish(self, id: str, message: bytes) -> None:
        """Replace a task's payload and account by its result."""
        self._database.execute(_FINISH, {"id": id, "message": message, "at": time.time()})

    def mark_delivered(self, id: str, message: bytes) -> None:
        """Record that the hub has a result."""
        self._mark_taken(id, message)
        self._database.execute(_NO_DEAD_LETTER, {"id": id, "message": message})

    def mark_refused(self, id: str, message: bytes, reason: str) -> None:
        """Record that the hub refuses a result for good, and keep it as a dead letter."""
        self._mark_taken(id, message)
        letter = {"id": id, "message": message, "reason": reason, "at": time.time()}
        self._database.execute(_DEAD_LETTER, letter)

    def forget(self, id: str) -> None:
        """Remove a task."""
        self._database.execute("DELETE FROM task WHERE id = ?", [id])

    def _mark_taken(self, id: str, message: bytes) -> None:
        """Record that a result needs no more attempts, and remove the oldest such results."""
        row = {"id": id, "taken": self._taken, "total": self._total, "at": time.time()}
        self._database.execute(_TAKEN, row)
        self._taken += 1
        self._total += len(message)
        while (oldest := self._database.execute(_OLDEST).fetchone()) is not None:
            taken, total = oldest
            if taken >= self._taken - self._max_results and total >= self._total - self._max_bytes:
                return
            self._database.execute("DELETE FROM task WHERE taken = ?", [taken])

    # Queries.

    def find_result(self, id: str) -> bytes | None:
        """Return a task's result, or None."""
        row = self._database.execute("SELECT message FROM task WHERE id = ?", [id]).fetchone()
        return None if row is None else row[0]

    def interrupted_tasks(self) -> list[Task]:
        """Return the tasks without a result, in the order of arrival."""
        return [Task(*row) for row in self._database.execute(_INTERRUPTED)]

    def next_stored(self, after: int) -> StoredResult | None:
        """Return the next result for the hub; see `Journal.next_stored`."""
        row = self._database.execute(_NEXT_STORED, [after]).fetchone()
        return None if row is None else StoredResult(*row)


def read_spool(path: Path) -> list[SpoolEntry]:
    """Return a spool's unfinished tasks, waiting results and dead letters, oldest first.

    Its provider may be running.

    Raises:
        ConfigurationError: There is no spool at `path`, or it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spool"
    ...     spool = SpoolFile(path)
    ...     returned = spool.commit([lambda: spool.begin(Task("t1", "forecast"))])
    ...     [(entry.id, entry.state) for entry in read_spool(path)]
    ...     spool.close()
    [('t1', 'started')]
    """
    with _open_existing(path, "ro") as database:
        return [SpoolEntry(*row) for row in database.execute(_ENTRIES)]


def drop_dead_letters(path: Path, ids: Iterable[str]) -> int:
    """Remove dead letters from a spool, whose provider may be running.

    Args:
        path: Path of the spool.
        ids: Ids of the dead letters' tasks; unknown ids are ignored.

    Returns:
        How many dead letters were removed.

    Raises:
        ConfigurationError: There is no spool at `path`, or it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spool"
    ...     SpoolFile(path).close()
    ...     drop_dead_letters(path, ["t1"])
    0
    """
    with _open_existing(path, "rw") as database:
        delete = "DELETE FROM dead_letter WHERE id = ?"
        return sum(database.execute(delete, [name]).rowcount for name in ids)


@contextlib.contextmanager
def _open_existing(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise ConfigurationError(f"there is no spool at {path}")
    with _explain_errors(path):
        uri = f"{path.as_uri()}?mode={mode}"
        with contextlib.closing(_connect(uri)) as database:
            _check(database, path)
            yield database


@contextlib.contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the spool at {path} can't be used: {error}; it must be a file of its own, in an "
            f"existing folder that this user may write to"
        ) from error


# Files: SPOOL, SQLite's SPOOL-wal and SPOOL-shm, and SPOOL-owner, which is locked while in use.


def _create_private_files(path: Path) -> None:
    # SQLite gives -wal and -shm the mode of the database; but they may exist already.
    for name in (path, _sibling(path, "-owner")):
        # An existing file is not opened: closing it would release this process's locks on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for suffix in ("", "-owner", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _make_private(_sibling(path, suffix))


def _make_private(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is not a regular file, so it can't be part of a spool")
    if found.st_uid != getattr(os, "geteuid", lambda: found.st_uid)():
        raise ConfigurationError(
            f"{path} belongs to another user, who could read the spool; use another path"
        )
    if found.st_mode & 0o077:
        path.chmod(0o600)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _acquire_lock(path: Path) -> sqlite3.Connection:
    """Lock a spool until the connection is closed or this process ends, even by a crash."""
    # SQLite's locks work the same on every system, and a forked child does not inherit them.
    connection = _connect(_sibling(path, "-owner").as_uri())
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        if "locked" not in str(error):
            raise
        raise ConfigurationError(
            f"the spool at {path} is in use: each running provider needs a spool of its own"
        ) from None
    return connection


def _open_database(path: Path) -> sqlite3.Connection:
    database = _connect(path.as_uri())
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {16 * MEBIBYTE}")
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(_SCHEMA)
        _check(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _connect(uri: str) -> sqlite3.Connection:
    # Only one thread at a time uses the connection, but not always the same thread.
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _check(database: sqlite3.Connection, path: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise ConfigurationError(
            f"{path} is another program's database, not a spool; use another path"
        )
    if version != _VERSION:
        raise ConfigurationError(
            f"the spool at {path} has version {version}, but this arbprov uses version {_VERSION}; "
            f"run the arbprov that created it until its results are sent, then remove it"
        )
