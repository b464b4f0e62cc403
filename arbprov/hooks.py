"""The callbacks around tasks and around the worker's life, in the order they run.

============== ============================ ===================================================
hook           called with                  what its return does
============== ============================ ===================================================
on_startup     nothing                      nothing
on_shutdown    nothing                      nothing
on_connect     nothing                      nothing
on_disconnect  the `HubError`               nothing
before_task    ctx                          anything but None is the answer; no handler runs
after_task     result, ctx                  is the result from there on
teardown_task  error or None, ctx           nothing; it runs always
errorhandler   error, ctx                   is the answer, as if the handler had returned it
on_submit_failed  result, error             nothing
============== ============================ ===================================================

A hook may leave out its last arguments: ``def stamp(result)`` is an `after_task` too. It may be
plain or ``async``. What it raises is never swallowed: around a task, it becomes the result.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Sequence

import attrs

from arbprov._types import Hook, HookT
from arbprov._utils import describe_handler
from arbprov.errors import ConfigurationError

__all__ = ["Hooks", "TaskHooks"]

ErrorHandlers = dict[type[BaseException], Hook]


@attrs.define
class Hooks:
    """What was registered on one app or one blueprint, in the order of registration."""

    on_startup: list[Hook] = attrs.field(factory=list)
    on_shutdown: list[Hook] = attrs.field(factory=list)
    on_connect: list[Hook] = attrs.field(factory=list)
    on_disconnect: list[Hook] = attrs.field(factory=list)
    on_submit_failed: list[Hook] = attrs.field(factory=list)
    before_task: list[Hook] = attrs.field(factory=list)
    after_task: list[Hook] = attrs.field(factory=list)
    teardown_task: list[Hook] = attrs.field(factory=list)
    errorhandlers: ErrorHandlers = attrs.field(factory=dict)

    def add(self, kind: str, hook: HookT) -> HookT:
        """Register `hook` and return it as it is.

        Raises:
            ConfigurationError: It can't be called with what this kind of hook is given.
        """
        getattr(self, kind).append(_accepting(kind, hook))
        return hook

    def joined(self, others: Iterable[Hooks]) -> Hooks:
        """Return the hooks around the worker's life, with those of `others` after these."""
        joined = Hooks()
        for level in (self, *others):
            for kind in _OF_LIFE:
                getattr(joined, kind).extend(getattr(level, kind))
        return joined

    def add_errorhandler(self, exception: type[BaseException], handler: Hook) -> None:
        """Register `handler` for an exception and its subclasses."""
        if not (isinstance(exception, type) and issubclass(exception, BaseException)):
            raise ConfigurationError(
                f"{describe_handler(handler)}: @errorhandler takes an exception class, "
                f"not {exception!r}"
            )
        self.errorhandlers[exception] = _accepting("errorhandler", handler)


@attrs.frozen
class TaskHooks:
    """The hooks around one action, those of its blueprint and those of the app."""

    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()
    teardown: tuple[Hook, ...] = ()
    errorhandlers: tuple[ErrorHandlers, ...] = ()

    @classmethod
    def compile(cls, app: Hooks, blueprint: Hooks | None) -> TaskHooks:
        """Return the chains: into a task from app to blueprint, and out of it the other way."""
        inward = [app] if blueprint is None else [app, blueprint]
        outward = inward[::-1]
        return cls(
            before=tuple(hook for level in inward for hook in level.before_task),
            after=tuple(hook for level in outward for hook in level.after_task[::-1]),
            teardown=tuple(hook for level in outward for hook in level.teardown_task[::-1]),
            errorhandlers=tuple(level.errorhandlers for level in outward),
        )

    def errorhandler(self, error: BaseException) -> Hook | None:
        """Return the handler nearest in the error's MRO; the blueprint's before the app's."""
        for handlers in self.errorhandlers:
            for kind in type(error).__mro__:
                if kind in handlers:
                    return handlers[kind]
        return None


_OF_LIFE = ("on_startup", "on_shutdown", "on_connect", "on_disconnect", "on_submit_failed")
_GIVEN: dict[str, Sequence[str]] = {
    "on_disconnect": ("error",),
    "on_submit_failed": ("result", "error"),
    "before_task": ("ctx",),
    "after_task": ("result", "ctx"),
    "teardown_task": ("error", "ctx"),
    "errorhandler": ("error", "ctx"),
}


def _accepting(kind: str, hook: Hook) -> Hook:
    """Return `hook` as a callable of all that its kind is given."""
    given = _GIVEN.get(kind, ())
    for count in range(len(given), -1, -1):
        if _takes(hook, count):
            return hook if count == len(given) else _first(hook, count)
    wanted = ", ".join(given)
    raise ConfigurationError(
        f"{describe_handler(hook)}: a {kind} hook is called with ({wanted}), or with fewer of "
        f"these from the left; this one takes something else"
    )


def _takes(hook: Hook, count: int) -> bool:
    try:
        inspect.signature(hook).bind(*range(count))
    except (TypeError, ValueError):  # it takes something else, or does not tell what
        return False
    return True


def _first(hook: Hook, count: int) -> Hook:
    return functools.wraps(hook)(lambda *given: hook(*given[:count]))
