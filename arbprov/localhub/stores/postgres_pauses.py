"""Pauses of the PostgreSQL store."""

from __future__ import annotations

from collections.abc import Sequence

from arbprov.localhub.stores.postgres_tasks import Connection
from arbprov.localhub.tasks import Pause, PauseKind

__all__ = ["flag_pauses", "pause", "resume"]

_PAUSE = """
UPDATE arbprov.lanes SET paused = true WHERE id IN (
    SELECT id FROM arbprov.lanes
    WHERE NOT paused AND (action = ANY(%(action)s) OR account_key = ANY(%(account)s))
    ORDER BY id FOR NO KEY UPDATE
)
"""
_RESUME = """
WITH block AS MATERIALIZED (SELECT nextval('arbprov.turns') AS first)
UPDATE arbprov.lanes SET paused = false, turn = COALESCE(
    (SELECT max(turn) FROM arbprov.lanes AS other
     WHERE other.account_key = lanes.account_key AND other.priority = lanes.priority
       AND NOT other.blocked AND NOT other.paused),
    block.first
) FROM block WHERE id IN (
    SELECT id FROM arbprov.lanes
    WHERE paused AND (action = ANY(%(action)s) OR account_key = ANY(%(account)s))
      AND action <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'action'))
      AND account_key <> ALL (ARRAY(SELECT name FROM arbprov.pauses WHERE kind = 'account'))
    ORDER BY id FOR NO KEY UPDATE
)
"""


async def pause(connection: Connection, what: Pause) -> None:
    """Add a pause, and keep `claim` from its lanes."""
    # A pause that is there already is locked, so that it does not end in the meantime.
    query = (
        "INSERT INTO arbprov.pauses VALUES (%s, %s, now()) "
        "ON CONFLICT (kind, name) DO UPDATE SET at = pauses.at"
    )
    await connection.execute(query, [what.kind.value, what.name])
    await connection.execute(_PAUSE, _lanes_of([(what.kind.value, what.name)]))


async def resume(connection: Connection, what: Pause) -> None:
    """Remove a pause, and open its lanes, at the back of the order."""
    query = "DELETE FROM arbprov.pauses WHERE kind = %s AND name = %s RETURNING kind, name"
    cursor = await connection.execute(query, [what.kind.value, what.name])
    if removed := await cursor.fetchall():
        # Lanes that were added during the pause may not be flagged yet; they were held too.
        await connection.execute(_PAUSE, _lanes_of(removed))
        await connection.execute(_RESUME, _lanes_of(removed))


async def flag_pauses(connection: Connection) -> None:
    """Keep `claim` from looking at lanes that were added during a pause."""
    cursor = await connection.execute(
        "SELECT kind, name FROM arbprov.pauses WHERE kind <> 'provider' FOR SHARE SKIP LOCKED"
    )
    if pauses := await cursor.fetchall():
        await connection.execute(_PAUSE, _lanes_of(pauses))


def _lanes_of(pauses: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {
        kind.value: [name for paused, name in pauses if paused == kind]
        for kind in (PauseKind.ACTION, PauseKind.ACCOUNT)
    }
