"""How the PostgreSQL store adds tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from arbprov.localhub.store import Accepted
from arbprov.localhub.stores.postgres_connections import replace_odd
from arbprov.localhub.stores.postgres_lanes import LaneKey, enqueue, find_lane
from arbprov.localhub.stores.postgres_tasks import Connection, clamp
from arbprov.localhub.tasks import NewTask

__all__ = ["submit"]

# PostgreSQL has dates from 4713 BC to 294276.
_EARLIEST, _LATEST = -1e11, 1e12
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


async def submit(connection: Connection, tasks: Sequence[NewTask]) -> list[Accepted]:
    """Add tasks that are not known yet, and queue them in their lanes.

    Args:
        connection: In a transaction of its own.
        tasks: The tasks, at least one.
    """
    keys = [
        find_lane(task.provider, task.action, task.account_key, task.priority) for task in tasks
    ]
    added = await connection.execute(_INSERT, _columns_of(tasks, keys))
    pairs = list(zip(keys, tasks, strict=True))
    # It is sent together with the tasks, so it cannot wait for the answer which of them are new.
    if now := [key for key, task in pairs if task.not_before is None]:
        await enqueue(connection, now)
    is_queued = dict(await added.fetchall())
    # By the server's clock, the time of some may have come.
    if due := [
        key for key, task in pairs if task.not_before is not None and is_queued.get(task.id)
    ]:
        await enqueue(connection, due)
    if len(is_queued) == len(tasks):
        return [Accepted(task.id, is_new=True) for task in tasks]
    return await _find_accepted(connection, tasks, set(is_queued))


def _columns_of(tasks: Sequence[NewTask], keys: Sequence[LaneKey]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(task, name) for task in tasks]
        for name in (
            *("id", "action", "payload", "account", "account_key", "provider", "priority"),
            *("max_deliveries", "idempotency_key", "traceparent"),
        )
    }
    columns["lane"] = [key.id for key in keys]
    columns["not_before"] = [
        None if task.not_before is None else min(max(task.not_before, _EARLIEST), _LATEST)
        for task in tasks
    ]
    columns["ttl"] = [None if task.ttl is None else clamp(task.ttl) for task in tasks]
    columns["fields"] = [_readable(task.fields) for task in tasks]
    return columns


def _readable(fields: str) -> str:
    """Return fields as PostgreSQL can read them: it refuses some escapes in JSON."""
    if "\\u" not in fields:
        return fields
    pairs = json.loads(fields).items()
    cleaned = {replace_odd(key): replace_odd(value) for key, value in pairs}
    return json.dumps(cleaned, ensure_ascii=False)


async def _find_accepted(
    connection: Connection, tasks: Sequence[NewTask], added: set[str]
) -> list[Accepted]:
    parameters = {
        "ids": [task.id for task in tasks],
        "keys": [task.idempotency_key for task in tasks],
    }
    cursor = await connection.execute(_KNOWN, parameters)
    rows = await cursor.fetchall()
    ids = {row[0] for row in rows}
    by_key = {key: known_id for known_id, key in rows if key}
    accepted = []
    for task in tasks:
        known = by_key.get(task.idempotency_key, task.id)
        if known not in ids:
            # The task with this id or key was removed at this moment.
            raise psycopg.errors.SerializationFailure
        accepted.append(Accepted(known, is_new=task.id in added))
        added.discard(task.id)
    return accepted
