"""The hooks around tasks and around a provider's life.

================ ============= ============================================================
hook             called with   the returned value
================ ============= ============================================================
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

import attrs

from arbprov._types import Hook
from arbprov._utils import class_mro, describe_handler
from arbprov.errors import ConfigurationError

__all__ = ["Hooks", "TaskHooks"]

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

    def join_lifecycle(self, more: Iterable[Hooks]) -> Hooks:
        """Return the hooks around the provider's life: first these, then `more`."""
        joined = Hooks()
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
