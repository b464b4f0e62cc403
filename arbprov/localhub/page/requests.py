"""Reads what a browser sends: the fields of a form, and the filters in an address."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from arbprov.localhub.api.parsing import MAX_BODY, read_bytes, read_query
from arbprov.localhub.api.problems import ApiProblem, invalid_value
from arbprov.localhub.api.shapes import ListQuery

__all__ = ["AGES", "Form", "field", "find_filters", "read_form", "read_list_query", "safe_target"]

#: The fields of a form, in their order.
Form = Sequence[tuple[str, str]]

#: Seconds that a list may look back, by what the address has in place of a time.
AGES = {"15 min": 900.0, "60 min": 3_600.0, "24 h": 86_400.0}

_MEDIA_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 10_000
# The box for a value of the payload, as NAME=VALUE.
_WHERE = "where"


async def read_form(request: Request, max_size: int = MAX_BODY) -> Form:
    """Return the fields of a form that was sent.

    Args:
        request: The request.
        max_size: Bytes of the largest form.

    Raises:
        ApiProblem: The body is too large, or is not a form.
    """
    raw = await read_bytes(request, max_size)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and kind != _MEDIA_TYPE:
        raise ApiProblem(415, f"a form is sent as {_MEDIA_TYPE}")
    try:
        return parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise invalid_value("the form is not UTF-8") from None
    except ValueError:
        raise invalid_value(f"the form has more than {_MAX_FIELDS:,} fields") from None


def field(form: Form, name: str) -> str:
    """Return a field of a form; empty without it.

    >>> field([("a", "1")], "a"), field([("a", "1")], "b")
    ('1', '')
    """
    return next((value for key, value in form if key == name), "")


def find_filters(query: str) -> Form:
    """Return the parameters of an address that are set; a form sends its empty fields too.

    Raises:
        ApiProblem: The value of the payload that is searched for has no name.

    >>> find_filters("action=&state=done&where=city%3DParis")
    [('state', 'done'), ('payload.city', 'Paris')]
    """
    found = []
    for name, value in parse_qsl(query, errors="replace"):
        text = value.strip()
        key, equals, wanted = text.partition("=")
        if name == _WHERE and text:
            if not equals or not key.strip():
                raise invalid_value("expected NAME=VALUE, such as city=Paris", "payload field")
            found.append((f"payload.{key.strip()}", wanted.strip()))
        elif text:
            found.append((name, text))
    return found


def read_list_query(request: Request, filters: Form, now: float) -> ListQuery:
    """Return filters as the API reads them.

    Args:
        request: The request.
        filters: The filters.
        now: The time in seconds since 1970, from which a list looks back.

    Raises:
        ApiProblem: A filter is unknown, is there twice, or has a wrong value.
    """
    pairs = [
        (name, f"{now - AGES[value]:.3f}" if name == "created_after" and value in AGES else value)
        for name, value in filters
    ]
    scope = {**request.scope, "query_string": urlencode(pairs).encode()}
    return read_query(Request(scope), ListQuery)


def safe_target(text: str, default: str) -> str:
    """Return a path of this hub to go to; a default for any other address.

    >>> safe_target("/tasks?state=done", "/"), safe_target("//evil.example", "/")
    ('/tasks?state=done', '/')
    """
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own else default
