"""The folder for what the bundled hub keeps between runs: its tasks and its token."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from arbprov.errors import ConfigurationError

__all__ = ["find_state_folder", "make_state_folder", "shorten_home"]

_NAME = "arbprov"


def find_state_folder(
    environ: Mapping[str, str] | None = None, platform: str = sys.platform
) -> Path:
    """Return the user's folder for the state of arbprov, which need not exist.

    Args:
        environ: The environment; the process's own by default.
        platform: The operating system, as `sys.platform` names it.

    Raises:
        ConfigurationError: The user has no home folder.

    >>> find_state_folder({"XDG_STATE_HOME": "/var/state"}, "linux").as_posix()
    '/var/state/arbprov'
    """
    environ = os.environ if environ is None else environ
    if platform == "win32":
        name, default = "LOCALAPPDATA", ("AppData", "Local")
    elif platform == "darwin":
        name, default = "", ("Library", "Application Support")
    else:
        name, default = "XDG_STATE_HOME", (".local", "state")
    folder = Path(environ.get(name, ""))
    # The specification of XDG_STATE_HOME has programs ignore relative paths.
    if folder.is_absolute():
        return folder / _NAME
    try:
        return Path.home().joinpath(*default, _NAME)
    except RuntimeError:
        raise ConfigurationError(
            "this user has no home folder to keep the hub's tasks and token in; "
            "set HOME, or the hub's --store and --token-file"
        ) from None


def make_state_folder(part: str = "") -> Path:
    """Return the folder of `find_state_folder`; make it, for its user alone, if there is none.

    Args:
        part: The name of a folder in it, to make and return; empty for the folder itself.

    Raises:
        ConfigurationError: The folder cannot be made.
    """
    folder = find_state_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / part).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"can't make the folder {folder} for the hub's tasks and token: {error.strerror}; "
            f"set the hub's --store and --token-file"
        ) from None
    return folder / part


def shorten_home(path: Path) -> str:
    """Return a path for a shell, with ``~`` for the user's home folder if it needs no quotes."""
    text = shlex.quote(str(path))
    home = os.path.expanduser("~")
    return f"~{text.removeprefix(home)}" if text.startswith(f"{home}{os.sep}") else text
