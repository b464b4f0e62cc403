"""Which tasks are meant: filters, and the pages of a list."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

import attrs

from arbprov.localhub.api.fields import to_seconds
from arbprov.localhub.api.problems import invalid_value
from arbprov.localhub.api.shapes import TaskFilterBody
from arbprov.localhub.store import Store
from arbprov.localhub.tasks import State, TaskFilter

__all__ = ["MOST_SEARCHED", "among", "find_search_end", "make_cursor", "read_cursor", "to_filter"]

# A request looks for a text in the payloads of so many tasks: about 0.1 s for small payloads.
MOST_SEARCHED = 100_000
_MAX_VALUE = 1_000
# Numbers of tasks are integers of 64 bits.
_MAX_NUMBER = 2**63


def to_filter(body: TaskFilterBody) -> TaskFilter:
    """Return a filter for the store.

    Raises:
        ApiProblem: A value of the payload is not valid.
    """
    return TaskFilter(
        ids=tuple(body.id),
        action=body.action or "",
        account_key=body.account or "",
        provider=body.provider or "",
        states=tuple(body.state),
        error_type=body.error_type or "",
        text=body.text or "",
        fields=tuple(_read_field(name, value) for name, value in body.payload.items()),
        created_after=to_seconds(body.created_after),
        created_before=to_seconds(body.created_before),
    )


def _read_field(name: str, value: object) -> tuple[str, str]:
    # As the store keeps the values of payloads for searches.
    text = value if isinstance(value, str) else json.dumps(value)
    path = f"payload.{name}"
    if not name or "\0" in name + text:
        raise invalid_value("must have a name, and no NUL", path)
    if len(name) > _MAX_VALUE or len(text) > _MAX_VALUE:
        raise invalid_value(f"must have at most {_MAX_VALUE:,} characters", path)
    try:
        (name + text).encode()
    except UnicodeEncodeError:
        raise invalid_value("a string with a lone surrogate is not Unicode text", path) from None
    return name, text


def among(where: TaskFilter, states: Sequence[State]) -> TaskFilter | None:
    """Return a filter for its tasks in some states; None if there are none.

    >>> among(TaskFilter(states=(State.DONE, State.DEAD)), [State.DEAD]).states
    (<State.DEAD: 'dead'>,)
    """
    if not where.states:
        return attrs.evolve(where, states=tuple(states))
    both = tuple(state for state in where.states if state in states)
    return attrs.evolve(where, states=both) if both else None


async def find_search_end(store: Store, where: TaskFilter, before: int | None) -> int | None:
    """Return the number at which a page's search for a text ends, as `after` of `Store.search`.

    The next page begins with the task of this number.

    Args:
        store: The tasks.
        where: Which tasks.
        before: Only tasks with lower numbers.

    Returns:
        None if the search goes through all tasks.
    """
    if not where.text:
        return None
    others = attrs.evolve(where, text="")
    return await store.find_end(others, before=before, most=MOST_SEARCHED)


def make_cursor(number: int) -> str:
    """Return the cursor of the page behind a task, by the task's number.

    >>> read_cursor(make_cursor(17))
    17
    """
    return base64.urlsafe_b64encode(f"before {number}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the number in a cursor.

    Raises:
        ApiProblem: It is not a cursor.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        word, _, digits = raw.decode("ascii").partition(" ")
    except (binascii.Error, ValueError):
        word = digits = ""
    if word != "before" or not digits.isdecimal() or len(digits) > 19:
        raise invalid_value("expected the `next` of the page before", "cursor")
    if (number := int(digits)) >= _MAX_NUMBER:
        raise invalid_value("expected the `next` of the page before", "cursor")
    return number
