"""Models of pydantic and msgspec, as parameters and as results."""

from __future__ import annotations

import sys
from datetime import date

import msgspec
import pydantic
import pytest

from arbprov import ProviderApp


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


def problems(result):
    return [(problem["path"], problem["message"]) for problem in result.problems]


def test_a_pydantic_model_goes_in_and_out(client):
    written = {"name": "n", "born": "1990-05-15", "addresses": [{"zip": "z"}]}
    assert client.call("customer", {"customer": written}).data == written


def test_a_pydantic_model_is_strict_and_reports_everything(client):
    written = {"born": 5, "addresses": [{"zip": "z"}, {"zip": 1}]}
    assert problems(client.call("customer", {"customer": written})) == [
        ("customer.name", "required field is missing"),
        ("customer.born", "Input should be a valid date"),
        ("customer.addresses[1].zip", "Input should be a valid string"),
    ]


def test_a_pydantic_model_inside_of_a_list_has_its_path(client):
    result = client.call("customers", {"customers": [{"name": "n"}, {}]})
    assert problems(result) == [("customers[1].name", "required field is missing")]


def test_a_pydantic_model_takes_the_whole_payload(client):
    assert client.call("whole", {"name": "n"}).data == "n"


def test_a_msgspec_struct_goes_in_and_out(client):
    written = {"orders": [{"article": "tea", "quantity": 2}]}
    assert client.call("cart", {"cart": written}).data == written


def test_a_msgspec_struct_is_strict_and_has_the_path_of_its_first_problem(client):
    result = client.call("cart", {"cart": {"orders": [{"article": "tea", "quantity": "2"}]}})
    assert problems(result) == [("cart.orders[0].quantity", "Expected `int`, got `str`")]


def test_a_msgspec_struct_that_is_wrong_as_a_whole_has_its_path(client):
    assert problems(client.call("cart", {"cart": 5})) == [("cart", "Expected `object`, got `int`")]


def test_a_struct_is_a_payload_schema(client):
    assert client.call("order", {"article": "tea"}).data == ["tea", 1]


def test_a_model_needs_its_library_loaded_by_its_author_only():
    assert "pydantic" in sys.modules
    assert "pydantic" not in vars(sys.modules["arbprov.foreign_models"])
