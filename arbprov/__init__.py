"""A micro-framework for providers: workers that pull tasks from a hub over gRPC."""

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
from arbprov.limits import Calendar, Limit, MinDelay, TokenBucket
from arbprov.monitors import (
    AdvancedRateLimitMonitor,
    RateLimitMonitor,
    TimeBasedRateLimitMonitor,
)
from arbprov.task import ProviderResponse, Status, Task, TaskResult

__all__ = [
    "ActionNotFoundError",
    "AdvancedRateLimitMonitor",
    "AuthenticationError",
    "Blueprint",
    "Calendar",
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
]
