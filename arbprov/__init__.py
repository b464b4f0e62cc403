"""A micro-framework for providers: workers that pull tasks from a hub over gRPC."""

import importlib
import typing

from arbprov.app import ProviderApp
from arbprov.blueprint import Blueprint
from arbprov.context import TaskContext
from arbprov.errors import (
    ActionNotFoundError,
    AuthenticationError,
    ConfigurationError,
    HandlerProcessError,
    HubConnectionError,
    HubError,
    InvalidPayloadError,
    ProviderError,
    RateLimited,
    TaskError,
    TaskTimeoutError,
)
from arbprov.task import ProviderResponse, Status, Task, TaskResult

if typing.TYPE_CHECKING:
    from arbprov.limits import Calendar, Concurrency, Limit, MinDelay, TokenBucket
    from arbprov.limits.monitors import (
        AdvancedRateLimitMonitor,
        RateLimitMonitor,
        TimeBasedRateLimitMonitor,
    )
    from arbprov.payload.serialize import dumps, to_builtins
else:
    # Hidden from type checkers, which would accept any name because of it.
    def __getattr__(name: str) -> object:
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(_ON_DEMAND[name]), name)
        globals()[name] = found
        return found


__all__ = [
    "ActionNotFoundError",
    "AdvancedRateLimitMonitor",
    "AuthenticationError",
    "Blueprint",
    "Calendar",
    "Concurrency",
    "ConfigurationError",
    "HandlerProcessError",
    "HubConnectionError",
    "HubError",
    "InvalidPayloadError",
    "Limit",
    "MinDelay",
    "ProviderApp",
    "ProviderError",
    "ProviderResponse",
    "RateLimitMonitor",
    "RateLimited",
    "Status",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskTimeoutError",
    "TimeBasedRateLimitMonitor",
    "TokenBucket",
    "dumps",
    "to_builtins",
]

# Imported on first use, since most limits are written as texts, and many actions have no limit.
_ON_DEMAND = {
    "AdvancedRateLimitMonitor": "arbprov.limits.monitors",
    "Calendar": "arbprov.limits",
    "Concurrency": "arbprov.limits",
    "Limit": "arbprov.limits",
    "MinDelay": "arbprov.limits",
    "RateLimitMonitor": "arbprov.limits.monitors",
    "TimeBasedRateLimitMonitor": "arbprov.limits.monitors",
    "TokenBucket": "arbprov.limits",
    "dumps": "arbprov.payload.serialize",
    "to_builtins": "arbprov.payload.serialize",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
