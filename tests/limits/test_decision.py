"""One decision over all limits of a call, by any keys."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.workers import task, work_off

from arbprov import (
    Blueprint,
    Limit,
    ProviderApp,
    ProviderResponse,
    RateLimited,
    TaskContext,
)
from arbprov.limits import Charge, Limiter, MemoryStore, declare, parse_limits
from arbprov.testing import VirtualClock


def limited(*limits, **options):
    """Return the client of an app whose action ``work`` has these limits, the first outermost."""
    app = ProviderApp()

    def work():
        return {}

    app.action(work)
    for limit in limits:
        app.rate_limit(limit, **options)(work)
    return app.test_client()


def statuses(client, times, action="work", **call):
    return [client.call(action, **call).status.value for _ in range(times)]


def admitted(client, times, action="work", **call):
    return statuses(client, times, action, **call).count("success")


def headroom(result):
    return {one["limit"]: one["remaining"] for one in result.data["limits"]}


# All or nothing.


def test_a_call_runs_when_all_its_limits_admit_it():
    assert admitted(limited("2/second", "3/minute"), 2) == 2


def test_one_limit_that_refuses_is_enough():
    assert statuses(limited("5/second", "1/minute"), 2) == ["success", "limit"]


@pytest.mark.parametrize("limits", [("1/second", "20/hour"), ("20/hour", "1/second")], ids=str)
def test_a_refused_call_takes_nothing_from_the_limit_that_would_admit_it(limits):
    client = limited(*limits)
    ran = 0
    for _ in range(60):
        ran += admitted(client, 1)
        client.clock.advance(0.1)
    # One a second for six seconds; the 54 refused calls must not have used up the hour.
    assert ran == 6


@pytest.mark.parametrize("limits", [("1/second", "20/hour"), ("20/hour", "1/second")], ids=str)
def test_sixty_refused_calls_leave_the_other_limit_as_it_was(limits):
    client = limited(*limits)
    client.call("work")
    refusals = [client.call("work") for _ in range(60)]
    assert {headroom(one)["20/hour"] for one in refusals} == {19}


def test_a_refused_call_takes_nothing_from_the_limit_that_refuses_it():
    client = limited("2/minute")
    statuses(client, 60)
    client.clock.advance(60)
    assert admitted(client, 60) == 2


def test_a_refused_key_takes_nothing_from_the_limit_that_all_keys_share():
    app = ProviderApp(rate_limit="10/hour")
    app.action("work")(app.rate_limit("1/hour", key="account.id")(make_handler()))
    client = app.test_client()
    statuses(client, 60, account={"id": 1})
    assert [admitted(client, 1, account={"id": one}) for one in range(2, 13)] == [1] * 9 + [0, 0]


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0, 4.0]), min_size=1, max_size=60))
def test_stacked_limits_admit_what_an_honest_bookkeeper_would(gaps):
    client = limited("2/second", "5/8s")
    ran = []
    for gap in gaps:
        client.clock.advance(gap)
        now = client.clock.monotonic()
        fits = all(
            sum(now - at < period for at in ran) < amount for amount, period in ((2, 1), (5, 8))
        )
        # All times are on the steps of neither window, so a refusal may come a thousandth late.
        late = any(period <= now - at <= period * 1.001 for at in ran for period in (1, 8))
        admits = client.call("work").status == "success"
        assert admits == fits or (late and not admits)
        if admits:
            ran.append(now)


# The result of a refused call.


def test_the_wait_is_the_longest_of_all_limits():
    client = limited("1/second", "1/minute", "2/hour")
    client.call("work")
    assert client.call("work").wait_time == 60


def test_the_limit_that_is_named_has_the_longest_wait():
    client = limited("1/second", "1/minute", "2/hour")
    client.call("work")
    assert client.call("work").data["limit"] == "1/minute"


def test_a_refusal_has_the_headroom_of_each_limit():
    client = limited("1/second", "1/minute", "2/hour")
    client.call("work")
    assert client.call("work").data["limits"] == [
        {"limit": "1/second", "remaining": 0, "wait_time": 1.0},
        {"limit": "1/minute", "remaining": 0, "wait_time": 60.0},
        {"limit": "2/hour", "remaining": 1, "wait_time": 0.0},
    ]


def test_after_the_wait_the_call_is_admitted():
    client = limited("3/second", "7/minute")
    for _ in range(50):
        result = client.call("work")
        if result.status == "limit":
            client.clock.advance(result.wait_time)
            assert client.call("work").status == "success"


def test_before_the_wait_is_over_the_call_is_refused():
    client = limited("1/minute")
    client.call("work")
    client.clock.advance(client.call("work").wait_time - 0.001)
    assert client.call("work").status == "limit"


def test_a_refused_call_runs_no_handler():
    runs = []
    app = ProviderApp()
    app.action("work")(app.rate_limit("1/hour")(lambda: runs.append(1)))
    statuses(app.test_client(), 5)
    assert runs == [1]


def test_an_admitted_call_knows_its_limits():
    app, seen = ProviderApp(), []
    app.action("work")(app.rate_limit("3/hour")(make_handler()))
    app.before_task(lambda ctx: seen.append([one.remaining for one in ctx.limits.headroom]))
    statuses(app.test_client(), 3)
    assert seen == [[2], [1], [0]]


# The charges.


def test_a_payload_that_does_not_fit_costs_nothing():
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/hour")
    def work(city: str):
        return city

    client = app.test_client()
    statuses(client, 5, payload={"city": 5})
    assert client.call("work", {"city": "Paris"}).status == "success"


@pytest.mark.parametrize("payload", [b"{", b"[]", b"\xff"], ids=repr)
def test_bytes_that_are_no_payload_cost_nothing(payload):
    client = limited("1/hour")
    client.call("work", payload)
    assert client.call("work").status == "success"


def test_an_account_that_does_not_fit_costs_nothing():
    app = ProviderApp()
    app.action("work", account_schema={"id": int})(app.rate_limit("1/hour")(make_handler()))
    client = app.test_client()
    client.call("work", account={"id": "5"})
    assert client.call("work", account={"id": 5}).status == "success"


def test_an_unknown_action_costs_the_app_s_limit_nothing():
    app = ProviderApp(rate_limit="1/hour")
    app.action("work")(make_handler())
    client = app.test_client()
    client.call("nothing")
    assert client.call("work").status == "success"


def test_a_handler_that_raises_has_been_charged():
    def work():
        raise ValueError("no")

    app = ProviderApp()
    app.action(app.rate_limit("1/hour")(work))
    assert statuses(app.test_client(), 2) == ["error", "limit"]


def test_a_cost_is_taken_as_a_whole():
    assert admitted(limited("10/hour", cost=3), 10) == 3


def test_a_cost_may_be_the_whole_limit():
    assert admitted(limited("10/hour", cost=10), 10) == 1


def test_a_burst_of_the_declaration_holds():
    client = limited("60/minute", burst=2)
    assert statuses(client, 3) == ["success", "success", "limit"]


def test_a_burst_of_the_declaration_holds_for_each_limit_of_the_text():
    client = limited("60/minute; 100/hour", burst=2)
    statuses(client, 2)
    assert [one["limit"] for one in client.call("work").data["limits"]] == [
        "60/minute burst 2",
        "100/hour burst 2",
    ]


def test_a_limit_may_be_an_object():
    assert admitted(limited(Limit(2, 60)), 5) == 2


def test_several_limits_of_one_text_all_hold():
    client = limited("2/second; 3/minute")
    first = admitted(client, 5)
    client.clock.advance(1)
    assert (first, admitted(client, 5)) == (2, 1)


def test_the_same_limit_twice_is_charged_once():
    assert admitted(limited("2/second", "2/second"), 5) == 2


@pytest.mark.parametrize("costs", [(1, 3), (3, 1)], ids=str)
def test_of_the_same_limit_twice_the_larger_cost_is_charged(costs):
    app = ProviderApp()
    work = app.action("work")(make_handler())
    for cost in costs:
        app.rate_limit("6/hour", cost=cost)(work)
    assert admitted(app.test_client(), 10) == 2


def test_limits_that_differ_only_beyond_six_digits_are_two():
    client = limited("1/1234567s", "1/1234568s")
    client.call("work")
    assert len(client.call("work").data["limits"]) == 2


# Keys.


def keyed(key, limit="1/hour"):
    return limited(limit, key=key)


def test_each_key_has_a_quota_of_its_own():
    client = keyed("account.id")
    assert [statuses(client, 2, account={"id": one}) for one in "ab"] == [["success", "limit"]] * 2


def test_without_a_key_all_calls_share_one_quota():
    client = limited("1/hour")
    assert [client.call("work", account={"id": one}).status.value for one in "ab"] == [
        "success",
        "limit",
    ]


def test_a_key_may_be_deep_in_the_payload():
    client = keyed("payload.user.region")
    calls = [{"user": {"region": name}} for name in ("eu", "us", "eu")]
    assert [client.call("work", one).status.value for one in calls] == [
        "success",
        "success",
        "limit",
    ]


def test_a_tuple_of_keys_counts_by_all_of_them():
    client = keyed(("account.id", "payload.region"))
    calls = [(1, "eu"), (1, "us"), (2, "eu"), (1, "eu")]
    assert [
        client.call("work", {"region": region}, account={"id": one}).status.value
        for one, region in calls
    ] == ["success", "success", "success", "limit"]


def test_a_tuple_of_keys_knows_which_is_which():
    client = keyed(("payload.a", "payload.b"))
    calls = [{"a": "x, y", "b": "z"}, {"a": "x", "b": "y, z"}, {"a": "z", "b": "x, y"}]
    assert [client.call("work", one).status.value for one in calls] == ["success"] * 3


def test_a_key_may_be_a_function_of_the_call():
    client = keyed(lambda call: call.account["id"] % 2)
    assert [client.call("work", account={"id": one}).status.value for one in (1, 2, 3)] == [
        "success",
        "success",
        "limit",
    ]


def test_a_function_sees_the_action_and_the_payload():
    seen = []
    client = keyed(lambda call: seen.append((call.action, dict(call.payload))) or "key")
    client.call("work", {"a": 1})
    assert seen == [("work", {"a": 1})]


def test_a_function_may_return_a_tuple():
    client = keyed(lambda call: (call.account["id"], "x"))
    assert [client.call("work", account={"id": one}).status.value for one in (1, 2, 1)] == [
        "success",
        "success",
        "limit",
    ]


def test_a_key_is_read_once_for_all_limits_that_count_by_it():
    read = []
    client = limited("5/hour; 9/day", "20/week", key=lambda call: read.append(1) or "a")
    client.call("work")
    assert read == [1]


def test_two_functions_of_one_name_count_apart():
    app = ProviderApp()

    @app.action
    @app.rate_limit("3/hour", key=lambda call: "all")
    @app.rate_limit("3/hour", key=lambda call: call.account["id"])
    def work():
        return {}

    client = app.test_client()
    assert [admitted(client, 2, account={"id": one}) for one in (1, 2)] == [2, 1]


@pytest.mark.parametrize(
    ("one", "another"), [("1", 1), (1, 1.0), ("", " "), ("a", "A"), (0, "0")], ids=str
)
def test_keys_that_only_look_alike_count_apart(one, another):
    client = keyed("account.id")
    client.call("work", account={"id": one})
    assert client.call("work", account={"id": another}).status == "success"


@pytest.mark.parametrize("key", [0, False, "", 0.0], ids=repr)
def test_a_key_that_is_there_but_empty_counts(key):
    assert statuses(keyed("account.id"), 2, account={"id": key}) == ["success", "limit"]


def test_a_key_of_no_unicode_counts():
    call = {"payload": b'{"id": "\\ud800"}'}
    assert statuses(keyed("payload.id"), 2, **call) == ["success", "limit"]


class Region(enum.Enum):
    EU = "eu"
    US = "us"


@dataclasses.dataclass
class Customer:
    region: Region = Region.EU
    since: datetime.date = datetime.date(2026, 1, 1)
    note: object = dataclasses.field(default_factory=object)


def work_by_text(region: str = "eu"): ...


def work_by_enum(region: Region = Region.EU): ...


def work_by_position(region: Region = Region.EU, /): ...


def work_in_whole(payload: Customer): ...


def work_without(ctx: TaskContext): ...


def work_by_field(region: Region = Region.EU, **rest): ...


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (work_by_text, {}),
        (work_by_enum, {}),
        (work_by_position, {}),
        (work_by_field, {}),
        (work_in_whole, {}),
        (work_without, {"payload_schema": Customer}),
        (work_by_field, {"payload_schema": Customer}),
        (work_by_enum, {"payload_schema": {"region": Region | None}}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize(
    "limit",
    [
        {"key": "payload.region"},
        {"key": ("payload.region",)},
        {"key": lambda call: call.payload["region"]},
        {"key": "payload.region", "cost": lambda call: len(call.payload["region"]) - 1},
        {"key": "payload.region", "limit": lambda call: f"{len(call.payload['region']) - 1}/hour"},
    ],
    ids=["path", "tuple", "function", "cost", "limit"],
)
def test_a_limit_sees_the_default_of_a_field_that_is_left_out(handler, options, limit):
    app = ProviderApp()
    arguments = {"limit": "1/hour"} | limit
    app.action("work", **options)(app.rate_limit(**arguments)(handler))
    client = app.test_client()
    payloads = [{}, {"region": "eu"}, {"region": "us"}, {}]
    results = [client.call("work", payload) for payload in payloads]
    assert [result.status.value for result in results] == ["success", "limit", "success", "limit"]


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        (lambda account: None, {"account_schema": Customer}),
        (lambda: None, {"account_schema": Customer}),
    ],
    ids=["parameter", "schema"],
)
def test_a_limit_sees_the_defaults_of_the_account(handler, options):
    app = ProviderApp()
    app.action("work", **options)(app.rate_limit("1/hour", key="account.region")(handler))
    client = app.test_client()
    accounts = [{}, {"region": "eu"}, {"region": "us"}]
    results = [client.call("work", account=account) for account in accounts]
    assert [result.status.value for result in results] == ["success", "limit", "success"]


def test_a_function_sees_the_fields_of_objects_as_json():
    seen = []

    def work(customer: Customer, page: float = 1.0): ...

    app = ProviderApp()
    app.action(app.rate_limit("9/hour", key=lambda call: seen.append(call.payload) or "k")(work))
    payload = {"customer": {"region": "us", "team": 7, "note": 1}, "page": 2, "other": True}
    assert app.test_client().call("work", payload).status == "success"
    customer = {"region": "us", "since": "2026-01-01", "note": 1, "team": 7}
    assert seen == [{"customer": customer, "page": 2.0, "other": True}]


def test_a_value_without_a_json_form_is_seen_as_it_came():
    def work(customer: Customer): ...

    app = ProviderApp()
    app.action(app.rate_limit("1/hour", key="payload.customer.region")(work))
    client = app.test_client()
    results = [client.call("work", {"customer": {"region": r}}) for r in ("eu", "us", "eu")]
    assert [result.status.value for result in results] == ["success", "success", "limit"]


def test_a_limit_of_a_worker_sees_the_defaults_too():
    async def work(region: str = "eu"): ...

    app = ProviderApp()
    app.action(app.rate_limit("1/hour", key="payload.region", max_wait=0.1)(work))
    tasks = [task(0, "a"), task(0, "b", region="eu"), task(0, "c", region="us")]
    ends = {name: status for _, name, status in work_off(app, *tasks)}
    assert ends == {"a": "success", "b": "limit", "c": "success"}


MISSING = {
    "no account": {},
    "another field": {"name": "x"},
    "null": {"id": None},
    "an object": {"id": {"a": 1}},
    "an array": {"id": ["a"]},
}
every_missing_key = pytest.mark.parametrize("account", MISSING.values(), ids=MISSING)


@every_missing_key
def test_a_missing_key_is_an_error_that_names_it(account):
    result = keyed("account.id").call("work", account=account)
    assert (result.status, result.problems) == (
        "error",
        [
            {
                "path": "account.id",
                "message": "is missing, and the rate limit 1/hour is counted by it",
            }
        ],
    )


@pytest.mark.parametrize("last", ["2/hour", lambda call: "2/hour"], ids=["fixed", "function"])
def test_all_missing_keys_are_reported_at_once(last):
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/hour", key=("account.id", "payload.region"))
    @app.rate_limit(last, key="account.team")
    def work(): ...

    problems = app.test_client().call("work").problems
    paths = {problem["path"] for problem in problems}
    assert paths == {"account.id", "payload.region", "account.team"}


def test_a_key_function_that_fails_for_what_is_missing_hides_no_other_key():
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/hour", key=lambda call: call.account["team"]["id"])
    @app.rate_limit("2/hour", key="account.id")
    def work(): ...

    problems = app.test_client().call("work").problems
    assert [problem["path"] for problem in problems] == ["account.id"]


@every_missing_key
def test_a_missing_key_takes_nothing_from_the_other_limits(account):
    app = ProviderApp(rate_limit="1/hour")
    app.action("work")(app.rate_limit("1/hour", key="account.id")(make_handler()))
    client = app.test_client()
    client.call("work", account=account)
    assert client.call("work", account={"id": 1}).status == "success"


@every_missing_key
def test_a_missing_key_runs_no_handler(account):
    runs = []
    app = ProviderApp()
    app.action("work")(app.rate_limit("1/hour", key="account.id")(lambda: runs.append(1)))
    app.test_client().call("work", account=account)
    assert runs == []


def test_a_missing_part_of_a_tuple_is_named():
    result = keyed(("account.id", "payload.region")).call("work", account={"id": 1})
    assert [one["path"] for one in result.problems] == ["payload.region"]


@pytest.mark.parametrize("payload", [{"a": "text"}, {"a": {}}, {"a": {"b": 1}}], ids=str)
def test_a_key_below_what_is_no_object_is_missing(payload):
    result = keyed("payload.a.b.c").call("work", payload)
    assert [one["path"] for one in result.problems] == ["payload.a.b.c"]


@pytest.mark.parametrize("key", [None, [], {}, ()], ids=repr)
def test_a_function_that_returns_no_key_is_an_error(key):
    result = keyed(lambda call: key).call("work")
    assert (result.status, [one["path"] for one in result.problems]) == ("error", ["key"])


def test_what_a_function_raises_is_the_result():
    result = keyed(lambda call: call.account["id"]).call("work")
    assert result.data == {"error": "KeyError: 'id'", "type": "KeyError"}


def test_no_refusal_shows_the_key():
    client = keyed("account.api_key")
    body = [client.call("work", account={"api_key": "sample-key"}).body for _ in range(2)][1]
    assert "sample-key" not in body


def test_a_missing_key_s_error_shows_no_other_secret():
    client = keyed(("account.api_key", "account.id"))
    assert "sample-key" not in client.call("work", account={"api_key": "sample-key"}).body


# Sharing a limit.


def shared(**options):
    """Return a client of actions of an app and of a blueprint that all declare one limit."""
    app = ProviderApp()
    blueprint = Blueprint("reports", prefix="reports.")
    for owner in (app, blueprint):
        for name in ("a", "b"):
            owner.action(name)(owner.rate_limit("1/hour", **options)(make_handler()))
    app.register_blueprint(blueprint)
    return app.test_client()


def make_handler():
    return lambda: None


def ran(client):
    return [client.call(name).status == "success" for name in ("a", "b", "reports.a", "reports.b")]


def test_an_action_has_its_limit_to_itself():
    assert ran(shared()) == [True, True, True, True]


def test_a_blueprint_s_actions_may_share_a_limit():
    assert ran(shared(scope="blueprint")) == [True, False, True, False]


def test_all_actions_of_an_app_may_share_a_limit():
    assert ran(shared(scope="app")) == [True, False, False, False]


def test_limits_of_one_name_share_what_was_used():
    assert ran(shared(name="vendor")) == [True, False, False, False]


def test_limits_of_two_names_share_nothing():
    app = ProviderApp()
    for name in ("a", "b"):
        app.action(name)(app.rate_limit("1/hour", name=f"vendor {name}")(make_handler()))
    client = app.test_client()
    assert [client.call(name).status == "success" for name in "ab"] == [True, True]


def test_limits_of_one_name_still_count_by_key():
    client = shared(name="vendor", key="account.id")
    calls = [("a", 1), ("b", 1), ("b", 2)]
    assert [client.call(name, account={"id": one}).status.value for name, one in calls] == [
        "success",
        "limit",
        "success",
    ]


def test_an_app_s_limit_is_shared_by_all_its_actions():
    app = ProviderApp(rate_limit="3/hour")
    blueprint = Blueprint("reports")
    app.action("a")(make_handler())
    blueprint.action("b")(make_handler())
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert [client.call(name).status == "success" for name in "abab"] == [True, True, True, False]


def test_a_blueprint_s_limit_is_shared_by_its_own_actions_only():
    app = ProviderApp()
    blueprint = Blueprint("reports", rate_limit="1/hour")
    app.action("a")(make_handler())
    for name in "bc":
        blueprint.action(name)(make_handler())
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert [client.call(name).status == "success" for name in "bcaa"] == [True, False, True, True]


def test_two_blueprints_limits_are_two():
    app = ProviderApp()
    for name in "ab":
        blueprint = Blueprint(name, rate_limit="1/hour")
        blueprint.action(name)(make_handler())
        app.register_blueprint(blueprint)
    client = app.test_client()
    assert [client.call(name).status == "success" for name in "abab"] == [True, True, False, False]


def test_two_clients_of_an_app_share_nothing():
    app = ProviderApp(rate_limit="1/hour")
    app.action("work")(make_handler())
    assert [statuses(app.test_client(), 1) for _ in range(2)] == [["success"]] * 2


# An hourly limit, in no time.


def test_a_thousand_an_hour_for_each_account():
    client = keyed("account.api_key", "1000/hour")
    quotas = [admitted(client, 1001, account={"api_key": key}) for key in ("one", "two")]
    assert quotas == [1000, 1000]


def test_an_hour_later_there_are_a_thousand_more():
    client = keyed("account.api_key", "1000/hour")
    account = {"api_key": "sample"}
    statuses(client, 1001, account=account)
    client.clock.advance(3600)
    assert admitted(client, 1001, account=account) == 1000


def test_a_second_before_the_hour_is_over_there_is_none():
    client = keyed("account.api_key", "1000/hour")
    account = {"api_key": "sample"}
    statuses(client, 1001, account=account)
    client.clock.advance(3599)
    assert admitted(client, 10, account=account) == 0


# A handler that raises RateLimited.


def test_a_handler_s_own_refusal_is_no_limit_of_arbprov_s():
    def work():
        return ProviderResponse("limit", data={"wait_time": 5})

    app = ProviderApp()
    app.action(work)
    assert app.test_client().call("work").wait_time == 5


def test_a_refusal_can_be_caught_as_rate_limited():
    app = ProviderApp()
    app.action("work")(app.rate_limit("1/hour")(make_handler()))
    app.errorhandler(RateLimited)(lambda error: error.retry_after)
    client = app.test_client()
    client.call("work")
    assert client.call("work").data == 3600


# The store in memory.


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


def charge(key="", limit="1/hour"):
    """Return the charge of a call with a key, for a limit that all tests here share."""
    (policy,) = parse_limits(limit)
    (algorithm,) = policy.algorithms(VirtualClock())
    return Charge(limit, key.encode(), algorithm, 1)


def acquire(store, *charges):
    """Try to make all charges, and return the wait of each."""
    store.acquire(charges)
    return [one.wait_time for one in charges]


def test_idle_keys_vanish(store, clock):
    for turn in range(20):
        for number in range(1000):
            store.acquire([charge(f"{turn}/{number}", "5/minute")])
        clock.advance(60)
    assert len(store) <= 2048


def test_idle_keys_vanish_even_if_few_come_after_them(store, clock):
    for number in range(1000):
        store.acquire([charge(str(number), "5/minute")])
    clock.advance(61)
    store.acquire([charge("another", "5/minute")])
    assert len(store) == 1


def test_idle_keys_of_one_limit_vanish_while_another_is_in_use(store, clock):
    for number in range(1000):
        store.acquire([charge(str(number), "5/minute")])
    for _ in range(7):
        clock.advance(10)
        store.acquire([charge("another", "5/week")])
    assert len(store) == 1


def test_busy_keys_stay(store):
    for number in range(5000):
        store.acquire([charge(str(number))])
    assert {acquire(store, charge(str(number)))[0] for number in range(5000)} == {3600}


@pytest.mark.parametrize("before", range(1020, 1026))
def test_no_charge_is_lost_when_idle_keys_are_swept(store, before):
    for number in range(before):
        store.acquire([charge(f"other {number}")])
    acquire(store, charge("a"), charge("b"), charge("c"))
    assert acquire(store, charge("a"), charge("b"), charge("c")) == [3600, 3600, 3600]


def test_no_charge_of_a_key_that_was_idle_is_lost_when_idle_keys_are_swept(store, clock):
    store.acquire([charge("old", "1/minute")])
    clock.advance(60)
    for number in range(1023):
        store.acquire([charge(f"other {number}")])
    acquire(store, charge("old", "1/minute"), charge("new"))
    assert acquire(store, charge("old", "1/minute")) == [60]


def test_no_account_gets_more_than_its_limit_however_many_there_are():
    client = limited("1/hour", "10/hour", "20/hour", key="account.id")
    admissions = [admitted(client, 2, account={"id": number}) for number in range(700)]
    assert set(admissions) == {1}


def test_no_charges_are_made_at_once(store):
    assert store.acquire([]).charges == []


def test_a_refused_key_is_remembered_no_longer_than_its_limit(store):
    store.acquire([charge("full")])
    for number in range(3000):
        store.acquire([charge("full"), charge(str(number))])
    assert len(store) == 1


def hammer(store, charges, tries=500, threads=8):
    """Return how many of the tries of several threads at once are admitted."""
    ready = threading.Barrier(threads)

    def work():
        ready.wait()
        return sum(
            store.acquire([charge(*one) for one in charges]) is not None for _ in range(tries)
        )

    with ThreadPoolExecutor(threads) as pool:
        return sum(running.result() for running in [pool.submit(work) for _ in range(threads)])


def test_threads_together_are_admitted_exactly_the_limit(store, impatient):
    assert hammer(store, [("one", "777/minute")]) == 777


TWO = [("one", "777/minute"), ("two", "300/minute")]


def test_threads_together_are_admitted_exactly_the_tightest_limit(store, impatient):
    assert hammer(store, TWO) == 300


def test_what_threads_were_refused_was_charged_nowhere(store, impatient):
    hammer(store, TWO)
    charges = [charge(*one) for one in TWO]
    store.peek(charges)
    assert [one.remaining for one in charges] == [477, 0]


def test_what_others_have_admitted_is_recorded_whether_it_fits_or_not(store):
    store.record([charge("a"), charge("a"), charge("b")])
    assert [acquire(store, charge(key)) for key in "abc"] == [[3600], [3600], [0]]


# Taking a charge back, and looking without charging.


@pytest.fixture
def careful():
    """Return a client whose action refunds its charge if the payload asks for it."""
    app = ProviderApp("careful")

    @app.action
    @app.rate_limit("2/hour", key="payload.name")
    @app.rate_limit("3/day")
    def work(ctx: TaskContext, name: str, cached: bool = False, times: int = 1):
        for _ in range(times if cached else 0):
            ctx.limits.refund()

    @app.action
    def free(ctx: TaskContext):
        ctx.limits.refund()

    return app.test_client()


def test_a_call_that_takes_its_charge_back_costs_nothing(careful):
    cached = {"name": "a", "cached": True}
    assert statuses(careful, 20, payload=cached) == ["success"] * 20
    assert statuses(careful, 3, payload={"name": "a"}) == ["success", "success", "limit"]


def test_a_charge_is_taken_back_from_every_limit(careful):
    careful.call("work", {"name": "a", "cached": True})
    names = ("a", "b", "c", "d")
    assert [careful.call("work", {"name": name}).status.value for name in names] == [
        *["success"] * 3,
        "limit",
    ]


def test_a_charge_is_taken_back_once(careful):
    careful.call("work", {"name": "a"})
    careful.call("work", {"name": "a", "cached": True, "times": 5})
    assert statuses(careful, 2, payload={"name": "a"}) == ["success", "limit"]


def test_an_action_without_limits_has_nothing_to_take_back(careful):
    assert careful.call("free").status == "success"


def test_a_refused_call_has_nothing_to_take_back():
    limiter = Limiter(VirtualClock())
    stack = limiter.compile([declare("1/hour")], action="work")
    decisions = [limiter.acquire(stack, None) for _ in range(2)]
    decisions[1].refund()
    assert not limiter.acquire(stack, None).allowed


def test_a_charge_that_was_forgotten_is_taken_back_without_harm(store, clock):
    receipt = store.acquire([charge("old", "1/minute")])
    clock.advance(66)
    store.acquire([charge("new", "1/minute")])
    receipt.refund()
    assert [acquire(store, charge("old", "1/minute")) for _ in range(2)] == [[0], [60]]


def test_looking_costs_nothing():
    limiter = Limiter(VirtualClock())
    stack = limiter.compile([declare("1/hour; 5/day")], action="work")
    assert {limiter.peek(stack, None).allowed for _ in range(9)} == {True}
    assert limiter.acquire(stack, None).allowed
    assert [one.remaining for one in limiter.peek(stack, None).headroom] == [0, 4]


def test_looking_shows_what_a_call_would_wait():
    limiter = Limiter(VirtualClock())
    stack = limiter.compile([declare("1/hour")], action="work")
    limiter.acquire(stack, None)
    assert limiter.peek(stack, None).wait_time == limiter.acquire(stack, None).wait_time == 3600


def test_looking_remembers_no_key(store):
    store.peek([charge(str(number)) for number in range(99)])
    assert len(store) == 0
