"""What the commands that run a hub print at its start: where it listens, and what it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arbprov.cli.hub_http import INSTALL_HINT, has_http_extra
from arbprov.cli.state_folder import shorten_home

if TYPE_CHECKING:
    from arbprov.localhub import LocalHub

__all__ = ["describe_hub"]


def describe_hub(hub: LocalHub, page: str = "/") -> list[str]:
    """Return the lines about a running hub.

    Args:
        hub: The hub.
        page: The path of its page, and what follows the path.
    """
    lines = [f"The hub listens on {hub.address}; Ctrl-C ends it."]
    if hub.http_address:
        lines.append(f"Its page: http://{hub.http_address}{page}")
    elif not has_http_extra():
        lines.append(f"For its page and `arbprov tasks`: {INSTALL_HINT}")
    return [*lines, _describe_store(hub.store)]


def _describe_store(name: str) -> str:
    scheme, _, path = name.partition(":")
    if scheme == "memory":
        return "It keeps its tasks in memory, until it ends."
    place = shorten_home(Path(path).absolute()) if scheme == "sqlite" else name
    return f"It keeps its tasks in {place}."
