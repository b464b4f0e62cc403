"""What the PostgreSQL store does by time: leases, holds, ttls, and the removal of old tasks."""

from __future__ import annotations

import collections

from arbprov.localhub.store import Due
from arbprov.localhub.stores.postgres_holds import begin_episodes, update_groups
from arbprov.localhub.stores.postgres_lanes import enqueue, remove_unused
from arbprov.localhub.stores.postgres_pauses import flag_pauses
from arbprov.localhub.stores.postgres_results import KnownTask
from arbprov.localhub.stores.postgres_tasks import (
    Connection,
    add_counts,
    change,
    clamp,
    end_attempts,
    key_of,
    known_task,
)
from arbprov.localhub.stores.reasons import EXPIRED, describe_lost
from arbprov.localhub.tasks import State

__all__ = ["prune", "upkeep"]

# How many tasks `upkeep` and `prune` change at once, so that others' changes need not wait long.
_MAX_CHANGES = 1_000
# More changes of counts are summed up, so many at once.
_MANY_COUNTS = 2_000
_MAX_COUNTS = 20_000
_DUE = """
SELECT number, id, action, account_key, provider, priority, lane, state, queued, attempt,
       deliveries, max_deliveries, worker, episode, attempt = 0 AND expires_at <= now()
FROM arbprov.tasks WHERE due_at <= now() ORDER BY due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
_SUM_UP = """
WITH gone AS (
    DELETE FROM arbprov.counts
    WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM arbprov.counts
        WHERE %(enough)s < (
            SELECT count(*) FROM (SELECT FROM arbprov.counts LIMIT %(enough)s + 1) AS some_changes
        )
        LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING action, state, change
)
INSERT INTO arbprov.counts
SELECT action, state, sum(change) FROM gone GROUP BY action, state HAVING sum(change) <> 0
"""
_NEXT = """
SELECT extract(epoch FROM min(at) - now())::float8 FROM (
    SELECT min(due_at) AS at FROM arbprov.tasks WHERE due_at IS NOT NULL
    UNION ALL SELECT min(due_at) FROM arbprov.holds WHERE room = 0
) AS next
"""
_TOO_OLD = """
SELECT number, action, state FROM arbprov.tasks
WHERE ended_at < now() - make_interval(secs => %s)
ORDER BY ended_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_OLDEST = """
SELECT number, action, state FROM arbprov.tasks
WHERE ended_at IS NOT NULL ORDER BY ended_at, number LIMIT %s FOR UPDATE SKIP LOCKED
"""
_ENDED_COUNT = """
SELECT COALESCE(sum(change), 0)::bigint FROM arbprov.counts
WHERE state NOT IN ('waiting', 'running')
"""


async def upkeep(connection: Connection) -> Due:
    """Do what is due; see `Store.upkeep`."""
    cursor = await connection.execute(_DUE, [_MAX_CHANGES])
    lost: list[KnownTask] = []
    tasks: list[KnownTask] = []
    for *row, has_expired in await cursor.fetchall():
        task = known_task(row)
        tasks.append(task)
        if task.state is State.RUNNING:
            lost.append(task)
        if task.state is State.RUNNING and task.deliveries >= task.max_deliveries:
            task.state, task.reason = State.DEAD, describe_lost(task.deliveries)
        elif has_expired:
            task.state, task.reason, task.is_queued = State.DEAD, EXPIRED, False
        else:
            task.state, task.is_queued = State.WAITING, True
    queued = sorted((task for task in tasks if task.is_queued), key=lambda task: task.number)
    if tasks:
        await end_attempts(connection, lost, "lease")
        await change(connection, tasks)
        await update_groups(connection, tasks)
    has_begun = await begin_episodes(connection, {task.group for task in queued})
    if queued:
        await enqueue(connection, map(key_of, queued))
    await flag_pauses(connection)
    await connection.execute(_SUM_UP, {"enough": _MANY_COUNTS, "most": _MAX_COUNTS})
    [(next_in,)] = await (await connection.execute(_NEXT)).fetchall()
    return Due(
        ready=has_begun or bool(queued),
        ended=tuple(task.id for task in tasks if task.state is State.DEAD),
        next_in=None if next_in is None else max(next_in, 0.0),
    )


async def prune(connection: Connection, max_age: float, max_count: int) -> int:
    """Remove ended tasks; see `Store.prune`."""
    # Their last tasks may have been cancelled, and no provider has asked for them since.
    await remove_unused(connection, _MAX_CHANGES)
    # One hub at a time, since two that count the tasks would remove twice as many.
    cursor = await connection.execute(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('arbprov.prune', 0))"
    )
    if not (await cursor.fetchall())[0][0]:
        return 0
    cursor = await connection.execute(_TOO_OLD, [clamp(max_age), _MAX_CHANGES])
    rows = await cursor.fetchall()
    if not rows:
        [(ended,)] = await (await connection.execute(_ENDED_COUNT)).fetchall()
        excess = min(max(ended - max_count, 0), _MAX_CHANGES)
        rows = await (await connection.execute(_OLDEST, [excess])).fetchall()
    if rows:
        numbers = [number for number, _, _ in rows]
        for query in (
            "DELETE FROM arbprov.attempts WHERE task = ANY(%s)",
            "DELETE FROM arbprov.tasks WHERE number = ANY(%s)",
        ):
            await connection.execute(query, [numbers])
        changes = collections.Counter((action, state) for _, action, state in rows)
        counts = [(*key, -number) for key, number in changes.items()]
        await add_counts(connection, counts)
    return len(rows)
