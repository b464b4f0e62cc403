"""The tables of the PostgreSQL store, and how an older database is brought to this version.

All names are written with their schema, `arbprov`, since a pooler may not keep a search path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["MIGRATIONS", "migrate"]

# Any number that no other program is likely to take.
_LOCK = 0x6172_6270_726F_76
# The major version, as libpq writes it.
_OLDEST_SERVER = 14

# A database has the version n after the first n migrations. They only go forwards: a migration that
# was released is never changed.
MIGRATIONS = (
    """
    -- Every task. Its number is its place in the order of submission.
    CREATE TABLE arbprov.tasks (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        action text NOT NULL,
        payload bytea NOT NULL,
        account bytea NOT NULL,
        account_key text NOT NULL,
        provider text NOT NULL,
        priority integer NOT NULL,
        lane uuid NOT NULL,
        not_before timestamptz,
        expires_at timestamptz,
        max_deliveries integer NOT NULL,
        idempotency_key text NOT NULL,
        traceparent text NOT NULL,
        fields text NOT NULL,
        created_at timestamptz NOT NULL,
        state text NOT NULL DEFAULT 'waiting',
        -- Whether it waits in its lane; a task that waits for its time does not.
        queued boolean NOT NULL,
        -- When upkeep has to look at it: the end of its lease, its not_before or its ttl.
        due_at timestamptz,
        attempt integer NOT NULL DEFAULT 0,
        deliveries integer NOT NULL DEFAULT 0,
        -- While it runs, the episode of its group in which it was handed out, if there was one.
        episode bigint,
        started_at timestamptz,
        ended_at timestamptz,
        worker text NOT NULL DEFAULT '',
        -- The number of the attempt with the recorded result.
        result_of integer,
        status text NOT NULL DEFAULT '',
        message text NOT NULL DEFAULT '',
        error_type text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT ''
    ) WITH (
        fillfactor = 85,
        autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0
    );
    CREATE UNIQUE INDEX tasks_idempotency_key ON arbprov.tasks (idempotency_key)
        WHERE idempotency_key <> '';
    CREATE INDEX tasks_queued ON arbprov.tasks (lane, number) WHERE queued;
    CREATE INDEX tasks_due ON arbprov.tasks (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX tasks_ended ON arbprov.tasks (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX tasks_failed ON arbprov.tasks (number) WHERE state IN ('failed', 'dead');

    CREATE TABLE arbprov.attempts (
        task bigint NOT NULL,
        number integer NOT NULL,
        provider text NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz,
        ended_as text NOT NULL DEFAULT '',
        status text NOT NULL DEFAULT '',
        result text NOT NULL DEFAULT '',
        aside text[] NOT NULL DEFAULT '{}',
        PRIMARY KEY (task, number)
    ) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

    -- There is a lane for each task that is queued; a lane without tasks is removed.
    CREATE TABLE arbprov.lanes (
        id uuid PRIMARY KEY,
        provider text NOT NULL,
        action text NOT NULL,
        account_key text NOT NULL,
        priority integer NOT NULL,
        -- The account's place in the order of accounts, and the lane's among those of its account.
        turn bigint NOT NULL,
        served bigint NOT NULL,
        -- Both only keep `claim` from looking: the tables holds and pauses decide.
        blocked boolean NOT NULL DEFAULT false,
        paused boolean NOT NULL DEFAULT false
    ) WITH (
        fillfactor = 50,
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0
    );
    CREATE INDEX lanes_ready ON arbprov.lanes (provider, priority DESC, turn, served)
        WHERE NOT blocked AND NOT paused;
    CREATE INDEX lanes_account ON arbprov.lanes (account_key, action);
    -- Each call takes a block of turns.
    CREATE SEQUENCE arbprov.turns INCREMENT BY 100000;

    -- The groups over a limit: held until `held_until`, then in an episode until the next limit.
    CREATE TABLE arbprov.holds (
        action text NOT NULL,
        account_key text NOT NULL,
        held boolean NOT NULL DEFAULT true,
        held_until timestamptz NOT NULL,
        limited_by text NOT NULL,
        since timestamptz NOT NULL,
        -- No two episodes of any groups have the same number; 0 before the first.
        episode bigint NOT NULL DEFAULT 0,
        -- How many tasks passed in the episode before, were handed out in this one, and passed.
        budget integer NOT NULL DEFAULT 0,
        taken integer NOT NULL DEFAULT 0,
        passed integer NOT NULL DEFAULT 0,
        -- How many tasks may be handed out now.
        room integer NOT NULL GENERATED ALWAYS AS (
            CASE
                WHEN held THEN 0
                WHEN taken < budget THEN budget - taken
                ELSE GREATEST(0, 1 + (passed - budget) - (taken - passed))
            END
        ) STORED,
        PRIMARY KEY (account_key, action)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
    CREATE INDEX holds_due ON arbprov.holds (held_until) WHERE held;
    CREATE SEQUENCE arbprov.episodes;

    CREATE TABLE arbprov.pauses (
        kind text NOT NULL,
        name text NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (kind, name)
    );

    -- Changes of the number of tasks; the sum is the number. A row for each number would have all
    -- hubs wait for each other.
    CREATE TABLE arbprov.counts (
        action text NOT NULL,
        state text NOT NULL,
        change bigint NOT NULL
    ) WITH (
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0
    );

    CREATE TABLE arbprov.tokens (
        name text PRIMARY KEY,
        role text NOT NULL,
        provider text NOT NULL,
        digest text NOT NULL,
        created_at double precision NOT NULL
    );

    -- A payload as text, whatever its bytes are.
    CREATE FUNCTION arbprov.as_text(bytea) RETURNS text
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        RETURN convert_from($1, 'UTF8');
    EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
        RETURN encode($1, 'escape');
    END $$;
    """,
    """
    -- A group over a limit is held until `due_at`, then in episodes. An episode without room ends
    -- at `due_at`, as many seconds after its begin as the last limit asked to wait.
    DROP INDEX arbprov.holds_due;
    ALTER TABLE arbprov.holds RENAME COLUMN held_until TO due_at;
    -- The budget is how many tasks the limit lets through, as the episode before has shown.
    ALTER TABLE arbprov.holds
        DROP COLUMN room,
        ADD COLUMN wait float8 NOT NULL DEFAULT 1,
        -- How many tasks of the group were over the limit since the begin of this episode.
        ADD COLUMN limited integer NOT NULL DEFAULT 0;
    -- An episode goes on as another, which the next upkeep begins.
    UPDATE arbprov.holds SET
        held = true, due_at = CASE WHEN held THEN due_at ELSE since END,
        taken = CASE WHEN held THEN budget ELSE GREATEST(budget, passed) END, passed = 0;
    ALTER TABLE arbprov.holds
        ADD COLUMN room integer NOT NULL GENERATED ALWAYS AS (
            CASE
                WHEN held THEN 0
                ELSE GREATEST(0, budget + 1 + 2 * GREATEST(0, passed - budget) - taken)
            END
        ) STORED;
    CREATE INDEX holds_due ON arbprov.holds (due_at) WHERE room = 0;
    """,
)


async def migrate(connection: AsyncConnection[Any], name: str) -> None:
    """Bring a database to this version; hubs that do it at the same time wait for each other.

    Args:
        connection: A connection in autocommit mode.
        name: The store's name, for errors.

    Raises:
        ConfigurationError: The server is too old, does not use UTF-8 or only reads, or the
            database has a newer version.
    """
    version = connection.info.server_version // 10_000
    if version < _OLDEST_SERVER:
        raise ConfigurationError(
            f"{name} runs PostgreSQL {version}, but a hub needs {_OLDEST_SERVER} or newer"
        )
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise ConfigurationError(
            f"{name} has the encoding {encoding}, but a hub needs a database with UTF8"
        )
    if await _ask(connection, "SHOW transaction_read_only") == "on":
        raise ConfigurationError(
            f"{name} is read-only; name the primary server, or several servers and "
            f"target_session_attrs=read-write"
        )
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        # Not IF NOT EXISTS: that asks for the right to create schemas even if there is one.
        if not await _ask(connection, "SELECT to_regnamespace('arbprov') IS NOT NULL"):
            await connection.execute("CREATE SCHEMA arbprov")
        if not await _ask(connection, "SELECT to_regclass('arbprov.version') IS NOT NULL"):
            await connection.execute("CREATE TABLE arbprov.version (version integer NOT NULL)")
            await connection.execute("INSERT INTO arbprov.version VALUES (0)")
        found = await _ask(connection, "SELECT version FROM arbprov.version")
        if found > len(MIGRATIONS):
            raise ConfigurationError(
                f"{name} has version {found}, but this arbprov uses version {len(MIGRATIONS)}; "
                f"run the newer arbprov, or use another database"
            )
        for migration in MIGRATIONS[found:]:
            await connection.execute(migration.encode())
        await connection.execute("UPDATE arbprov.version SET version = %s", [len(MIGRATIONS)])


async def _ask(connection: AsyncConnection[Any], question: str) -> Any:
    row = await (await connection.execute(question.encode())).fetchone()
    assert row is not None
    return row[0]
