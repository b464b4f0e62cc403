"""Turns a `TaskFilter` into conditions in SQL, for each database that a store uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs

from arbprov.localhub.tasks import TaskFilter

__all__ = ["SQLITE", "Dialect", "find_conditions"]


@attrs.frozen(kw_only=True)
class Dialect:
    """How a database writes the conditions in which databases differ.

    Each text has the database's placeholder for each parameter.

    Args:
        placeholder: The mark for a parameter.
        is_any_of: The condition that a column, as ``{column}``, is in a list.
        has_field: The condition that the column `fields` has a key with a value.
        contains: The condition that an id, a message or a payload matches a pattern in any case of
            ASCII letters, with one parameter for each; a backslash escapes.
        pack_list: Turns a list into a parameter.
    """

    placeholder: str
    is_any_of: str
    has_field: str
    contains: str
    pack_list: Callable[[list[str]], Any]


SQLITE = Dialect(
    placeholder="?",
    is_any_of="{column} IN (SELECT value FROM json_each(?))",
    # A path of json_extract cannot name a key that has a quote.
    has_field="EXISTS (SELECT 1 FROM json_each(fields) AS field WHERE key = ? AND value = ?)",
    contains=(
        r"(id LIKE ? ESCAPE '\' OR message LIKE ? ESCAPE '\'"
        r" OR CAST(payload AS TEXT) LIKE ? ESCAPE '\')"
    ),
    pack_list=json.dumps,
)


def find_conditions(
    where: TaskFilter, before: int | None, after: int | None, dialect: Dialect
) -> tuple[str, list[Any]]:
    """Return what follows WHERE, and its parameters.

    The columns of tasks and their payloads have the names of `StoredTask` and `NewTask`.

    Args:
        where: The filter.
        before: Only tasks with lower numbers; None for all.
        after: Only tasks with higher numbers; None for all.
        dialect: How the database writes it.

    >>> find_conditions(TaskFilter(action="forecast", provider="p"), 7, None, SQLITE)
    ('number < ? AND action = ? AND (provider = ? OR worker = ?)', [7, 'forecast', 'p', 'p'])
    >>> find_conditions(TaskFilter(), None, None, SQLITE)
    ('true', [])
    """
    mark = dialect.placeholder
    is_any_of, pack_list = dialect.is_any_of, dialect.pack_list
    states = [state.value for state in where.states]
    # It reads every payload that meets the other conditions; callers bound that.
    pattern = f"%{_escape(where.text)}%"
    possible: list[tuple[bool, str, list[Any]]] = [
        (before is not None, f"number < {mark}", [before]),
        (after is not None, f"number > {mark}", [after]),
        (bool(where.ids), is_any_of.format(column="id"), [pack_list(list(where.ids))]),
        (bool(states), is_any_of.format(column="state"), [pack_list(states)]),
        (bool(where.action), f"action = {mark}", [where.action]),
        (bool(where.account_key), f"account_key = {mark}", [where.account_key]),
        (
            bool(where.account_prefix),
            f"substr(account_key, 1, {mark}) = {mark}",
            [len(where.account_prefix), where.account_prefix],
        ),
        (bool(where.error_type), f"error_type = {mark}", [where.error_type]),
        (bool(where.provider), f"(provider = {mark} OR worker = {mark})", [where.provider] * 2),
        (where.created_after is not None, f"created_at >= {mark}", [where.created_after]),
        (where.created_before is not None, f"created_at < {mark}", [where.created_before]),
        *((True, dialect.has_field, [key, value]) for key, value in where.fields),
        (bool(where.text), dialect.contains, [pattern] * 3),
    ]
    chosen = [(condition, values) for is_set, condition, values in possible if is_set]
    conditions = " AND ".join(condition for condition, _ in chosen) or "true"
    return conditions, [value for _, values in chosen for value in values]


def _escape(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text
