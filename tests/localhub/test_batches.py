"""Calls that share a call of the store."""

from __future__ import annotations

import asyncio

import pytest

from arbprov.localhub.batches import Batches

pytestmark = pytest.mark.anyio


class Store:
    """A function whose calls wait until they are let go."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()

    async def double(self, items):
        self.calls.append([*items])
        await self.gate.wait()
        if "bad" in items:
            raise ValueError("bad")
        return [2 * item for item in items]


async def add_all(batches, items):
    adding = [asyncio.ensure_future(batches.add(item)) for item in items]
    await asyncio.sleep(0)
    return adding


async def begin(store, most=10):
    """Return batches whose first call is on its way."""
    batches = Batches(store.double, most)
    first = await add_all(batches, [1])
    await asyncio.sleep(0)
    assert store.calls == [[1]]
    return batches, first


async def test_items_that_come_during_a_call_share_the_next():
    store = Store()
    batches, adding = await begin(store)
    adding += await add_all(batches, [2, 3])
    store.gate.set()
    assert await asyncio.gather(*adding) == [2, 4, 6]
    assert store.calls == [[1], [2, 3]]


async def test_a_batch_has_a_largest_size():
    store = Store()
    batches, adding = await begin(store, most=2)
    adding += await add_all(batches, [2, 3, 4])
    store.gate.set()
    assert await asyncio.gather(*adding) == [2, 4, 6, 8]
    assert store.calls == [[1], [2, 3], [4]]


async def test_an_error_is_raised_for_each_item_of_its_batch_only():
    store = Store()
    batches, adding = await begin(store, most=2)
    adding += await add_all(batches, ["bad", "good", "other"])
    store.gate.set()
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, ValueError, ValueError, str]


@pytest.mark.parametrize("has_failed", [False, True])
async def test_a_cancelled_call_changes_nothing_for_the_others(has_failed):
    store = Store()
    batches, adding = await begin(store)
    adding += await add_all(batches, ["bad" if has_failed else 2, 3])
    adding[1].cancel()
    store.gate.set()
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert isinstance(outcomes[2], ValueError) if has_failed else outcomes[2] == 6


async def test_batches_are_finished_when_none_is_on_its_way():
    store = Store()
    batches, adding = await begin(store)
    finishing = asyncio.ensure_future(batches.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    store.gate.set()
    await finishing
    assert adding[0].done()


async def test_batches_that_never_ran_are_finished():
    await Batches(Store().double, 10).finish()
