"""arbprov's pytest fixtures, used as a project uses them."""

from __future__ import annotations

import pytest

CONFTEST = """
import pytest
from arbprov import ProviderApp

noted = []

@pytest.fixture
def provider_app():
    app = ProviderApp("weather")
    app.on_startup(lambda: noted.append("startup"))
    app.on_shutdown(lambda: noted.append("shutdown"))

    @app.action
    def forecast(city: str) -> dict:
        return {"city": city}

    return app
"""


@pytest.fixture
def project(pytester):
    # The inner run needs no cache.
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    pytester.makeconftest(CONFTEST)
    return pytester


def test_provider_client_runs_actions(project):
    project.makepyfile("""
        def test_it(provider_client):
            assert provider_client.call("forecast", {"city": "Paris"}).data == {"city": "Paris"}
    """)
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_provider_client_runs_the_hooks_around_a_test(project):
    project.makepyfile("""
        from conftest import noted

        def test_during(provider_client):
            assert noted == ["startup"]

        def test_after():
            assert noted == ["startup", "shutdown"]
    """)
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_provider_hub_runs_actions_over_grpc(project):
    project.makepyfile("""
        def test_it(provider_hub):
            result = provider_hub.call("forecast", {"city": "Paris"})
            assert (result.data, result.provider) == ({"city": "Paris"}, "weather")
    """)
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_an_error_that_ends_the_provider_ends_the_test(project):
    project.makepyfile("""
        def test_it(provider_app, provider_hub):
            pass
    """)
    project.makeconftest(CONFTEST.replace('noted.append("startup")', "1 / 0"))
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_a_project_without_an_app_gets_an_error_with_the_fix(pytester):
    pytester.makepyfile("def test_it(provider_client): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixtures need your app*", "*def provider_app*"])
