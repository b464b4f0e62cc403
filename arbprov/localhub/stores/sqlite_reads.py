"""All that is read of a hub's SQLite file."""

from __future__ import annotations

import collections
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from arbprov.localhub.store import StoredToken
from arbprov.localhub.stores.search import SQLITE, find_conditions
from arbprov.localhub.tasks import (
    Attempt,
    Ending,
    Pause,
    PauseKind,
    Scope,
    State,
    StoredTask,
    TaskFilter,
)

__all__ = ["Reads"]

_TASKS = """
SELECT task.number, id, action, state, {payload}, account, account_key, task.provider, priority,
       not_before, expires_at, max_deliveries, idempotency_key, traceparent, task.attempt,
       deliveries, lease_ends_at, created_at, task.started_at, task.ended_at, worker,
       coalesce(attempt.status, ''), {result}, message, error_type, reason
FROM task JOIN body ON body.task = task.number
LEFT JOIN attempt ON attempt.task = task.number AND attempt.attempt = result_of
WHERE task.number IN ({numbers}) ORDER BY task.number DESC
"""
_WHOLE = {"payload": "payload", "result": "coalesce(attempt.result, '')"}
_PREVIEW = {"payload": "substr(payload, 1, ?)", "result": "''"}
# In the order of the columns above.
_FIELDS = [field.name for field in attrs.fields(StoredTask)]
_ATTEMPTS = """
SELECT attempt, provider, started_at, ended_at, end, status, result FROM attempt
WHERE task = (SELECT number FROM task WHERE id = ?) ORDER BY attempt
"""
_ASIDE = """
SELECT attempt, result FROM aside
WHERE task = (SELECT number FROM task WHERE id = ?) ORDER BY number
"""
_NUMBERS = """
SELECT number FROM task LEFT JOIN body ON body.task = number WHERE {where}
ORDER BY number DESC LIMIT ? OFFSET ?
"""
_POSITION = """
SELECT count(*) FROM task JOIN task AS this ON task.lane = this.lane AND task.number < this.number
WHERE this.id = ?
"""


class Reads:
    """Reads tasks, attempts, holds, pauses and tokens.

    Args:
        database: A connection, which need not be able to write.

    >>> from arbprov.localhub.stores.sqlite_schema import migrate
    >>> database = sqlite3.connect(":memory:", isolation_level=None)
    >>> migrate(database)
    >>> Reads(database).count(TaskFilter(), most=10)
    0
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._execute = database.execute

    def get(self, id: str) -> StoredTask | None:
        """See `Store.get`."""
        found = self._load("SELECT number FROM task WHERE id = ?", [id])
        return found[0] if found else None

    def ended(self, ids: Sequence[str]) -> list[StoredTask]:
        """See `Store.ended`."""
        return self._load(
            "SELECT number FROM task WHERE ended_at IS NOT NULL "
            "AND id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(ids))],
        )

    def attempts(self, id: str) -> list[Attempt]:
        """See `Store.attempts`."""
        aside: dict[int, tuple[str, ...]] = collections.defaultdict(tuple)
        for attempt, result in self._execute(_ASIDE, [id]):
            aside[attempt] += (result,)
        return [
            Attempt(
                number=number,
                provider=provider,
                started_at=started_at,
                ended_at=ended_at,
                end=end,
                status=status,
                result=result,
                aside=aside[number],
            )
            for number, provider, started_at, ended_at, end, status, result in self._execute(
                _ATTEMPTS, [id]
            )
        ]

    def search(
        self,
        where: TaskFilter,
        before: int | None,
        after: int | None,
        limit: int,
        preview: int | None,
    ) -> list[StoredTask]:
        """See `Store.search`."""
        conditions, parameters = find_conditions(where, before, after, SQLITE)
        return self._load(_NUMBERS.format(where=conditions), [*parameters, limit, 0], preview)

    def count(
        self, where: TaskFilter, before: int | None = None, after: int | None = None, *, most: int
    ) -> int:
        """See `Store.count`."""
        conditions, parameters = find_conditions(where, before, after, SQLITE)
        numbers = _NUMBERS.format(where=conditions)
        n: int = self._execute(
            f"SELECT count(*) FROM ({numbers})",  # noqa: S608
            [*parameters, most, 0],
        ).fetchone()[0]
        return n

    def find_end(self, where: TaskFilter, before: int | None, most: int) -> int | None:
        """See `Store.find_end`."""
        conditions, parameters = find_conditions(where, before, None, SQLITE)
        row = self._execute(_NUMBERS.format(where=conditions), [*parameters, 1, most]).fetchone()
        return None if row is None else row[0]

    def counts(self) -> Mapping[str, Mapping[State, int]]:
        """See `Store.counts`."""
        counts: dict[str, dict[State, int]] = {}
        for action, state, n in self._execute("SELECT action, state, n FROM counter WHERE n > 0"):
            counts.setdefault(action, {})[State(state)] = n
        return counts

    def endings(self, limit: int) -> list[Ending]:
        """See `Store.endings`."""
        return [
            Ending(
                action=action,
                state=State(state),
                started_at=started_at,
                ended_at=ended_at,
                error_type=error_type,
            )
            for action, state, started_at, ended_at, error_type in self._execute(
                "SELECT action, state, started_at, ended_at, error_type FROM task "
                "WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, number DESC LIMIT ?",
                [limit],
            )
        ]

    def held(self) -> list[Scope]:
        """See `Store.held`."""
        return [
            Scope(
                action=action,
                account_key=account_key,
                held_until=held_until,
                limit=limit,
                since=since,
                room=room,
            )
            for action, account_key, held_until, limit, since, room in self._execute(
                "SELECT action, account_key, iif(room, since, due_at), limit_text, since, room "
                "FROM hold ORDER BY since, action, account_key"
            )
        ]

    def pauses(self) -> list[Pause]:
        """See `Store.pauses`."""
        return [
            Pause(PauseKind(kind), name, at)
            for kind, name, at in self._execute("SELECT kind, name, at FROM pause")
        ]

    def position(self, id: str) -> int:
        """See `Store.position`."""
        position: int = self._execute(_POSITION, [id]).fetchone()[0]
        return position

    def tokens(self) -> list[StoredToken]:
        """See `Store.tokens`."""
        return [
            StoredToken(
                name=name, role=role, provider=provider, digest=digest, created_at=created_at
            )
            for name, role, provider, digest, created_at in self._execute(
                "SELECT name, role, provider, digest, created_at FROM token ORDER BY name"
            )
        ]

    def _load(
        self, numbers: str, parameters: Sequence[Any], preview: int | None = None
    ) -> list[StoredTask]:
        """Return the tasks whose numbers a query finds, the latest first."""
        columns = _WHOLE
        if preview is not None:
            columns, parameters = _PREVIEW, [preview, *parameters]
        rows = self._execute(_TASKS.format(numbers=numbers, **columns), parameters)
        return [_make_task(row) for row in rows]


def _make_task(row: tuple[Any, ...]) -> StoredTask:
    values = dict(zip(_FIELDS, row, strict=True))
    return StoredTask(**values | {"state": State(values["state"])})
