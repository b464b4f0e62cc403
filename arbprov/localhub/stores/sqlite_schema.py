"""The tables of a hub's SQLite file, and how an older file is brought to this version."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

__all__ = ["APPLICATION", "VERSION", "migrate"]

# "arbh": tells a hub's file from another program's database.
APPLICATION = 0x61726268

# What changes with a task's state stands apart from its payload, which may be large and never
# changes; a result stands with its attempt only.
_TABLES = """
CREATE TABLE task (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    account_key TEXT NOT NULL,
    provider TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- Where it waits; NULL while it waits for its time, runs, or has ended.
    lane INTEGER,
    not_before REAL,
    expires_at REAL,
    max_deliveries INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    lease_ends_at REAL,
    -- While it runs, the episode of its group in which it was handed out; NULL if there was none.
    episode INTEGER,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    worker TEXT NOT NULL DEFAULT '',
    -- The attempt whose result is the task's.
    result_of INTEGER,
    message TEXT NOT NULL DEFAULT '',
    error_type TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX task_key ON task (idempotency_key) WHERE idempotency_key != '';
CREATE INDEX task_lane ON task (lane, number) WHERE lane IS NOT NULL;
CREATE INDEX task_not_before ON task (not_before) WHERE state = 'waiting' AND lane IS NULL;
CREATE INDEX task_expires ON task (expires_at)
    WHERE state = 'waiting' AND attempt = 0 AND expires_at IS NOT NULL;
CREATE INDEX task_lease ON task (lease_ends_at) WHERE lease_ends_at IS NOT NULL;
CREATE INDEX task_ended ON task (ended_at, number) WHERE ended_at IS NOT NULL;
CREATE INDEX task_account ON task (account_key, number);

CREATE TABLE body (
    task INTEGER PRIMARY KEY,
    payload BLOB NOT NULL,
    account BLOB NOT NULL,
    traceparent TEXT NOT NULL,
    fields TEXT NOT NULL
);

CREATE TABLE attempt (
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    provider TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    end TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID;

CREATE TABLE aside (
    number INTEGER PRIMARY KEY,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    result TEXT NOT NULL
);
CREATE INDEX aside_task ON aside (task, attempt);

-- A lane is there as long as a task waits in it.
CREATE TABLE lane (
    number INTEGER PRIMARY KEY,
    account_key TEXT NOT NULL,
    priority INTEGER NOT NULL,
    action TEXT NOT NULL,
    provider TEXT NOT NULL,
    -- Whether a task may be handed out now.
    ready INTEGER NOT NULL,
    -- Its account's turn, which all ready lanes of the account and priority share once the account
    -- was served; and its own among these.
    turn INTEGER NOT NULL,
    lane_turn INTEGER NOT NULL,
    UNIQUE (account_key, priority, action, provider)
);
CREATE INDEX lane_ready ON lane (provider, priority DESC, turn, lane_turn) WHERE ready;
CREATE INDEX lane_group ON lane (action, account_key);

-- A group that is over a limit: held until `held_until`, then in an episode until the next limit.
CREATE TABLE hold (
    action TEXT NOT NULL,
    account_key TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 1,
    held_until REAL NOT NULL,
    limit_text TEXT NOT NULL,
    since REAL NOT NULL,
    -- No two episodes of any groups have the same number; 0 before the first.
    episode INTEGER NOT NULL DEFAULT 0,
    -- How many tasks passed in the episode before, were handed out in this one, and passed in it.
    budget INTEGER NOT NULL DEFAULT 0,
    taken INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    -- How many tasks may be handed out now.
    room INTEGER NOT NULL AS (
        CASE
            WHEN held THEN 0
            WHEN taken < budget THEN budget - taken
            ELSE max(0, 1 + (passed - budget) - (taken - passed))
        END
    ),
    PRIMARY KEY (action, account_key)
) WITHOUT ROWID;
CREATE INDEX hold_until ON hold (held_until) WHERE held;

CREATE TABLE pause (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE counter (
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (action, state)
) WITHOUT ROWID;

CREATE TABLE token (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    provider TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
"""

# A group over a limit is held until `due_at`, then in episodes. An episode without room ends at
# `due_at`, as many seconds after its begin as the last limit asked to wait.
_SLOW_TASKS = """
DROP INDEX hold_until;
ALTER TABLE hold RENAME TO old_hold;
CREATE TABLE hold (
    action TEXT NOT NULL,
    account_key TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 1,
    due_at REAL NOT NULL,
    wait REAL NOT NULL,
    limit_text TEXT NOT NULL,
    since REAL NOT NULL,
    -- No two episodes of any groups have the same number; 0 before the first.
    episode INTEGER NOT NULL DEFAULT 0,
    -- How many tasks the limit lets through, as the episode before has shown.
    budget INTEGER NOT NULL DEFAULT 0,
    -- How many tasks of this episode were handed out, how many of these have passed, and how many
    -- of the group were over the limit since its begin.
    taken INTEGER NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL DEFAULT 0,
    limited INTEGER NOT NULL DEFAULT 0,
    -- How many tasks may be handed out now.
    room INTEGER NOT NULL AS (
        CASE
            WHEN held THEN 0
            ELSE max(0, budget + 1 + 2 * max(0, passed - budget) - taken)
        END
    ),
    PRIMARY KEY (action, account_key)
) WITHOUT ROWID;
CREATE INDEX hold_due ON hold (due_at) WHERE room = 0;
-- An episode goes on as another, which the next upkeep begins.
INSERT INTO hold (action, account_key, due_at, wait, limit_text, since, episode, budget, taken)
SELECT action, account_key, iif(held, held_until, since), 1, limit_text, since, episode, budget,
    iif(held, budget, max(budget, passed))
FROM old_hold;
DROP TABLE old_hold;
"""

# What brings a file from each version to the next, beginning with an empty file. Never change one
# that was released: add another.
_MIGRATIONS: Sequence[str] = (_TABLES, _SLOW_TASKS)

VERSION = len(_MIGRATIONS)


def migrate(database: sqlite3.Connection) -> None:
    """Bring a database to this version, in one transaction; an empty one gets all tables.

    >>> database = sqlite3.connect(":memory:", isolation_level=None)
    >>> migrate(database)
    >>> database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    True
    """
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    steps = "".join(_MIGRATIONS[version:])
    try:
        database.executescript(
            f"BEGIN; {steps} PRAGMA application_id = {APPLICATION}; "
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
