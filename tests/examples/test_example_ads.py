"""The ads provider, through the wire, with an HTTP API that stands for the vendor's."""

from __future__ import annotations

import threading
import time

import pytest
from support.examples import load_part, statuses_of_tasks, working
from support.http_servers import Answer, HttpServer

READER = {"business": "b1", "token": "sample-token"}
EDITOR = READER | {"may_change": True}
MARCH = {"since": "2026-03-01", "until": "2026-03-31"}


@pytest.fixture
def api():
    with load_part("ads.sample_api").SampleApi(0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def example(api):
    return load_part("ads.app", ADS_API_URL=f"http://127.0.0.1:{api.server_port}")


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def totals(hub, account=READER, campaigns=("c1",), period=MARCH):
    payload = {"campaigns": list(campaigns), "period": period}
    return hub.call("metrics.totals", payload, account=account)


def paths_of_problems(result):
    return [one["path"] for one in result.data["problems"]]


# The API


def test_a_list_is_read_page_by_page_to_its_end(hub, api):
    listed = hub.call("campaigns.list", account=READER).data["campaigns"]
    assert [one["id"] for one in listed] == ["c1", "c2", "c3"]
    assert len(api.requests) == 2


def test_a_list_may_be_of_one_state(hub):
    listed = hub.call("campaigns.list", {"state": "paused"}, account=READER).data["campaigns"]
    assert [one["id"] for one in listed] == ["c1"]


def test_what_the_api_refuses_is_an_error_with_its_words_and_its_status(hub):
    result = hub.call("business.info", account=READER | {"token": "expired-token"})
    assert (result.status, result.message) == ("error", "The token is not valid")
    assert result.data == {"api_status": 401}


def test_an_unusual_error_of_the_api_is_reported_by_its_status():
    with HttpServer(lambda path: Answer(502, b"<html>")) as proxy:
        example = load_part("ads.app", ADS_API_URL=proxy.url)
        with working(example) as hub:
            message = hub.call("business.info", account=READER).message
    assert message == "The API answered 502 Bad Gateway"


def test_an_api_that_is_away_is_an_error_that_says_so():
    with HttpServer() as gone:
        pass
    with working(load_part("ads.app", ADS_API_URL=gone.url)) as hub:
        message = hub.call("business.info", account=READER).message
    assert message == "The ads API does not answer; try again later"


def test_all_tasks_share_the_connections_of_one_client_which_is_closed_at_the_end(example):
    with working(example):
        assert not example.api.is_closed
    assert example.api.is_closed


# Accounts and payloads


def test_an_account_without_a_token_is_refused_before_the_api_is_asked(hub, api):
    result = hub.call("business.info", account={"business": "b1"})
    assert paths_of_problems(result) == ["account.token"]
    assert not api.requests


def test_a_reader_is_refused_before_the_api_is_asked(hub, api):
    payload = {"campaign": "c1", "state": "active"}
    result = hub.call("campaigns.set_state", payload, account=READER)
    assert (result.status, result.message) == ("error", "This account may not change campaigns")
    assert not api.requests


def test_an_editor_starts_a_campaign(hub, api):
    payload = {"campaign": "c1", "state": "active"}
    assert hub.call("campaigns.set_state", payload, account=EDITOR).status == "success"
    assert api.campaigns["c1"]["state"] == "active"


def test_a_campaign_that_is_created_is_paused(hub, api):
    payload = {"name": "Winter", "daily_budget": 2500}
    created = hub.call("campaigns.create", payload, account=EDITOR).data["campaign"]
    assert created == {"id": "c4", "name": "Winter", "daily_budget": 2500, "state": "paused"}
    assert api.campaigns["c4"] == created


@pytest.mark.parametrize("campaign", ["", "c1/../c2", "c1?x=", "C1"])
def test_an_invalid_campaign_id_never_becomes_part_of_an_address(hub, api, campaign):
    result = totals(hub, campaigns=[campaign])
    assert paths_of_problems(result) == ["campaigns[0]"]
    assert not api.requests


@pytest.mark.parametrize("until", ["2026-02-28", "2026-05-30"])
def test_a_period_must_have_1_to_90_days(hub, until):
    result = totals(hub, period=MARCH | {"until": until})
    assert paths_of_problems(result) == ["period.until"]


@pytest.mark.parametrize(("until", "days"), [("2026-03-01", 1), ("2026-05-29", 90)])
def test_a_period_includes_its_first_and_its_last_day(hub, until, days):
    assert totals(hub, period=MARCH | {"until": until}).data["clicks"] == 20 * days


def test_metrics_have_each_campaign_s_days(hub):
    payload = {"campaigns": ["c2", "c1"], "period": MARCH | {"until": "2026-03-02"}}
    rows = hub.call("metrics.daily", payload, account=READER).data["rows"]
    assert [(row["campaign"], row["day"][-2:]) for row in rows] == [
        ("c2", "01"),
        ("c2", "02"),
        ("c1", "01"),
        ("c1", "02"),
    ]


# Limits


def test_the_limits_of_app_blueprint_and_account_stack(hub):
    for _ in range(2):
        totals(hub, campaigns=["c1"] * 50)
    refused = totals(hub)
    assert (refused.status, refused.data["limit"]) == ("limit", "100/day")
    limits = [one["limit"] for one in refused.data["limits"]]
    assert sorted(limits) == ["100/day", "20/second", "5/second", "50/second"]


def test_the_daily_quota_counts_the_campaigns_of_both_actions(hub):
    payload = {"campaigns": ["c1"] * 50, "period": MARCH}
    actions = ["metrics.daily", "metrics.totals", "metrics.daily"]
    statuses = [hub.call(action, payload, account=READER).status for action in actions]
    assert statuses == ["success", "success", "limit"]


def test_each_account_has_a_daily_quota_of_its_own(hub):
    for _ in range(2):
        totals(hub, campaigns=["c1"] * 50)
    assert totals(hub, account=READER).status == "limit"
    assert totals(hub, account=READER | {"business": "b2"}).status == "success"


def test_both_ways_to_change_campaigns_share_one_limit(hub):
    change = {"campaign": "c1", "state": "active"}
    for _ in range(10):
        assert hub.call("campaigns.set_state", change, account=EDITOR).status == "success"
    created = hub.call("campaigns.create", {"name": "A", "daily_budget": 1}, account=EDITOR)
    assert created.status == "limit"


def test_tasks_that_come_too_fast_wait_for_their_turn(hub):
    began = time.monotonic()
    assert [totals(hub).status for _ in range(6)] == ["success"] * 6
    assert time.monotonic() - began >= 1


def test_an_api_that_throttles_an_account_is_not_asked_for_it_until_it_wants_to(hub, api):
    api.throttled_for = 30
    assert totals(hub).status == "limit"
    asked = len(api.requests)
    assert 25 < totals(hub).data["wait_time"] <= 31
    assert len(api.requests) == asked


def test_an_account_that_is_throttled_does_not_stop_another(hub, api):
    api.throttled_for = 30
    totals(hub)
    api.throttled_for = 0
    assert totals(hub, account=READER | {"business": "b2"}).status == "success"


def test_the_example_s_tasks_show_each_blueprint_and_each_refusal(hub):
    expected = ["success", "success", "success", "error", "error"]
    expected += ["success", "success", "error", "error"]
    assert statuses_of_tasks("ads/tasks", hub) == expected
