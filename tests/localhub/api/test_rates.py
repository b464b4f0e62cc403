"""How many tasks have ended lately."""

from __future__ import annotations

from support.waiting import wait_until

from arbprov.localhub.api.rates import Rates
from arbprov.localhub.queue import Change


class FakeTime:
    now = 1000.0

    def __call__(self):
        return self.now


def test_rates_are_per_minute_of_the_last_five():
    clock = FakeTime()
    rates = Rates(clock)
    for state in ("done", "done", "failed", "running", ""):
        rates.add(Change("t1", state))
    clock.now += 120
    rates.add(Change("t2", "done"))
    view = rates.view()
    assert (view.seconds, view.per_minute["done"], view.per_minute["failed"]) == (120, 1.5, 0.5)
    clock.now += 200
    assert (rates.view().seconds, rates.view().per_minute["done"]) == (300, 0.2)
    assert rates.view().per_minute["failed"] == 0


def test_seconds_without_an_end_take_no_memory():
    clock = FakeTime()
    rates = Rates(clock)
    for _ in range(2_000):
        rates.add(Change("t1", "done"))
        clock.now += 1
    assert len(rates._seconds) <= 301


def test_a_running_hub_counts(api):
    with api.serving():
        # The server's own hub counts, and that of the fixture does not.
        counting = api.run(first_listener(api))
        api.submit()
        api.finish()
        wait_until(counting.empty)


async def first_listener(api):
    (listener,) = api.queue._listeners
    return listener
