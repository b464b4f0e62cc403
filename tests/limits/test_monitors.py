"""Limits as code: the guide's monitors, the built-in monitors, and their errors."""

from __future__ import annotations

import gc
import math
import threading
import time
from typing import Any

import pytest

from arbprov import (
    AdvancedRateLimitMonitor,
    Blueprint,
    ConfigurationError,
    ProviderApp,
    RateLimitMonitor,
    TimeBasedRateLimitMonitor,
)
from arbprov.testing import VirtualClock

# The guide's own monitors, but for the client of the first one, and the clock that tests turn.


class Clock:
    """Stands for the module `time`."""

    def __init__(self):
        self.now = 1_000_000.0
        self.slept = []

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Redis:
    """Keeps counters, as far as the guide's monitor needs that."""

    def __init__(self):
        self.counters, self.expiries = {}, {}

    def get(self, key):
        return self.counters.get(key)

    def incr(self, key):
        self.counters[key] = str(int(self.counters.get(key, 0)) + 1).encode()

    def expire(self, key, seconds):
        self.expiries[key] = seconds


@pytest.fixture
def machine(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(f"{__name__}.time", clock)
    return clock


class RedisRateLimitMonitor(RateLimitMonitor):
    def __init__(self, redis: Any, key_prefix: str = "rate_limit"):
        self.redis = redis
        self.key_prefix = key_prefix
        self.window_size = 60  # 1 minute window

    def check_rate_limits(self) -> dict[str, Any] | None:
        current_time = int(time.time())
        window_key = f"{self.key_prefix}:{current_time // self.window_size}"

        # Get current request count
        count = self.redis.get(window_key)
        if count is None:  # noqa: SIM108 - as the guide has it
            count = 0
        else:
            count = int(count)

        # Check if we've exceeded the limit (e.g., 100 requests per minute)
        if count >= 100:
            return {
                "rate_limited": True,
                "wait_time": self.window_size - (current_time % self.window_size),
                "current_count": count,
                "limit": 100,
            }

        return None

    def handle_throttling(self, wait_time: int = 60) -> None:
        time.sleep(wait_time)

    def make_safe_request(self, request_func: Any, *args, **kwargs) -> Any:
        limits = self.check_rate_limits()
        if limits and limits.get("rate_limited"):
            self.handle_throttling(limits["wait_time"])

        # Increment request count
        current_time = int(time.time())
        window_key = f"{self.key_prefix}:{current_time // self.window_size}"
        self.redis.incr(window_key)
        self.redis.expire(window_key, self.window_size)

        return request_func(*args, **kwargs)


class SharedRateLimitMonitor(RateLimitMonitor):
    def __init__(self, max_requests: int = 100, window_size: int = 60):
        self.max_requests = max_requests
        self.window_size = window_size
        self.requests = []
        self.lock = threading.Lock()

    def check_rate_limits(self) -> dict[str, Any] | None:
        current_time = time.time()

        with self.lock:
            # Remove old requests
            self.requests = [t for t in self.requests if current_time - t < self.window_size]

            if len(self.requests) >= self.max_requests:
                # Calculate wait time until oldest request expires
                wait_time = self.window_size - (current_time - self.requests[0])
                return {
                    "rate_limited": True,
                    "wait_time": wait_time,
                    "current_count": len(self.requests),
                    "limit": self.max_requests,
                }

        return None

    def handle_throttling(self, wait_time: int = 60) -> None:
        time.sleep(wait_time)

    def make_safe_request(self, request_func: Any, *args, **kwargs) -> Any:
        limits = self.check_rate_limits()
        if limits and limits.get("rate_limited"):
            self.handle_throttling(limits["wait_time"])

        with self.lock:
            self.requests.append(time.time())

        return request_func(*args, **kwargs)


def provider(monitor=None, *limits, **options):
    """Return an app with a monitor, whose action ``work`` has these limits too."""
    app = ProviderApp("guide", rate_limit_monitor=monitor, **options)

    def work():
        return {}

    app.action(work)
    for limit in limits:
        app.rate_limit(limit)(work)
    return app


def statuses(client, times, action="work"):
    return [client.call(action).status.value for _ in range(times)]


def admitted(client, times, action="work"):
    return statuses(client, times, action).count("success")


# As the guide has them.


def test_the_guide_s_redis_monitor_counts_each_call_once(machine):
    redis = Redis()
    client = provider(RedisRateLimitMonitor(redis)).test_client()
    assert (admitted(client, 110), list(redis.counters.values())) == (100, [b"100"])


def test_a_monitor_s_refusal_says_how_long_to_wait(machine):
    client = provider(RedisRateLimitMonitor(Redis())).test_client()
    statuses(client, 100)
    result = client.call("work")
    assert (result.wait_time, result.data["limit"]) == (20, "RedisRateLimitMonitor")


def test_a_monitor_admits_again_when_its_own_time_is_over(machine):
    client = provider(RedisRateLimitMonitor(Redis())).test_client()
    statuses(client, 101)
    machine.now += 20
    assert client.call("work").status == "success"


def test_no_handler_waits_for_a_monitor(machine):
    client = provider(RedisRateLimitMonitor(Redis())).test_client()
    statuses(client, 110)
    assert machine.slept == []


def test_two_apps_share_one_monitor(machine):
    shared = SharedRateLimitMonitor(max_requests=100, window_size=60)
    clients = [provider(shared).test_client() for _ in range(2)]
    assert [admitted(client, 70) for client in clients] == [70, 30]


def test_two_apps_that_share_a_monitor_are_never_both_the_last(machine):
    shared = SharedRateLimitMonitor(max_requests=100, window_size=60)
    clients = [provider(shared).test_client() for _ in range(4)]
    ready = threading.Barrier(4)
    counts = []

    def work(client):
        ready.wait()
        counts.append(admitted(client, 60))

    threads = [threading.Thread(target=work, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 100
    assert machine.slept == []


def test_a_handler_may_use_a_monitor_of_its_own():
    api_rate_limit = TimeBasedRateLimitMonitor(min_delay=0.5)
    waits = []
    api_rate_limit.handle_throttling = lambda wait_time: waits.append(wait_time) or time.sleep(0)
    app = ProviderApp("api-provider", rate_limit_monitor=TimeBasedRateLimitMonitor(min_delay=1.0))

    @app.action(name="call_external_api", payload_schema={"endpoint": str, "params": dict})
    def call_external_api(payload: dict) -> dict:
        limits = api_rate_limit.check_rate_limits()
        if limits and limits.get("rate_limited"):
            return {"wait": limits["wait_time"]}
        result = payload["endpoint"]
        api_rate_limit.make_safe_request(lambda: None)
        return {"result": result}

    client = app.test_client()
    asked = {"endpoint": "/x", "params": {}}
    first = client.call("call_external_api", asked).data
    client.clock.advance(1)
    second = client.call("call_external_api", asked).data
    assert (first, 0 < second["wait"] <= 0.501) == ({"result": "/x"}, True)


# Where they may stand.


class Counting(RateLimitMonitor):
    """Admits some calls, and notes the questions."""

    def __init__(self, admits=math.inf, wait=7.0):
        self.admits, self.wait, self.asked, self.counted = admits, wait, 0, 0

    def check_rate_limits(self):
        self.asked += 1
        return {"rate_limited": self.counted >= self.admits, "wait_time": self.wait}

    def make_safe_request(self, request_func, *args, **kwargs):
        self.counted += 1
        return request_func(*args, **kwargs)


def test_an_app_s_monitor_counts_all_of_its_actions():
    app = provider(Counting(admits=3))
    app.action("other")(lambda: {"n": 1})
    client = app.test_client()
    assert [admitted(client, 2, name) for name in ("work", "other")] == [2, 1]


def test_a_blueprint_s_monitor_counts_its_own_actions_only():
    monitor = Counting(admits=1)
    blueprint = Blueprint("reports", prefix="reports.", rate_limit_monitor=monitor)
    blueprint.action("daily")(lambda: {"n": 1})
    app = provider()
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert [admitted(client, 2, name) for name in ("work", "reports.daily")] == [2, 1]


def test_an_action_s_monitor_counts_that_action_only():
    app = provider()
    app.action("other", rate_limit_monitor=Counting(admits=1))(lambda: {"n": 1})
    client = app.test_client()
    assert [admitted(client, 2, name) for name in ("work", "other")] == [2, 1]


def test_a_monitor_may_be_a_limit_like_any_other():
    assert admitted(provider(None, Counting(admits=2)).test_client(), 5) == 2


def test_one_monitor_in_two_places_counts_a_call_once():
    monitor = Counting()
    client = provider(monitor, monitor).test_client()
    client.call("work")
    assert monitor.counted == 1


def test_a_monitor_may_wait():
    class Once(Counting):
        def check_rate_limits(self):
            answer = super().check_rate_limits()
            self.admits = math.inf
            return answer

    app = ProviderApp()
    app.action("work")(app.rate_limit(Once(admits=0), max_wait=10)(lambda: {"n": 1}))
    client = app.test_client()
    assert (client.call("work").status, client.clock.monotonic()) == ("success", 7)


# All or nothing, with the other limits of a call.


def test_what_a_monitor_refuses_takes_nothing_from_the_other_limits():
    client = provider(Counting(admits=1), "10/hour").test_client()
    statuses(client, 5)
    assert client.limits.headroom("work")[1].remaining == 9


def test_what_another_limit_refuses_is_not_counted_by_the_monitor():
    monitor = Counting()
    statuses(provider(monitor, "2/hour").test_client(), 5)
    assert monitor.counted == 2


def test_what_another_monitor_refuses_is_not_counted_by_a_monitor():
    monitors = Counting(), Counting(admits=2)
    statuses(provider(None, *monitors).test_client(), 5)
    assert [one.counted for one in monitors] == [2, 2]


def test_a_refusal_has_the_longest_wait_of_all():
    client = provider(Counting(admits=1), "1/hour").test_client()
    assert [client.call("work").wait_time for _ in range(2)] == [None, 3600]


def test_a_refusal_by_a_monitor_has_the_headroom_of_all_limits():
    client = provider(Counting(admits=1), "1/hour").test_client()
    client.call("work")
    assert client.call("work").data["limits"] == [
        {"limit": "Counting", "remaining": None, "wait_time": 7.0},
        {"limit": "1/hour", "remaining": 0, "wait_time": 3600.0},
    ]


def test_a_shadow_monitor_refuses_nothing_and_counts_what_it_would_admit():
    monitor = Counting(admits=2)
    app = ProviderApp()
    app.action("work")(app.rate_limit(monitor, shadow=True)(lambda: {"n": 1}))
    client = app.test_client()
    assert (admitted(client, 5), monitor.counted) == (5, 2)
    (counts,) = client.limits.counts()
    assert (counts.allowed, counts.denied) == (2, 3)


def test_a_payload_that_does_not_fit_is_not_counted():
    monitor = Counting()
    app = ProviderApp(rate_limit_monitor=monitor)

    @app.action
    def work(n: int):
        return n

    app.test_client().call("work", {"n": "x"})
    assert (monitor.asked, monitor.counted) == (0, 0)


# Errors in monitors.


class Broken(RateLimitMonitor):
    def __init__(self, answer=None, error=None):
        self.answer, self.error = answer, error

    def check_rate_limits(self):
        return self.answer

    def make_safe_request(self, request_func, *args, **kwargs):
        if self.error:
            raise self.error
        return super().make_safe_request(request_func, *args, **kwargs)


def test_what_a_monitor_raises_when_asked_is_the_result():
    class Away(RateLimitMonitor):
        def check_rate_limits(self):
            raise OSError("the table is away")

    client = provider(Away(), "1/hour").test_client()
    results = [client.call("work") for _ in range(2)]
    assert [one.data for one in results] == [{"error": "the table is away", "type": "OSError"}] * 2


def test_an_error_while_a_monitor_counts_is_the_result_and_nothing_is_charged():
    client = provider(Broken(error=OSError("full")), "1/hour").test_client()
    results = [client.call("work") for _ in range(2)]
    assert [one.data for one in results] == [{"error": "full", "type": "OSError"}] * 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (True, "Broken.check_rate_limits() must return a dict or None, not True"),
        ("no", "Broken.check_rate_limits() must return a dict or None, not 'no'"),
        (
            {"rate_limited": True},
            "Broken.check_rate_limits(): wait_time must be a number of seconds, not None",
        ),
        (
            {"rate_limited": True, "wait_time": "later"},
            "Broken.check_rate_limits(): wait_time must be a number of seconds, not 'later'",
        ),
        (
            {"rate_limited": True, "wait_time": math.inf},
            "Broken.check_rate_limits(): wait_time must be a number of seconds, not inf",
        ),
        (
            {"rate_limited": True, "wait_time": math.nan},
            "Broken.check_rate_limits(): wait_time must be a number of seconds, not nan",
        ),
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_an_error_that_names_the_monitor(answer, message):
    result = provider(Broken(answer)).test_client().call("work")
    assert (result.status, result.message) == ("error", message)


@pytest.mark.parametrize("answer", [None, {}, {"rate_limited": False}, {"wait_time": 9}], ids=str)
def test_an_answer_that_refuses_nothing_admits(answer):
    assert provider(Broken(answer)).test_client().call("work").status == "success"


def test_a_monitor_may_hand_on_the_text_of_a_header():
    result = provider(Broken({"rate_limited": True, "wait_time": "60"})).test_client().call("work")
    assert (result.status, result.wait_time) == ("limit", 60)


@pytest.mark.parametrize("wait", [0, -3, 0.0], ids=repr)
def test_a_refusal_without_a_wait_is_a_refusal(wait):
    result = provider(Broken({"rate_limited": True, "wait_time": wait})).test_client().call("work")
    assert (result.status, result.wait_time) == ("limit", 0.001)


@pytest.mark.parametrize(
    "options", [{"key": "account.id"}, {"cost": 2}, {"burst": 1}, {"store": "redis://x"}], ids=str
)
def test_a_monitor_takes_no_options_of_what_arbprov_counts(options):
    (name,) = options
    with pytest.raises(
        ConfigurationError,
        match=f"{name}= is for limits that arbprov counts; Counting counts by itself",
    ):
        ProviderApp().rate_limit(Counting(), **options)(lambda: None)


# By themselves.


def test_a_monitor_that_overrides_nothing_admits_all():
    monitor = RateLimitMonitor()
    assert (monitor.check_rate_limits(), monitor.make_safe_request(max, 1, 2)) == (None, 2)


def test_a_direct_call_waits_until_the_monitor_admits_it(monkeypatch):
    answers = [{"rate_limited": True, "wait_time": 3}, {"rate_limited": True, "wait_time": 1}, None]
    slept = []
    monkeypatch.setattr("arbprov.limits.monitors.time.sleep", slept.append)

    class Twice(RateLimitMonitor):
        def check_rate_limits(self):
            return answers.pop(0)

    assert (Twice().make_safe_request(lambda a, b: a + b, 1, b=2), slept) == (3, [3, 1])


# The built-in monitors.


def test_a_time_based_monitor_keeps_calls_apart():
    client = provider(TimeBasedRateLimitMonitor(min_delay=2.0)).test_client()
    first = statuses(client, 2)
    client.clock.advance(2)
    assert (first, client.call("work").status) == (["success", "limit"], "success")


def test_an_advanced_monitor_admits_a_burst_and_then_a_pace():
    monitor = AdvancedRateLimitMonitor(requests_per_minute=10, burst_size=20)
    client = provider(monitor).test_client()
    first = admitted(client, 30)
    client.clock.advance(6)
    assert (first, admitted(client, 5)) == (20, 1)


def test_a_built_in_monitor_is_shared_by_the_apps_of_one_clock():
    monitor, clock = AdvancedRateLimitMonitor(60, 10), VirtualClock()
    clients = [provider(monitor).test_client(clock=clock) for _ in range(2)]
    assert [admitted(client, 7) for client in clients] == [7, 3]


def test_a_built_in_monitor_is_shared_by_two_actions():
    monitor, app = TimeBasedRateLimitMonitor(1.0), ProviderApp()
    for name in ("a", "b"):
        app.action(name, rate_limit_monitor=monitor)(lambda: {"n": 1})
    client = app.test_client()
    assert [client.call(name).status.value for name in "ab"] == ["success", "limit"]


def test_two_built_in_monitors_of_the_same_numbers_count_apart():
    clock, monitors = VirtualClock(), [TimeBasedRateLimitMonitor(1.0) for _ in range(2)]
    app = provider(monitors[0], monitors[1])
    clients = [one.test_client(clock=clock) for one in (provider(monitors[1]), app)]
    assert [client.call("work").status.value for client in clients] == ["success", "limit"]
    # The refused call took nothing from the other one.
    assert provider(monitors[0]).test_client(clock=clock).call("work").status == "success"


def test_each_test_begins_with_a_monitor_that_has_counted_nothing():
    app = provider(TimeBasedRateLimitMonitor(100))
    assert [statuses(app.test_client(), 1) for _ in range(2)] == [["success"]] * 2


def test_a_monitor_keeps_no_clock_of_a_test_that_is_over():
    monitor = TimeBasedRateLimitMonitor(100)
    client = provider(monitor).test_client()
    client.call("work")
    del client
    gc.collect()
    assert len(monitor._stores) == 0


def test_a_built_in_monitor_is_shared_with_direct_calls():
    monitor = TimeBasedRateLimitMonitor(100)
    app = provider(monitor)
    monitor.make_safe_request(lambda: None)
    assert app.limits.headroom("work")[0].wait_time == pytest.approx(100, abs=2)


def test_a_built_in_monitor_says_what_refuses_a_direct_call():
    monitor = TimeBasedRateLimitMonitor(100)
    before = monitor.check_rate_limits()
    monitor.make_safe_request(lambda: None)
    refusal = monitor.check_rate_limits()
    assert (before, refusal["rate_limited"], refusal["limit"]) == (None, True, "a delay of 100s")


def test_asking_a_built_in_monitor_counts_nothing():
    monitor = AdvancedRateLimitMonitor(60, 1)
    assert [monitor.check_rate_limits() for _ in range(3)] == [None] * 3


def test_a_direct_call_waits_for_a_built_in_monitor(monkeypatch):
    monitor, waits = TimeBasedRateLimitMonitor(100), []

    def later(wait_time):
        waits.append(wait_time)
        monitor._stores.clear()

    monitor.handle_throttling = later
    results = [monitor.make_safe_request(lambda a: a, number) for number in (1, 2)]
    assert (results, waits) == ([1, 2], [pytest.approx(100, abs=2)])


def test_a_built_in_monitor_is_one_decision_with_the_other_limits():
    client = provider(TimeBasedRateLimitMonitor(1.0), "2/hour").test_client()
    statuses(client, 10)
    assert client.limits.headroom("work")[1].remaining == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TimeBasedRateLimitMonitor(0),
            "a delay must be a number of seconds above 0, not 0",
        ),
        (
            lambda: AdvancedRateLimitMonitor(0, 5),
            "a token bucket's requests_per_minute must be a number above 0, not 0",
        ),
        (
            lambda: AdvancedRateLimitMonitor(5, 0),
            "a token bucket's burst_size must be a whole number above 0, not 0",
        ),
    ],
)
def test_invalid_numbers_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
