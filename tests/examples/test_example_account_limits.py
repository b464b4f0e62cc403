"""The example on limits for each account, through the wire."""

from __future__ import annotations

import pytest
from support.examples import load, statuses_of_tasks, working

ONE, ANOTHER = {"api_key": "sample-key-1"}, {"api_key": "sample-key-2"}


@pytest.fixture
def hub():
    with working(load("account_limits")) as hub:
        yield hub


def statuses(hub, action, payloads, account):
    tickets = [hub.put(action, payload, account=account) for payload in payloads]
    return sorted(ticket.result().status for ticket in tickets)


def test_an_account_is_refused_above_its_limit_per_minute(hub):
    pages = [{"page": page} for page in range(5)]
    assert statuses(hub, "campaigns", pages, ONE) == ["limit", "limit", *["success"] * 3]


def test_another_account_has_its_own_limit(hub):
    statuses(hub, "campaigns", [{}] * 4, ONE)
    assert hub.call("campaigns", account=ANOTHER).status == "success"


def test_a_refusal_has_its_wait_time_and_what_is_left(hub):
    statuses(hub, "campaigns", [{}] * 3, ONE)
    refused = hub.call("campaigns", account=ONE)
    assert refused.data["limit"] == "3/minute"
    assert 0 < refused.data["wait_time"] <= 60.06
    left = {one["limit"]: one["remaining"] for one in refused.data["limits"]}
    assert left["3/minute"] == 0
    assert left["100/day"] == 97


def test_a_refused_call_takes_nothing_from_the_other_limits(hub):
    statuses(hub, "campaigns", [{}] * 9, ONE)
    refused = hub.call("campaigns", account=ONE)
    assert {one["limit"]: one["remaining"] for one in refused.data["limits"]}["100/day"] == 97


def test_all_accounts_share_the_app_s_limit(hub):
    hub.call("campaigns", account=ONE)
    left = hub.call("campaigns", account=ANOTHER).data["left"]
    assert (left["50/second"], left["3/minute"], left["100/day"]) == (48, 2, 99)


def test_a_call_without_an_account_is_an_error_that_names_the_key(hub):
    refused = hub.call("campaigns")
    assert refused.status == "error"
    assert refused.data["problems"][0]["path"] == "account.api_key"


def test_the_log_warns_when_much_of_a_minute_is_used(hub, log_line):
    statuses(hub, "campaigns", [{}] * 2, ONE)
    assert "3/minute of action:campaigns is 60% used: 2 of 3" in log_line("60%")


def test_tasks_that_may_wait_all_succeed_in_the_end(hub):
    clicks = [{"campaign": campaign} for campaign in range(5)]
    assert statuses(hub, "clicks", clicks, ONE) == ["success"] * 5


def test_a_task_that_would_wait_too_long_is_refused_at_once(hub):
    clicks = [{"campaign": campaign} for campaign in range(20)]
    tickets = [hub.put("clicks", payload, account=ONE) for payload in clicks]
    refused = tickets[-1].result()
    assert (refused.status, refused.data["limit"]) == ("limit", "4/second")


def test_a_report_costs_its_number_of_campaigns(hub):
    reports = [{"campaigns": [1, 2, 3, 4]}] * 3
    assert statuses(hub, "report", reports, ONE) == ["limit", "success", "success"]


def test_the_example_s_tasks_show_each_outcome(hub):
    statuses = sorted(statuses_of_tasks("account_limits", hub))
    assert statuses == ["error", "limit", "limit", *["success"] * 10]
