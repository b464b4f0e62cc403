"""The files of an SQLite database that one process owns: locked, private to their user, undamaged.

A database at DATA has SQLite's DATA-wal and DATA-shm beside it, and DATA-owner, which its process
locks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import stat
import struct
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from arbprov.errors import ConfigurationError

__all__ = [
    "APPLICATION_AT",
    "MAGIC",
    "FileLock",
    "LogPage",
    "count_lost_commits",
    "explain_errors",
    "own_files",
    "read_log",
    "sibling",
]

_SUFFIXES = ("", "-owner", "-wal", "-shm", "-journal")
#: How a database of SQLite begins.
MAGIC = b"SQLite format 3\0"
#: Where a database has its application id.
APPLICATION_AT = slice(68, 72)
# How SQLite's log has its pages.
_LOG_HEADER = struct.Struct(">8xI4x8s8x")
_LOG_FRAME = struct.Struct(">II8s8x")
# Where the index of the log has the number of its last valid page, in the machine's byte order.
_LAST_FRAME_AT = slice(16, 20)


class FileLock:
    """Locks a file until it is closed or this process ends, even by a crash.

    The lock belongs to the open file, so other code of this process that opens and closes the
    database's files, as a backup does, cannot release it.

    Args:
        path: Path of the file to lock, which is created if it does not exist.

    Raises:
        BlockingIOError: The file is locked already, by this process or another.
        OSError: The file cannot be locked.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = FileLock(Path(folder) / "data-owner")
    ...     with contextlib.suppress(BlockingIOError):
    ...         FileLock(Path(folder) / "data-owner")
    ...     lock.close()
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | _NO_FOLLOW, 0o600)
        try:
            _lock(self._descriptor)
        except BaseException:
            self.close()
            raise
        _locks.add(self)

    def close(self) -> None:
        """Unlock the file."""
        os.close(self._descriptor)
        _locks.discard(self)


# A forked child would keep a lock for as long as it runs.
_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    import msvcrt

    def _lock(descriptor: int) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close_in_fork() -> None:  # pragma: no cover - in a process that is not measured
    for lock in list(_locks):
        lock.close()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_close_in_fork)


def own_files(path: Path, check_content: Callable[[Path], None]) -> FileLock:
    """Lock the database at `path` for this process, and create its files if there are none.

    Nothing is changed, and nothing is left beside it, if a check fails.

    Args:
        path: Path of the database.
        check_content: Raises an error if the file is another kind of file; it changes nothing.

    Raises:
        ConfigurationError: A file belongs to another user, has a second name, or is no plain file.
        BlockingIOError: Another process owns the database, or this one already.
        OSError: The files cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     own_files(Path(folder) / "data", lambda path: None).close()
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['data', 'data-owner']
    """
    for suffix in _SUFFIXES:
        _check_file(sibling(path, suffix))
    owner = sibling(path, "-owner")
    # Without this file, no process owns the database, so its files may be opened and closed: that
    # would release SQLite's locks of this process.
    lock = FileLock(owner) if owner.exists() else None
    try:
        check_content(path)
        lock = lock or FileLock(owner)
        # SQLite gives the other files the mode of the database; but they may exist already.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                if sibling(path, suffix).lstat().st_mode & 0o077:
                    sibling(path, suffix).chmod(0o600)
    except BaseException:
        if lock is not None:
            lock.close()
        raise
    return lock


def sibling(path: Path, suffix: str) -> Path:
    """Return the path of a file beside a database.

    >>> print(sibling(Path("folder/data"), "-wal"))
    folder/data-wal
    """
    return path.with_name(path.name + suffix)


def _check_file(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is not a regular file, so no data can be kept in it")
    if found.st_uid != getattr(os, "geteuid", lambda: found.st_uid)():
        raise ConfigurationError(
            f"{path} belongs to another user, who could read the tasks in it; use another path"
        )
    if found.st_nlink > 1:
        raise ConfigurationError(
            f"{path} has a second name (a hard link), by which another process could use it at "
            f"the same time; remove that name, or use another path"
        )


@contextlib.contextmanager
def explain_errors(
    name: str, path: Path, damaged: Callable[[Path, str], ConfigurationError]
) -> Iterator[None]:
    """Raise SQLite's and the system's errors as a `ConfigurationError` that says what to do.

    Args:
        name: What the database is, such as ``spool``.
        path: Path of the database.
        damaged: Returns the error for a damaged database, with what SQLite says.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        # SQLite's subclasses are for trouble around the file, such as a full disk.
        if type(error) is sqlite3.DatabaseError:
            raise damaged(path, str(error)) from None
        raise ConfigurationError(
            f"the {name} at {path} can't be used: {error}; it must be a file of its own, in an "
            f"existing folder that this user may write to"
        ) from error


def count_lost_commits(path: Path) -> int:
    """Return how many transactions in SQLite's log cannot be read, because one of them is damaged.

    SQLite silently ends its log at the first damaged page. One transaction may be there that
    a crash has cut off while it was written; any more had been written for good.

    Args:
        path: Path of the database, which this process has opened and read.
    """
    log, index = sibling(path, "-wal"), sibling(path, "-shm")
    if not (log.exists() and index.exists()):
        return 0
    with index.open("rb") as file:
        last = int.from_bytes(file.read(20)[_LAST_FRAME_AT], sys.byteorder)
    return sum(page.is_commit for page in read_log(log) if page.number > last)


class LogPage(NamedTuple):
    """A page in SQLite's log.

    Attributes:
        number: Its place in the log.
        is_commit: Whether it ends a transaction.
        application: The application id, if it is the database's first page; else empty.
    """

    number: int
    is_commit: bool
    application: bytes


def read_log(log: Path) -> Iterator[LogPage]:
    """Yield the pages in SQLite's log, but not those that an older log has left behind."""
    with log.open("rb") as file:
        header = file.read(_LOG_HEADER.size)
        if len(header) < _LOG_HEADER.size:
            return
        page_size, salt = _LOG_HEADER.unpack(header)
        for number in itertools.count(1):  # pragma: no branch - the end of the file ends it
            frame = file.read(_LOG_FRAME.size)
            if len(frame) < _LOG_FRAME.size:
                return
            page_number, commit_size, frame_salt = _LOG_FRAME.unpack(frame)
            page = file.read(page_size) if page_number == 1 else b""
            file.seek(page_size - len(page), os.SEEK_CUR)
            if frame_salt == salt:
                yield LogPage(number, commit_size > 0, page[APPLICATION_AT])
