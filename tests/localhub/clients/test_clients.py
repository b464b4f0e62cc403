"""The sync and the async client, by one suite against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import json
import threading

import httpx
import pytest
from support.api_hubs import ADMIN, SUCCESS, running_api
from support.waiting import TIMEOUT, wait_until

from arbprov import localhub
from arbprov.errors import AuthenticationError, ConfigurationError, HubConnectionError, HubError
from arbprov.localhub.api import extra
from arbprov.localhub.clients import requests
from arbprov.localhub.clients.asynchronous import AsyncClient
from arbprov.localhub.clients.exchange import RequestRefused
from arbprov.localhub.clients.plain import Client
from arbprov.localhub.queue import Change
from arbprov.localhub.reports import ActionReport, LimitReport, ProviderReport
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import State


class Blocking:
    """An async client with the methods of a sync one."""

    def __init__(self, *arguments, **options):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self):
        self._loop.run_until_complete(self._client.__aenter__())
        return self

    def __exit__(self, *error):
        self._loop.run_until_complete(self._client.__aexit__(*error))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **options):
            called = method(*arguments, **options)
            if inspect.isasyncgen(called):
                return self._iterate(called)
            return self._loop.run_until_complete(called)

        return call

    def _iterate(self, items):
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(items.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(items.aclose())


@pytest.fixture(scope="module")
def served():
    with running_api() as api, api.serving() as url:
        yield api, url


@pytest.fixture
def api(served):
    api, _ = served
    yield api
    # The next test has the hub for itself.
    for task in api.all_tasks():
        api.run(api.queue.cancel([task["id"]]))
    api.run(api.queue.store.prune(-1e9, 0))


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def client(served, api, kind):
    with kind(served[1], ADMIN, timeout=TIMEOUT) as client:
        yield client


def test_a_task_is_submitted_and_read(client):
    task = client.submit("forecast", {"city": "Paris"}, account={"key": "k-123"}, priority=5)
    found = client.get(task.id)
    assert (found.action, found.payload, found.account) == (
        *("forecast", {"city": "Paris"}),
        {"key": "k-123"},
    )
    assert (found.state, found.priority, found.history) == (State.WAITING, 5, [])
    assert (
        found.created_at.tzinfo is dt.timezone.utc or found.created_at.utcoffset() == dt.timedelta()
    )


def test_each_argument_reaches_the_hub(client, api):
    when = dt.datetime(2096, 10, 2, 7, 6, 40, tzinfo=dt.timezone.utc)
    task = client.submit(
        "forecast",
        account_key="acme",
        provider="weather",
        id="each",
        not_before=when,
        ttl=60,
        max_deliveries=3,
        idempotency_key="once",
        traceparent="00-1-2-01",
    )
    assert (task.account_key, task.provider, task.not_before) == ("acme", "weather", when)
    assert task.expires_at == task.created_at + dt.timedelta(seconds=60)
    assert (task.max_deliveries, task.idempotency_key, task.traceparent) == (3, "once", "00-1-2-01")


def test_integers_are_exact(client):
    task = client.submit("forecast", {"n": 2**200})
    assert client.get(task.id).payload == {"n": 2**200}


def test_a_payload_of_100_levels_comes_back(client):
    payload = json.loads('{"a":' * 99 + "{}" + "}" * 99)
    task = client.submit("forecast", payload)
    assert [found.payload for found in client.list(id=task.id)] == [payload]


def test_a_result_has_its_attempts(client, api):
    task = client.submit("forecast")
    api.finish()
    found = client.get(task.id, accounts="masked")
    assert (found.state, found.result) == (State.DONE, json.loads(SUCCESS))
    assert [(attempt.number, attempt.end) for attempt in found.history] == [(1, "result")]


def test_many_tasks_go_in_several_requests(client, api, monkeypatch):
    monkeypatch.setattr(requests, "_MAX_TASKS", 100)
    progress = []
    tasks = ({"action": "many", "id": f"t{number}"} for number in range(250))
    accepted = client.submit_many(tasks, on_progress=progress.append)
    assert [task.id for task in accepted] == [f"t{number}" for number in range(250)]
    assert progress == [100, 100, 50]
    assert all(task.is_new for task in accepted)


def test_many_large_tasks_go_in_several_requests(client, monkeypatch):
    monkeypatch.setattr(requests, "_MAX_SIZE", 1_000)
    progress = []
    tasks = [{"action": "many", "payload": {"text": "x" * 600}}] * 3
    client.submit_many(tasks, on_progress=progress.append)
    assert progress == [1, 1, 1]


def test_none_is_as_good_as_left_out_in_many_tasks(client):
    (accepted,) = client.submit_many([{"action": "many", "payload": None, "ttl": None}])
    assert client.get(accepted.id).payload == {}


def test_a_problem_of_many_tasks_has_the_index_among_all_of_them(client, monkeypatch):
    monkeypatch.setattr(requests, "_MAX_TASKS", 2)
    tasks = [{"action": "many"}, {"action": "many"}, {"action": "many"}, {"action": ""}]
    with pytest.raises(RequestRefused, match=r": \[3\]\.action: must not be empty") as caught:
        client.submit_many(tasks)
    assert [problem.path for problem in caught.value.problems] == ["[3].action"]


def test_what_json_cannot_hold_in_many_tasks_is_an_error_with_its_index(client):
    tasks = [{"action": "many"}, {"action": "many", "payload": {"n": float("nan")}}]
    with pytest.raises(HubError, match=r"\[1\]\.payload\.n: nan is not a JSON number"):
        client.submit_many(tasks)


def test_no_tasks_are_no_request(client):
    assert client.submit_many([]) == []


def test_a_list_reads_all_pages(client):
    client.submit_many([{"action": "pages", "id": f"p{number}"} for number in range(7)])
    assert [task.id for task in client.list(action="pages", page_size=3)] == [
        f"p{number}" for number in reversed(range(7))
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"action": "report"}, ["t2"]),
        ({"account": "acme"}, ["t2"]),
        ({"provider": "printer"}, ["t2"]),
        ({"state": "done"}, ["t1"]),
        ({"state": State.DONE}, ["t1"]),
        ({"state": ["done", State.WAITING]}, ["t2", "t1"]),
        ({"error_type": "PlugError"}, []),
        ({"text": "PARIS"}, ["t1"]),
        ({"payload": {"city": "Paris", "n": 7}}, ["t1"]),
        ({"payload": {"n": 8}}, []),
        ({"payload": {"until": None}}, ["t2"]),
        ({"id": "t1"}, ["t1"]),
        ({"id": ["t1", "t2"]}, ["t2", "t1"]),
        ({"created_after": dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)}, ["t2", "t1"]),
        ({"created_before": 1e9}, []),
        ({"accounts": "masked"}, ["t2", "t1"]),
    ],
    ids=str,
)
def test_a_list_keeps_to_its_filters(client, api, filters, found):
    client.submit("forecast", {"city": "Paris", "n": 7}, id="t1")
    api.finish()
    client.submit("report", {"until": None}, id="t2", account_key="acme", provider="printer")
    assert [task.id for task in client.list(**filters)] == found


def test_a_task_is_cancelled_and_retried(client):
    task = client.submit("forecast")
    assert client.cancel(task.id, "a typo").reason == "a typo"
    assert client.retry(task.id).state is State.WAITING
    assert client.cancel(task.id).reason == "cancelled"


def test_all_that_match_are_counted_before_they_are_changed(client):
    client.submit_many([{"action": "match"}] * 3)
    where = {"action": "match", "state": "waiting"}
    assert client.cancel_matching(where).changed == 0
    matching = client.cancel_matching(where).matching
    assert client.cancel_matching(where, expect=matching).changed == 3
    assert client.retry_matching({"action": "match"}, expect=3).changed == 3


def test_a_wait_returns_the_ended_task(client, api):
    task = client.submit("forecast")
    finishing = threading.Thread(target=finish_when_awaited, args=[api])
    finishing.start()
    assert client.wait(task.id).state is State.DONE
    finishing.join(TIMEOUT)


def finish_when_awaited(api):
    wait_until(lambda: api.queue._waits)
    api.finish()


def test_a_long_wait_is_several_requests(client, api, monkeypatch):
    monkeypatch.setattr(requests, "_HOLD", 0.01)
    task = client.submit("forecast")
    threading.Timer(0.1, api.finish).start()
    assert client.wait(task.id, TIMEOUT).state is State.DONE


def test_a_wait_for_too_long_says_that_the_task_stays(client):
    task = client.submit("forecast", id="slow")
    with pytest.raises(TimeoutError) as caught:
        client.wait(task.id, 0.02)
    assert str(caught.value) == (
        "the task slow has not ended within 0.02 s; it stays in the hub, until it is cancelled: "
        "client.cancel('slow'), or `arbprov tasks cancel slow`"
    )


def test_events_are_changes(client, api):
    events = client.events()
    threading.Thread(target=submit_when_listened_to, args=[api]).start()
    assert next(events) == Change("watched", "waiting")
    api.loop.call_soon_threadsafe(api.queue.wake)
    assert next(events) == Change("", "")
    events.close()


def test_events_end_when_the_hub_stops(kind):
    with running_api() as api, contextlib.ExitStack() as serving:
        url = serving.enter_context(api.serving())
        with kind(url, ADMIN, timeout=TIMEOUT) as client:
            threading.Thread(target=submit_when_listened_to, args=[api]).start()
            events = client.events()
            assert next(events) == Change("watched", "waiting")
            serving.close()
            assert [*events] == []


def submit_when_listened_to(api):
    # One listener counts the ends.
    wait_until(lambda: len(api.queue._listeners) > 1)
    api.submit(id="watched")


def test_what_providers_have_reported_is_read(client, api):
    action = ActionReport(name="forecast", payload_schema={"type": "object"})
    limit = LimitReport(action="forecast", limit="5/minute", left=3, opens_in=30.0)
    report = ProviderReport(
        provider="weather", process="1", slots=8, actions=(action,), limits=(limit,)
    )
    api.hub.reports.put(report)
    ((weather,), (forecast,), (found,)) = (
        client.providers(),
        client.actions(),
        client.reported_limits(),
    )
    assert [process.slots for process in weather.processes] == [8]
    assert forecast.payload_schema == {"type": "object"}
    assert (found.limit, found.left, found.total) == ("5/minute", 3, None)
    assert found.opens_at.tzinfo is not None


def test_a_hub_that_knows_no_reports_has_none(kind):
    with answering(kind, httpx.Response(200, content=b'{"limits": []}')) as client:
        assert client.reported_limits() == []


def test_counts_and_limits_are_read(client):
    client.submit("forecast")
    counts = client.counts()
    assert counts.actions == {"forecast": {"waiting": 1}}
    assert counts.rates.seconds > 0
    assert client.limits() == []


def test_an_action_is_paused_and_resumed(client):
    assert [(p.kind, p.name) for p in client.pause("action", "a/b")] == [("action", "a/b")]
    assert len(client.pauses()) == 1
    client.resume("action", "a/b")
    assert client.pauses() == []


def test_a_token_is_made_and_removed(client, served, kind):
    made = client.make_token("ann/2", "reader")
    assert "ann/2" in [token.name for token in client.tokens()]
    with kind(served[1], made.token) as reader, pytest.raises(RequestRefused) as caught:
        reader.submit("forecast")
    assert caught.value.status == 403
    client.remove_token("ann/2")
    assert "ann/2" not in [token.name for token in client.tokens()]


# Errors.


def test_a_token_that_the_hub_does_not_know_is_an_error(served, kind):
    with kind(served[1], "wröng") as client, pytest.raises(AuthenticationError) as caught:
        client.counts()
    assert "refuses the token" in str(caught.value)
    assert "use the hub's own token, or one with the role admin or reader" in str(caught.value)
    with kind(served[1], "wrong") as client, pytest.raises(AuthenticationError):
        next(client.events())


def test_an_unknown_task_is_an_error(client):
    with pytest.raises(RequestRefused, match="the hub has no task with this id") as caught:
        client.get("unknown")
    assert (caught.value.status, caught.value.problems) == (404, [])


def test_a_request_that_is_not_valid_has_its_problems(client):
    with pytest.raises(RequestRefused) as caught:
        client.submit("forecast", priority=5_000)
    assert [str(problem) for problem in caught.value.problems] == ["priority: must be at most 1000"]


def test_what_json_cannot_hold_is_an_error(client):
    with pytest.raises(HubError, match=r"payload\.n: nan is not a JSON number"):
        client.submit("forecast", {"n": float("nan")})


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"text": "\ud800"}, "text: a string with a lone surrogate is not Unicode text"),
        ({"created_after": float("nan")}, "created_after: nan is not a JSON number"),
        ({"payload": {"n": float("inf")}}, r"payload\.n: inf is not a JSON number"),
        ({"payload": {"n": [1, 2]}}, r"payload\.n: an array or an object can't be searched for"),
        ({"id": [f"t{number}" for number in range(20_000)]}, "ask for fewer or shorter ids"),
        ({"id": []}, "id: an empty list matches no task"),
        ({"state": ()}, "state: an empty list matches no task"),
    ],
    ids=["surrogate", "nan", "inf", "array", "too-long", "no-ids", "no-states"],
)
def test_a_filter_that_cannot_be_sent_is_an_error(client, filters, problem):
    with pytest.raises(HubError, match=problem):
        next(iter(client.list(**filters)))


def test_an_id_that_cannot_be_sent_is_an_error(client):
    with pytest.raises(HubError, match="a string with a lone surrogate is not Unicode text"):
        client.get("\ud800")


def test_an_empty_list_of_ids_changes_no_task(client):
    client.submit("forecast")
    with pytest.raises(HubError, match="id: an empty list matches no task"):
        client.cancel_matching({"id": []}, expect=1)


KINDS, ROLES = "action, provider, account", "provider, admin, reader"
STATES = "waiting, running, done, failed, cancelled, dead"


@pytest.mark.parametrize(
    ("send", "problem"),
    [
        (lambda client: client.pause("x", "forecast"), f"kind: 'x' is not one of {KINDS}"),
        (lambda client: client.resume(None, "forecast"), f"kind: None is not one of {KINDS}"),
        (
            lambda client: client.make_token("ours", "Reader"),
            f"role: 'Reader' is not one of {ROLES}; did you mean 'reader'?",
        ),
        (
            lambda client: next(iter(client.list(state=["done", "waitin"]))),
            f"state: 'waitin' is not one of {STATES}; did you mean 'waiting'?",
        ),
    ],
    ids=["pause", "resume", "make_token", "list"],
)
def test_a_value_that_is_not_known_is_an_error_that_names_the_others(client, send, problem):
    with pytest.raises(HubError) as caught:
        send(client)
    assert str(caught.value) == problem


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_of_dots_stays_in_the_path(client, name):
    client.pause("account", name)
    client.resume("account", name)
    assert name not in [pause.name for pause in client.pauses()]
    with pytest.raises(RequestRefused, match="the hub has no task with this id"):
        client.get(name)


def test_an_answer_that_is_not_compressed_as_it_says_is_an_error(kind):
    response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Plain(b"no gzip"))
    failed = pytest.raises(HubConnectionError, match="can't be reached: ")
    with answering(kind, response) as client, failed:
        client.counts()


class Plain(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body for both kinds of clients."""

    def __init__(self, content):
        self._content = content

    def __iter__(self):
        yield self._content

    async def __aiter__(self):
        yield self._content


def test_a_hub_that_is_not_there_is_an_error(kind):
    with kind("127.0.0.1:1", "t") as client:
        with pytest.raises(HubConnectionError) as caught:
            client.counts()
        with pytest.raises(HubConnectionError):
            next(client.events())
    assert str(caught.value).startswith("the hub at http://127.0.0.1:1 can't be reached: ")
    assert str(caught.value).endswith("does `arbprov hub` serve its HTTP API at this address?")


def answering(kind, response):
    transport = httpx.MockTransport(lambda request: response)
    return kind("127.0.0.1:1", "t", transport=transport)


@pytest.mark.parametrize("content", [b"<h1>Bad gateway</h1>", b"[]", b"{}", b'{"detail": 5}'])
def test_an_answer_of_another_server_is_an_error(kind, content):
    refused = pytest.raises(HubError, match="HTTP status 502, and not as a bundled hub does")
    with answering(kind, httpx.Response(502, content=content)) as client, refused:
        client.counts()


@pytest.mark.parametrize("content", [b"<h1>Hello</h1>", b"{}", b'{"limits": 5}', b""])
def test_an_answer_that_cannot_be_read_is_an_error(kind, content):
    refused = pytest.raises(HubError, match="is it a bundled hub of this version of arbprov")
    with answering(kind, httpx.Response(200, content=content)) as client, refused:
        client.limits()


@pytest.mark.parametrize(
    ("media_type", "content", "problem"),
    [
        ("text/html", b"<h1>Hello</h1>", "HTTP status 200, and not as a bundled hub does"),
        ("text/event-stream", b"event: task\ndata: {\n\n", "an event of the hub can't be read"),
        ("text/event-stream", b"event: task\ndata: []\n\n", "is it a bundled hub of this version"),
    ],
)
def test_events_of_another_server_are_an_error(kind, media_type, content, problem):
    response = httpx.Response(200, headers={"Content-Type": media_type}, stream=Plain(content))
    with answering(kind, response) as client, pytest.raises(HubError, match=problem):
        next(client.events())


def test_an_error_without_a_text_is_named(kind):
    def fail(request):
        raise httpx.ReadTimeout("")

    failed = pytest.raises(HubConnectionError, match="can't be reached: ReadTimeout; ")
    with kind("127.0.0.1:1", "t", transport=httpx.MockTransport(fail)) as client, failed:
        client.counts()


def test_an_answer_may_have_more_than_is_known(kind):
    content = b'{"limits": [], "news": 1}'
    with answering(kind, httpx.Response(200, content=content)) as client:
        assert client.limits() == []


def test_problems_of_another_form_are_left_out(kind):
    content = b'{"detail": "no", "problems": [5, {"path": "a", "message": "b"}]}'
    with (
        answering(kind, httpx.Response(422, content=content)) as client,
        pytest.raises(RequestRefused) as caught,
    ):
        client.limits()
    assert [str(problem) for problem in caught.value.problems] == ["a: b"]


@pytest.mark.parametrize("problems", ["null", "5"])
def test_problems_that_are_not_a_list_are_left_out(kind, problems):
    response = httpx.Response(422, content=f'{{"detail": "no", "problems": {problems}}}')
    with answering(kind, response) as client, pytest.raises(RequestRefused) as caught:
        client.limits()
    assert caught.value.problems == []


def test_a_proxy_is_not_used_for_this_machine(client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert client.counts()


@pytest.mark.parametrize("url", ["http://hub.example", "http://192.0.2.1"])
def test_a_proxy_is_used_for_another_machine(kind, url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with (
        kind(url, "t") as client,
        pytest.raises(HubConnectionError, match=r"refused|attempts failed"),
    ):
        client.counts()


def test_the_token_is_not_in_a_repr(served):
    with Client(served[1], "secret-token") as client:
        assert "secret-token" not in repr(vars(client))


def test_both_clients_have_the_same_methods():
    def signatures(kind):
        return {
            name: inspect.signature(method).replace(return_annotation=None)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert signatures(Client) == signatures(AsyncClient)


# The names of arbprov.localhub.


def test_the_clients_are_names_of_the_hubs_package():
    assert (localhub.Client, localhub.AsyncClient) == (Client, AsyncClient)


def test_without_httpx_only_the_clients_are_missing(monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        localhub.Client  # noqa: B018
    assert str(caught.value) == "arbprov.localhub.Client needs httpx: pip install 'arbprov[hub]'"


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'Clients'"):
        localhub.Clients  # noqa: B018


def test_a_task_that_was_put_in_as_bytes_is_read(client, api):
    api.run(api.queue.submit([make_task("a", b"not JSON", id="raw")]))
    assert (client.get("raw").payload, client.get("raw").payload_text) == (None, "not JSON")
