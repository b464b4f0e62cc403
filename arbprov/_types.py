"""The callback aliases, and the clock that everything is handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

Handler = Callable[..., Any]
HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
# What a hook is called with differs by its kind: see `arbprov.hooks`.
Hook = Callable[..., Any]
HookT = TypeVar("HookT", bound=Callable[..., Any])


class Clock(Protocol):
    """Where arbprov takes the time from."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, from a start that means nothing."""
        ...

    def now(self) -> datetime:
        """Return the wall clock's time, aware and in UTC."""
        ...
