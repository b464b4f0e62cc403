"""The example that calls an HTTP API, through the wire, with a real server."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from support.examples import load, statuses_of_tasks, working
from support.http_servers import Answer, HttpServer
from support.waiting import TIMEOUT

ARTICLE = {"id": 1, "name": "Sample tea", "price": "3.50"}
ACCOUNT, ANOTHER = {"api_key": "sample-key-1"}, {"api_key": "sample-key-2"}


@pytest.fixture
def api():
    with HttpServer(lambda path: Answer(200, ARTICLE)) as server:
        yield server


@pytest.fixture
def example(api, monkeypatch):
    monkeypatch.setenv("API_URL", api.url)
    return load("http_api")


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def get(hub, account=ACCOUNT):
    return hub.call("get_article", {"id": 1}, account=account)


def throttled(retry_after):
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda path: Answer(429, headers=headers)


def test_an_article_comes_from_the_api(hub, api):
    assert get(hub).data == ARTICLE
    assert api.requests[0].path == "/articles/1.json"


def test_the_account_s_key_goes_to_the_api(hub, api):
    get(hub)
    assert api.requests[0].headers["Authorization"] == "Bearer sample-key-1"


def test_all_tasks_share_one_client_and_its_connection(hub, api):
    get(hub)
    get(hub)
    assert len({request.client_address for request in api.requests}) == 1


def test_the_client_is_closed_when_the_provider_stops(example):
    clients = []
    example.app.before_task(lambda ctx: clients.append(ctx.state))
    with working(example) as hub:
        get(hub)
        assert not clients[0].is_closed
    assert clients[0].is_closed


def test_five_tasks_of_an_account_run_at_the_same_time(example, api):
    may_answer, waiting = threading.Event(), threading.Semaphore(0)

    def answer(path):
        waiting.release()
        may_answer.wait(TIMEOUT)
        return Answer(200, ARTICLE)

    api.answer = answer
    with working(example) as hub:
        tickets = [hub.put("get_article", {"id": 1}, account=ACCOUNT) for _ in range(6)]
        for _ in range(5):
            assert waiting.acquire(timeout=TIMEOUT)
        assert not waiting.acquire(timeout=0.2)
        may_answer.set()
        assert {ticket.result(TIMEOUT).status for ticket in tickets} == {"success"}


def test_the_seconds_of_a_429_are_the_task_s_wait_time(hub, api):
    api.answer = throttled("30")
    refused = get(hub)
    assert (refused.status, refused.data["wait_time"]) == ("limit", 30)


def test_the_time_until_the_date_of_a_429_is_the_task_s_wait_time(hub, api):
    in_a_while = datetime.now(timezone.utc) + timedelta(seconds=120)
    api.answer = throttled(format_datetime(in_a_while, usegmt=True))
    assert 110 < get(hub).data["wait_time"] <= 120


def test_a_past_date_is_a_second(hub, api):
    api.answer = throttled("Wed, 21 Oct 2015 07:28:00 GMT")
    assert get(hub).data["wait_time"] == 1


@pytest.mark.parametrize("retry_after", [None, "", "soon", "-5"])
def test_a_429_without_a_valid_retry_after_is_the_period_of_the_limit(hub, api, retry_after):
    api.answer = throttled(retry_after)
    assert 1 <= get(hub).data["wait_time"] < 1.1


def test_a_request_over_the_limit_waits(hub, api):
    for _ in range(10):
        get(hub)
    api.answer = lambda path: Answer(200, {"late": True})
    assert get(hub).data == {"late": True}
    assert len(api.requests) == 11


def test_the_limit_learns_what_the_api_has_left(example, api):
    headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "4"}
    api.answer = lambda path: Answer(200, ARTICLE, headers)
    with example.app.test_client() as client:
        client.call("get_article", {"id": 1}, account=ACCOUNT)
        headroom = client.limits.headroom("get_article", key=ACCOUNT["api_key"])
    assert {one.limit: one.remaining for one in headroom} == {"5 at a time": 5, "10/second": 4}


def test_after_a_429_the_account_is_refused_without_asking_the_api(hub, api):
    api.answer = throttled("30")
    get(hub)
    refused = get(hub)
    assert refused.status == "limit"
    assert 20 < refused.data["wait_time"] <= 30
    assert len(api.requests) == 1


def test_after_a_429_other_accounts_go_on(hub, api):
    api.answer = throttled("30")
    get(hub)
    api.answer = lambda path: Answer(200, ARTICLE)
    assert get(hub, ANOTHER).status == "success"


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "404 Not Found"), (500, "500 Internal Server Error"), (503, "503 Service Unavailable")],
)
def test_a_refusal_or_failure_of_the_api_is_an_error_with_its_status(hub, api, status, message):
    api.answer = lambda path: Answer(status)
    failed = get(hub)
    assert (failed.status, failed.message) == ("error", f"The API answered {message}")
    assert failed.data["type"] == "ApiError"


def test_an_answer_that_is_not_json_is_an_error(hub, api):
    api.answer = lambda path: Answer(200, b"<p>Sample page</p>")
    assert get(hub).message == "The API's answer is not JSON"


def test_an_api_that_hangs_is_an_error(example, api):
    example.API_TIMEOUT = 0.1
    api.answer = api.hang
    with working(example) as hub:
        assert get(hub).message == "The API did not answer within 0.1 s"


def test_an_api_that_is_away_is_an_error(api, monkeypatch):
    monkeypatch.setenv("API_URL", "http://127.0.0.1:1")
    with working(load("http_api")) as hub:
        failed = get(hub)
    assert failed.status == "error"
    assert failed.message.startswith("The API can't be reached: ")


def test_one_of_the_example_s_tasks_finds_nothing(hub, api):
    api.answer = lambda path: Answer(404) if "99" in path else Answer(200, ARTICLE)
    assert statuses_of_tasks("http_api", hub) == ["success", "success", "error"]
