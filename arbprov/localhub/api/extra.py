"""What the extra `hub` installs, and the error where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from arbprov.errors import ConfigurationError

__all__ = ["check_installed"]


def check_installed(feature: str, *packages: str) -> None:
    """Check that packages of the extra `hub` are installed.

    Args:
        feature: What needs them, as the subject of the error.
        packages: The packages, as they are imported.

    Raises:
        ConfigurationError: A package is missing; the message says how to install it.

    >>> check_installed("the hub's HTTP API", "starlette", "uvicorn")
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        names = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        raise ConfigurationError(f"{feature} needs {names}: pip install 'arbprov[hub]'")
