"""Loading the app that ``MODULE[:APP]`` names."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from arbprov._utils import format_user_traceback
from arbprov.app import ProviderApp, importing_app
from arbprov.cli.output import join_names
from arbprov.compat import Provider
from arbprov.errors import ProviderError

__all__ = ["TARGET", "app_argument", "load_app", "load_app_or_exit", "module_folder"]

TARGET = "MODULE[:APP]"


class TargetError(LookupError):
    """The module does not exist, or has no such app."""


def load_app_or_exit(ctx: click.Context, target: str) -> ProviderApp:
    """Return the app that `target` names, or say why there is none and end the command.

    Raises:
        ProviderError: The module uses arbprov the wrong way.
    """
    try:
        return load_app(target)
    except TargetError as error:
        raise click.BadParameter(str(error), ctx, param_hint=f"'{TARGET}'") from None
    except ProviderError:
        raise
    except Exception as error:
        click.echo(format_user_traceback(error), err=True)
        ctx.exit(1)


def load_app_argument(ctx: click.Context, param: click.Parameter, target: str) -> ProviderApp:
    """Return the app that an argument names; what its module prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return load_app_or_exit(ctx, target)


app_argument = click.argument("app", metavar=TARGET, callback=load_app_argument)


def module_folder(target: str) -> Path:
    """Return the folder with the files of a target: its module's, or its whole package's."""
    module_name = target.partition(":")[0]
    if not module_name.endswith(".py"):
        return Path()
    path = Path(module_name)
    root, name = _locate(path)
    return root / name.split(".")[0] if "." in name else path.parent


def load_app(target: str) -> ProviderApp:
    """Return the app that `target` names.

    Raises:
        TargetError: The module does not exist, or has no such app.
        Exception: The module's own error.
    """
    module_name, _, app_name = target.partition(":")
    module = _import(module_name)
    if app_name:
        return _get_app(module, app_name)
    if isinstance(app := vars(module).get("app"), ProviderApp):
        return app
    names = _list_apps(module)
    if len(names) == 1:
        return _get_app(module, names[0])
    name = module.__name__
    if not names:
        raise TargetError(f"{name} has no ProviderApp; create one, as in app = ProviderApp()")
    known = join_names(names)
    raise TargetError(f"{name} has several apps: {known}; choose one as {module_name}:NAME")


def _import(name: str) -> ModuleType:
    if not name.endswith(".py"):
        if not all(name.split(".")):
            raise TargetError(f"{name!r} is neither a module's name nor the path of a .py file")
        sys.path.insert(0, str(Path.cwd()))
        return _import_module(name)
    path = Path(name)
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    if "." in path.stem:
        raise TargetError(
            f"{path} can't be imported, since a module's name has no dots; "
            f"rename the file, as in {path.stem.replace('.', '_')}.py"
        )
    root, module_name = _locate(path)
    sys.path.insert(0, str(root))
    if "." in module_name:
        # Last, so that a module of the package can't replace a module of Python.
        sys.path.append(str(path.parent.resolve()))
    module = _import_module(module_name)
    file = getattr(module, "__file__", None)
    if file is None or not path.samefile(file):
        raise TargetError(
            f"{path} can't be imported, since another module has the name {module_name!r}: "
            f"{file or 'a module of Python itself'}; rename the file"
        )
    return module


def _locate(path: Path) -> tuple[Path, str]:
    """Return the folder that a file is imported from, and its module's name from there.

    The name begins with the packages around the file: the folders with an __init__.py, and any that
    the file's relative imports need.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it will say so
        tree = ast.Module([], [])
    levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    # How many folders up the relative imports reach.
    needed = max(levels, default=0)
    folder, names = path.resolve().parent, [path.stem]
    while folder.name.isidentifier() and ((folder / "__init__.py").exists() or needed > 0):
        names.insert(0, folder.name)
        folder, needed = folder.parent, needed - 1
    if names[1:] and names[-1] == "__init__":
        del names[-1]
    return folder, ".".join(names)


def _import_module(name: str) -> ModuleType:
    try:
        with importing_app(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that `name` itself fails to import is an error of `name`.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(
                f"there is no module {name!r} in this folder or on Python's path; give a module's "
                f"name as for import, or the path of a .py file"
            ) from None
        raise


def _get_app(module: ModuleType, name: str) -> ProviderApp:
    """Return a module's app of this name, or the app of its class-based provider of this name."""
    value: Any = getattr(module, name, None)
    if _is_provider_class(value):
        try:
            inspect.signature(value).bind()
        except TypeError as error:
            raise TargetError(
                f"{value.__module__}.{value.__name__} can't be instantiated without arguments: "
                f"{error}; create an instance in the module, as in provider = {value.__name__}(...)"
            ) from None
        value = value()
    app = value.app if isinstance(value, Provider) else value
    if not isinstance(app, ProviderApp):
        names = _list_apps(module)
        known = join_names(names) if names else "no app"
        raise TargetError(
            f"{module.__name__}.{name} is not a ProviderApp; {module.__name__} has {known}"
        )
    return app


def _is_provider_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Provider)


def _list_apps(module: ModuleType) -> list[str]:
    """Return the names of a module's apps and providers; without any, of its provider classes."""
    values = vars(module).items()
    if names := sorted(name for name, v in values if isinstance(v, (ProviderApp, Provider))):
        return names
    own = {n: v for n, v in values if _is_provider_class(v) and v.__module__ == module.__name__}
    bases = {base for cls in own.values() for base in cls.__mro__[1:]}
    return sorted(name for name, cls in own.items() if cls not in bases)
