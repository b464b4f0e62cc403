"""Telling a fork of the provider's process from that process, and stopping it safely."""

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
    "check_not_in_handler_process",
    "end_fork",
    "importing_grpc",
    "stop_loop_in_forks",
]

# The names of the processes that handlers run in begin with this.
HANDLER_PROCESS = "arbprov-handlers"
_EX_SOFTWARE = 70
_GRPC_SETTINGS = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}
_RETURNED = (
    b"arbprov: a handler forked this process and returned in the fork, as if the fork were the "
    b"provider, so the fork ends here; end a fork with os._exit(), or use subprocess or "
    b"multiprocessing\n"
)


class ForkGuard:
    """Remembers the process that an object belongs to, since its copy in a fork does not work.

    Args:
        name: The object, as error messages name it.

    >>> guard = ForkGuard("the app")
    >>> guard.claim()
    >>> guard.belongs_here
    True
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: int | None = None

    @property
    def belongs_here(self) -> bool:
        """Whether the object belongs to this process or to none yet."""
        return self._process in (None, os.getpid())

    def check(self) -> None:
        """Check that the object may be used in this process.

        Raises:
            ProviderError: This process was forked from the process that the object belongs to.
        """
        if not self.belongs_here:
            raise ProviderError(
                f"this process was forked from process {self._process}, where {self._name} runs; "
                f"its threads, locks and connections are not here; start the app after "
                f"the fork, or start this process with multiprocessing's 'spawn' method"
            )

    def claim(self) -> None:
        """Make the object belong to this process from now on.

        Raises:
            ProviderError: The object belongs to another process.
        """
        self.check()
        self._process = os.getpid()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the object belong to this process inside a ``with`` block.

        Raises:
            ProviderError: The object belongs to another process.
        """
        before = self._process
        self.claim()
        try:
            yield
        finally:
            self._process = before


_loops: set[AbstractEventLoop] = set()


@contextmanager
def stop_loop_in_forks(loop: AbstractEventLoop) -> Iterator[None]:
    """End every fork that is made inside the ``with`` block and runs `loop` there.

    Both processes share the loop's selector, so a loop that ran in the fork would break both.
    """
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
def importing_grpc() -> Iterator[None]:
    """Import gRPC inside the ``with`` block as arbprov needs it, unless it is configured.

    Its fork handlers are off: they start threads in a fork, and these sometimes crash a channel of
    `grpc.aio`. Its own log lines are off: arbprov's errors say the same, and say it once.
    """
    # gRPC reads the variables at import; programs that handlers start must not inherit them.
    added = [name for name in _GRPC_SETTINGS if name not in os.environ]
    os.environ.update((name, _GRPC_SETTINGS[name]) for name in added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)  # another app may have removed it already


def end_fork() -> NoReturn:
    """End a fork in which a handler returned as if the fork were the provider."""
    # Not through sys.stderr: another thread may have held its lock when the fork was made.
    os.write(2, _RETURNED)
    os._exit(_EX_SOFTWARE)


def check_not_in_handler_process() -> None:
    """Check that this process does not run handlers with ``isolation="process"``.

    Raises:
        ProviderError: It does, so the app runs in another process.
    """
    # Slow to import, and needed only here.
    from multiprocessing import current_process

    if current_process().name.startswith(HANDLER_PROCESS):
        raise ProviderError(
            'this process runs handlers with isolation="process", and the app runs in another '
            'process; at the end of a script, put app.run() under `if __name__ == "__main__":`'
        )
