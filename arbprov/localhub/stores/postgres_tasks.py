"""Tasks of the PostgreSQL store that a transaction has locked, and what becomes of them."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from arbprov.localhub.stores.postgres_lanes import LaneKey
from arbprov.localhub.stores.postgres_results import KnownTask
from arbprov.localhub.tasks import ReceivedResult, State

__all__ = [
    "LOCK_TASKS",
    "Connection",
    "Group",
    "add_counts",
    "change",
    "clamp",
    "count",
    "end_attempts",
    "key_of",
    "known_task",
    "lock_tasks",
    "transpose",
]

Connection = psycopg.AsyncConnection[Any]
Group = tuple[str, str]
# In seconds; PostgreSQL has dates until 294276.
_LONGEST = 1e10
LOCK_TASKS = """
SELECT number, id, action, account_key, provider, priority, lane, state, queued, attempt,
       deliveries, max_deliveries, worker, episode
FROM arbprov.tasks WHERE id = ANY(%(ids)s) ORDER BY number FOR NO KEY UPDATE
"""
_CHANGE = """
UPDATE arbprov.tasks SET
    state = new.state, queued = new.queued, deliveries = new.deliveries, episode = NULL,
    due_at = CASE WHEN new.queued AND attempt = 0 THEN expires_at END,
    ended_at = CASE WHEN new.state NOT IN ('waiting', 'running') THEN now() END,
    result_of = new.result_of, status = new.status, message = new.message,
    error_type = new.error_type, reason = new.reason
FROM unnest(
    %(number)s::bigint[], %(state)s::text[], %(queued)s::bool[], %(deliveries)s::int[],
    %(result_of)s::int[], %(status)s::text[], %(message)s::text[], %(error_type)s::text[],
    %(reason)s::text[]
) AS new (number, state, queued, deliveries, result_of, status, message, error_type, reason)
WHERE tasks.number = new.number
"""
_COUNT = """
INSERT INTO arbprov.counts SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[])
"""
_END_ATTEMPTS = """
UPDATE arbprov.attempts SET ended_at = now(), ended_as = %s
FROM unnest(%s::bigint[], %s::int[]) AS given (task, number)
WHERE attempts.task = given.task AND attempts.number = given.number
"""


def clamp(seconds: float) -> float:
    """Return seconds from now on that PostgreSQL can add.

    >>> clamp(-1.0), clamp(600.0)
    (0.0, 600.0)
    """
    return min(max(seconds, 0.0), _LONGEST)


def transpose(rows: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Return the columns of rows, also if there are no rows.

    >>> transpose([(1, 2), (3, 4)], 2)
    [[1, 3], [2, 4]]
    """
    return [[row[place] for row in rows] for place in range(width)]


def key_of(task: KnownTask) -> LaneKey:
    """Return the key of a task's lane."""
    return LaneKey(task.lane, task.provider, task.action, task.account_key, task.priority)


async def lock_tasks(connection: Connection, ids: Sequence[str]) -> list[KnownTask]:
    """Lock the tasks that exist, in the order of their numbers."""
    cursor = await connection.execute(LOCK_TASKS, {"ids": list(ids)})
    return [known_task(row) for row in await cursor.fetchall()]


def known_task(row: Sequence[Any]) -> KnownTask:
    """Return a task from the columns that `lock_tasks` selects."""
    number, task_id, action, account_key, provider, priority, lane, state, queued, *rest = row
    attempt, deliveries, max_deliveries, worker, episode = rest
    return KnownTask(
        number=number,
        id=task_id,
        action=action,
        account_key=account_key,
        provider=provider,
        priority=priority,
        lane=lane,
        state=State(state),
        is_queued=queued,
        attempt=attempt,
        deliveries=deliveries,
        max_deliveries=max_deliveries,
        worker=worker,
        episode=episode,
    )


async def change(connection: Connection, tasks: Collection[KnownTask]) -> None:
    """Store what has become of tasks, of which none runs any more, and count them."""
    nothing = ReceivedResult(id="", status="")
    results = [task.recorded or nothing for task in tasks]
    parameters = {
        "number": [task.number for task in tasks],
        "state": [task.state.value for task in tasks],
        "queued": [task.is_queued for task in tasks],
        "deliveries": [task.deliveries for task in tasks],
        "result_of": [task.recorded_attempt for task in tasks],
        "status": [result.status for result in results],
        "message": [result.message for result in results],
        "error_type": [result.error_type for result in results],
        "reason": [task.reason for task in tasks],
    }
    await connection.execute(_CHANGE, parameters)
    await count(connection, tasks)


async def count(connection: Connection, tasks: Collection[KnownTask]) -> None:
    """Count the changes of tasks."""
    changes: collections.Counter[tuple[str, str]] = collections.Counter()
    for task in tasks:
        changes[task.action, task.was.value] -= 1
        changes[task.action, task.state.value] += 1
    rows = [(*key, change) for key, change in changes.items() if change]
    await add_counts(connection, rows)


async def add_counts(connection: Connection, changes: Sequence[tuple[str, str, int]]) -> None:
    """Count changes of the number of an action's tasks in a state."""
    await connection.execute(_COUNT, transpose(changes, 3))


async def end_attempts(connection: Connection, tasks: Sequence[KnownTask], end: str) -> None:
    """End the latest attempts of tasks."""
    numbers = [task.number for task in tasks]
    await connection.execute(_END_ATTEMPTS, [end, numbers, [task.attempt for task in tasks]])
