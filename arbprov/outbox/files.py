"""The spool's files: looked at before anything is written, private to their user, and locked.

A spool at SPOOL has SQLite's SPOOL-wal and SPOOL-shm beside it, and SPOOL-owner, which its provider
locks.
"""

from __future__ import annotations

from pathlib import Path

from arbprov.errors import ConfigurationError
from arbprov.owned_files import APPLICATION_AT, MAGIC, FileLock, own_files, read_log, sibling

__all__ = ["APPLICATION", "claim"]

# "arbp": tells a spool from another program's database.
APPLICATION = 0x61726270
_APPLICATION_BYTES = APPLICATION.to_bytes(4, "big")


def claim(path: Path) -> FileLock:
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
    try:
        return own_files(path, _check_is_spool)
    except BlockingIOError:
        raise ConfigurationError(
            f"the spool at {path} is in use: each running provider needs a spool of its own"
        ) from None


def _check_is_spool(path: Path) -> None:
    """Raise an error unless `path` is a spool, an empty file, or missing; change nothing."""
    log = sibling(path, "-wal")
    header = b""
    if path.exists():
        with path.open("rb") as file:
            header = file.read(100)
    if not header:
        if log.exists() and log.stat().st_size:
            raise ConfigurationError(
                f"{path} is missing or empty, but {log} is not: part of the spool was lost; "
                f"put it back, or remove both to start with an empty spool"
            )
        return
    if not header.startswith(MAGIC):
        raise ConfigurationError(f"{path} is not a spool: file is not a database; use another path")
    application = header[APPLICATION_AT]
    if application != _APPLICATION_BYTES and log.exists():
        # The newest first page may be only in SQLite's log.
        for page in read_log(log):
            application = page.application or application
    if application != _APPLICATION_BYTES:
        raise ConfigurationError(
            f"{path} is another program's database, not a spool; use another path"
        )
