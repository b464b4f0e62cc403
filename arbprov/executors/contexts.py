"""Context variables of a call: its hooks and its handler share them, wherever each of them runs."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["ContextChanges", "SharedContext", "adopt_variables"]

T = TypeVar("T")


class SharedContext:
    """Takes the context variables that an awaitable sets back to the thread that waits for it.

    The event loop runs the awaitable in a copy of the waiting thread's context.

    Args:
        awaitable: An awaitable that a hook or a handler of the author's returned.

    >>> import asyncio
    >>> user = contextvars.ContextVar("user", default="nobody")
    >>> async def log_in():
    ...     user.set("ada")
    >>> SharedContext(log_in()).wait(asyncio.run)
    >>> user.get()
    'ada'
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._variables: contextvars.Context | None = None

    def wait(self, run: Callable[[Any], T]) -> T:
        """Return the result of `run` for a coroutine, or raise its error."""
        try:
            return run(self._await())
        finally:
            # Nothing of it has run if `run` has refused the coroutine.
            adopt_variables(self._variables or contextvars.Context())

    async def _await(self) -> Any:
        try:
            return await self._awaitable
        finally:
            self._variables = contextvars.copy_context()


class ContextChanges:
    """Applies the variables that a function has set to other contexts, but not to its caller's.

    >>> user = contextvars.ContextVar("user", default="nobody")
    >>> def log_in():
    ...     user.set("ada")
    >>> changes = ContextChanges()
    >>> changes.record(log_in)
    >>> user.get()
    'nobody'
    >>> changes.apply()
    >>> user.get()
    'ada'
    """

    def __init__(self) -> None:
        self._before = contextvars.Context()
        self._after = contextvars.Context()

    def record(self, function: Callable[[], T]) -> T:
        """Run a function in a copy of the current context, and return its result."""
        self._before = contextvars.copy_context()
        self._after = self._before.copy()
        return self._after.run(function)

    def run_again(self, function: Callable[[], T]) -> T:
        """Run a function in the context of the first, and return its result."""
        return self._after.run(function)

    def apply(self) -> None:
        """Set the variables that the function has set, unless they have been set again since."""
        for variable, value in self._after.items():
            before = self._before.get(variable, _MISSING)
            if before is not value and variable.get(_MISSING) is before:
                variable.set(value)


_MISSING: Any = object()


def adopt_variables(variables: contextvars.Context) -> None:
    """Set each variable of another context in this one too.

    >>> user = contextvars.ContextVar("user", default="nobody")
    >>> other = contextvars.copy_context()
    >>> _ = other.run(user.set, "ada")
    >>> adopt_variables(other)
    >>> user.get()
    'ada'
    """
    for variable, value in variables.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)
