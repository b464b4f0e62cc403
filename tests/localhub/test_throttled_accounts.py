"""Tasks over a limit wait at the hub: they cost few deliveries, and delay no other account."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov import Limit, ProviderApp
from arbprov.localhub import LocalHub, LocalHubClient
from arbprov.testing import serving

HOLD = 0.5
CONCURRENCY = 4


@pytest.fixture
def hub():
    with LocalHub(hold=HOLD, retries_limits=True) as hub:
        yield hub


@pytest.fixture
def app():
    app = ProviderApp("shop", concurrency=CONCURRENCY, execution_timeout=TIMEOUT)

    @app.action
    @app.rate_limit("1/minute", key="account.id")
    async def order(number: int) -> dict:
        return {"number": number}

    return app


def submit(hub, account, count):
    """Submit tasks of an account; return their ids."""
    tasks = [
        {"action": "order", "payload": {"number": number}, "account": {"id": account}}
        for number in range(count)
    ]
    with LocalHubClient(hub.address, hub.token) as client:
        return client.submit(tasks)


def statuses(hub):
    return Counter(submission.status for submission in hub.submissions)


def test_ten_thousand_tasks_of_a_throttled_account_delay_another_account_by_less_than_a_poll(
    hub, app
):
    submit(hub, "throttled", 10_000)
    with serving(app, hub):
        wait_until(lambda: statuses(hub)["limit"])
        started_at = time.monotonic()
        assert hub.call("order", {"number": 1}, account={"id": "other"}).status == "success"
        assert time.monotonic() - started_at < HOLD


def call_others(hub, prefix):
    """Have tasks of five other accounts succeed; each waits for all polls that came before."""
    for number in range(5):
        hub.call("order", {"number": 1}, account={"id": f"{prefix}-{number}"})


def test_a_group_over_its_limit_costs_no_deliveries_while_it_is_held(hub, app):
    submit(hub, "throttled", 1_000)
    with serving(app, hub):
        wait_until(lambda: statuses(hub)["limit"])
        call_others(hub, "some")
        found = statuses(hub)["limit"]
        call_others(hub, "more")
    assert statuses(hub) == {"success": 11, "limit": found}
    # The tasks on their way when the hub got the first limit: a slot takes the next task
    # while the result of the one before is sent.
    assert found <= 3 * CONCURRENCY


def test_each_wait_costs_one_limit(hub):
    app = ProviderApp("shop", concurrency=CONCURRENCY, execution_timeout=TIMEOUT)

    @app.action
    @app.rate_limit(Limit(1, 0.2), key="account.id")
    async def order(number: int) -> dict:
        return {"number": number}

    submit(hub, "throttled", 1_000)
    with serving(app, hub):
        wait_until(lambda: statuses(hub)["success"] >= 25)
        found = statuses(hub)
    # And the tasks that were on their way at the first limit.
    assert found["limit"] <= found["success"] + 3 * CONCURRENCY


def test_a_task_over_its_limit_runs_in_the_end(hub):
    app = ProviderApp("shop", execution_timeout=TIMEOUT)

    @app.action
    @app.rate_limit("1/second", key="account.id")
    async def order(number: int) -> dict:
        return {"number": number}

    with serving(app, hub):
        tickets = [hub.put("order", {"number": number}, account={"id": 1}) for number in range(3)]
        assert [ticket.result(TIMEOUT).data["number"] for ticket in tickets] == [0, 1, 2]
