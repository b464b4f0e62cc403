"""A payload or a result with very many or very long problems has a small result, soon."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pytest
from support.running import Running
from support.waiting import TIMEOUT
from typing_extensions import TypedDict

from arbprov import InvalidPayloadError, ProviderApp, ProviderResponse
from arbprov.task import Task
from arbprov.worker.slots import run_on_thread

ACCOUNT = {f"key{number}": f"value-{number:06d}" for number in range(50)}


class Row(TypedDict):
    number: int


class Model(pydantic.BaseModel):
    rows: list[int]


class Struct(msgspec.Struct):
    rows: list[int]


@attrs.define
class Node:
    number: int = attrs.field(validator=attrs.validators.ge(0))
    child: Node | None = None


def call(target, value, account=None):
    app = ProviderApp("bounds")

    def it(value): ...

    it.__annotations__ = {"value": target}
    app.action("it")(it)
    return app.test_client().call("it", {"value": value}, account=account)


def test_a_megabyte_of_problems_is_a_small_result():
    result = call(list[int], ["abcdefg"] * 100_000, ACCOUNT)
    assert len(result.body) < 64 * 1024
    assert len(result.problems) == 100
    assert result.problems[99] == {
        "path": "value[99]",
        "message": "expected an integer, got a string",
    }
    assert result.data["problem_count"] == 10_000
    assert result.message.endswith("; and more than 9,900 more problems")
    assert result.data["error"] == result.message


@pytest.mark.parametrize(
    ("target", "value", "count"),
    [
        (list[int], ["a"] * 101, 101),
        (list[Row], [{"number": "a"}] * 300, 300),
        (list[list[int]], [["a"] * 300] * 3, 900),
        (dict[str, int], {str(number): "a" for number in range(300)}, 300),
        (dict[str, int], {str(number): "a" for number in range(30_000)}, 10_000),
        (Model, {"rows": ["a"] * 300}, 300),
    ],
)
def test_the_first_hundred_problems_are_listed_and_all_are_counted(target, value, count):
    result = call(target, value)
    assert len(result.problems) == 100
    assert result.data["problem_count"] == count


def test_one_problem_too_many_is_in_the_singular():
    assert call(list[int], ["a"] * 101).message.endswith("; and 1 more problem")


def test_a_hundred_problems_need_no_count():
    result = call(list[int], ["a"] * 100)
    assert "problem_count" not in result.data
    assert "more" not in result.message


def test_unknown_fields_are_bounded_too():
    app = ProviderApp("bounds")
    app.action("it", forbid_extra=True)(lambda a=1: a)
    result = app.test_client().call("it", {str(number): 1 for number in range(500)})
    assert (len(result.problems), result.data["problem_count"]) == (100, 500)


@pytest.mark.parametrize("letter", ["y", "\0", "é", "😀", '"'])
def test_long_names_and_texts_are_cut(letter):
    value = {letter * 100_000 + str(number): "a" for number in range(200)}
    result = call(dict[str, int], value)
    assert len(result.body.encode()) < 64 * 1024
    assert 1 <= len(result.problems) <= 100
    assert "characters)" in result.problems[0]["path"]


@pytest.mark.parametrize("value", [[{1: 2}] * 20_000, {str(n): {1} for n in range(20_000)}])
def test_a_result_with_many_parts_without_a_json_form_is_bounded(value):
    app = ProviderApp("bounds")
    app.action("it")(lambda: value)
    result = app.test_client().call("it")
    assert len(result.body) < 64 * 1024
    assert (len(result.problems), result.data["problem_count"]) == (100, 10_000)


@pytest.mark.parametrize("letter", ["y", "\0", "é", "\ud800"])
@pytest.mark.parametrize("kind", [ValueError, KeyError, InvalidPayloadError])
def test_the_text_of_an_error_is_cut(letter, kind):
    app = ProviderApp("bounds")

    @app.action
    def it():
        raise kind(letter * 2_000_000)

    result = app.test_client().call("it")
    assert len(result.body.encode()) < 64 * 1024
    assert "characters)" in result.message


def test_a_secret_at_the_place_of_the_cut_is_not_shown_in_part():
    app = ProviderApp("bounds")
    secret = "AlphaSecret99"

    @app.action
    def it(account):
        raise ValueError((secret + " ") * 10_000)

    result = app.test_client().call("it", account={"s": secret})
    assert "Alpha" not in result.body


def test_many_problems_of_an_author_are_bounded():
    app = ProviderApp("bounds")

    @app.action
    def it():
        raise InvalidPayloadError([f"problem {number}" for number in range(500)], "many")

    result = app.test_client().call("it")
    assert result.message == "many"
    assert (len(result.problems), result.data["problem_count"]) == (100, 500)


def test_a_deeply_nested_object_is_structured_once_though_its_innermost_part_is_wrong():
    value: dict[str, Any] = {"number": "a"}
    for _ in range(60):
        value = {"number": 1, "child": value}
    (problem,) = call(Node, value).problems
    assert problem["path"].endswith(".child.number")


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_large_payload_is_validated_beside_the_event_loop(size):
    threads = []

    def note(value):
        threads.append(threading.current_thread())

    app = ProviderApp("bounds")

    async def it(value):
        threads.append(threading.current_thread())
        return len(value)

    it.__annotations__ = {"value": Annotated[str, note]}
    app.action(it)
    payload = json.dumps({"value": "x" * size}).encode()
    running = Running(app, polls=[Task("1", "it", payload)]).until(5)
    assert [result.data for _, result in running.results] == [size]
    assert (threads[0] is threads[1]) is (size == 10)


def test_an_error_on_the_thread_reaches_the_loop():
    def leave():
        raise SystemExit("left")

    async def wait():
        with pytest.raises(SystemExit, match="left"):
            await run_on_thread(leave)

    asyncio.run(wait())


@pytest.mark.parametrize("closes", [True, False])
def test_a_validation_that_was_given_up_ends_unheard(closes):
    may_end = threading.Event()

    def work():
        may_end.wait(TIMEOUT)

    async def give_up():
        task = asyncio.ensure_future(run_on_thread(work))
        await asyncio.sleep(0)
        (thread,) = [t for t in threading.enumerate() if t.name == "arbprov-payload"]
        task.cancel()
        await asyncio.wait([task])
        if not closes:
            may_end.set()
            await asyncio.to_thread(thread.join, TIMEOUT)
            await asyncio.sleep(0)
        return task, thread

    task, thread = asyncio.run(give_up())
    may_end.set()
    thread.join(TIMEOUT)
    assert task.cancelled()
    assert not thread.is_alive()


def test_a_long_traceback_is_redacted_line_by_line(caplog):
    app = ProviderApp("bounds")

    @app.action
    def it(account):
        raise ValueError(account["s"] + "y" * 2_000_000)

    app.test_client().call("it", account={"s": "AlphaSecret99"})
    assert "AlphaSecret99" not in caplog.text


def test_the_message_of_an_author_s_own_error_result_is_redacted_and_a_default_is_not():
    app = ProviderApp("bounds")
    app.action("own")(lambda account: ProviderResponse("error", account["s"], [account["s"]]))
    app.action("default")(lambda: ProviderResponse("error"))
    client = app.test_client()
    own = client.call("own", account={"s": "failed"})
    assert (own.message, own.data) == ("[redacted]", ["[redacted]"])
    default = client.call("default", account={"s": "failed"})
    assert default.message == ProviderResponse("error").status.default_message
