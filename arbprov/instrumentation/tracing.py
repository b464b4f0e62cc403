"""Traces of tasks, by the OpenTelemetry API that the author has set up."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from arbprov._utils import class_name
from arbprov._version import __version__
from arbprov.instrumentation import conventions as names
from arbprov.instrumentation.observer import Observer
from arbprov.instrumentation.span_queue import SpanQueue
from arbprov.task import Status, Task, TaskKey, TaskResult

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

__all__ = ["Tracing", "add_trace", "is_set_up"]

# Tasks whose results are not sent yet; beyond these, a submission has no link to its task.
_MAX_UNSENT = 10_000
# Tasks that have been received and not started; a task that is redelivered may never start.
_MAX_RECEIPTS = 10_000


def is_set_up() -> bool:
    """Tell whether this process has a tracer provider that records spans.

    Without the package, or before an SDK is set up, nothing is imported.
    """
    if "opentelemetry.trace" not in sys.modules:
        return False
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    return not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))


def add_trace(record: logging.LogRecord) -> bool:
    """Add the ids of the current span to a record, for the JSON of the log; return True."""
    from opentelemetry import trace

    # An author's code has logged it, and must not fail by this.
    with contextlib.suppress(Exception):
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = trace.format_trace_id(span.trace_id)
            record.span_id = trace.format_span_id(span.span_id)
            record.trace_flags = f"{int(span.trace_flags):02x}"
    return True


class Tracing(Observer):
    """Makes three spans for a task: its receipt, its processing and the sending of its result.

    The span of the processing is current in the handler, so that the handler's own spans are its
    children. It is a trace of its own, with links to the receipt and to where the task was made, if
    the hub says that; the sending is its child.

    The spans are ended on a thread of their own: a processor of OpenTelemetry's SDK may export a
    span within its end.

    Args:
        provider: The provider's name.
    """

    def __init__(self, provider: str) -> None:
        from opentelemetry import context, propagate, trace

        self._context = context
        self._extract = propagate.extract
        self._trace = trace
        self._tracer: Tracer = trace.get_tracer("arbprov", __version__)
        self._provider = provider
        self._ended = SpanQueue()
        self._receipts: dict[TaskKey, SpanContext] = {}
        self._running: dict[TaskKey, tuple[Span, Any]] = {}
        self._unsent: dict[TaskKey, tuple[Span, str]] = {}

    def polled(self, seconds: float, task: Task | None, error: Exception | None) -> None:
        """Record the receipt of a task; polls without a task are not worth a span."""
        if task is None:
            return
        ended_at = time.time_ns()
        span = self._tracer.start_span(
            f"{names.RECEIVE} {task.action}",
            context=self._context.Context(),
            kind=self._trace.SpanKind.CLIENT,
            attributes=self._attributes(names.RECEIVE, task),
            links=self._creation_links(task),
            start_time=ended_at - int(seconds * 1e9),
        )
        self._ended.put(span, ended_at)
        self._receipts[task.key] = span.get_span_context()
        if len(self._receipts) > _MAX_RECEIPTS:
            del self._receipts[next(iter(self._receipts))]

    def task_started(self, task: Task) -> None:
        """Begin the span in which the handler runs."""
        links = self._creation_links(task)
        if (receipt := self._receipts.pop(task.key, None)) is not None:
            links.append(self._trace.Link(receipt))
        span = self._tracer.start_span(
            f"{names.PROCESS} {task.action}",
            context=self._context.Context(),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=self._attributes(names.PROCESS, task),
            links=links,
        )
        token = self._context.attach(self._trace.set_span_in_context(span))
        self._running[task.key] = span, token

    def task_ended(self, result: TaskResult, seconds: float, error: BaseException | None) -> None:
        """End the span, with the error's class and no text of it."""
        span, token = self._running.pop(result.task.key)
        self._context.detach(token)
        span.set_attribute(names.STATUS, result.status.value)
        if result.status in (Status.ERROR, Status.LIMIT):
            span.set_attribute(
                names.ERROR_TYPE, result.status.value if error is None else class_name(error)
            )
        if result.status is Status.ERROR:
            span.set_status(self._trace.StatusCode.ERROR)
        self._ended.put(span, time.time_ns())
        if len(self._unsent) < _MAX_UNSENT:
            self._unsent[result.task.key] = span, result.task.action

    def submitted(self, key: TaskKey, seconds: float, error: Exception | None) -> None:
        """Record an attempt to send a result."""
        ended_at = time.time_ns()
        processed, action = self._unsent.get(key, (None, ""))
        context = self._context.Context()
        if processed is not None:
            context = self._trace.set_span_in_context(processed, context)
        span = self._tracer.start_span(
            f"{names.SETTLE} {action}".strip(),
            context=context,
            kind=self._trace.SpanKind.CLIENT,
            attributes=self._attributes(names.SETTLE, Task(key[0], action)),
            start_time=ended_at - int(seconds * 1e9),
        )
        if error is None:
            self._unsent.pop(key, None)
        else:
            span.set_attribute(names.ERROR_TYPE, class_name(error))
            span.set_status(self._trace.StatusCode.ERROR)
        self._ended.put(span, ended_at)

    def run_ended(self) -> None:
        """Wait a moment for the ends of the last spans."""
        self._ended.close()

    def _attributes(self, operation: str, task: Task) -> Mapping[str, str]:
        return {
            names.SYSTEM: names.SYSTEM_NAME,
            names.OPERATION_NAME: operation,
            names.OPERATION_TYPE: operation,
            names.DESTINATION: task.action,
            names.SUBSCRIPTION: self._provider,
            names.MESSAGE_ID: task.id,
        }

    def _creation_links(self, task: Task) -> list[Any]:
        """Return a link to the span in which the task was made, if the hub has sent its context."""
        if not task.traceparent:
            return []
        made_in = self._extract({"traceparent": task.traceparent}, self._context.Context())
        context = self._trace.get_current_span(made_in).get_span_context()
        return [self._trace.Link(context)] if context.is_valid else []
