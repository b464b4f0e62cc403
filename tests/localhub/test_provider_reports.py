"""What a real provider reports to a bundled hub, from end to end."""

from __future__ import annotations

import os
import threading

import pytest
from support.processes import Process
from support.redis_servers import RedisServer
from support.waiting import TIMEOUT, wait_until

from arbprov import Concurrency, ProviderApp, RateLimited
from arbprov.localhub import Client, LocalHub
from arbprov.testing import serving

ACCOUNT = {"id": "acme-42", "token": "correct-horse"}
CREW = """
from arbprov import ProviderApp

app = ProviderApp("crew")

@app.action(isolation="process")
@app.rate_limit("5/minute", key="account.id")
def alone(n: int) -> dict:
    return {"n": n}
"""


@pytest.fixture
def hub():
    with LocalHub(hold=0.05, http="127.0.0.1:0", report_interval=0.1) as hub:
        yield hub


@pytest.fixture
def client(hub):
    with Client(hub.http_address, hub.token) as client:
        yield client


@pytest.fixture
def redis():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def app():
    app = ProviderApp("weather", concurrency=4)

    @app.action
    @app.rate_limit("5/hour", key="account.id")
    def forecast(city: str, throttled: float = 0.0) -> dict:
        """Forecast for a city."""
        if throttled:
            raise RateLimited(throttled)
        return {"city": city}

    return app


def read_limit(client, condition):
    """Return the only limit of a report in which a condition holds."""

    def find():
        found = client.reported_limits()
        return found if len(found) == 1 and condition(found[0]) else None

    return wait_until(find)[0]


def test_a_provider_and_its_actions_appear_by_themselves(hub, app, client):
    with serving(app, hub):
        (action,) = wait_until(client.actions)
        (provider,) = client.providers()
    assert (action.name, action.description, action.providers) == (
        *("forecast", "Forecast for a city."),
        ["weather"],
    )
    assert action.limits == ["5/hour per account.id"]
    assert action.payload_schema["required"] == ["city"]
    assert action.account_schema is None
    (process,) = provider.processes
    assert (provider.name, process.slots, process.actions) == ("weather", 4, ["forecast"])
    assert provider.polled_at is not None


def test_the_headroom_of_a_limit_falls(hub, app, client):
    with serving(app, hub):
        task = client.submit("forecast", {"city": "Paris"}, account=ACCOUNT)
        first = read_limit(client, lambda limit: limit.left == 4)
        client.submit("forecast", {"city": "Paris"}, account=ACCOUNT)
        second = read_limit(client, lambda limit: limit.left == 3)
    assert (first.limit, first.by, first.total) == ("5/hour", "account.id", 5)
    assert first.account_key == task.account_key
    assert first.key == second.key != ""


def test_a_closed_gate_appears_and_is_gone_after_it_has_opened(hub, app, client):
    with serving(app, hub):
        hub.call("forecast", {"city": "Paris", "throttled": 2.0}, account=ACCOUNT)
        closed = read_limit(client, lambda limit: limit.opens_at)
        assert closed.closed_by == "the API has throttled action 'forecast'"
        assert 0 < (closed.opens_at - closed.reported_at).total_seconds() <= 2
        opened = read_limit(client, lambda limit: not limit.opens_at)
    assert (opened.closed_by, opened.left) == ("", 4)


def test_the_tasks_that_wait_for_a_limit_are_counted(hub, client):
    app, may_end = ProviderApp("weather", concurrency=8), threading.Event()

    @app.action
    @app.rate_limit(Concurrency(1), max_wait=TIMEOUT)
    def wait() -> None:
        may_end.wait(TIMEOUT)

    with serving(app, hub):
        tickets = [hub.put("wait") for _ in range(3)]
        try:
            limit = read_limit(client, lambda limit: limit.waiting == 2)
        finally:
            may_end.set()
        assert (limit.left, limit.total) == (0, 1)
        assert {ticket.result(TIMEOUT).status for ticket in tickets} == {"success"}


def test_no_report_shows_an_account_or_the_token(hub, app, client, monkeypatch):
    bodies, report = [], hub._methods._report

    async def spy(body, context):
        bodies.append(body)
        return await report(body, context)

    monkeypatch.setitem(hub._methods._methods, "/arbprov.Providers/Report", spy)
    with serving(app, hub):
        hub.call("forecast", {"city": "Paris"}, account=ACCOUNT)
        read_limit(client, lambda limit: limit.left == 4)
    assert bodies
    text = b"".join(bodies).decode().replace(f'"token":"{hub.token}"', "")
    assert all(value not in text for value in (*ACCOUNT.values(), hub.token, "Paris"))


def test_a_hub_that_has_restarted_gets_the_actions_again(app):
    with LocalHub(hold=0.05, report_interval=0.1) as hub, serving(app, hub):
        wait_until(lambda: hub._methods._reports.actions())
        hub.stop()
        again = LocalHub(hub.address, token=hub.token, hold=0.05, report_interval=0.1)
        with again:
            found = wait_until(lambda: again._methods._reports.actions())
    assert [*found] == ["forecast"]


def test_each_worker_has_a_process_and_its_isolated_handlers_have_none(
    hub, client, redis, tmp_path
):
    (tmp_path / "crew.py").write_text(CREW)
    environ = {
        "PROVIDER_AUTH_TOKEN": hub.token,
        "HUB_GRPC_URL": hub.url,
        "ARBPROV_RATE_LIMIT_STORE": redis.url,
    }
    provider = Process(["-m", "arbprov", "run", "crew", "--workers", "2"], tmp_path, **environ)
    try:
        for number in range(4):
            assert hub.call("alone", {"n": number}, account=ACCOUNT).status == "success"
        (found,) = wait_until(lambda: [one for one in client.providers() if len(one.processes) > 1])
        # Each worker that has had a task asks the store, which counts for both.
        limits = wait_until(
            lambda: (
                {limit.left for limit in client.reported_limits()} == {1}
                and client.reported_limits()
            )
        )
    finally:
        provider.stop()
    pids = {int(process.process.split(":")[1]) for process in found.processes}
    assert len(pids) == len(found.processes) == 2
    assert not pids & {os.getpid(), provider.popen.pid}
    assert {limit.process for limit in limits} <= {one.process for one in found.processes}
    assert [process.actions for process in found.processes] == [["alone"]] * 2
