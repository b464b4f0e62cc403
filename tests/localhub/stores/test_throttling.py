"""What a limit costs a group in the long run: limits, and tasks that could have gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulated_providers import FixedWindow, RollingWindow, run_throttled
from support.task_stores import open_memory


def run(quota, **values):
    """Run a provider against a store in memory."""

    async def run():
        bench = await open_memory(Path())
        tally = await run_throttled(bench, quota, **values)
        await bench.store.close()
        return tally

    return asyncio.run(run())


def test_one_task_a_second_costs_one_limit_a_second():
    tally = run(FixedWindow(1, 1.0), slots=4, duration=0.001, seconds=30.5)
    assert len(tally.successes) == 31
    # All slots were busy at the first limit.
    assert len(tally.limits) <= 31 + 4


@given(
    amount=st.integers(1, 40),
    period=st.sampled_from([1.0, 60.0, 86_400.0]),
    slots=st.integers(1, 16),
)
def test_an_episode_after_the_second_costs_one_limit_if_tasks_are_quick(amount, period, slots):
    quota = FixedWindow(amount, period)
    tally = run(quota, slots=slots, duration=period / 1_000, seconds=8.5 * period)
    assert len(tally.successes) == 9 * amount
    assert set(tally.limits_by_episode()[2:]) == {1}


@pytest.mark.parametrize("window", [FixedWindow, RollingWindow])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_a_group_gets_its_quota_and_a_hold_costs_about_a_limit(window, jitter):
    tally = run(window(50, 1.0), slots=16, duration=0.1, seconds=60.0, jitter=jitter)
    assert sum(at >= 5 for at in tally.successes) >= 0.95 * 50 * 55
    limits, episodes = [sum(at >= 5 for at in times) for times in (tally.limits, tally.episodes)]
    assert limits <= 1.2 * episodes


@pytest.mark.parametrize("window", [FixedWindow, RollingWindow])
@pytest.mark.parametrize("duration", [3.0, 10.0])
def test_tasks_that_are_slower_than_the_quotas_period_get_the_quota(window, duration):
    tally = run(window(5, 1.0), slots=64, duration=duration, seconds=120.0, jitter=0.2)
    assert sum(at >= 40 for at in tally.successes) >= 0.95 * 5 * 80
    assert sum(at >= 40 for at in tally.limits) <= 1.2 * 80
