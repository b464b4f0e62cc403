"""A span processor that blocks, raises or is slow delays neither a task nor a stop."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from support.running import Running, tasks
from support.waiting import TIMEOUT

from arbprov import ProviderApp
from arbprov.instrumentation import span_queue
from arbprov.instrumentation.observer import Observers
from arbprov.instrumentation.span_queue import SpanQueue
from arbprov.instrumentation.tracing import Tracing
from arbprov.localhub import LocalHub


class BlockingExporter(SpanExporter):
    """Blocks until it is released; it gives up by itself, so that a test that fails ends."""

    def __init__(self):
        self.released = threading.Event()
        self.names = []

    def export(self, spans):
        if not self.released.wait(TIMEOUT):
            self.released.set()
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class FailingProcessor(SpanProcessor):
    def on_end(self, span):
        raise ValueError("the backend is away")


@pytest.fixture
def provide(monkeypatch):
    """Return a function that makes the spans go to a processor; nothing waits for long."""
    monkeypatch.setattr(span_queue, "_CLOSE_TIMEOUT", 0.01)

    def provide(processor):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
        return provider.get_tracer("test")

    return provide


@pytest.fixture
def exporter(provide):
    exporter = BlockingExporter()
    exporter.tracer = provide(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.released.set()


@pytest.fixture
def app():
    app = ProviderApp("test")

    @app.action
    async def work() -> str:
        return "done"

    return app


def run(app, count):
    """Return an app that has run some tasks with traces, and was stopped."""
    running = Running(app, polls=tasks(count))
    running.observers = Observers([Tracing("test")])
    return running.until(1.0)


def texts(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname != "INFO"]


def test_an_exporter_that_blocks_delays_no_task_and_no_stop(app, exporter):
    assert run(app, 5).statuses == ["success"] * 5
    assert not exporter.released.is_set()


def test_an_exporter_that_blocks_for_ever_does_not_delay_the_end_of_the_process():
    code = """
import threading
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from arbprov import ProviderApp

class Blocking(SpanExporter):
    def export(self, spans):
        threading.Event().wait()

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Blocking()))
trace.set_tracer_provider(provider)
app = ProviderApp("test")

@app.action
async def work() -> int:
    return 7

@app.action
async def end() -> None:
    app.stop()
"""
    with LocalHub() as hub:
        tickets = [hub.put("work") for _ in range(5)]
        code += f"\napp.run(hub_url={hub.address!r}, auth_token={hub.token!r})\n"
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            try:
                assert [ticket.result().data for ticket in tickets] == [7] * 5
                hub.put("end")
                assert process.wait(TIMEOUT) == 0
            finally:
                process.kill()


def test_the_end_of_a_run_says_that_spans_are_held_up(exporter, caplog):
    queue = SpanQueue()
    queue.put(exporter.tracer.start_span("first"), 1)
    queue.close()
    assert texts(caplog) == [
        "after 0.01 s, OpenTelemetry's span processor still holds up the last spans"
    ]


def test_spans_that_were_held_up_end_later(exporter):
    queue = SpanQueue()
    for name in ("first", "second"):
        queue.put(exporter.tracer.start_span(name), 1)
    queue.close()
    exporter.released.set()
    queue._thread.join(TIMEOUT)
    assert exporter.names == ["first", "second"]


def test_spans_beyond_the_bound_are_dropped_which_is_logged_once(exporter, caplog, monkeypatch):
    monkeypatch.setattr(span_queue, "_MAX_SPANS", 3)
    queue = SpanQueue()
    for number in range(9):
        queue.put(exporter.tracer.start_span(str(number)), 1)
    assert texts(caplog) == ["spans are dropped: OpenTelemetry's span processor has 3 waiting"]
    exporter.released.set()
    queue.close()
    queue._thread.join(TIMEOUT)
    # The first may be in the exporter's hands already, which makes room for another.
    assert exporter.names in (["0", "1", "2"], ["0", "1", "2", "3"])


def test_a_processor_that_raises_changes_no_task_and_is_logged_once(
    app, provide, caplog, monkeypatch
):
    monkeypatch.setattr(span_queue, "_CLOSE_TIMEOUT", TIMEOUT)
    provide(FailingProcessor())
    assert run(app, 3).statuses == ["success"] * 3
    assert texts(caplog) == ["a span could not be ended; this is logged only once"]


def test_a_queue_without_spans_has_no_thread():
    queue = SpanQueue()
    queue.close()
    assert queue._thread is None
