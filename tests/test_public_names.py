"""What `import arbprov` offers."""

from __future__ import annotations

import inspect

import pytest

import arbprov


def test_the_public_names_are_sorted():
    assert arbprov.__all__ == sorted(arbprov.__all__)


def test_the_public_names_are_all_that_is_imported():
    public = {
        name
        for name, value in vars(arbprov).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(arbprov.__all__)


@pytest.mark.parametrize("name", arbprov.__all__)
def test_a_public_name_is_documented(name):
    assert inspect.getdoc(getattr(arbprov, name))


def methods():
    for name in arbprov.__all__:
        for method, value in inspect.getmembers(getattr(arbprov, name), inspect.isfunction):
            if not method.startswith("_"):
                yield f"{name}.{method}", value


@pytest.mark.parametrize(("name", "method"), list(methods()), ids=lambda part: str(part))
def test_a_public_method_is_documented(name, method):
    assert inspect.getdoc(method)


def test_the_errors_are_a_tree():
    tree = {
        arbprov.ConfigurationError: arbprov.ProviderError,
        arbprov.TaskError: arbprov.ProviderError,
        arbprov.ActionNotFoundError: arbprov.TaskError,
        arbprov.InvalidPayloadError: arbprov.TaskError,
        arbprov.RateLimited: arbprov.TaskError,
        arbprov.TaskTimeoutError: arbprov.TaskError,
        arbprov.HubError: arbprov.ProviderError,
        arbprov.HubConnectionError: arbprov.HubError,
        arbprov.AuthenticationError: arbprov.HubError,
    }
    assert {child: child.__bases__[0] for child in tree} == tree


def test_a_hub_that_is_away_is_a_builtin_connection_error_too():
    assert issubclass(arbprov.HubConnectionError, ConnectionError)
