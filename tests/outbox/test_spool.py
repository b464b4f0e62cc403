"""The spool: data that outlives the process, permissions and locks, and a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.spools import Inline, crash_image, fill, relieve
from support.waiting import TIMEOUT

from arbprov import ConfigurationError, ProviderError
from arbprov.logs.current import current_task
from arbprov.outbox import sqlite as sqlite_module
from arbprov.outbox.files import APPLICATION
from arbprov.outbox.journal import DAMAGED, StoredResult
from arbprov.outbox.spool import Spool
from arbprov.outbox.sqlite import (
    SpoolFile,
    SpoolOrigin,
    drop_dead_letters,
    move_spool,
    read_origin,
    read_spool,
)
from arbprov.task import Task

TASK = Task("t", "work", b'{"n": 1}', b'{"key": "sample"}')


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool"


def using(path, main, make=Spool, **options):
    """Run a coroutine function with the spool at a path; return its value."""

    async def run():
        spool = make(path, **options)
        try:
            return await asyncio.wait_for(main(spool), TIMEOUT)
        finally:
            await spool.close()

    return asyncio.run(run())


@contextlib.contextmanager
def open_database(path):
    """Yield the database at a path, without transactions."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        yield database


def execute(path, statement):
    """Execute a statement in the database at a path, and return the rows."""
    with open_database(path) as database:
        return database.execute(statement).fetchall()


def flip_bit(path, index):
    """Damage a file; return its content."""
    content = bytearray(path.read_bytes())
    content[index] ^= 1
    path.write_bytes(content)
    return content


async def begin(spool):
    return await spool.begin(TASK)


async def finish(spool, id="t", message=b"result"):
    await spool.begin(Task(id, "work"))
    await spool.finish((id, 0), message)


async def deliver(spool, id="t", message=b"result"):
    await finish(spool, id, message)
    spool.mark_delivered((id, 0), message)


async def refuse(spool):
    await finish(spool)
    spool.mark_refused(("t", 0), b"result", "PERMISSION_DENIED, not yours")


async def interrupted(spool):
    return await spool.interrupted_tasks()


async def stored(spool):
    """Return the results that wait for the hub, in order."""
    found = []
    while (one := await spool.next_stored(found[-1].number if found else 0)) is not None:
        found.append(one)
    return [(one.id, one.message) for one in found]


# Data that outlives the process.


def test_a_result_waits_for_the_next_start(path):
    using(path, finish)
    assert using(path, stored) == [("t", b"result")]


def test_results_wait_in_the_order_their_tasks_came(path):
    async def main(spool):
        for name in "cab":
            await spool.begin(Task(name, "work"))
        for name in "abc":
            await spool.finish((name, 0), name.encode())

    using(path, main)
    assert [name for name, _ in using(path, stored)] == ["c", "a", "b"]


def test_a_result_that_the_hub_has_does_not_wait(path):
    using(path, deliver)
    assert using(path, stored) == []


def test_a_task_that_has_begun_is_known_after_a_crash(path, tmp_path):
    async def main(spool):
        await spool.begin(TASK)
        return crash_image(path, tmp_path / "crashed")

    crashed = using(path, main)
    assert using(crashed, interrupted) == [TASK]


def test_a_result_is_known_after_a_crash(path, tmp_path):
    async def main(spool):
        await finish(spool)
        return crash_image(path, tmp_path / "crashed")

    assert using(using(path, main), stored) == [("t", b"result")]


def test_a_finished_task_was_not_interrupted(path):
    using(path, finish)
    assert using(path, interrupted) == []


def test_a_finished_task_is_known_at_the_next_start(path):
    using(path, deliver)
    assert using(path, begin) == b"result"


def test_only_so_many_are_kept_over_a_restart_too(path):
    async def main(spool):
        for name in "abcd":
            await deliver(spool, name)

    using(path, main, max_results=3)

    async def known(spool):
        await deliver(spool, "e")
        return [name for name in "abcde" if await spool.begin(Task(name, "work"))]

    assert using(path, known, max_results=3) == ["c", "d", "e"]


def test_the_texts_of_a_task_go_when_its_result_is_there(path):
    async def main(spool):
        await spool.begin(TASK)
        await spool.finish(("t", 0), b"result")

    using(path, main)
    assert execute(path, "SELECT payload, account FROM task") == [(None, None)]


def test_changes_of_several_tasks_share_a_transaction(path, monkeypatch):
    batches = []
    commit = SpoolFile.commit

    def counted(file, changes):
        batches.append(len(changes))
        return commit(file, changes)

    monkeypatch.setattr(SpoolFile, "commit", counted)

    async def main(spool):
        await asyncio.gather(*(spool.begin(Task(str(n), "work")) for n in range(100)))

    using(path, main)
    assert sum(batches) == 100
    assert len(batches) <= 2


def test_what_is_written_is_on_the_disk_itself(path):
    async def main(spool):
        return spool._file._database.execute("PRAGMA synchronous").fetchone()

    full = 2
    assert using(path, main) == (full,)


# Dead letters.


def listed(path):
    return [(entry.state, entry.id, entry.reason) for entry in read_spool(path)]


def test_a_result_that_is_refused_is_a_dead_letter(path):
    using(path, refuse)
    assert listed(path) == [("dead", "t", "PERMISSION_DENIED, not yours")]
    assert read_spool(path)[0].message == b"result"


def test_a_dead_letter_is_not_sent_at_the_next_start(path):
    using(path, refuse)
    assert using(path, stored) == []


def test_a_dead_letter_that_the_hub_accepts_later_is_removed(path):
    async def main(spool):
        await refuse(spool)
        spool.mark_delivered(("t", 0), b"result")

    using(path, main)
    assert listed(path) == []


def test_a_result_stays_a_dead_letter_when_something_else_is_taken_in_its_place(path):
    async def main(spool):
        await refuse(spool)
        await spool.finish(("t", 0), b"small")
        spool.mark_delivered(("t", 0), b"small")

    using(path, main)
    assert [entry.message for entry in read_spool(path)] == [b"result"]


def test_a_spool_can_be_read_while_it_is_used(path):
    async def main(spool):
        await spool.begin(TASK)
        await finish(spool, "u")
        return [(entry.state, entry.id, entry.action, entry.size) for entry in read_spool(path)]

    assert using(path, main) == [("started", "t", "work", None), ("pending", "u", "work", 6)]


def test_a_dead_letter_can_be_dropped_while_the_spool_is_used(path):
    async def main(spool):
        await refuse(spool)
        await spool.finish(("t", 0), b"small")
        dropped = drop_dead_letters(path, ["t", "u"])
        await spool.begin(Task("v", "work"))
        return dropped

    assert using(path, main) == 1
    assert [state for state, *_ in listed(path)] == ["pending", "started"]


def test_reading_a_missing_spool_does_not_create_it(path):
    with pytest.raises(ConfigurationError, match=f"there is no spool at {path}"):
        read_spool(path)
    assert not path.exists()


# Permissions and locks.


def modes(path):
    """Return the mode of each of a spool's files."""
    files = path.parent.glob(f"{path.name}*")
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}


async def modes_in_use(spool):
    await spool.begin(TASK)
    return modes(spool.path)


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_only_its_user_may_read_it(path, open_umask):
    names = ("spool", "spool-owner", "spool-shm", "spool-wal")
    assert using(path, modes_in_use) == dict.fromkeys(names, 0o600)


def test_its_files_were_never_readable_for_other_users(path, open_umask, monkeypatch):
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)

    assert set(using(path, modes_in_use).values()) == {0o600}


def test_files_that_other_users_can_read_are_made_private(path, open_umask):
    using(path, finish)
    for suffix in ("", "-owner", "-wal", "-shm"):
        Path(f"{path}{suffix}").touch()
        Path(f"{path}{suffix}").chmod(0o644)

    assert set(using(path, modes_in_use).values()) == {0o600}


def refusal(path):
    with pytest.raises(ConfigurationError) as caught:
        Spool(path)
    return str(caught.value)


def test_a_link_is_not_followed(path, tmp_path):
    (tmp_path / "elsewhere").touch(0o644)
    path.symlink_to(tmp_path / "elsewhere")
    assert refusal(path) == f"{path} is not a regular file, so no data can be kept in it"
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o644


def test_a_file_of_another_user_is_not_written_to(path, monkeypatch):
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "belongs to another user" in refusal(path)


def test_a_folder_is_not_a_spool(tmp_path):
    assert "is not a regular file" in refusal(tmp_path)


def test_a_missing_folder_is_reported(tmp_path):
    assert "No such file or directory" in refusal(tmp_path / "nowhere" / "spool")


def test_a_file_that_is_not_a_database_is_left_alone(path):
    path.write_text("notes, and no database" * 100)
    path.chmod(0o644)
    assert "file is not a database" in refusal(path)
    assert path.read_text() == "notes, and no database" * 100
    assert modes(path) == {"spool": 0o644}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_database_of_another_program_is_left_alone(path, mode):
    execute(path, f"PRAGMA journal_mode = {mode}")
    execute(path, "CREATE TABLE task (id)")
    path.chmod(0o644)
    before = path.read_bytes()
    assert "another program's database" in refusal(path)
    assert path.read_bytes() == before
    assert modes(path) == {"spool": 0o644}


def test_the_database_of_another_program_that_runs_is_left_alone(path):
    with open_database(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA application_id = 7")
        assert "another program's database" in refusal(path)
        assert sorted(modes(path)) == ["spool", "spool-shm", "spool-wal"]


@pytest.mark.parametrize("content", [b"", b"short"])
def test_another_program_s_log_without_pages_is_left_alone(path, content):
    execute(path, "PRAGMA journal_mode = WAL")
    Path(f"{path}-wal").write_bytes(content)
    assert "another program's database" in refusal(path)


def test_what_an_older_log_left_behind_is_not_read(path):
    using(path, finish)
    execute(path, "PRAGMA application_id = 0")
    with open_database(path) as database:
        # The first page with the spool's id, then the log starts again from its beginning.
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        for _ in range(3):
            database.execute("CREATE TABLE IF NOT EXISTS other (id)")
            database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute("PRAGMA application_id = 7")
        database.execute("PRAGMA wal_checkpoint(RESTART)")
        database.execute("INSERT INTO other VALUES (1)")
        assert "another program's database" in refusal(path)


def test_a_spool_whose_first_page_is_only_in_the_log_is_a_spool(path):
    with open_database(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(VERSION_1)
        using(crash_image(path, path.with_name("crashed")), stored)


def test_the_database_of_another_program_is_not_read_as_a_spool(path):
    execute(path, "CREATE TABLE task (id)")
    for use in (read_spool, lambda path: drop_dead_letters(path, ["t"])):
        with pytest.raises(ConfigurationError, match="another program's database"):
            use(path)


def test_a_log_without_its_spool_is_not_thrown_away(path):
    Path(f"{path}-wal").write_bytes(b"x" * 100)
    assert "is missing or empty, but" in refusal(path)
    assert modes(path).keys() == {"spool-wal"}


def test_a_hard_link_is_refused(path):
    using(path, finish)
    os.link(path, path.with_name("other"))
    assert "has a second name (a hard link)" in refusal(path)


def test_a_spool_that_lacks_a_column_is_refused(path):
    using(path, finish)
    execute(path, "DROP TABLE dead_letter")
    assert "is damaged (table dead_letter lacks at, attempt, id, message, reason)" in refusal(path)


def test_a_spool_whose_pages_are_damaged_is_refused(path):
    using(path, finish)
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert "is damaged (" in refusal(path)


def test_a_spool_with_a_damaged_log_is_refused_and_left_as_it_is(path, tmp_path):
    async def main(spool):
        for name in "tuv":
            await finish(spool, name)
        return crash_image(path, tmp_path / "crashed")

    crashed = using(path, main)
    log = Path(f"{crashed}-wal")
    content = flip_bit(log, 32 + 24 + 100)
    assert "transactions in its -wal file cannot be read" in refusal(crashed)
    assert log.read_bytes() == content


def test_a_transaction_that_a_crash_has_cut_off_is_no_damage(path, tmp_path):
    async def main(spool):
        await finish(spool)
        await spool.begin(Task("u", "work"))
        return crash_image(path, tmp_path / "crashed")

    crashed = using(path, main)
    flip_bit(Path(f"{crashed}-wal"), -1)
    assert using(crashed, stored) == [("t", b"result")]


def test_a_spool_whose_schema_is_damaged_is_refused(path):
    using(path, finish)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE task", b"CREATE TABLE t\xffsk"))
    assert "is damaged (malformed database schema" in refusal(path)


# Version 1.

# As version 1 wrote it, whatever the code writes now.
VERSION_1 = f"""
BEGIN;
CREATE TABLE task (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    payload BLOB,
    account BLOB,
    message BLOB,
    taken INTEGER,
    total INTEGER,
    at REAL NOT NULL
);
CREATE INDEX task_open ON task (number) WHERE taken IS NULL;
CREATE INDEX task_taken ON task (taken, total) WHERE taken IS NOT NULL;
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    message BLOB NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = 1;
INSERT INTO task VALUES (1, 'delivered', 'work', NULL, NULL, x'01', 0, 0, 1.0);
INSERT INTO task VALUES (2, 'pending', 'work', NULL, NULL, x'02', NULL, NULL, 2.0);
INSERT INTO task VALUES (3, 'started', 'work', x'7b7d', x'', NULL, NULL, NULL, 3.0);
INSERT INTO dead_letter VALUES ('dead', x'03', 'no', 4.0);
COMMIT;
"""


@pytest.fixture
def old(path):
    with open_database(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(VERSION_1)
    return path


def test_a_spool_of_version_1_is_opened_with_all_that_it_has(old):
    async def main(spool):
        return (
            await spool.interrupted_tasks(),
            await stored(spool),
            await spool.begin(Task("delivered", "work")),
        )

    expected = ([Task("started", "work", b"{}", b"")], [("pending", b"\x02")], b"\x01")
    assert using(old, main) == expected
    assert using(old, main) == expected


def test_a_spool_of_version_1_can_be_read(old):
    assert [state for state, *_ in listed(old)] == ["pending", "started", "dead"]
    assert read_origin(old) is None


def test_a_spool_that_does_not_say_whose_it_is_is_taken_with_a_warning(old, caplog):
    assert using(old, stored, origin=STAGING) == [("pending", b"\x02")]
    assert "its tasks (2 undelivered) are taken for tasks of provider 'weather'" in caplog.text
    assert read_origin(old) == STAGING


# Version 3.

# As version 3 wrote it, whatever the code writes now.
VERSION_3 = f"""
BEGIN;
CREATE TABLE task (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    payload BLOB,
    account BLOB,
    message BLOB,
    taken INTEGER,
    total INTEGER,
    at REAL NOT NULL,
    crc INTEGER
);
CREATE INDEX task_open ON task (number) WHERE taken IS NULL;
CREATE INDEX task_taken ON task (taken, total) WHERE taken IS NOT NULL;
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY,
    message BLOB NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE origin (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    provider TEXT NOT NULL,
    url TEXT NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = 3;
INSERT INTO task VALUES (3, 'delivered', 'work', NULL, NULL, x'01', 4, 9, 1.0, 2768625435);
INSERT INTO task VALUES (5, 'z', 'work', NULL, NULL, x'02', NULL, NULL, 2.0, 1007455905);
INSERT INTO task VALUES (7, 'a', 'work', NULL, NULL, x'07', NULL, NULL, 2.0, NULL);
INSERT INTO task VALUES (8, 'damaged', 'work', NULL, NULL, x'08', NULL, NULL, 2.0, 12345);
INSERT INTO task VALUES (9, 'started', 'work', x'7b7d', x'7b7d', NULL, NULL, NULL, 3.0, NULL);
INSERT INTO dead_letter VALUES ('dead', x'03', 'no', 4.0);
INSERT INTO origin VALUES (1, 'weather', 'staging:50051');
COMMIT;
"""
COLUMNS_3 = "number, id, action, payload, account, message, taken, total, at, crc"


@pytest.fixture
def third(path):
    with open_database(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(VERSION_3)
    return path


def test_a_spool_of_version_3_is_opened_with_all_that_it_has(third):
    async def main(spool):
        return await interrupted(spool), await stored(spool), await spool.begin(DELIVERED)

    waiting = [("z", b"\x02"), ("a", b"\x07"), ("damaged", b"\x08")]
    expected = ([Task("started", "work", b"{}", b"{}")], waiting, b"\x01")
    assert using(third, main) == expected
    assert using(third, main) == expected


DELIVERED = Task("delivered", "work")


def test_each_row_of_version_3_is_moved_as_it_is(third):
    queries = [f"SELECT {COLUMNS_3} FROM task ORDER BY number", "SELECT * FROM origin"]
    letters = "SELECT id, message, reason, at FROM dead_letter"
    before = [execute(third, query) for query in (*queries, letters)]
    SpoolFile(third).close()
    assert [execute(third, query) for query in (*queries, letters)] == before
    assert execute(third, "SELECT DISTINCT attempt FROM task") == [(0,)]
    assert execute(third, "PRAGMA user_version") == [(4,)]


@pytest.mark.parametrize("older", ["old", "third"])
def test_a_migrated_spool_has_the_tables_of_a_new_spool(older, request, tmp_path):
    migrated, new = request.getfixturevalue(older), tmp_path / "new"
    for one in (migrated, new):
        SpoolFile(one).close()
    tables = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    assert execute(migrated, tables) == execute(new, tables)


def test_a_damaged_result_of_version_3_is_still_known_to_be_damaged(third):
    assert using(third, lambda spool: spool.begin(Task("damaged", "work"))) == DAMAGED


def test_a_migrated_spool_takes_new_attempts(third):
    async def main(spool):
        retried = Task("delivered", "work", attempt=1)
        new = await spool.begin(retried)
        await spool.finish(retried.key, b"again")
        return new, await spool.begin(retried), await spool.begin(DELIVERED)

    assert using(third, main) == (None, b"again", b"\x01")


def test_a_spool_of_version_3_can_be_read_and_stays_as_it_is(third):
    assert [state for state, *_ in listed(third)] == ["pending"] * 3 + ["started", "dead"]
    assert read_origin(third) == SpoolOrigin("weather", "staging:50051")
    assert drop_dead_letters(third, ["dead"]) == 1
    assert execute(third, "PRAGMA user_version") == [(3,)]


def statements(script):
    """Return how many statements there are in a migration, between its begin and its commit."""
    return script.count(";") - 2


@pytest.mark.parametrize("version", [1, 3])
def test_a_migration_that_a_crash_cuts_off_changes_nothing(version, old_spools, monkeypatch):
    path = old_spools(version)
    dump = dump_of(path)
    script = sqlite_module._MIGRATIONS[version]
    for count in range(1, statements(script) + 1):
        parts = script.split(";")[: count + 1]
        monkeypatch.setitem(sqlite_module._MIGRATIONS, version, ";".join([*parts, "FAIL;"]))
        with pytest.raises(ConfigurationError, match="can't be used"):
            SpoolFile(path)
        assert dump_of(path) == dump
    monkeypatch.setitem(sqlite_module._MIGRATIONS, version, script)
    SpoolFile(path).close()
    assert execute(path, "PRAGMA user_version") == [(4,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process")
def test_a_migration_whose_process_is_killed_is_made_at_the_next_start(third):
    dump = dump_of(third)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from arbprov.outbox import sqlite\n"
        "last = 'PRAGMA user_version'\n"
        "script = sqlite._MIGRATIONS[3].replace(last, 'SELECT die(); ' + last)\n"
        "sqlite._MIGRATIONS[3] = script\n"
        "connect = sqlite._connect\n"
        "def connect_to_die(uri):\n"
        "    database = connect(uri)\n"
        "    database.create_function('die', 0, lambda: os._exit(9))\n"
        "    return database\n"
        "sqlite._connect = connect_to_die\n"
        "sqlite.SpoolFile(Path(sys.argv[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, third], timeout=TIMEOUT).returncode == 9
    assert dump_of(third) == dump
    SpoolFile(third).close()
    assert execute(third, "SELECT count(*) FROM task") == [(5,)]


def dump_of(path):
    """Return all that a database holds, and its version."""
    with open_database(path) as database:
        return [*database.iterdump(), *database.execute("PRAGMA user_version")]


@pytest.fixture
def old_spools(request):
    return lambda version: request.getfixturevalue({1: "old", 3: "third"}[version])


def test_a_disk_that_is_full_at_the_migration_leaves_the_spool_as_it_is(third, monkeypatch):
    with open_database(third) as database:
        database.execute("UPDATE task SET message = zeroblob(500000) WHERE id = 'z'")
    dump, connect = dump_of(third), sqlite_module._connect

    def connect_to_full_disk(uri):
        database = connect(uri)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_module, "_connect", connect_to_full_disk)
        assert "can't be used: database or disk is full" in refusal(third)
    assert dump_of(third) == dump
    SpoolFile(third).close()


# Attempts.


def test_each_attempt_of_a_task_waits_for_the_next_start(path):
    async def main(spool):
        for number in (2, 1):
            task = Task("t", "work", attempt=number)
            await spool.begin(task)
            await spool.finish(task.key, b"%d" % number)
        await spool.begin(Task("t", "work", attempt=3))

    async def find(spool):
        one = await spool.next_stored(0)
        two = await spool.next_stored(one.number)
        return one.key, two.key, [task.key for task in await spool.interrupted_tasks()]

    using(path, main)
    assert using(path, find) == (("t", 2), ("t", 1), [("t", 3)])


def test_all_dead_attempts_of_a_task_are_dropped_by_its_id(path):
    async def main(spool):
        for number in (0, 1, 2):
            task = Task("t", "work", attempt=number)
            await spool.begin(task)
            await spool.finish(task.key, b"result")
            spool.mark_refused(task.key, b"result", "no")

    using(path, main)
    assert [entry.attempt for entry in read_spool(path)] == [0, 1, 2]
    assert drop_dead_letters(path, ["t"]) == 3


def test_a_delivered_attempt_leaves_the_dead_letter_of_another(path):
    async def main(spool):
        for number in (1, 2):
            task = Task("t", "work", attempt=number)
            await spool.begin(task)
            await spool.finish(task.key, b"result")
            spool.mark_refused(task.key, b"result", "no")
        spool.mark_delivered(("t", 2), b"result")

    using(path, main)
    assert [(entry.state, entry.attempt) for entry in read_spool(path)] == [("dead", 1)]


def test_the_result_of_an_attempt_waits_though_the_hub_has_another_attempt_s(path):
    async def main(spool):
        await finish(spool)
        task = Task("t", "work", attempt=1)
        await spool.begin(task)
        await spool.finish(task.key, b"another")
        spool.mark_delivered(task.key, b"another")

    using(path, main)
    assert using(path, stored) == [("t", b"result")]


def test_an_attempt_that_was_taken_while_the_disk_is_full_leaves_the_other(path, no_pauses):
    async def main(spool):
        await finish(spool)
        fill(spool)
        task = Task("t", "work", attempt=1)
        await spool.begin(task)
        await spool.finish(task.key, BIG)
        spool.mark_delivered(task.key, BIG)
        await until(spool, ready=True)
        return await spool.begin(task), await spool.begin(TASK)

    assert using(path, main) == (BIG, b"result")
    assert using(path, stored) == [("t", b"result")]


# One provider and one hub.

STAGING = SpoolOrigin("weather", "staging:50051")
PRODUCTION = SpoolOrigin("weather", "production:50051")


def test_a_spool_of_another_hub_is_refused_while_it_has_results(path):
    using(path, finish, origin=STAGING)
    with pytest.raises(ConfigurationError) as caught:
        Spool(path, origin=PRODUCTION)
    assert str(caught.value) == (
        f"the spool at {path} has 1 undelivered task of provider 'weather' at the hub "
        f"'staging:50051', and this is provider 'weather' at the hub 'production:50051': give it "
        f"another spool, or start provider 'weather' at the hub 'staging:50051' once more to "
        f"deliver them; if the tasks do belong to the new one, run `arbprov outbox {path} "
        f"--move-to weather production:50051`"
    )
    assert using(path, stored, origin=STAGING) == [("t", b"result")]


def test_a_spool_of_another_provider_is_refused_while_a_task_has_no_result(path):
    using(path, begin, origin=STAGING)
    with pytest.raises(ConfigurationError, match="has 1 undelivered task of provider 'weather'"):
        Spool(path, origin=SpoolOrigin("shop", STAGING.url))


def test_a_spool_of_another_hub_with_nothing_undelivered_is_taken_over_and_knows_no_task(
    path, caplog
):
    using(path, refuse, origin=STAGING)
    assert using(path, begin, origin=PRODUCTION) is None
    assert read_origin(path) == PRODUCTION
    assert f"the spool at {path} was of provider 'weather' at the hub 'staging:50051'" in (
        caplog.text
    )
    # Nothing sends a dead letter, so it may stay.
    assert ("dead", "t", "PERMISSION_DENIED, not yours") in listed(path)


def test_a_spool_of_the_same_hub_knows_its_tasks(path):
    using(path, refuse, origin=STAGING)
    assert using(path, begin, origin=STAGING) == b"result"


def test_a_spool_that_is_moved_keeps_all_that_it_has(path):
    using(path, finish, origin=STAGING)
    assert move_spool(path, PRODUCTION) == 1
    assert using(path, stored, origin=PRODUCTION) == [("t", b"result")]


def test_a_spool_in_use_can_not_be_moved(path):
    async def main(spool):
        with pytest.raises(ConfigurationError, match="is in use"):
            move_spool(path, PRODUCTION)

    using(path, main, origin=STAGING)
    assert read_origin(path) == STAGING


def test_a_missing_spool_can_not_be_moved(path):
    with pytest.raises(ConfigurationError, match="there is no spool"):
        move_spool(path, PRODUCTION)
    assert not modes(path)


# Damaged rows.


@pytest.mark.parametrize("message", ["'result'", "x'ffff'", "5", "x''"])
def test_a_damaged_result_is_recognised(path, message):
    using(path, finish)
    execute(path, f"UPDATE task SET message = {message}")
    damaged = using(path, lambda spool: spool.next_stored(0))
    assert (damaged.id, damaged.action, damaged.is_damaged) == ("t", "work", True)
    assert isinstance(damaged.message, bytes)
    assert using(path, begin) == DAMAGED


def test_an_intact_result_is_not_damaged(path):
    using(path, finish)
    assert not using(path, lambda spool: spool.next_stored(0)).is_damaged


def test_a_started_task_with_damaged_texts_is_a_task_still(path):
    using(path, begin)
    execute(path, "UPDATE task SET account = NULL, payload = 'text', action = CAST(x'ff' AS TEXT)")
    assert using(path, interrupted) == [Task("t", "\N{REPLACEMENT CHARACTER}", b"text", b"")]


def test_a_spool_of_another_version_is_left_alone(path):
    using(path, finish)
    execute(path, "PRAGMA user_version = 9")
    assert "has version 9, but this arbprov uses version 4" in refusal(path)


def test_a_lock_that_can_not_be_opened_is_reported(path):
    Path(f"{path}-owner").mkdir()
    assert refusal(path).startswith(f"{path}-owner is not a regular file")


def test_a_spool_has_one_owner_in_a_process(path):
    async def main(spool):
        return refusal(path)

    assert using(path, main) == (
        f"the spool at {path} is in use: each running provider needs a spool of its own"
    )


OWNER = """
import asyncio, sys
from arbprov.outbox.spool import Spool
from arbprov.errors import ConfigurationError
try:
    spool = Spool(sys.argv[1])
except ConfigurationError as error:
    sys.exit(str(error))
print("mine", flush=True)
sys.stdin.read()
"""


def owner(path):
    """Start a process that uses a spool until its stdin ends."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal_of_another_process(path):
    with owner(path) as other:
        return other.communicate(timeout=TIMEOUT)[1]


def test_a_second_process_can_not_use_the_spool(path):
    with owner(path) as first:
        assert first.stdout.readline() == "mine\n"
        assert "is in use: each running provider" in refusal_of_another_process(path)
        first.communicate(timeout=TIMEOUT)


def test_a_refused_owner_in_the_process_of_the_first_leaves_it_locked_for_others(path):
    async def main(spool):
        refusal(path)
        return refusal_of_another_process(path)

    assert "is in use" in using(path, main)


def read_files(path):
    """Read a spool's files, as a backup does: this releases SQLite's locks of this process."""
    for file in path.parent.glob(f"{path.name}*"):
        file.read_bytes()


def test_a_backup_of_the_files_does_not_unlock_the_spool(path):
    async def main(spool):
        read_files(path)
        return refusal_of_another_process(path)

    assert "is in use" in using(path, main)


def test_a_letter_dropped_after_a_backup_of_the_files_does_not_lose_later_results(path, tmp_path):
    def drop():
        code = "import sys, pathlib, arbprov.outbox.sqlite as s; "
        code += "print(s.drop_dead_letters(pathlib.Path(sys.argv[1]), ['t']))"
        return subprocess.check_output([sys.executable, "-c", code, str(path)])

    async def main(spool):
        await refuse(spool)
        await spool.finish(("t", 0), b"small")
        read_files(path)
        assert drop() == b"1\n"
        await finish(spool, "u")
        return crash_image(path, tmp_path / "crashed")

    assert using(using(path, main), stored) == [("t", b"small"), ("u", b"result")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_child_does_not_keep_the_spool_locked(path):
    reader, writer = os.pipe()
    started, has_started = os.pipe()

    async def main(spool):
        child = os.fork()
        if not child:
            os.write(has_started, b"1")
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        # The child gives the lock back as soon as it runs.
        os.read(started, 1)
        return child

    child = using(path, main)
    try:
        assert using(path, begin) is None
    finally:
        os.close(writer)
        os.waitpid(child, 0)
        for end in (reader, started, has_started):
            os.close(end)


def test_a_spool_is_free_when_its_owner_is_killed(path):
    with owner(path) as first:
        assert first.stdout.readline() == "mine\n"
        first.kill()
    assert using(path, begin) is None


# Values that SQLite never stores.


@pytest.fixture
def small_limit():
    """Return a function that makes a spool whose SQLite refuses larger values than 50 kB."""
    if not hasattr(sqlite3, "SQLITE_LIMIT_LENGTH"):
        pytest.skip("this Python cannot set SQLite's limits")

    def make(path):
        spool = Spool(path, executor=Inline())
        spool._file._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)
        return spool

    return make


def test_a_result_that_can_not_be_stored_does_not_keep_other_results_from_it(
    path, small_limit, caplog
):
    async def main(spool):
        await asyncio.gather(*(spool.begin(Task(name, "work")) for name in "tuv"))
        await asyncio.gather(
            spool.finish(("u", 0), b"small"),
            spool.finish(("t", 0), BIG),
            spool.finish(("v", 0), b"small"),
        )
        return spool.ready, [spool.is_durable((name, 0)) for name in "tuv"]

    assert using(path, main, small_limit) == (True, [False, True, True])
    assert using(path, stored) == [("u", b"small"), ("v", b"small")]
    assert "task 't' can't be stored in the spool at" in caplog.text


def test_a_result_that_can_not_be_stored_is_known_when_the_hub_has_it(path, small_limit):
    async def main(spool):
        await deliver(spool, "t", BIG)
        return await spool.begin(Task("t", "work")), spool.is_durable(("t", 0))

    assert using(path, main, small_limit) == (BIG, False)
    assert using(path, interrupted) == []


def test_a_task_that_can_not_be_stored_runs(path, small_limit):
    async def main(spool):
        return await spool.begin(Task("t", "work", BIG)), spool.ready, spool.is_durable(("t", 0))

    assert using(path, main, small_limit) == (None, True, False)


def test_a_disk_that_fills_while_a_value_is_sought_out_is_a_full_disk(
    path, small_limit, monkeypatch
):
    async def main(spool):
        def full(change):
            fill(spool)
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(spool._file, "attempt", full)
        await spool.begin(Task("t", "work"))
        await asyncio.gather(
            spool.finish(("t", 0), BIG), spool.begin(Task("u", "work", b"x" * 40_000))
        )
        return spool.ready

    assert using(path, main, small_limit) is False


# A full disk.


BIG = b"x" * 100_000


async def until(spool, ready):
    """Wait until a spool is ready, or is not ready."""
    changed = asyncio.Event()
    spool.on_change = changed.set
    while spool.ready is not ready:
        changed.clear()
        await changed.wait()


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("arbprov.outbox.spool._PAUSES", (0.01, 0.01))


def test_a_result_that_does_not_fit_is_kept_until_it_does(path, no_pauses):
    async def main(spool):
        fill(spool)
        await finish(spool, "t", BIG)
        assert not spool.is_durable(("t", 0))
        relieve(spool)
        await until(spool, ready=True)
        return spool.is_durable(("t", 0))

    assert using(path, main)
    assert using(path, stored) == [("t", BIG)]


def test_no_task_waits_for_a_disk_that_is_full(path):
    async def main(spool):
        fill(spool)
        await finish(spool, "t", BIG)
        await finish(spool, "u", BIG)
        return spool.ready

    assert using(path, main) is False


def test_a_full_disk_is_logged_once_for_each_change(path, no_pauses, caplog):
    async def main(spool):
        counts = []
        for ids in ("ab", "cd"):
            fill(spool)
            for name in ids:
                await finish(spool, name, BIG)
            relieve(spool)
            await until(spool, ready=True)
            counts.append(len(caplog.messages))
        return counts

    caplog.set_level(logging.WARNING)
    assert using(path, main) == [2, 4]
    full, again = caplog.messages[:2]
    assert full.startswith(f"the spool at {path} can't be written: database or disk is full; ")
    assert again == f"the spool at {path} can be written again"


def test_a_line_about_a_full_disk_belongs_to_no_task(path, no_pauses, caplog):
    async def main(spool):
        current_task.set(Task("t", "work"))
        fill(spool)
        await finish(spool, "t", BIG)
        relieve(spool)
        await until(spool, ready=True)

    tasks = []
    caplog.set_level(logging.WARNING)
    with caplog.filtering(lambda record: tasks.append(current_task.get()) or True):
        using(path, main)
    assert tasks == [None, None]


def test_a_task_that_comes_while_the_disk_is_full_is_new_if_it_is(path):
    async def main(spool):
        await deliver(spool, "old")
        fill(spool)
        await finish(spool, "t", BIG)
        return [await spool.begin(Task(name, "work")) for name in ("old", "new")]

    assert using(path, main) == [b"result", None]


def test_a_result_that_was_taken_while_the_disk_is_full_is_known_still(path):
    async def main(spool):
        fill(spool)
        await deliver(spool, "t", BIG)
        return await spool.begin(Task("t", "work"))

    assert using(path, main) == BIG


def test_a_result_that_will_never_fit_does_not_keep_the_spool_from_working(path, no_pauses):
    async def main(spool):
        await spool.begin(Task("t", "work"))
        fill(spool)
        await spool.finish(("t", 0), BIG)
        spool.mark_delivered(("t", 0), BIG)
        await until(spool, ready=True)

    using(path, main)
    assert read_spool(path) == []


def test_a_result_of_before_that_is_taken_while_the_disk_is_full_is_noted(path, no_pauses):
    async def main(spool):
        await finish(spool)
        fill(spool)
        await finish(spool, "u", BIG)
        spool.mark_delivered(("t", 0), b"result")
        relieve(spool)
        await until(spool, ready=True)

    using(path, main)
    assert using(path, stored) == [("u", BIG)]


def test_the_end_tries_once_more_to_write(path):
    async def main(spool):
        fill(spool)
        await finish(spool, "t", BIG)
        relieve(spool)

    using(path, main)
    assert using(path, stored) == [("t", BIG)]


def test_a_result_after_the_end_is_not_waited_for(path):
    async def main(spool):
        await spool.close()
        await spool.finish(("t", 0), b"result")
        return spool.is_durable(("t", 0))

    assert using(path, main) is False


def test_a_cancelled_task_does_not_keep_other_tasks_from_writing(path):
    async def main(spool):
        waiting = asyncio.ensure_future(spool.begin(TASK))
        await asyncio.sleep(0)
        waiting.cancel()
        await spool.begin(Task("u", "work"))

    using(path, main)
    assert [entry.id for entry in read_spool(path)] == ["t", "u"]


def test_a_spool_that_can_not_be_read_is_an_error(path):
    async def main(spool):
        spool._file._database.execute("DROP TABLE task")
        await spool.next_stored(0)

    with pytest.raises(ProviderError, match=f"the spool at {path} can't be read: no such table"):
        using(path, main)


def test_a_task_is_new_where_nothing_can_be_read(path):
    async def main(spool):
        spool._file._database.execute("DROP TABLE task")
        return await spool.begin(TASK)

    assert using(path, main) is None


def test_a_stored_result_does_not_show_itself_in_a_log():
    assert "secret" not in repr(StoredResult(1, "t", b"secret"))
