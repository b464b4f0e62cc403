"""Finding the app that ``MODULE[:APP]`` names."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from arbprov.app import ProviderApp, importing_app
from arbprov.cli.options import names
from arbprov.compat import Provider
from arbprov.errors import ProviderError

__all__ = ["TARGET", "app_argument", "app_of", "load_app", "module_folder"]

TARGET = "MODULE[:APP]"
_IMPORTERS = (__name__, "importlib")


class TargetError(LookupError):
    """There is no such module, or no such app in it."""


def app_of(ctx: click.Context, target: str) -> ProviderApp:
    """Return the app that was typed; if there is none, end the command and say why."""
    try:
        return load_app(target)
    except TargetError as error:
        raise click.BadParameter(str(error), ctx, param_hint=f"'{TARGET}'") from None
    except ProviderError:
        raise
    except Exception as error:
        click.echo(_own_traceback(error), nl=False, err=True)
        ctx.exit(1)


def _own_traceback(error: Exception) -> str:
    """Return an error's traceback without the frames of what has imported the module."""
    part = error.__traceback__
    while part is not None and part.tb_frame.f_globals.get("__name__", "").startswith(_IMPORTERS):
        part = part.tb_next
    return "".join(traceback.format_exception(type(error), error, part))


app_argument = click.argument(
    "app", metavar=TARGET, callback=lambda ctx, param, value: app_of(ctx, value)
)


def load_app(target: str) -> ProviderApp:
    """Return the app that `target` names.

    Raises:
        TargetError: There is no such module, or no such app in it.
    """
    module_name, _, app_name = target.partition(":")
    module = _import(module_name)
    return _named(module, app_name) if app_name else _only(module)


def module_folder(target: str) -> Path:
    """Return the folder that a target's module is looked for in."""
    module_name = target.partition(":")[0]
    return Path(module_name).parent if module_name.endswith(".py") else Path()


def _import(name: str) -> ModuleType:
    sys.path.insert(0, str(module_folder(name).resolve()))
    if name.endswith(".py"):
        return _import_file(Path(name))
    if not all(name.split(".")):
        raise TargetError(f"{name!r} is no name of a module, and no path of a .py file")
    return _import_module(name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    module = _import_module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise TargetError(
            f"{path} can't be imported, since another module is named {path.stem!r}: "
            f"{found or 'one of Python itself'}; rename the file"
        )
    return module


def _import_module(name: str) -> ModuleType:
    try:
        with importing_app(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module itself: one that it imports and misses is its own error.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(
                f"there is no module {name!r} here; it is looked for as one would import it, "
                f"or give the path of a .py file"
            ) from None
        raise


def _named(module: ModuleType, name: str) -> ProviderApp:
    found = _app_from(getattr(module, name, None))
    if found is None:
        raise TargetError(f"{module.__name__}.{name} is no ProviderApp; there {_there(module)}")
    return found


def _only(module: ModuleType) -> ProviderApp:
    if isinstance(app := vars(module).get("app"), ProviderApp):
        return app
    found = _names(module)
    if len(found) != 1:
        raise TargetError(
            f"which app of {module.__name__} is meant? There {_there(module)}; "
            f"say it as {module.__name__}:NAME"
        )
    return _named(module, found[0])


def _app_from(value: Any) -> ProviderApp | None:
    """Return the app that a value is, or is made of: a class-based provider, or a class of such."""
    provider = _made(value) if _is_class(value) else value
    app = provider.app if isinstance(provider, Provider) else value
    return app if isinstance(app, ProviderApp) else None


def _made(cls: type[Any]) -> Any:
    name = cls.__name__
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise TargetError(
            f"{cls.__module__}.{name} can't be made here, {error}; make an instance in the module, "
            f"as in provider = {name}(...)"
        ) from None
    return cls()


def _is_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Provider)


def _names(module: ModuleType) -> list[str]:
    """Return the names of a module's apps and providers; if there is none, of its own classes."""
    here = vars(module).items()
    found = [name for name, value in here if isinstance(value, (ProviderApp, Provider))]
    return found or _names_of_classes(module)


def _names_of_classes(module: ModuleType) -> list[str]:
    own = {
        n: v for n, v in vars(module).items() if _is_class(v) and v.__module__ == module.__name__
    }
    bases = {base for cls in own.values() for base in cls.__mro__[1:]}
    return [name for name, cls in own.items() if cls not in bases]


def _there(module: ModuleType) -> str:
    found = sorted(_names(module))
    return f"is {names(found)}" if found else "is none"
