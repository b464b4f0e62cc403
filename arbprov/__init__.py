"""A micro-framework for providers: workers that pull tasks from a hub over gRPC."""

import importlib
import typing

if typing.TYPE_CHECKING:
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
    from arbprov.limits import Calendar, Concurrency, Limit, MinDelay, TokenBucket
    from arbprov.limits.monitors import (
        AdvancedRateLimitMonitor,
        RateLimitMonitor,
        TimeBasedRateLimitMonitor,
    )
    from arbprov.payload.serialize import dumps, to_builtins
    from arbprov.task import ProviderResponse, Status, Task, TaskResult
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

# Imported on first use: `arbprov health` needs none of them, and most limits are written as texts.
_ON_DEMAND = {
    "ActionNotFoundError": "arbprov.errors",
    "AdvancedRateLimitMonitor": "arbprov.limits.monitors",
    "AuthenticationError": "arbprov.errors",
    "Blueprint": "arbprov.blueprint",
    "Calendar": "arbprov.limits",
    "Concurrency": "arbprov.limits",
    "ConfigurationError": "arbprov.errors",
    "HandlerProcessError": "arbprov.errors",
    "HubConnectionError": "arbprov.errors",
    "HubError": "arbprov.errors",
    "InvalidPayloadError": "arbprov.errors",
    "Limit": "arbprov.limits",
    "MinDelay": "arbprov.limits",
    "ProviderApp": "arbprov.app",
    "ProviderError": "arbprov.errors",
    "ProviderResponse": "arbprov.task",
    "RateLimitMonitor": "arbprov.limits.monitors",
    "RateLimited": "arbprov.errors",
    "Status": "arbprov.task",
    "Task": "arbprov.task",
    "TaskContext": "arbprov.context",
    "TaskError": "arbprov.errors",
    "TaskResult": "arbprov.task",
    "TaskTimeoutError": "arbprov.errors",
    "TimeBasedRateLimitMonitor": "arbprov.limits.monitors",
    "TokenBucket": "arbprov.limits",
    "dumps": "arbprov.payload.serialize",
    "to_builtins": "arbprov.payload.serialize",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
