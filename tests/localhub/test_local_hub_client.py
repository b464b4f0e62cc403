"""`LocalHubClient`: batches of tasks, their results, and why a task waits."""

from __future__ import annotations

import datetime as dt
import socket
from types import MappingProxyType

import pytest

from arbprov import HubConnectionError, HubError, ProviderApp
from arbprov.localhub import LocalHubClient, client
from arbprov.testing import serving


@pytest.fixture
def connected(hub):
    with LocalHubClient(hub.address, hub.token) as connected:
        yield connected


def test_results_are_those_that_have_come(connected, hub):
    app = ProviderApp("weather")
    app.action("ping")(lambda: "pong")
    ids = connected.submit([{"action": "ping"}, {"action": "ping", "provider": "absent"}])
    with serving(app, hub):
        (result,) = connected.results(ids)
    assert (result.id, result.data) == (ids[0], "pong")


def test_without_a_result_there_is_an_empty_list(connected):
    ids = connected.submit([{"action": "ping"}])
    assert connected.results(ids, 0.01) == []


def test_a_batch_is_added_as_a_whole_or_not_at_all(connected):
    with pytest.raises(HubError, match=r": \[1\]: the task's priority must be from -1000 to 1000"):
        connected.submit([{"action": "ping", "id": "t1"}, {"action": "ping", "priority": 5_000}])
    assert connected.explain("t1") == ""


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"action": "ping", "prioriti": 1}, ".prioriti: unknown field; did you mean 'priority'?"),
        (
            {"acton": "ping"},
            ".acton: unknown field; did you mean 'action'?; [1].action: required field is missing",
        ),
        ({"action": 7}, ": the task's action must be a text, not 7"),
    ],
)
def test_a_wrong_field_is_named_with_its_task(connected, hub, task, problem):
    with pytest.raises(HubError) as caught:
        connected.submit([{"action": "ping"}, task])
    assert str(caught.value) == f"the hub at {hub.address}: [1]{problem}"


def test_many_wrong_fields_are_an_error_that_grpc_can_carry(connected):
    task = {f"{'a' * 1_000}{number}": 1 for number in range(200)}
    with pytest.raises(HubError, match=r": \[0\]\.a+") as caught:
        connected.submit([task])
    assert len(str(caught.value)) < 1_100


def test_a_payload_has_the_values_that_a_result_may_have(connected, hub):
    app = ProviderApp("weather")
    app.action("echo")(lambda day: day)
    with serving(app, hub):
        payload = MappingProxyType({"day": dt.date(2026, 3, 20)})
        assert connected.call("echo", payload).data == "2026-03-20"


def test_what_json_cannot_hold_is_an_error(connected):
    tasks = [{"action": "ping"}, {"action": "ping", "account": {"keys": {"a"}}}]
    with pytest.raises(HubError, match=r"as JSON: \[1\]\.account\.keys: a set has no order"):
        connected.submit(tasks)


def test_a_client_can_be_used_again_after_its_block(hub):
    again = LocalHubClient(hub.address, hub.token)
    with again:
        again.submit([{"action": "ping", "id": "t1"}])
    assert again.explain("t1").startswith("no provider has taken it")


def test_a_hub_that_does_not_answer_in_time_is_a_hub_that_can_not_be_reached(monkeypatch):
    monkeypatch.setattr(client, "_NETWORK_TIME", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HubConnectionError):
            LocalHubClient(address, "token").results(["t1"], 0.0)
