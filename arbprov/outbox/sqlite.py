"""The spool's file: an SQLite database that one process writes and only its user can read.

Each task is a row. While the task runs, the row has its payload and account; then its result
(``message``); and once the hub has the result, the number of results that the hub accepted before
(``taken``) and their bytes (``total``). The columns cannot contradict each other. ``crc`` is the
checksum of the result: a result that the disk has damaged is never sent. A task that the hub
retries has a row for each ``attempt``, which is 0 if the hub does not number attempts.

The table ``origin`` has one row: the provider and the hub that the spool's tasks belong to.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from arbprov._utils import MEBIBYTE, format_count
from arbprov.errors import ConfigurationError
from arbprov.outbox.files import APPLICATION, claim
from arbprov.outbox.journal import DAMAGED, StoredResult
from arbprov.owned_files import count_lost_commits, explain_errors
from arbprov.task import Task, TaskKey

__all__ = [
    "SpoolEntry",
    "SpoolFile",
    "SpoolOrigin",
    "drop_dead_letters",
    "move_spool",
    "read_origin",
    "read_spool",
]

logger = logging.getLogger("arbprov")

# 2 was never used. A spool of an older version is brought to this one when it is opened.
_VERSION = 4
_VERSIONS = {1, 3, _VERSION}
_ORIGIN_TABLE = """
CREATE TABLE origin (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    provider TEXT NOT NULL,
    url TEXT NOT NULL
);
"""
_TASK_TABLES = """
CREATE TABLE task (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    action TEXT NOT NULL,
    payload BLOB,
    account BLOB,
    message BLOB,
    taken INTEGER,
    total INTEGER,
    at REAL NOT NULL,
    crc INTEGER,
    UNIQUE (id, attempt)
);
CREATE INDEX task_open ON task (number) WHERE taken IS NULL;
CREATE INDEX task_taken ON task (taken, total) WHERE taken IS NOT NULL;
CREATE TABLE dead_letter (
    id TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    message BLOB NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (id, attempt)
);
"""
_SCHEMA = f"""
BEGIN;
{_TASK_TABLES}
{_ORIGIN_TABLE}
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {_VERSION};
COMMIT;
"""
# What brings a spool of each older version to the next, each in one transaction. SQLite cannot
# change what is unique, so the tables of version 3 are copied.
_MIGRATIONS = {
    1: f"""
BEGIN IMMEDIATE;
ALTER TABLE task ADD COLUMN crc INTEGER;
{_ORIGIN_TABLE}
PRAGMA user_version = 3;
COMMIT;
""",
    3: """
BEGIN IMMEDIATE;
DROP INDEX IF EXISTS task_open;
DROP INDEX IF EXISTS task_taken;
ALTER TABLE task RENAME TO old_task;
ALTER TABLE dead_letter RENAME TO old_dead_letter;
"""
    + _TASK_TABLES
    + """
INSERT INTO task (number, id, action, payload, account, message, taken, total, at, crc)
SELECT number, id, action, payload, account, message, taken, total, at, crc FROM old_task;
INSERT INTO dead_letter (id, message, reason, at)
SELECT id, message, reason, at FROM old_dead_letter;
DROP TABLE old_task;
DROP TABLE old_dead_letter;
PRAGMA user_version = 4;
COMMIT;
""",
}
_COLUMNS = {
    "task": "number id attempt action payload account message taken total at crc",
    "dead_letter": "id attempt message reason at",
    "origin": "one provider url",
}
_BEGIN = """
INSERT OR IGNORE INTO task (id, attempt, action, payload, account, at)
VALUES (:id, :attempt, :action, :payload, :account, :at)
"""
_FINISH = """
UPDATE task SET message = :message, payload = NULL, account = NULL, taken = NULL, at = :at,
crc = :crc
WHERE id = :id AND attempt = :attempt
"""
_RESULT = "SELECT message, crc FROM task WHERE id = ? AND attempt = ?"
_FORGET = "DELETE FROM task WHERE id = ? AND attempt = ?"
_TAKEN = """
UPDATE task SET taken = :taken, total = :total, at = :at WHERE id = :id AND attempt = :attempt
"""
_NO_DEAD_LETTER = """
DELETE FROM dead_letter WHERE id = :id AND attempt = :attempt AND message = :message
"""
_DEAD_LETTER = """
INSERT OR REPLACE INTO dead_letter (id, attempt, message, reason, at)
VALUES (:id, :attempt, :message, :reason, :at)
"""
_NEXT = """
SELECT taken + 1, total + length(message) FROM task
WHERE taken IS NOT NULL ORDER BY taken DESC LIMIT 1
"""
_OLDEST = "SELECT taken, total FROM task WHERE taken IS NOT NULL ORDER BY taken LIMIT 1"
# A damaged row may hold another type.
_INTERRUPTED = """
SELECT id, action, CAST(coalesce(payload, '') AS BLOB), CAST(coalesce(account, '') AS BLOB),
       attempt
FROM task WHERE taken IS NULL AND message IS NULL ORDER BY number
"""
_NEXT_STORED = """
SELECT number, id, attempt, action, message, crc FROM task
WHERE taken IS NULL AND message IS NOT NULL AND number > ? ORDER BY number LIMIT 1
"""
# The versions before 4 have no attempts.
_ENTRIES = """
SELECT CASE WHEN message IS NULL THEN 'started' ELSE 'pending' END,
       id, at, action, length(message), NULL, NULL, {attempt}
FROM task WHERE taken IS NULL
UNION ALL
SELECT 'dead', id, at, NULL, length(message), reason, CAST(message AS BLOB), {attempt}
FROM dead_letter
ORDER BY at
"""
_UNDELIVERED = "SELECT count(*) FROM task WHERE taken IS NULL"
_ORIGIN = "SELECT provider, url FROM origin"
_SET_ORIGIN = "INSERT OR REPLACE INTO origin VALUES (1, :provider, :url)"


@attrs.frozen
class SpoolOrigin:
    """The provider and the hub that a spool's tasks belong to.

    Attributes:
        provider: The provider's name.
        url: The hub's URL, as configured.

    >>> print(SpoolOrigin("weather", "hub:50051"))
    provider 'weather' at the hub 'hub:50051'
    """

    provider: str
    url: str

    def __str__(self) -> str:
        return f"provider {self.provider!r} at the hub {self.url!r}"


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
        attempt: The hub's number of the task's attempt.
    """

    state: str
    id: str
    at: float
    action: str | None
    size: int | None
    reason: str | None
    message: bytes | None = attrs.field(repr=False)
    attempt: int


class SpoolFile:
    """An open spool. Its methods block; only one thread at a time may call them.

    Args:
        path: Path of the file, which is created if it does not exist.
        origin: The provider and the hub; a spool of another origin is taken over if it has nothing
            undelivered. None leaves it as it is.
        max_results: How many results to keep that the hub has.
        max_bytes: Bytes of these results together.

    Raises:
        ConfigurationError: The file cannot be used; the message says why.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spool = SpoolFile(Path(folder) / "spool")
    ...     returned = spool.commit([
    ...         lambda: spool.begin(Task("t1", "forecast")),
    ...         lambda: spool.finish(("t1", 0), b"result"),
    ...     ])
    ...     spool.find_result(("t1", 0))
    ...     spool.close()
    b'result'
    """

    def __init__(
        self,
        path: Path,
        *,
        origin: SpoolOrigin | None = None,
        max_results: int = 100_000,
        max_bytes: int = 256 * MEBIBYTE,
    ) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        with explain_errors("spool", path, _damage_error), contextlib.ExitStack() as stack:
            lock = stack.enter_context(contextlib.closing(claim(path)))
            self._database = stack.enter_context(contextlib.closing(_open_database(path)))
            if origin is not None:
                self._take_over(path, origin)
            following = self._database.execute(_NEXT).fetchone()
            stack.pop_all()
        self._lock = lock
        # How many results the hub has accepted so far, and their bytes together.
        self._taken: int = following[0] if following else 0
        self._total: int = following[1] if following else 0

    def close(self) -> None:
        """Close the file and unlock it for another process."""
        self._database.close()
        self._lock.close()

    def _take_over(self, path: Path, origin: SpoolOrigin) -> None:
        """Have the spool belong to `origin`.

        Raises:
            ConfigurationError: The spool has undelivered tasks of another origin: the hub must not
                get another account's data, and tasks with the same ids are not the same tasks.
        """
        found = _find_origin(self._database)
        if found == origin:
            return
        undelivered = self._database.execute(_UNDELIVERED).fetchone()[0]
        if found is None and undelivered:
            logger.warning(
                "the spool at %s does not say whose it is; its tasks (%d undelivered) are "
                "taken for tasks of %s",
                path,
                undelivered,
                origin,
            )
        elif found is not None and undelivered:
            tasks = format_count(undelivered, "undelivered task")
            raise ConfigurationError(
                f"the spool at {path} has {tasks} of {found}, and this is "
                f"{origin}: give it another spool, or start {found} once more to deliver them; if "
                f"the tasks do belong to the new one, run `arbprov outbox {path} --move-to "
                f"{origin.provider} {origin.url}`"
            )
        elif found is not None:
            logger.warning("the spool at %s was of %s and is empty now", path, found)
        self.commit([lambda: self._set_origin(origin, forget=not undelivered)])

    def _set_origin(self, origin: SpoolOrigin, *, forget: bool) -> None:
        if forget:
            self._database.execute("DELETE FROM task")
        self._database.execute(_SET_ORIGIN, attrs.asdict(origin))

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

    def attempt(self, change: Callable[[], Any]) -> None:
        """Make a change in a transaction, and roll it back; an error of the change is raised."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            change()
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")

    def begin(self, task: Task) -> bytes | None:
        """Add a task; if it is known, return its result; see `find_result`."""
        row = attrs.asdict(task) | {"at": time.time()}
        if self._database.execute(_BEGIN, row).rowcount:
            return None
        return self.find_result(task.key)

    def finish(self, key: TaskKey, message: bytes) -> None:
        """Replace a task's payload and account by its result."""
        row = _row(key, message=message, crc=zlib.crc32(message))
        self._database.execute(_FINISH, row)

    def mark_delivered(self, key: TaskKey, message: bytes) -> None:
        """Record that the hub has a result."""
        self._mark_taken(key, message)
        self._database.execute(_NO_DEAD_LETTER, _row(key, message=message))

    def mark_refused(self, key: TaskKey, message: bytes, reason: str) -> None:
        """Record that the hub refuses a result for good, and keep it as a dead letter."""
        self._mark_taken(key, message)
        self._database.execute(_DEAD_LETTER, _row(key, message=message, reason=reason))

    def forget(self, key: TaskKey) -> None:
        """Remove a task."""
        self._database.execute(_FORGET, key)

    def _mark_taken(self, key: TaskKey, message: bytes) -> None:
        """Record that a result needs no more attempts, and remove the oldest such results."""
        self._database.execute(_TAKEN, _row(key, taken=self._taken, total=self._total))
        self._taken += 1
        self._total += len(message)
        while (oldest := self._database.execute(_OLDEST).fetchone()) is not None:
            taken, total = oldest
            if taken >= self._taken - self._max_results and total >= self._total - self._max_bytes:
                return
            self._database.execute("DELETE FROM task WHERE taken = ?", [taken])

    # Queries.

    def find_result(self, key: TaskKey) -> bytes | None:
        """Return a task's result; None if there is none, and `DAMAGED` if the disk damaged it."""
        row = self._database.execute(_RESULT, key).fetchone()
        if row is None or row[0] is None:
            return None
        return row[0] if _is_intact(*row) else DAMAGED

    def interrupted_tasks(self) -> list[Task]:
        """Return the tasks without a result, in the order of arrival."""
        return [
            Task(task_id, action, payload, account, attempt=attempt)
            for task_id, action, payload, account, attempt in self._database.execute(_INTERRUPTED)
        ]

    def next_stored(self, after: int) -> StoredResult | None:
        """Return the next result for the hub; see `Journal.next_stored`."""
        row = self._database.execute(_NEXT_STORED, [after]).fetchone()
        if row is None:
            return None
        number, task_id, attempt, action, message, crc = row
        is_damaged = not _is_intact(message, crc)
        if not isinstance(message, bytes):
            message = str(message).encode()
        return StoredResult(number, task_id, message, action, is_damaged, attempt)


def _row(key: TaskKey, **columns: Any) -> dict[str, Any]:
    """Return the columns of a task's row that changes now."""
    return {"id": key[0], "attempt": key[1], "at": time.time(), **columns}


def _is_intact(message: object, crc: int | None) -> bool:
    """Return whether a result is as it was stored; version 1 stored no checksums."""
    return isinstance(message, bytes) and (crc is None or zlib.crc32(message) == crc)


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
        attempt = "attempt" if _read_version(database) == _VERSION else "0"
        return [SpoolEntry(*row) for row in database.execute(_ENTRIES.format(attempt=attempt))]


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
    # The provider may have lost SQLite's locks, which any code of its process that closes the file
    # releases. Then this connection would remove the provider's log when it closes: this reader
    # keeps it from that.
    with _open_existing(path, "ro") as reader, _open_existing(path, "rw") as database:
        reader.execute(_UNDELIVERED).fetchone()
        delete = "DELETE FROM dead_letter WHERE id = ?"
        return sum(database.execute(delete, [name]).rowcount for name in ids)


def read_origin(path: Path) -> SpoolOrigin | None:
    """Return the provider and the hub of a spool; None if no provider has used it yet.

    Raises:
        ConfigurationError: There is no spool at `path`, or it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spool"
    ...     SpoolFile(path, origin=SpoolOrigin("weather", "hub:50051")).close()
    ...     read_origin(path)
    SpoolOrigin(provider='weather', url='hub:50051')
    """
    with _open_existing(path, "ro") as database:
        return _find_origin(database)


def move_spool(path: Path, origin: SpoolOrigin) -> int:
    """Have a spool and all its tasks belong to another provider or hub.

    Returns:
        How many of its tasks are undelivered.

    Raises:
        ConfigurationError: There is no spool at `path`, its provider is running, or it cannot be
            written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "spool"
    ...     SpoolFile(path, origin=SpoolOrigin("weather", "hub:50051")).close()
    ...     undelivered = move_spool(path, SpoolOrigin("weather", "new-hub:50051"))
    ...     print(undelivered, read_origin(path))
    0 provider 'weather' at the hub 'new-hub:50051'
    """
    with _open_existing(path, "ro"):
        spool = SpoolFile(path)
    with contextlib.closing(spool), explain_errors("spool", path, _damage_error):
        spool.commit([lambda: spool._set_origin(origin, forget=False)])
        undelivered: int = spool._database.execute(_UNDELIVERED).fetchone()[0]
        return undelivered


@contextlib.contextmanager
def _open_existing(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise ConfigurationError(f"there is no spool at {path}")
    with explain_errors("spool", path, _damage_error):
        uri = f"{path.as_uri()}?mode={mode}"
        with contextlib.closing(_connect(uri)) as database:
            _check_version(database, path)
            yield database


def _open_database(path: Path) -> sqlite3.Connection:
    # A connection that may write would remove a damaged log when it closes.
    with contextlib.closing(_connect(f"{path.as_uri()}?mode=ro")) as reader:
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (lost := count_lost_commits(path)) > 1:
            raise _damage_error(path, f"{lost} transactions in its -wal file cannot be read")
    database = _connect(path.as_uri())
    try:
        # Before the log: the file itself says from then on that it is a spool.
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(_SCHEMA)
        _check_version(database, path)
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _damage_error(path, verdict)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {16 * MEBIBYTE}")
        while (version := _read_version(database)) != _VERSION:
            database.executescript(_MIGRATIONS[version])
        for table, columns in _COLUMNS.items():
            found = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if missing := set(columns.split()) - found:
                raise _damage_error(path, f"table {table} lacks {', '.join(sorted(missing))}")
    except BaseException:
        database.close()
        raise
    return database


def _connect(uri: str) -> sqlite3.Connection:
    # Only one thread at a time uses the connection, but not always the same thread.
    database = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    # A damaged id must not keep the other tasks from being read.
    database.text_factory = lambda text: text.decode(errors="replace")
    return database


def _find_origin(database: sqlite3.Connection) -> SpoolOrigin | None:
    if _read_version(database) == 1:
        return None
    row = database.execute(_ORIGIN).fetchone()
    return None if row is None else SpoolOrigin(*row)


def _read_version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = _read_version(database)
    if application != APPLICATION:
        raise ConfigurationError(
            f"{path} is another program's database, not a spool; use another path"
        )
    if version not in _VERSIONS:
        raise ConfigurationError(
            f"the spool at {path} has version {version}, but this arbprov uses version {_VERSION}; "
            f"run the arbprov that created it until its results are sent, then remove it"
        )


def _damage_error(path: Path, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"the spool at {path} is damaged ({found.strip()}), so its results can't be sent; move "
        f"its files away, and start with a new spool"
    )
