"""The spool's files: looked at before anything is written, private to their user, and locked.

A spool at SPOOL has SQLite's SPOOL-wal and SPOOL-shm beside it, and SPOOL-owner, which its provider
locks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import struct
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arbprov.errors import ConfigurationError

__all__ = ["APPLICATION", "SpoolLock", "claim", "count_lost_commits"]

# "arbp": tells a spool from another program's database.
APPLICATION = 0x61726270
_APPLICATION_BYTES = APPLICATION.to_bytes(4, "big")

_SUFFIXES = ("", "-owner", "-wal", "-shm", "-journal")
# SQLite's file formats: where a database has its application id, and how a log has its pages.
_MAGIC = b"SQLite format 3\0"
_APPLICATION_AT = slice(68, 72)
_LOG_HEADER = struct.Struct(">8xI4x8s8x")
_LOG_FRAME = struct.Struct(">II8s8x")
# Where the index of the log has the number of its last valid page, in the machine's byte order.
_LAST_FRAME_AT = slice(16, 20)


class SpoolLock:
    """Locks a spool until it is closed or this process ends, even by a crash.

    The lock belongs to the open file, so other code of this process that opens and closes the
    spool's files, as a backup does, cannot release it.

    Args:
        path: Path of the file to lock, which is created if it does not exist.

    Raises:
        BlockingIOError: The file is locked already, by this process or another.
        OSError: The file cannot be locked.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = SpoolLock(Path(folder) / "spool-owner")
    ...     with contextlib.suppress(BlockingIOError):
    ...         SpoolLock(Path(folder) / "spool-owner")
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
_locks: weakref.WeakSet[SpoolLock] = weakref.WeakSet()
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


def claim(path: Path) -> SpoolLock:
    """Lock the spool at `path`, and create its files if there are none.

    Nothing is changed, and nothing is left beside it, if the file is not a spool.

    Raises:
        ConfigurationError: The file is not a spool, or the spool is in use.
        OSError: The files cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     claim(Path(folder) / "spool").close()
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['spool', 'spool-owner']
    """
    for suffix in _SUFFIXES:
        _check_file(_sibling(path, suffix))
    owner = _sibling(path, "-owner")
    # Without this file, no provider has the spool, so its files may be opened and closed: that
    # would release SQLite's locks of this process.
    lock = _lock_owner(path, owner) if owner.exists() else None
    try:
        _check_is_spool(path)
        lock = lock or _lock_owner(path, owner)
        # SQLite gives the other files the mode of the database; but they may exist already.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                if _sibling(path, suffix).lstat().st_mode & 0o077:
                    _sibling(path, suffix).chmod(0o600)
    except BaseException:
        if lock is not None:
            lock.close()
        raise
    return lock


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _lock_owner(path: Path, owner: Path) -> SpoolLock:
    try:
        return SpoolLock(owner)
    except BlockingIOError:
        raise ConfigurationError(
            f"the spool at {path} is in use: each running provider needs a spool of its own"
        ) from None


def _check_file(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is not a regular file, so it can't be part of a spool")
    if found.st_uid != getattr(os, "geteuid", lambda: found.st_uid)():
        raise ConfigurationError(
            f"{path} belongs to another user, who could read the spool; use another path"
        )
    if found.st_nlink > 1:
        raise ConfigurationError(
            f"{path} has a second name (a hard link), by which another provider could use it at "
            f"the same time; remove that name, or use another path"
        )


def _check_is_spool(path: Path) -> None:
    """Raise an error unless `path` is a spool, an empty file, or missing; change nothing."""
    log = _sibling(path, "-wal")
    header = _read_start(path, 100) if path.exists() else b""
    if not header:
        if log.exists() and log.stat().st_size:
            raise ConfigurationError(
                f"{path} is missing or empty, but {log} is not: part of the spool was lost; "
                f"put it back, or remove both to start with an empty spool"
            )
        return
    if not header.startswith(_MAGIC):
        raise ConfigurationError(f"{path} is not a spool: file is not a database; use another path")
    application = header[_APPLICATION_AT]
    if application != _APPLICATION_BYTES and log.exists():
        # The newest first page may be only in SQLite's log.
        for frame in _read_log(log):
            application = frame.application or application
    if application != _APPLICATION_BYTES:
        raise ConfigurationError(
            f"{path} is another program's database, not a spool; use another path"
        )


def _read_start(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def count_lost_commits(path: Path) -> int:
    """Return how many transactions in SQLite's log cannot be read, because one of them is damaged.

    SQLite silently ends its log at the first damaged page. One transaction may be there that
    a crash has cut off while it was written; any more had been written for good.

    Args:
        path: Path of the spool, which this process has opened and read.
    """
    log, index = _sibling(path, "-wal"), _sibling(path, "-shm")
    if not (log.exists() and index.exists()):
        return 0
    last = int.from_bytes(_read_start(index, 20)[_LAST_FRAME_AT], sys.byteorder)
    return sum(frame.is_commit for frame in _read_log(log) if frame.number > last)


class _Frame(NamedTuple):
    """A page in SQLite's log: its place, and the application id if it is the first page."""

    number: int
    is_commit: bool
    application: bytes


def _read_log(log: Path) -> Iterator[_Frame]:
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
                yield _Frame(number, commit_size > 0, page[_APPLICATION_AT])
