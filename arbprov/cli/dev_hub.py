"""The hub of ``arbprov dev``: where it keeps its history, and where its page is."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from arbprov.cli.hub_http import find_http_address
from arbprov.cli.hub_tokens import HubToken
from arbprov.cli.options import ADDRESS
from arbprov.cli.output import echo
from arbprov.cli.state_folder import make_state_folder
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = ["call_options", "page_command", "running_dev_hub", "sign_in_path"]

# In seconds. A provider that stops waits for its poll, so short polls make reloads quick.
_HOLD = 0.5
_ANY_PORT = "127.0.0.1:0"


@contextlib.contextmanager
def running_dev_hub(
    target: str | None, *, has_page: bool = False, **options: Any
) -> Iterator[LocalHub]:
    """Run a hub in the ``with`` block; it keeps its tasks in the history of a provider.

    If the history can't be used, e.g. since the hub of another `arbprov dev` does, the hub keeps
    its tasks in memory, and a line says why.

    Args:
        target: What `arbprov dev` runs, as MODULE[:APP]; None for a hub without a history.
        has_page: Whether the hub serves its page, at its usual port or at any free port.
        options: The arguments of `LocalHub`.

    Raises:
        ConfigurationError: The hub can't listen at its address.
    """
    hub = _start_with_page(target, options) if has_page else _start_hub(target, options)
    try:
        yield hub
    finally:
        hub.stop()


def _start_with_page(target: str | None, options: dict[str, Any]) -> LocalHub:
    address = _choose_page_address()
    try:
        return _start_hub(target, options | {"http": address})
    except ConfigurationError:
        if address in (None, _ANY_PORT):
            raise
        # Another program, e.g. another `arbprov dev`, may have taken the port after it was chosen.
        return _start_hub(target, options | {"http": _ANY_PORT})


def _start_hub(target: str | None, options: dict[str, Any]) -> LocalHub:
    from arbprov.localhub import LocalHub

    if target is None:
        return LocalHub(hold=_HOLD, **options).start()
    try:
        store = f"sqlite:{_make_history_path(target)}"
        return LocalHub(hold=_HOLD, store=store, **options).start()
    except ConfigurationError as error:
        hub = LocalHub(hold=_HOLD, **options).start()
        echo(f"This run keeps no history: {error}", err=True)
        return hub


def _make_history_path(target: str) -> Path:
    """Return where the tasks of a module are: a file for each module, made by its hub."""
    name = target.partition(":")[0]
    module = Path(name.removesuffix(".py") if name.endswith(".py") else name.replace(".", "/"))
    # Modules of the same name are in many folders.
    digest = hashlib.sha256(str(module.resolve()).encode(errors="surrogateescape")).hexdigest()
    return make_state_folder("dev") / f"{module.name}-{digest[:8]}.sqlite"


def _choose_page_address() -> str | None:
    """Return where a hub serves its page: at any free port if another program has the usual port.

    None if the packages of the extra ``[hub]`` are not installed.
    """
    address = find_http_address(None)
    return address if address is None or _is_free(address) else _ANY_PORT


def _is_free(address: str) -> bool:
    """Tell whether a server can listen on ``HOST:PORT`` now."""
    host, _, port = address.rpartition(":")
    with socket.socket() as server:
        # A port whose last connections have just ended is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, int(port)))
        except OSError:
            return False
    return True


def sign_in_path(hub: LocalHub, token: HubToken) -> str:
    """Return the path of a hub's page that signs the browser in, if stderr is a terminal.

    A token that the user has given, or that may get into a log, is not in it.
    """
    if not (token.is_made_here and sys.stderr.isatty()):
        return "/"
    # Browsers send the part after # to no server.
    return f"/sign-in#token={quote(hub.token, safe='')}"


def call_options(hub: LocalHub, token: HubToken) -> str:
    """Return the options that `arbprov call` needs for a hub, without a token of the user's."""
    options = [] if hub.address == ADDRESS else [f"--hub-url {shlex.quote(hub.url)}"]
    return " ".join([*options, *token.call_options()])


def page_command(target: str) -> str:
    """Return the command that runs a provider with a page, as this terminal finds it."""
    program = "arbprov"
    # As in the README: .venv/bin/arbprov.
    if shutil.which(program) is None and Path(sys.argv[0]).name == program:
        program = shlex.quote(sys.argv[0])
    return f"{program} dev {shlex.quote(target)}"
