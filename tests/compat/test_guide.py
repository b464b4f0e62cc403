"""The samples of the class-based framework's guide, as classes and as functions: the same results.

The words are our own; the shapes and the schemas are the guide's.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Dict, List, Optional

import attrs
import pytest
from support.redis_servers import RedisServer

import arbprov
from arbprov import ProviderApp, compat
from arbprov.compat import (
    AdvancedRateLimitMonitor,
    Provider,
    ProviderResponse,
    RateLimitMonitor,
    TimeBasedRateLimitMonitor,
)

GOOD, BAD, OVER = "success", "error", "limit"


@attrs.frozen
class Sample:
    """One sample in both styles, and tasks for it; a number is seconds that pass in between."""

    provider: Callable[[], Provider]
    app: Callable[[], ProviderApp]
    tasks: list[tuple[str, Any, str] | float]

    def answers(self, app: ProviderApp) -> list[dict[str, Any]]:
        client = app.test_client()
        envelopes = []
        for task in self.tasks:
            if isinstance(task, tuple):
                envelopes.append(client.call(task[0], task[1]).envelope)
            else:
                client.clock.advance(task)
        return envelopes

    @property
    def statuses(self) -> list[str]:
        return [task[2] for task in self.tasks if isinstance(task, tuple)]


# Quick start

QUICK = {"param1": str, "param2": int}


class QuickStart(Provider):
    def __init__(self):
        super().__init__(
            name=os.getenv("PROVIDER_NAME", "my-provider"),
            auth_token=os.getenv("PROVIDER_AUTH_TOKEN"),
            hub_url=os.getenv("HUB_GRPC_URL", "hub-grpc:50051"),
            execution_timeout=int(os.getenv("TASK_EXECUTION_TIMEOUT", 1)),
        )

        @self.actions.register(
            name="my_action", description="What this action does", payload_schema=QUICK
        )
        def my_action(param1: str, param2: int):
            return {"result": "success"}


def quick_start():
    app = ProviderApp("my-provider")

    @app.action("my_action", description="What this action does", payload_schema=QUICK)
    def my_action(param1, param2):
        return {"result": "success"}

    return app


QUICK_TASKS = [
    ("my_action", {"param1": "one", "param2": 2}, GOOD),
    ("my_action", {"param1": "one", "param2": 2, "more": True}, GOOD),
    ("my_action", {"param1": 1, "param2": "2"}, BAD),
    ("my_action", {}, BAD),
    ("another_action", {"param1": "one", "param2": 2}, BAD),
]

# Registering actions

OPTIONAL = {"param1": str, "param2": int, "optional_param": Optional[str]}


class Registering(Provider):
    def __init__(self):
        super().__init__(name="registering", auth_token="sample-token")

        @self.actions.register(
            name="action_name", description="All about the action", payload_schema=OPTIONAL
        )
        def action_handler(param1: str, param2: int, optional_param: Optional[str] = None):
            return {"given": [param1, param2, optional_param]}


def registering():
    app = ProviderApp("registering")

    @app.action("action_name", payload_schema=OPTIONAL)
    def action_handler(param1, param2, optional_param=None):
        return {"given": [param1, param2, optional_param]}

    return app


REGISTERING_TASKS = [
    ("action_name", {"param1": "a", "param2": 1}, GOOD),
    ("action_name", {"param1": "a", "param2": 1, "optional_param": None}, GOOD),
    ("action_name", {"param1": "a", "param2": 1, "optional_param": "b"}, GOOD),
    ("action_name", {"param1": "a", "param2": 1, "optional_param": 3}, BAD),
    ("action_name", {"param2": 1}, BAD),
]

# Payload validation

NESTED = {
    "required_string": str,
    "required_int": int,
    "optional_float": Optional[float],
    "nested": {"field": str},
}


class Validating(Provider):
    def __init__(self):
        super().__init__(name="validating", auth_token="sample-token")

        @self.actions.register("check", "Give back what has come", NESTED)
        def check(payload: dict):
            return payload


def validating():
    app = ProviderApp("validating")

    @app.action(payload_schema=NESTED)
    def check(payload):
        return payload

    return app


VALIDATING_TASKS = [
    ("check", {"required_string": "a", "required_int": 1, "nested": {"field": "b"}}, GOOD),
    (
        "check",
        {
            "required_string": "a",
            "required_int": 1,
            "optional_float": 1,
            "nested": {"field": "b", "more": 1},
        },
        GOOD,
    ),
    ("check", {"required_string": "a", "required_int": True, "nested": {}}, BAD),
    ("check", {"required_int": 1.5, "optional_float": "1", "nested": "field"}, BAD),
    ("check", b"[]", BAD),
    ("check", b"{", BAD),
]

# Complex nested structures


def array_of(item):
    """Return ``List[{...}]`` as the guide has it, where Python takes it."""
    return List[item] if sys.version_info >= (3, 11) else list[item]


USER = {
    "user": {
        "personal_info": {
            "first_name": str,
            "last_name": str,
            "date_of_birth": datetime,
            "gender": str,
            "nationality": str,
        },
        "contact_info": {
            "email": str,
            "phone": str,
            "addresses": List[Dict[str, str]],
            "emergency_contacts": array_of({"name": str, "relationship": str, "phone": str}),
        },
        "preferences": {
            "language": str,
            "timezone": str,
            "notifications": {"email": bool, "sms": bool, "push": bool},
            "privacy_settings": {"profile_visibility": str, "data_sharing": bool},
        },
        "subscriptions": array_of(
            {
                "service": str,
                "plan": str,
                "start_date": datetime,
                "end_date": Optional[datetime],
                "features": List[str],
            }
        ),
    },
    "metadata": {
        "source": str,
        "created_by": str,
        "tags": List[str],
        "custom_fields": Dict[str, Any],
    },
}


def profile_of(payload):
    user = payload["user"]
    person, contact = user["personal_info"], user["contact_info"]
    if not contact["emergency_contacts"]:
        raise LookupError("nobody to call")
    return {
        "user_id": "sample-id",
        "born": person["date_of_birth"].year,
        "profile_summary": {
            "name": f"{person['first_name']} {person['last_name']}",
            "email": contact["email"],
            "cities": [address["city"] for address in contact["addresses"]],
            "open": [one["service"] for one in user["subscriptions"] if one["end_date"] is None],
        },
    }


def create_user(payload: Dict) -> Any:
    try:
        profile = profile_of(payload)
        return ProviderResponse(status="success", message="User created", data=profile)
    except Exception as e:
        return ProviderResponse(status="error", message=f"Failed to create user: {e}")


class Users(Provider):
    def __init__(self):
        super().__init__(name="users", auth_token="sample-token")
        self.actions.register(name="create_user", description="Create a user", payload_schema=USER)(
            create_user
        )


def users():
    app = ProviderApp("users")
    app.action("create_user", description="Create a user", payload_schema=USER)(create_user)
    return app


def user(**contact):
    return {
        "user": {
            "personal_info": {
                "first_name": "Ada",
                "last_name": "Sample",
                "date_of_birth": "1990-12-10T00:00:00+00:00",
                "gender": "f",
                "nationality": "GB",
            },
            "contact_info": {
                "email": "ada@example.org",
                "phone": "+44 1",
                "addresses": [{"street": "Sample Road 1", "city": "London"}],
                "emergency_contacts": [{"name": "Bob", "relationship": "friend", "phone": "2"}],
                **contact,
            },
            "preferences": {
                "language": "en",
                "timezone": "Europe/London",
                "notifications": {"email": True, "sms": False, "push": True},
                "privacy_settings": {"profile_visibility": "all", "data_sharing": False},
            },
            "subscriptions": [
                {
                    "service": service,
                    "plan": "free",
                    "start_date": "2026-01-01T00:00:00+00:00",
                    "features": ["a", "b"],
                    **ends,
                }
                for service, ends in [
                    ("maps", {}),
                    ("mail", {"end_date": "2026-02-01T00:00:00+00:00"}),
                ]
            ],
        },
        "metadata": {
            "source": "web",
            "created_by": "form",
            "tags": ["new"],
            "custom_fields": {"any": [1, {"thing": None}]},
        },
    }


USERS_TASKS = [
    ("create_user", user(), GOOD),
    ("create_user", user(emergency_contacts=[]), BAD),
    ("create_user", user(addresses=[{"zip": 28001}], emergency_contacts=[{"name": "Bob"}]), BAD),
    ("create_user", {"user": {}, "metadata": {"tags": "new"}}, BAD),
]

# Basic provider


class Basic(Provider):
    def __init__(self):
        super().__init__(
            name="basic-provider",
            auth_token=os.getenv("PROVIDER_AUTH_TOKEN"),
            hub_url=os.getenv("HUB_GRPC_URL", "hub-grpc:50051"),
        )

        @self.actions.register(
            name="echo", description="Echo back the input", payload_schema={"message": str}
        )
        def echo(message: str):
            return {"echo": message}


def basic():
    app = ProviderApp("basic-provider")

    @app.action
    def echo(message: str):
        return {"echo": message}

    return app


BASIC_TASKS = [
    ("echo", {"message": "hi"}, GOOD),
    ("echo", {"message": None}, BAD),
    ("echo", {}, BAD),
]

# Advanced provider with error handling

DATA = {"data": list, "options": dict}


def process_data(data: list, options: dict):
    try:
        if "limit" in options:
            data = data[: options["limit"]]
        return {"status": "success", "processed": len(data)}
    except Exception as e:
        return {"status": "error", "message": str(e)}


class Advanced(Provider):
    def __init__(self):
        super().__init__(name="advanced-provider", auth_token=os.getenv("PROVIDER_AUTH_TOKEN"))
        self.actions.register(
            name="process_data", description="Process input data", payload_schema=DATA
        )(process_data)


def advanced():
    app = ProviderApp("advanced-provider")
    app.action(payload_schema=DATA)(process_data)
    return app


ADVANCED_TASKS = [
    ("process_data", {"data": [1, "b", None], "options": {}}, GOOD),
    # What it returns is data, whatever words are in it.
    ("process_data", {"data": [1], "options": {"limit": "all"}}, GOOD),
    ("process_data", {"data": {}, "options": []}, BAD),
    ("process_data", {"data": [1]}, BAD),
]

# The built-in monitors


class Timed(Provider):
    def __init__(self):
        rate_limit_monitor = TimeBasedRateLimitMonitor(min_delay=2.0)
        super().__init__(
            name="my-provider",
            auth_token="your-auth-token",
            hub_url="hub-grpc:50051",
            rate_limit_monitor=rate_limit_monitor,
        )
        self.actions.register("ask", "Ask", {"n": int})(lambda n: {"n": n})
        self.actions.register("tell", "Tell", {"n": int})(lambda n: {"n": n})


def timed():
    app = ProviderApp("my-provider", rate_limit_monitor=TimeBasedRateLimitMonitor(min_delay=2.0))
    app.action("ask", payload_schema={"n": int})(lambda n: {"n": n})
    app.action("tell", payload_schema={"n": int})(lambda n: {"n": n})
    return app


TIMED_TASKS = [
    ("ask", {"n": 1}, GOOD),
    0.5,
    ("tell", {"n": 2}, OVER),
    ("tell", {"n": "2"}, BAD),
    1.5,
    ("tell", {"n": 3}, GOOD),
    ("ask", {"n": 4}, OVER),
]


class Bucket(Provider):
    def __init__(self):
        rate_limit_monitor = AdvancedRateLimitMonitor(requests_per_minute=10, burst_size=20)
        super().__init__(
            name="my-provider",
            auth_token="your-auth-token",
            hub_url="hub-grpc:50051",
            rate_limit_monitor=rate_limit_monitor,
        )
        self.actions.register("ask", "Ask", {"n": int})(lambda n: {"n": n})


def bucket():
    monitor = AdvancedRateLimitMonitor(requests_per_minute=10, burst_size=20)
    app = ProviderApp("my-provider", rate_limit_monitor=monitor)
    app.action("ask", payload_schema={"n": int})(lambda n: {"n": n})
    return app


BUCKET_TASKS = [
    *[("ask", {"n": n}, GOOD) for n in range(20)],
    ("ask", {"n": 21}, OVER),
    6,
    ("ask", {"n": 22}, GOOD),
    ("ask", {"n": 23}, OVER),
]

SAMPLES = {
    "quick start": Sample(QuickStart, quick_start, QUICK_TASKS),
    "registering": Sample(Registering, registering, REGISTERING_TASKS),
    "payload validation": Sample(Validating, validating, VALIDATING_TASKS),
    "complex nested": Sample(Users, users, USERS_TASKS),
    "basic provider": Sample(Basic, basic, BASIC_TASKS),
    "advanced provider": Sample(Advanced, advanced, ADVANCED_TASKS),
    "time-based monitor": Sample(Timed, timed, TIMED_TASKS),
    "advanced monitor": Sample(Bucket, bucket, BUCKET_TASKS),
}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def sample(request):
    return request.param


def test_a_sample_has_the_same_results_as_a_class_and_as_functions(sample):
    as_a_class, as_functions = sample.provider().app, sample.app()
    assert sample.answers(as_a_class) == sample.answers(as_functions)


def test_a_sample_s_tasks_end_as_the_guide_says(sample):
    statuses = [one["status"] for one in sample.answers(sample.provider().app)]
    assert statuses == sample.statuses


def test_a_dict_is_data_even_if_it_speaks_of_an_error():
    result = Advanced().process_task("process_data", {"data": [1], "options": {"limit": "all"}})
    assert result["status"] == "success"
    assert result["data"]["response"]["status"] == "error"


def test_a_user_is_refused_with_every_problem_and_its_path():
    result = Users().app.test_client().call("create_user", USERS_TASKS[2][1])
    assert [problem["path"] for problem in result.problems] == [
        "user.contact_info.addresses[0].zip",
        "user.contact_info.emergency_contacts[0].relationship",
        "user.contact_info.emergency_contacts[0].phone",
    ]


# Error handling


@pytest.fixture
def closed_port(monkeypatch):
    """The address of nobody, and not much patience with it."""
    monkeypatch.setenv("ARBPROV_START_TIMEOUT", "0.05")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{one.getsockname()[1]}"


def test_start_raises_the_guide_s_connection_error_where_no_hub_is(closed_port):
    provider = Provider("lonely", "sample-token", hub_url=closed_port)
    with pytest.raises(compat.ConnectionError):
        provider.start()


def test_the_builtin_connection_error_catches_it_too(closed_port):
    provider = Provider("lonely", "sample-token", hub_url=closed_port)
    with pytest.raises(ConnectionError):
        provider.start()


def test_start_raises_the_guide_s_authentication_error_where_the_token_is_refused(hub):
    provider = Provider("stranger", "wrong-token", hub_url=hub.address)
    with pytest.raises(compat.AuthenticationError):
        provider.start()


@pytest.mark.parametrize("where", ["hub", "closed_port"])
def test_start_raises_what_run_raises(where, request):
    place = request.getfixturevalue(where)
    address = place if isinstance(place, str) else place.address
    raised = []
    for run in (
        Provider("stranger", "wrong-token", hub_url=address).start,
        ProviderApp("stranger", auth_token="wrong-token", hub_url=address).run,
    ):
        with pytest.raises(arbprov.HubError) as caught:
            run()
        raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]


# Custom monitors, on a clock that stands still until the test turns it.


@pytest.fixture
def machine(monkeypatch):
    class Time:
        now = 1_000_000_010.0

        def time(self):
            return self.now

    clock = Time()
    monkeypatch.setattr(f"{__name__}.time", clock)
    return clock


class RedisRateLimitMonitor(RateLimitMonitor):
    def __init__(self, redis_url: str, key_prefix: str = "rate_limit"):
        import redis

        self.redis = redis.Redis.from_url(redis_url)
        self.key_prefix = key_prefix
        self.window_size = 60

    def window(self) -> str:
        return f"{self.key_prefix}:{int(time.time()) // self.window_size}"

    def check_rate_limits(self) -> Optional[Dict[str, Any]]:
        count = int(self.redis.get(self.window()) or 0)
        if count < 100:
            return None
        wait = self.window_size - int(time.time()) % self.window_size
        return {"rate_limited": True, "wait_time": wait, "current_count": count, "limit": 100}

    def handle_throttling(self, wait_time: int = 60) -> None:
        time.sleep(wait_time)

    def make_safe_request(self, request_func, *args, **kwargs) -> Any:
        limits = self.check_rate_limits()
        if limits and limits.get("rate_limited"):
            self.handle_throttling(limits["wait_time"])
        self.redis.incr(self.window())
        self.redis.expire(self.window(), self.window_size)
        return request_func(*args, **kwargs)


class Redis(Provider):
    def __init__(self, url: str):
        monitor = RedisRateLimitMonitor(redis_url=url, key_prefix="class:rate_limit")
        super().__init__(
            name="my-provider",
            auth_token="your-auth-token",
            hub_url="hub-grpc:50051",
            rate_limit_monitor=monitor,
        )
        self.monitor = monitor
        self.actions.register("ask", "Ask", {"n": int})(lambda n: {"n": n})


def redis_app(url: str):
    monitor = RedisRateLimitMonitor(redis_url=url, key_prefix="function:rate_limit")
    app = ProviderApp("my-provider", rate_limit_monitor=monitor)
    app.action("ask", payload_schema={"n": int})(lambda n: {"n": n})
    return app, monitor


@pytest.fixture
def redis_url():
    server = RedisServer()
    yield server.url
    server.close()


def test_the_redis_monitor_has_the_same_results_in_both_styles(redis_url, machine):
    provider, (app, monitor) = Redis(redis_url), redis_app(redis_url)
    found = []
    for client in (provider.app.test_client(), app.test_client()):
        machine.now = 1_000_000_010.0
        answers = [client.call("ask", {"n": "no number"}).envelope]
        answers += [client.call("ask", {"n": n}).envelope for n in range(101)]
        machine.now += 60
        found.append([*answers, client.call("ask", {"n": 0}).envelope])
    provider.monitor.redis.close()
    monitor.redis.close()
    assert found[0] == found[1]
    assert [one["status"] for one in found[0]] == [BAD, *[GOOD] * 100, OVER, GOOD]
    assert found[0][-2]["data"]["response"]["wait_time"] == 10


class SharedRateLimitMonitor(RateLimitMonitor):
    def __init__(self, max_requests: int = 100, window_size: int = 60):
        self.max_requests = max_requests
        self.window_size = window_size
        self.requests: list[float] = []
        self.lock = threading.Lock()

    def check_rate_limits(self) -> Optional[Dict[str, Any]]:
        now = time.time()
        with self.lock:
            self.requests = [t for t in self.requests if now - t < self.window_size]
            if len(self.requests) < self.max_requests:
                return None
            return {
                "rate_limited": True,
                "wait_time": self.window_size - (now - self.requests[0]),
                "current_count": len(self.requests),
                "limit": self.max_requests,
            }

    def handle_throttling(self, wait_time: int = 60) -> None:
        time.sleep(wait_time)

    def make_safe_request(self, request_func, *args, **kwargs) -> Any:
        limits = self.check_rate_limits()
        if limits and limits.get("rate_limited"):
            self.handle_throttling(limits["wait_time"])
        with self.lock:
            self.requests.append(time.time())
        return request_func(*args, **kwargs)


class Sharing(Provider):
    def __init__(self, name: str, shared: RateLimitMonitor):
        super().__init__(
            name=name,
            auth_token=f"token-of-{name}",
            hub_url="hub-grpc:50051",
            rate_limit_monitor=shared,
        )
        self.actions.register("ask", "Ask", {"n": int})(lambda n: {"n": n})


def sharing(name: str, shared: RateLimitMonitor):
    app = ProviderApp(name, auth_token=f"token-of-{name}", rate_limit_monitor=shared)
    app.action("ask", payload_schema={"n": int})(lambda n: {"n": n})
    return app


def test_two_providers_of_one_monitor_have_the_same_results_in_both_styles(machine):
    shared = SharedRateLimitMonitor(max_requests=3), SharedRateLimitMonitor(max_requests=3)
    classes = [Sharing(name, shared[0]).app for name in ("provider-a", "provider-b")]
    functions = [sharing(name, shared[1]) for name in ("provider-a", "provider-b")]
    found = []
    for apps in (classes, functions):
        machine.now = 1_000_000_010.0
        one, two = (app.test_client() for app in apps)
        answers = []
        for client, number in [(one, 1), (two, 2), (one, "3"), (two, 4), (one, 5), (two, 6)]:
            answers.append(client.call("ask", {"n": number}).envelope)
            machine.now += 1
        machine.now += 54
        found.append([*answers, one.call("ask", {"n": 7}).envelope])
    assert found[0] == found[1]
    assert [one["status"] for one in found[0]] == [GOOD, GOOD, BAD, GOOD, OVER, OVER, GOOD]


# Rate limits in actions


def call_api(endpoint: str, params: dict) -> dict:
    if endpoint != "/orders":
        raise LookupError(f"there is no {endpoint}")
    return {"asked": endpoint, "with": params}


CALL = {"endpoint": str, "params": dict}


def limited_call(monitor: RateLimitMonitor, payload: dict) -> ProviderResponse:
    limits = monitor.check_rate_limits()
    if limits and limits.get("rate_limited"):
        monitor.handle_throttling(limits["wait_time"])
    try:
        result = call_api(payload["endpoint"], payload["params"])
        monitor.make_safe_request(lambda: None)
        return ProviderResponse(status="success", data=result)
    except Exception as e:
        return ProviderResponse(status="error", message=str(e))


class Api(Provider):
    def __init__(self):
        super().__init__(
            name="api-provider",
            auth_token="your-auth-token",
            hub_url="hub-grpc:50051",
            rate_limit_monitor=TimeBasedRateLimitMonitor(min_delay=1.0),
        )
        self.api_rate_limit = TimeBasedRateLimitMonitor(min_delay=0.05)

        @self.actions.register(
            name="call_external_api", description="Call an API", payload_schema=CALL
        )
        def call_external_api(payload: dict) -> Any:
            return limited_call(self.api_rate_limit, payload)


def api():
    app = ProviderApp("api-provider", rate_limit_monitor=TimeBasedRateLimitMonitor(min_delay=1.0))
    api_rate_limit = TimeBasedRateLimitMonitor(min_delay=0.05)

    @app.action(payload_schema=CALL)
    def call_external_api(payload):
        return limited_call(api_rate_limit, payload)

    return app


API_TASKS = [
    ("call_external_api", {"endpoint": "/orders", "params": {"page": 1}}, GOOD),
    ("call_external_api", {"endpoint": "/orders", "params": {"page": 2}}, OVER),
    1,
    ("call_external_api", {"endpoint": "/orders", "params": {"page": 2}}, GOOD),
    1,
    ("call_external_api", {"endpoint": "/secrets", "params": {}}, BAD),
    1,
    ("call_external_api", {"endpoint": "/orders", "params": []}, BAD),
]


def test_a_monitor_in_an_action_has_the_same_results_in_both_styles():
    sample = Sample(Api, api, API_TASKS)
    answers = sample.answers(Api().app)
    assert answers == sample.answers(api())
    assert [one["status"] for one in answers] == sample.statuses


def test_a_handler_waits_for_its_own_monitor(monkeypatch):
    waits = []
    wait = TimeBasedRateLimitMonitor.handle_throttling

    def noted(self, wait_time=60):
        waits.append(wait_time)
        wait(self, wait_time)

    monkeypatch.setattr(TimeBasedRateLimitMonitor, "handle_throttling", noted)
    Sample(Api, api, API_TASKS).answers(Api().app)
    assert 0 < waits[0] <= 0.05
