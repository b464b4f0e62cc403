"""`TaskContext`: the running task, for handlers and hooks."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

import attrs

from arbprov._types import Clock
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from typing_extensions import TypeVar

    from arbprov.limits import CallLimits

    StateT_co = TypeVar("StateT_co", covariant=True, default=object)
else:
    # The default is for type checkers, and typing_extensions takes long to import.
    StateT_co = typing.TypeVar("StateT_co", covariant=True)

__all__ = ["NOT_ENTERED", "NO_LIFESPAN", "NoState", "TaskContext", "declares_state", "is_context"]


@attrs.frozen
class NoState:
    """Stands for the state of a context that has none.

    Args:
        reason: Why it has none, and how to change that.
    """

    reason: str


NO_LIFESPAN = NoState(
    "ctx.state: the app has no lifespan; decorate a context manager with @app.lifespan, and what "
    "it yields is ctx.state"
)
NOT_ENTERED = NoState(
    "ctx.state: the app's lifespan is not entered; app.run() and `with app.test_client() as "
    "client:` enter it, while app.invoke() and a client without `with` do not"
)


@attrs.define(eq=False)
class TaskContext(Generic[StateT_co]):
    """The running task; a parameter annotated with this class takes it, in handlers and hooks.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> @app.action(timeout=10)
    ... def order(ctx: TaskContext, item: str) -> dict:
    ...     ctx.logger.info("ordering %s", item)
    ...     return {"task": ctx.id, "by": ctx.now.isoformat(), "seconds": ctx.remaining}
    >>> app.test_client().call("order", {"item": "tea"}, id="7").data
    {'task': '7', 'by': '2026-01-01T00:00:00+00:00', 'seconds': 10.0}

    Attributes:
        id: The task's id.
        action: The action's name.
        deadline: The end of the handler's time, in seconds of the app's monotonic clock; see
            `remaining`.
        logger: The action's logger.
        payload: The payload as JSON, before any typing; empty if it could not be read.
        account: The account, likewise.
        limits: The limits of this call: what is left, ``refund()``, ``report()``, ``acquire()`` and
            ``observe()``.
        attempt: The number of this try, from 1; above 1 only with `ProviderApp.retry`.
        cancelled: True once the deadline has passed, a stop has taken `drain_timeout`, or the hub
            says that a person has cancelled the task. A long plain handler checks it and returns
            early. Its result can no longer be sent, except after a person's cancellation, which
            also lets an ``async`` handler run on. An isolated handler does not see it: its process
            is killed at the deadline, and hears of no cancellation.
    """

    id: str
    action: str
    deadline: float
    logger: logging.Logger
    payload: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    account: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    limits: CallLimits = attrs.field(default=None, repr=False)
    cancelled: bool = False
    attempt: int = 1
    _provider: str = attrs.field(default="", kw_only=True, repr=False)
    _clock: Clock = attrs.field(kw_only=True, repr=False)
    _state: Any = attrs.field(default=NO_LIFESPAN, kw_only=True, repr=False)

    @property
    def state(self) -> StateT_co:
        """What the app's lifespan has yielded, the very object; see `ProviderApp.lifespan`.

        ``ctx: TaskContext[Shop]`` declares its type.

        Raises:
            ConfigurationError: The app has no lifespan, or nothing has entered it: `app.invoke` and
                a test client without ``with`` do not.
        """
        if isinstance(self._state, NoState):
            raise ConfigurationError(self._state.reason)
        state: StateT_co = self._state
        return state

    @property
    def idempotency_key(self) -> str:
        """The same text for each try, redelivery and attempt of the task, and no other task's.

        For an API that takes an Idempotency-Key: a call that is repeated then has no second effect.

        >>> from arbprov import ProviderApp
        >>> app = ProviderApp("shop")
        >>> @app.action
        ... def order(ctx: TaskContext) -> str:
        ...     return ctx.idempotency_key
        >>> client = app.test_client()
        >>> keys = [client.call("order", id=id).data for id in ("7", "7", "8")]
        >>> len(keys[0]), keys[0] == keys[1], keys[0] == keys[2]
        (32, True, False)
        """
        # Names and ids may hold any characters but this.
        text = f"{self._provider}\0{self.id}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never below 0: a good timeout for requests."""
        return max(0.0, self.deadline - self._clock.monotonic())

    @property
    def now(self) -> datetime:
        """The time of the app's clock, aware and in UTC; a test advances it."""
        return self._clock.now()


def is_context(target: Any) -> bool:
    """Tell whether an annotation is `TaskContext`, with a state's type or without it.

    >>> is_context(TaskContext), is_context(TaskContext[int] | None), is_context(int)
    (True, True, False)
    """
    return any(_origin(part) is TaskContext for part in (target, *typing.get_args(target)))


def declares_state(target: Any) -> bool:
    """Tell whether an annotation is a `TaskContext` with a state's type.

    >>> declares_state(TaskContext), declares_state(TaskContext[int])
    (False, True)
    """
    return any(
        _origin(part) is TaskContext and part is not TaskContext
        for part in (target, *typing.get_args(target))
    )


def _origin(target: Any) -> Any:
    return typing.get_origin(target) or target
