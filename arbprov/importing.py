"""Importing a module for the app in it, which must not run meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from arbprov.errors import ConfigurationError

__all__ = ["check_not_importing", "importing_app"]

_being_imported: list[str] = []


@contextlib.contextmanager
def importing_app(name: str) -> Iterator[None]:
    """Have no app run until the module of this name is imported."""
    _being_imported.append(name)
    try:
        yield
    finally:
        _being_imported.pop()


def check_not_importing() -> None:
    """Refuse to run an app whose module is being imported.

    Raises:
        ConfigurationError: One is, so whoever wants its app would never get it.
    """
    if _being_imported:
        raise ConfigurationError(
            f"the module {_being_imported[-1]} calls app.run() when it is imported; put that under "
            f'`if __name__ == "__main__":`'
        )
