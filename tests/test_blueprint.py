"""Blueprints."""

from __future__ import annotations

import pytest

from arbprov import Blueprint, ConfigurationError, ProviderApp


@pytest.fixture
def app():
    return ProviderApp("office")


@pytest.fixture
def reports(app):
    blueprint = Blueprint("reports", prefix="reports.")
    app.register_blueprint(blueprint)
    return blueprint


def daily():
    """Report on a day."""
    return {"report": "daily"}


def test_the_prefix_stands_before_the_name(app, reports):
    reports.action(daily)
    assert [one.name for one in app.actions()] == ["reports.daily"]


def test_the_prefix_stands_before_a_given_name_too(app, reports):
    reports.action("weekly")(daily)
    assert [one.name for one in app.actions()] == ["reports.weekly"]


def test_without_a_prefix_the_name_stands_alone(app):
    blueprint = Blueprint("reports")
    blueprint.action(daily)
    app.register_blueprint(blueprint)
    assert [one.name for one in app.actions()] == ["daily"]


def test_a_prefix_alone_is_not_a_name(reports):
    with pytest.raises(ConfigurationError, match="an action needs a name"):
        reports.action("")(daily)


def test_an_action_of_a_blueprint_runs(app, reports):
    reports.action(daily)
    assert app.test_client().call("reports.daily").data == {"report": "daily"}


def test_an_action_runs_only_under_its_full_name(app, reports):
    reports.action(daily)
    assert app.test_client().call("daily").message == "Action not found"


def test_an_action_may_come_after_the_blueprint_s_registration(app, reports):
    reports.action(daily)
    assert app.test_client().call("reports.daily").status == "success"


def test_an_action_may_come_before_the_blueprint_s_registration(app):
    blueprint = Blueprint("reports")
    blueprint.action(daily)
    app.register_blueprint(blueprint)
    assert app.test_client().call("daily").status == "success"


def test_an_unregistered_blueprint_adds_nothing(app):
    Blueprint("reports").action(daily)
    assert app.actions() == []


def test_a_blueprint_may_serve_two_apps(reports):
    reports.action(daily)
    another = ProviderApp("another")
    another.register_blueprint(reports)
    assert another.test_client().call("reports.daily").status == "success"


def test_a_blueprint_registered_twice_is_there_once(app, reports):
    reports.action(daily)
    app.register_blueprint(reports)
    assert len(app.actions()) == 1


def test_two_blueprints_may_not_share_a_name(app, reports):
    with pytest.raises(ConfigurationError) as caught:
        app.register_blueprint(Blueprint("reports"))
    assert str(caught.value) == (
        "there is a blueprint 'reports' already; give this one another name"
    )


def test_two_actions_of_a_blueprint_may_not_share_a_name(reports):
    reports.action("daily")(daily)
    with pytest.raises(ConfigurationError, match=r"there is an action 'reports\.daily' already"):
        reports.action("daily")(daily)


def test_the_repr_names_the_blueprint():
    assert repr(Blueprint("reports")) == "<Blueprint 'reports'>"


def test_a_limit_that_can_t_be_parsed_names_the_blueprint():
    with pytest.raises(ConfigurationError, match=r"^blueprint 'reports': rate_limit: '5/m"):
        Blueprint("reports", rate_limit="5/month")


def test_the_app_s_and_the_blueprint_s_startup_hooks_all_run_with_the_app(app, reports):
    started = []
    app.on_startup(lambda: started.append("app"))
    reports.on_startup(lambda: started.append("blueprint"))
    with app.test_client():
        assert sorted(started) == ["app", "blueprint"]


def test_the_app_s_and_the_blueprint_s_shutdown_hooks_all_run_with_the_app(app, reports):
    stopped = []
    app.on_shutdown(lambda: stopped.append("app"))
    reports.on_shutdown(lambda: stopped.append("blueprint"))
    with app.test_client():
        pass
    assert sorted(stopped) == ["app", "blueprint"]
