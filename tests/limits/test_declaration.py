"""Declarations of limits, and the errors at import."""

from __future__ import annotations

import math

import pytest

from arbprov import ConfigurationError, MinDelay, ProviderApp, TokenBucket
from arbprov.limits import Limiter, MemoryStore, declare
from arbprov.testing import VirtualClock


def handler():
    """Return a handler that has no limit yet."""

    def work():
        return {}

    return work


REFUSED = {
    "no limit": ((5,), {}, 'a rate limit is a text like "10/minute", not 5'),
    "a class": (
        (MinDelay,),
        {},
        "a rate limit is a text like \"10/minute\", not <class 'arbprov.limits.policies.MinDelay'>",
    ),
    "no rate": (("often",), {}, "'often' is not a valid rate limit"),
    "a month": (("10/month",), {}, "'10/month': a month has no fixed length"),
    "a scope": (
        ("1/s",),
        {"scope": "world"},
        "scope='world' must be 'action', 'blueprint' or 'app'",
    ),
    "on_store_error": (
        ("1/s",),
        {"on_store_error": "panic"},
        "on_store_error='panic' must be 'local', 'closed' or 'open'",
    ),
    "a key": (("1/s",), {"key": "id"}, "key='id' is not a key; give a dotted path such as"),
    "an empty key": (("1/s",), {"key": ()}, "key=() is not a key"),
    "a part of a key": (("1/s",), {"key": ("account.id", "x")}, "key='x' is not a key"),
    "a path with a hole": (("1/s",), {"key": "account..id"}, "key='account..id' is not a key"),
    "a cost of 0": (("5/s",), {"cost": 0}, "cost=0 is not a whole number above 0"),
    "a cost of 1.5": (("5/s",), {"cost": 1.5}, "cost=1.5 is not a whole number above 0"),
    "a cost of True": (("5/s",), {"cost": True}, "cost=True is not a whole number above 0"),
    "a cost that never fits": (
        ("5/s; 2/m",),
        {"cost": 3},
        "a cost of 3 can never be met by 2/minute; lower the cost or raise the limit",
    ),
    "a cost above the burst": (
        ("5/s",),
        {"cost": 3, "burst": 2},
        "a cost of 3 can never be met by 5/second burst 2",
    ),
    "a cost above a bucket": (
        (TokenBucket(requests_per_minute=60, burst_size=2),),
        {"cost": 3},
        "a cost of 3 can never be met by token bucket of 2, 60/minute",
    ),
    "a burst of 0": (
        ("5/s",),
        {"burst": 0},
        "a limit's burst must be a whole number above 0, not 0",
    ),
    "a burst above the limit": (("5/s",), {"burst": 6}, "a burst of 6 is more than the limit of 5"),
    "a burst of a delay": (
        (MinDelay(2),),
        {"burst": 1},
        'burst= is for limits like "10/minute", not for a delay of 2s',
    ),
    "a wait below 0": (
        ("1/s",),
        {"max_wait": -1},
        "max_wait=-1 is not a number of seconds, 0 or above",
    ),
    "a wait without end": (("1/s",), {"max_wait": math.inf}, "max_wait=inf is not a number"),
    "a wait that is no number": (("1/s",), {"max_wait": "5"}, "max_wait='5' is not a number"),
    "a wait that is NaN": (("1/s",), {"max_wait": math.nan}, "max_wait=nan is not a number"),
    "a level of 1": (("1/s",), {"warn_at": (1,)}, "warn_at=(1,) must be a list of shares between"),
    "a level alone": (("1/s",), {"warn_at": 0.8}, "warn_at=0.8 must be a list of shares between"),
    "a shadow that is text": (("1/s",), {"shadow": "no"}, "shadow='no' must be True or False"),
    "a name that is no text": (("1/s",), {"name": 5}, "name=5 is not a name"),
    "a blank name": (("1/s",), {"name": " "}, "name=' ' is not a name"),
    "a level of 80": (("1/s",), {"warn_at": (80,)}, "warn_at=(80,) must be a list of shares"),
    "a level that is no number": (
        ("1/s",),
        {"warn_at": ("x",)},
        "warn_at=('x',) must be a list of shares",
    ),
}


@pytest.mark.parametrize(("arguments", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_at_import(arguments, options, message):
    with pytest.raises(ConfigurationError) as refusal:
        ProviderApp().rate_limit(*arguments, **options)(handler())
    where, _, text = str(refusal.value).partition("): ")
    assert text.startswith(message)
    assert "test_declaration.py:" in where


def test_an_app_s_limit_that_makes_no_sense_names_the_app():
    with pytest.raises(ConfigurationError, match="app 'ads': rate_limit: 'often' is no"):
        ProviderApp("ads", rate_limit="often")


def test_a_declaration_reads_like_a_sentence():
    texts = [
        str(declare("5/second; 10/minute", key="account.id")),
        str(declare("5/second", shadow=True)),
        str(declare(lambda call: "5/second")),
    ]
    assert texts[:2] == ["5/second; 10/minute per account.id", "5/second (shadow)"]
    assert texts[2].endswith("<lambda>")


# Limits and costs that are functions of the call.


def limited(limit="10/hour", **options):
    app = ProviderApp()
    app.action("work")(app.rate_limit(limit, **options)(handler()))
    return app.test_client()


def run(client, times, **call):
    return [client.call("work", **call).status.value for _ in range(times)]


def test_a_limit_may_be_a_function_of_the_call():
    client = limited(lambda call: f"{call.payload['most']}/hour", key="payload.most")
    assert [run(client, 4, payload={"most": most}).count("success") for most in (1, 3)] == [1, 3]


def test_a_function_may_return_a_limit_of_any_kind():
    client = limited(lambda call: MinDelay(5))
    first = run(client, 2)
    client.clock.advance(5)
    assert (first, run(client, 1)) == (["success", "limit"], ["success"])


def test_a_function_may_return_several_limits():
    client = limited(lambda call: "2/second; 3/hour")
    first = run(client, 3)
    client.clock.advance(2)
    assert (first, run(client, 2)) == (["success", "success", "limit"], ["success", "limit"])


def test_a_function_s_limits_are_named_in_refusals():
    client = limited(lambda call: "1/second; 3/hour")
    run(client, 1)
    result = client.call("work")
    assert (result.data["limit"], [one["limit"] for one in result.data["limits"]]) == (
        "1/second",
        ["1/second", "3/hour"],
    )


def test_a_burst_tightens_what_a_function_returns():
    assert run(limited(lambda call: "10/hour", burst=1), 2) == ["success", "limit"]


def test_limits_that_a_function_returns_twice_are_charged_once():
    assert run(limited(lambda call: "2/hour; 2/hour"), 3) == ["success", "success", "limit"]


def test_a_function_s_limit_is_charged_once_if_another_of_its_name_returns_it_too():
    app = ProviderApp()

    @app.action
    @app.rate_limit(lambda call: "6/hour", name="vendor", cost=3)
    @app.rate_limit(lambda call: "6/hour", name="vendor", cost=1)
    def work():
        return {}

    client = app.test_client()
    assert run(client, 3) == ["success", "success", "limit"]


def test_a_cost_may_be_a_function_of_the_call():
    client = limited("10/hour", cost=lambda call: len(call.payload["rows"]))
    assert [client.call("work", {"rows": [0] * n}).status.value for n in (6, 5, 4, 1)] == [
        "success",
        "limit",
        "success",
        "limit",
    ]


def test_a_cost_above_the_limit_is_an_error_result():
    client = limited("10/hour", cost=lambda call: 11)
    result = client.call("work")
    assert (result.status, result.message) == (
        "error",
        (
            "the rate limit 10/hour: a cost of 11 can never be met by 10/hour; "
            "lower the cost or raise the limit"
        ),
    )


@pytest.mark.parametrize("cost", [0, -1, 1.0, True, "1", None], ids=repr)
def test_a_cost_that_is_none_is_an_error_result(cost):
    result = limited("10/hour", cost=lambda call: cost).call("work")
    assert (result.status, result.message) == (
        "error",
        f"the rate limit 10/hour: cost={cost!r} is not a whole number above 0",
    )


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (None, 'a rate limit is a text like "10/minute", not None'),
        ("often", "'often' is not a valid rate limit"),
        ("10/month", "'10/month': a month has no fixed length"),
        ("0/hour", "a limit's amount must be a whole number above 0, not 0"),
    ],
    ids=repr,
)
def test_a_function_that_returns_no_limit_is_an_error_result(limit, message):
    def of_the_plan(call):
        return limit

    result = limited(of_the_plan).call("work")
    name = f"{__name__}.{of_the_plan.__qualname__}"
    assert result.status == "error"
    assert result.message.startswith(f"the rate limit {name}: {message}")


def test_a_function_that_fails_takes_nothing_from_the_other_limits():
    app = ProviderApp(rate_limit="1/hour")
    app.action("work")(app.rate_limit(lambda call: call.payload["plan"])(handler()))
    client = app.test_client()
    assert [client.call("work", {"plan": plan}).status.value for plan in ("x", "1/hour")] == [
        "error",
        "success",
    ]


def test_what_a_function_raises_is_the_result():
    assert limited(lambda call: call.payload["plan"]).call("work").data["type"] == "KeyError"


# Stores.


def test_the_same_limit_in_two_stores_holds_in_both():
    clock = VirtualClock()
    stores = {None: MemoryStore(clock), "shared": MemoryStore(clock)}
    limiter = Limiter(clock, lambda terms: stores[terms.store])
    terms = [declare("2/hour"), declare("2/hour", store="shared")]
    stack = limiter.compile(terms, action="work")
    assert limiter.acquire(stack, None).allowed
    assert [len(store) for store in stores.values()] == [1, 1]


def two_stores(*limits):
    """Return a limiter and a stack of limits, each in a store of its own; the first one blocks."""

    class Blocking(MemoryStore):
        blocks = True

    clock = VirtualClock()
    stores = [Blocking(clock), MemoryStore(clock)]
    limiter = Limiter(clock, lambda terms: stores[terms.store])
    terms = [declare(one, store=number) for number, one in enumerate(limits)]
    return limiter, limiter.compile(terms, action="work")


def left(decision):
    return {one.limit: one.remaining for one in decision.headroom}


@pytest.mark.parametrize("limits", [("1/hour", "9/day"), ("9/day", "1/hour")], ids=str)
def test_what_one_store_refuses_is_charged_in_no_other(limits):
    limiter, stack = two_stores(*limits)
    limiter.acquire(stack, None)
    refused = [limiter.acquire(stack, None) for _ in range(5)]
    assert [left(one) for one in refused] == [{"1/hour": 0, "9/day": 8}] * 5


def test_a_charge_in_one_store_is_refunded_if_the_next_store_refuses():
    limiter, stack = two_stores("9/day", "9/hour")
    stores = {limit.text: limit.store for limit in stack.limits}
    # As if another process had been faster, between the question and the charge.
    stores["9/hour"].acquire = lambda charges: setattr(charges[0], "wait_time", 5.0)
    decision = limiter.acquire(stack, None)
    assert (decision.allowed, decision.receipts) == (False, ())
    assert left(limiter.peek(stack, None)) == {"9/day": 9, "9/hour": 9}


def test_a_cooldown_in_one_of_two_stores_ends_after_its_probe():
    limiter, stack = two_stores("9/day", "9/hour")
    clock = limiter._compiler._clock
    limiter.acquire(stack, None).start_cooldown(30, "9/hour", 2)
    clock.advance(30)
    first = limiter.acquire(stack, None)
    waits = [limiter.peek(stack, None).wait_time]
    first.end_cooldown()
    waits.append(limiter.peek(stack, None).wait_time)
    assert (first.is_probing, waits) == (True, [2, 0])


def test_a_stack_that_blocks_says_so():
    _, stack = two_stores("9/day", "9/hour")
    assert stack.blocks


# Keys that name a field which the action does not take.


def keyed(key, handler, **options):
    """Return an app with an action `work` whose limit has a key."""
    app = ProviderApp()
    app.action("work", **options)(app.rate_limit("1/hour", key=key)(handler))
    return app


def work(region: str): ...


def with_any_field(region: str, **others): ...


def with_whole(payload: dict, region: str = ""): ...


@pytest.mark.parametrize("key", ["payload.regoin", ("account.id", "payload.regoin.id")], ids=str)
def test_a_key_that_no_payload_can_have_is_refused(key):
    app = keyed(key, work, forbid_extra=True)
    with pytest.raises(ConfigurationError) as caught:
        app.test_client()
    assert str(caught.value).endswith(
        " is counted by the field 'regoin', and the action 'work' takes no such field; "
        "did you mean 'region'?"
    )
    assert str(caught.value).startswith(f"work ({__file__}:")


def test_a_key_that_is_probably_misspelt_is_warned_of(caplog):
    keyed("payload.regoin", work).test_client()
    (message,) = caplog.messages
    assert "the action 'work' takes no such field; did you mean 'region'?" in message


@pytest.mark.parametrize(
    ("key", "handler", "options"),
    [
        ("payload.region.id", work, {"forbid_extra": True}),
        ("account.regoin", work, {"forbid_extra": True}),
        (lambda call: 1, work, {"forbid_extra": True}),
        (None, work, {"forbid_extra": True}),
        ("payload.regoin", with_any_field, {"forbid_extra": True}),
        ("payload.regoin", with_whole, {"forbid_extra": True}),
        ("payload.regoin", work, {"forbid_extra": True, "payload_schema": {"region": str}}),
        ("payload.tenant", work, {}),
    ],
    ids=["known", "account", "function", "none", "rest", "whole", "schema", "extra"],
)
def test_a_key_that_a_payload_may_have_is_neither_refused_nor_warned_of(
    key, handler, options, caplog
):
    keyed(key, handler, **options).test_client()
    assert caplog.messages == []


def test_a_key_of_a_field_that_the_handler_does_not_take_is_read():
    client = keyed("payload.regoin", work).test_client()
    payload = {"region": "eu", "regoin": "eu"}
    assert [client.call("work", payload).status for _ in range(2)] == ["success", "limit"]
