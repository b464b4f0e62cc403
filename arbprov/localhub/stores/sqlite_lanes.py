"""Which tasks of a hub's SQLite file may be handed out, and in which order.

Lanes, holds and pauses. A lane is ready only if a claim may take a task from it, so lanes that are
held, without room, paused or empty cost a claim nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from arbprov.localhub.store import SHORTEST_EPISODE

__all__ = ["Lane", "Lanes"]

_PICK = """
SELECT number, account_key, priority, action FROM (
    SELECT * FROM (
        SELECT * FROM lane WHERE ready AND provider = ''
        ORDER BY priority DESC, turn, lane_turn LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT * FROM lane WHERE ready AND provider = ?
        ORDER BY priority DESC, turn, lane_turn LIMIT 1
    )
) ORDER BY priority DESC, turn, lane_turn LIMIT 1
"""
_FIND = """
SELECT number FROM lane WHERE account_key = ? AND priority = ? AND action = ? AND provider = ?
"""
_ADD = """
INSERT INTO lane (account_key, priority, action, provider, ready, turn, lane_turn)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_GO_BACK = """
UPDATE lane SET turn = :turn, lane_turn = iif(number = :lane, :turn, lane_turn)
WHERE account_key = :account_key AND priority = :priority AND ready
"""
_GATE = """
SELECT NOT EXISTS (SELECT 1 FROM pause WHERE kind = 'action' AND name = :action)
    AND NOT EXISTS (SELECT 1 FROM pause WHERE kind = 'account' AND name = :account)
    AND NOT EXISTS (
        SELECT 1 FROM hold WHERE action = :action AND account_key = :account AND room = 0
    )
"""
_STOP_GROUP = """
UPDATE lane SET ready = 0 WHERE account_key = :account AND action = :action
"""
_WAKING = """
SELECT number FROM lane
WHERE account_key = :account AND action = :action AND NOT ready ORDER BY turn, lane_turn
"""
_HOLD = """
INSERT INTO hold (action, account_key, due_at, wait, limit_text, since)
VALUES (:action, :account, :until, :until - :now, :limit, :now)
ON CONFLICT DO UPDATE SET
    limited = limited + 1, held = 1, limit_text = :limit,
    due_at = max(:until, iif(held, due_at, 0)), wait = max(:until, iif(held, due_at, 0)) - :now
"""
# Without a limit, only an episode without room ends, which has taken more than its budget.
_BEGIN_EPISODE = """
UPDATE hold SET
    budget = iif(held, max(0, taken - limited), taken),
    held = 0, episode = :episode, taken = 0, passed = 0, limited = 0,
    due_at = :now + max(wait, :least)
WHERE action = :action AND account_key = :account
"""
_TAKE = """
UPDATE hold SET taken = taken + 1 WHERE action = ? AND account_key = ? RETURNING episode, room
"""
_LEAVE = """
UPDATE hold SET taken = taken - (NOT :passes), passed = passed + :passes
WHERE action = :action AND account_key = :account AND episode = :episode
"""
_REMOVE_UNUSED = """
DELETE FROM hold
WHERE action = :action AND account_key = :account AND NOT held AND taken = passed
  AND NOT EXISTS (SELECT 1 FROM lane WHERE action = :action AND account_key = :account)
"""
# Of a lane, or of an episode of which a task still runs.
_LAST_NUMBER = """
SELECT coalesce(max(number), 0) FROM (
    SELECT max(turn) AS number FROM lane
    UNION ALL SELECT max(episode) FROM task WHERE lease_ends_at IS NOT NULL
)
"""


class Lane(NamedTuple):
    """The lane that goes next."""

    number: int
    account_key: str
    priority: int
    action: str


class Lanes:
    """Changes lanes, holds and pauses, within a transaction of the caller's.

    Args:
        database: The connection that writes.

    >>> from arbprov.localhub.stores.sqlite_schema import migrate
    >>> database = sqlite3.connect(":memory:", isolation_level=None)
    >>> migrate(database)
    >>> lanes = Lanes(database)
    >>> number = lanes.find_or_add("account", 0, "forecast", "")
    >>> lanes.pick("weather").number == number
    True
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._execute = database.execute
        # It only grows; a transaction that was rolled back has left out some numbers.
        self._last_number: int = database.execute(_LAST_NUMBER).fetchone()[0]

    # Lanes.

    def pick(self, provider: str) -> Lane | None:
        """Return the lane whose first task a provider gets next; None if there is none."""
        row = self._execute(_PICK, [provider]).fetchone()
        return None if row is None else Lane(*row)

    def find_or_add(self, account_key: str, priority: int, action: str, provider: str) -> int:
        """Return a lane's number, of a new one if need be."""
        row = self._execute(_FIND, [account_key, priority, action, provider]).fetchone()
        if row is not None:
            number: int = row[0]
            return number
        ready = self._is_open(action, account_key)
        turn = self._make_number()
        added = self._execute(
            _ADD, [account_key, priority, action, provider, ready, turn, turn]
        ).lastrowid
        assert added is not None
        return added

    def _make_number(self) -> int:
        """Return a number after all others, for a turn or an episode."""
        self._last_number += 1
        return self._last_number

    def go_back(self, lane: Lane) -> None:
        """Have the account of a lane wait for its next turn, since a task was handed out."""
        self._execute(
            _GO_BACK,
            {
                "turn": self._make_number(),
                "lane": lane.number,
                "account_key": lane.account_key,
                "priority": lane.priority,
            },
        )

    def remove_if_empty(self, number: int, action: str, account_key: str) -> None:
        """Remove a lane in which no task waits; forget its group's limit if none is left."""
        if self._execute("SELECT 1 FROM task WHERE lane = ? LIMIT 1", [number]).fetchone():
            return
        self._execute("DELETE FROM lane WHERE number = ?", [number])
        self._execute(_REMOVE_UNUSED, {"action": action, "account": account_key})

    def _is_open(self, action: str, account_key: str) -> bool:
        """Return whether tasks of a group may be handed out."""
        found = self._execute(_GATE, {"action": action, "account": account_key})
        return bool(found.fetchone()[0])

    def _update_group(self, action: str, account_key: str) -> None:
        """Make a group's lanes ready, or not, as holds and pauses say."""
        group = {"action": action, "account": account_key}
        if not self._is_open(action, account_key):
            self._execute(_STOP_GROUP, group)
            return
        for (number,) in self._execute(_WAKING, group).fetchall():
            turn = self._make_number()
            self._execute(
                "UPDATE lane SET ready = 1, turn = ?, lane_turn = ? WHERE number = ?",
                [turn, turn, number],
            )

    # Holds.

    def hold(
        self,
        action: str,
        account_key: str,
        until: float,
        limit: str,
        now: float,
    ) -> None:
        """Hold a group back, for no shorter than it is held already.

        Args:
            action: The group's action.
            account_key: The group's account.
            until: The end of the hold.
            limit: The limit.
            now: The time.
        """
        self._execute(
            _HOLD,
            {
                "action": action,
                "account": account_key,
                "until": until,
                "limit": limit,
                "now": now,
            },
        )
        self._update_group(action, account_key)

    def begin_episode(self, action: str, account_key: str, now: float) -> None:
        """Begin the next episode of a group, if a task waits for it."""
        group = {"action": action, "account": account_key}
        values = {"episode": self._make_number(), "now": now, "least": SHORTEST_EPISODE}
        self._execute(_BEGIN_EPISODE, group | values)
        self._execute(_REMOVE_UNUSED, group)
        self._update_group(action, account_key)

    def take(self, action: str, account_key: str) -> int | None:
        """Count a task of a group as handed out; return the group's episode, None without one."""
        # A statement with RETURNING is only done when all its rows were read.
        found = self._execute(_TAKE, [action, account_key]).fetchall()
        if not found:
            return None
        [(episode, room)] = found
        if not room:
            self._update_group(action, account_key)
        return int(episode)

    def leave(self, action: str, account_key: str, episode: int, *, passes: bool) -> None:
        """Count a task of an episode as passed, or as never handed out."""
        group = {"action": action, "account": account_key}
        self._execute(_LEAVE, group | {"episode": episode, "passes": passes})
        self._execute(_REMOVE_UNUSED, group)
        self._update_group(action, account_key)

    # Pauses.

    def pause(self, kind: str, name: str, at: float) -> None:
        """Pause an action, a provider or an account."""
        self._execute("INSERT OR IGNORE INTO pause VALUES (?, ?, ?)", [kind, name, at])
        self._update_paused(kind, name)

    def resume(self, kind: str, name: str) -> None:
        """End a pause."""
        self._execute("DELETE FROM pause WHERE kind = ? AND name = ?", [kind, name])
        self._update_paused(kind, name)

    def is_paused(self, kind: str, name: str) -> bool:
        """Return whether an action, a provider or an account is paused."""
        found = self._execute("SELECT 1 FROM pause WHERE kind = ? AND name = ?", [kind, name])
        return found.fetchone() is not None

    def _update_paused(self, kind: str, name: str) -> None:
        # A provider has lanes in which others' tasks wait too: `claim` looks at its pause.
        column = {"action": "action", "account": "account_key"}.get(kind)
        if column is None:
            return
        # In the order of their turns, so that they begin in that order after a pause.
        groups: Iterable[tuple[str, str]] = self._execute(
            f"SELECT action, account_key FROM lane WHERE {column} = ? "  # noqa: S608
            f"GROUP BY action, account_key ORDER BY min(turn), min(lane_turn)",
            [name],
        ).fetchall()
        for action, account_key in groups:
            self._update_group(action, account_key)
