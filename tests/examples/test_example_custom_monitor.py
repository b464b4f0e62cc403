"""The example with a monitor of its own, through the wire."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timezone

import pytest
from support.examples import load, statuses_of_tasks, working


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("BUDGET_FILE", str(tmp_path / "budget.sqlite3"))
    monkeypatch.setenv("BUDGET_CALLS", "3")
    return tmp_path / "budget.sqlite3"


@pytest.fixture
def example():
    return load("custom_monitor")


def used(file):
    with closing(sqlite3.connect(file)) as table:
        return table.execute("SELECT used FROM budget ORDER BY month").fetchall()


def statuses(hub, calls):
    tickets = [hub.put("lookup", {"word": str(number)}) for number in range(calls)]
    return sorted(ticket.result().status for ticket in tickets)


def test_the_budget_admits_no_more_than_it_has(example):
    with working(example) as hub:
        assert statuses(hub, 5) == ["limit", "limit", *["success"] * 3]


def test_the_table_counts_admitted_calls_only(example, file):
    with working(example) as hub:
        statuses(hub, 5)
    assert used(file) == [(3,)]


def test_a_refused_call_waits_for_the_next_month(example, monkeypatch):
    late = datetime(2026, 6, 30, 23, 59, tzinfo=timezone.utc)
    monkeypatch.setattr(example.budget, "now", lambda: late)
    with working(example) as hub:
        statuses(hub, 3)
        refused = hub.call("lookup", {"word": "more"})
    assert (refused.data["limit"], refused.data["wait_time"]) == ("MonthlyBudget", 60)


def test_the_next_month_has_a_budget_of_its_own(example, file, monkeypatch):
    today = datetime(2026, 1, 31, tzinfo=timezone.utc)
    monkeypatch.setattr(example.budget, "now", lambda: today)
    with working(example) as hub:
        statuses(hub, 3)
        today = datetime(2026, 2, 1, tzinfo=timezone.utc)
        statuses(hub, 1)
    assert used(file) == [(3,), (1,)]


def test_a_call_that_another_limit_refuses_takes_nothing_from_the_budget(file, monkeypatch):
    monkeypatch.setenv("BUDGET_CALLS", "99")
    example = load("custom_monitor")
    with working(example) as hub:
        assert statuses(hub, 7).count("success") == 5
    assert used(file) == [(5,)]


def test_the_count_outlives_the_provider(example):
    with working(example) as hub:
        statuses(hub, 3)
    again = load("custom_monitor")
    with working(again) as hub:
        assert hub.call("lookup", {"word": "more"}).status == "limit"


def test_one_of_the_example_s_tasks_is_refused(example):
    with working(example) as hub:
        statuses = statuses_of_tasks("custom_monitor", hub)
    assert sorted(statuses) == ["limit", *["success"] * 3]
