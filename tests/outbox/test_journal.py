"""The promises of every journal, in memory and on disk."""

from __future__ import annotations

import asyncio

import pytest

from arbprov.outbox.journal import MemoryJournal, ResultCache
from arbprov.outbox.spool import Spool
from arbprov.task import Task

TASK = Task("t", "work", b'{"n": 1}', b'{"key": "sample"}')


@pytest.fixture(params=["memory", "spool"])
def make(request, tmp_path):
    """Return a function that makes a journal with limits on the results it keeps."""

    def make(max_results=100, max_bytes=10_000):
        if request.param == "memory":
            return MemoryJournal(ResultCache(max_results, max_bytes))
        return Spool(tmp_path / "spool", max_results=max_results, max_bytes=max_bytes)

    return make


@pytest.fixture
def asked(make):
    """Return a function that runs a coroutine function with a journal."""

    def ask(main, **bounds):
        async def run():
            journal = make(**bounds)
            try:
                return await main(journal)
            finally:
                await journal.close()

        return asyncio.run(run())

    return ask


async def ended(journal, id, message=b"result"):
    """Begin and finish a task, and mark its result as delivered."""
    await journal.begin(Task(id, "work"))
    await journal.finish((id, 0), message)
    journal.mark_delivered((id, 0), message)


def test_a_new_task_has_no_result(asked):
    assert asked(lambda journal: journal.begin(TASK)) is None


def test_a_task_that_was_finished_has_its_result(asked):
    async def main(journal):
        await ended(journal, "t", b"\x00 as it was \xff")
        return await journal.begin(TASK)

    assert asked(main) == b"\x00 as it was \xff"


def test_a_task_whose_result_was_refused_has_it_still(asked):
    async def main(journal):
        await journal.begin(TASK)
        await journal.finish(TASK.key, b"result")
        journal.mark_refused(TASK.key, b"result", "no")
        return await journal.begin(TASK)

    assert asked(main) == b"result"


def test_a_replacement_of_a_refused_result_is_the_result(asked):
    async def main(journal):
        await journal.begin(TASK)
        await journal.finish(TASK.key, b"too large")
        journal.mark_refused(TASK.key, b"too large", "no")
        await journal.finish(TASK.key, b"small")
        journal.mark_delivered(TASK.key, b"small")
        return await journal.begin(TASK)

    assert asked(main) == b"small"


def test_many_tasks_at_once_are_kept_apart(asked):
    async def main(journal):
        names = [f"t{number}" for number in range(50)]
        await asyncio.gather(*(ended(journal, name, name.encode()) for name in names))
        return [await journal.begin(Task(name, "work")) == name.encode() for name in names]

    assert all(asked(main))


def kept(asked, sizes, **bounds):
    """Return the numbers of the tasks that are remembered after results of these sizes."""

    async def main(journal):
        for number, size in enumerate(sizes):
            await ended(journal, str(number), b"x" * size)
        found = [await journal.begin(Task(str(n), "work")) for n in range(len(sizes))]
        return [number for number, message in enumerate(found) if message]

    return asked(main, **bounds)


def test_only_so_many_results_are_kept(asked):
    assert kept(asked, [1] * 10, max_results=3) == [7, 8, 9]


def test_only_so_large_results_are_kept(asked):
    assert kept(asked, [40] * 10, max_bytes=100) == [8, 9]


def test_a_result_that_is_larger_than_all_that_is_kept_is_not_kept(asked):
    assert kept(asked, [40, 101], max_bytes=100) == []


def test_a_result_that_was_sent_again_is_a_late_one(asked):
    async def main(journal):
        for name in "abc":
            await ended(journal, name)
        journal.mark_delivered(("a", 0), b"result")
        await ended(journal, "d")
        return [name for name in "abcd" if await journal.begin(Task(name, "work"))]

    assert asked(main, max_results=3) == ["a", "c", "d"]


def test_nothing_is_left_of_an_earlier_run_at_first(asked):
    async def main(journal):
        return list(await journal.interrupted_tasks()), await journal.next_stored(0)

    assert asked(main) == ([], None)


def test_it_is_ready(asked):
    async def main(journal):
        await ended(journal, "t")
        return journal.ready

    assert asked(main) is True


def test_it_can_be_closed_twice(asked):
    asked(lambda journal: journal.close())


def test_each_attempt_of_a_task_has_its_own_result(asked):
    async def main(journal):
        first, second = (Task("t", "work", attempt=number) for number in (1, 2))
        await journal.begin(first)
        await journal.finish(first.key, b"first")
        journal.mark_delivered(first.key, b"first")
        new = await journal.begin(second)
        await journal.finish(second.key, b"second")
        journal.mark_refused(second.key, b"second", "no")
        return new, await journal.begin(first), await journal.begin(second)

    assert asked(main) == (None, b"first", b"second")
