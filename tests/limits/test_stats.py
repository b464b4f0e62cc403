"""Headroom, counters and warnings of limits, and limits that only count."""

from __future__ import annotations

import logging

import pytest

from arbprov import Limit, ProviderApp, RateLimited, RateLimitMonitor
from arbprov.limits import Headroom, LimitCounts, Limiter, declare
from arbprov.limits.stats import Counters
from arbprov.testing import VirtualClock


def limited(*limits, app=None, **options):
    """Return the client of an app whose action ``work`` has these limits."""
    app = app or ProviderApp()

    def work():
        return {}

    app.action(work)
    for limit in limits:
        app.rate_limit(limit, **options)(work)
    return app.test_client()


def run(client, times, **call):
    return [client.call("work", **call).status.value for _ in range(times)]


# Headroom.


def test_there_is_headroom_for_each_limit():
    client = limited("2/hour", "10/day")
    run(client, 3)
    assert client.limits.headroom("work") == [
        Headroom("2/hour", 0, 3600.0),
        Headroom("10/day", 8, 0.0),
    ]


def test_to_see_the_headroom_takes_nothing():
    client = limited("1/hour")
    assert [client.limits.headroom("work")[0].remaining for _ in range(3)] == [1, 1, 1]
    assert run(client, 2) == ["success", "limit"]


def test_headroom_is_of_a_key():
    client = limited("2/hour", key="account.id")
    run(client, 1, account={"id": "a"})
    assert [client.limits.headroom("work", key)[0].remaining for key in "ab"] == [1, 2]


def test_headroom_is_of_a_tuple_of_keys():
    client = limited("2/hour", key=("account.id", "payload.region"))
    run(client, 1, account={"id": 1}, payload={"region": "eu"})
    found = [client.limits.headroom("work", (1, region)) for region in ("eu", "us")]
    assert [one[0].remaining for one in found] == [1, 2]


def test_headroom_is_of_what_a_function_returned():
    client = limited("2/hour", key=lambda call: call.account["id"] % 10)
    run(client, 1, account={"id": 13})
    assert [client.limits.headroom("work", key)[0].remaining for key in (3, 4)] == [1, 2]


def test_headroom_of_limits_by_several_keys_is_asked_by_path():
    app = ProviderApp()

    @app.action
    @app.rate_limit("2/hour", key="account.id")
    @app.rate_limit("3/hour", key=("account.id", "payload.region"))
    @app.rate_limit("9/hour")
    def work():
        return {}

    client = app.test_client()
    run(client, 1, account={"id": 1}, payload={"region": "eu"})
    key = {"account.id": 1, "payload.region": "eu"}
    assert [one.remaining for one in client.limits.headroom("work", key)] == [8, 2, 1]


def test_headroom_needs_the_key():
    with pytest.raises(ValueError, match=r"2/hour is counted by account\.id; say whose headroom"):
        limited("2/hour", key="account.id").limits.headroom("work")


def test_headroom_needs_the_whole_key():
    client = limited("2/hour", key=("account.id", "payload.region"))
    with pytest.raises(
        ValueError, match=r"counted by account\.id and payload\.region: 2 values, not 1"
    ):
        client.limits.headroom("work", "a")


def test_headroom_of_an_action_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match="there is no action 'play'; there is work"):
        limited("2/hour").limits.headroom("play")


def test_headroom_of_a_burst_is_what_may_run_at_once():
    client = limited(Limit(100, 60, 10))
    run(client, 3)
    assert client.limits.headroom("work") == [Headroom("100/minute burst 10", 7, 0.0)]


def test_headroom_of_a_monitor_is_its_wait_only():
    class Closed(RateLimitMonitor):
        def check_rate_limits(self):
            return {"rate_limited": True, "wait_time": 9}

    headroom = limited(Closed()).limits.headroom("work")
    assert headroom == [Headroom(Closed.__qualname__, None, 9.0)]


def test_a_limit_that_is_a_function_of_the_call_has_no_headroom_without_one():
    client = limited(lambda call: "2/hour")
    assert client.limits.headroom("work") == []


def test_an_action_without_limits_has_no_headroom():
    assert limited().limits.headroom("work") == []


def test_the_app_s_own_limits_are_those_that_it_runs_with():
    app = ProviderApp(rate_limit="3/hour")
    app.action("work")(lambda: None)
    dispatcher = app._live_dispatcher()
    dispatcher.limiter.acquire(dispatcher.routes["work"].limits, None)
    assert (app.limits.headroom("work")[0].remaining, app.limits.counts()[0].limit) == (2, "3/hour")


# Counters.


def test_what_is_allowed_and_denied_is_counted():
    client = limited("2/hour")
    run(client, 5)
    assert client.limits.counts() == [LimitCounts("2/hour", "", "action:work", allowed=2, denied=3)]


def test_only_the_limit_that_refuses_counts_a_denial():
    client = limited("2/hour", "10/day")
    run(client, 5)
    counts = {one.limit: (one.allowed, one.denied) for one in client.limits.counts()}
    assert counts == {"2/hour": (2, 3), "10/day": (2, 0)}


def test_all_keys_are_counted_together():
    client = limited("1/hour", key="account.id")
    for key in "aab":
        run(client, 1, account={"id": key})
    (counts,) = client.limits.counts()
    assert (counts.key, counts.allowed, counts.denied) == ("account.id", 2, 1)


def test_a_limit_with_a_burst_counts_a_call_once():
    client = limited("100/minute burst 2")
    run(client, 3)
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied) == (2, 1)


def test_a_call_that_has_waited_is_counted_as_such():
    client = limited("1/minute", max_wait=100)
    run(client, 3)
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied, counts.waited) == (3, 0, 2)


def test_only_the_limit_that_was_waited_for_counts_that():
    client = limited("1/minute", "100/hour", max_wait=100)
    run(client, 2)
    assert {one.limit: one.waited for one in client.limits.counts()} == {
        "1/minute": 1,
        "100/hour": 0,
    }


def test_a_shared_limit_is_counted_once_for_all_its_actions():
    app = ProviderApp(rate_limit="10/hour")
    for name in "ab":
        app.action(name)(lambda: None)
    client = app.test_client()
    for name in "ab":
        client.call(name)
    assert [(one.scope, one.allowed) for one in client.limits.counts()] == [("app", 2)]


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ({}, "action:work"),
        ({"scope": "app"}, "app"),
        ({"name": "vendor"}, "name:vendor"),
    ],
    ids=str,
)
def test_counters_say_whose_the_limit_is(options, scope):
    assert [one.scope for one in limited("2/hour", **options).limits.counts()] == [scope]


def test_a_function_s_limits_are_counted_as_one():
    client = limited(lambda call: "5/minute; 2/hour")
    run(client, 3)
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied) == (2, 1)


def test_counts_are_a_copy():
    client = limited("2/hour")
    client.limits.counts()[0].allowed = 99
    assert client.limits.counts()[0].allowed == 0


# Warnings.


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "arbprov")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_warning_is_logged_when_a_level_is_reached(warnings):
    client = limited("10/hour")
    run(client, 7)
    before = warnings()
    run(client, 1)
    assert (before, warnings()) == (
        [],
        ["the rate limit 10/hour of action:work is 80% used: 8 of 10"],
    )


def test_each_level_is_warned_of_once(warnings):
    run(limited("100/hour"), 120)
    assert [line.split(" is ")[1] for line in warnings()] == [
        "80% used: 80 of 100",
        "95% used: 95 of 100",
    ]


def test_a_level_that_is_reached_again_is_warned_of_again(warnings):
    client = limited("10/hour", warn_at=[0.5])
    run(client, 8)
    client.clock.advance(4000)
    run(client, 8)
    assert len(warnings()) == 2


def test_a_short_limit_warns_of_a_level_once_a_minute(warnings):
    client = limited("5/second")
    for _ in range(61):
        run(client, 5)
        client.clock.advance(1.001)
    assert [line.split(" is ")[1] for line in warnings()] == ["80% used: 4 of 5"] * 2


def test_each_key_has_its_own_warnings(warnings):
    client = limited("5/second", key="account.id")
    for number in (1, 2, 1, 2):
        run(client, 5, account={"id": number})
        client.clock.advance(1.001)
    assert len(warnings()) == 2


def test_only_so_many_warnings_are_remembered():
    counters = Counters("5/second", "account.id", "app")
    warned = [counters.may_warn(("5", bytes([n // 256, n % 256])), 0.8, n, 99) for n in range(2000)]
    assert all(warned)
    assert not counters.may_warn(("5", bytes([1999 // 256, 1999 % 256])), 0.8, 2000, 99)
    assert len(counters._warns_again_at) <= 1024


def test_warnings_that_all_still_count_are_forgotten_together():
    counters = Counters("5/second", "account.id", "app")
    for number in range(1025):
        counters.may_warn(("5", str(number).encode()), 0.8, 0.0, 99)
    assert len(counters._warns_again_at) == 1


def test_a_charge_that_passes_several_levels_warns_of_the_highest(warnings):
    run(limited("100/hour", cost=97, warn_at=[0.2, 0.8, 0.95]), 1)
    assert [line.split(" is ")[1] for line in warnings()] == ["95% used: 97 of 100"]


def test_levels_are_the_author_s(warnings):
    run(limited("10/hour", warn_at=[0.25]), 9)
    assert [line.split(" is ")[1] for line in warnings()] == ["25% used: 3 of 10"]


def test_without_levels_there_are_no_warnings(warnings):
    run(limited("10/hour", warn_at=[]), 20)
    assert warnings() == []


def test_a_level_that_is_the_whole_limit_comes_too_late_to_be_a_warning(warnings):
    run(limited("2/hour"), 5)
    assert warnings() == []


def test_a_refused_call_warns_of_nothing(warnings):
    client = limited("10/hour", "1/day")
    run(client, 20)
    assert warnings() == []


def test_a_pace_is_no_quota_to_warn_of(warnings):
    run(limited("1000/hour burst 10"), 10)
    assert warnings() == []


def test_a_monitor_is_never_warned_of(warnings):
    run(limited(RateLimitMonitor()), 3)
    assert warnings() == []


def test_a_warning_names_a_key_by_its_hash(warnings):
    client = limited("10/hour", key="account.api_key", warn_at=[0.5])
    run(client, 6, account={"api_key": "sample-key"})
    (line,) = warnings()
    assert line.startswith("the rate limit 10/hour of action:work is 50% used: 5 of 10, by the key")
    assert "sample-key" not in line


# Limits that only count.


def test_a_shadow_limit_refuses_nothing():
    assert run(limited("1/hour", shadow=True), 5) == ["success"] * 5


def test_a_shadow_limit_counts_what_it_would_refuse():
    client = limited("2/hour", shadow=True)
    run(client, 5)
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied) == (2, 3)


def test_a_shadow_limit_counts_but_what_it_would_admit():
    client = limited("2/hour", shadow=True)
    run(client, 5)
    client.clock.advance(3600)
    assert client.limits.headroom("work")[0].remaining == 2


def test_a_shadow_limit_leaves_the_others_as_they_are():
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/hour", shadow=True)
    @app.rate_limit("3/hour")
    def work():
        return {}

    assert run(app.test_client(), 5) == ["success"] * 3 + ["limit"] * 2


def test_a_shadow_limit_shares_nothing_with_the_same_one_that_holds():
    app = ProviderApp()

    @app.action
    @app.rate_limit("2/hour", shadow=True)
    @app.rate_limit("2/hour")
    def work():
        return {}

    client = app.test_client()
    run(client, 3)
    assert [(one.allowed, one.denied) for one in client.limits.counts()] == [(2, 1), (2, 1)]


def test_a_refusal_tells_nothing_of_shadow_limits():
    app = ProviderApp()

    @app.action
    @app.rate_limit("1/day", shadow=True)
    @app.rate_limit("1/hour")
    def work():
        return {}

    client = app.test_client()
    client.call("work")
    result = client.call("work")
    assert (result.wait_time, [one["limit"] for one in result.data["limits"]]) == (3600, ["1/hour"])


def test_a_shadow_limit_keeps_nobody_waiting():
    client = limited("1/hour", shadow=True, max_wait=5000)
    run(client, 3)
    assert client.clock.monotonic() == 0


# Upkeep.


def test_limits_in_memory_need_no_care():
    limiter = Limiter(VirtualClock())
    limiter.compile([declare("1/hour")], action="work")
    assert limiter.upkeep() is None


def test_the_store_that_needs_care_first_says_when():
    class Careful:
        blocks = False

        def __init__(self, seconds):
            self.seconds = seconds

        def upkeep(self):
            return self.seconds

    stores = {"a": Careful(9.0), "b": Careful(2.0), "c": Careful(None)}
    limiter = Limiter(VirtualClock(), lambda terms: stores[terms.store])
    limiter.compile([declare("1/hour", store=name, name=name) for name in stores], action="work")
    assert limiter.upkeep() == 2.0


# Usage, for metrics.


def test_a_cooldown_of_a_shared_limit_is_known_to_the_process_that_has_heard_of_it(server, store):
    app = ProviderApp("shop", rate_limit_store=server.url)

    @app.action
    @app.rate_limit("9/hour", key="account.id")
    def order():
        raise RateLimited(60)

    for account in (1, 2):
        app.invoke("order", account={"id": account})
    (usage,) = app.limits.usage()
    assert (usage.key, usage.headroom, usage.cooldowns) == ("account.id", None, 2)
    assert store.cooldowns() == {}  # it would have to look through all keys


def test_a_monitor_is_not_asked_for_its_usage():
    class Monitor(RateLimitMonitor):
        def check_rate_limits(self):
            raise AssertionError

        def make_safe_request(self, call):
            return call()

    app = ProviderApp("shop", rate_limit_monitor=Monitor())
    app.action("order")(lambda: None)
    (usage,) = app.limits.usage()
    assert (usage.headroom, usage.cooldowns, usage.held) == (None, 0, 0)


def test_a_limit_that_depends_on_the_call_has_no_headroom():
    client = limited(lambda call: "9/hour")
    (usage,) = client.limits.usage()
    assert usage.headroom is None
