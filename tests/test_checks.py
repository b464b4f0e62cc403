"""Checks are registered by `app.check` and `blueprint.check`."""

from __future__ import annotations

import functools

import pytest

from arbprov import Blueprint, ConfigurationError, ProviderApp, TaskContext


@pytest.fixture
def app():
    return ProviderApp("test")


def reachable():
    return True


def message_of(register, *arguments, **options):
    with pytest.raises(ConfigurationError) as caught:
        register(*arguments, **options)
    return str(caught.value)


def where(function):
    code = function.__code__
    return f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"


@pytest.mark.parametrize(
    ("decorate", "name", "timeout"),
    [
        (lambda app: app.check, "reachable", 10.0),
        (lambda app: app.check(), "reachable", 10.0),
        (lambda app: app.check("vendor"), "vendor", 10.0),
        (lambda app: app.check(timeout=3), "reachable", 3),
    ],
)
def test_a_check_has_a_name_and_a_timeout(app, decorate, name, timeout):
    decorate(app)(reachable)
    assert [(check.name, check.timeout) for check in app.checks()] == [(name, timeout)]


def test_checks_are_in_the_order_of_registration_the_app_s_first(app):
    reports = Blueprint("reports", prefix="reports.")
    app.register_blueprint(reports)
    reports.check(reachable)
    app.check("second")(reachable)
    app.check("first")(reachable)
    assert [check.name for check in app.checks()] == ["second", "first", "reports.reachable"]


def test_a_name_is_taken_once(app):
    app.check(reachable)
    assert message_of(app.check, reachable) == (
        f"{where(reachable)}: there is a check 'reachable' already, {where(reachable)}; rename "
        f'one, as in @app.check("another_name")'
    )


def test_a_name_is_taken_once_among_app_and_blueprints(app):
    reports = Blueprint("reports")
    app.register_blueprint(reports)
    app.check(reachable)
    reports.check(reachable)
    assert "there is a check 'reachable' already" in message_of(app.test_client)


def test_a_lambda_needs_a_name(app):
    assert 'a check needs a name; write @app.check("name")' in message_of(app.check, lambda: True)


@pytest.mark.parametrize(
    "function",
    [
        lambda url: None,
        lambda url="https://example.com": None,
        lambda payload: None,
        lambda **extra: None,
    ],
)
def test_a_check_with_other_parameters_is_refused(app, function):
    message = message_of(app.check("odd"), function)
    assert message.startswith(f"{where(function)}: a check takes `account` and a TaskContext")


def test_a_check_may_have_its_parameters_bound(app):
    app.check("bound")(functools.partial(lambda url, account: None, url="https://example.com"))
    assert [check.name for check in app.checks()] == ["bound"]


@pytest.mark.parametrize("timeout", [0, -1, "3", None, float("nan")])
def test_a_timeout_that_is_not_a_positive_number_is_refused(app, timeout):
    assert "must be a number of seconds greater than 0" in message_of(
        app.check(timeout=timeout), reachable
    )


def test_a_check_that_declares_a_state_is_refused_without_a_lifespan(app):
    @app.check
    def typed(ctx: TaskContext[int]): ...

    message = message_of(app.test_client)
    assert message.startswith(f"{where(typed)}: the check 'typed' declares a TaskContext with a")
