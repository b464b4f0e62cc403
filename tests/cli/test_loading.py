"""Finding the app that MODULE[:APP] names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.commands import CLASS_BASED, DERIVED, PROVIDER, TWICE
from support.waiting import TIMEOUT

from arbprov.cli.loading import module_folder


@pytest.mark.parametrize("target", ["typed", "typed:app", "typed.py", "./typed.py:app"])
def test_an_app_is_found(arbprov, target):
    assert arbprov("actions", target).exit_code == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "there is no module 'nowhere' in this folder or on Python's path"),
        ("nowhere.py", "there is no file nowhere.py"),
        ("typed:nothing", "typed.nothing is not a ProviderApp; typed has 'app'"),
        ("other", "other has several apps: 'one' and 'two'; choose one as other:NAME"),
        ("other.py", "other has several apps: 'one' and 'two'; choose one as other.py:NAME"),
        ("json", "json has no ProviderApp; create one, as in app = ProviderApp()"),
        ("", "'' is neither a module's name nor the path of a .py file"),
        (".", "'.' is neither a module's name nor the path of a .py file"),
        ("./typed", "'./typed' is neither a module's name nor the path of a .py file"),
        (":app", "'' is neither a module's name nor the path of a .py file"),
    ],
)
def test_an_app_that_does_not_exist_is_wrong_usage(arbprov, folder, target, message):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\none, two = ProviderApp(), ProviderApp()\n"
    )
    result = arbprov("actions", target)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_file_whose_name_has_dots_is_wrong_usage(arbprov, folder):
    (folder / "worker.v2.py").write_text(PROVIDER)
    result = arbprov("actions", "worker.v2.py")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "worker.v2.py can't be imported, since a module's name has no dots" in message
    assert "rename the file, as in worker_v2.py" in message


RELATIVE = """
from {module} import NAME
from arbprov import ProviderApp
app = ProviderApp(NAME)
@app.action
def name() -> dict:
    return {{"name": app.name}}
"""


@pytest.fixture
def package(folder):
    """A folder with modules that import each other, and no __init__.py."""
    package = folder / "pack" / "age"
    package.mkdir(parents=True)
    (package / "names.py").write_text("NAME = 'in-a-package'\n")
    (package / "sibling.py").write_text("NAME = 'in-a-package'\n")
    (package.parent / "names.py").write_text("NAME = 'outside'\n")
    # Would replace Python's own module, if the package's folder came first.
    (package / "json.py").write_text("raise ImportError\n")
    yield package
    for name in list(sys.modules):
        if name.startswith(("pack", "age", "names", "sibling")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "inits", "name"),
    [
        (".names", [], "in-a-package"),
        ("..names", [], "outside"),
        (".names", ["age"], "in-a-package"),
        ("..names", ["age", "."], "outside"),
        ("age.names", ["age"], "in-a-package"),
        ("pack.age.names", ["age", "."], "in-a-package"),
        ("sibling", ["age"], "in-a-package"),
    ],
)
@pytest.mark.parametrize("current", [".", "pack/age"])
def test_a_file_in_a_package_can_import_from_it(
    arbprov, folder, package, monkeypatch, module, inits, name, current
):
    (package / "app.py").write_text(RELATIVE.format(module=module))
    for init in inits:
        (package.parent / init / "__init__.py").touch()
    monkeypatch.chdir(current)
    target = str((package / "app.py").relative_to(folder / current))
    result = arbprov("invoke", target, "name")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"name": name})


def test_a_package_s_own_file_can_be_the_module(arbprov, package):
    (package / "__init__.py").write_text(RELATIVE.format(module=".names"))
    assert arbprov("actions", "pack/age/__init__.py").exit_code == 0


def test_a_file_in_a_package_is_reloaded_with_its_whole_package(folder, package):
    (package / "app.py").write_text(RELATIVE.format(module="..names"))
    assert module_folder("pack/age/app.py") == folder / "pack"


@pytest.mark.parametrize("target", ["typed.py:app", "typed"])
def test_a_module_outside_of_packages_is_reloaded_with_its_folder(folder, target):
    assert module_folder(target) == Path()


def test_a_file_with_wrong_syntax_is_shown(arbprov, folder):
    (folder / "other.py").write_text("from . import\n")
    result = arbprov("actions", "other.py")
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr


@pytest.mark.parametrize(
    ("name", "other"), [("queue", "queue.py"), ("sys", "a module of Python itself")]
)
def test_a_file_with_the_name_of_another_module_is_wrong_usage(arbprov, folder, name, other):
    (folder / f"{name}.py").write_text(PROVIDER)
    result = arbprov("actions", f"{name}.py")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert f"{name}.py can't be imported, since another module has the name {name!r}: " in message
    assert f"{other}; rename the file" in message


@pytest.mark.parametrize("command", ["actions", "run", "limits"])
def test_a_module_that_runs_its_app_when_imported_is_bad_configuration(arbprov, folder, command):
    (folder / "other.py").write_text(PROVIDER.partition("if __name__")[0] + "app.run()\n")
    result = arbprov(command, "other", env={"PROVIDER_AUTH_TOKEN": "token"})
    assert result.exit_code == 78
    assert "the module other calls app.run() when it is imported; put that under" in result.stderr


def test_the_only_app_needs_no_name(arbprov, folder):
    (folder / "other.py").write_text("from arbprov import ProviderApp\none = ProviderApp()\n")
    assert arbprov("actions", "other").exit_code == 0


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (CLASS_BASED, "other"),
        (DERIVED, "other"),
        (TWICE, "other:Other"),
        (TWICE, "other:Echo"),
        (TWICE + "provider = Other()\n", "other"),
        (TWICE + "provider = Other()\n", "other:provider"),
        (TWICE + "provider = Other()\napp = provider.app\n", "other"),
    ],
)
def test_a_class_based_provider_is_found(arbprov, folder, source, target):
    (folder / "other.py").write_text(source)
    result = arbprov("invoke", target, "echo", '{"text": "hi"}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"text": "hi"})


def test_one_of_two_class_based_providers_must_be_named(arbprov, folder):
    (folder / "other.py").write_text(TWICE)
    result = arbprov("actions", "other")
    assert result.exit_code == 2
    assert "other has several apps: 'Another' and 'Other'" in " ".join(result.stderr.split())


@pytest.mark.parametrize("target", ["other", "other:Echo"])
def test_a_class_that_needs_arguments_is_wrong_usage(arbprov, folder, target):
    (folder / "other.py").write_text(CLASS_BASED.replace("(self)", "(self, zone)"))
    result = arbprov("actions", target)
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert (
        "other.Echo can't be instantiated without arguments: missing a required argument: 'zone'"
        in message
    )
    assert "as in provider = Echo(...)" in message


def test_a_type_error_in_a_class_is_shown_as_it_is(arbprov, folder):
    (folder / "other.py").write_text(CLASS_BASED.replace('"class-based"', "1 + ''"))
    result = arbprov("actions", "other")
    assert result.exit_code == 1
    assert "TypeError: unsupported operand" in result.stderr


def test_a_module_that_imports_a_missing_module_shows_its_name(arbprov, folder):
    (folder / "other.py").write_text("import not_installed\n")
    result = arbprov("actions", "other")
    assert result.exit_code == 1
    assert "No module named 'not_installed'" in result.stderr


def test_a_provider_that_misuses_arbprov_is_bad_configuration(arbprov, folder):
    (folder / "other.py").write_text(
        "from arbprov import ProviderApp\napp = ProviderApp()\napp.rate_limit('1/month')(print)\n"
    )
    assert arbprov("actions", "other").exit_code == 78


def test_an_error_in_a_module_shows_only_the_module_s_own_frames(start, folder):
    (folder / "other.py").write_text("def broken():\n    return 1 / 0\nbroken()\n")
    _, errors = start("actions", "other").communicate(timeout=TIMEOUT)
    files = [line for line in errors.splitlines() if line.startswith("  File")]
    assert len(files) == 2
    assert "ZeroDivisionError" in errors
