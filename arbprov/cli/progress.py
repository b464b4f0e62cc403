"""A progress bar on stderr, for many tasks."""

from __future__ import annotations

import sys
from typing import Any

import click

__all__ = ["Progress"]

# Fewer tasks have no bar.
_MIN_TASKS = 200
# A bar whose line, with all numbers, fits 80 columns.
_WIDTH = 30
# Moves to the line's start, and clears the line.
_CLEAR = "\r\033[K"


class Progress:
    """A bar that fills as tasks end, if there are many and stderr is a terminal.

    Args:
        total: The number of all tasks.
    """

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if total >= _MIN_TASKS and sys.stderr is not None and sys.stderr.isatty():
            self._bar = click.progressbar(
                length=total, label="Results", show_pos=True, width=_WIDTH, file=sys.stderr
            )

    def clear(self) -> None:
        """Make place for other lines; `advance` shows the bar again."""
        if self._bar is not None:
            click.echo(_CLEAR, nl=False, err=True, color=True)

    def advance(self, count: int) -> None:
        """Note that tasks have ended."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)
