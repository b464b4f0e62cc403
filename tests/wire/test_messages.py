"""Messages to and from the hub, as bytes."""

from __future__ import annotations

import attrs
import pytest

from arbprov._proto import hub_pb2
from arbprov.task import Status, Task, TaskResult
from arbprov.wire.messages import decode_result, encode_result, read_result_id, with_token

pytestmark = pytest.mark.usefixtures("each_json")

BODY = '{"status":"warning","message":"so so","data":{"response":{"rows":[1]}}}'
RESULT = TaskResult(
    Task("t1", "forecast", b'{"city": "\xc3\x98"}', b'{"key":1}'),
    Status.WARNING,
    "so so",
    {"rows": [1]},
    body=BODY,
)


def test_a_result_comes_back_as_it_was():
    assert decode_result(encode_result(RESULT, "weather")) == RESULT


@pytest.mark.parametrize("id", ["t1", "ü" * 63 + "x", "x" * 128, "x" * 20_000])
def test_the_id_of_a_result_is_read_whatever_its_length(id):
    result = attrs.evolve(RESULT, task=Task(id, "forecast"))
    assert read_result_id(encode_result(result, "weather")) == id


def test_no_token_is_kept_with_a_result():
    assert hub_pb2.TaskResult.FromString(encode_result(RESULT, "weather")).auth_token == ""


def test_the_token_is_added_to_all_the_rest():
    message = encode_result(RESULT, "weather")
    sent = hub_pb2.TaskResult.FromString(with_token(message, "secret"))
    assert sent == hub_pb2.TaskResult(
        id="t1",
        provider="weather",
        auth_token="secret",
        status="warning",
        action="forecast",
        payload='{"city": "Ø"}',
        result=BODY,
        account='{"key":1}',
    )


def test_but_for_the_token_the_bytes_stay_as_they_are():
    message = encode_result(RESULT, "weather")
    assert with_token(message, "one").startswith(message)
    assert with_token(message, "another").startswith(message)


def test_a_token_that_was_rotated_counts():
    message = with_token(with_token(encode_result(RESULT, "weather"), "old"), "new")
    assert hub_pb2.TaskResult.FromString(message).auth_token == "new"
