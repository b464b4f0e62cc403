"""Errors whose classes are the author's code, and raise more errors: each ends one task only."""

from __future__ import annotations

import asyncio
import logging
import sys

import attrs
import pytest
from support import odd_errors
from support.waiting import TIMEOUT

from arbprov import (
    ProviderApp,
    ProviderError,
    ProviderResponse,
    RateLimitMonitor,
    TaskResult,
)
from arbprov._utils import class_name
from arbprov.clock import SystemClock
from arbprov.executors.executor import Executor
from arbprov.executors.messages import Failure
from arbprov.executors.threads import ThreadPool
from arbprov.logs.task_lines import log_failure
from arbprov.task import Task
from arbprov.worker.admission import Admission

each_kind = pytest.mark.parametrize("kind", odd_errors.KINDS)


async def run(app, *tasks):
    """Run tasks one after the other as a worker does; return their results."""
    loop = asyncio.get_running_loop()
    threads = ThreadPool(loop, "test")
    dispatcher = app._dispatcher(SystemClock())
    executor = Executor(dispatcher, threads)
    admission = Admission(dispatcher, threads, executor, 8, loop.create_future())
    results = []
    try:
        for task in tasks:
            call = dispatcher.prepare(task)
            running = dispatcher.run(call, admission, executor)
            results.append(await asyncio.wait_for(running, TIMEOUT))
            log_failure(dispatcher, call)
    finally:
        executor.close()
    return results


def result_in(app, how):
    """Return the result of ``work``, whose next task must be as good as the first."""
    if how == "worker":
        first, second = asyncio.run(run(app, Task("t", "work"), Task("u", "work")))
    elif how == "acall":
        first, second = (asyncio.run(app.test_client().acall("work")) for _ in range(2))
    else:
        first, second = (app.test_client().call("work") for _ in range(2))
    assert (first.status, first.data) == (second.status, second.data)
    return first


each_way = pytest.mark.parametrize("how", ["worker", "call", "acall"])


def raising(kind, asynchronous=False):
    """Return a function that raises the error of a kind, by its name, or of a class."""
    make = odd_errors.KINDS[kind] if isinstance(kind, str) else kind

    def plain():
        raise make()

    async def on_the_loop():
        raise make()

    return on_the_loop if asynchronous else plain


@each_kind
@each_way
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_error_of_a_handler(kind, how, asynchronous):
    app = ProviderApp("test")
    app.action("work")(raising(kind, asynchronous))
    result = result_in(app, how)
    assert (result.status, result.data["type"]) == ("error", kind)


HOOKS = ["before_task", "after_task", "teardown_task", "errorhandler"]


@each_kind
@each_way
@pytest.mark.parametrize("hook", HOOKS)
def test_the_error_of_a_hook(kind, how, hook):
    app = ProviderApp("test")

    @app.action
    def work():
        if hook == "errorhandler":
            raise ValueError("work")

    register = app.errorhandler(ValueError) if hook == "errorhandler" else getattr(app, hook)
    register(raising(kind))
    result = result_in(app, how)
    assert (result.status, result.data["type"]) == ("error", kind)


@each_kind
def test_an_error_handler_gets_the_error_itself(kind):
    app, seen = ProviderApp("test"), []
    app.action("work")(raising(kind))
    app.errorhandler(BaseException)(lambda error: seen.append(class_name(error)) or "handled")
    assert result_in(app, "call").data == "handled"
    assert seen == [kind, kind]


@each_kind
@each_way
def test_the_error_of_a_validator(kind, how):
    fail = raising(kind)

    @attrs.define
    class Order:
        item: str = attrs.field(default="tea", validator=lambda *_: fail())

    app = ProviderApp("test")
    app.action("work", payload_schema=Order)(lambda payload: None)
    assert result_in(app, how).status == "error"


@each_way
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("where", ["cost", "limit", "monitor"])
def test_the_error_of_a_limit(error, how, where):
    def fail(*_):
        raise error("no limit")

    class Monitor(RateLimitMonitor):
        check_rate_limits = fail

    app = ProviderApp("test")
    limit = {"cost": "5/hour", "limit": fail, "monitor": Monitor()}[where]
    options = {"cost": fail} if where == "cost" else {}
    app.action("work")(app.rate_limit(limit, **options)(lambda: None))
    assert result_in(app, how).status == "error"


class OddText(str):
    __slots__ = ()

    def isascii(self):
        raise SystemExit("not ASCII")

    encode = __str__ = __eq__ = isascii
    __hash__ = str.__hash__


@each_way
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_message_that_is_not_plain_text(how, asynchronous):
    app = ProviderApp("test")

    def plain():
        return ProviderResponse("warning", message=OddText("rainy"))

    async def on_the_loop():
        return plain()

    app.action("work")(on_the_loop if asynchronous else plain)
    result = result_in(app, how)
    assert (result.status, result.message, type(result.message)) == ("warning", "rainy", str)


def test_an_error_that_is_false_is_raised_by_the_test_client():
    class Falsy(Exception):
        def __len__(self):
            return 0

    app = ProviderApp("test")
    app.action("work")(raising(Falsy))
    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(Falsy):
        client.call("work")


def test_a_broken_rate_limited_error_starts_a_short_cooldown():
    app = ProviderApp("test")
    app.action("work")(app.rate_limit("5/hour")(raising("Bare")))
    client = app.test_client()
    assert client.call("work").status == "error"
    assert client.call("work").wait_time == pytest.approx(1)


def test_what_can_not_be_written_is_an_error(monkeypatch):
    app = ProviderApp("test")
    app.action("work")(lambda: None)
    dispatcher = app._dispatcher(SystemClock())
    monkeypatch.setattr("arbprov.dispatcher.redact_result", lambda *_: sys.exit(3))
    call = dispatcher.prepare(Task("t", "work"))
    result = dispatcher.finish(call, TaskResult(call.task, "error", "m", {}))
    assert result.data == {"error": "SystemExit: 3", "type": "SystemExit"}


@each_kind
def test_an_error_crosses_from_a_handler_s_process(kind):
    try:
        raising(kind)()
    except BaseException as error:
        failure = Failure.of(error)
    restored = failure.restore()
    assert class_name(restored) == kind


# The log.


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.ERROR, "arbprov")

    def log(fail):
        app = ProviderApp("test")
        app.action("work")(fail)
        app.test_client().call("work")
        return caplog.records[-1].getMessage()

    return log


@pytest.mark.parametrize("kind", sorted(odd_errors.KINDS.keys() - {"Bare", "Spoilt", "Dumb"}))
def test_each_error_is_logged(logged, kind):
    assert kind in logged(raising(kind))


def chain(length):
    error = ValueError(0)
    for number in range(1, length):
        error, cause = ValueError(number), error
        error.__cause__ = cause
    raise error


@pytest.mark.parametrize(
    "fail",
    [
        lambda: chain(5_000),
        lambda: chain(900),
        lambda: raising(lambda: ValueError("y" * 5_000_000))(),
        lambda: raising(lambda: ValueError("line\n" * 1_000_000))(),
    ],
    ids=["long chain", "chain", "long text", "many lines"],
)
def test_the_traceback_of_an_error_is_bounded(logged, fail):
    text = logged(fail)
    assert len(text) < 100_000
    assert "Traceback (most recent call last):" in text
    assert "left out" in text


def test_a_short_line_that_is_cut_is_left_out(logged):
    secret = "s" * 20
    lines = "\n".join(f"{number} {secret}" for number in range(20_000))
    text = logged(raising(lambda: ValueError(lines)))
    numbered = [line for line in text.split("\n") if line.strip().partition(" ")[0].isdigit()]
    assert all(line.endswith(secret) for line in numbered)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups")
def test_a_group_that_has_another_twice_at_each_level_is_logged_by_its_text(logged):
    group = ValueError(1)
    for _ in range(40):
        group = ExceptionGroup("twice", [group, group])  # noqa: F821
    assert "left out" in logged(raising(lambda: group))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups")
def test_a_wide_group_is_logged_by_its_text(logged):
    group = ExceptionGroup("many", [ValueError(number) for number in range(5_000)])  # noqa: F821
    text = logged(raising(lambda: group))
    assert "ExceptionGroup: many (5000 sub-exceptions)" in text


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError, ValueError), (SystemExit, ProviderError)]
)
def test_the_error_of_a_limit_that_is_only_asked(error, raised):
    def fail(call):
        raise error("no cost")

    app = ProviderApp("test")
    app.action("work")(app.rate_limit("5/hour", cost=fail)(lambda: None))
    dispatcher = app._dispatcher(SystemClock())
    call = dispatcher.prepare(Task("t", "work"))
    with pytest.raises(raised, match=r"no cost|has raised SystemExit"):
        dispatcher.limiter.peek(call.route.limits, call.seen_by_limits)
