"""Telling a process that was made by another one from that one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from arbprov.errors import ProviderError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = [
    "HANDLER_PROCESS",
    "ForkGuard",
    "end_fork",
    "loop_kept_from_forks",
    "refuse_in_handler_process",
    "without_fork_handlers",
]

# What the names of the processes begin with that handlers run in.
HANDLER_PROCESS = "arbprov-handlers"
_EX_SOFTWARE = 70
_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_WENT_ON = (
    b"arbprov: a handler has forked this process and let it go on as if it were the provider, so "
    b"it ends here; end such a process with os._exit(), or use subprocess or multiprocessing\n"
)


class ForkGuard:
    """Remembers the process that something belongs to, since a fork's copy of it is of no use.

    Args:
        what: What it is, for the error.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._process: int | None = None

    @property
    def is_here(self) -> bool:
        """Whether it may be used in this process."""
        return self._process in (None, os.getpid())

    def check(self) -> None:
        """Refuse to go on in another process than the one that it belongs to, if to any.

        Raises:
            ProviderError: This process was forked from that one.
        """
        if not self.is_here:
            raise ProviderError(
                f"this process was forked from process {self._process}, where {self._what} runs; "
                f"its threads, locks and connections are not here; start the app after "
                f"the fork, or start this process with multiprocessing's 'spawn' method"
            )

    def keep(self) -> None:
        """Let it belong to this process for good.

        Raises:
            ProviderError: It belongs to another one.
        """
        self.check()
        self._process = os.getpid()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let it belong to this process for a while.

        Raises:
            ProviderError: It belongs to another one.
        """
        before = self._process
        self.keep()
        try:
            yield
        finally:
            self._process = before


_loops: set[AbstractEventLoop] = set()


@contextmanager
def loop_kept_from_forks(loop: AbstractEventLoop) -> Iterator[None]:
    """Let no fork of this process run a loop, whose selector both would share, for a while."""
    _loops.add(loop)
    try:
        yield
    finally:
        _loops.discard(loop)


def _stop_loops() -> None:
    for loop in _loops:
        loop.call_soon(end_fork)


if hasattr(os, "register_at_fork"):  # pragma: no branch - where there are forks
    os.register_at_fork(after_in_child=_stop_loops)


@contextmanager
def without_fork_handlers() -> Iterator[None]:
    """Import gRPC without the care that it takes of forks, unless it was asked for.

    It starts threads in a fork, and on a channel of `grpc.aio` these crash it now and then.
    """
    if _FORK_SUPPORT in os.environ:
        yield
        return
    # It is looked at when gRPC is imported, and nobody else should inherit it.
    os.environ[_FORK_SUPPORT] = "0"
    try:
        yield
    finally:
        os.environ.pop(_FORK_SUPPORT, None)  # another app may have done it


def end_fork() -> NoReturn:
    """End a fork that its handler has let go on as if it were the provider."""
    # Not through sys.stderr: somebody may have held its lock when the fork was made.
    os.write(2, _WENT_ON)
    os._exit(_EX_SOFTWARE)


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
