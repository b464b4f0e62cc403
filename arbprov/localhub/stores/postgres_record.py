"""How the PostgreSQL store records results."""

from __future__ import annotations

from collections.abc import Sequence

from arbprov.localhub.stores.postgres_holds import update_groups
from arbprov.localhub.stores.postgres_lanes import enqueue
from arbprov.localhub.stores.postgres_results import KnownAttempt, settle
from arbprov.localhub.stores.postgres_tasks import (
    LOCK_TASKS,
    Connection,
    change,
    key_of,
    known_task,
)
from arbprov.localhub.tasks import Outcome, ReceivedResult

__all__ = ["record"]

_ATTEMPTS = """
SELECT attempts.task, attempts.number, ended_as, attempts.status, attempts.result
FROM unnest(%(ids)s::text[], %(numbers)s::int[], %(statuses)s::text[], %(results)s::text[])
    AS new (id, number, status, result)
JOIN arbprov.tasks ON tasks.id = new.id
JOIN arbprov.attempts ON attempts.task = tasks.number AND (
    attempts.number = COALESCE(NULLIF(new.number, 0), attempt)
    OR new.number = 0 AND attempts.status = new.status AND attempts.result = new.result
)
"""
_SET_RESULTS = """
UPDATE arbprov.attempts SET
    ended_at = COALESCE(ended_at, now()), ended_as = new.ended_as, status = new.status,
    result = new.result
FROM unnest(
    %(task)s::bigint[], %(number)s::int[], %(end)s::text[], %(status)s::text[], %(result)s::text[]
) AS new (task, number, ended_as, status, result)
WHERE attempts.task = new.task AND attempts.number = new.number
"""
_KEEP_ASIDE = """
UPDATE arbprov.attempts SET aside = aside || %(result)s::text
WHERE task = %(task)s AND number = %(number)s AND NOT %(result)s::text = ANY(aside)
"""


async def record(connection: Connection, results: Sequence[ReceivedResult]) -> list[Outcome]:
    """Record results, and return what became of each.

    Args:
        connection: In a transaction of its own.
        results: The results, at least one.
    """
    ids = [result.id for result in results]
    locked = await connection.execute(LOCK_TASKS, {"ids": ids})
    parameters = {
        "ids": ids,
        "numbers": [result.attempt for result in results],
        "statuses": [result.status for result in results],
        "results": ["" if result.attempt else result.result for result in results],
    }
    found = await connection.execute(_ATTEMPTS, parameters)
    tasks = {task.id: task for task in map(known_task, await locked.fetchall())}
    attempts: dict[int, dict[int, KnownAttempt]] = {task.number: {} for task in tasks.values()}
    for row in await found.fetchall():
        attempts[row[0]][row[1]] = KnownAttempt(*row)
    outcomes = []
    for result in results:
        task = tasks.get(result.id)
        known = attempts[task.number].values() if task else ()
        outcomes.append(settle(result, task, known))
    await _store_results(connection, [one for each in attempts.values() for one in each.values()])
    if changed := [task for task in tasks.values() if task.recorded or task.limited]:
        await change(connection, changed)
        await update_groups(connection, changed)
        if queued := [task for task in changed if task.is_queued]:
            await enqueue(connection, map(key_of, queued))
    return outcomes


async def _store_results(connection: Connection, attempts: Sequence[KnownAttempt]) -> None:
    changed = [attempt for attempt in attempts if attempt.is_changed]
    if changed:
        names = ("task", "number", "end", "status", "result")
        columns = {name: [getattr(attempt, name) for attempt in changed] for name in names}
        await connection.execute(_SET_RESULTS, columns)
    for attempt in attempts:
        for result in attempt.aside:
            parameters = {"result": result, "task": attempt.task, "number": attempt.number}
            await connection.execute(_KEEP_ASIDE, parameters)
