"""The spans of a task, as an SDK exports them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.running import Running, away, tasks
from support.waiting import TIMEOUT

from arbprov import ProviderApp, RateLimited, TaskResult
from arbprov._proto import hub_pb2
from arbprov.instrumentation import span_queue, tracing
from arbprov.instrumentation.observer import Observers
from arbprov.instrumentation.tracing import Tracing
from arbprov.localhub import LocalHub
from arbprov.task import Task
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch):
    """Return a function that returns the finished spans by the first word of their names.

    Its `all` returns all of them.
    """
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(span_queue, "_CLOSE_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", lambda *names: provider.get_tracer(*names))

    def found():
        return {span.name.split()[0]: span for span in exporter.get_finished_spans()}

    found.all = exporter.get_finished_spans
    yield found
    provider.shutdown()


@pytest.fixture
def app():
    app = ProviderApp("test")

    @app.action
    async def work() -> None:
        with trace.get_tracer("the author's").start_as_current_span("author"):
            await asyncio.sleep(0.1)

    @app.action
    async def fail() -> None:
        raise KeyError("secret")

    @app.action
    async def throttled() -> None:
        raise RateLimited(3)

    return app


def trace_of(app, spans, action="work", **script):
    """Run a task, and return its spans."""
    running = Running(app, polls=tasks(1, action), **script)
    running.observers = Observers([Tracing("test")])
    running.until(5.0)
    return spans()


def test_a_task_has_a_span_for_receipt_processing_and_sending(app, spans):
    found = trace_of(app, spans)
    assert [
        (found[name].name, found[name].kind.name) for name in ("receive", "process", "settle")
    ] == [("receive work", "CLIENT"), ("process work", "CONSUMER"), ("settle work", "CLIENT")]


def test_the_attributes_are_those_of_the_conventions(app, spans):
    assert dict(trace_of(app, spans)["receive"].attributes) == {
        "messaging.system": "arbprov",
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.destination.name": "work",
        "messaging.destination.subscription.name": "test",
        "messaging.message.id": "t0",
    }


def test_the_processing_links_to_the_receipt(app, spans):
    found = trace_of(app, spans)
    assert [link.context for link in found["process"].links] == [found["receive"].context]


def test_the_processing_is_a_trace_of_its_own(app, spans):
    found = trace_of(app, spans)
    assert found["process"].parent is None
    assert found["process"].context.trace_id != found["receive"].context.trace_id


def test_the_handler_s_own_spans_are_children_of_the_processing(app, spans):
    found = trace_of(app, spans)
    assert found["author"].parent == found["process"].context


def test_a_span_of_a_plain_handler_and_of_a_hook_is_a_child_too(app, spans, hub, serve):
    @app.action
    def plain() -> None:
        trace.get_tracer("the author's").start_span("author").end()

    @app.before_task
    def begin(ctx) -> None:
        trace.get_tracer("the author's").start_span("hook").end()

    running = serve(app)
    hub.call("plain")
    app.stop()
    running.result(TIMEOUT)
    found = spans()
    assert found["author"].parent == found["hook"].parent == found["process"].context


def test_the_sending_is_a_child_of_the_processing(app, spans):
    found = trace_of(app, spans)
    assert found["settle"].parent == found["process"].context


def test_nothing_is_current_after_a_task(app, spans):
    trace_of(app, spans)
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_result_has_its_status(app, spans):
    assert trace_of(app, spans)["process"].attributes["arbprov.task.status"] == "success"


def test_an_error_has_its_class_and_none_of_its_text(app, spans):
    span = trace_of(app, spans, "fail")["process"]
    assert span.attributes["error.type"] == "KeyError"
    assert span.status.status_code.name == "ERROR"
    assert "secret" not in span.to_json()


def test_a_task_that_an_api_throttles_is_not_a_failure(app, spans):
    span = trace_of(app, spans, "throttled")["process"]
    assert span.attributes["error.type"] == "RateLimited"
    assert span.status.status_code.name == "UNSET"


def test_a_submission_that_fails_is_an_error(app, spans):
    trace_of(app, spans, submits=[away()])
    sent = [span for span in spans.all() if span.name == "settle work"]
    assert [span.status.status_code.name for span in sent] == ["ERROR", "UNSET"]


def test_the_result_of_an_earlier_run_is_sent_without_a_parent(spans):
    observer = Tracing("test")
    observer.submitted(("t9", 0), 0.1, away())
    observer.run_ended()
    span = spans()["settle"]
    assert (span.name, span.parent, span.attributes["error.type"]) == (
        "settle",
        None,
        "HubConnectionError",
    )


def test_polls_without_a_task_have_no_span(app, spans):
    running = Running(app)
    running.observers = Observers([Tracing("test")])
    running.until(5.0)
    assert spans() == {}


def test_tasks_whose_results_are_never_sent_are_not_remembered_without_end(app, spans, monkeypatch):
    monkeypatch.setattr(tracing, "_MAX_UNSENT", 2)
    observer = Tracing("test")
    running = Running(app, polls=tasks(4), submits=[away()] * 4, afterwards=None)
    running.observers = Observers([observer])
    with contextlib.suppress(Exception):
        running.until(1.5)
    assert len(observer._unsent) <= 2


def test_two_attempts_at_once_have_spans_of_their_own(app, spans):
    @app.action
    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)

    payloads = {1: b'{"seconds": 5}', 2: b'{"seconds": 2}'}
    tries = [Task("t0", "wait", payloads[number], attempt=number) for number in payloads]
    running = Running(app, polls=tries)
    running.observers = Observers([Tracing("test")])
    running.until(20)
    processed, settled = (
        [span for span in spans.all() if span.name == f"{step} wait"]
        for step in ("process", "settle")
    )
    assert [span.parent.span_id for span in settled] == [span.context.span_id for span in processed]
    assert len(processed) == 2


def test_tasks_that_are_received_and_never_start_are_not_remembered_without_end(spans, monkeypatch):
    monkeypatch.setattr(tracing, "_MAX_RECEIPTS", 2)
    observer = Tracing("test")
    for task in tasks(4):
        observer.polled(0.1, task, None)
    assert list(observer._receipts) == [("t2", 0), ("t3", 0)]
    observer.run_ended()


def test_the_spans_end_in_the_order_of_the_events(app, spans):
    trace_of(app, spans)
    assert [span.name.split()[0] for span in spans.all()] == [
        "receive",
        "author",
        "process",
        "settle",
    ]


def test_a_span_s_times_are_those_of_the_task_however_late_it_is_exported(spans, monkeypatch):
    now = [5_000_000_000]
    monkeypatch.setattr(tracing.time, "time_ns", lambda: now[0])
    observer, task = Tracing("test"), tasks(1)[0]
    observer.polled(0.5, task, None)
    observer.task_started(task)
    now[0] = 6_000_000_000
    observer.task_ended(TaskResult(task, "success", "done", {}), 1.0, None)
    now[0] = 8_000_000_000
    observer.submitted(("t0", 0), 0.25, None)
    now[0] = 99_000_000_000
    observer.run_ended()
    found = spans()
    assert (found["receive"].start_time, found["receive"].end_time) == (
        4_500_000_000,
        5_000_000_000,
    )
    assert found["process"].end_time == 6_000_000_000
    assert (found["settle"].start_time, found["settle"].end_time) == (7_750_000_000, 8_000_000_000)


# The context in which a task was made.


def test_the_spans_link_to_the_context_that_the_hub_sends(app, spans):
    task = tasks(1)[0].__class__("t0", "work", b"{}", traceparent=TRACEPARENT)
    running = Running(app, polls=[task])
    running.observers = Observers([Tracing("test")])
    running.until(5.0)
    for name in ("receive", "process"):
        assert f"{spans()[name].links[0].context.trace_id:x}" == TRACE


def test_a_context_that_is_not_valid_is_left_out(app, spans):
    task = tasks(1)[0].__class__("t0", "work", b"{}", traceparent="rubbish")
    running = Running(app, polls=[task])
    running.observers = Observers([Tracing("test")])
    running.until(5.0)
    assert spans()["receive"].links == ()


def fetch(metadata, **options):
    """Return the task of a real hub that sends some metadata."""

    async def get_task(request, context):
        await context.send_initial_metadata(metadata)
        return hub_pb2.Task(id="t1", action="work").SerializeToString()

    async def main():
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(get_task)
        handlers = {"GetTask": handler}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Hub", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        token = Token("sample-token")
        token.read()
        timeouts = {"poll_timeout": 20.0, "submit_timeout": 20.0}
        url = f"127.0.0.1:{port}"
        hub = GrpcHub(url, provider="test", token=token, **timeouts, **options)
        try:
            return await hub.fetch()
        finally:
            await hub.close()
            await server.stop(None)

    return asyncio.run(main())


def test_the_hub_sends_the_context_as_metadata():
    metadata = (("other", "1"), ("traceparent", TRACEPARENT))
    assert fetch(metadata, reads_traces=True).traceparent == TRACEPARENT


@pytest.mark.parametrize("metadata", [(), (("other", "1"), ("more", "2"))])
def test_a_hub_that_sends_no_context_is_fine(metadata):
    assert fetch(metadata, reads_traces=True).traceparent == ""


def test_a_task_whose_receipt_was_not_seen_has_no_link_to_it(spans):
    observer, task = Tracing("test"), tasks(1)[0]
    observer.task_started(task)
    observer.task_ended(TaskResult(task, "success", "done", {}), 0.1, None)
    observer.run_ended()
    assert spans()["process"].links == ()


def test_without_traces_the_metadata_are_not_read():
    assert fetch((("traceparent", TRACEPARENT),)).traceparent == ""


# When traces are made.


def test_traces_are_made_if_an_sdk_is_set_up(spans):
    assert tracing.is_set_up()


def test_no_traces_are_made_without_an_sdk():
    assert not tracing.is_set_up()


def test_the_setup_of_the_documents_traces_a_run(tmp_path):
    page = (Path(__file__).parents[2] / "docs/how-to/trace-a-provider.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with LocalHub() as hub:
        ticket = hub.put("price", {"item": "tea"})
        code = f"""
import logging

@app.after_task
def end(result, ctx):
    logging.getLogger("shop").warning("done")
    app.stop()
    return result

app.run(hub_url={hub.address!r}, auth_token={hub.token!r})
"""
        command = [sys.executable, "-W", "ignore", "-c", snippet + code]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
        assert ticket.result().data == 3.5
    for name in ("receive price", "process price", "look up"):
        assert f'"name": "{name}"' in run.stdout
    (line,) = [line for line in run.stderr.splitlines() if '"body":"done"' in line]
    logged = json.loads(line)
    assert f'"trace_id": "0x{logged["trace_id"]}"' in run.stdout
    assert f'"span_id": "0x{logged["span_id"]}"' in run.stdout


def test_a_record_gets_the_ids_of_the_current_span(spans):
    record = logging.makeLogRecord({})
    with trace.get_tracer("test").start_as_current_span("work") as span:
        assert tracing.add_trace(record)
    context = span.get_span_context()
    assert (int(record.trace_id, 16), int(record.span_id, 16), record.trace_flags) == (
        context.trace_id,
        context.span_id,
        f"{int(context.trace_flags):02x}",
    )


def test_a_record_outside_of_a_span_gets_no_ids(spans):
    record = logging.makeLogRecord({})
    assert tracing.add_trace(record)
    assert not hasattr(record, "trace_id")


def test_a_record_is_logged_though_the_span_can_not_be_read(monkeypatch):
    monkeypatch.setattr(trace, "get_current_span", lambda: 1 / 0)
    assert tracing.add_trace(logging.makeLogRecord({}))


def test_nothing_of_opentelemetry_is_imported_without_an_sdk():
    code = (
        "import sys, arbprov.worker.run; from arbprov.instrumentation.setup import make_observers;"
        "print(make_observers('test', None), 'opentelemetry' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "None False\n"
