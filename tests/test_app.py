"""Registering on an app, and what is said of misuse at import."""

from __future__ import annotations

import pytest

from arbprov import Blueprint, ConfigurationError, ProviderApp


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
        f'register one as @app.action("another_name")'
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
        f"{where(handler)}: '10 a minute' is no rate limit; write it like "
        f'"10/minute", "5 per second" or "100/2h burst 20; 1000/day"'
    )


def test_a_limit_on_something_that_takes_no_attributes_is_refused(app):
    with pytest.raises(ConfigurationError, match="decorate a function that calls it"):
        app.rate_limit("1/hour")("text".upper)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_makes_no_sense_is_refused(app, timeout):
    with pytest.raises(ConfigurationError) as caught:
        app.action(timeout=timeout)(forecast)
    assert str(caught.value) == (
        f"{where(forecast)}: timeout={timeout!r} is not a number of seconds above 0"
    )


@pytest.mark.parametrize("name", ["", 5])
def test_a_name_that_is_none_is_refused(app, name):
    with pytest.raises(
        ConfigurationError, match=r'an action needs a name; give it @app.action\("n'
    ):
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
