"""The example of two providers in two processes, with real ones and a real Redis server."""

from __future__ import annotations

import pytest
from support.examples import running
from support.redis_servers import RedisServer

from arbprov.localhub import LocalHub

PROVIDERS = ["reports", "campaigns"]


@pytest.fixture(scope="module")
def server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def hub(server):
    example, first, second = "shared_redis_limits", *PROVIDERS
    with (
        LocalHub(hold=0.05) as hub,
        running(example, hub, PROVIDER_NAME=first, REDIS_URL=server.url),
        running(example, hub, PROVIDER_NAME=second, REDIS_URL=server.url),
    ):
        yield hub


def put(hub, provider, account):
    return hub.put("lookup", {"id": 1}, account={"api_key": account}, provider=provider)


def test_each_of_the_two_processes_is_a_provider(hub):
    results = [put(hub, provider, f"of-{provider}").result() for provider in PROVIDERS]
    assert [result.data["by"] for result in results] == PROVIDERS


def test_together_they_admit_no_more_than_the_limit(hub):
    tickets = [put(hub, provider, "sample-1") for provider in PROVIDERS * 10]
    statuses = sorted(ticket.result().status for ticket in tickets)
    assert statuses == ["limit"] * 15 + ["success"] * 5


def test_the_two_providers_share_one_quota(hub):
    for _ in range(5):
        assert put(hub, "reports", "sample-2").result().status == "success"
    refused = put(hub, "campaigns", "sample-2").result()
    assert (refused.status, refused.data["limit"]) == ("limit", "5/minute")


def test_another_account_has_its_own_quota(hub):
    for provider in PROVIDERS * 3:
        put(hub, provider, "sample-3").result()
    assert put(hub, "reports", "sample-4").result().status == "success"
