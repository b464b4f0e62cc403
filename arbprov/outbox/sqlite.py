"""The file of a spool: an SQLite database that one process writes and only its user may read.

A task is a row. It has the task's texts while it runs, then its result, and at last how many
results the hub had taken before that one, and their bytes; so no state can contradict the rest.
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

from arbprov.errors import ConfigurationError
from arbprov.outbox.journal import StoredResult
from arbprov.task import Task

__all__ = ["Entry", "SpoolFile", "drop_letters", "read_spool"]

_MEBIBYTE = 1024 * 1024
# "arbp": no other program's database is taken for a spool.
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
class Entry:
    """What a spool has of one task.

    Attributes:
        state: ``started``, ``pending`` (its result waits for the hub) or ``dead`` (refused).
        id: The task's id.
        at: When it came into this state, in seconds since 1970.
        action: The task's action; None for a dead letter, whose message has it.
        size: Of its result, in bytes.
        reason: Why the hub refuses the result.
        message: The result that it refuses.
    """

    state: str
    id: str
    at: float
    action: str | None
    size: int | None
    reason: str | None
    message: bytes | None = attrs.field(repr=False)


class SpoolFile:
    """An open spool; all its methods block, and one thread at a time may call them.

    Args:
        path: Where it is, or will be made.
        most: How many results are kept that the hub has.
        most_bytes: How large they may be together.

    Raises:
        ConfigurationError: It can't be used; the message says why.
    """

    def __init__(
        self, path: Path, *, most: int = 100_000, most_bytes: int = 256 * _MEBIBYTE
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        with _explained(path):
            _make_private(path)
            self._owner = _owned(path)
            try:
                self._database = _opened(path)
                following = self._database.execute(_NEXT).fetchone()
            except BaseException:
                self._owner.close()
                raise
        # How many results the hub has taken, and how large they were together.
        self._taken: int = following[0] if following else 0
        self._total: int = following[1] if following else 0

    def close(self) -> None:
        """Close the file, and let another process have it."""
        self._database.close()
        self._owner.close()

    # Changes. Each may be made again after a failure, and then does no harm.

    def commit(self, changes: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make changes in one transaction that outlives a crash; return what they returned.

        Raises:
            sqlite3.Error: None of them is made, or all, and none is known to be.
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
        """Add a task, or return its result if it is there already."""
        row = attrs.asdict(task) | {"at": time.time()}
        if self._database.execute(_BEGIN, row).rowcount:
            return None
        return self.result_of(task.id)

    def finish(self, id: str, message: bytes) -> None:
        """Add a task's result, in the place of its texts."""
        self._database.execute(_FINISH, {"id": id, "message": message, "at": time.time()})

    def delivered(self, id: str, message: bytes) -> None:
        """Note that the hub has a result."""
        self._close_task(id, message)
        self._database.execute(_NO_DEAD_LETTER, {"id": id, "message": message})

    def refused(self, id: str, message: bytes, reason: str) -> None:
        """Note that the hub will never take a result."""
        self._close_task(id, message)
        letter = {"id": id, "message": message, "reason": reason, "at": time.time()}
        self._database.execute(_DEAD_LETTER, letter)

    def forget(self, id: str) -> None:
        """Remove a task."""
        self._database.execute("DELETE FROM task WHERE id = ?", [id])

    def _close_task(self, id: str, message: bytes) -> None:
        row = {"id": id, "taken": self._taken, "total": self._total, "at": time.time()}
        self._database.execute(_TAKEN, row)
        self._taken += 1
        self._total += len(message)
        self._evict()

    def _evict(self) -> None:
        while (oldest := self._database.execute(_OLDEST).fetchone()) is not None:
            taken, total = oldest
            if taken >= self._taken - self._most and total >= self._total - self._most_bytes:
                return
            self._database.execute("DELETE FROM task WHERE taken = ?", [taken])

    # Looks.

    def result_of(self, id: str) -> bytes | None:
        """Return a task's result, if it is there."""
        row = self._database.execute("SELECT message FROM task WHERE id = ?", [id]).fetchone()
        return None if row is None else row[0]

    def interrupted(self) -> list[Task]:
        """Return the tasks that have no result."""
        return [Task(*row) for row in self._database.execute(_INTERRUPTED)]

    def next_stored(self, after: int) -> StoredResult | None:
        """Return the first result with a number above `after` that the hub has not taken."""
        row = self._database.execute(_NEXT_STORED, [after]).fetchone()
        return None if row is None else StoredResult(*row)


def read_spool(path: Path) -> list[Entry]:
    """Return what a spool holds for the hub, and its dead letters, oldest first.

    Its owner may be running.

    Raises:
        ConfigurationError: There is no spool, or it can't be read.
    """
    with _visited(path, "ro") as database:
        return [Entry(*row) for row in database.execute(_ENTRIES)]


def drop_letters(path: Path, ids: Iterable[str]) -> int:
    """Remove dead letters from a spool, whose owner may be running; return how many there were.

    Raises:
        ConfigurationError: There is no spool, or it can't be written.
    """
    with _visited(path, "rw") as database:
        drops = [database.execute("DELETE FROM dead_letter WHERE id = ?", [one]) for one in ids]
        return sum(drop.rowcount for drop in drops)


@contextlib.contextmanager
def _visited(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise ConfigurationError(f"there is no spool at {path}")
    with _explained(path):
        uri = f"{path.as_uri()}?mode={mode}"
        with contextlib.closing(_connected(uri)) as database:
            _check(database, path)
            yield database


# Opening.


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the spool at {path} can't be used: {error}; it has to be a file of its own, in a "
            f"folder that is there and that this user may write to"
        ) from error


def _make_private(path: Path) -> None:
    # SQLite gives the files beside it the mode of the first one; but they may be there already.
    for name in (path, _beside(path, "-owner")):
        # Not opened if it is there: to close it would end the locks that this process has on it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for suffix in ("", "-owner", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _tighten(_beside(path, suffix))


def _tighten(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is no plain file, and can't be a part of a spool")
    if found.st_uid != getattr(os, "geteuid", lambda: found.st_uid)():
        raise ConfigurationError(f"{path} belongs to another user, who could read what is in it")
    if found.st_mode & 0o077:
        path.chmod(0o600)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _owned(path: Path) -> sqlite3.Connection:
    """Return a lock on a spool that ends with this process, however that ends."""
    # A lock of SQLite's, since those are the same on every system, and no forked child has them.
    owner = _connected(_beside(path, "-owner").as_uri())
    try:
        owner.execute("PRAGMA busy_timeout = 0")
        owner.execute("PRAGMA journal_mode = OFF")
        owner.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        owner.close()
        if "locked" not in str(error):
            raise
        raise ConfigurationError(
            f"the spool at {path} is in use: each running provider needs one of its own"
        ) from None
    return owner


def _opened(path: Path) -> sqlite3.Connection:
    database = _connected(path.as_uri())
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {16 * _MEBIBYTE}")
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(_SCHEMA)
        _check(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _connected(uri: str) -> sqlite3.Connection:
    # Whoever uses the connection keeps to one thread at a time, though not always the same.
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _check(database: sqlite3.Connection, path: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise ConfigurationError(f"{path} is another program's database, and no spool")
    if version != _VERSION:
        raise ConfigurationError(
            f"the spool at {path} is of version {version}, and this arbprov writes {_VERSION}; "
            f"let the one that has made it send what is in it, then remove it"
        )
