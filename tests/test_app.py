"""Registering on an app, the errors of misuse at import, and running an action at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
from support.waiting import TIMEOUT

from arbprov import (
    Blueprint,
    ConfigurationError,
    MinDelay,
    ProviderApp,
    TaskContext,
    TimeBasedRateLimitMonitor,
)


def where(function) -> str:
    """Return how messages name a function: its name, file and line."""
    return f"{function.__qualname__} ({__file__}:{function.__code__.co_firstlineno})"


@pytest.fixture
def app():
    return ProviderApp("test")


def forecast(city: str) -> dict:
    """Forecast for a city.

    More of it.
    """
    return {"city": city}


# Decorators register and never wrap.


@pytest.mark.parametrize(
    "decorate",
    [
        lambda app: app.action,
        lambda app: app.action("name"),
        lambda app: app.action(name="name", description="d", timeout=2),
        lambda app: app.rate_limit("5/second"),
        lambda app: app.on_startup,
        lambda app: app.errorhandler(KeyError),
    ],
    ids=["action", "named", "with options", "rate_limit", "hook", "errorhandler"],
)
def test_a_decorator_returns_the_function_itself(app, decorate):
    def function(city=None): ...

    assert decorate(app)(function) is function


def test_a_decorated_function_is_a_plain_function(app):
    assert app.action(app.rate_limit("5/second")(forecast))("Paris") == {"city": "Paris"}


def test_an_action_is_named_after_its_function(app):
    app.action(forecast)
    assert [action.name for action in app.actions()] == ["forecast"]


@pytest.mark.parametrize("options", [{"name": "weather.now"}, {}])
def test_an_action_may_have_another_name(app, options):
    app.action(*([] if options else ["weather.now"]), **options)(forecast)
    assert app.test_client().call("weather.now", {"city": "Paris"}).status == "success"


def test_one_function_may_be_two_actions(app):
    app.action("one")(app.action("two")(forecast))
    assert [action.name for action in app.actions()] == ["one", "two"]


def test_an_action_is_described_by_the_first_line_of_its_docstring(app):
    app.action(forecast)
    assert app.actions()[0].description == "Forecast for a city."


def test_an_action_may_have_another_description(app):
    app.action(description="Weather")(forecast)
    assert app.actions()[0].description == "Weather"


@pytest.mark.parametrize("limit_first", [True, False])
def test_limits_and_action_go_in_any_order(app, limit_first):
    def function():
        """Do nothing."""

    decorators = [app.action, app.rate_limit("1/hour")]
    for decorate in decorators[:: -1 if limit_first else 1]:
        decorate(function)
    client = app.test_client()
    assert [client.call("function").status.value for _ in range(2)] == ["success", "limit"]


def test_the_repr_of_an_app_shows_no_secret():
    app = ProviderApp("test", auth_token="hunter22")
    assert repr(app) == "<ProviderApp 'test'>"
    assert "hunter22" not in repr(app.config)


# Misuse.


def test_two_actions_of_one_name_are_refused(app):
    app.action(forecast)

    def again(): ...

    with pytest.raises(ConfigurationError) as caught:
        app.action("forecast")(again)
    assert str(caught.value) == (
        f"{where(again)}: there is an action 'forecast' already, {where(forecast)}; "
        f'rename one, as in @app.action("another_name")'
    )


def test_two_actions_of_one_name_are_refused_across_blueprints(app):
    reports = Blueprint("reports")
    app.action(forecast)
    reports.action(forecast)
    app.register_blueprint(reports)
    with pytest.raises(ConfigurationError, match="there is an action 'forecast' already"):
        app.test_client()


@pytest.mark.parametrize(
    "register",
    [
        lambda app, function: app.action(function),
        lambda app, function: app.rate_limit("1/hour")(function),
        lambda app, function: app.before_task(function),
        lambda app, function: app.errorhandler(KeyError)(function),
    ],
    ids=["action", "rate_limit", "hook", "errorhandler"],
)
def test_registering_after_the_start_is_refused(app, register):
    app.test_client()

    def late(): ...

    with pytest.raises(ConfigurationError) as caught:
        register(app, late)
    assert str(caught.value) == (
        f"{where(late)}: registered after the app has started, so no task would ever see it; "
        f"register it at import, before run() or test_client()"
    )


def test_registering_on_a_blueprint_after_the_start_is_refused(app):
    reports = Blueprint("reports")
    app.register_blueprint(reports)
    app.test_client()
    with pytest.raises(ConfigurationError, match="registered after the app has started"):
        reports.action(forecast)


def test_a_blueprint_after_the_start_is_refused(app):
    app.test_client()
    with pytest.raises(ConfigurationError, match="<Blueprint 'late'> comes too late"):
        app.register_blueprint(Blueprint("late"))


def test_a_limit_that_can_not_be_parsed_is_refused(app):
    def handler(): ...

    with pytest.raises(ConfigurationError) as caught:
        app.rate_limit("10 a minute")(handler)
    assert str(caught.value) == (
        f"{where(handler)}: '10 a minute' is not a valid rate limit; write it like "
        f'"10/minute", "5 per second" or "100/2h burst 20; 1000/day"'
    )


def test_a_method_is_limited_as_a_function_is(app):
    class Vendor:
        def price(self):
            return 3.5

    vendor = Vendor()
    app.action("price")(vendor.price)
    app.rate_limit("1/hour")(vendor.price)
    client = app.test_client()
    assert [client.call("price").status for _ in range(2)] == ["success", "limit"]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_an_invalid_timeout_is_refused(app, timeout):
    with pytest.raises(ConfigurationError) as caught:
        app.action(timeout=timeout)(forecast)
    assert str(caught.value) == (
        f"{where(forecast)}: timeout={timeout!r} must be a number of seconds greater than 0"
    )


@pytest.mark.parametrize("name", ["", 5])
def test_an_invalid_name_is_refused(app, name):
    with pytest.raises(ConfigurationError, match=r'an action needs a name; write @app.action\("n'):
        app.action(name=name)(forecast)


def test_an_object_without_a_name_needs_one(app):
    class Service:
        def __call__(self): ...

    with pytest.raises(ConfigurationError, match="an action needs a name"):
        app.action(Service())


def test_a_limit_of_the_app_that_can_not_be_parsed_is_refused():
    with pytest.raises(
        ConfigurationError, match="app 'test': rate_limit: '1/month': a month has no"
    ):
        ProviderApp("test", rate_limit="1/month")


def test_running_without_a_token_is_refused(app, monkeypatch):
    monkeypatch.delenv("PROVIDER_AUTH_TOKEN", raising=False)
    with pytest.raises(
        ConfigurationError, match="the hub's token is missing: set PROVIDER_AUTH_TO"
    ):
        app.run()


# Each decorator.


def message_of(register, *arguments):
    """Return the message of the `ConfigurationError` that a call raises."""
    with pytest.raises(ConfigurationError) as caught:
        register(*arguments)
    return str(caught.value)


def silent():
    return None


def hook(*given):
    return None


DECORATORS = {
    "action": lambda one: one.action,
    "action()": lambda one: one.action(),
    "action(name)": lambda one: one.action("another"),
    "rate_limit": lambda one: one.rate_limit("5/second"),
    "errorhandler": lambda one: one.errorhandler(ValueError),
    "check": lambda one: one.check,
    "check()": lambda one: one.check(timeout=3),
    "on_startup": lambda one: one.on_startup,
    "on_shutdown": lambda one: one.on_shutdown,
    "on_connect": lambda one: one.on_connect,
    "on_disconnect": lambda one: one.on_disconnect,
    "before_task": lambda one: one.before_task,
    "after_task": lambda one: one.after_task,
    "teardown_task": lambda one: one.teardown_task,
    "on_submit_failed": lambda one: one.on_submit_failed,
}
every_decorator = pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)


@every_decorator
def test_each_decorator_of_the_app_returns_the_function_itself(app, decorator):
    def decorated():
        return None

    assert decorator(app)(decorated) is decorated


@every_decorator
def test_each_decorator_of_a_blueprint_returns_the_function_itself(decorator):
    def decorated():
        return None

    assert decorator(Blueprint("reports"))(decorated) is decorated


@every_decorator
def test_each_decorator_refuses_after_the_start(app, decorator):
    app.test_client()
    message = message_of(decorator(app), hook)
    assert message.startswith(f"{where(hook)}: registered after the app has started")


@every_decorator
def test_each_decorator_of_a_blueprint_refuses_after_the_app_s_start(app, decorator):
    blueprint = Blueprint("reports")
    app.register_blueprint(blueprint)
    app.test_client()
    assert "registered after the app has started" in message_of(decorator(blueprint), hook)


def test_a_started_app_may_make_more_clients(app):
    app.action(silent)
    app.test_client()
    assert app.test_client().call("silent").status == "success"


def test_an_app_that_could_not_start_may_be_corrected(app):
    blueprint = Blueprint("reports")
    app.action("one")(forecast)
    blueprint.action("one")(silent)
    app.register_blueprint(blueprint)
    message_of(app.test_client)
    assert app.action("two")(forecast) is forecast


# Callables that may be actions.


def test_limits_above_and_below_the_action_all_count(app):
    @app.rate_limit("3/hour")
    @app.action
    @app.rate_limit("2/minute")
    def work():
        return None

    assert [str(one) for one in app.limits_by_action()["work"]] == ["2/minute", "3/hour"]


def test_limits_are_listed_from_the_app_to_the_action():
    app = ProviderApp(rate_limit="100/day")
    blueprint = Blueprint("reports", rate_limit="10/hour")

    @blueprint.action
    @blueprint.rate_limit("1/second", key="account.id")
    def daily():
        return None

    app.register_blueprint(blueprint)
    listed = [str(one) for one in app.limits_by_action()["daily"]]
    assert listed == ["100/day", "10/hour", "1/second per account.id"]


def test_the_actions_are_listed_by_name(app):
    for name in ("b", "c", "a"):
        app.action(name)(silent)
    assert [one.name for one in app.actions()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "description"),
    [({}, ""), ({"description": "Nothing."}, "Nothing.")],
    ids=["none", "given"],
)
def test_a_function_without_a_docstring_may_be_described(app, options, description):
    app.action(**options)(silent)
    assert app.actions()[0].description == description


def test_an_empty_description_hides_the_docstring(app):
    app.action(description="")(forecast)
    assert app.actions()[0].description == ""


def test_an_object_with_call_may_be_an_action(app):
    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

    app.action("add")(Adder())
    assert app.test_client().call("add", {"a": 1, "b": 2}).data == 3


def test_an_object_with_an_async_call_may_be_an_action(app):
    class Adder:
        async def __call__(self, a: int) -> int:
            return a + 1

    app.action("add")(Adder())
    assert app.test_client().call("add", {"a": 1}).data == 2


def test_a_partial_with_a_name_may_be_an_action(app):
    def add(a: int, b: int) -> int:
        return a + b

    app.action("increment")(functools.partial(add, b=1))
    assert app.test_client().call("increment", {"a": 1}).data == 2


def test_a_bound_method_may_be_an_action(app):
    class Service:
        def ping(self, word: str) -> str:
            return f"{word}!"

    app.action(Service().ping)
    assert app.test_client().call("ping", {"word": "pong"}).data == "pong!"


def test_an_awaitable_that_a_plain_function_returns_is_awaited(app):
    async def inner():
        return "awaited"

    @app.action
    def outer():
        return inner()

    assert app.test_client().call("outer").data == "awaited"


async def coroutine():
    return None


@functools.wraps(coroutine)
def blocking(*args):
    return asyncio.run(coroutine(*args))


class AsyncCallable:
    async def __call__(self):
        return None


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (silent, False),
        (coroutine, True),
        # Of wrappers, the outermost counts: it is what runs.
        (blocking, False),
        (functools.partial(coroutine), True),
        (functools.partial(silent), False),
        (AsyncCallable(), True),
    ],
)
def test_an_action_knows_whether_it_is_async(app, function, is_async):
    app.action("name")(function)
    assert app.actions()[0].is_async is is_async


@pytest.mark.parametrize(("timeout", "seconds"), [(7, 7), (None, 4)], ids=["own", "app's"])
def test_an_action_s_timeout_overrides_the_app_s_in_tests_too(timeout, seconds):
    app = ProviderApp(execution_timeout=4)

    @app.action(timeout=timeout)
    def work(ctx: TaskContext) -> float:
        return ctx.remaining

    assert app.test_client().call("work").data == seconds


# More misuse.


def test_a_refused_second_action_leaves_the_first_as_it_is(app):
    app.action("one")(lambda: "first")
    message_of(app.action("one"), silent)
    assert app.test_client().call("one").data == "first"


def test_actions_of_two_blueprints_may_not_share_a_name(app):
    for name, function in (("a", forecast), ("b", silent)):
        blueprint = Blueprint(name)
        blueprint.action("one")(function)
        app.register_blueprint(blueprint)
    assert message_of(app.actions).startswith(f"{where(silent)}: there is an action 'one' already")


@pytest.mark.parametrize(
    "timeout", ["5", True, [1], 10**400], ids=["text", "bool", "list", "too large"]
)
def test_a_timeout_that_is_not_a_number_is_refused(app, timeout):
    message = message_of(app.action(timeout=timeout), silent)
    assert (
        message
        == f"{where(silent)}: timeout={timeout!r} must be a number of seconds greater than 0"
    )


@pytest.mark.parametrize(
    "limit", ["", "5", "5/fortnight", "5/month", "0/second", "5/second burst 6", "5/second;"]
)
def test_every_complaint_about_a_limit_names_the_function(app, limit):
    assert message_of(app.rate_limit(limit), silent).startswith(f"{where(silent)}: ")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"key": "acount.id"}, "key='acount.id' is not a key; give a dotted path such as"),
        ({"key": "account"}, "key='account' is not a key;"),
        ({"key": "account."}, "key='account.' is not a key;"),
        ({"key": "account..id"}, "key='account..id' is not a key;"),
        ({"key": ""}, "key='' is not a key;"),
        ({"key": 5}, "key=5 is not a key;"),
        ({"key": ("account.id", "id")}, "key='id' is not a key;"),
        ({"key": ("account.id", len)}, "key=<built-in function len> is not a key;"),
        ({"key": ("account.id", None)}, "key=None is not a key;"),
        ({"key": ()}, "key=() is not a key;"),
        ({"scope": "global"}, "scope='global' must be 'action', 'blueprint' or 'app'"),
        ({"cost": 0}, "cost=0 is not a whole number above 0"),
        ({"cost": -1}, "cost=-1 is not a whole number above 0"),
        ({"cost": 1.5}, "cost=1.5 is not a whole number above 0"),
        ({"cost": True}, "cost=True is not a whole number above 0"),
        ({"cost": 11}, "a cost of 11 can never be met by 10/second; lower the cost or raise"),
        ({"cost": 3, "burst": 2}, "a cost of 3 can never be met by 10/second burst 2;"),
        ({"burst": 0}, "a limit's burst must be a "),
        ({"burst": 11}, "a burst of 11 is more than the limit of 10 itself; leave it out"),
        ({"burst": "2"}, "a limit's burst must be a "),
        ({"burst": 2.5}, "a limit's burst must be a "),
    ],
    ids=str,
)
def test_an_invalid_limit_says_why(app, options, complaint):
    message = message_of(app.rate_limit("10/second", **options), silent)
    assert message.startswith(f"{where(silent)}: {complaint}")


def test_a_cost_must_fit_each_of_several_limits(app):
    message = message_of(app.rate_limit("100/hour; 2/second", cost=3), silent)
    assert "a cost of 3 can never be met by 2/second" in message


@pytest.mark.parametrize("limit", [5, None, ["5/second"], b"5/second"], ids=repr)
def test_a_value_that_is_not_a_limit_is_refused(app, limit):
    message = message_of(app.rate_limit(limit), silent)
    assert message == f'{where(silent)}: a rate limit is a text like "10/minute", not {limit!r}'


def test_a_limit_on_a_function_that_is_not_an_action_is_refused_when_the_app_starts(app):
    app.rate_limit("1/second")(silent)
    assert message_of(app.test_client) == (
        f"{where(silent)}: the rate limit 1/second limits nothing: this is not an action of "
        f"{app!r}; decorate the function with its @action too, or remove the limit"
    )


def test_a_limit_on_a_wrapper_around_an_action_is_refused_when_the_app_starts(app):
    @app.action
    def price():
        return 3.5

    @functools.wraps(price)
    def timed():
        return price()

    app.rate_limit("1/second")(timed)
    assert "it decorates a wrapper around the action 'price'" in message_of(app.test_client)


def test_a_limit_of_a_blueprint_on_an_action_of_the_app_is_refused_when_the_app_starts(app):
    blueprint = Blueprint("shop")
    app.register_blueprint(blueprint)
    blueprint.rate_limit("1/second")(app.action(silent))
    assert f"this is not an action of {blueprint!r}" in message_of(app.test_client)


def test_a_limit_of_a_blueprint_that_is_not_registered_is_refused_when_the_app_starts(app):
    blueprint = Blueprint("shop")
    blueprint.rate_limit("1/second")(app.action("price")(lambda: None))
    assert message_of(app.test_client).endswith(
        "the rate limit 1/second does not limit the action 'price': <Blueprint 'shop'> declares it "
        "and is not registered; declare it with the app, or register the blueprint"
    )


def test_a_function_may_be_an_action_of_a_blueprint_of_another_app(app):
    blueprint = Blueprint("shop")
    blueprint.action(blueprint.rate_limit("1/hour")(silent))
    app.action(silent)
    client = app.test_client()
    assert [client.call("silent").status.value for _ in range(2)] == ["success", "success"]


def test_a_limit_below_a_wrapper_limits_the_action(app):
    @app.rate_limit("1/hour")
    def price():
        return 3.5

    @app.action("price")
    @functools.wraps(price)
    def timed():
        return price()

    client = app.test_client()
    assert [client.call("price").status for _ in range(2)] == ["success", "limit"]


def test_first_invocations_from_several_threads_share_their_limits(monkeypatch):
    app = ProviderApp("test")
    app.rate_limit("1/hour")(app.action(silent))
    both_compile, compile_limits = threading.Barrier(2), app._dispatcher

    def compile_together(*arguments):
        with contextlib.suppress(threading.BrokenBarrierError):
            both_compile.wait(0.2)
        return compile_limits(*arguments)

    monkeypatch.setattr(app, "_dispatcher", compile_together)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(app.invoke, "silent") for _ in range(2)]
        assert sorted(call.result(TIMEOUT).status for call in calls) == ["limit", "success"]


def test_a_limit_of_the_app_on_an_action_of_a_blueprint_counts(app):
    blueprint = Blueprint("shop")
    app.register_blueprint(blueprint)
    app.rate_limit("1/hour")(blueprint.action("price")(lambda: 3.5))
    client = app.test_client()
    assert [client.call("price").status for _ in range(2)] == ["success", "limit"]


def test_a_limit_belongs_to_the_app_that_declared_it(app):
    other = ProviderApp("other")
    app.rate_limit("1/hour")(app.action(silent))
    other.action(silent)
    client = other.test_client()
    assert [client.call("silent").status for _ in range(2)] == ["success", "success"]


@pytest.mark.parametrize("last", ["limit", "action"])
def test_a_limit_on_a_function_that_is_two_actions_is_refused(app, last):
    app.action("slow")(silent)
    register = [app.rate_limit("1/hour"), app.action("fast")]
    if last == "limit":
        register.reverse()
    register[0](silent)
    assert message_of(register[1], silent) == (
        f"{where(silent)}: the rate limit 1/hour would limit the actions 'slow' and 'fast', which "
        f"are the same function; define a function for each, so that each has its own limits"
    )


def test_monitors_of_two_actions_of_one_function_limit_an_action_each(app):
    app.action("slow", rate_limit_monitor=TimeBasedRateLimitMonitor(3600))(silent)
    app.action("fast")(silent)
    client = app.test_client()
    statuses = [client.call(name).status for name in ("slow", "slow", "fast", "fast")]
    assert statuses == ["success", "limit", "success", "success"]


def test_rate_limit_without_a_limit_is_refused_when_the_app_starts(app):
    # Written as a bare `@app.rate_limit`, it hides the function behind the decorator.
    app.rate_limit(silent)
    assert message_of(app.test_client) == (
        f'{where(silent)}: @rate_limit takes a limit, as in @app.rate_limit("10/minute")'
    )


def test_rate_limit_without_a_limit_is_refused_under_action(app):
    assert "silent" in message_of(app.action, app.rate_limit(silent))


def test_errorhandler_without_an_exception_is_refused(app):
    # Written as `@app.errorhandler`, it would register nothing.
    assert "takes an exception class" in message_of(app.errorhandler, silent)


@pytest.mark.parametrize("exception", [5, int, "ValueError", ValueError("x"), None], ids=repr)
def test_an_errorhandler_for_a_value_that_is_not_an_exception_is_refused(app, exception):
    message = message_of(lambda: app.errorhandler(exception)(hook))
    assert message == f"{where(hook)}: @errorhandler takes an exception class, not {exception!r}"


def test_the_repr_of_the_dispatcher_shows_no_secret():
    app = ProviderApp(auth_token="hunter22")
    assert "hunter22" not in repr(app._dispatcher(app.test_client().clock))


@pytest.mark.parametrize("argument", ["hub_url", "auth_token"])
def test_running_with_a_blank_argument_is_refused(app, argument):
    message = message_of(lambda: app.run(**{argument: " "}))
    assert message == f"{argument}= is blank; set it, or remove it for the default"


def test_a_lambda_needs_a_name(app):
    assert 'write @app.action("name")' in message_of(app.action, lambda: None)


# Running an action at once.


def test_invoking_runs_an_action_on_the_machine_s_time(app):
    @app.action
    def tell(ctx: TaskContext, account: dict):
        return [ctx.now, account]

    before = datetime.now(timezone.utc)
    result = app.invoke("tell", {}, account={"id": 1})
    assert before <= datetime.fromisoformat(result.data[0]) <= datetime.now(timezone.utc)
    assert result.data[1] == {"id": 1}


def test_invoking_runs_an_async_handler(app):
    @app.action
    async def later(n: int):
        return n

    assert app.invoke("later", {"n": 1}).data == 1


def test_an_invoked_action_counts_for_the_limits_of_run(app):
    app.action("echo")(app.rate_limit("1/hour")(lambda: 1))
    assert [app.invoke("echo").status for _ in range(2)] == ["success", "limit"]
    assert app.limits.counts()[0].denied == 1


def test_an_invoked_action_waits_for_its_limit(app):
    app.action("echo")(app.rate_limit(MinDelay(0.05), max_wait=5)(lambda: 1))
    began = time.monotonic()
    assert [app.invoke("echo").status for _ in range(2)] == ["success", "success"]
    assert time.monotonic() - began >= 0.05
