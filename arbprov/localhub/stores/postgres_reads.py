"""How the PostgreSQL store reads tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from arbprov.localhub.stores.search import Dialect
from arbprov.localhub.tasks import Attempt, Scope, State, StoredTask

__all__ = [
    "ATTEMPTS",
    "COUNTS",
    "ENDINGS",
    "HELD",
    "NUMBERS",
    "POSITION",
    "POSTGRES",
    "PREVIEWS",
    "TASKS",
    "read_attempt",
    "read_scope",
    "read_task",
]

# The columns have the names of `StoredTask`, and times are seconds since 1970.
_STORED = """
(
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
_TASKS = f"""
SELECT number, id, action, state, {{payload}}, account, account_key, provider, priority, not_before,
       expires_at, max_deliveries, idempotency_key, traceparent, attempt, deliveries, lease_ends_at,
       created_at, started_at, ended_at, worker, status, {{result}}, message, error_type, reason
FROM {_STORED}
"""  # noqa: S608
_RESULT = """
       COALESCE((
           SELECT result FROM arbprov.attempts
           WHERE attempts.task = stored.number AND attempts.number = stored.result_of
       ), '')"""
NUMBERS = f"SELECT number FROM {_STORED}"  # noqa: S608
TASKS = _TASKS.format(payload="payload", result=_RESULT)
# With a parameter: the most bytes of a payload.
PREVIEWS = _TASKS.format(payload="substr(payload, 1, %s)", result="''")
ATTEMPTS = """
SELECT attempts.number, attempts.provider, extract(epoch FROM attempts.started_at)::float8,
       extract(epoch FROM attempts.ended_at)::float8, ended_as, attempts.status, result, aside
FROM arbprov.attempts JOIN arbprov.tasks ON tasks.number = attempts.task
WHERE tasks.id = %s ORDER BY attempts.number
"""
COUNTS = """
SELECT action, state, sum(change)::bigint FROM arbprov.counts
GROUP BY action, state HAVING sum(change) <> 0
"""
ENDINGS = """
SELECT action, state, extract(epoch FROM started_at)::float8, extract(epoch FROM ended_at)::float8,
       error_type
FROM arbprov.tasks WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, number DESC LIMIT %s
"""
HELD = """
SELECT action, account_key,
       extract(epoch FROM CASE WHEN room > 0 THEN since ELSE due_at END)::float8, limited_by,
       extract(epoch FROM since)::float8, room
FROM arbprov.holds ORDER BY since, action, account_key
"""
POSITION = """
SELECT count(*) FROM arbprov.tasks AS this
JOIN arbprov.tasks AS other
    ON other.lane = this.lane AND other.queued AND other.number < this.number
WHERE this.id = %s AND this.state = 'waiting'
"""
POSTGRES = Dialect(
    placeholder="%s",
    is_any_of="{column} = ANY(%s)",
    has_field="fields::json ->> %s = %s",
    contains="(id ILIKE %s OR message ILIKE %s OR arbprov.as_text(payload) ILIKE %s)",
    pack_list=list,
)
_NAMES = [field.name for field in attrs.fields(StoredTask)]
_ATTEMPT_NAMES = [field.name for field in attrs.fields(Attempt)]
_SCOPE_NAMES = [field.name for field in attrs.fields(Scope)]


def read_task(row: Sequence[Any]) -> StoredTask:
    """Return a task from a row of `TASKS`."""
    values = dict(zip(_NAMES, row, strict=True))
    return StoredTask(**values | {"state": State(values["state"])})


def read_attempt(row: Sequence[Any]) -> Attempt:
    """Return an attempt from a row of `ATTEMPTS`."""
    values = dict(zip(_ATTEMPT_NAMES, row, strict=True))
    return Attempt(**values | {"aside": tuple(values["aside"])})


def read_scope(row: Sequence[Any]) -> Scope:
    """Return a group from a row of `HELD`."""
    return Scope(**dict(zip(_SCOPE_NAMES, row, strict=True)))
