"""Noticing that a source file has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FileWatch"]

_NOT_SOURCES = {"__pycache__", "node_modules", "site-packages"}


class FileWatch:
    """Watches the .py files below a folder, by their modification times."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._look()

    def changed(self) -> Path | None:
        """Return a file that was changed, added or removed since the last look, if one was."""
        before, self._seen = self._seen, self._look()
        differing = before.items() ^ self._seen.items()
        return min((path for path, _ in differing), default=None)

    def _look(self) -> dict[Path, int]:
        return dict(self._times())

    def _times(self) -> Iterator[tuple[Path, int]]:
        for folder, subfolders, files in os.walk(self._folder):
            subfolders[:] = [n for n in subfolders if n not in _NOT_SOURCES and n[0] != "."]
            for path in (Path(folder, name) for name in files if name.endswith(".py")):
                # It may be gone by now: editors save by replacing.
                if path.exists():
                    yield path, path.stat().st_mtime_ns
