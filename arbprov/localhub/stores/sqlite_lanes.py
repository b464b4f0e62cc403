"""Which tasks of a hub's SQLite file may be handed out, and in which order.

Lanes, holds and pauses. A lane is ready only if a claim may take a task from it, so lanes that are
held, paused or empty cost a claim nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Lane", "Lanes"]

_PICK = """
SELECT number, account_key, priority, action, probing FROM (
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
INSERT INTO lane (account_key, priority, action, provider, ready, probing, turn, lane_turn)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_GO_BACK = """
UPDATE lane SET turn = :turn, lane_turn = iif(number = :lane, :turn, lane_turn)
WHERE account_key = :account_key AND priority = :priority AND ready
"""
_GATE = """
SELECT EXISTS (SELECT 1 FROM pause WHERE kind = 'action' AND name = :action)
    OR EXISTS (SELECT 1 FROM pause WHERE kind = 'account' AND name = :account),
    (SELECT stage FROM hold WHERE action = :action AND account_key = :account)
"""
_STOP_GROUP = """
UPDATE lane SET ready = 0, probing = 0 WHERE account_key = :account AND action = :action
"""
_WAKING = """
SELECT number FROM lane
WHERE account_key = :account AND action = :action AND NOT ready ORDER BY turn, lane_turn
"""
_SET_PROBING = """
UPDATE lane SET probing = :probing WHERE account_key = :account AND action = :action
"""
_HOLD = """
INSERT INTO hold VALUES (:action, :account, :until, :limit, :now, 'held', NULL)
ON CONFLICT DO UPDATE SET held_until = max(held_until, :until), limit_text = :limit,
stage = 'held', probe = NULL
"""


class Lane(NamedTuple):
    """The lane that goes next."""

    number: int
    account_key: str
    priority: int
    action: str
    probing: int


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
        # It only grows; a transaction that was rolled back has left out some turns.
        self._turn: int = database.execute("SELECT coalesce(max(turn), 0) FROM lane").fetchone()[0]

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
        ready, probing = self._find_gate(action, account_key)
        turn = self._find_last_turn()
        added = self._execute(
            _ADD, [account_key, priority, action, provider, ready, probing, turn, turn]
        ).lastrowid
        assert added is not None
        return added

    def _find_last_turn(self) -> int:
        """Return a turn after all others."""
        self._turn += 1
        return self._turn

    def go_back(self, lane: Lane) -> None:
        """Have the account of a lane wait for its next turn, since a task was handed out."""
        self._execute(
            _GO_BACK,
            {
                "turn": self._find_last_turn(),
                "lane": lane.number,
                "account_key": lane.account_key,
                "priority": lane.priority,
            },
        )

    def remove_if_empty(self, number: int, action: str, account_key: str) -> None:
        """Remove a lane in which no task waits; open its group if none is left to go first."""
        if self._execute("SELECT 1 FROM task WHERE lane = ? LIMIT 1", [number]).fetchone():
            return
        self._execute("DELETE FROM lane WHERE number = ?", [number])
        if self._find_stage(action, account_key) == "probing":
            self._open_if_empty(action, account_key)

    def _find_gate(self, action: str, account_key: str) -> tuple[bool, bool]:
        """Return whether a group's lanes are ready, and whether only one task may go."""
        paused, stage = self._execute(_GATE, {"action": action, "account": account_key}).fetchone()
        return not paused and stage in {None, "probing"}, not paused and stage == "probing"

    def _update_group(self, action: str, account_key: str) -> None:
        """Make a group's lanes ready, or not, as holds and pauses say."""
        ready, probing = self._find_gate(action, account_key)
        group = {"action": action, "account": account_key}
        if not ready:
            self._execute(_STOP_GROUP, group)
            return
        for (number,) in self._execute(_WAKING, group).fetchall():
            turn = self._find_last_turn()
            self._execute(
                "UPDATE lane SET ready = 1, turn = ?, lane_turn = ? WHERE number = ?",
                [turn, turn, number],
            )
        self._execute(_SET_PROBING, group | {"probing": probing})

    # Holds.

    def hold(self, action: str, account_key: str, until: float, limit: str, now: float) -> None:
        """Hold a group back, for no shorter than it is held already."""
        self._execute(
            _HOLD,
            {"action": action, "account": account_key, "until": until, "limit": limit, "now": now},
        )
        self._update_group(action, account_key)

    def end_hold(self, action: str, account_key: str) -> None:
        """Let one task of a group go first."""
        self._execute(
            "UPDATE hold SET stage = 'probing', probe = NULL WHERE action = ? AND account_key = ?",
            [action, account_key],
        )
        if not self._open_if_empty(action, account_key):
            self._update_group(action, account_key)

    def begin_probe(self, action: str, account_key: str, task: int) -> None:
        """Hold a group back while the task that goes first runs."""
        self._execute(
            "UPDATE hold SET stage = 'probed', probe = ? WHERE action = ? AND account_key = ?",
            [task, action, account_key],
        )
        self._update_group(action, account_key)

    def is_probe(self, action: str, account_key: str, task: int) -> bool:
        """Return whether a task has gone first, and decides about its group."""
        return (
            self._execute(
                "SELECT 1 FROM hold WHERE action = ? AND account_key = ? AND probe = ?",
                [action, account_key, task],
            ).fetchone()
            is not None
        )

    def open_group(self, action: str, account_key: str) -> None:
        """Let all tasks of a group go."""
        self._execute(
            "DELETE FROM hold WHERE action = ? AND account_key = ?", [action, account_key]
        )
        self._update_group(action, account_key)

    def _open_if_empty(self, action: str, account_key: str) -> bool:
        """Open a group without waiting tasks, and return whether it was one.

        Such groups would otherwise be kept for ever.
        """
        waiting = self._execute(
            "SELECT 1 FROM lane WHERE action = ? AND account_key = ? LIMIT 1",
            [action, account_key],
        )
        if waiting.fetchone():
            return False
        self.open_group(action, account_key)
        return True

    def _find_stage(self, action: str, account_key: str) -> str | None:
        row = self._execute(
            "SELECT stage FROM hold WHERE action = ? AND account_key = ?", [action, account_key]
        ).fetchone()
        return None if row is None else row[0]

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
