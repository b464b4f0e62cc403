"""The lanes of the PostgreSQL store: filling, emptying, holding and opening them.

How the locks fit together, all under READ COMMITTED:

- A lane exists if a committed task is queued in it. So a transaction that queues tasks locks their
  lanes afterwards, FOR KEY SHARE, or adds them. `claim` changes a lane under FOR NO KEY UPDATE,
  which does not conflict: tasks are added to a lane while others are taken from it. A lane is
  removed under FOR UPDATE, which conflicts with both, by a statement that begins after the lock
  was taken, so that it sees all tasks whose transactions had the lock before.
- Tasks are locked first, by number, then holds, then lanes, by id. `claim` locks the other way
  round, but skips what is locked: it never waits.
- A lane is blocked only by a transaction that has its group's hold locked, and a hold that ends,
  gets room or is removed is locked before the lanes are opened. So none stays blocked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import attrs
import psycopg

__all__ = [
    "LaneKey",
    "block",
    "enqueue",
    "find_lane",
    "release",
    "remove_empty",
    "remove_unused",
]

Connection = psycopg.AsyncConnection[Any]
Group = tuple[str, str]

_SHARE = """
SELECT id FROM arbprov.lanes WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE
"""
# A lane that another transaction added in the meantime is locked by the update. An account that
# waits already keeps its turn; others start at the back.
_ADD = """
WITH block AS MATERIALIZED (SELECT nextval('arbprov.turns') AS first)
INSERT INTO arbprov.lanes (id, provider, action, account_key, priority, turn, served)
SELECT id, provider, action, account_key, priority, COALESCE(
        (SELECT max(turn) FROM arbprov.lanes AS other
         WHERE other.account_key = new.account_key AND other.priority = new.priority
           AND NOT other.blocked AND NOT other.paused),
        block.first + account
    ), block.first + place
FROM block, unnest(
    %(ids)s::uuid[], %(providers)s::text[], %(actions)s::text[], %(account_keys)s::text[],
    %(priorities)s::int[], %(accounts)s::int[], %(places)s::int[]
) AS new (id, provider, action, account_key, priority, account, place)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET served = lanes.served
"""
_BLOCK = """
UPDATE arbprov.lanes SET blocked = true WHERE id IN (
    SELECT id FROM arbprov.lanes
    JOIN unnest(%s::text[], %s::text[]) AS held (action, account_key) USING (action, account_key)
    WHERE NOT blocked ORDER BY id FOR NO KEY UPDATE OF lanes
)
"""
_RELEASE = """
WITH block AS MATERIALIZED (SELECT nextval('arbprov.turns') AS first),
freed AS MATERIALIZED (
    SELECT lanes.id, lanes.account_key, lanes.priority FROM arbprov.lanes
    JOIN unnest(%s::text[], %s::text[]) AS free (action, account_key) USING (action, account_key)
    WHERE blocked AND NOT EXISTS (
        SELECT FROM arbprov.holds
        WHERE holds.action = lanes.action AND holds.account_key = lanes.account_key
          AND room = 0
    )
    ORDER BY lanes.id FOR NO KEY UPDATE OF lanes
)
UPDATE arbprov.lanes SET blocked = false, turn = COALESCE(
    (SELECT max(turn) FROM arbprov.lanes AS other
     WHERE other.account_key = freed.account_key AND other.priority = freed.priority
       AND NOT other.blocked AND NOT other.paused),
    block.first
) FROM freed, block WHERE lanes.id = freed.id
"""
_FIND_EMPTY = """
SELECT id FROM arbprov.lanes
WHERE NOT EXISTS (SELECT FROM arbprov.tasks WHERE tasks.lane = lanes.id AND queued)
LIMIT %s FOR UPDATE SKIP LOCKED
"""
_REMOVE_EMPTY = """
DELETE FROM arbprov.lanes WHERE id = ANY(%s)
AND NOT EXISTS (SELECT FROM arbprov.tasks WHERE tasks.lane = lanes.id AND queued)
"""


@attrs.frozen
class LaneKey:
    """The properties of a lane that make it unique."""

    id: UUID
    provider: str
    action: str
    account_key: str
    priority: int


def find_lane(provider: str, action: str, account_key: str, priority: int) -> LaneKey:
    """Return the key of a lane, with its id: the same on all hubs.

    >>> find_lane("", "act", "a", 0).id == find_lane("", "act", "a", 0).id
    True
    """
    text = json.dumps([provider, action, account_key, priority])
    digest = hashlib.sha256(text.encode()).digest()
    return LaneKey(UUID(bytes=digest[:16]), provider, action, account_key, priority)


async def enqueue(connection: Connection, lanes: Iterable[LaneKey]) -> None:
    """Keep lanes, or add them, after tasks were queued in them; see the rules of the module.

    Args:
        connection: In a transaction that has changed the tasks.
        lanes: The lanes, in the order of their tasks.
    """
    wanted = {lane.id: lane for lane in lanes}
    cursor = await connection.execute(_SHARE, [list(wanted)])
    for (found,) in await cursor.fetchall():
        del wanted[found]
    if not wanted:
        return
    accounts: dict[tuple[str, int], int] = {}
    for lane in wanted.values():
        accounts.setdefault((lane.account_key, lane.priority), len(accounts))
    new = list(wanted.values())
    parameters = {
        "ids": [lane.id for lane in new],
        "providers": [lane.provider for lane in new],
        "actions": [lane.action for lane in new],
        "account_keys": [lane.account_key for lane in new],
        "priorities": [lane.priority for lane in new],
        "accounts": [accounts[lane.account_key, lane.priority] for lane in new],
        "places": list(range(len(new))),
    }
    await connection.execute(_ADD, parameters)


async def block(connection: Connection, groups: Collection[Group]) -> None:
    """Keep `claim` from the lanes of groups whose holds the transaction has locked."""
    await connection.execute(_BLOCK, _columns(groups))


async def release(connection: Connection, groups: Collection[Group]) -> None:
    """Open the lanes of groups whose tasks may go, at the back of the order."""
    await connection.execute(_RELEASE, _columns(groups))


async def remove_empty(connection: Connection, ids: Collection[UUID]) -> None:
    """Remove lanes without tasks, which an earlier statement has locked FOR UPDATE."""
    await connection.execute(_REMOVE_EMPTY, [list(ids)])


async def remove_unused(connection: Connection, most: int) -> None:
    """Remove lanes without tasks, wherever they are, but no more than `most`."""
    cursor = await connection.execute(_FIND_EMPTY, [most])
    await remove_empty(connection, [lane_id for (lane_id,) in await cursor.fetchall()])


def _columns(groups: Collection[Group]) -> list[list[str]]:
    return [[action for action, _ in groups], [account_key for _, account_key in groups]]
