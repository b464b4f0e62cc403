"""The hub's gRPC methods, as bytes on the wire."""

from __future__ import annotations

import json

import grpc
import pytest
from support.waiting import TIMEOUT

from arbprov._proto import hub_pb2
from arbprov.errors import HubError
from arbprov.localhub import LocalHub
from arbprov.localhub.tasks import Delivery, State
from arbprov.localhub.tickets import Submission

ENVELOPE = '{"message": "fine", "data": {"response": 1}}'


@pytest.fixture
def channel(hub):
    with grpc.insecure_channel(hub.address) as channel:
        yield channel


@pytest.fixture
def ask(channel):
    """Return a function that calls a method with bytes; it returns the answer and its metadata."""

    def ask(method, body, metadata=()):
        call = channel.unary_unary(method).with_call
        answer, details = call(body, timeout=TIMEOUT, metadata=metadata)
        return answer, dict(details.initial_metadata())

    return ask


def refusal(ask, method, body):
    with pytest.raises(grpc.RpcError) as caught:
        ask(method, body)
    return caught.value.code().name, caught.value.details()


def as_json(**values):
    return json.dumps(values).encode()


def poll(hub, provider="weather"):
    return hub_pb2.ProviderRequest(provider=provider, auth_token=hub.token).SerializeToString()


def result(hub, id, status="success"):
    sent = hub_pb2.TaskResult(
        id=id, provider="weather", auth_token=hub.token, status=status, result=ENVELOPE
    )
    return sent.SerializeToString()


# The wire's methods.


def test_an_answer_with_a_task_has_its_attempt_and_how_often_to_renew(hub, ask):
    hub.put("forecast", id="t1", traceparent="00-1-1-01")
    _, metadata = ask("/Hub/GetTask", poll(hub))
    assert metadata["arbprov-attempt"] == "1"
    assert metadata["arbprov-renew"] == "20"
    assert metadata["traceparent"] == "00-1-1-01"


def test_an_answer_without_a_task_says_how_often_to_renew_too(hub, ask):
    answer, metadata = ask("/Hub/GetTask", poll(hub))
    assert answer == b""
    assert metadata["arbprov-renew"] == "20"
    assert "arbprov-attempt" not in metadata


def test_the_answer_to_a_result_carries_nothing(hub, ask):
    assert ask("/Hub/SubmitTaskResult", result(hub, "unknown"))[0] == b""


def test_a_result_is_of_the_attempt_that_it_says(hub, ask):
    hub.put("forecast", id="t1")
    ask("/Hub/GetTask", poll(hub))
    hub._run(lambda: hub._queue.store.give_back([("t1", 1)]))
    ask("/Hub/GetTask", poll(hub))
    ask("/Hub/SubmitTaskResult", result(hub, "t1"), [("arbprov-attempt", "1")])
    attempts = hub._run(lambda: hub._queue.store.attempts("t1"))
    assert [attempt.status for attempt in attempts] == ["success", ""]


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "9" * 20])
def test_an_attempt_that_is_no_number_stands_for_the_latest(hub, ask, number):
    ticket = hub.put("forecast", id="t1")
    ask("/Hub/GetTask", poll(hub))
    ask("/Hub/SubmitTaskResult", result(hub, "t1"), [("arbprov-attempt", number)])
    assert ticket.result(TIMEOUT).message == "fine"


@pytest.mark.parametrize("method", ["/Hub/GetTask", "/Hub/SubmitTaskResult"])
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x7fabc", b"\x0b", b"\x12\x01\xff", b"\x08"])
def test_bytes_that_are_no_message_are_refused(ask, method, body):
    code, details = refusal(ask, method, body)
    assert (code, details) == ("INVALID_ARGUMENT", "the message is not in the format of hub.proto")


def test_a_result_whose_texts_are_no_unicode_is_refused(hub, ask):
    code, details = refusal(ask, "/Hub/SubmitTaskResult", b"\x0a\x01\xff" + result(hub, "t1")[4:])
    assert (code, details) == ("INVALID_ARGUMENT", "the message is not in the format of hub.proto")


def test_fields_that_a_message_has_beside_its_own_are_skipped(hub, ask):
    hub.put("forecast", id="t1")
    # An integer, eight bytes, four bytes and a text, as fields 9 to 12.
    more = b"\x48\x96\x01" + b"\x51" + b"8 bytes!" + b"\x5d" + b"four" + b"\x62\x02hi"
    answer, _ = ask("/Hub/GetTask", more + poll(hub))
    assert hub_pb2.Task.FromString(answer).id == "t1"


def test_the_last_of_two_tokens_counts(hub, ask):
    wrong = hub_pb2.ProviderRequest(auth_token="wrong").SerializeToString()
    ask("/Hub/GetTask", wrong + poll(hub))
    assert refusal(ask, "/Hub/GetTask", poll(hub) + wrong)[0] == "UNAUTHENTICATED"


def test_an_unknown_method_is_not_implemented(ask):
    assert refusal(ask, "/Hub/Nothing", b"")[0] == "UNIMPLEMENTED"


def test_a_store_that_can_not_be_used_is_unavailable(hub, ask, monkeypatch):
    async def record(results):
        raise HubError("the disk is full")

    monkeypatch.setattr(hub._queue._results, "_function", record)
    found = refusal(ask, "/Hub/SubmitTaskResult", result(hub, "t1"))
    assert found == ("UNAVAILABLE", "the disk is full")


# Leases.


def renew(hub, *tasks, **values):
    return as_json(**{"token": hub.token, "provider": "weather", "tasks": tasks} | values)


def test_a_lease_is_renewed(hub, ask):
    hub.put("forecast", id="t1")
    ask("/Hub/GetTask", poll(hub), [("arbprov-renews", "1")])
    answer, _ = ask("/arbprov.Leases/Renew", renew(hub, ["t1", 1]))
    assert json.loads(answer) == {"cancelled": [], "lost": []}


def test_cancelled_and_lost_tasks_are_told(hub, ask):
    hub.put("forecast", id="t1")
    ask("/Hub/GetTask", poll(hub))
    hub._run(lambda: hub._queue.cancel(["t1"]))
    answer, _ = ask("/arbprov.Leases/Renew", renew(hub, ["t1", 1], ["t2", 1]))
    assert json.loads(answer) == {"cancelled": [["t1", 1]], "lost": [["t2", 1]]}


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"token": "wrong"}, "UNAUTHENTICATED", "the token is wrong"),
        ({"token": 7}, "INVALID_ARGUMENT", "provider and token must be texts"),
        ({"provider": None}, "INVALID_ARGUMENT", "provider and token must be texts"),
        ({"tasks": [7]}, "INVALID_ARGUMENT", "tasks must be a list of ids and attempts"),
        ({"tasks": [["t1", "x"]]}, "INVALID_ARGUMENT", "tasks must be a list of ids and attempts"),
    ],
)
def test_a_wrong_renewal_is_refused(hub, ask, values, code, words):
    assert refusal(ask, "/arbprov.Leases/Renew", renew(hub, **values)) == (code, words)


# Reports.


def report(hub, **values):
    return as_json(**{"token": hub.token, "provider": "weather", "process": "1"} | values)


def test_each_answer_to_a_poll_says_how_often_to_report(hub, ask):
    assert ask("/Hub/GetTask", poll(hub))[1]["arbprov-report"] == "5"
    hub.put("forecast")
    assert ask("/Hub/GetTask", poll(hub))[1]["arbprov-report"] == "5"


def test_a_hub_that_takes_no_reports_does_not_ask_for_them():
    with (
        LocalHub(hold=0.05, report_interval=0) as hub,
        grpc.insecure_channel(hub.address) as channel,
    ):
        call = channel.unary_unary("/Hub/GetTask").with_call
        _, details = call(poll(hub), timeout=TIMEOUT)
    assert "arbprov-report" not in dict(details.initial_metadata())


def test_a_report_is_kept_and_its_actions_are_asked_for_once(hub, ask):
    method = "/arbprov.Providers/Report"
    assert json.loads(ask(method, report(hub))[0]) == {"wants_actions": True}
    assert json.loads(ask(method, report(hub, actions=[]))[0]) == {"wants_actions": False}
    assert json.loads(ask(method, report(hub))[0]) == {"wants_actions": False}
    assert [found.process for found, _ in hub._methods._reports.latest()] == ["1"]


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"token": "wrong"}, "UNAUTHENTICATED", "the token is wrong"),
        ({"token": 7}, "INVALID_ARGUMENT", "provider and token must be texts"),
        ({"process": 7}, "INVALID_ARGUMENT", "this is not a report: process: "),
        ({"slots": 1e400}, "INVALID_ARGUMENT", "this is not a report: "),
        ({"version": "x" * 2_000_000}, "INVALID_ARGUMENT", "a report must have at most 1114112"),
    ],
)
def test_a_broken_report_is_refused_and_not_kept(hub, ask, values, code, words):
    found, details = refusal(ask, "/arbprov.Providers/Report", report(hub, **values))
    assert found == code
    assert details.startswith(words)
    assert hub._methods._reports.latest() == []


def test_a_poll_is_noted_and_whether_its_process_reports(hub, ask):
    ask("/arbprov.Providers/Report", report(hub, actions=[{"name": "forecast"}]))
    ask("/Hub/GetTask", poll(hub), [("arbprov-reports", "1")])
    reports = hub._methods._reports
    assert [*reports.last_polls()] == ["weather"]
    assert reports.running_actions() == {"forecast"}
    ask("/Hub/GetTask", poll(hub))
    assert reports.running_actions() is None


def test_a_task_whose_action_no_provider_has_is_explained(hub, ask):
    ask("/arbprov.Providers/Report", report(hub, actions=[{"name": "report"}]))
    hub.put("forecast", id="t1")
    answer, _ = ask("/arbprov.LocalHub/Explain", as_json(token=hub.token, id="t1"))
    assert json.loads(answer) == {"reason": "no provider has an action 'forecast'"}


# Calls.

CALLS = ["Submit", "Results", "Explain"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("body", [b"", b"[]", b"nope", b"[" * 100_000])
def test_a_call_that_is_no_json_object_is_refused(ask, name, body):
    found = refusal(ask, f"/arbprov.LocalHub/{name}", body)
    assert found == ("INVALID_ARGUMENT", "the request must be a JSON object")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("token", ["wrong", 7, None])
def test_a_call_without_the_hub_s_token_is_refused(ask, name, token):
    found = refusal(ask, f"/arbprov.LocalHub/{name}", as_json(token=token))
    assert found == ("UNAUTHENTICATED", "the token is wrong")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("Submit", {"tasks": [{"action": ""}]}, "the task's action must not be empty"),
        ("Submit", {"tasks": [{"action": "work", "priority": 5000}]}, "the task's priority must"),
        ("Submit", {"tasks": [{"action": "work", "nothing": 1}]}, "[0].nothing: unknown field"),
        ("Submit", {"tasks": [{"action": "work", "payload": {"x": float("nan")}}]}, "[0]: x: "),
        ("Submit", {"tasks": 7}, "tasks must be a list"),
        ("Submit", {"tasks": [7]}, "[0]: expected an object, got an integer"),
        ("Results", {"ids": 7}, "ids must be a list of texts"),
        ("Results", {"ids": [7]}, "ids must be a list of texts"),
        ("Results", {"ids": [], "timeout": None}, "timeout must be a number of seconds, 0"),
        ("Results", {"ids": [], "timeout": -1}, "timeout must be a number of seconds, 0"),
        ("Results", {"ids": [], "timeout": "x"}, "timeout must be a number of seconds, 0"),
    ],
)
def test_a_wrong_call_is_refused(hub, ask, name, values, words):
    body = as_json(token=hub.token, **values)
    code, details = refusal(ask, f"/arbprov.LocalHub/{name}", body)
    assert code == "INVALID_ARGUMENT"
    assert words in details


def test_tasks_are_submitted_and_their_results_read(hub, ask):
    tasks = [{"action": "work", "id": name} for name in ("t1", "t2")]
    answer, _ = ask("/arbprov.LocalHub/Submit", as_json(token=hub.token, tasks=tasks))
    assert json.loads(answer) == {"ids": ["t1", "t2"]}
    ask("/Hub/GetTask", poll(hub))
    ask("/Hub/SubmitTaskResult", result(hub, "t1"))
    body = as_json(token=hub.token, ids=["t1", "t2"], timeout=TIMEOUT)
    answer, _ = ask("/arbprov.LocalHub/Results", body)
    (found,) = json.loads(answer)["results"]
    assert (found["id"], found["result"]) == ("t1", ENVELOPE)


def test_a_poll_that_pauses_gets_no_task(hub, ask):
    hub.put("forecast", id="t1")
    hub.rate_limit(100.0)
    answer, _ = ask("/Hub/GetTask", poll(hub))
    assert hub_pb2.Task.FromString(answer).action == "rate_limited"


def test_a_task_that_ended_without_a_result_has_an_error_that_says_why(hub):
    hub.put("forecast", id="t1")
    hub._run(lambda: hub._queue.cancel(["t1"], "not needed"))
    task = hub._run(lambda: hub._queue.store.get("t1"))
    assert task.state is State.CANCELLED
    submission = Submission.of(task)
    assert (submission.status, submission.message) == ("error", "the task is cancelled: not needed")


def test_a_delivery_shows_no_payload():
    delivery = Delivery(
        id="t1", action="work", payload=b"secret", account=b"secret", attempt=1, lease=1.0
    )
    assert "secret" not in repr(delivery)
