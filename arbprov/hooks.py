"""The hooks around tasks and around a provider's life.

================ ============= ============================================================
hook             called with   the returned value
================ ============= ============================================================
lifespan         nothing       is a context manager, which yields ``ctx.state``
on_startup       nothing       is ignored
on_shutdown      nothing       is ignored
on_connect       nothing       is ignored
on_disconnect    error         is ignored
before_task      ctx           is the answer unless it is None; no handler runs then
after_task       result, ctx   is the result from there on
teardown_task    error, ctx    is ignored; the error is None after a task that succeeded
errorhandler     error, ctx    is the answer, as if the handler had returned it
on_submit_failed result, error is ignored
================ ============= ============================================================

A hook may leave out arguments from the right: ``def stamp(result)`` is an `after_task` too. It may
be plain or ``async``. An error that a hook around a task raises becomes the task's result.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from arbprov._types import Hook
from arbprov._utils import class_mro, describe_handler, unwrap_function
from arbprov.errors import ConfigurationError

__all__ = ["Hooks", "Lifespan", "TaskHooks"]

ErrorHandlers = dict[type[BaseException], Hook]

_LIFECYCLE = ("on_startup", "on_shutdown", "on_connect", "on_disconnect", "on_submit_failed")
_ARGUMENTS: dict[str, Sequence[str]] = {
    "on_disconnect": ("error",),
    "on_submit_failed": ("result", "error"),
    "before_task": ("ctx",),
    "after_task": ("result", "ctx"),
    "teardown_task": ("error", "ctx"),
    "errorhandler": ("error", "ctx"),
}


@attrs.frozen
class Lifespan:
    """A context manager around a provider's life, as its author has decorated it.

    Args:
        function: Returns the context manager.
        is_async: Whether that is an asynchronous one.

    Raises:
        ConfigurationError: The function is not a generator that `contextlib` has decorated, or it
            has required parameters.
    """

    function: Hook
    is_async: bool = attrs.field(init=False)

    @is_async.default
    def _find_is_async(self) -> bool:
        where, inner = describe_handler(self.function), unwrap_function(self.function)
        is_async = inspect.isasyncgenfunction(inner)
        decorator = f"@contextlib.{'asynccontextmanager' if is_async else 'contextmanager'}"
        if not (is_async or inspect.isgeneratorfunction(inner)):
            raise ConfigurationError(
                f"{where}: @app.lifespan takes a function that yields what tasks share, decorated "
                f"with @contextlib.contextmanager, or @contextlib.asynccontextmanager if it is "
                f"async"
            )
        if inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function):
            raise ConfigurationError(
                f"{where}: it is a generator and not yet a context manager; write {decorator} "
                f"between @app.lifespan and the function"
            )
        try:
            inspect.signature(self.function).bind()
        except TypeError as error:
            raise ConfigurationError(
                f"{where}: @app.lifespan calls it without arguments: {error}; give its parameters "
                f"defaults, or read what it needs inside it"
            ) from None
        return is_async

    def open(self) -> Any:
        """Return a new context manager.

        Raises:
            ConfigurationError: The function returns none, or one of the other kind.
        """
        manager = self.function()
        if not hasattr(type(manager), "__aenter__" if self.is_async else "__enter__"):
            raise ConfigurationError(
                f"{describe_handler(self.function)}: its context manager is of the wrong kind, "
                f"{type(manager).__name__}; decorate an async generator with "
                f"@contextlib.asynccontextmanager, and a plain one with @contextlib.contextmanager"
            )
        return manager


@attrs.define
class Hooks:
    """The hooks of one app or one blueprint, in the order of registration."""

    on_startup: list[Hook] = attrs.field(factory=list)
    on_shutdown: list[Hook] = attrs.field(factory=list)
    on_connect: list[Hook] = attrs.field(factory=list)
    on_disconnect: list[Hook] = attrs.field(factory=list)
    on_submit_failed: list[Hook] = attrs.field(factory=list)
    before_task: list[Hook] = attrs.field(factory=list)
    after_task: list[Hook] = attrs.field(factory=list)
    teardown_task: list[Hook] = attrs.field(factory=list)
    errorhandlers: ErrorHandlers = attrs.field(factory=dict)
    lifespan: Lifespan | None = None

    def add(self, kind: str, hook: Hook) -> None:
        """Register a hook.

        Args:
            kind: The name of the decorator, such as ``before_task``.
            hook: The function to call.

        Raises:
            ConfigurationError: The function's parameters do not match the kind of hook.
        """
        getattr(self, kind).append(_fit_arguments(kind, hook))

    def add_errorhandler(self, exception: type[BaseException], handler: Hook) -> None:
        """Register a handler for an exception class and its subclasses.

        Raises:
            ConfigurationError: `exception` is not an exception class, or the handler's parameters
                do not match.
        """
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise ConfigurationError(
                f"{describe_handler(handler)}: @errorhandler takes an exception class, "
                f"not {exception!r}"
            )
        self.errorhandlers[exception] = _fit_arguments("errorhandler", handler)

    def set_lifespan(self, function: Hook) -> None:
        """Register the lifespan.

        Raises:
            ConfigurationError: The function can't be one, or there is one already.
        """
        if self.lifespan is not None:
            raise ConfigurationError(
                f"{describe_handler(function)}: the app has a lifespan already, "
                f"{describe_handler(self.lifespan.function)}; enter both in one function, and "
                f"yield one object that has the state of both"
            )
        self.lifespan = Lifespan(function)

    def join_lifecycle(self, more: Iterable[Hooks]) -> Hooks:
        """Return the hooks around the provider's life: first these, then `more`."""
        joined = Hooks(lifespan=self.lifespan)
        for hooks in (self, *more):
            for kind in _LIFECYCLE:
                getattr(joined, kind).extend(getattr(hooks, kind))
        return joined


@attrs.frozen
class TaskHooks:
    """The hooks around one action: its blueprint's and the app's."""

    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()
    teardown: tuple[Hook, ...] = ()
    errorhandlers: tuple[ErrorHandlers, ...] = ()

    @classmethod
    def compile(cls, app: Hooks, blueprint: Hooks | None) -> TaskHooks:
        """Return the hooks in calling order: before a task from the app in, after it back out."""
        inward = [app] if blueprint is None else [app, blueprint]
        outward = inward[::-1]
        return cls(
            before=tuple(hook for hooks in inward for hook in hooks.before_task),
            after=tuple(hook for hooks in outward for hook in hooks.after_task[::-1]),
            teardown=tuple(hook for hooks in outward for hook in hooks.teardown_task[::-1]),
            errorhandlers=tuple(hooks.errorhandlers for hooks in outward),
        )

    def errorhandler(self, error: BaseException) -> Hook | None:
        """Return the handler nearest in the error's MRO, the blueprint's before the app's."""
        for handlers in self.errorhandlers:
            for kind in class_mro(error):
                for known, hook in handlers.items():
                    if kind is known:
                        return hook
        return None


def _fit_arguments(kind: str, hook: Hook) -> Hook:
    """Return `hook` as a callable that takes all arguments of its kind.

    Raises:
        ConfigurationError: The hook can't be called with them.
    """
    arguments = _ARGUMENTS.get(kind, ())
    for count in range(len(arguments), -1, -1):
        # The hook needs other arguments, or has no known signature.
        with contextlib.suppress(TypeError, ValueError):
            inspect.signature(hook).bind(*range(count))
            break
    else:
        raise ConfigurationError(
            f"{describe_handler(hook)}: {kind} hooks are called with ({', '.join(arguments)}); "
            f"declare these parameters, or fewer from the left, and no others without a default"
        )
    if count == len(arguments):
        return hook
    return functools.wraps(hook)(lambda *given: hook(*given[:count]))
