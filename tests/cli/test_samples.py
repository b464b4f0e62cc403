"""Sample payloads that fit an action."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import typing
import uuid
from types import SimpleNamespace

import attrs
import pytest

from arbprov import ProviderApp, Task
from arbprov.cli.samples import Sample, find_sample


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Line:
    article: str
    quantity: int = attrs.field(validator=attrs.validators.ge(5))


def sample_of(handler, limits=(), **options):
    """Return the sample of an action with this handler, which must accept it."""
    app = ProviderApp("shop")
    for key in limits:
        handler = app.rate_limit("5/minute", key=key)(handler)
    app.action("work", **options)(handler)
    dispatcher = app._live_dispatcher()
    declared = app.limits_by_action()["work"]
    sample = find_sample(dispatcher, dispatcher.routes["work"], declared)
    if sample is not None:
        payload, account = (
            json.dumps(part).encode() for part in attrs.astuple(sample, recurse=False)
        )
        assert dispatcher.prepare(Task("1", "work", payload, account)).error is None
    return sample


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, "x"),
        (int, 1),
        (float, 1.5),
        (bool, True),
        (Color, "red"),
        (typing.Literal[3, 4], 3),
        (typing.Literal["only"], "only"),
        (dt.date, "2026-03-20"),
        (dt.datetime, "2026-03-20T10:30:00+01:00"),
        (dt.time, "10:30:00"),
        (dt.timedelta, 30),
        (uuid.UUID, "12345678-1234-5678-1234-567812345678"),
        (decimal.Decimal, "12.50"),
        (bytes, "aGVsbG8="),
        (list[str], ["x"]),
        (list[list[int]], [[1]]),
        (tuple[int, str], [1, "x"]),
        (dict[str, int], {}),
        (Line, {"article": "article", "quantity": 10}),
        (list[Line], [{"article": "article", "quantity": 10}]),
        (int | None, 1),
        (int | str, "x"),
        (None, None),
    ],
)
def test_a_sample_fits_its_type(kind, value):
    def work(x) -> None: ...

    work.__annotations__["x"] = kind
    assert sample_of(work) == Sample({"x": value}, {})


def test_only_required_fields_are_filled():
    def work(city: str, days: int = 3, **more: typing.Any) -> None: ...

    assert sample_of(work) == Sample({"city": "city"}, {})


def test_accounts_and_the_keys_of_limits_are_filled():
    def work(account: Line, region: str = "") -> None: ...

    assert sample_of(work, ["account.user.id", ("payload.region", "account.zone"), len]) == Sample(
        {"region": "sample-region"},
        {
            "user": {"id": "sample-id"},
            "zone": "sample-zone",
            "article": "article",
            "quantity": 10,
        },
    )


def test_a_payload_s_schema_is_filled():
    schema = {"user": {"name": str, "e mails": [str]}, "tags": [{"a": int}]}
    assert sample_of(lambda payload: None, payload_schema=schema) == Sample(
        {"user": {"name": "name", "e mails": ["mails"]}, "tags": [{"a": 1}]},
        {},
    )


def test_a_payload_that_no_guess_fits_has_no_sample():
    def never(value):
        raise ValueError("never")

    def work(x) -> None: ...

    work.__annotations__["x"] = typing.Annotated[int, never]
    assert sample_of(work) is None


@pytest.mark.parametrize("key", ["payload.city.name", "payload.city.name.first"])
def test_a_key_for_which_the_payload_has_no_place_is_left_out(key):
    def work(city: str) -> None: ...

    assert sample_of(work, [key, "payload.city"]).payload["city"] in {"city", "sample-city"}
    assert sample_of(work, ["payload.city", key]).payload["city"] in {"city", "sample-city"}


def test_an_action_whose_validation_fails_has_no_sample():
    class Dispatcher:
        def prepare(self, task):
            return SimpleNamespace(error=RecursionError())

    route = SimpleNamespace(action=SimpleNamespace(name="work"))
    assert find_sample(Dispatcher(), route, []) is None
