"""The names of OpenTelemetry's semantic conventions for messaging spans, in one place.

The conventions (v1.36, https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/) are
still in development: when they change, the names change here, and nowhere else.
"""

from __future__ import annotations

__all__ = [
    "DESTINATION",
    "ERROR_TYPE",
    "MESSAGE_ID",
    "OPERATION_NAME",
    "OPERATION_TYPE",
    "PROCESS",
    "RECEIVE",
    "SETTLE",
    "STATUS",
    "SUBSCRIPTION",
    "SYSTEM",
    "SYSTEM_NAME",
]

SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
SUBSCRIPTION = "messaging.destination.subscription.name"
MESSAGE_ID = "messaging.message.id"
ERROR_TYPE = "error.type"
# Not of the conventions: the status that the hub gets.
STATUS = "arbprov.task.status"

SYSTEM_NAME = "arbprov"
RECEIVE = "receive"
PROCESS = "process"
SETTLE = "settle"
