"""Spools for tests: run where time jumps, and looked at as a crash would leave them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from arbprov.outbox.spool import Spool


class Inline(Executor):
    """Runs work at once: a loop whose time jumps must not wait for threads."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def crash_image(spool: Path, to: Path) -> Path:
    """Return a copy of a spool as a crash of this moment would leave it."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{spool}{suffix}", f"{to}{suffix}")
    return to


def fill(spool: Spool) -> None:
    """Let the disk be full, as far as a spool can see."""
    database = spool._file._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")


def relieve(spool: Spool) -> None:
    """Let the disk have space again."""
    spool._file._database.execute("PRAGMA max_page_count = 1000000")
