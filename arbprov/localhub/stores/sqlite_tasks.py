"""All changes of tasks in a hub's SQLite file.

Each method runs within a transaction that the caller begins; `flush` comes before its end.
"""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from arbprov.localhub.store import Accepted, Due, StoredToken
from arbprov.localhub.stores.reasons import EXPIRED, describe_lost
from arbprov.localhub.stores.sqlite_lanes import Lane, Lanes
from arbprov.localhub.tasks import (
    Delivery,
    NewTask,
    Outcome,
    Pause,
    PauseKind,
    ReceivedResult,
    State,
)

__all__ = ["Tasks"]

# How many tasks `upkeep` and `prune` change at once, so that others' changes need not wait long.
_MAX_CHANGES = 1_000

_INSERT = """
INSERT INTO task (id, action, state, account_key, provider, priority, lane, not_before, expires_at,
                  max_deliveries, idempotency_key, created_at)
VALUES (?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FIRST_TWO = """
SELECT number, attempt, expires_at FROM task WHERE lane = ? ORDER BY number LIMIT 2
"""
_HAND_OUT = """
UPDATE task SET state = 'running', lane = NULL, attempt = attempt + 1, deliveries = deliveries + 1,
    started_at = :now, lease_ends_at = :lease_ends_at, worker = :provider, episode = :episode
WHERE number = :number RETURNING id, attempt
"""
_FIND = """
SELECT number, id, action, account_key, provider, priority, state, lane, attempt, deliveries,
       max_deliveries, not_before, worker, episode
FROM task WHERE {}
"""
_FIND_BY_ID = _FIND.format("id = ?")
_LOST_LEASES = _FIND.format("lease_ends_at <= ? ORDER BY lease_ends_at LIMIT ?")
_EXPIRED = _FIND.format(
    "state = 'waiting' AND attempt = 0 AND expires_at IS NOT NULL AND expires_at <= ? "
    "ORDER BY expires_at LIMIT ?"
)
_STARTING = _FIND.format(
    "state = 'waiting' AND lane IS NULL AND not_before <= ? ORDER BY not_before, number LIMIT ?"
)
_BY_NUMBER = _FIND.format("number = ?")
_NEXT_TIME = """
SELECT min(at) FROM (
    SELECT min(lease_ends_at) AS at FROM task WHERE lease_ends_at IS NOT NULL
    UNION ALL SELECT min(due_at) FROM hold WHERE room = 0
    UNION ALL SELECT min(not_before) FROM task WHERE state = 'waiting' AND lane IS NULL
    UNION ALL SELECT min(expires_at) FROM task
              WHERE state = 'waiting' AND attempt = 0 AND expires_at IS NOT NULL
)
"""
_OLDEST_ENDED = """
SELECT number, action, state, ended_at FROM task WHERE ended_at IS NOT NULL
ORDER BY ended_at, number LIMIT ?
"""


class _Task(NamedTuple):
    """What a change needs to know of a task."""

    number: int
    id: str
    action: str
    account_key: str
    provider: str
    priority: int
    state: str
    lane: int | None
    attempt: int
    deliveries: int
    max_deliveries: int
    not_before: float | None
    worker: str
    episode: int | None

    @property
    def has_ended(self) -> bool:
        return State(self.state).has_ended


class Tasks:
    """Changes tasks, attempts, holds, pauses and tokens.

    Args:
        database: The connection that writes.

    >>> from arbprov.localhub.stores.sqlite_schema import migrate
    >>> database = sqlite3.connect(":memory:", isolation_level=None)
    >>> migrate(database)
    >>> tasks = Tasks(database)
    >>> tasks.submit([NewTask(id="t1", action="forecast")], now=0.0)
    [Accepted(id='t1', is_new=True)]
    >>> [task.id for task in tasks.claim("weather", 1, lease=60.0, now=1.0)[0]]
    ['t1']
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._execute = database.execute
        self._executemany = database.executemany
        self._lanes = Lanes(database)
        # What the transaction adds to the number of tasks by action and state.
        self._added: collections.Counter[tuple[str, str]] = collections.Counter()

    def flush(self) -> None:
        """Write the numbers of tasks by action and state, before the transaction ends."""
        self._executemany(
            "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(action, state, n) for (action, state), n in self._added.items() if n],
        )
        self._added.clear()

    def discard(self) -> None:
        """Forget what was counted in a transaction that was rolled back."""
        self._added.clear()

    # Tasks on their way.

    def submit(self, tasks: Sequence[NewTask], now: float) -> list[Accepted]:
        """See `Store.submit`."""
        accepted = []
        for task in tasks:
            known = self._find_known(task)
            if known is None:
                self._add(task, now)
            accepted.append(Accepted(task.id if known is None else known, known is None))
        return accepted

    def _find_known(self, task: NewTask) -> str | None:
        row = None
        if task.idempotency_key:
            row = self._execute(
                "SELECT id FROM task WHERE idempotency_key = ? AND idempotency_key != ''",
                [task.idempotency_key],
            ).fetchone()
        row = row or self._execute("SELECT id FROM task WHERE id = ?", [task.id]).fetchone()
        return None if row is None else row[0]

    def _add(self, task: NewTask, now: float) -> None:
        lane = None
        if task.not_before is None or task.not_before <= now:
            lane = self._lanes.find_or_add(
                task.account_key, task.priority, task.action, task.provider
            )
        number = self._execute(
            _INSERT,
            [
                task.id,
                task.action,
                task.account_key,
                task.provider,
                task.priority,
                lane,
                task.not_before,
                None if task.ttl is None else now + task.ttl,
                task.max_deliveries,
                task.idempotency_key,
                now,
            ],
        ).lastrowid
        self._execute(
            "INSERT INTO body VALUES (?, ?, ?, ?, ?)",
            [number, task.payload, task.account, task.traceparent, task.fields],
        )
        self._added[task.action, "waiting"] += 1

    def claim(
        self, provider: str, count: int, lease: float, now: float
    ) -> tuple[list[Delivery], list[str]]:
        """See `Store.claim`; return the ids of tasks that were too late to start, too."""
        deliveries: list[Delivery] = []
        expired: list[str] = []
        if self._lanes.is_paused(PauseKind.PROVIDER, provider):
            return deliveries, expired
        while len(deliveries) < count and len(expired) < _MAX_CHANGES:
            lane = self._lanes.pick(provider)
            if lane is None:
                break
            (number, attempt, expires_at), *others = self._execute(
                _FIRST_TWO, [lane.number]
            ).fetchall()
            if expires_at is not None and expires_at <= now and not attempt:
                task = _Task(*self._execute(_BY_NUMBER, [number]).fetchone())
                self._end(task, State.DEAD, now, reason=EXPIRED)
                expired.append(task.id)
                continue
            deliveries.append(self._hand_out(number, lane, provider, lease, now))
            self._lanes.go_back(lane)
            if not others:
                self._lanes.remove_if_empty(lane.number, lane.action, lane.account_key)
        return deliveries, expired

    def _hand_out(
        self, number: int, lane: Lane, provider: str, lease: float, now: float
    ) -> Delivery:
        row = {
            "number": number,
            "provider": provider,
            "now": now,
            "lease_ends_at": now + lease,
            "episode": self._lanes.take(lane.action, lane.account_key),
        }
        # A statement with RETURNING is only done when all its rows were read.
        [(task_id, attempt)] = self._execute(_HAND_OUT, row).fetchall()
        self._execute(
            "INSERT INTO attempt (task, attempt, provider, started_at) VALUES (?, ?, ?, ?)",
            [number, attempt, provider, now],
        )
        payload, account, traceparent = self._execute(
            "SELECT payload, account, traceparent FROM body WHERE task = ?", [number]
        ).fetchone()
        self._added[lane.action, "waiting"] -= 1
        self._added[lane.action, "running"] += 1
        return Delivery(
            id=task_id,
            action=lane.action,
            payload=payload,
            account=account,
            attempt=attempt,
            lease=lease,
            traceparent=traceparent,
        )

    def give_back(self, deliveries: Sequence[tuple[str, int]], now: float) -> None:
        """See `Store.give_back`."""
        for task_id, attempt in deliveries:
            task = self._find(task_id)
            if task is None or task.state != State.RUNNING or task.attempt != attempt:
                continue
            self._end_attempt(task, "returned", now)
            self._wait_again(task, deliveries=task.deliveries - 1)
            self._leave_episode(task)

    def record(self, results: Sequence[ReceivedResult], now: float) -> list[Outcome]:
        """See `Store.record`."""
        return [self._record(result, now) for result in results]

    def _record(self, result: ReceivedResult, now: float) -> Outcome:  # noqa: PLR0911
        task = self._find(result.id)
        if task is None:
            return Outcome.UNKNOWN
        if not result.attempt and self._is_known(task, result):
            return Outcome.REPEATED
        number = result.attempt or task.attempt
        attempt = self._execute(
            "SELECT status, result FROM attempt WHERE task = ? AND attempt = ?",
            [task.number, number],
        ).fetchone()
        if attempt is None:
            return Outcome.UNKNOWN
        status, text = attempt
        if (status, text) == (result.status, result.result):
            return Outcome.REPEATED
        if status:
            self._keep_aside(task, number, result)
            return Outcome.KEPT_ASIDE
        self._add_result(task, number, result, now)
        if task.has_ended:
            return Outcome.KEPT_ASIDE
        if not result.is_retried:
            self._finish(task, number, result, now)
        elif task.state == State.RUNNING and number == task.attempt:
            self._wait_again(task, deliveries=task.deliveries - 1)
            until = now + result.wait_time
            self._lanes.hold(task.action, task.account_key, until, result.limit, now)
        return Outcome.RECORDED

    def _add_result(self, task: _Task, attempt: int, result: ReceivedResult, now: float) -> None:
        """Have an attempt have a result, and end with it if it has not ended."""
        self._execute(
            "UPDATE attempt SET status = ?, result = ?, end = iif(end = '', ?, end), "
            "ended_at = coalesce(ended_at, ?) WHERE task = ? AND attempt = ?",
            [
                result.status,
                result.result,
                "limit" if result.is_retried else "result",
                now,
                task.number,
                attempt,
            ],
        )

    def _is_known(self, task: _Task, result: ReceivedResult) -> bool:
        found = self._execute(
            "SELECT 1 FROM attempt WHERE task = ? AND status = ? AND result = ?",
            [task.number, result.status, result.result],
        )
        return found.fetchone() is not None

    def _keep_aside(self, task: _Task, attempt: int, result: ReceivedResult) -> None:
        row = [task.number, attempt, result.status, result.result]
        known = self._execute(
            "SELECT 1 FROM aside WHERE task = ? AND attempt = ? AND status = ? AND result = ?", row
        ).fetchone()
        if not known:
            self._execute(
                "INSERT INTO aside (task, attempt, status, result) VALUES (?, ?, ?, ?)", row
            )

    def _finish(self, task: _Task, attempt: int, result: ReceivedResult, now: float) -> None:
        self._execute(
            "UPDATE task SET result_of = ?, message = ?, error_type = ? WHERE number = ?",
            [attempt, result.message, result.error_type, task.number],
        )
        self._end(task, State.DONE if result.is_good else State.FAILED, now)
        # The result may be of an earlier attempt.
        self._leave_episode(task, passes=attempt == task.attempt)

    def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]], lease: float, now: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """See `Store.renew`."""
        cancelled, lost = [], []
        for task_id, attempt in tasks:
            task = self._find(task_id)
            if task is not None and task.state == State.CANCELLED:
                cancelled.append((task_id, attempt))
            elif (
                task is None
                or task.has_ended
                or attempt not in {0, task.attempt}
                or task.worker != provider
            ):
                lost.append((task_id, attempt))
            elif task.state == State.RUNNING:
                self._execute(
                    "UPDATE task SET lease_ends_at = ? WHERE number = ?",
                    [now + lease, task.number],
                )
        return cancelled, lost

    # What time brings.

    def upkeep(self, now: float) -> Due:
        """See `Store.upkeep`."""
        left = _MAX_CHANGES
        ready = False
        ended: list[str] = []
        for row in self._execute(_LOST_LEASES, [now, left]).fetchall():
            left -= 1
            if self._lose_lease(task := _Task(*row), now):
                ended.append(task.id)
            else:
                ready = True
        for row in self._execute(_EXPIRED, [now, left]).fetchall():
            left -= 1
            self._end(task := _Task(*row), State.DEAD, now, reason=EXPIRED)
            ended.append(task.id)
        for row in self._execute(_STARTING, [now, left]).fetchall():
            left -= 1
            self._enter_lane(_Task(*row))
            ready = True
        groups = self._execute(
            "SELECT action, account_key FROM hold WHERE room = 0 AND due_at <= ? "
            "ORDER BY due_at LIMIT ?",
            [now, left],
        ).fetchall()
        for action, account_key in groups:
            self._lanes.begin_episode(action, account_key, now)
            ready = True
        following = self._execute(_NEXT_TIME).fetchone()[0]
        return Due(ready, tuple(ended), None if following is None else max(0.0, following - now))

    def _lose_lease(self, task: _Task, now: float) -> bool:
        """End an attempt without a result; return whether its task is dead."""
        self._end_attempt(task, "lease", now)
        if task.deliveries < task.max_deliveries:
            self._wait_again(task, deliveries=task.deliveries)
        else:
            self._end(task, State.DEAD, now, reason=describe_lost(task.deliveries))
        self._leave_episode(task)
        return task.deliveries >= task.max_deliveries

    def prune(self, max_age: float, max_count: int, now: float) -> int:
        """See `Store.prune`."""
        self.flush()
        ended = self._execute(
            "SELECT coalesce(sum(n), 0) FROM counter WHERE state NOT IN ('waiting', 'running')"
        ).fetchone()[0]
        excess = ended - max_count
        removed: list[list[int]] = []
        for number, action, state, ended_at in self._execute(_OLDEST_ENDED, [_MAX_CHANGES]):
            if ended_at > now - max_age and len(removed) >= excess:
                break
            removed.append([number])
            self._added[action, state] -= 1
        for table in ("aside", "attempt", "body"):
            self._executemany(f"DELETE FROM {table} WHERE task = ?", removed)  # noqa: S608
        self._executemany("DELETE FROM task WHERE number = ?", removed)
        self.flush()
        # Actions are named from outside, so there may be any number of them in time.
        self._execute("DELETE FROM counter WHERE n = 0")
        return len(removed)

    # What people do.

    def retry(self, ids: Sequence[str], now: float) -> list[str]:
        """See `Store.retry`."""
        retried = []
        for task in self._find_all(ids):
            if not task.has_ended:
                continue
            self._execute(
                "UPDATE task SET state = 'waiting', deliveries = 0, ended_at = NULL, "
                "expires_at = NULL, result_of = NULL, message = '', error_type = '', reason = '' "
                "WHERE number = ?",
                [task.number],
            )
            self._added[task.action, task.state] -= 1
            self._added[task.action, "waiting"] += 1
            if task.not_before is None or task.not_before <= now:
                self._enter_lane(task)
            retried.append(task.id)
        return retried

    def cancel(self, ids: Sequence[str], reason: str, now: float) -> list[str]:
        """See `Store.cancel`."""
        cancelled = []
        for task in self._find_all(ids):
            if task.has_ended:
                continue
            if task.state == State.RUNNING:
                self._end_attempt(task, "cancelled", now)
            self._end(task, State.CANCELLED, now, reason=reason)
            self._leave_episode(task)
            cancelled.append(task.id)
        return cancelled

    def pause(self, pause: Pause, now: float) -> None:
        """See `Store.pause`."""
        self._lanes.pause(pause.kind.value, pause.name, pause.at or now)

    def resume(self, pause: Pause) -> None:
        """See `Store.resume`."""
        self._lanes.resume(pause.kind.value, pause.name)

    # Tokens.

    def add_token(self, token: StoredToken) -> bool:
        """See `Store.add_token`."""
        added = self._execute(
            "INSERT OR IGNORE INTO token VALUES (?, ?, ?, ?, ?)",
            [token.name, token.role, token.provider, token.digest, token.created_at],
        )
        return added.rowcount == 1

    def remove_token(self, name: str) -> bool:
        """See `Store.remove_token`."""
        return self._execute("DELETE FROM token WHERE name = ?", [name]).rowcount == 1

    # A task from one state to another.

    def _find(self, id: str) -> _Task | None:
        row = self._execute(_FIND_BY_ID, [id]).fetchone()
        return None if row is None else _Task(*row)

    def _find_all(self, ids: Sequence[str]) -> Iterable[_Task]:
        """Yield the tasks of known ids, each as it is when its turn has come."""
        for task_id in ids:
            if (task := self._find(task_id)) is not None:
                yield task

    def _end_attempt(self, task: _Task, end: str, now: float) -> None:
        self._execute(
            "UPDATE attempt SET end = ?, ended_at = ? WHERE task = ? AND attempt = ?",
            [end, now, task.number, task.attempt],
        )

    def _wait_again(self, task: _Task, *, deliveries: int) -> None:
        """Return a running task to its lane."""
        self._execute(
            "UPDATE task SET state = 'waiting', lease_ends_at = NULL, episode = NULL, "
            "deliveries = ? WHERE number = ?",
            [deliveries, task.number],
        )
        self._added[task.action, "running"] -= 1
        self._added[task.action, "waiting"] += 1
        self._enter_lane(task)

    def _leave_episode(self, task: _Task, *, passes: bool = False) -> None:
        """Count a task that has run in an episode of its group as passed, or as not handed out."""
        if task.episode is not None:
            self._lanes.leave(task.action, task.account_key, task.episode, passes=passes)

    def _enter_lane(self, task: _Task) -> None:
        lane = self._lanes.find_or_add(task.account_key, task.priority, task.action, task.provider)
        self._execute("UPDATE task SET lane = ? WHERE number = ?", [lane, task.number])

    def _end(self, task: _Task, state: State, now: float, *, reason: str = "") -> None:
        self._execute(
            "UPDATE task SET state = ?, lane = NULL, lease_ends_at = NULL, episode = NULL, "
            "ended_at = ?, reason = ? WHERE number = ?",
            [state.value, now, reason, task.number],
        )
        self._added[task.action, task.state] -= 1
        self._added[task.action, state.value] += 1
        if task.lane is not None:
            self._lanes.remove_if_empty(task.lane, task.action, task.account_key)
