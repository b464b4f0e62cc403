"""How a handler's parameters are filled, and parameters that are refused at import."""

from __future__ import annotations

import functools
import re
from typing import Any

import attrs
import pytest
from support.structuring import problems
from support.waiting import TIMEOUT

from arbprov import ConfigurationError, ProviderApp, TaskContext

pytestmark = pytest.mark.usefixtures("each_json")


def call(handler, payload=None, account=None, **options):
    app = ProviderApp("binding")
    app.action("it", **options)(handler)
    return app.test_client().call("it", payload, account=account)


def misuse(handler, **options) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ProviderApp("misuse").action("it", **options)(handler)
    return str(caught.value)


# Where values come from.


def test_a_parameter_takes_the_field_of_its_name():
    def it(city: str, days: int):
        return [city, days]

    assert call(it, {"days": 3, "city": "Paris"}).data == ["Paris", 3]


def test_a_default_makes_a_parameter_optional():
    def it(city: str = "Oslo"):
        return city

    assert call(it, {}).data == "Oslo"


def test_a_default_is_not_structured():
    sentinel = object()

    def it(city: str = sentinel):
        return city is sentinel

    assert call(it, {}).data is True


def test_a_parameter_without_annotation_takes_anything():
    def it(value):
        return value

    assert call(it, {"value": [1, {"a": None}]}).data == [1, {"a": None}]


def test_unknown_fields_pass():
    def it(city: str):
        return city

    assert call(it, {"city": "Paris", "unknown": 1}).data == "Paris"


def test_unknown_fields_are_problems_where_they_are_forbidden():
    def it(city: str):
        return city

    result = call(it, {"city": "Paris", "b": 1, "a": 2}, forbid_extra=True)
    assert problems(result) == [("a", "unknown field"), ("b", "unknown field")]


def test_the_rest_goes_to_keyword_arguments():
    def it(city: str, **extra):
        return {"city": city, "extra": extra}

    data = call(it, {"city": "Paris", "a": 1, "b": 2}, forbid_extra=True).data
    assert data == {"city": "Paris", "extra": {"a": 1, "b": 2}}


def test_the_rest_has_the_type_of_its_annotation():
    def it(**extra: int):
        return extra

    assert problems(call(it, {"a": 1, "b": "2"})) == [("b", "expected an integer, got a string")]


def test_payload_is_the_whole_payload():
    def it(payload):
        return payload

    assert call(it, {"a": 1, "b": [2]}).data == {"a": 1, "b": [2]}


@attrs.frozen
class City:
    name: str


def test_payload_has_the_type_of_its_annotation():
    def it(payload: City):
        return payload.name

    assert call(it, {"name": "Paris"}).data == "Paris"
    assert problems(call(it, {})) == [("name", "required field is missing")]


def test_payload_and_fields_go_together():
    def it(payload: dict[str, Any], name: str):
        return [payload, name]

    assert call(it, {"name": "Paris", "a": 1}).data == [{"name": "Paris", "a": 1}, "Paris"]


def test_account_is_the_whole_account():
    def it(account: dict[str, int]):
        return sorted(account)

    assert call(it, account={"key": 1}).data == ["key"]


def test_a_problem_of_the_account_has_its_path():
    def it(account: City):
        return account

    assert problems(call(it, account={"name": 5})) == [
        ("account.name", "expected a string, got an integer")
    ]


def test_payload_and_account_are_reported_at_once():
    def it(account: City, days: int):
        return days

    assert set(problems(call(it, {"days": "3"}))) == {
        ("account.name", "required field is missing"),
        ("days", "expected an integer, got a string"),
    }


def test_one_problem_is_reported_once():
    def it(payload: City, name: str):
        return name

    assert problems(call(it, {"name": 5})) == [("name", "expected a string, got an integer")]


def test_the_account_may_have_a_schema_without_a_parameter():
    result = call(lambda: None, account={}, account_schema={"key": str})
    assert problems(result) == [("account.key", "required field is missing")]


def test_a_parameter_annotated_with_task_context_gets_it():
    def it(here: TaskContext):
        return [here.id, here.action, here.logger.name, here.cancelled, here.remaining]

    assert call(it).data == ["test-1", "it", "arbprov.it", False, TIMEOUT]


def test_the_context_has_the_payload_and_the_account():
    def it(ctx: TaskContext):
        return [ctx.payload, ctx.account]

    assert call(it, {"a": 1}, {"b": "x"}).data == [{"a": 1}, {"b": "x"}]


def test_the_context_shows_no_secret():
    def it(ctx: TaskContext):
        return repr(ctx)

    assert "hunter22" not in call(it, {"password": "hunter22"}, {"key": "hunter22"}).data


# Kinds of parameters and of handlers.


def test_positional_only_parameters_are_filled():
    def it(city, days=2, /):
        return [city, days]

    assert call(it, {"city": "Paris"}).data == ["Paris", 2]


def test_keyword_only_parameters_are_filled():
    def it(*, city):
        return city

    assert call(it, {"city": "Paris"}).data == "Paris"


@pytest.mark.parametrize("name", ["self", "cls", "converter", "_private", "value_", "id", "type"])
def test_a_parameter_may_have_any_name(name):
    handler = eval(f"lambda {name}: {name}")
    assert call(handler, {name: 5}).data == 5


class Service:
    def method(self, city: str):
        return city

    def __call__(self, city: str):
        return city


def decorated(city: str):
    return city


@functools.wraps(decorated)
def wrapper(*args, **kwargs):
    return decorated(*args, **kwargs)


@pytest.mark.parametrize(
    "handler",
    [Service().method, Service(), functools.partial(decorated), wrapper, lambda city: city],
    ids=["method", "object", "partial", "wrapped", "lambda"],
)
def test_any_callable_is_a_handler(handler):
    assert call(handler, {"city": "Paris"}).data == "Paris"


async def asynchronous(city: str):
    return city


class AsyncService:
    async def __call__(self, city: str):
        return city


@pytest.mark.parametrize(
    "handler",
    [
        asynchronous,
        AsyncService(),
        functools.partial(asynchronous),
        lambda city: asynchronous(city),
    ],
    ids=["function", "object", "partial", "lambda"],
)
def test_any_awaitable_is_awaited(handler):
    assert call(handler, {"city": "Paris"}).data == "Paris"


# Parameters that no payload could fill.


def variadic(*cities: str):
    return cities


class Opaque:
    """A class without a JSON form."""


def opaque(thing: Opaque):
    return thing


def opaque_inside(things: list[Opaque]):
    return things


def unresolvable(thing: NotThere):  # noqa: F821
    return thing


def numbered(by_number: dict[int, str]):
    return by_number


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (variadic, "no payload could fill *cities, since the fields of a payload have names"),
        (opaque, "no payload could fill 'thing': no JSON value can become Opaque"),
        (opaque_inside, "no payload could fill 'things': no JSON value can become Opaque"),
        (unresolvable, "the annotation of 'thing' can't be resolved: name 'NotThere' is not de"),
        (numbered, "no payload could fill 'by_number': no JSON value can become dict[int, str],"),
    ],
    ids=lambda part: getattr(part, "__name__", "message"),
)
def test_a_parameter_that_can_not_be_filled_is_refused_at_import(handler, message):
    where = f"{handler.__name__} ({__file__}:{handler.__code__.co_firstlineno}): "
    assert misuse(handler).startswith(where + message)


@pytest.mark.parametrize(
    ("handler", "fix"),
    [
        (variadic, "take them by name, or the unknown ones as **extra"),
        (opaque, "annotate it with a type that JSON has a form for, such as an attrs class"),
        (unresolvable, "define or import it at the top of the module, not under"),
    ],
    ids=["variadic", "opaque", "unresolvable"],
)
def test_the_message_says_how_to_fix_it(handler, fix):
    assert fix in misuse(handler)


def test_a_builtin_without_a_signature_is_refused():
    assert re.match(r".*: it has no signature to read: ", misuse(type))


def test_null_does_not_mean_the_default():
    def it(city: str = "Oslo"):
        return city

    assert problems(call(it, {"city": None})) == [("city", "expected a string, got null")]


def test_a_handler_without_parameters_takes_any_payload():
    assert call(lambda: "done", {"unknown": 1}).data == "done"


def test_every_problem_of_every_parameter_is_reported():
    def it(city: str, days: int, *, hours: float = 0.0, **extra: bool):
        return city

    assert problems(call(it, {"days": "3", "hours": "1", "sunny": 1})) == [
        ("city", "required field is missing"),
        ("days", "expected an integer, got a string"),
        ("hours", "expected a number, got a string"),
        ("sunny", "expected a boolean, got an integer"),
    ]


@pytest.mark.parametrize("name", ["payload", "account"])
def test_a_reserved_name_without_annotation_is_the_unstructured_object(name):
    whole = {"payload": {"a": [1, None]}, "account": {"b": {"c": 1}}}
    handler = eval(f"lambda {name}: {name}")
    assert call(handler, whole["payload"], whole["account"]).data == whole[name]


def test_a_field_named_account_does_not_replace_the_account():
    def it(account, **extra):
        return [account, extra]

    assert call(it, {"account": "evil", "a": 1}, {"key": 1}).data == [{"key": 1}, {"a": 1}]


def test_a_field_does_not_replace_the_context():
    def it(ctx: TaskContext, **extra):
        return [ctx.id, extra]

    assert call(it, {"ctx": "evil", "a": 1}).data == ["test-1", {"a": 1}]


def first(ctx: TaskContext, /, city: str):
    return [ctx.id, city]


def last(city: str, *, ctx: TaskContext):
    return [ctx.id, city]


def optional(city: str, ctx: TaskContext = None):
    return [ctx.id, city]


@pytest.mark.parametrize("handler", [first, last, optional])
def test_a_context_may_be_any_parameter(handler):
    assert call(handler, {"city": "Paris"}).data == ["test-1", "Paris"]


def test_every_context_is_filled():
    def it(one: TaskContext, other: TaskContext):
        return one is other

    assert call(it).data is True


def test_a_partial_keeps_its_arguments():
    def it(city: str, days: int, hours: int):
        return [city, days, hours]

    handler = functools.partial(it, "Oslo", hours=5)
    assert call(handler, {"days": 2}).data == ["Oslo", 2, 5]


def test_a_wrapper_runs():
    calls = []

    @functools.wraps(decorated)
    def counting(**kwargs):
        calls.append(kwargs)
        return decorated(**kwargs)

    call(counting, {"city": "Paris"})
    assert calls == [{"city": "Paris"}]


def test_a_wrapped_function_names_the_types():
    assert problems(call(wrapper, {"city": 5})) == [("city", "expected a string, got an integer")]


def visit(city: City):
    return city.name


class Visits:
    """Its annotations are strings, as this module's are, and name a class of this module."""

    def __call__(self, city: City):
        return city.name

    def method(self, city: City):
        return city.name

    @classmethod
    def of_class(cls, city: City):
        return city.name

    @staticmethod
    def static(city: City):
        return city.name


@functools.wraps(visit)
def wrapped_visit(*args, **kwargs):
    return visit(*args, **kwargs)


@pytest.mark.parametrize(
    "handler",
    [
        visit,
        wrapped_visit,
        functools.partial(visit),
        Visits(),
        Visits().method,
        Visits.of_class,
        Visits.static,
    ],
    ids=["function", "wrapped", "partial", "object", "method", "classmethod", "staticmethod"],
)
def test_postponed_annotations_of_any_callable_are_resolved(handler):
    assert call(handler, {"city": {"name": "Paris"}}).data == "Paris"


class Variadic:
    def __call__(self, *cities):
        return cities


@pytest.mark.parametrize(
    ("handler", "function"),
    [
        (functools.partial(variadic), variadic),
        (functools.wraps(variadic)(lambda *args: None), variadic),
        (Variadic().__call__, Variadic.__call__),
        (Variadic(), Variadic.__call__),
    ],
    ids=["partial", "wrapped", "method", "object"],
)
def test_the_message_names_file_and_line_of_any_callable(handler, function):
    assert f"({__file__}:{function.__code__.co_firstlineno}): " in misuse(handler)


@attrs.frozen
class Holder:
    things: list[Opaque]


def held(holder: Holder):
    return holder


def opaque_or_none(thing: Opaque | None):
    return thing


def opaque_rest(**extra: Opaque):
    return extra


def opaque_payload(payload: Opaque):
    return payload


def opaque_account(account: Opaque):
    return account


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (held, "holder"),
        (opaque_or_none, "thing"),
        (opaque_rest, "extra"),
        (opaque_payload, "payload"),
        (opaque_account, "account"),
    ],
)
def test_a_type_that_no_json_can_become_is_refused_in_any_parameter(handler, name):
    message = f"no payload could fill '{name}': no JSON value can become Opaque"
    assert message in misuse(handler)


@pytest.mark.parametrize("name", ["payload", "account"])
@pytest.mark.parametrize("annotation", [TaskContext, TaskContext | None])
def test_a_context_may_have_any_name(name, annotation):
    handler = eval(f"lambda {name}: {name}.action")
    handler.__annotations__ = {name: annotation}
    assert call(handler).data == "it"
