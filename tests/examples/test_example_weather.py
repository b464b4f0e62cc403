"""The weather connector, through the wire, with a server that answers as the real one does."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from cachetools import TTLCache
from support.examples import load, statuses_of_tasks, working
from support.http_servers import Answer, HttpServer

TWO_DAYS = {
    "latitude": 40.4375,
    "longitude": -3.6875,
    "timezone": "Europe/Madrid",
    "daily_units": {"time": "iso8601", "temperature_2m_min": "°C", "precipitation_sum": "mm"},
    "daily": {
        "time": ["2026-03-20", "2026-03-21"],
        "temperature_2m_min": [7.5, 8.25],
        "temperature_2m_max": [18.0, 19.5],
        "precipitation_sum": [0.0, None],
    },
}


@pytest.fixture
def api():
    with HttpServer(lambda path: Answer(200, TWO_DAYS)) as server:
        yield server


@pytest.fixture
def example(api, monkeypatch):
    monkeypatch.setenv("WEATHER_URL", api.url)
    return load("weather")


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def forecast(hub, latitude=40.42, longitude=-3.7, **payload):
    return hub.call("forecast", {"latitude": latitude, "longitude": longitude, **payload})


def test_a_forecast_is_typed_and_comes_by_days(hub):
    assert forecast(hub).data == {
        "timezone": "Europe/Madrid",
        "days": [
            {"day": "2026-03-20", "coldest": 7.5, "warmest": 18.0, "rain": 0.0},
            {"day": "2026-03-21", "coldest": 8.25, "warmest": 19.5, "rain": None},
        ],
    }


def test_the_service_is_asked_for_the_place_and_the_days(hub, api):
    forecast(hub, days=2)
    url = urlsplit(api.requests[0].path)
    assert url.path == "/v1/forecast"
    assert parse_qs(url.query) == {
        "latitude": ["40.42"],
        "longitude": ["-3.7"],
        "forecast_days": ["2"],
        "timezone": ["auto"],
        "daily": ["temperature_2m_min,temperature_2m_max,precipitation_sum"],
    }


def test_the_same_place_is_requested_once(hub, api):
    assert forecast(hub).data == forecast(hub).data
    assert len(api.requests) == 1


def test_another_place_or_other_days_are_requested_again(hub, api):
    forecast(hub)
    forecast(hub, latitude=41)
    forecast(hub, days=2)
    assert len(api.requests) == 3


def test_an_old_forecast_is_requested_again(example, api):
    now = 0.0
    ttl = example.cache.ttl
    example.cache = TTLCache(10, ttl, timer=lambda: now)
    with working(example) as hub:
        forecast(hub)
        now = ttl - 1
        forecast(hub)
        assert len(api.requests) == 1
        now = ttl
        forecast(hub)
    assert len(api.requests) == 2


def test_an_answer_from_the_cache_takes_nothing_from_the_quota(hub, example):
    for _ in range(5):
        forecast(hub)
    left = {one.limit: one.remaining for one in example.app.limits.headroom("forecast")}
    assert left == {"600/minute": 599, "5000/hour": 4999, "10000/day": 9999}


def test_a_throttling_service_is_not_asked_for_a_minute(hub, api):
    api.answer = lambda path: Answer(429)
    assert (forecast(hub).status, forecast(hub).status) == ("limit", "limit")
    assert len(api.requests) == 1


def test_an_error_of_the_service_is_the_task_s_error(hub, api):
    api.answer = lambda path: Answer(400, {"error": True, "reason": "sample"})
    failed = forecast(hub)
    assert failed.data["type"] == "WeatherError"
    assert failed.message == (
        'The weather service answered 400 {"error": true, "reason": "sample"}'
    )


def test_a_failure_is_not_cached(hub, api):
    api.answer = lambda path: Answer(500)
    assert forecast(hub).status == "error"
    api.answer = lambda path: Answer(200, TWO_DAYS)
    assert forecast(hub).status == "success"


def test_a_service_that_is_away_is_an_error(monkeypatch):
    monkeypatch.setenv("WEATHER_URL", "http://127.0.0.1:1")
    with working(load("weather")) as hub:
        assert forecast(hub).message == "The weather service does not answer: ConnectError"


@pytest.mark.parametrize(
    ("payload", "path"),
    [({"latitude": 98}, "latitude"), ({"longitude": -181}, "longitude"), ({"days": 15}, "days")],
)
def test_an_invalid_place_or_span_is_refused_without_a_request(hub, api, payload, path):
    assert [one["path"] for one in forecast(hub, **payload).data["problems"]] == [path]
    assert not api.requests


def test_one_of_the_example_s_tasks_has_an_invalid_place(hub):
    assert statuses_of_tasks("weather", hub) == ["success", "success", "error"]
