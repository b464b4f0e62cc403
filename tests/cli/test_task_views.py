"""Tasks at the hub as people see them."""

from __future__ import annotations

import grpc
import pytest
from support.waiting import TIMEOUT

from arbprov._proto import hub_pb2
from arbprov.cli.task_views import format_age, print_task
from arbprov.localhub import Client, LocalHub


@pytest.fixture
def hub():
    """A hub with an HTTP API."""
    with LocalHub(hold=0.05, http="127.0.0.1:0") as hub:
        yield hub


@pytest.fixture
def run_by_hand(hub):
    """Return a function that takes the next task and sends results for it."""

    def run_by_hand(*results):
        with grpc.insecure_channel(hub.address) as channel:
            poll = hub_pb2.ProviderRequest(provider="weather", auth_token=hub.token)
            answer = channel.unary_unary("/Hub/GetTask")(poll.SerializeToString(), timeout=TIMEOUT)
            task = hub_pb2.Task.FromString(answer)
            for result in results:
                sent = hub_pb2.TaskResult(
                    id=task.id,
                    provider="weather",
                    auth_token=hub.token,
                    status="success",
                    result=result,
                )
                method = channel.unary_unary("/Hub/SubmitTaskResult")
                method(sent.SerializeToString(), timeout=TIMEOUT)

    return run_by_hand


def show(hub, capsys):
    with Client(hub.http_address, hub.token) as client:
        print_task(client.get("t1"), "")
    return capsys.readouterr().out


def test_what_is_not_json_is_shown_as_text(hub, run_by_hand, capsys):
    hub.put("forecast", b"no\tJSON", id="t1")
    run_by_hand("neither\nthis")
    shown = show(hub, capsys)
    assert "payload      no\\tJSON\n" in shown
    assert "result       neither\n             this\n" in shown


def test_what_is_too_long_to_show_says_how_much_is_left_out(hub, capsys):
    hub.put("forecast", {"text": "x" * 30_000}, id="t1")
    assert "\n             ... 10016 more characters; see --json\n" in show(hub, capsys)


def test_a_terminal_s_commands_are_escaped(hub, capsys):
    hub.put("forecast\033[2J", {"city": "\x9b2J"}, id="t1", provider="weather\033[2J")
    shown = show(hub, capsys)
    assert "action       forecast\\x1b[2J\n" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_result_without_data_is_shown(hub, run_by_hand, capsys):
    hub.put("forecast", id="t1")
    run_by_hand('{"data": {"response": {}}}')
    shown = show(hub, capsys)
    assert "payload      {}\n" in shown
    assert "result       {}\n" in shown
    assert "account  " not in shown


def test_a_state_has_a_color_if_the_terminal_has(hub, capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    hub.put("forecast", id="t1")
    with Client(hub.http_address, hub.token) as client:
        client.cancel("t1")
    assert "state        \033[33mcancelled\033[0m\n" in show(hub, capsys)


def test_an_envelope_without_a_response_is_shown_whole(hub, run_by_hand, capsys):
    hub.put("forecast", id="t1")
    run_by_hand('{"rows": 1}')
    assert 'result       {"rows": 1}\n' in show(hub, capsys)


def test_results_that_were_kept_aside_are_counted(hub, run_by_hand, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    hub.put("forecast", id="t1")
    run_by_hand('{"n": 1}', '{"n": 2}', '{"n": 3}')
    assert "weather  success, and 2 more results kept aside\n" in show(hub, capsys)


def test_a_lost_attempt_says_so(capsys):
    with LocalHub(hold=0.05, http="127.0.0.1:0", lease=0.1) as hub:
        hub.put("forecast", id="t1", max_deliveries=1)
        with grpc.insecure_channel(hub.address) as channel:
            poll = hub_pb2.ProviderRequest(provider="weather", auth_token=hub.token)
            channel.unary_unary("/Hub/GetTask")(poll.SerializeToString(), timeout=TIMEOUT)
        with Client(hub.http_address, hub.token) as client:
            assert client.wait("t1", TIMEOUT).state == "dead"
        shown = show(hub, capsys)
    assert "weather  lease ran out\n" in shown
    assert "why          it was delivered 1 time, and no result came\n" in shown


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(-1.0, "0s"), (0.4, "0s"), (59.4, "59s"), (60, "1m"), (3_599, "59m"), (86_400 * 30, "30d")],
)
def test_an_age_has_one_unit(seconds, age):
    assert format_age(seconds) == age
