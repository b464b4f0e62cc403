"""Renders the templates, with what every page shows."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from arbprov.localhub.page import words
from arbprov.localhub.page.accounts import short_key
from arbprov.localhub.tokens import Role

__all__ = ["Renderer", "StaticFiles", "make_version"]

_FOLDER = Path(__file__).parent
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_YEAR = 365 * 24 * 3600


class StaticFiles:
    """The scripts and styles, in memory; an address has the content's hash, and never changes."""

    def __init__(self) -> None:
        self._files = {
            path.name: path.read_bytes()
            for path in sorted((_FOLDER / "static").iterdir())
            if path.suffix in _MEDIA_TYPES
        }

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"/static/{name}?v={hashlib.sha256(self._files[name]).hexdigest()[:12]}"

    async def show(self, request: Request) -> Response:
        """Return a file; 404 without it."""
        name = request.path_params["name"]
        if name not in self._files:
            return Response(status_code=404)
        return Response(
            self._files[name],
            media_type=_MEDIA_TYPES[Path(name).suffix],
            headers={"Cache-Control": f"public, max-age={_YEAR}, immutable"},
        )


class Renderer:
    """Renders templates; all values are escaped.

    Args:
        static: The scripts and styles.
    """

    def __init__(self, static: StaticFiles) -> None:
        self._environment = environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            age=lambda when: words.format_age(time.time() - when),
            duration=words.format_duration,
            span=words.format_span,
            time=words.format_time,
            clock=lambda when: words.format_clock(when, time.time()),
            iso=lambda when: words.format_time(when).replace(" UTC", "Z").replace(" ", "T"),
            short_count=words.format_short_count,
            short_key=short_key,
            part=lambda text: quote(text, safe=""),
        )
        environment.globals.update(static=static.url, address=_address)

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> Response:
        """Return a page, or a part of one.

        Args:
            request: The request.
            template: The template's name, without its ending.
            status: The HTTP status.
            values: The template's values.
        """
        query = request.scope["query_string"].decode("ascii", "replace")
        common = {
            "role": request.state.role,
            "is_admin": request.state.role is Role.ADMIN,
            "path": request.url.path,
            "here": request.url.path + (f"?{query}" if query else ""),
        }
        text = self._environment.get_template(f"{template}.html").render(common | values)
        # A payload that was sent as bytes may hold half a character.
        return HTMLResponse(text.encode(errors="replace"), status)

    def text(self, template: str, **values: Any) -> str:
        """Return a page for a person, signed in or not."""
        common = {"role": None, "is_admin": False, "path": "", "here": "/"}
        return self._environment.get_template(f"{template}.html").render(common | values)


def _address(path: str, *pairs: tuple[str, str], **more: str) -> str:
    """Return an address with parameters; empty parameters are left out."""
    query = urlencode([(name, value) for name, value in (*pairs, *more.items()) if value])
    return f"{path}?{query}" if query else path


def make_version(*parts: Any) -> str:
    """Return a text that changes when a part of a page does.

    >>> make_version(1, "a") == make_version(1, "b")
    False
    """
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:16]
