"""Providers that run for a real hub, over real gRPC."""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import random
import subprocess
import sys
import threading
from concurrent import futures
from datetime import datetime

import pytest
from support.waiting import TIMEOUT

from arbprov import ConfigurationError, ProviderApp, ProviderResponse, RateLimited
from arbprov.localhub import LocalHub
from arbprov.testing import FaultyHub, faults, serving


class Odd(BaseException):
    """An exception that no `except Exception` catches."""


@pytest.fixture
def app():
    app = ProviderApp("wire", timezone="Europe/Madrid")

    @app.action
    def echo(value: int) -> dict:
        return {"value": value}

    @app.action
    async def echo_async(value: int) -> dict:
        await asyncio.sleep(0)
        return {"value": value}

    @app.action
    def whole(payload: dict) -> dict:
        return payload

    @app.action
    def keyed(account: dict[str, str]) -> dict:
        return {"fields": sorted(account)}

    @app.action
    @app.rate_limit("1/minute", key="payload.of")
    def scarce(of: str) -> dict:
        return {"of": of}

    @app.action
    def respond(status: str) -> ProviderResponse:
        return ProviderResponse(status, data={"said": status})

    @app.action
    def told_to_wait() -> dict:
        raise RateLimited(retry_after=30, limit="the API's own")

    @app.action
    def fail(kind: str) -> dict:
        kinds = {"odd": Odd, "exit": SystemExit, "keyboard": KeyboardInterrupt, "value": ValueError}
        raise kinds[kind]("on purpose")

    @app.action
    async def fail_async(kind: str) -> dict:
        kinds = {"odd": Odd, "exit": SystemExit, "cancelled": asyncio.CancelledError}
        raise kinds[kind]("on purpose")

    @app.action
    def return_badly(what: str) -> object:
        cycle: list = []
        cycle.append(cycle)
        values = {"nan": float("nan"), "set": {1}, "object": object(), "cycle": cycle}
        return {"inside": [values[what]]}

    return app


@pytest.fixture
def served(app, serve):
    serve(app)


def loop_of_a_provider(serve, hub) -> str:
    app = ProviderApp("looped")

    @app.action
    async def look() -> str:
        return type(asyncio.get_running_loop()).__module__

    serve(app)
    return hub.call("look").data


@pytest.mark.fast
def test_a_provider_runs_on_uvloop_where_it_is_installed(serve, hub):
    assert loop_of_a_provider(serve, hub).startswith("uvloop")


def test_a_provider_runs_on_asyncio_s_loop_where_uvloop_is_not_installed(serve, hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_of_a_provider(serve, hub).startswith("asyncio")


@pytest.mark.slow
def test_two_thousand_tasks_of_both_kinds_each_get_exactly_one_result(serve, hub):
    app = ProviderApp("many", concurrency=64)

    @app.action
    def plain(number: int) -> dict:
        return {"number": number}

    @app.action("async")
    async def asynchronous(number: int) -> dict:
        await asyncio.sleep(random.random() / 100)
        return {"number": number}

    serve(app)
    tickets = [hub.put(("plain", "async")[n % 2], {"number": n}) for n in range(2000)]
    assert [ticket.result(TIMEOUT).data["number"] for ticket in tickets] == list(range(2000))
    sent = collections.Counter(submission.id for submission in hub.submissions)
    assert sent == {ticket.id: 1 for ticket in tickets}


def test_sixty_four_tasks_run_at_once(serve, hub):
    app = ProviderApp("many", concurrency=64, execution_timeout=30)
    everybody = threading.Barrier(64)

    @app.action
    def meet() -> dict:
        everybody.wait(TIMEOUT)
        return {}

    serve(app)
    tickets = [hub.put("meet") for _ in range(64)]
    assert {ticket.result(TIMEOUT).status for ticket in tickets} == {"success"}


def test_a_result_carries_the_task_as_it_came(served, hub):
    payload, account = b'{"value":  1 }', b'{ "key":"sample" }'
    result = hub.call("echo", payload, account=account)
    assert (result.payload, result.account) == (payload.decode(), account.decode())


def test_a_result_names_its_provider_and_action(served, hub):
    result = hub.call("echo", {"value": 1})
    assert (result.provider, result.action, result.status) == ("wire", "echo", "success")


def test_a_task_for_another_provider_is_not_handed_out(served, hub):
    ticket = hub.put("echo", {"value": 1}, provider="another")
    hub.call("echo", {"value": 2})
    assert not ticket.done


DEEP = b'{"a":' * 200 + b"1" + b"}" * 200

BAD_PAYLOADS = {
    "no JSON": (b"{nope", "payload", "not JSON: Expecting property name"),
    "cut off": (b'{"value": 1', "payload", "not JSON: Expecting ',' delimiter"),
    "no UTF-8": (b'{"value": "\xff"}', "payload", "not UTF-8: byte 11 can't be decoded"),
    "an array": (b"[1]", "payload", "expected a JSON object, got an array"),
    "a number": (b"1", "payload", "expected a JSON object, got an integer"),
    "too deep": (DEEP, "payload", "nested deeper than 100 levels"),
    "bottomless": (b"[" * 100_000, "payload", "nested deeper than 100 levels"),
    "NaN": (b'{"value": NaN}', "payload", "not JSON: NaN is not a JSON number"),
    "too large": (b'{"value": 1e999}', "payload", "holds a number that is too large"),
    "too long": (b'{"value": 1' + b"0" * 5000 + b"}", "payload", "holds an integer of more than"),
    "wrong type": (b'{"value": "1"}', "value", "expected an integer, got a string"),
    "missing": (b"{}", "value", "required field is missing"),
    "nothing": (b"", "value", "required field is missing"),
}


@pytest.mark.parametrize(("payload", "path", "message"), BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
def test_a_bad_payload_is_an_error_with_its_path_and_the_worker_goes_on(
    served, hub, payload, path, message
):
    result = hub.call("echo", payload)
    (problem,) = result.data["problems"]
    assert (result.status, problem["path"]) == ("error", path)
    assert problem["message"].startswith(message)
    assert hub.call("echo", {"value": 1}).status == "success"


def test_a_bad_account_is_an_error_with_its_path(served, hub):
    result = hub.call("echo", {"value": 1}, account=b"nope")
    assert result.data["problems"][0]["path"] == "account"


def test_a_missing_account_is_an_error(serve, hub):
    app = ProviderApp("accounts")

    @app.action(account_schema={"api_key": str})
    def keyed() -> dict:
        return {}

    serve(app)
    problems = hub.call("keyed").data["problems"]
    assert problems == [{"path": "account.api_key", "message": "required field is missing"}]


def test_an_unknown_action_is_an_error_that_lists_the_known_ones(served, hub, app):
    assert hub.call("nope").data == {
        "error": "Action not found",
        "available_actions": [action.name for action in app.actions()],
    }


RAISING = {
    "SystemExit": ("fail", "exit", "SystemExit"),
    "KeyboardInterrupt": ("fail", "keyboard", "KeyboardInterrupt"),
    "a BaseException": ("fail", "odd", "Odd"),
    "an Exception": ("fail", "value", "ValueError"),
    "an async BaseException": ("fail_async", "odd", "Odd"),
    "an async SystemExit": ("fail_async", "exit", "SystemExit"),
    "CancelledError": ("fail_async", "cancelled", "CancelledError"),
}


@pytest.mark.parametrize(("action", "kind", "name"), RAISING.values(), ids=RAISING)
def test_whatever_a_handler_raises_is_an_error_and_the_worker_goes_on(
    served, hub, action, kind, name
):
    result = hub.call(action, {"kind": kind})
    assert (result.status, result.data) == ("error", {"error": "on purpose", "type": name})
    assert hub.call("echo", {"value": 1}).status == "success"


UNCARRIABLE = {
    "nan": ("inside[0]", "nan is not a JSON number"),
    "set": (
        "inside[0]",
        "a set has no order in JSON; return sorted(...) or list(...) of it",
    ),
    "object": ("inside[0]", "JSON has no form for object"),
    "cycle": ("inside[0][0]", "contains itself"),
}


@pytest.mark.parametrize("what", UNCARRIABLE)
def test_what_json_can_not_carry_is_an_error_with_its_path(served, hub, what):
    path, message = UNCARRIABLE[what]
    assert hub.call("return_badly", {"what": what}).data["problems"] == [
        {"path": path, "message": message}
    ]


@pytest.fixture
def hanging(serve):
    """Run a provider with a plain handler that hangs until the event is set; it counts its runs."""
    app = ProviderApp("slow", execution_timeout=0.5, concurrency=1)
    go_on = threading.Event()
    go_on.runs = 0

    @app.action
    def hang() -> dict:
        go_on.runs += 1
        go_on.wait(TIMEOUT)
        return {"late": True}

    serve(app)
    yield go_on
    go_on.set()


def test_a_plain_handler_that_takes_too_long_is_answered_at_its_deadline(hanging, hub):
    result = hub.call("hang")
    assert (result.status, result.data["timeout"]) == ("error", 0.5)


def test_the_late_result_of_a_plain_handler_is_never_sent(hanging, hub):
    hub.call("hang")
    hanging.set()
    hub.call("hang")
    assert len(hub.submissions) == 2


def test_the_late_result_of_a_plain_handler_is_logged(hanging, hub, log_line):
    hub.call("hang")
    hanging.set()
    assert "'hang' ended after its timeout of 0.5 s; its result is dropped" in log_line("dropped")


def test_a_thread_that_hangs_keeps_its_slot(hanging, hub):
    hub.call("hang")
    second = hub.put("hang")
    with pytest.raises(TimeoutError):
        second.result(0.3)
    assert hanging.runs == 1
    hanging.set()
    second.result()
    assert hanging.runs == 2


def test_an_awaitable_of_a_plain_handler_is_awaited_on_the_event_loop(serve, hub):
    app = ProviderApp("mixed")

    async def where() -> dict:
        return {"on_main": threading.current_thread().name.startswith("arbprov")}

    @app.action
    def lazy():
        return where()

    serve(app)
    assert hub.call("lazy").data == {"on_main": False}


def test_an_awaitable_of_a_plain_handler_is_cancelled_at_the_deadline(serve, hub):
    app = ProviderApp("mixed", execution_timeout=0.1)
    cancelled = threading.Event()

    async def hang():
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()

    @app.action
    def lazy():
        return hang()

    serve(app)
    assert hub.call("lazy").data["timeout"] == 0.1
    assert cancelled.wait(TIMEOUT)


def test_each_call_on_a_thread_has_context_variables_of_its_own(serve, hub):
    import contextvars

    app = ProviderApp("vars", concurrency=1)
    seen = contextvars.ContextVar("seen", default=0)

    @app.action
    def count() -> dict:
        seen.set(seen.get() + 1)
        return {"seen": seen.get()}

    serve(app)
    assert [hub.call("count").data["seen"] for _ in range(3)] == [1, 1, 1]


# The test client gives the same envelope.

SAME = {
    "success": ("echo", {"value": 1}, None),
    "async": ("echo_async", {"value": 1}, None),
    "unicode": ("whole", {"text": "žluťoučký 🐎", "n": 1.5, "deep": [{"a": None}]}, None),
    "account": ("keyed", {}, {"key": "sample", "id": "7"}),
    "bad payload": ("echo", {"value": [1]}, None),
    "no JSON": ("echo", b"{", None),
    "bad account": ("keyed", {}, {"key": 1}),
    "unknown": ("nope", {}, None),
    "warning": ("respond", {"status": "warning"}, None),
    "no status": ("respond", {"status": "great"}, None),
    "raised": ("fail", {"kind": "value"}, None),
    "raised badly": ("fail", {"kind": "odd"}, None),
    "uncarriable": ("return_badly", {"what": "nan"}, None),
    "told to wait": ("told_to_wait", {}, None),
}


@pytest.mark.parametrize("case", SAME)
def test_the_wire_and_the_test_client_give_the_same_envelope(served, hub, app, case):
    action, payload, account = SAME[case]
    over_wire = hub.call(action, payload, account=account).envelope
    in_test = app.test_client().call(action, payload, account=account).envelope
    for envelope in (over_wire, in_test):
        local = datetime.fromisoformat(envelope["data"].pop("now"))
        assert local == datetime.fromisoformat(envelope["data"].pop("now_utc"))
    assert over_wire == in_test


def test_the_wire_and_the_test_client_give_the_same_refusal_but_for_its_time(served, hub, app):
    client = app.test_client()
    for call in (hub.call, client.call):
        call("scarce", {"of": "x"})
    over_wire, in_test = (
        hub.call("scarce", {"of": "x"}).data,
        client.call("scarce", {"of": "x"}).data,
    )
    for data in (over_wire, in_test):
        assert 59 < data.pop("wait_time") <= 60.06
        assert 59 < data["limits"][0].pop("wait_time") <= 60.06
    assert over_wire == in_test


# The life of a provider.


def test_a_provider_waits_out_the_pause_that_the_hub_asks_for(served, hub):
    hub.call("echo", {"value": 1})
    hub.rate_limit(0.4)
    ticket = hub.put("echo", {"value": 2})
    with pytest.raises(TimeoutError):
        ticket.result(0.2)
    assert ticket.result().status == "success"


def test_stop_before_run_is_heard(hub):
    app = ProviderApp("short")
    app.stop()
    app.run(hub_url=hub.address, auth_token=hub.token)


def test_an_app_may_run_again(hub):
    app = ProviderApp("short")
    for _ in range(2):
        app.stop()
        app.run(hub_url=hub.address, auth_token=hub.token)


def test_an_app_runs_once_at_a_time(serve, hub):
    app = ProviderApp("twice")

    @app.action
    def ready() -> dict:
        return {}

    serve(app)
    hub.call("ready")
    with pytest.raises(RuntimeError, match="this app runs already"):
        app.run(hub_url=hub.address, auth_token=hub.token)


def test_run_inside_an_event_loop_raises_an_error_with_the_fix(hub):
    from arbprov import ConfigurationError

    async def main():
        ProviderApp("inside").run(hub_url=hub.address, auth_token=hub.token)

    with pytest.raises(ConfigurationError, match=r"await asyncio\.to_thread\(app\.run\)"):
        asyncio.run(main())


def test_arbprov_lives_with_another_package_that_has_a_task_and_a_hub():
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(name="theirs.proto", syntax="proto3")
for name in ("Task", "TaskResult", "ProviderRequest"):
    file.message_type.add(name=name)
file.service.add(name="Hub")
add = lambda: descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
{first}
{second}
from arbprov._proto import hub_pb2
assert hub_pb2.Task(id="ours").id == "ours"
assert descriptor_pool.Default().FindMessageTypeByName("Task").file.name == "theirs.proto"
"""
    ours, theirs = "from arbprov._proto import hub_pb2", "add()"
    for first, second in ((ours, theirs), (theirs, ours)):
        subprocess.run(
            [sys.executable, "-c", code.format(first=first, second=second)],
            check=True,
            timeout=TIMEOUT,
        )


def test_a_large_task_and_a_large_result_arrive(served, hub):
    text = "x" * 10_000_000
    assert hub.call("whole", {"text": text}, timeout=TIMEOUT).data == {"text": text}


def test_the_result_on_the_wire_is_json_text(served, hub):
    result = hub.call("echo", {"value": 1})
    assert json.loads(result.result)["data"]["response"] == {"value": 1}


def test_a_hub_that_restarts_is_worked_for_again(hub):
    app = ProviderApp("faithful")

    @app.action
    def ready() -> dict:
        return {}

    thread = threading.Thread(
        target=app.run, kwargs={"hub_url": hub.address, "auth_token": hub.token}
    )
    thread.start()
    try:
        hub.call("ready")
        hub.stop()
        with LocalHub(hub.address, token=hub.token, hold=0.05) as again:
            assert again.call("ready", timeout=TIMEOUT).status == "success"
            app.stop()
            thread.join(TIMEOUT)
    finally:
        app.stop()
        thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_the_garbage_collector_is_spared_the_tasks_in_flight_while_the_app_runs(serve, hub):
    app = ProviderApp("tidy", concurrency=1_000)

    @app.action
    def threshold() -> int:
        return gc.get_threshold()[0]

    serve(app)
    assert hub.call("threshold").data == 150_000


def test_what_a_handler_leaves_running_is_cancelled_at_the_end(serve, hub):
    app = ProviderApp("untidy")
    cancelled, left = [], set()

    async def linger():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @app.action
    async def leave() -> dict:
        left.add(asyncio.create_task(linger()))
        await asyncio.sleep(0)
        return {}

    running = serve(app)
    hub.call("leave")
    app.stop()
    running.result(TIMEOUT)
    assert cancelled == [True]


# Results that are too large, and tasks that are redelivered.


@pytest.fixture
def small_hub():
    """Yield a hub that accepts messages up to 1 MiB, instead of gRPC's default of 4 MiB."""
    with LocalHub(hold=0.05, max_message_size=1024 * 1024) as hub:
        yield hub


def test_a_result_larger_than_the_hub_takes_becomes_a_small_error(small_hub):
    app = ProviderApp("wire", execution_timeout=20)

    @app.action
    def rows() -> dict:
        return {"rows": "x" * 2_000_000}

    with futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=small_hub.address, auth_token=small_hub.token)
        result = small_hub.call("rows", timeout=TIMEOUT)
        app.stop()
        running.result(TIMEOUT)
    assert (result.status, result.message) == ("error", "the result is too large for the hub")


@pytest.mark.parametrize("spool", [None, "spool"])
def test_a_task_that_the_hub_hands_out_again_is_not_run_again(tmp_path, spool):
    runs = []
    app = ProviderApp("wire", spool=spool and tmp_path / spool)

    @app.action
    def count() -> dict:
        runs.append(1)
        return {"run": len(runs)}

    with FaultyHub(faults.duplicate()) as hub, serving(app, hub):
        assert hub.call("count").data == {"run": 1}
        hub.wait_until(lambda hub: len(hub.handed_out) >= 2)
    assert len(set(hub.submissions)) == 1
    assert runs == [1]


@pytest.mark.parametrize("spool", [None, "spool"])
def test_another_attempt_of_a_task_is_run(hub, serve, tmp_path, spool):
    app = ProviderApp("wire", spool=spool and tmp_path / spool)
    runs = []

    @app.action
    def count() -> dict:
        runs.append(1)
        return {"run": len(runs)}

    serve(app)
    results = [hub.put("count", id="again").result(TIMEOUT).data for _ in range(3)]
    assert results == [{"run": 1}, {"run": 2}, {"run": 3}]


def test_a_provider_whose_spool_is_in_use_does_not_start(hub, serve, tmp_path):
    first = ProviderApp("wire", spool=tmp_path / "spool")
    serve(first)
    hub.call("nothing", timeout=TIMEOUT)
    second = ProviderApp("wire", spool=tmp_path / "spool")
    with pytest.raises(ConfigurationError, match="is in use"):
        second.run(hub_url=hub.address, auth_token=hub.token)
