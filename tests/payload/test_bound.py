"""The payload that keys, costs and limits read: with the values that the handler gets."""

from __future__ import annotations

from datetime import date

import pytest

from arbprov import ProviderApp

NO_JSON = object()


@pytest.fixture
def read():
    """Return a function that calls an action, and returns what its limit has read of a payload."""

    def read(reader, payload):
        app, found = ProviderApp("test"), []

        @app.action
        @app.rate_limit("1000/hour", key=lambda call: found.append(reader(call.payload)) or "all")
        def order(day: date, count: int = 1, sentinel=NO_JSON, **extra: int):
            pass

        assert app.test_client().call("order", payload).status == "success"
        return found[0]

    return read


def test_a_field_has_the_form_of_json(read):
    assert read(lambda payload: payload["day"], {"day": "2026-03-20"}) == "2026-03-20"


def test_a_field_that_is_left_out_has_its_default(read):
    assert read(lambda payload: payload["count"], {"day": "2026-03-20"}) == 1


def test_a_field_that_no_parameter_takes_is_as_it_came(read):
    assert read(lambda payload: payload["other"], {"day": "2026-03-20", "other": 3}) == 3


def test_a_default_without_a_form_in_json_is_not_there(read):
    found = read(
        lambda payload: (payload.get("sentinel"), "sentinel" in payload), {"day": "2026-03-20"}
    )
    assert found == (None, False)


def test_all_fields_can_be_listed(read):
    listed = read(lambda payload: (dict(payload), len(payload)), {"day": "2026-03-20", "other": 3})
    assert listed == ({"day": "2026-03-20", "other": 3, "count": 1}, 3)


def test_a_field_is_the_same_object_each_time(read):
    assert read(lambda payload: payload["day"] is payload["day"], {"day": "2026-03-20"})
