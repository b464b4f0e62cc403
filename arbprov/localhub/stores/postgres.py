"""The store of any number of hubs: a PostgreSQL database.

All coordination is in transactions, by the server's time; there is no leader, and hubs may come
and go. `arbprov.localhub.stores.postgres_lanes` says how the locks fit together.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from arbprov.errors import ConfigurationError, HubError
from arbprov.localhub.store import Accepted, Due, StoredToken
from arbprov.localhub.stores.postgres_results import KnownAttempt, KnownTask, settle
from arbprov.localhub.stores.postgres_turns import Lane, take_turns
from arbprov.localhub.stores.reasons import EXPIRED, describe_lost
from arbprov.localhub.stores.search import Dialect, find_conditions
from arbprov.localhub.tasks import (
    Attempt,
    Delivery,
    NewTask,
    Outcome,
    Pause,
    PauseKind,
    ReceivedResult,
    Scope,
    State,
    StoredTask,
    TaskFilter,
)

try:
    import psycopg

    from arbprov.localhub.stores import postgres_lanes as lanes
    from arbprov.localhub.stores.postgres_connections import Connections, find_name, read_url
    from arbprov.localhub.stores.postgres_schema import migrate
    from arbprov.localhub.stores.postgres_signals import Signals
except ImportError:
    raise ConfigurationError(
        "a hub on PostgreSQL needs the package psycopg: pip install 'arbprov[postgres]'"
    ) from None

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["PostgresStore"]

Connection = psycopg.AsyncConnection[Any]
Group = tuple[str, str]

# How many tasks `upkeep` and `prune` change at once, so that others' changes need not wait long.
_MAX_CHANGES = 1_000
# How many tasks a transaction of `claim` hands out at most; a block of turns is larger.
_MAX_CLAIM = 10_000
# How often `claim` looks again, after some milliseconds, if other hubs have locked all lanes.
_MAX_RETRIES = 8
_RETRY_DELAY = 0.004
# How often it looks further if lanes turn out to have nothing for it.
_MAX_IDLE_ROUNDS = 20
# How many lanes it looks at from the second time on.
_MANY_LANES = 64
# As many changes of counts are summed up at once.
_MAX_COUNTS = 20_000
# Of seconds from now on, and of times; PostgreSQL has dates until 294276.
_LONGEST = 1e10
_LATEST = 1e12

_INSERT = """
WITH added AS (
    INSERT INTO arbprov.tasks (
        id, action, payload, account, account_key, provider, priority, lane, not_before, expires_at,
        max_deliveries, idempotency_key, traceparent, fields, created_at, queued, due_at
    )
    SELECT id, action, payload, account, account_key, provider, priority, lane, start, expiry,
           max_deliveries, idempotency_key, traceparent, fields, now(),
           COALESCE(start <= now(), true),
           CASE WHEN start > now() THEN LEAST(start, expiry) ELSE expiry END
    FROM unnest(
        %(id)s::text[], %(action)s::text[], %(payload)s::bytea[], %(account)s::bytea[],
        %(account_key)s::text[], %(provider)s::text[], %(priority)s::int[], %(lane)s::uuid[],
        %(not_before)s::float8[], %(ttl)s::float8[], %(max_deliveries)s::int[],
        %(idempotency_key)s::text[], %(traceparent)s::text[], %(fields)s::text[]
    ) WITH ORDINALITY AS new (
        id, action, payload, account, account_key, provider, priority, lane, not_before, ttl,
        max_deliveries, idempotency_key, traceparent, fields, place
    ), LATERAL (
        SELECT to_timestamp(not_before) AS start, now() + make_interval(secs => ttl) AS expiry
    ) AS times
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING id, action, queued
), counted AS (
    INSERT INTO arbprov.counts SELECT action, 'waiting', count(*) FROM added GROUP BY action
)
SELECT id, queued FROM added
"""
_KNOWN = """
SELECT id, idempotency_key FROM arbprov.tasks
WHERE id = ANY(%(ids)s) OR idempotency_key <> '' AND idempotency_key = ANY(%(keys)s)
"""
# The pauses decide, whether `paused` says so yet or not.
_IS_READY = """
NOT blocked AND NOT paused
AND action <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'action'))
AND account_key <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'account'))
AND NOT EXISTS (
    SELECT FROM arbprov.pauses WHERE kind = 'provider' AND name = %(provider)s
)
"""
_LOCK_LANES = f"""
SELECT id, action, account_key, priority, turn, served FROM arbprov.lanes
WHERE provider = %(of)s AND {_IS_READY}
ORDER BY priority DESC, turn, served LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
_HAS_LANES = f"""
SELECT EXISTS (SELECT FROM arbprov.lanes WHERE provider = ANY(%(names)s) AND {_IS_READY})
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
SELECT action, account_key, is_over AND probe IS NULL FROM arbprov.holds
JOIN unnest(%s::text[], %s::text[]) AS given (action, account_key) USING (action, account_key)
"""
_LOCK_HOLDS = f"{_HOLDS} FOR UPDATE OF holds SKIP LOCKED"
_TAKE = """
WITH free AS (
    SELECT number FROM arbprov.tasks WHERE number = ANY(%(numbers)s) AND queued
    FOR NO KEY UPDATE SKIP LOCKED
), taken AS (
    UPDATE arbprov.tasks SET
        state = 'running', queued = false, attempt = attempt + 1, deliveries = deliveries + 1,
        started_at = now(), due_at = now() + make_interval(secs => %(lease)s),
        worker = %(provider)s
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
# The account's lanes for other providers go to the back too; a hub that has locked one of them moves
# it itself.
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
_FIND_EMPTY = """
SELECT id FROM arbprov.lanes
WHERE NOT EXISTS (SELECT FROM arbprov.tasks WHERE tasks.lane = lanes.id AND queued)
LIMIT %s FOR UPDATE SKIP LOCKED
"""
_REMOVE_EMPTY = """
DELETE FROM arbprov.lanes WHERE id = ANY(%s)
AND NOT EXISTS (SELECT FROM arbprov.tasks WHERE tasks.lane = lanes.id AND queued)
"""
_BLOCK_LANES = "UPDATE arbprov.lanes SET blocked = true WHERE id = ANY(%s)"
_SET_PROBES = """
UPDATE arbprov.holds SET probe = went.probe
FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS went (action, account_key, probe)
WHERE holds.action = went.action AND holds.account_key = went.account_key
"""
_LOCK_TASKS = """
SELECT number, id, action, account_key, provider, priority, lane, state, queued, attempt, deliveries,
       max_deliveries, worker
FROM arbprov.tasks WHERE id = ANY(%(ids)s) ORDER BY number FOR NO KEY UPDATE
"""
_DUE = """
SELECT number, id, action, account_key, provider, priority, lane, state, queued, attempt, deliveries,
       max_deliveries, worker, attempt = 0 AND expires_at <= now()
FROM arbprov.tasks WHERE due_at <= now() ORDER BY due_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
_CHANGE = """
UPDATE arbprov.tasks SET
    state = new.state, queued = new.queued, deliveries = new.deliveries,
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
_RETRY = """
UPDATE arbprov.tasks SET
    state = 'waiting', queued = COALESCE(not_before <= now(), true),
    due_at = CASE WHEN not_before > now() THEN not_before END,
    deliveries = 0, expires_at = NULL, ended_at = NULL, result_of = NULL, status = '', message = '',
    error_type = '', reason = ''
WHERE number = ANY(%s) RETURNING number, queued
"""
_COUNT = """
INSERT INTO arbprov.counts SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[])
"""
_SUM_UP = """
WITH gone AS (
    DELETE FROM arbprov.counts
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM arbprov.counts LIMIT %s FOR UPDATE SKIP LOCKED))
    RETURNING action, state, change
)
INSERT INTO arbprov.counts
SELECT action, state, sum(change) FROM gone GROUP BY action, state HAVING sum(change) <> 0
"""
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
_PROBES = "SELECT probe FROM arbprov.holds WHERE probe = ANY(%s)"
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
_END_ATTEMPTS = """
UPDATE arbprov.attempts SET ended_at = now(), ended_as = %s
FROM unnest(%s::bigint[], %s::int[]) AS given (task, number)
WHERE attempts.task = given.task AND attempts.number = given.number
"""
_HOLD = """
INSERT INTO arbprov.holds (action, account_key, held_until, limited_by, since)
SELECT action, account_key, now() + make_interval(secs => wait), limited_by, now()
FROM unnest(%s::text[], %s::text[], %s::float8[], %s::text[])
    AS new (action, account_key, wait, limited_by)
ORDER BY account_key, action
ON CONFLICT (account_key, action) DO UPDATE SET
    held_until = GREATEST(holds.held_until, excluded.held_until),
    limited_by = excluded.limited_by, is_over = false, probe = NULL
"""
_OPEN = "DELETE FROM arbprov.holds WHERE probe = ANY(%s)"
_PASS_ON = "UPDATE arbprov.holds SET probe = NULL WHERE probe = ANY(%s)"
_END_HOLDS = """
UPDATE arbprov.holds SET is_over = true
FROM (
    SELECT action, account_key FROM arbprov.holds
    WHERE NOT is_over AND held_until <= now()
    ORDER BY account_key, action FOR UPDATE SKIP LOCKED
) AS due
WHERE holds.action = due.action AND holds.account_key = due.account_key
RETURNING holds.action, holds.account_key
"""
_UNUSED_HOLDS = "SELECT action, account_key FROM arbprov.holds WHERE is_over AND probe IS NULL"
_NEXT = """
SELECT extract(epoch FROM min(at) - now())::float8 FROM (
    SELECT min(due_at) AS at FROM arbprov.tasks WHERE due_at IS NOT NULL
    UNION ALL SELECT min(held_until) FROM arbprov.holds WHERE NOT is_over
) AS next
"""
_RENEW = """
WITH mine AS (
    SELECT tasks.number FROM arbprov.tasks
    JOIN unnest(%(ids)s::text[], %(attempts)s::int[]) AS given (id, attempt) ON given.id = tasks.id
    WHERE state = 'running' AND worker = %(provider)s AND given.attempt IN (0, tasks.attempt)
    ORDER BY tasks.number FOR NO KEY UPDATE OF tasks
)
UPDATE arbprov.tasks SET due_at = now() + make_interval(secs => %(lease)s)
FROM mine WHERE tasks.number = mine.number
"""
_STATES = "SELECT id, state, attempt, worker FROM arbprov.tasks WHERE id = ANY(%s)"
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
SELECT COALESCE(sum(change), 0)::bigint FROM arbprov.counts WHERE state NOT IN ('waiting', 'running')
"""
_PAUSE = """
UPDATE arbprov.lanes SET paused = true WHERE id IN (
    SELECT id FROM arbprov.lanes
    WHERE NOT paused AND (action = ANY(%(action)s) OR account_key = ANY(%(account)s))
    ORDER BY id FOR NO KEY UPDATE
)
"""
_RESUME = """
WITH block AS MATERIALIZED (SELECT nextval('arbprov.turns') AS first)
UPDATE arbprov.lanes SET paused = false, turn = block.first FROM block WHERE id IN (
    SELECT id FROM arbprov.lanes
    WHERE paused AND (action = %(action)s OR account_key = %(account)s)
      AND action <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'action'))
      AND account_key <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'account'))
    ORDER BY id FOR NO KEY UPDATE
)
"""
# The columns have the names of `StoredTask`, and times are seconds since 1970.
_STORED = """
SELECT number, id, action, state, payload, account, account_key, provider, priority, not_before,
       expires_at, max_deliveries, idempotency_key, traceparent, attempt, deliveries, lease_ends_at,
       created_at, started_at, ended_at, worker, status,
       COALESCE((
           SELECT result FROM arbprov.attempts
           WHERE attempts.task = stored.number AND attempts.number = stored.result_of
       ), ''), message, error_type, reason
FROM (
    SELECT number, id, action, state, payload, account, account_key, provider, priority,
           extract(epoch FROM not_before)::float8 AS not_before,
           extract(epoch FROM expires_at)::float8 AS expires_at,
           max_deliveries, idempotency_key, traceparent, fields, attempt, deliveries,
           CASE WHEN state = 'running' THEN extract(epoch FROM due_at)::float8 END AS lease_ends_at,
           extract(epoch FROM created_at)::float8 AS created_at,
           extract(epoch FROM started_at)::float8 AS started_at,
           extract(epoch FROM ended_at)::float8 AS ended_at,
           worker, result_of, status, message, error_type, reason
    FROM arbprov.tasks
) AS stored
"""
_STORED_ATTEMPTS = """
SELECT attempts.number, attempts.provider, extract(epoch FROM attempts.started_at)::float8,
       extract(epoch FROM attempts.ended_at)::float8, ended_as, attempts.status, result, aside
FROM arbprov.attempts JOIN arbprov.tasks ON tasks.number = attempts.task
WHERE tasks.id = %s ORDER BY attempts.number
"""
_COUNTS = """
SELECT action, state, sum(change)::bigint FROM arbprov.counts
GROUP BY action, state HAVING sum(change) <> 0
"""
# A group that is about to open, since it has no waiting task, is not listed.
_HELD = """
SELECT action, account_key, extract(epoch FROM held_until)::float8, limited_by,
       extract(epoch FROM since)::float8
FROM arbprov.holds WHERE held_until > now() OR probe IS NOT NULL OR EXISTS (
    SELECT FROM arbprov.lanes JOIN arbprov.tasks ON tasks.lane = lanes.id AND tasks.queued
    WHERE lanes.action = holds.action AND lanes.account_key = holds.account_key
)
ORDER BY since, action, account_key
"""
_POSITION = """
SELECT count(*) FROM arbprov.tasks AS this
JOIN arbprov.tasks AS other ON other.lane = this.lane AND other.queued AND other.number < this.number
WHERE this.id = %s AND this.state = 'waiting'
"""
_POSTGRES = Dialect(
    placeholder="%s",
    is_any_of="{column} = ANY(%s)",
    has_field="fields::json ->> %s = %s",
    contains="(id ILIKE %s OR message ILIKE %s OR arbprov.as_text(payload) ILIKE %s)",
    pack_list=list,
)


@attrs.frozen
class _Round:
    """What one transaction of `claim` came to.

    Attributes:
        deliveries: The tasks that it hands out.
        has_more: Whether there were more lanes than it looked at.
        is_crowded: Whether other hubs may have locked the lanes that it looked for.
    """

    deliveries: list[Delivery] = attrs.field(factory=list)
    has_more: bool = False
    is_crowded: bool = False


class PostgresStore:
    """A store in a PostgreSQL database, which any number of hubs may share.

    Args:
        url: The database's URL, as libpq takes it; see also `postgres_connections.read_url`.

    >>> PostgresStore("postgresql://hub:secret@db.example/tasks").name
    'postgresql://db.example/tasks'
    """

    is_shared = True

    def __init__(self, url: str) -> None:
        self.name = find_name(url)
        self._settings = read_url(url)

    async def open(self, on_change: Callable[[], None]) -> None:
        """Open the store; see `Store.open`."""
        self._connections = Connections(self._settings, self.name)
        await self._connections.open(migrate)
        self._signals = Signals(self._connections.connect, on_change, self.name)
        self._signals.start()

    async def close(self) -> None:
        """Close the store; see `Store.close`."""
        await self._signals.close()
        await self._connections.close()

    # Tasks on their way.

    async def submit(self, tasks: Sequence[NewTask]) -> list[Accepted]:
        """Add tasks; see `Store.submit`."""
        if not tasks:
            return []

        async def work(connection: Connection) -> list[Accepted]:
            keys = [lanes.find_lane(*_lane_of(task)) for task in tasks]
            added = await connection.execute(_INSERT, _columns_of(tasks, keys))
            # It is sent together with the tasks, so it cannot wait for which of them are new.
            if now := [k for k, task in zip(keys, tasks, strict=True) if task.not_before is None]:
                await lanes.enqueue(connection, now)
            is_queued = dict(await added.fetchall())
            timed = [
                key
                for key, task in zip(keys, tasks, strict=True)
                if task.not_before is not None and is_queued.get(task.id)
            ]
            if timed:
                await lanes.enqueue(connection, timed)
            if len(is_queued) == len(tasks):
                return [Accepted(task.id, is_new=True) for task in tasks]
            return await _find_accepted(connection, tasks, set(is_queued))

        accepted = await self._connections.transact(work)
        if any(one.is_new for one in accepted):
            self._signals.changed()
        return accepted

    async def claim(self, provider: str, count: int, lease: float) -> list[Delivery]:
        """Hand out tasks; see `Store.claim`."""
        deliveries: list[Delivery] = []
        retries = idle_rounds = width = 0
        while len(deliveries) < count:
            wanted = min(count - len(deliveries), _MAX_CLAIM)
            width = max(width, wanted if wanted == 1 else 2 * wanted)

            async def work(
                connection: Connection, wanted: int = wanted, width: int = width
            ) -> _Round:
                return await self._claim(connection, provider, wanted, width, lease)

            try:
                found = await self._connections.transact(work)
            except HubError:
                if not deliveries:
                    raise
                break
            deliveries += found.deliveries
            if found.is_crowded and not deliveries and retries < _MAX_RETRIES:
                retries += 1
                await asyncio.sleep(_RETRY_DELAY * (0.5 + random.random()))  # noqa: S311
            elif not found.has_more or idle_rounds == _MAX_IDLE_ROUNDS:
                break
            else:
                idle_rounds += not found.deliveries
                width = _MANY_LANES
        return deliveries

    async def give_back(self, deliveries: Sequence[tuple[str, int]]) -> None:
        """Take back tasks; see `Store.give_back`."""
        given = dict(deliveries)

        async def work(connection: Connection) -> None:
            tasks = [
                task
                for task in await _lock_tasks(connection, list(given))
                if task.state is State.RUNNING and task.attempt == given[task.id]
            ]
            if not tasks:
                return
            for task in tasks:
                task.state, task.is_queued = State.WAITING, True
                task.deliveries -= 1
            await _end_attempts(connection, tasks, "returned")
            await _change(connection, tasks)
            await _pass_on(connection, tasks)
            await lanes.enqueue(connection, map(_key_of, tasks))

        await self._connections.transact(work)
        self._signals.changed()

    async def record(self, results: Sequence[ReceivedResult]) -> list[Outcome]:
        """Record results; see `Store.record`."""
        if not results:
            return []

        async def work(connection: Connection) -> list[Outcome]:
            return await _record(connection, results)

        outcomes = await self._connections.transact(work)
        self._signals.changed()
        return outcomes

    async def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]], lease: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Have leases end later; see `Store.renew`."""
        ids, attempts = [id for id, _ in tasks], [attempt for _, attempt in tasks]
        parameters = {"ids": ids, "attempts": attempts, "provider": provider}
        parameters["lease"] = _limit(lease)

        async def work(connection: Connection) -> dict[str, tuple[str, int, str]]:
            await connection.execute(_RENEW, parameters)
            cursor = await connection.execute(_STATES, [ids])
            return {id: row for id, *row in await cursor.fetchall()}

        found = await self._connections.transact(work)
        cancelled, lost = [], []
        for id, attempt in tasks:
            state, latest, worker = found.get(id, ("", 0, ""))
            is_latest = attempt in (0, latest) and worker == provider
            if state == State.CANCELLED:
                cancelled.append((id, attempt))
            elif not is_latest or state not in (State.RUNNING, State.WAITING):
                lost.append((id, attempt))
        return cancelled, lost

    async def upkeep(self) -> Due:
        """Do what is due; see `Store.upkeep`."""
        due = await self._connections.transact(_do_upkeep)
        if due.ready or due.ended:
            self._signals.changed()
        return due

    async def prune(self, max_age: float, max_count: int) -> int:
        """Remove ended tasks; see `Store.prune`."""

        async def work(connection: Connection) -> int:
            return await _prune(connection, max_age, max_count)

        return await self._connections.transact(work)

    # What people do.

    async def retry(self, ids: Sequence[str]) -> list[str]:
        """Have ended tasks wait again; see `Store.retry`."""

        async def work(connection: Connection) -> list[str]:
            tasks = {
                task.number: task
                for task in await _lock_tasks(connection, ids)
                if task.state.has_ended
            }
            if not tasks:
                return []
            cursor = await connection.execute(_RETRY, [list(tasks)])
            queued = sorted(number for number, is_queued in await cursor.fetchall() if is_queued)
            for task in tasks.values():
                task.state = State.WAITING
            await _count(connection, tasks.values())
            if queued:
                await lanes.enqueue(connection, [_key_of(tasks[number]) for number in queued])
            return [task.id for task in tasks.values()]

        retried = await self._connections.transact(work)
        self._signals.changed()
        return retried

    async def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """Cancel tasks; see `Store.cancel`."""

        async def work(connection: Connection) -> list[str]:
            tasks = [
                task for task in await _lock_tasks(connection, ids) if not task.state.has_ended
            ]
            if not tasks:
                return []
            for task in tasks:
                task.state, task.is_queued, task.reason = State.CANCELLED, False, reason
            running = [task for task in tasks if task.was is State.RUNNING]
            await _end_attempts(connection, running, "cancelled")
            await _change(connection, tasks)
            await connection.execute(_OPEN, [[task.number for task in running]])
            groups = list({task.group for task in tasks})
            await lanes.open_empty_groups(connection, groups)
            return [task.id for task in tasks]

        cancelled = await self._connections.transact(work)
        self._signals.changed()
        return cancelled

    async def pause(self, pause: Pause) -> None:
        """Hand out no more tasks; see `Store.pause`."""

        async def work(connection: Connection) -> None:
            # A pause that is there already is locked, so that it does not end in the meantime.
            query = (
                "INSERT INTO arbprov.pauses VALUES (%s, %s, now()) "
                "ON CONFLICT (kind, name) DO UPDATE SET at = pauses.at"
            )
            await connection.execute(query, [pause.kind.value, pause.name])
            await connection.execute(_PAUSE, _lanes_of([(pause.kind, pause.name)]))

        await self._connections.transact(work)
        self._signals.changed()

    async def resume(self, pause: Pause) -> None:
        """End a pause; see `Store.resume`."""

        async def work(connection: Connection) -> None:
            query = "DELETE FROM arbprov.pauses WHERE kind = %s AND name = %s"
            await connection.execute(query, [pause.kind.value, pause.name])
            await connection.execute(_RESUME, _lane_of_pause(pause))

        await self._connections.transact(work)
        self._signals.changed()

    # Reading.

    async def get(self, id: str) -> StoredTask | None:
        """Return a task; see `Store.get`."""
        found = await self._read_tasks("id = %s", [id])
        return found[0] if found else None

    async def ended(self, ids: Sequence[str]) -> list[StoredTask]:
        """Return tasks that have ended; see `Store.ended`."""
        condition = "id = ANY(%s) AND state NOT IN ('waiting', 'running')"
        return await self._read_tasks(condition, [list(ids)])

    async def attempts(self, id: str) -> list[Attempt]:
        """Return a task's attempts; see `Store.attempts`."""
        return [
            Attempt(
                number=number,
                provider=provider,
                started_at=started_at,
                ended_at=ended_at,
                end=end,
                status=status,
                result=result,
                aside=tuple(aside),
            )
            for number, provider, started_at, ended_at, end, status, result, aside in (
                await self._connections.read(_STORED_ATTEMPTS, [id])
            )
        ]

    async def search(
        self, where: TaskFilter, *, before: int | None = None, limit: int = 50
    ) -> list[StoredTask]:
        """Return tasks, the latest first; see `Store.search`."""
        conditions, parameters = find_conditions(where, before, _POSTGRES)
        return await self._read_tasks(
            f"{conditions} ORDER BY number DESC LIMIT %s", [*parameters, limit]
        )

    async def count(self, where: TaskFilter, *, most: int = 10_000) -> int:
        """Return how many tasks a filter finds; see `Store.count`."""
        conditions, parameters = find_conditions(where, None, _POSTGRES)
        query = f"SELECT count(*) FROM ({_STORED} WHERE {conditions} LIMIT %s) AS found"  # noqa: S608
        [(found,)] = await self._connections.read(query, [*parameters, most])
        return int(found)

    async def counts(self) -> Mapping[str, Mapping[State, int]]:
        """Return the number of tasks by action and state; see `Store.counts`."""
        counts: dict[str, dict[State, int]] = {}
        for action, state, number in await self._connections.read(_COUNTS):
            counts.setdefault(action, {})[State(state)] = number
        return counts

    async def held(self) -> list[Scope]:
        """Return the groups that a limit holds back; see `Store.held`."""
        return [
            Scope(action=action, account_key=key, held_until=until, limit=limit, since=since)
            for action, key, until, limit, since in await self._connections.read(_HELD)
        ]

    async def pauses(self) -> list[Pause]:
        """Return what is paused; see `Store.pauses`."""
        query = (
            "SELECT kind, name, extract(epoch FROM at)::float8 FROM arbprov.pauses ORDER BY at, name"
        )
        rows = await self._connections.read(query)
        return [Pause(PauseKind(kind), name, at) for kind, name, at in rows]

    async def position(self, id: str) -> int:
        """Return how many tasks go before a waiting task; see `Store.position`."""
        [(position,)] = await self._connections.read(_POSITION, [id])
        return int(position)

    # Tokens.

    async def add_token(self, token: StoredToken) -> bool:
        """Add a token; see `Store.add_token`."""
        query = (
            "INSERT INTO arbprov.tokens (name, role, provider, digest, created_at) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING name"
        )
        values = [token.name, token.role, token.provider, token.digest, token.created_at]
        return await self._change_tokens(query, values)

    async def remove_token(self, name: str) -> bool:
        """Remove a token; see `Store.remove_token`."""
        query = "DELETE FROM arbprov.tokens WHERE name = %s RETURNING name"
        return await self._change_tokens(query, [name])

    async def tokens(self) -> list[StoredToken]:
        """Return all tokens; see `Store.tokens`."""
        query = (
            "SELECT name, role, provider, digest, created_at FROM arbprov.tokens "
            'ORDER BY name COLLATE "C"'
        )
        return [
            StoredToken(name=name, role=role, provider=provider, digest=digest, created_at=at)
            for name, role, provider, digest, at in await self._connections.read(query)
        ]

    async def _change_tokens(self, query: str, values: list[Any]) -> bool:
        async def work(connection: Connection) -> bool:
            cursor = await connection.execute(query.encode(), values)
            return bool(await cursor.fetchall())

        is_changed = await self._connections.transact(work)
        self._signals.changed()
        return is_changed

    async def _read_tasks(self, condition: str, parameters: list[Any]) -> list[StoredTask]:
        rows = await self._connections.read(f"{_STORED} WHERE {condition}", parameters)
        return [_stored_task(row) for row in rows]

    async def _claim(
        self, connection: Connection, provider: str, count: int, width: int, lease: float
    ) -> _Round:
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
            return _Round(is_crowded=is_crowded)
        holds = await _ask_for_holds(connection, locked)
        limit = count if len(locked) <= 4 else min(count, 2 * count // len(locked) + 2)
        await _find_tasks(connection, locked, limit)
        probing, held, skipped = await _read_holds(holds)
        free = [lane for lane in locked if lane.group not in held | skipped]
        picks = take_turns(free, count, horizon=horizon, probing=probing)
        if limit < count and any(lane.has_more and lane.is_used_up for lane in free):
            await _find_tasks(connection, free, count)
            picks = take_turns(free, count, horizon=horizon, probing=probing)
        empty = [lane for lane in free if lane.is_used_up and not lane.has_more]
        probes = {lane.group: number for lane, number in picks if lane.group in probing}
        blocked = [lane.id for lane in locked if lane.group in held | probes.keys()]
        deliveries = await _take(
            connection, provider, lease, picks, empty=empty, blocked=blocked, probes=probes
        )
        return _Round(deliveries, has_more=horizon is not None, is_crowded=not deliveries)


def _lane_of(task: NewTask) -> tuple[str, str, str, int]:
    return task.provider, task.action, task.account_key, task.priority


def _key_of(task: KnownTask) -> lanes.LaneKey:
    return lanes.LaneKey(task.lane, task.provider, task.action, task.account_key, task.priority)


def _columns_of(tasks: Sequence[NewTask], keys: Sequence[lanes.LaneKey]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(task, name) for task in tasks]
        for name in (
            *("id", "action", "payload", "account", "account_key", "provider", "priority"),
            *("max_deliveries", "idempotency_key", "traceparent"),
        )
    }
    columns["lane"] = [key.id for key in keys]
    columns["not_before"] = [
        None if task.not_before is None else min(max(task.not_before, -_LATEST), _LATEST)
        for task in tasks
    ]
    columns["ttl"] = [None if task.ttl is None else _limit(task.ttl) for task in tasks]
    columns["fields"] = [_readable(task.fields) for task in tasks]
    return columns


def _readable(fields: str) -> str:
    """Return fields as PostgreSQL can read them: it refuses some escapes in JSON."""
    if "\\u" not in fields:
        return fields
    pairs = json.loads(fields).items()
    cleaned = {key: value.replace("\0", "\N{SYMBOL FOR NULL}") for key, value in pairs}
    return json.dumps(cleaned, ensure_ascii=False)


def _limit(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST)


async def _find_accepted(
    connection: Connection, tasks: Sequence[NewTask], added: set[str]
) -> list[Accepted]:
    parameters = {
        "ids": [task.id for task in tasks],
        "keys": [task.idempotency_key for task in tasks],
    }
    cursor = await connection.execute(_KNOWN, parameters)
    rows = await cursor.fetchall()
    ids = {id for id, _ in rows}
    by_key = {key: id for id, key in rows if key}
    accepted = []
    for task in tasks:
        known = by_key.get(task.idempotency_key, task.id)
        if known not in ids:
            # The task with this id or key was removed at this moment.
            raise psycopg.errors.SerializationFailure
        accepted.append(Accepted(known, is_new=task.id in added))
        added.discard(task.id)
    return accepted


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
    columns = [[action for action, _ in groups], [account_key for _, account_key in groups]]
    # In this order: a hold that is there now but was not locked is another transaction's.
    return [await connection.execute(query, columns) for query in (_LOCK_HOLDS, _HOLDS)]


async def _read_holds(
    cursors: Sequence[psycopg.AsyncCursor[Any]],
) -> tuple[set[Group], set[Group], set[Group]]:
    """Return the groups of which one task may go, those held, and those of other transactions."""
    mine, all_holds = [
        {(action, account_key): may_go for action, account_key, may_go in await cursor.fetchall()}
        for cursor in cursors
    ]
    probing = {group for group, may_go in mine.items() if may_go}
    return probing, mine.keys() - probing, all_holds.keys() - mine.keys()


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
    blocked: Sequence[UUID],
    probes: Mapping[Group, int],
) -> list[Delivery]:
    """Hand out tasks, and change their lanes and holds accordingly."""
    places = {number: place for place, (_, number) in enumerate(picks)}
    # Lanes that only seem to have tasks, such as those whose ttl has passed, must not stay in front.
    moved = [lane for lane, _ in picks] or empty
    accounts = {(lane.account_key, lane.priority): place for place, lane in enumerate(moved)}
    last = {lane.id: place for place, lane in enumerate(moved)}
    # Before they change, and without waiting; what they then have is seen by a later statement.
    emptied = await connection.execute(_LOCK_EMPTY, [[lane.id for lane in empty]]) if empty else None
    taken = await connection.execute(
        _TAKE, {"numbers": list(places), "lease": _limit(lease), "provider": provider}
    )
    parameters = {
        "account_keys": [account_key for account_key, _ in accounts],
        "priorities": [priority for _, priority in accounts],
        "places": list(accounts.values()),
        "lanes": list(last),
        "lane_places": list(last.values()),
    }
    await connection.execute(_MOVE, parameters)
    if blocked:
        await connection.execute(_BLOCK_LANES, [blocked])
    if emptied is not None:
        removable = [lane_id for (lane_id,) in await emptied.fetchall()]
        await connection.execute(_REMOVE_EMPTY, [removable])
    rows = await taken.fetchall()
    if probes:
        went = {row[0] for row in rows}
        gone = [(*group, number) for group, number in probes.items() if number in went]
        await connection.execute(_SET_PROBES, _transpose(gone, 3))
    return [
        Delivery(
            id=id,
            action=action,
            payload=payload,
            account=account,
            attempt=attempt,
            lease=lease,
            traceparent=traceparent,
        )
        for _, id, action, payload, account, attempt, traceparent in sorted(
            rows, key=lambda row: places[row[0]]
        )
    ]


def _transpose(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]


async def _lock_tasks(connection: Connection, ids: Sequence[str]) -> list[KnownTask]:
    cursor = await connection.execute(_LOCK_TASKS, {"ids": list(ids)})
    return [_known_task(row) for row in await cursor.fetchall()]


def _known_task(row: Sequence[Any]) -> KnownTask:
    number, id, action, account_key, provider, priority, lane, state, queued, *rest = row
    attempt, deliveries, max_deliveries, worker = rest
    return KnownTask(
        number=number,
        id=id,
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
    )


async def _change(connection: Connection, tasks: Collection[KnownTask]) -> None:
    """Store what has become of tasks, and count them."""
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
    await _count(connection, tasks)


async def _count(connection: Connection, tasks: Collection[KnownTask]) -> None:
    changes: collections.Counter[tuple[str, str]] = collections.Counter()
    for task in tasks:
        changes[task.action, task.was.value] -= 1
        changes[task.action, task.state.value] += 1
    rows = [(*key, change) for key, change in changes.items() if change]
    await connection.execute(_COUNT, _transpose(rows, 3))


async def _end_attempts(connection: Connection, tasks: Sequence[KnownTask], end: str) -> None:
    numbers = [task.number for task in tasks]
    await connection.execute(_END_ATTEMPTS, [end, numbers, [task.attempt for task in tasks]])


async def _pass_on(connection: Connection, tasks: Sequence[KnownTask]) -> None:
    """Have another task go first in groups whose first task waits again."""
    await connection.execute(_PASS_ON, [[task.number for task in tasks]])
    await lanes.release(connection, list({task.group for task in tasks}))


async def _record(connection: Connection, results: Sequence[ReceivedResult]) -> list[Outcome]:
    ids = [result.id for result in results]
    locked = await connection.execute(_LOCK_TASKS, {"ids": ids})
    parameters = {
        "ids": ids,
        "numbers": [result.attempt for result in results],
        "statuses": [result.status for result in results],
        "results": ["" if result.attempt else result.result for result in results],
    }
    found = await connection.execute(_ATTEMPTS, parameters)
    tasks = {task.id: task for task in map(_known_task, await locked.fetchall())}
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
        await _change(connection, changed)
        await _open_probed(connection, [task for task in changed if task.recorded])
        await _hold(connection, [task for task in changed if task.limited])
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


async def _open_probed(connection: Connection, ended: Sequence[KnownTask]) -> None:
    """Open the groups whose first task has ended."""
    if not (running := [task for task in ended if task.was is State.RUNNING]):
        return
    cursor = await connection.execute(_PROBES, [[task.number for task in running]])
    probes = {number for (number,) in await cursor.fetchall()}
    if groups := list({task.group for task in running if task.number in probes}):
        # Only if another limit has not held the group again in the meantime.
        await connection.execute(_OPEN, [list(probes)])
        await lanes.release(connection, groups)


async def _hold(connection: Connection, limited: Sequence[KnownTask]) -> None:
    """Hold the groups of tasks that were answered with a limit."""
    holds: dict[Group, tuple[float, str]] = {}
    for task in limited:
        assert task.limited is not None
        wait, _ = holds.get(task.group, (0.0, ""))
        holds[task.group] = max(wait, _limit(task.limited.wait_time)), task.limited.limit
    if holds:
        rows = [(*group, *values) for group, values in holds.items()]
        await connection.execute(_HOLD, _transpose(rows, 4))
        await lanes.block(connection, holds)
        await lanes.enqueue(connection, map(_key_of, limited))


async def _do_upkeep(connection: Connection) -> Due:
    cursor = await connection.execute(_DUE, [_MAX_CHANGES])
    lost: list[KnownTask] = []
    tasks: list[KnownTask] = []
    for *row, has_expired in await cursor.fetchall():
        task = _known_task(row)
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
        await _end_attempts(connection, lost, "lease")
        await _change(connection, tasks)
        await connection.execute(_PASS_ON, [[task.number for task in lost]])
    ended_holds = await connection.execute(_END_HOLDS)
    unused_holds = await connection.execute(_UNUSED_HOLDS)
    is_over = bool(await ended_holds.fetchall())
    unused = set(await unused_holds.fetchall())
    waiting = {task.group for task in queued}
    if groups := unused - waiting:
        await lanes.open_empty_groups(connection, groups)
    if groups := unused & waiting:
        await lanes.release(connection, groups)
    if queued:
        await lanes.enqueue(connection, map(_key_of, queued))
    await _flag_pauses(connection)
    await connection.execute(_SUM_UP, [_MAX_COUNTS])
    [(next_in,)] = await (await connection.execute(_NEXT)).fetchall()
    return Due(
        ready=is_over or bool(queued),
        ended=tuple(task.id for task in tasks if task.state is State.DEAD),
        next_in=None if next_in is None else max(next_in, 0.0),
    )


async def _flag_pauses(connection: Connection) -> None:
    """Keep `claim` from looking at lanes that were added during a pause."""
    query = (
        "SELECT kind, name FROM arbprov.pauses WHERE kind <> 'provider' FOR SHARE SKIP LOCKED"
    )
    if pauses := await (await connection.execute(query)).fetchall():
        await connection.execute(_PAUSE, _lanes_of(pauses))


def _lanes_of(pauses: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {
        kind.value: [name for paused, name in pauses if paused == kind]
        for kind in (PauseKind.ACTION, PauseKind.ACCOUNT)
    }


def _lane_of_pause(pause: Pause) -> dict[str, str | None]:
    return {
        kind.value: pause.name if pause.kind is kind else None
        for kind in (PauseKind.ACTION, PauseKind.ACCOUNT)
    }


async def _prune(connection: Connection, max_age: float, max_count: int) -> int:
    await _remove_empty_lanes(connection)
    # One hub at a time, since two that count the tasks would remove twice as many.
    cursor = await connection.execute(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('arbprov.prune', 0))"
    )
    if not (await cursor.fetchall())[0][0]:
        return 0
    cursor = await connection.execute(_TOO_OLD, [_limit(max_age), _MAX_CHANGES])
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
        await connection.execute(_COUNT, _transpose(counts, 3))
    return len(rows)


async def _remove_empty_lanes(connection: Connection) -> None:
    """Remove lanes whose last task was cancelled, and that no provider has asked for since."""
    cursor = await connection.execute(_FIND_EMPTY, [_MAX_CHANGES])
    if found := [lane_id for (lane_id,) in await cursor.fetchall()]:
        await connection.execute(_REMOVE_EMPTY, [found])


def _stored_task(row: Sequence[Any]) -> StoredTask:
    values = dict(zip(_STORED_NAMES, row, strict=True))
    return StoredTask(**values | {"state": State(values["state"])})


_STORED_NAMES = [field.name for field in attrs.fields(StoredTask)]
