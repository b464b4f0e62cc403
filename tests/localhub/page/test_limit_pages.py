"""Limits and providers: what providers report, and what the hub holds back."""

from __future__ import annotations

import re

import pytest

from arbprov.localhub.page import limit_pages
from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.page.limit_pages import join_limits
from arbprov.localhub.reports import LimitReport, ProviderReport
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import Scope
from arbprov.wire.accounts import find_account_key

XSS = "<script>alert('x')</script>\"'&"
ACCOUNT = {"name": "Acme GmbH", "api_key": "hunter22"}
LIMITED = '{"message": "no", "data": {"response": {"wait_time": 60, "limit": "5/minute"}}}'
NOW = 1_700_000_000.0


def limit(**values):
    return LimitReport(**{"action": "forecast", "limit": "5/minute", "total": 5, **values})


def report(api, *limits, **values):
    values = {"provider": "weather", "process": "web-1/17", "limits": limits, **values}
    api.hub.reports.put(ProviderReport(**values))


def show(api, path="/limits", **options):
    answer = api.ask("GET", path, **options)
    assert answer.status == 200, answer.text
    return answer


def join(*limits, age=0.0):
    reports = [
        (ProviderReport(provider="weather", process=str(number), limits=(one,)), age)
        for number, one in enumerate(limits)
    ]
    return join_limits(reports, NOW)


# Limits that providers report.


def test_a_hub_without_limits_says_so(api):
    text = show(api).text
    assert "No limit holds back a task." in text
    assert "No provider has reported a limit that counted a call." in text


def test_a_limit_shows_what_is_left_of_which_key(api):
    report(api, limit(key="9f3c5a01d2e4", left=2))
    assert "forecast 5/minute 9f3c5a01 2 of 5 open" in show(api).text


def test_a_closed_gate_shows_when_it_opens_and_who_has_closed_it(api):
    report(api, limit(left=0, opens_in=95, closed_by="the API answered 429", waiting=2))
    text = show(api).text
    assert re.search(r"0 of 5 closed until [\d:]{8} UTC in 1 min the API answered 429 2\b", text)
    assert "Calls left 1 closed" in text


def test_a_gate_opens_when_its_time_is_over():
    (row,) = join(limit(opens_in=30.0), age=31.0)
    assert row.opens_at is None


def test_the_key_of_an_account_has_its_masked_name(api):
    api.submit(account=ACCOUNT)
    key = find_account_key(make_task("a", account=ACCOUNT).account)
    report(api, limit(account_key=key, left=1), limit(key="b", account_key="unknown"))
    answer = show(api)
    assert f"{key[:8]} name Ac…H" in answer.text
    assert "hunter22" not in answer.html
    assert "Ac…" not in show(api, token=api.readers).text


def test_the_name_of_an_account_is_looked_up_once(api, monkeypatch):
    api.submit(account=ACCOUNT, account_key="k")
    report(api, limit(account_key="k", left=1))
    show(api)
    monkeypatch.setattr(api.queue.store, "search", None)
    assert "name Ac…H" in show(api).text


def test_names_of_very_many_accounts_are_not_kept(api, monkeypatch):
    monkeypatch.setattr(limit_pages, "_MAX_NAMES", 1)
    for number in range(3):
        api.submit(account={"name": f"account {number}"}, account_key=f"key-{number}")
    report(api, *(limit(key=str(n), account_key=f"key-{n}") for n in range(3)))
    text = show(api).text
    assert all(f"name ac…{number}" in text for number in range(3))


def test_the_tightest_of_several_processes_is_shown():
    rows = join(limit(left=3, waiting=1), limit(left=1, waiting=2), limit(left=None))
    assert [(row.report.left, row.processes, row.waiting) for row in rows] == [(1, 3, 3)]


def test_a_gate_that_one_process_has_closed_is_closed():
    (row,) = join(limit(left=0), limit(left=4, opens_in=30.0), limit(opens_in=10.0))
    assert (row.opens_at, row.report.left) == (NOW + 30.0, 4)


def test_closed_gates_come_first_and_then_those_with_least_left():
    rows = join(
        limit(key="a", left=5), limit(key="b", left=1), limit(key="c", left=5, opens_in=9.0)
    )
    assert [row.report.key for row in rows] == ["c", "b", "a"]


def test_a_limit_that_is_used_up_says_when_it_admits_another_call(api):
    report(api, limit(left=0, next_in=42.0))
    assert re.search(r"0 of 5 used up until [\d:]{8} UTC in 4\d s", show(api).text)


def test_a_limit_is_used_up_also_if_its_provider_does_not_say_until_when(api):
    report(api, limit(left=0))
    assert "0 of 5 used up" in show(api).text
    report(api, limit(left=1))
    assert "1 of 5 open" in show(api).text


def test_a_limit_whose_time_has_come_is_open():
    (row,) = join(limit(left=0, next_in=42.0), age=43.0)
    assert (row.next_at, row.is_used_up) == (None, False)


def test_a_gate_that_lets_a_single_call_try_says_so(api):
    report(api, limit(left=5, opens_in=0.0))
    assert "5 of 5 tries one call" in show(api).text


def test_a_limit_that_only_counts_is_marked(api):
    report(api, limit(left=5, shadow=True))
    assert "5/minute only counts" in show(api).text


def test_limits_of_several_actions_are_named_by_their_owner(api):
    report(
        api,
        limit(action="", owner="blueprint:ads", left=5),
        limit(action="", owner="app", left=5),
        limits_cut=7,
    )
    text = show(api).text
    assert "blueprint ads 5/minute" in text
    assert "all of weather 5/minute" in text
    assert "And 7 more." in text


@pytest.mark.parametrize(
    ("total", "left", "used"),
    [(5, 0, 100.0), (5, 5, 0.0), (5, 7, 0.0), (5, -1, 100.0), (None, 3, None), (5, None, None)],
)
def test_the_gauge_stays_in_its_bounds(total, left, used):
    (row,) = join(limit(total=total, left=left))
    assert row.used == used


def test_of_very_many_limits_the_most_urgent_are_shown(api):
    report(api, *(limit(key=f"key{number}", left=5) for number in range(203)))
    assert "And 3 more." in show(api).text


# What the hub holds back.


def test_a_group_that_is_held_shows_who_waits_for_what(api):
    api.submit(account=ACCOUNT)
    api.submit(account=ACCOUNT)
    api.finish("limit", LIMITED)
    text = show(api).text
    key = find_account_key(make_task("a", account=ACCOUNT).account)[:8]
    assert re.search(rf"forecast {key} name Ac…H 5/minute 2 [\d:]{{8}} UTC in \d+ s now", text)


def test_a_limit_that_lets_some_tasks_go_says_how_many(api, monkeypatch):
    some = Scope(
        action="report", account_key="k", held_until=1.0, limit="5/minute", since=1.0, room=3
    )

    async def find():
        return [some]

    monkeypatch.setattr(api.queue.store, "held", find)
    assert "5/minute 0 3 now" in show(api).text
    api.submit("report", id="t1", account_key="k")
    assert "5/minute of account k lets 3 tasks go now" in show(api, "/tasks/t1").text


def text_of(api, name):
    return show(api, f"/tasks/{name}").text


def test_of_very_many_groups_those_that_go_first_are_shown_and_counted(api, monkeypatch):
    monkeypatch.setattr(limit_pages, "_MAX_ROWS", 2)
    monkeypatch.setattr(limit_pages, "_MAX_GROUPS", 1)
    for number in range(3):
        api.submit(account_key=f"key-{number}")
        api.finish("limit", LIMITED)
    answer = show(api)
    assert "And 1 more." in answer.text
    assert answer.html.count("state=waiting") == 1


def test_pauses_are_listed_and_ended(api):
    for kind, name in [("action", "forecast"), ("account", "0123456789"), ("provider", "weather")]:
        api.send_form("/pauses", {"kind": kind, "name": name})
    text = show(api).text
    assert "action forecast now Resume action" in text
    assert "account 01234567 now Resume account" in text
    api.send_form("/pauses/end", {"kind": "action", "name": "forecast"})
    assert "action forecast" not in show(api).text


def test_all_texts_of_limits_are_escaped(api):
    report(
        api,
        limit(action=XSS, limit=XSS, key=XSS, closed_by=XSS, opens_in=9.0),
        provider=XSS,
        process=XSS,
        version=XSS,
    )
    api.send_form("/pauses", {"kind": "action", "name": XSS})
    for path in ("/limits", "/providers"):
        html = show(api, path).html
        assert "<script>alert" not in html
        assert html.count("&lt;script&gt;alert") >= 3


# Providers.


def test_a_hub_without_providers_says_how_to_start_one(api):
    assert "No provider has polled since the hub started." in show(api, "/providers").text


def test_a_provider_shows_its_processes(api):
    report(api, version="0.1.0", slots=8, free_slots=6)
    report(api, process="web-2/9", version="0.2.0", slots=0)
    api.hub.reports.note_poll("weather")
    text = show(api, "/providers").text
    assert "weather web-1/17 0.1.0 2 of 8 busy now Pause provider" in text
    assert "weather web-2/9 0.2.0" in text


def test_a_provider_that_does_not_report_is_listed_by_its_polls(api):
    api.hub.reports.note_poll("go-provider")
    assert "go-provider does not report now" in show(api, "/providers").text


def test_a_provider_that_polls_no_more_is_silent(api, monkeypatch):
    monkeypatch.setattr(api.hub.reports, "last_polls", lambda: {"weather": 75.0})
    assert "silent for 1 min Pause" in show(api, "/providers").text
    monkeypatch.setattr(api.hub.reports, "last_polls", lambda: {"weather": 59.0})
    assert "59 s ago Pause" in show(api, "/providers").text


def test_the_polls_of_providers_are_shown_anew_every_five_seconds(api, monkeypatch):
    def version(now):
        monkeypatch.setattr(PageHub, "now", lambda self: now)
        return re.search(r'data-version="(\w+)"', show(api, "/providers").html)[1]

    api.hub.reports.note_poll("weather")
    assert version(NOW) == version(NOW + 4)
    assert version(NOW) != version(NOW + 5)


def test_a_paused_provider_is_listed_although_it_never_polled(api):
    form = {"kind": "provider", "name": "ads", "back": "/providers"}
    assert api.send_form("/pauses", form).headers["location"] == "/providers?did=paused"
    assert "ads paused does not report none yet Resume provider" in show(api, "/providers").text
