"""Noticing changes of source files."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FileWatch"]

_IGNORED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}


class FileWatch:
    """Watches the .py files in a folder and its subfolders by their modification times."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = self._read_times()

    def find_change(self) -> Path | None:
        """Return a file that was changed, added or removed since the last call, if any was."""
        before, self._times = self._times, self._read_times()
        changes = before.items() ^ self._times.items()
        return min((path for path, _ in changes), default=None)

    def _read_times(self) -> dict[Path, int]:
        times = {}
        for folder, subfolders, files in os.walk(self._folder):
            subfolders[:] = [n for n in subfolders if n not in _IGNORED_FOLDERS and n[0] != "."]
            for path in (Path(folder, name) for name in files if name.endswith(".py")):
                # An editor that saves by replacing may have removed it by now.
                if path.exists():
                    times[path] = path.stat().st_mtime_ns
        return times
