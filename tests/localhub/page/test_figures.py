"""Figures of actions, masked names, and words for times and counts."""

from __future__ import annotations

import pytest

from arbprov.localhub.page import statistics
from arbprov.localhub.page.accounts import mask_name
from arbprov.localhub.page.results import show_json
from arbprov.localhub.page.statistics import Statistics, find_percentile, summarize
from arbprov.localhub.page.words import format_age, format_duration, format_json
from arbprov.localhub.tasks import Ending, State

NOW = 1_000.0


def ending(ended_at=NOW, state=State.DONE, took=1.0, error_type="", action="report"):
    return Ending(
        action=action,
        state=state,
        started_at=None if took is None else ended_at - took,
        ended_at=ended_at,
        error_type=error_type,
    )


def test_the_rate_is_over_five_minutes():
    summary = summarize([ending(NOW - 1)] * 10 + [ending(NOW - 301)] * 5, NOW)
    assert (summary.seconds, summary.all.per_minute) == (300.0, 2.0)


def test_the_rate_of_a_busy_hub_is_over_the_time_that_the_sample_covers(monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE", 10)
    summary = summarize([ending(NOW - 1)] * 5 + [ending(NOW - 20)] * 5, NOW)
    assert (summary.seconds, summary.all.per_minute) == (20.0, 30.0)


def test_percentiles_are_of_tasks_that_ran():
    endings = [ending(took=float(n)) for n in range(1, 101)]
    endings += [ending(took=None, state=State.DEAD), ending(took=999.0, state=State.CANCELLED)]
    figures = summarize(endings, NOW).all
    assert (figures.p50, figures.p95) == (50.0, 95.0)


def test_the_percentile_of_one_task_is_its_own():
    assert find_percentile([3.0], 95) == 3.0


def test_errors_are_counted_by_type():
    endings = [ending(state=State.FAILED, error_type="KeyError")] * 2
    endings += [ending(state=State.DEAD), ending(), ending(state=State.CANCELLED)]
    assert summarize(endings, NOW).all.errors == [("KeyError", 2), ("dead", 1)]


def test_the_sparkline_counts_by_time():
    chart = summarize([ending(NOW - 1)] * 3 + [ending(NOW - 299)], NOW).all.sparkline
    points = chart.line.split()
    assert (points[0], points[1], points[-1]) == ("0,16.6667", "4.13793,24", "120,2")
    assert (chart.total, chart.peak) == (4, 3)


def test_error_types_are_named_by_how_frequent_they_are(monkeypatch):
    endings = [ending(error_type="KeyError"), ending(state=State.DEAD), ending()]
    endings += [ending(error_type="LookupError", action="another", took=None)] * 2
    assert summarize(endings, NOW).error_types == ["LookupError", "KeyError"]
    monkeypatch.setattr(statistics, "_MAX_ERROR_TYPES", 1)
    assert summarize(endings, NOW).error_types == ["LookupError"]


class Store:
    def __init__(self):
        self.reads = 0

    async def endings(self, limit):
        self.reads += 1
        return []


@pytest.mark.anyio
async def test_figures_are_read_once_for_several_people():
    store, now = Store(), NOW
    figures = Statistics(store, lambda: now)
    for later, reads in [(0.0, 1), (1.9, 1), (2.0, 2), (-5.0, 3)]:
        now = NOW + later
        await figures.read()
        assert store.reads == reads


@pytest.mark.anyio
async def test_figures_for_suggestions_may_be_older():
    store, now = Store(), NOW
    figures = Statistics(store, lambda: now)
    for later, reads in [(0.0, 1), (59.9, 1), (60.0, 2)]:
        now = NOW + later
        await figures.read(60.0)
        assert store.reads == reads


@pytest.mark.parametrize(
    ("account", "name"),
    [
        (b"", ""),
        (b"no JSON", ""),
        (b"[1]", ""),
        (b'{"name": ""}', ""),
        (b'{"name": true}', ""),
        (b'{"key_name": "secret"}', ""),
        (b'{"id": 7}', "id 7"),
        (b'{"customer_id": 123456}', "customer_id 12…6"),
        (b'{"id": 1, "user_name": "ann.miller"}', "user_name an…r"),
        (b'{"login_name": "ab", "name": "Acme"}', "name Ac…"),
    ],
)  # fmt: skip
def test_an_account_is_named_by_the_field_that_names_it(account, name):
    assert mask_name(account) == name


def test_durations_of_whole_units_have_one_part():
    assert [format_duration(value) for value in (60, 3600, 86_400, 86_460)] == [
        "1 min",
        "1 h",
        "1 d",
        "1 d",
    ]


def test_an_age_may_be_in_the_future():
    assert format_age(-7_200) == "in 2 h"


def test_a_very_long_result_that_is_no_json_says_that_it_is_cut():
    text = show_json(b"a" * 150_000).text
    assert text == "a" * 100_000 + "\n… 50,000 more characters; the API has all"


def test_very_long_json_is_cut():
    text = format_json("a" * 150_000)
    assert text.endswith("… 50,002 more characters; the API has all")
