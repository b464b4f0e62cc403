"""Models of pydantic and msgspec, as parameters and as results."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from support.structuring import problems, structure
from support.waiting import TIMEOUT

from arbprov import ProviderApp

pytestmark = pytest.mark.usefixtures("each_json")


class Address(pydantic.BaseModel):
    zip: str


class Customer(pydantic.BaseModel):
    name: str
    born: date | None = None
    addresses: list[Address] = []


class Order(msgspec.Struct):
    article: str
    quantity: int = 1


class Cart(msgspec.Struct):
    orders: list[Order]


@pytest.fixture
def client():
    app = ProviderApp("models")

    @app.action
    def customer(customer: Customer) -> Customer:
        return customer

    @app.action
    def customers(customers: list[Customer]) -> int:
        return len(customers)

    @app.action
    def cart(cart: Cart) -> Cart:
        return cart

    @app.action
    def whole(payload: Customer) -> str:
        return payload.name

    @app.action(payload_schema=Order)
    def order(article: str, quantity: int) -> list:
        return [article, quantity]

    return app.test_client()


def test_a_pydantic_model_goes_in_and_out(client):
    data = {"name": "n", "born": "1990-05-15", "addresses": [{"zip": "z"}]}
    assert client.call("customer", {"customer": data}).data == data


def test_a_pydantic_model_is_strict_and_reports_everything(client):
    data = {"born": 5, "addresses": [{"zip": "z"}, {"zip": 1}]}
    assert problems(client.call("customer", {"customer": data})) == [
        ("customer.name", "required field is missing"),
        ("customer.born", "Input should be a valid date"),
        ("customer.addresses[1].zip", "Input should be a valid string"),
    ]


def test_a_pydantic_model_inside_a_list_has_its_path(client):
    result = client.call("customers", {"customers": [{"name": "n"}, {}]})
    assert problems(result) == [("customers[1].name", "required field is missing")]


def test_a_pydantic_model_takes_the_whole_payload(client):
    assert client.call("whole", {"name": "n"}).data == "n"


def test_a_msgspec_struct_goes_in_and_out(client):
    data = {"orders": [{"article": "tea", "quantity": 2}]}
    assert client.call("cart", {"cart": data}).data == data


def test_a_msgspec_struct_is_strict_and_has_the_path_of_its_first_problem(client):
    result = client.call("cart", {"cart": {"orders": [{"article": "tea", "quantity": "2"}]}})
    assert problems(result) == [("cart.orders[0].quantity", "Expected `int`, got `str`")]


def test_a_msgspec_struct_that_is_wrong_as_a_whole_has_its_path(client):
    assert problems(client.call("cart", {"cart": 5})) == [("cart", "Expected `object`, got `int`")]


def test_a_struct_is_a_payload_schema(client):
    assert client.call("order", {"article": "tea"}).data == ["tea", 1]


def test_a_library_of_models_is_not_imported_by_the_module_itself():
    assert "pydantic" in sys.modules
    assert "pydantic" not in vars(sys.modules["arbprov.payload.models"])


def test_an_app_without_models_loads_neither_library():
    code = """
import sys
from arbprov import ProviderApp
app = ProviderApp()
app.action("echo")(lambda value: value)
app.test_client().call("echo", {"value": [1]})
print({"pydantic", "msgspec"} & set(sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=TIMEOUT, capture_output=True, text=True
    )
    assert run.stdout == "set()\n"


# Models inside other types.


@attrs.frozen
class Visit:
    customer: Customer
    order: Order


ANN, TEA = {"name": "Ann"}, {"article": "tea"}

INSIDE = {
    "pydantic in an Optional": (Customer | None, ANN, Customer(name="Ann")),
    "msgspec in an Optional": (Order | None, TEA, Order("tea")),
    "pydantic in a dict": (dict[str, Customer], {"a": ANN}, {"a": Customer(name="Ann")}),
    "msgspec in a list": (list[Order], [TEA], [Order("tea")]),
    "pydantic in a union": (Customer | Order, ANN, Customer(name="Ann")),
    "msgspec in a union": (Customer | Order, TEA, Order("tea")),
    "both in an attrs class": (
        Visit,
        {"customer": ANN, "order": TEA},
        Visit(Customer(name="Ann"), Order("tea")),
    ),
}


@pytest.mark.parametrize(("target", "data", "model"), INSIDE.values(), ids=INSIDE)
def test_a_model_arrives_inside_another_type(target, data, model):
    received, _ = structure(target, data)
    assert received == [model]


@pytest.mark.parametrize(("target", "data", "model"), INSIDE.values(), ids=INSIDE)
def test_a_model_inside_another_type_may_be_returned(target, data, model):
    _, result = structure(target, data)
    received, _ = structure(target, result.data["value"])
    assert received == [model]


def test_problems_of_models_inside_a_class_are_reported_at_once():
    _, result = structure(Visit, {"customer": {"addresses": [{}]}, "order": {"article": 5}})
    assert problems(result) == [
        ("value.customer.name", "required field is missing"),
        ("value.customer.addresses[0].zip", "required field is missing"),
        ("value.order.article", "Expected `str`, got `int`"),
    ]


def test_a_msgspec_struct_without_a_field_has_its_path():
    _, result = structure(Cart, {"orders": [{}]})
    assert problems(result) == [("value.orders[0]", "Object missing required field `article`")]


@pytest.mark.parametrize("value", [5, [], "text", None], ids=repr)
@pytest.mark.parametrize("model", [Customer, Order])
def test_a_model_takes_objects_only(model, value):
    received, result = structure(model, value)
    assert (received, [path for path, _ in problems(result)]) == ([], ["value"])


class Strict(pydantic.BaseModel):
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    text: str = ""


class StrictStruct(msgspec.Struct):
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    text: str = ""


@pytest.mark.parametrize("model", [Strict, StrictStruct])
@pytest.mark.parametrize(
    ("field", "value"),
    [("count", "1"), ("count", True), ("count", 1.5), ("flag", "false"), ("flag", 1), ("text", 5)],
)
def test_a_model_casts_nothing(model, field, value):
    received, result = structure(model, {field: value})
    assert (received, [path for path, _ in problems(result)]) == ([], [f"value.{field}"])


@pytest.mark.parametrize("model", [Strict, StrictStruct])
def test_an_integer_becomes_a_float_of_a_model(model):
    received, _ = structure(model, {"ratio": 1})
    assert received == [model(ratio=1.0)]


class Positive(pydantic.BaseModel):
    count: int

    @pydantic.field_validator("count")
    @classmethod
    def _check(cls, count):
        if count < 0:
            raise ValueError("below zero")
        return count


def test_a_validator_of_pydantic_runs():
    _, result = structure(list[Positive], [{"count": 1}, {"count": -1}])
    assert problems(result) == [("value[1].count", "Value error, below zero")]


def test_a_problem_of_a_model_does_not_hold_the_value():
    app = ProviderApp("models")

    @app.action
    def it(account: Strict, payload: StrictStruct):
        return {}

    result = app.test_client().call("it", {"count": "open-sesame"}, account={"count": "sesame-2"})
    assert len(result.problems) == 2
    assert "sesame" not in result.body


# Models without a JSON form.


class AnyModel(pydantic.BaseModel):
    inside: Any


class AnyStruct(msgspec.Struct):
    inside: Any


def returned(value):
    app = ProviderApp("models")
    app.action("it")(lambda: {"list": [value]})
    return problems(app.test_client().call("it"))


@pytest.mark.parametrize("model", [AnyModel, AnyStruct])
def test_nan_in_a_model_is_an_error_with_its_path(model):
    found = returned(model(inside=float("nan")))
    assert found == [("list[0].inside", "nan is not a JSON number")]


@pytest.mark.parametrize("model", [AnyModel, AnyStruct])
def test_nan_deep_in_a_model_is_an_error_with_its_path(model):
    found = returned(model(inside={"a": [1.0, (float("inf"),)]}))
    assert found == [("list[0].inside.a[1][0]", "inf is not a JSON number")]


@pytest.mark.parametrize("model", [AnyModel, AnyStruct])
def test_an_object_in_a_model_is_an_error_with_its_path(model):
    ((path, _),) = returned(model(inside=object()))
    assert path.startswith("list[0]")


class Page(pydantic.BaseModel):
    url: pydantic.HttpUrl


def test_a_type_of_pydantic_becomes_its_json_form():
    _, result = structure(Page, {"url": "https://example.com/a"})
    assert result.data == {"value": {"url": "https://example.com/a"}}


# A model as a payload_schema.


@pytest.mark.parametrize("model", [Customer, Order])
def test_the_rest_of_the_fields_of_a_model_goes_to_keyword_arguments(model):
    app = ProviderApp("models")
    app.action("it", payload_schema=model)(lambda **extra: sorted(extra))
    result = app.test_client().call("it", {**ANN, **TEA})
    assert result.data == sorted(model.__annotations__)


def test_the_fields_of_a_pydantic_model_are_parameters():
    app = ProviderApp("models")

    @app.action(payload_schema=Customer)
    def it(name, born):
        return [name, born.year]

    assert app.test_client().call("it", {"name": "Ann", "born": "1990-05-15"}).data == ["Ann", 1990]


class Stock(msgspec.Struct):
    by_id: dict[int, str]
    by_price: dict[float, dict[int, int]] = {}


def test_keys_of_msgspec_are_read_and_written_as_msgspec_does():
    received, _ = structure(Stock, {"by_id": {"1": "tea"}})
    assert received == [Stock({1: "tea"})]
    assert problems(structure(Stock, {"by_id": {"a": "tea"}})[1]) == [
        ("value.by_id", "Expected `int`, got `str` as a key")
    ]
    app = ProviderApp("stock")
    app.action("it")(lambda: [Stock({1: "tea"}, {1.5: {2: 3}})])
    assert app.test_client().call("it").data == [
        {"by_id": {"1": "tea"}, "by_price": {"1.5": {"2": 3}}}
    ]
