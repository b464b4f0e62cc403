"""Telling a process that was made by another one from that one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from arbprov.errors import ProviderError

__all__ = ["HANDLER_PROCESS", "ForkGuard", "refuse_in_handler_process"]

# What the names of the processes begin with that handlers run in.
HANDLER_PROCESS = "arbprov-handlers"


class ForkGuard:
    """Remembers the process that something belongs to, since a fork leaves its copy unusable.

    Args:
        what: What it is, for the error.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._process: int | None = None

    def check(self) -> None:
        """Refuse to go on in another process than the one that it belongs to, if to any.

        Raises:
            ProviderError: This process was forked from that one.
        """
        if self._process not in (None, os.getpid()):
            raise ProviderError(
                f"this process was forked from process {self._process}, where {self._what}, and "
                f"its threads, locks and connections are not here; start the app after the fork, "
                f"or start this process with multiprocessing's 'spawn' method"
            )

    def keep(self) -> None:
        """Let it belong to this process for good."""
        self._process = os.getpid()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let it belong to this process for a while.

        Raises:
            ProviderError: It belongs to another one.
        """
        self.check()
        before = self._process
        self.keep()
        try:
            yield
        finally:
            self._process = before


def refuse_in_handler_process() -> None:
    """Refuse to go on in a process that a handler with ``isolation="process"`` runs in.

    Raises:
        ProviderError: This is one.
    """
    # Nobody else needs it, and it takes a while to import.
    from multiprocessing import current_process

    if current_process().name.startswith(HANDLER_PROCESS):
        raise ProviderError(
            'this process runs handlers with isolation="process", and the app runs in another '
            'one; at the end of a script, app.run() belongs under `if __name__ == "__main__":`'
        )
