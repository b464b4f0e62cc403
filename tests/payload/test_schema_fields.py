"""The value of a parameter when `payload_schema` is a class: the object's own."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import NotRequired, TypedDict

from arbprov import ProviderApp
from arbprov.errors import ConfigurationError


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(alias="userId")
    size: int = pydantic.Field(10, alias="pageSize")


class Choices(pydantic.BaseModel):
    size: int = pydantic.Field(
        10, validation_alias=pydantic.AliasChoices("pageSize", pydantic.AliasPath("page", "size"))
    )


class Filled(pydantic.BaseModel):
    pages: int
    size: int = 10

    @pydantic.model_validator(mode="after")
    def fill(self):
        self.size = self.pages * 2
        return self


class Counted(pydantic.BaseModel):
    pages: int

    @pydantic.computed_field
    @property
    def size(self) -> int:
        return self.pages * 2


class Open(pydantic.BaseModel, extra="allow"):
    pages: int


class Renamed(msgspec.Struct, rename="camel"):
    page_size: int = 10


@pydantic.dataclasses.dataclass
class PydanticData:
    size: int = 10


@attrs.define
class Attrs:
    pages: int = 1
    size: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = self.pages * 2


@dataclasses.dataclass
class Data:
    size: int = 10
    scale: dataclasses.InitVar[int] = 2


@attrs.define(slots=False)
class Lazy:
    pages: int

    @functools.cached_property
    def size(self) -> int:
        return self.pages * 2


class Named(NamedTuple):
    size: int = 10


class Typed(TypedDict):
    size: NotRequired[int]


def size_of(schema: Any, payload: dict[str, Any]) -> Any:
    app = ProviderApp("shop")
    app.action("rows", payload_schema=schema)(lambda size=-1: size)
    return app.test_client().call("rows", payload).data


@pytest.mark.parametrize(
    ("schema", "payload", "size"),
    [
        (Aliased, {"userId": 1, "pageSize": 50}, 50),
        (Aliased, {"userId": 1}, 10),
        (Choices, {"pageSize": 50}, 50),
        (Choices, {"page": {"size": 50}}, 50),
        (Filled, {"pages": 4}, 8),
        (Counted, {"pages": 4}, 8),
        (Open, {"pages": 4, "size": 3}, 3),
        (Open, {"pages": 4}, -1),
        (Aliased | Filled, {"userId": 1, "pageSize": 50}, 50),
        (PydanticData, {}, 10),
        (Attrs, {"pages": 4}, 8),
        (Data, {}, 10),
        (Lazy, {"pages": 4}, 8),
        (Named, {}, 10),
        (Named, {"size": 3}, 3),
        (Typed, {}, -1),
        (Typed, {"size": 3}, 3),
    ],
)
def test_a_parameter_gets_the_value_of_the_object_before_its_own_default(schema, payload, size):
    assert size_of(schema, payload) == size


def test_a_renamed_field_of_msgspec_reaches_its_parameter():
    app = ProviderApp("shop")
    app.action("rows", payload_schema=Renamed)(lambda page_size=-1: page_size)
    assert app.test_client().call("rows", {"pageSize": 50}).data == 50
    assert app.test_client().call("rows", {}).data == 10


def test_the_rest_of_the_fields_has_the_names_of_the_model():
    app = ProviderApp("shop")
    app.action("rows", payload_schema=Aliased)(lambda **fields: fields)
    assert app.test_client().call("rows", {"userId": 1}).data == {"user_id": 1, "size": 10}


def test_a_field_that_only_the_constructor_takes_fills_no_parameter():
    with pytest.raises(ConfigurationError, match=r"'scale'.*not a field of payload_schema"):
        ProviderApp("shop").action("it", payload_schema=Data)(lambda scale: scale)
