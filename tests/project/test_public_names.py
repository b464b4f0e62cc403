"""The public names: sorted, importable, documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import pydoc

import pytest

import arbprov
from arbprov import Calendar


def test_the_public_names_are_sorted():
    assert arbprov.__all__ == sorted(arbprov.__all__)


def test_dir_shows_the_public_names_only():
    public = {
        name
        for name in dir(arbprov)
        if not name.startswith("_") and not inspect.ismodule(getattr(arbprov, name))
    }
    assert public == set(arbprov.__all__)


def test_a_star_import_has_all_public_names():
    namespace = {}
    exec("from arbprov import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(arbprov.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'arbprov' has no attribute 'Limits'"):
        arbprov.Limits  # noqa: B018


def test_a_name_is_imported_on_demand_and_only_once():
    del vars(arbprov)["Calendar"]
    assert arbprov.Calendar is vars(arbprov)["Calendar"] is Calendar


@pytest.mark.parametrize("name", arbprov.__all__)
def test_a_public_name_is_documented(name):
    assert inspect.getdoc(getattr(arbprov, name))


def methods():
    for name in arbprov.__all__:
        for method, value in inspect.getmembers(getattr(arbprov, name), inspect.isfunction):
            if not method.startswith("_"):
                yield f"{name}.{method}", value


@pytest.mark.parametrize(
    ("name", "method"), list(methods()), ids=lambda part: getattr(part, "__name__", part)
)
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
        arbprov.HandlerProcessError: arbprov.TaskError,
        arbprov.HubError: arbprov.ProviderError,
        arbprov.HubConnectionError: arbprov.HubError,
        arbprov.AuthenticationError: arbprov.HubError,
    }
    assert {child: child.__bases__[0] for child in tree} == tree


def test_a_hub_connection_error_is_a_builtin_connection_error_too():
    assert issubclass(arbprov.HubConnectionError, ConnectionError)


# The names of the modules.

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(arbprov.__path__, "arbprov.")
    if "_proto" not in info.name and "__main__" not in info.name
)


@pytest.mark.parametrize("name", arbprov.__all__)
def test_help_lists_a_public_name(name):
    assert inspect.getdoc(getattr(arbprov, name)).splitlines()[0] in pydoc.render_doc(
        f"arbprov.{name}", renderer=pydoc.plaintext
    )


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented(name):
    assert importlib.import_module(name).__doc__


def public_objects(module):
    """Yield the public functions and classes that a module defines, with their names."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        is_own = getattr(value, "__module__", None) == module.__name__
        if is_own and getattr(value, "__qualname__", "") == name and not name.startswith("_"):
            yield name, value


@pytest.mark.parametrize("name", MODULES)
def test_a_public_object_of_a_module_is_documented(name):
    module = importlib.import_module(name)
    assert [public for public, value in public_objects(module) if not value.__doc__] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_public_member_of_a_class_is_documented(name):
    undocumented = [
        f"{public}.{method}"
        for public, value in public_objects(importlib.import_module(name))
        if inspect.isclass(value)
        for method, function in vars(value).items()
        if inspect.isfunction(function) and not method.startswith("_") and not function.__doc__
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", MODULES)
def test_a_name_in_all_exists(name):
    module = importlib.import_module(name)
    missing = [listed for listed in getattr(module, "__all__", ()) if not hasattr(module, listed)]
    assert missing == []


@pytest.mark.parametrize("name", MODULES)
def test_all_has_a_name_once(name):
    listed = getattr(importlib.import_module(name), "__all__", [])
    assert sorted(listed) == sorted(set(listed))
