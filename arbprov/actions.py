"""The actions of an app or a blueprint, by name, and the limits declared for their handlers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from arbprov._types import Handler
from arbprov._utils import describe_handler, is_positive_number, unwrap_steps
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from arbprov.limits import RateLimit
    from arbprov.payload.arguments import Binding

__all__ = ["Action", "ActionRegistry", "Declared", "first_line", "is_async"]

T = TypeVar("T")

_ISOLATIONS = ("thread", "process")


@attrs.frozen
class Action:
    """An action: its name in tasks, its handler, and how the handler runs.

    Attributes:
        timeout: Seconds that the handler may run; None stands for the app's `execution_timeout`.
        isolation: Where a plain function runs: on a ``"thread"`` or in a ``"process"``.
        limits: The limits given with the action itself.
        forbid_extra: Whether unknown fields are errors; None stands for the app's setting.
    """

    name: str
    handler: Handler = attrs.field(repr=False)
    binding: Binding = attrs.field(repr=False)
    description: str = ""
    timeout: float | None = attrs.field(default=None)
    isolation: str = attrs.field(default="thread")
    limits: tuple[RateLimit, ...] = ()
    payload_schema: Any = attrs.field(default=None, repr=False)
    account_schema: Any = attrs.field(default=None, repr=False)
    forbid_extra: bool | None = None

    @timeout.validator
    def _check_timeout(self, attribute: object, timeout: float | None) -> None:
        if timeout is not None and not is_positive_number(timeout):
            raise ConfigurationError(
                f"{describe_handler(self.handler)}: timeout={timeout!r} must be a number of "
                f"seconds greater than 0"
            )

    @isolation.validator
    def _check_isolation(self, attribute: object, isolation: str) -> None:
        if isolation not in _ISOLATIONS:
            raise ConfigurationError(
                f"{describe_handler(self.handler)}: isolation={isolation!r} must be "
                f'"thread" or "process"'
            )
        if isolation == "process" and self.is_async:
            raise ConfigurationError(
                f"{describe_handler(self.handler)}: an async def handler runs on the event loop; "
                f'make it a plain def for isolation="process", or leave isolation out'
            )

    def with_default(self, *, forbid_extra: bool) -> Action:
        """Return the action as an app with this setting runs it.

        An app's accounts carry fields for all its actions, so it forbids none in them.
        """
        if self.forbid_extra is not None or not forbid_extra:
            return self
        from arbprov.payload.arguments import compile_binding

        binding = compile_binding(
            self.handler,
            payload_schema=self.payload_schema,
            account_schema=self.account_schema,
            forbid_extra=True,
        )
        return attrs.evolve(self, binding=binding)

    def pickle_handler(self) -> bytes:
        """Return the handler for another process, pickled by its name.

        Raises:
            ConfigurationError: The handler is not at the top of a module under its own name.
        """
        import pickle

        try:
            return pickle.dumps(self.handler)
        except Exception as error:
            raise ConfigurationError(
                f"{describe_handler(self.handler)}: another process can't import it, as "
                f'isolation="process" needs ({error}); define it at the top of a module, and do '
                f"not give its name to anything else there"
            ) from None

    @property
    def is_async(self) -> bool:
        """Whether the handler runs on the event loop; see `is_async`."""
        return is_async(self.handler)


def is_async(function: Handler) -> bool:
    """Tell whether a function runs on the event loop: its outermost callable is ``async def``.

    A plain wrapper around an ``async def`` function is not: it may block.
    """
    outer: Any = function
    while isinstance(outer, functools.partial):
        outer = outer.func
    call = inspect.getattr_static(type(outer), "__call__", None)
    return inspect.iscoroutinefunction(call if inspect.isfunction(call) else outer)


def first_line(handler: Handler) -> str:
    """Return the first line of a handler's docstring, or an empty text."""
    return (inspect.getdoc(handler) or "").partition("\n")[0]


class ActionRegistry:
    """Actions by name, each name once."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}

    def add(self, action: Action) -> None:
        """Add an action.

        Raises:
            ConfigurationError: Its name is taken.
        """
        where = describe_handler(action.handler)
        if taken := self._actions.get(action.name):
            raise ConfigurationError(
                f"{where}: there is an action {action.name!r} already, "
                f'{describe_handler(taken.handler)}; rename one, as in @app.action("another_name")'
            )
        self._actions[action.name] = action

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())


@attrs.frozen(eq=False)
class Declared(Generic[T]):
    """What a decorator has declared for a function, such as a limit.

    >>> def search(): ...
    >>> Declared(search, "5/second").applies_to(search)
    True
    """

    function: Handler
    value: T

    def applies_to(self, handler: Handler) -> bool:
        """Tell whether a handler is the function itself, or a wrapper around it."""
        # Each access to a method makes a new object, which equals the others.
        return any(
            step is self.function or (inspect.ismethod(step) and step == self.function)
            for step in unwrap_steps(handler)
        )
