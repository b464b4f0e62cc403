"""`arbprov outbox`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3

from arbprov.outbox.spool import Spool
from arbprov.task import Task


def test_the_tasks_of_a_spool_are_listed(arbprov, spool):
    result = arbprov("outbox", str(spool))
    rows = [line.split(maxsplit=4) for line in result.stdout.splitlines()]
    assert rows[0] == ["STATE", "ID", "ACTION", "BYTES", "AT                         REASON"]
    assert [row[:3] for row in rows[1:]] == [
        ["started", "task-1", "square"],
        ["pending", "task-2", "square"],
        ["dead", "task-3", "square"],
    ]
    assert result.stdout.endswith("PERMISSION_DENIED, not\\nyours\n")
    assert result.stderr == "1 started, 1 pending, 1 dead\n"


def test_the_path_can_come_from_the_environment(arbprov, spool):
    result = arbprov("outbox", "--json", env={"ARBPROV_SPOOL": str(spool)})
    assert [row["state"] for row in json.loads(result.stdout)] == ["started", "pending", "dead"]


def test_a_refused_result_is_printed_as_json(arbprov, spool):
    row = json.loads(arbprov("outbox", str(spool), "--json").stdout)[2]
    assert row.pop("at").endswith("+00:00")
    assert row.pop("bytes") > 50
    assert row == {
        "state": "dead",
        "id": "task-3",
        "action": "square",
        "reason": "PERMISSION_DENIED, not\nyours",
        "result": {"status": "success", "message": "fine", "data": {"response": {"n": 9}}},
    }


def test_accounts_are_not_printed(arbprov, spool):
    for options in ([], ["--json"]):
        assert "hunter22" not in arbprov("outbox", str(spool), *options).output


def test_only_dead_results_are_dropped(arbprov, spool):
    dropped = arbprov("outbox", str(spool), *(f"--drop=task-{n}" for n in "123"))
    assert dropped.stderr == "1 dropped\n"
    assert arbprov("outbox", str(spool)).stderr == "1 started, 1 pending, 0 dead\n"


def test_the_spools_of_workers_are_included(arbprov, spool):
    for name in ("spool.1", "spool.10", "spool.old"):
        shutil.copyfile(spool, spool.with_name(name))
    assert arbprov("outbox", str(spool)).stderr == "3 started, 3 pending, 3 dead\n"
    spool.unlink()
    assert arbprov("outbox", str(spool), "--drop=task-3").stderr == "2 dropped\n"


def test_an_empty_spool_has_no_table(arbprov, folder):
    asyncio.run(Spool(folder / "spool").close())
    result = arbprov("outbox", "spool")
    assert (result.stdout, result.stderr) == ("", "0 started, 0 pending, 0 dead\n")


def test_a_missing_path_is_wrong_usage(arbprov):
    result = arbprov("outbox", env={"ARBPROV_SPOOL": None})
    assert result.exit_code == 2
    assert "PATH is missing; give the spool's path, or set ARBPROV_SPOOL" in result.stderr


def test_a_spool_that_does_not_exist_is_bad_configuration(arbprov):
    result = arbprov("outbox", "nowhere")
    assert (result.exit_code, result.stderr[:25]) == (78, "Error: there is no spool ")


def test_a_spool_is_moved_with_those_of_workers_and_says_whose_it_is(arbprov, spool, folder):
    shutil.copyfile(spool, folder / "spool.1")
    moved = arbprov("outbox", "spool", "--move-to", "weather", "hub:50051")
    assert (
        moved.stderr == "moved 4 undelivered tasks to provider 'weather' at the hub 'hub:50051'\n"
    )
    assert arbprov("outbox", "spool").stderr == (
        "of provider 'weather' at the hub 'hub:50051':\n2 started, 2 pending, 2 dead\n"
    )


def test_a_spool_is_not_moved_to_an_invalid_url(arbprov, spool):
    moved = arbprov("outbox", "spool", "--move-to", "weather", "http://hub")
    assert moved.exit_code == 2
    assert "for '--move-to': 'http://hub' has the unknown scheme http://" in moved.stderr


def test_a_damaged_dead_letter_is_listed(arbprov, spool):
    with contextlib.closing(sqlite3.connect(spool, isolation_level=None)) as database:
        database.execute("UPDATE dead_letter SET message = x'ffff'")
    assert json.loads(arbprov("outbox", "spool", "--json").stdout)[2]["result"] is None


def test_a_spool_of_another_hub_is_bad_configuration(arbprov, spool):
    arbprov("outbox", "spool", "--move-to", "typed", "other:50051")
    environ = {"ARBPROV_SPOOL": "spool", "HUB_GRPC_URL": "hub:50051", "PROVIDER_AUTH_TOKEN": "t"}
    result = arbprov("run", "typed", env=environ)
    assert result.exit_code == 78
    assert "has 2 undelivered tasks of provider 'typed' at the hub 'other:50051'" in result.stderr


def test_attempts_are_listed_if_the_hub_numbers_them(arbprov, spool):
    async def retry():
        one = Spool(spool)
        await one.begin(Task("task-2", "square", attempt=3))
        await one.close()

    asyncio.run(retry())
    result = arbprov("outbox", str(spool))
    rows = [line.split()[:3] for line in result.stdout.splitlines()]
    assert rows[0] == ["STATE", "ID", "ATTEMPT"]
    assert rows[-1] == ["started", "task-2", "3"]
    rows = json.loads(arbprov("outbox", str(spool), "--json").stdout)
    assert [row.get("attempt") for row in rows] == [None, None, None, 3]


def test_all_dead_attempts_of_a_task_are_dropped(arbprov, spool):
    async def refuse():
        one, task = Spool(spool), Task("task-3", "square", attempt=1)
        await one.begin(task)
        await one.finish(task.key, b"result")
        one.mark_refused(task.key, b"result", "no")
        await one.close()

    asyncio.run(refuse())
    assert arbprov("outbox", str(spool), "--drop=task-3").stderr == "2 dropped\n"
