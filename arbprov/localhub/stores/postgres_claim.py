"""How the PostgreSQL store hands out tasks: one round of `claim`."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import attrs
import psycopg

from arbprov.localhub.stores.postgres_lanes import remove_empty
from arbprov.localhub.stores.postgres_tasks import Connection, Group, clamp, transpose
from arbprov.localhub.stores.postgres_turns import Lane, take_turns
from arbprov.localhub.tasks import Delivery

__all__ = ["Round", "claim_tasks"]

# The pauses decide, whether `paused` says so yet or not.
_LOCK_LANES = """
SELECT id, action, account_key, priority, turn, served FROM arbprov.lanes
WHERE provider = %(of)s AND NOT blocked AND NOT paused
  AND action <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'action'))
  AND account_key <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'account'))
  AND NOT EXISTS (
    SELECT FROM arbprov.pauses WHERE kind = 'provider' AND name = %(provider)s
  )
ORDER BY priority DESC, turn, served LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
_HAS_LANES = """
SELECT EXISTS (
    SELECT FROM arbprov.lanes
    WHERE provider = ANY(%(names)s) AND NOT blocked AND NOT paused
      AND action <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'action'))
      AND account_key <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'account'))
      AND NOT EXISTS (
        SELECT FROM arbprov.pauses WHERE kind = 'provider' AND name = %(provider)s
      )
)
"""
_FIRST_TASKS = """
SELECT first.lane, task.number FROM unnest(%(ids)s::uuid[]) AS first (lane) CROSS JOIN LATERAL (
    SELECT number FROM arbprov.tasks
    WHERE tasks.lane = first.lane AND queued
      AND (attempt > 0 OR expires_at IS NULL OR expires_at > now())
    ORDER BY number LIMIT %(limit)s
) AS task
"""
_HOLDS = """
SELECT action, account_key, room, episode FROM arbprov.holds
JOIN unnest(%s::text[], %s::text[]) AS given (action, account_key) USING (action, account_key)
"""
_LOCK_HOLDS = f"{_HOLDS} FOR UPDATE OF holds SKIP LOCKED"
_TAKE = """
WITH free AS (
    SELECT number, given.episode FROM arbprov.tasks
    JOIN unnest(%(numbers)s::bigint[], %(episodes)s::bigint[]) AS given (number, episode)
        USING (number)
    WHERE queued FOR NO KEY UPDATE OF tasks SKIP LOCKED
), taken AS (
    UPDATE arbprov.tasks SET
        state = 'running', queued = false, attempt = attempt + 1, deliveries = deliveries + 1,
        started_at = now(), due_at = now() + make_interval(secs => %(lease)s),
        worker = %(provider)s, episode = free.episode
    FROM free WHERE tasks.number = free.number
    RETURNING tasks.number, id, action, payload, account, attempt, traceparent
), begun AS (
    INSERT INTO arbprov.attempts (task, number, provider, started_at)
    SELECT number, attempt, %(provider)s, now() FROM taken
), counted AS (
    INSERT INTO arbprov.counts
    SELECT action, state, sign * count(*)
    FROM taken CROSS JOIN (VALUES ('waiting', -1), ('running', 1)) AS change (state, sign)
    GROUP BY action, state, sign
)
SELECT * FROM taken
"""
# The account's lanes for other providers go to the back too. A hub that has locked one of them
# moves it itself.
_MOVE = """
WITH block AS MATERIALIZED (SELECT nextval('arbprov.turns') AS first),
moved AS MATERIALIZED (
    SELECT lanes.id, account.place
    FROM unnest(%(account_keys)s::text[], %(priorities)s::int[], %(places)s::int[])
        AS account (account_key, priority, place)
    JOIN arbprov.lanes USING (account_key, priority)
    WHERE NOT blocked AND NOT paused FOR NO KEY UPDATE OF lanes SKIP LOCKED
)
UPDATE arbprov.lanes SET
    turn = block.first + moved.place, served = COALESCE(block.first + lane.place, served)
FROM block CROSS JOIN moved
LEFT JOIN unnest(%(lanes)s::uuid[], %(lane_places)s::int[]) AS lane (id, place) USING (id)
WHERE lanes.id = moved.id
"""
_LOCK_EMPTY = "SELECT id FROM arbprov.lanes WHERE id = ANY(%s) FOR UPDATE SKIP LOCKED"
_COUNT_TAKEN = """
UPDATE arbprov.holds SET taken = holds.taken + new.taken
FROM unnest(%s::text[], %s::text[], %s::int[]) AS new (action, account_key, taken)
WHERE holds.action = new.action AND holds.account_key = new.account_key
"""
_BLOCK_LANES = """
UPDATE arbprov.lanes SET blocked = true WHERE id IN (
    SELECT id FROM arbprov.lanes
    JOIN unnest(%s::text[], %s::text[]) AS given (action, account_key) USING (action, account_key)
    JOIN arbprov.holds USING (action, account_key)
    WHERE NOT blocked AND room = 0 FOR NO KEY UPDATE OF lanes SKIP LOCKED
)
"""


@attrs.frozen
class Round:
    """What one transaction of `claim` came to.

    Attributes:
        deliveries: The tasks that it hands out.
        has_more: Whether there were more lanes than it looked at.
        is_crowded: Whether other hubs may have locked the lanes that it looked for.
    """

    deliveries: list[Delivery] = attrs.field(factory=list)
    has_more: bool = False
    is_crowded: bool = False


async def claim_tasks(
    connection: Connection, provider: str, count: int, width: int, lease: float
) -> Round:
    """Hand out tasks of the lanes that no other hub has locked.

    Args:
        connection: In a transaction of its own.
        provider: The provider.
        count: The most tasks to hand out.
        width: How many lanes of each kind to lock at most.
        lease: Seconds.
    """
    locked, horizon = await _lock_lanes(connection, provider, width)
    if not locked:
        parameters = {"names": list({provider, ""}), "provider": provider}
        cursor = await connection.execute(_HAS_LANES, parameters)
        [(is_crowded,)] = await cursor.fetchall()
        return Round(is_crowded=is_crowded)
    holds = await _ask_for_holds(connection, locked)
    # One more than can be taken tells whether the lane is empty then.
    most = count + 1
    limit = most if len(locked) <= 4 else min(most, 2 * count // len(locked) + 2)
    await _find_tasks(connection, locked, limit)
    limited, skipped = await _read_holds(holds)
    rooms = {group: room for group, (room, _) in limited.items()}
    free = [lane for lane in locked if lane.group not in skipped]
    picks = take_turns(free, count, horizon=horizon, rooms=rooms)
    if limit < most and any(lane.has_more and lane.is_used_up for lane in free):
        await _find_tasks(connection, free, most)
        picks = take_turns(free, count, horizon=horizon, rooms=rooms)
    empty = [lane for lane in free if lane.is_used_up and not lane.has_more]
    episodes = {group: episode for group, (_, episode) in limited.items()}
    taken = await _take(connection, provider, lease, picks, empty=empty, episodes=episodes)
    if limited:
        groups = {number: lane.group for lane, number in picks if lane.group in limited}
        counts = collections.Counter(groups[number] for number in taken if number in groups)
        rows = [(*group, number) for group, number in counts.items()]
        await connection.execute(_COUNT_TAKEN, transpose(rows, 3))
        await connection.execute(_BLOCK_LANES, transpose(limited, 2))
    deliveries = [*taken.values()]
    return Round(deliveries, has_more=horizon is not None, is_crowded=not deliveries)


async def _lock_lanes(
    connection: Connection, provider: str, width: int
) -> tuple[list[Lane], tuple[int, int] | None]:
    """Lock the first lanes, and find up to where these are all lanes: see `take_turns`."""
    cursors = [
        await connection.execute(_LOCK_LANES, {"of": of, "provider": provider, "limit": width})
        for of in {provider, ""}
    ]
    locked: list[Lane] = []
    horizons = []
    for cursor in cursors:
        some = [Lane(*row) for row in await cursor.fetchall()]
        if len(some) == width:
            horizons.append((-some[-1].priority, some[-1].turn))
        locked += some
    return locked, min(horizons, default=None)


async def _ask_for_holds(
    connection: Connection, locked: Sequence[Lane]
) -> list[psycopg.AsyncCursor[Any]]:
    groups = list({lane.group for lane in locked})
    columns = transpose(groups, 2)
    # In this order: a hold that is there now but was not locked is another transaction's.
    return [await connection.execute(query, columns) for query in (_LOCK_HOLDS, _HOLDS)]


async def _read_holds(
    cursors: Sequence[psycopg.AsyncCursor[Any]],
) -> tuple[dict[Group, tuple[int, int]], set[Group]]:
    """Return groups with rooms and episodes, and the groups that other transactions change."""
    mine, all_holds = [
        {
            (action, account_key): (room, episode)
            for action, account_key, room, episode in await cursor.fetchall()
        }
        for cursor in cursors
    ]
    return mine, all_holds.keys() - mine.keys()


async def _find_tasks(connection: Connection, locked: Sequence[Lane], limit: int) -> None:
    """Find the numbers of the first tasks of lanes."""
    parameters = {"ids": [lane.id for lane in locked], "limit": limit}
    cursor = await connection.execute(_FIRST_TASKS, parameters)
    numbers: dict[UUID, list[int]] = {lane.id: [] for lane in locked}
    for lane_id, number in await cursor.fetchall():
        numbers[lane_id].append(number)
    for lane in locked:
        lane.numbers = numbers[lane.id]
        lane.has_more = len(lane.numbers) == limit


async def _take(
    connection: Connection,
    provider: str,
    lease: float,
    picks: Sequence[tuple[Lane, int]],
    *,
    empty: Sequence[Lane],
    episodes: Mapping[Group, int],
) -> dict[int, Delivery]:
    """Hand out tasks, and change their lanes accordingly; return them by number."""
    places = {number: place for place, (_, number) in enumerate(picks)}
    # Lanes that only seem to have tasks, such as some whose ttl has passed, must not stay in front.
    moved = [lane for lane, _ in picks] or empty
    accounts = {(lane.account_key, lane.priority): place for place, lane in enumerate(moved)}
    last = {lane.id: place for place, lane in enumerate(moved)}
    # Before they change, and without waiting; what they then have is seen by a later statement.
    emptied = await connection.execute(_LOCK_EMPTY, [[lane.id for lane in empty]])
    parameters: dict[str, Any] = {
        "numbers": list(places),
        "episodes": [episodes.get(lane.group) for lane, _ in picks],
        "lease": clamp(lease),
        "provider": provider,
    }
    taken = await connection.execute(_TAKE, parameters)
    parameters = {
        "account_keys": [account_key for account_key, _ in accounts],
        "priorities": [priority for _, priority in accounts],
        "places": list(accounts.values()),
        "lanes": list(last),
        "lane_places": list(last.values()),
    }
    await connection.execute(_MOVE, parameters)
    rows = await taken.fetchall()
    if empty:
        await remove_empty(connection, [lane_id for (lane_id,) in await emptied.fetchall()])
    return {
        number: Delivery(
            id=task_id,
            action=action,
            payload=payload,
            account=account,
            attempt=attempt,
            lease=lease,
            traceparent=traceparent,
        )
        for number, task_id, action, payload, account, attempt, traceparent in sorted(
            rows, key=lambda row: places[row[0]]
        )
    }
