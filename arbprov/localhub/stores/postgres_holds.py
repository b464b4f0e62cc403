"""The groups of the PostgreSQL store that are over a limit, and what their tasks change in them.

How many tasks of a group may go now, its room, is a column that the server computes.
"""

from __future__ import annotations

import collections
from collections.abc import Collection

from arbprov.localhub.store import SHORTEST_EPISODE
from arbprov.localhub.stores.postgres_lanes import block, release
from arbprov.localhub.stores.postgres_results import KnownTask
from arbprov.localhub.stores.postgres_tasks import Connection, Group, clamp, transpose
from arbprov.localhub.tasks import State

__all__ = ["begin_episodes", "update_groups"]

# All at once and in this order, so that transactions wait for each other in no circle.
_LOCK = """
SELECT FROM arbprov.holds
JOIN unnest(%s::text[], %s::text[]) AS given (action, account_key) USING (action, account_key)
ORDER BY account_key, action FOR UPDATE OF holds
"""
_LEAVE = """
UPDATE arbprov.holds SET taken = taken - left_early, passed = holds.passed + ended.passed
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::int[], %s::int[])
    AS ended (action, account_key, episode, passed, left_early)
WHERE holds.action = ended.action AND holds.account_key = ended.account_key
  AND holds.episode = ended.episode
"""
_HOLD = """
INSERT INTO arbprov.holds AS old (action, account_key, due_at, wait, limited_by, since, limited)
SELECT action, account_key, now() + make_interval(secs => wait), wait, limited_by, now(), limited
FROM unnest(%s::text[], %s::text[], %s::float8[], %s::text[], %s::int[])
    AS new (action, account_key, wait, limited_by, limited)
ORDER BY account_key, action
ON CONFLICT (account_key, action) DO UPDATE SET
    limited = old.limited + excluded.limited, held = true, limited_by = excluded.limited_by,
    due_at = GREATEST(excluded.due_at, CASE WHEN old.held THEN old.due_at END),
    wait = GREATEST(
        excluded.wait, CASE WHEN old.held THEN extract(epoch FROM old.due_at - now()) END
    )
"""
# Without a limit, only an episode without room ends, which has taken more than its budget.
_BEGIN_EPISODES = """
UPDATE arbprov.holds SET
    budget = CASE WHEN held THEN GREATEST(0, taken - limited) ELSE taken END,
    held = false, episode = nextval('arbprov.episodes'), taken = 0, passed = 0, limited = 0,
    due_at = now() + make_interval(secs => GREATEST(wait, %s))
FROM (
    SELECT action, account_key FROM arbprov.holds WHERE room = 0 AND due_at <= now()
    ORDER BY account_key, action FOR UPDATE SKIP LOCKED
) AS due
WHERE holds.action = due.action AND holds.account_key = due.account_key
RETURNING holds.action, holds.account_key
"""
_REMOVE_UNUSED = """
DELETE FROM arbprov.holds USING unnest(%s::text[], %s::text[]) AS given (action, account_key)
WHERE holds.action = given.action AND holds.account_key = given.account_key
  AND NOT held AND taken = passed AND NOT EXISTS (
    SELECT FROM arbprov.lanes JOIN arbprov.tasks ON tasks.lane = lanes.id AND tasks.queued
    WHERE lanes.action = given.action AND lanes.account_key = given.account_key
  )
"""


async def update_groups(connection: Connection, tasks: Collection[KnownTask]) -> None:
    """Have groups know what has become of their tasks.

    Args:
        connection: In a transaction that has changed the tasks, and no lanes yet.
        tasks: The tasks.
    """
    concerned = [task for task in tasks if _concerns_group(task)]
    if not concerned:
        return
    groups = {task.group for task in concerned}
    await connection.execute(_LOCK, transpose(groups, 2))
    await _leave(connection, concerned)
    limited = [task for task in concerned if task.limited]
    await _hold(connection, limited)
    # A task that is queued now may have no lane yet.
    await _remove_unused(connection, groups - {task.group for task in tasks if task.is_queued})
    await release(connection, groups)
    if limited:
        await block(connection, {task.group for task in limited})


def _concerns_group(task: KnownTask) -> bool:
    has_waited = task.was is State.WAITING and task.state.has_ended
    return task.episode is not None or task.limited is not None or has_waited


async def _leave(connection: Connection, tasks: Collection[KnownTask]) -> None:
    """Count tasks of episodes as passed, or as never handed out."""
    ended: collections.Counter[tuple[Group, int, bool]] = collections.Counter()
    for task in tasks:
        if task.episode is not None and task.limited is None:
            # A result may be of an earlier attempt.
            ended[task.group, task.episode, task.recorded_attempt == task.attempt] += 1
    rows = [
        (*group, episode, ended[group, episode, True], ended[group, episode, False])
        for group, episode in {key[:2] for key in ended}
    ]
    if rows:
        await connection.execute(_LEAVE, transpose(rows, 5))


async def _hold(connection: Connection, limited: Collection[KnownTask]) -> None:
    """Hold the groups of tasks that were answered with a limit."""
    holds: dict[Group, tuple[float, str, int]] = {}
    for task in limited:
        assert task.limited is not None
        wait, _, count = holds.get(task.group, (0.0, "", 0))
        holds[task.group] = (
            max(wait, clamp(task.limited.wait_time)),
            task.limited.limit,
            count + 1,
        )
    if holds:
        rows = [(*group, *values) for group, values in holds.items()]
        await connection.execute(_HOLD, transpose(rows, 5))


async def begin_episodes(connection: Connection, queued: Collection[Group]) -> bool:
    """Begin the next episode of each group where it is due; return whether there are some.

    Args:
        connection: In a transaction.
        queued: The groups of tasks that the transaction has queued, and that may have no lane yet.
    """
    cursor = await connection.execute(_BEGIN_EPISODES, [SHORTEST_EPISODE])
    groups = set(await cursor.fetchall())
    if not groups:
        return False
    await _remove_unused(connection, groups - set(queued))
    await release(connection, groups)
    return True


async def _remove_unused(connection: Connection, groups: Collection[Group]) -> None:
    """Forget groups of which no task waits or runs in an episode."""
    if groups:
        await connection.execute(_REMOVE_UNUSED, transpose(groups, 2))
