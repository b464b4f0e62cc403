"""The store of any number of hubs: a PostgreSQL database.

All coordination is in transactions, by the server's time; there is no leader, and hubs may come
and go. `arbprov.localhub.stores.postgres_lanes` says how the locks fit together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arbprov.errors import ConfigurationError, HubError
from arbprov.localhub.store import Accepted, Due, StoredToken
from arbprov.localhub.stores.postgres_reads import (
    ATTEMPTS,
    COUNTS,
    ENDINGS,
    HELD,
    NUMBERS,
    POSITION,
    POSTGRES,
    PREVIEWS,
    TASKS,
    read_attempt,
    read_scope,
    read_task,
)
from arbprov.localhub.stores.search import find_conditions
from arbprov.localhub.tasks import (
    Attempt,
    Delivery,
    Ending,
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
    from arbprov.localhub.stores import postgres_pauses as pauses
    from arbprov.localhub.stores.postgres_claim import Round, claim_tasks
    from arbprov.localhub.stores.postgres_connections import Connections, find_name, read_url
    from arbprov.localhub.stores.postgres_holds import update_groups
    from arbprov.localhub.stores.postgres_lanes import enqueue
    from arbprov.localhub.stores.postgres_record import record
    from arbprov.localhub.stores.postgres_schema import migrate
    from arbprov.localhub.stores.postgres_signals import Signals
    from arbprov.localhub.stores.postgres_submit import submit
    from arbprov.localhub.stores.postgres_tasks import (
        Connection,
        change,
        clamp,
        count,
        end_attempts,
        key_of,
        lock_tasks,
        transpose,
    )
    from arbprov.localhub.stores.postgres_upkeep import prune, upkeep
except ImportError:
    raise ConfigurationError(
        "a hub on PostgreSQL needs the package psycopg: pip install 'arbprov[postgres]'"
    ) from None

__all__ = ["PostgresStore"]

# How many tasks a transaction of `claim` hands out at most; a block of turns is larger.
_MAX_CLAIM = 10_000
# How often `claim` looks again, after some milliseconds, if other hubs have locked all lanes.
_MAX_RETRIES = 8
_RETRY_DELAY = 0.004
# How often it looks further if lanes turn out to have nothing for it.
_MAX_IDLE_ROUNDS = 20
# How many lanes it looks at from the second time on.
_MANY_LANES = 64
_RETRY = """
UPDATE arbprov.tasks SET
    state = 'waiting', queued = COALESCE(not_before <= now(), true),
    due_at = CASE WHEN not_before > now() THEN not_before END,
    deliveries = 0, expires_at = NULL, ended_at = NULL, result_of = NULL, status = '', message = '',
    error_type = '', reason = ''
WHERE number = ANY(%s) RETURNING number, queued
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
            return await submit(connection, tasks)

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
            ) -> Round:
                return await claim_tasks(connection, provider, wanted, width, lease)

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
                for task in await lock_tasks(connection, list(given))
                if task.state is State.RUNNING and task.attempt == given[task.id]
            ]
            if not tasks:
                return
            for task in tasks:
                task.state, task.is_queued = State.WAITING, True
                task.deliveries -= 1
            await end_attempts(connection, tasks, "returned")
            await change(connection, tasks)
            await update_groups(connection, tasks)
            await enqueue(connection, map(key_of, tasks))

        await self._connections.transact(work)
        self._signals.changed()

    async def record(self, results: Sequence[ReceivedResult]) -> list[Outcome]:
        """Record results; see `Store.record`."""
        if not results:
            return []

        async def work(connection: Connection) -> list[Outcome]:
            return await record(connection, results)

        outcomes = await self._connections.transact(work)
        self._signals.changed()
        return outcomes

    async def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]], lease: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Have leases end later; see `Store.renew`."""
        ids, attempts = transpose(tasks, 2)
        parameters = {
            "ids": ids,
            "attempts": attempts,
            "provider": provider,
            "lease": clamp(lease),
        }

        async def work(connection: Connection) -> dict[str, tuple[str, int, str]]:
            await connection.execute(_RENEW, parameters)
            cursor = await connection.execute(_STATES, [ids])
            return {row[0]: row[1:] for row in await cursor.fetchall()}

        found = await self._connections.transact(work)
        cancelled, lost = [], []
        for task_id, attempt in tasks:
            state, latest, worker = found.get(task_id, ("", 0, ""))
            is_latest = attempt in (0, latest) and worker == provider
            if state == State.CANCELLED:
                cancelled.append((task_id, attempt))
            elif not is_latest or state not in (State.RUNNING, State.WAITING):
                lost.append((task_id, attempt))
        return cancelled, lost

    async def upkeep(self) -> Due:
        """Do what is due; see `Store.upkeep`."""
        due = await self._connections.transact(upkeep)
        if due.ready or due.ended:
            self._signals.changed()
        return due

    async def prune(self, max_age: float, max_count: int) -> int:
        """Remove ended tasks; see `Store.prune`."""

        async def work(connection: Connection) -> int:
            return await prune(connection, max_age, max_count)

        return await self._connections.transact(work)

    # What people do.

    async def retry(self, ids: Sequence[str]) -> list[str]:
        """Have ended tasks wait again; see `Store.retry`."""

        async def work(connection: Connection) -> list[str]:
            tasks = {
                task.number: task
                for task in await lock_tasks(connection, ids)
                if task.state.has_ended
            }
            if not tasks:
                return []
            cursor = await connection.execute(_RETRY, [list(tasks)])
            queued = sorted(number for number, is_queued in await cursor.fetchall() if is_queued)
            for task in tasks.values():
                task.state = State.WAITING
            await count(connection, tasks.values())
            if queued:
                await enqueue(connection, [key_of(tasks[number]) for number in queued])
            return [task.id for task in tasks.values()]

        retried = await self._connections.transact(work)
        self._signals.changed()
        return retried

    async def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """Cancel tasks; see `Store.cancel`."""

        async def work(connection: Connection) -> list[str]:
            tasks = [task for task in await lock_tasks(connection, ids) if not task.state.has_ended]
            if not tasks:
                return []
            for task in tasks:
                task.state, task.is_queued, task.reason = State.CANCELLED, False, reason
            running = [task for task in tasks if task.was is State.RUNNING]
            await end_attempts(connection, running, "cancelled")
            await change(connection, tasks)
            await update_groups(connection, tasks)
            return [task.id for task in tasks]

        cancelled = await self._connections.transact(work)
        self._signals.changed()
        return cancelled

    async def pause(self, pause: Pause) -> None:
        """Hand out no more tasks; see `Store.pause`."""

        async def work(connection: Connection) -> None:
            await pauses.pause(connection, pause)

        await self._connections.transact(work)
        self._signals.changed()

    async def resume(self, pause: Pause) -> None:
        """End a pause; see `Store.resume`."""

        async def work(connection: Connection) -> None:
            await pauses.resume(connection, pause)

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
        return [read_attempt(row) for row in await self._connections.read(ATTEMPTS, [id])]

    async def search(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        preview: int | None = None,
    ) -> list[StoredTask]:
        """Return tasks, the latest first; see `Store.search`."""
        conditions, parameters = find_conditions(where, before, after, POSTGRES)
        return await self._read_tasks(
            f"{conditions} ORDER BY number DESC LIMIT %s", [*parameters, limit], preview
        )

    async def count(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        most: int = 10_000,
    ) -> int:
        """Return how many tasks a filter finds; see `Store.count`."""
        conditions, parameters = find_conditions(where, before, after, POSTGRES)
        query = f"SELECT count(*) FROM ({TASKS} WHERE {conditions} LIMIT %s) AS found"  # noqa: S608
        [(found,)] = await self._connections.read(query, [*parameters, most])
        return int(found)

    async def find_end(
        self, where: TaskFilter, *, before: int | None = None, most: int
    ) -> int | None:
        """Return the number behind which a filter finds `most` tasks; see `Store.find_end`."""
        conditions, parameters = find_conditions(where, before, None, POSTGRES)
        query = f"{NUMBERS} WHERE {conditions} ORDER BY number DESC LIMIT 1 OFFSET %s"
        rows = await self._connections.read(query, [*parameters, most])
        return int(rows[0][0]) if rows else None

    async def counts(self) -> Mapping[str, Mapping[State, int]]:
        """Return the number of tasks by action and state; see `Store.counts`."""
        counts: dict[str, dict[State, int]] = {}
        for action, state, number in await self._connections.read(COUNTS):
            counts.setdefault(action, {})[State(state)] = number
        return counts

    async def endings(self, limit: int) -> list[Ending]:
        """Return how the latest ended tasks have ended; see `Store.endings`."""
        return [
            Ending(
                action=action,
                state=State(state),
                started_at=started_at,
                ended_at=ended_at,
                error_type=error_type,
            )
            for action, state, started_at, ended_at, error_type in await self._connections.read(
                ENDINGS, [limit]
            )
        ]

    async def held(self) -> list[Scope]:
        """Return the groups that are over a limit; see `Store.held`."""
        return [read_scope(row) for row in await self._connections.read(HELD)]

    async def pauses(self) -> list[Pause]:
        """Return the pauses; see `Store.pauses`."""
        query = (
            "SELECT kind, name, extract(epoch FROM at)::float8 FROM arbprov.pauses "
            "ORDER BY at, name"
        )
        rows = await self._connections.read(query)
        return [Pause(PauseKind(kind), name, at) for kind, name, at in rows]

    async def position(self, id: str) -> int:
        """Return how many tasks go before a waiting task; see `Store.position`."""
        [(position,)] = await self._connections.read(POSITION, [id])
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

    async def _read_tasks(
        self, condition: str, parameters: list[Any], preview: int | None = None
    ) -> list[StoredTask]:
        tasks = TASKS
        if preview is not None:
            tasks, parameters = PREVIEWS, [preview, *parameters]
        rows = await self._connections.read(f"{tasks} WHERE {condition}", parameters)
        return [read_task(row) for row in rows]
