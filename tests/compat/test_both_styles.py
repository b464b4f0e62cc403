"""One provider as a class and as functions, driven by one file of tasks, over real gRPC."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import attrs
import pytest
from support.shops import ClassShop, function_shop

from arbprov.clock import SystemClock
from arbprov.localhub import LocalHub
from arbprov.testing import serving

TASKS = Path(__file__).parent / "samples" / "shop.jsonl"


def submissions(app):
    """Return what a hub gets from an app for the tasks of the file, given one by one."""
    tasks = [json.loads(line) for line in TASKS.read_text().splitlines()]
    with LocalHub(hold=0.05, token="sample-token") as hub, serving(app, hub):
        return [attrs.asdict(hub.call(**task)) for task in tasks]


@pytest.fixture
def of_each_style(monkeypatch):
    # The machine's clock stands still, for both: so no field of a result may differ.
    now = datetime(2026, 3, 20, 9, 30, 0, 250_000, tzinfo=timezone.utc)
    monkeypatch.setattr(SystemClock, "now", lambda self: now)
    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(lambda: 1000.0))
    return submissions(ClassShop().app), submissions(function_shop())


def test_a_file_of_tasks_has_the_same_results_byte_for_byte(of_each_style):
    as_a_class, as_functions = of_each_style
    assert as_a_class == as_functions


def test_the_file_s_tasks_end_in_each_of_the_ways(of_each_style):
    found = [json.loads(one["result"]) for one in of_each_style[0]]
    ends = [(one["status"], next(iter(one["data"]["response"]), "")) for one in found]
    assert ends == [
        *[("success", "price")] * 2,
        ("error", "error"),
        ("error", "error"),
        ("warning", "item"),
        ("error", "error"),
        ("success", "due"),
        ("warning", "due"),
        ("error", "error"),
        ("error", "error"),
        ("success", "stamp"),
        ("success", "payload"),
        ("success", "number"),
        ("limit", "wait_time"),
        *[("error", "error")] * 3,
        ("success", "text"),
        ("error", "error"),
    ]
