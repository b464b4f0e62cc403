"""The example of a task that makes many requests, through the wire, with a real server."""

from __future__ import annotations

import pytest
from support.examples import load, statuses_of_tasks, working
from support.http_servers import Answer, HttpServer


def article(path):
    return {"id": int(path.removeprefix("/articles/").removesuffix(".json"))}


@pytest.fixture
def api():
    with HttpServer(lambda path: Answer(200, article(path))) as server:
        yield server


@pytest.fixture
def example(api, monkeypatch):
    monkeypatch.setenv("API_URL", api.url)
    return load("fan_out")


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def get(hub, *ids):
    return hub.call("get_articles", {"ids": list(ids)})


def test_all_articles_come_in_the_order_they_were_asked_for(hub):
    result = get(hub, 3, 1, 2)
    assert result.status == "success"
    assert result.data == {"articles": [{"id": 3}, {"id": 1}, {"id": 2}], "failed": {}}


def test_as_many_requests_as_allowed_are_in_flight(hub, example):
    on_their_way, counts = set(), []

    async def leaves(request):
        on_their_way.add(request)
        counts.append(len(on_their_way))

    async def is_back(response):
        on_their_way.remove(response.request)

    get(hub, 1)  # the client is there from now on
    example.api.event_hooks = {"request": [leaves], "response": [is_back]}
    assert get(hub, *range(3 * example.AT_ONCE)).status == "success"
    assert max(counts) == example.AT_ONCE


def test_a_missing_article_leaves_the_others(hub, api):
    api.answer = lambda path: Answer(404) if "99" in path else Answer(200, article(path))
    result = get(hub, 1, 99, 2)
    assert (result.status, result.message) == ("warning", "1 of 3 articles are missing")
    assert result.data["articles"] == [{"id": 1}, {"id": 2}]
    assert result.data["failed"] == {"99": "the API answered 404 Not Found"}


def test_no_article_at_all_is_an_error(hub, api):
    api.answer = lambda path: Answer(500)
    assert get(hub, 1, 2).status == "error"


def test_an_article_without_an_answer_before_the_deadline_is_missing(example, api):
    example.RESERVE = example.app.config.execution_timeout - 0.3
    api.answer = lambda path: api.hang(path) if "99" in path else Answer(200, article(path))
    with working(example) as hub:
        result = get(hub, 1, 99)
    assert result.status == "warning"
    assert result.data == {"articles": [{"id": 1}], "failed": {"99": "did not come in time"}}


def test_an_unreachable_api_is_reported_for_each_article(monkeypatch):
    monkeypatch.setenv("API_URL", "http://127.0.0.1:1")
    with working(load("fan_out")) as hub:
        result = get(hub, 1, 2)
    assert result.status == "error"
    assert all("can't be reached" in reason for reason in result.data["failed"].values())


def test_an_unexpected_answer_is_the_whole_task_s_error(hub, api):
    api.answer = lambda path: Answer(200, b"<p>Sample page</p>")
    assert get(hub, 1).data["type"] == "JSONDecodeError"


@pytest.mark.parametrize("ids", [[], range(101)])
def test_no_ids_and_too_many_are_refused(hub, ids):
    assert get(hub, *ids).data["problems"][0]["path"] == "ids"


def test_the_example_s_tasks_find_all_some_and_no_articles(hub, api):
    api.answer = lambda path: Answer(404) if "9" in path else Answer(200, article(path))
    assert statuses_of_tasks("fan_out", hub) == ["success", "warning", "error"]
