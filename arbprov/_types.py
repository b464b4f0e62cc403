"""The types of handlers, of each kind of hook, and of the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from datetime import datetime

    from typing_extensions import Never

    from arbprov.context import TaskContext
    from arbprov.errors import HubError
    from arbprov.task import TaskResult

    # Each kind of state is wider than Never, so a hook may declare any.
    AnyContext: TypeAlias = TaskContext[Never]

    CheckFunction: TypeAlias = Callable[..., bool | Awaitable[bool | None] | None]

    # A hook may leave out arguments from the right, so each kind is a union of callables.
    LifecycleHook: TypeAlias = Callable[[], Any]
    LifespanFunction: TypeAlias = (
        Callable[[], AbstractContextManager[Any]] | Callable[[], AbstractAsyncContextManager[Any]]
    )
    DisconnectHook: TypeAlias = Callable[[HubError], Any] | Callable[[], Any]
    BeforeTaskHook: TypeAlias = Callable[[AnyContext], Any] | Callable[[], Any]
    AfterTaskHook: TypeAlias = (
        Callable[[TaskResult, AnyContext], TaskResult | Awaitable[TaskResult]]
        | Callable[[TaskResult], TaskResult | Awaitable[TaskResult]]
        | Callable[[], TaskResult | Awaitable[TaskResult]]
    )
    TeardownTaskHook: TypeAlias = (
        Callable[[BaseException | None, AnyContext], Any]
        | Callable[[BaseException | None], Any]
        | Callable[[], Any]
    )
    SubmitFailedHook: TypeAlias = (
        Callable[[TaskResult, HubError], Any] | Callable[[TaskResult], Any] | Callable[[], Any]
    )
    # The first argument is of the class that @errorhandler names; no type can refer to that.
    ErrorHandler: TypeAlias = (
        Callable[[Any, AnyContext], Any] | Callable[[Any], Any] | Callable[[], Any]
    )

Handler: TypeAlias = Callable[..., Any]
HandlerT = TypeVar("HandlerT", bound=Handler)
Hook: TypeAlias = Callable[..., Any]
HookT = TypeVar("HookT", bound=Hook)

# A bound, unlike a plain type, lets a decorator return the exact type of its function.
LifecycleHookT = TypeVar("LifecycleHookT", bound="LifecycleHook")
CheckT = TypeVar("CheckT", bound="CheckFunction")
LifespanT = TypeVar("LifespanT", bound="LifespanFunction")
DisconnectHookT = TypeVar("DisconnectHookT", bound="DisconnectHook")
BeforeTaskHookT = TypeVar("BeforeTaskHookT", bound="BeforeTaskHook")
AfterTaskHookT = TypeVar("AfterTaskHookT", bound="AfterTaskHook")
TeardownTaskHookT = TypeVar("TeardownTaskHookT", bound="TeardownTaskHook")
SubmitFailedHookT = TypeVar("SubmitFailedHookT", bound="SubmitFailedHook")
ErrorHandlerT = TypeVar("ErrorHandlerT", bound="ErrorHandler")


class Clock(Protocol):
    """Where arbprov takes the time from."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, counted from an arbitrary start."""
        ...

    def now(self) -> datetime:
        """Return the wall clock's time, aware and in UTC."""
        ...
