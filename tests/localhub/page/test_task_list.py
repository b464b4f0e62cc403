"""The list of tasks: what it shows, its filters and pages, and what is done with all that match."""

from __future__ import annotations

import re
import time
from html import unescape
from unittest.mock import Mock
from urllib.parse import quote, unquote

import pytest

from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.page.task_rows import PREVIEW
from arbprov.localhub.reports import ActionReport, ProviderReport
from arbprov.localhub.submitting import make_task
from arbprov.wire.accounts import find_account_key

XSS = "<script>alert('x')</script>\"'&"
LIMITED = '{"message": "too many", "data": {"response": {"wait_time": 60, "limit": "5/minute"}}}'
FAILED = '{"message": "no such city", "data": {"response": {"type": "LookupError"}}}'


def show(api, query="", **options):
    answer = api.ask("GET", f"/tasks{query}", **options)
    assert answer.status == 200, answer.text
    return answer


def shown_ids(answer):
    return re.findall(r'class="c-action"><a href="/tasks/([^"]*)"', answer.html)


def test_a_hub_without_tasks_says_how_to_submit_one(api):
    assert "No tasks yet. Submit one" in show(api).text


def test_the_latest_task_is_the_first(api):
    ids = [api.submit() for _ in range(3)]
    assert shown_ids(show(api)) == ids[::-1]


def test_a_task_that_failed_shows_its_error(api):
    api.submit()
    api.finish("error", FAILED)
    assert "failed forecast LookupError no such city" in show(api).text


def test_a_task_that_waits_for_a_limit_says_which_and_until_when(api):
    api.submit(account={"key": "k"})
    api.finish("limit", LIMITED)
    key = find_account_key(b'{"key": "k"}')[:8]
    assert re.search(rf"held by 5/minute until \d\d:\d\d:\d\d UTC {key}", show(api).text)


@pytest.mark.parametrize("kind", ["action", "account", "provider"])
def test_a_task_that_is_paused_says_so(api, kind):
    name = {"action": "forecast", "account": "0123456789abcdef", "provider": "weather"}[kind]
    api.submit(account_key="0123456789abcdef", provider="weather")
    api.send_form("/pauses", {"kind": kind, "name": name})
    shown = "01234567" if kind == "account" else name
    assert f"paused: {kind} {shown}" in show(api).text


def test_a_task_for_later_says_when(api):
    api.submit(not_before=time.time() + 3600)
    assert "not to start before" in show(api).text


def test_a_time_of_another_day_has_its_date(api):
    api.submit(not_before=4e9)
    assert "not to start before 2096-10-02 07:06:40 UTC" in show(api).text


def test_a_waiting_task_says_that_no_provider_polls(api):
    api.submit()
    assert "waiting forecast no provider polls this hub" in show(api).text


def test_each_waiting_task_says_whether_a_provider_runs_its_action(api):
    api.submit("report")
    api.submit("forecast")
    api.submit("forecast", provider="ads")
    action = ActionReport(name="report")
    api.hub.reports.put(ProviderReport(provider="weather", process="1", actions=(action,)))
    api.hub.reports.note_poll("weather", reports=True)
    text = show(api).text
    assert "waiting forecast its provider ads does not poll this hub none" in text
    assert "waiting forecast no provider with this action none" in text
    assert "waiting report none" in text


def test_only_a_waiting_task_lacks_a_provider(api):
    api.submit()
    api.take()
    assert "no provider" not in show(api).text


def test_what_holds_a_task_back_goes_before_a_provider_that_it_lacks(api):
    api.submit()
    api.send_form("/pauses", {"kind": "action", "name": "forecast"})
    assert "waiting forecast paused: action forecast none" in show(api).text


def test_the_list_looks_again_since_polls_are_no_changes(api):
    assert 'id="rows" aria-label="Tasks" data-live data-hold data-every="5"' in show(api).html


def test_the_rows_change_when_a_provider_begins_to_poll(api):
    def version():
        return re.search(r'id="rows"[^>]*data-version="(\w+)"', show(api).html)[1]

    api.submit()
    before = version()
    api.hub.reports.note_poll("weather")
    assert version() != before


def test_a_running_task_says_where_it_runs_and_since_when(api):
    api.submit()
    api.take()
    assert "running forecast on weather, began now none" in show(api).text


def test_tasks_show_the_beginning_of_their_payloads(api):
    api.submit(payload={"city": "Z\u00fcrich", "days": 3})
    api.submit(payload={})
    text = show(api).text
    assert 'forecast no provider polls this hub {"city":"Z\u00fcrich","days":3} none' in text
    assert "forecast no provider polls this hub none" in text


def test_a_payload_follows_an_error_but_no_message_that_tells_nothing(api):
    for _ in range(3):
        api.submit(payload={"city": "Oz"})
    api.finish("error", FAILED)
    api.finish("success", '{"message": "Action completed successfully"}')
    api.finish("success", '{"message": "3 rows"}')
    text = show(api).text
    assert 'failed forecast LookupError no such city {"city":"Oz"} none' in text
    assert 'done forecast {"city":"Oz"} none' in text
    assert 'done forecast 3 rows {"city":"Oz"} none' in text


def test_what_a_row_cuts_off_is_in_its_title(api):
    api.submit(payload={"city": "Oz"})
    api.finish("error", FAILED)
    api.submit(payload={"city": "Rome"}, not_before=4e9)
    api.submit(payload={"city": "Bonn"})
    api.take()
    titles = [
        unescape(one) for one in re.findall(r'class="c-what" title="([^"]*)"', show(api).html)
    ]
    assert titles == [
        'on weather\n{"city":"Bonn"}',
        'not to start before 2096-10-02 07:06:40 UTC\n{"city":"Rome"}',
        'LookupError no such city\n{"city":"Oz"}',
    ]


def test_a_row_without_words_has_no_title(api):
    api.submit()
    api.finish("success", "{}")
    assert 'class="c-what"><div></div>' in show(api).html


def test_the_list_reads_no_whole_payloads_and_no_results(api, monkeypatch):
    api.submit(payload={"text": "x" * 100_000})
    api.finish()
    read = []
    search = api.queue.store.search

    async def note(*arguments, **options):
        tasks = await search(*arguments, **options)
        read.extend((len(task.payload), task.result) for task in tasks)
        return tasks

    monkeypatch.setattr(api.queue.store, "search", note)
    assert '{"text":"xxx' in show(api).text
    api.ask("GET", "/matching/retry?state=done")
    assert read == [(PREVIEW, "")] * 2


def test_only_a_task_with_a_result_says_how_long_it_ran(api):
    def ran_for(state):
        return re.search(rf"{state} forecast .*? \d ([\d.]+ m?s )?now", show(api).text)[1]

    api.submit(id="t1")
    api.finish("error", FAILED)
    assert ran_for("failed")
    api.run(api.queue.retry(["t1"]))
    api.run(api.queue.cancel(["t1"], "enough"))
    assert ran_for("cancelled") is None


def test_a_cancelled_task_shows_its_reason(api):
    api.run(api.queue.cancel([api.submit()], "no longer needed"))
    assert "no longer needed" in show(api).text


def test_an_account_is_shown_by_its_key_and_a_masked_name(api):
    api.submit(account={"name": "Acme GmbH", "api_key": "hunter22"})
    answer = show(api)
    assert "name Ac…H" in answer.text
    assert "hunter22" not in answer.html
    assert "Acme" not in answer.html


def test_a_reader_sees_no_part_of_an_accounts_values(api):
    api.submit(account={"name": "Acme GmbH"})
    assert "name" not in show(api, token=api.readers).text.split("Submitted")[1]


def test_all_texts_are_escaped(api):
    api.submit(XSS, account={"name": XSS}, account_key=XSS, provider=XSS, id=XSS)
    api.run(api.queue.take(XSS, renews=False))
    envelope = '{"message": "%s", "data": {"response": {"type": "%s"}}}'
    text = XSS.replace('"', '\\"')
    api.record(XSS, "error", envelope % (text, text))
    html = show(api, f"?action={quote(XSS)}&text={quote(XSS[:9])}&error_type={quote(XSS)}").html
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&#39;&amp;") >= 5


# Filters.

FILTERS = {
    "action=report": ["t2"],
    "state=failed": ["t2"],
    "state=failed&state=waiting": ["t3", "t2"],
    "account=an-account": ["t3"],
    "provider=weather": ["t2", "t1"],
    "error_type=LookupError": ["t2"],
    "text=Lisbon": ["t3"],
    "text=T1": ["t1"],
    "where=city%3DParis": ["t1"],
    "where=+days+%3D+3+": ["t3"],
    "payload.city=Paris&where=days%3D3": [],
    "action=&state=&text=++&where=": ["t3", "t2", "t1"],
}


@pytest.fixture
def filled(api):
    api.submit(id="t1", payload={"city": "Paris"})
    api.submit("report", id="t2")
    assert api.finish("success") == "t1"
    assert api.finish("error", FAILED) == "t2"
    api.submit(id="t3", payload={"city": "Lisbon", "days": 3}, account_key="an-account")
    return api


@pytest.mark.parametrize("query", FILTERS)
def test_a_filter_in_the_address_finds_tasks(filled, query):
    assert shown_ids(show(filled, f"?{query}")) == FILTERS[query]


def test_the_filters_stay_in_the_form(filled):
    html = show(filled, "?state=waiting&action=gone&account=a&where=city%3DRome&payload.x=1").html
    assert '<input type="hidden" name="state" value="waiting">' in html
    assert "<option selected>gone</option>" in html
    assert 'name="account" value="a"' in html
    assert 'value="city=Rome"' in html
    assert '<input type="hidden" name="payload.x" value="1">' in html


def hidden_fields(answer):
    form = answer.html.partition('<form class="filters"')[2].partition("</form>")[0]
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
    return [(unescape(name), unescape(value)) for name, value in found]


def test_the_form_carries_the_filters_that_have_no_field(filled):
    query = (
        "state=failed&state=done&id=t1&id=t2&created_before=4e9&payload.x=1&payload.y=2&action=a"
        "&account=a&provider=p&text=t&error_type=e&created_after=1&cursor=&limit=5&did=run"
    )
    assert hidden_fields(show(filled, f"?{query}")) == [
        ("state", "failed"),
        ("state", "done"),
        ("id", "t1"),
        ("id", "t2"),
        ("created_before", "4e9"),
        ("payload.y", "2"),
    ]


def test_a_filter_without_a_field_is_shown_and_removed(filled):
    answer = show(filled, "?state=done&id=t1&id=t2&created_before=4e9&payload.city=x&payload.a_b=2")
    assert "Also filtered by id t1 × id t2 × created before 4e9 × a_b=2 ×" in answer.text
    links = re.findall(r'href="([^"]*)" aria-label="Remove the filter ([^"]*)"', answer.html)
    others = {name: unescape(address) for address, name in links}
    assert others == {
        "id t1": "/tasks?state=done&id=t2&created_before=4e9&payload.city=x&payload.a_b=2",
        "id t2": "/tasks?state=done&id=t1&created_before=4e9&payload.city=x&payload.a_b=2",
        "created before 4e9": "/tasks?state=done&id=t1&id=t2&payload.city=x&payload.a_b=2",
        "a_b=2": "/tasks?state=done&id=t1&id=t2&created_before=4e9&payload.city=x",
    }
    assert "Also filtered by" not in show(filled, "?state=done&state=dead&where=a%3Db").text


def test_error_types_and_providers_are_suggested(filled):
    filled.hub.reports.note_poll("weather")
    filled.hub.reports.put(ProviderReport(provider="another", process="p", version="1", slots=1))
    html = show(filled).html
    assert '<datalist id="error-types"><option value="LookupError"></option></datalist>' in html
    providers = '<option value="another"></option><option value="weather"></option>'
    assert f'<datalist id="provider-names">{providers}</datalist>' in html
    assert 'list="error-types"' in html
    assert 'list="provider-names"' in html


def test_suggestions_are_not_read_for_each_update_of_a_list(filled, monkeypatch):
    now, reads = time.time(), []
    read = filled.queue.store.endings

    async def count_reads(limit):
        reads.append(limit)
        return await read(limit)

    monkeypatch.setattr(filled.queue.store, "endings", count_reads)
    for later, expected in [(0, 1), (59, 1), (60, 2)]:
        clock = Mock(time=Mock(return_value=now + later))
        monkeypatch.setattr("arbprov.localhub.page.hub.time", clock)
        show(filled)
        assert len(reads) == expected


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (600, ["15 min", "60 min", "24 h"]),
        (1_800, ["60 min", "24 h"]),
        (7_200, ["24 h"]),
        (90_000, []),
    ],
)
def test_tasks_are_found_by_how_long_ago_they_were_submitted(api, monkeypatch, ago, expected):
    api.submit(id="t1")
    now = api.stored("t1").created_at + ago
    monkeypatch.setattr(PageHub, "now", lambda self: now)
    found = []
    for age in ("15 min", "60 min", "24 h"):
        answer = show(api, f"?created_after={quote(age)}")
        assert f'<option value="{age}" selected>last {age}</option>' in answer.html
        found += [age] * (shown_ids(answer) == ["t1"])
        asked = api.ask("GET", f"/matching/cancel?created_after={quote(age)}").text
        assert f"Cancel {int(shown_ids(answer) == ['t1'])} task" in asked
        assert f"submitted in the last {age}" in asked
    assert found == expected


def test_the_form_keeps_a_time_of_the_address(filled):
    html = show(filled, "?created_after=2026-03-20T00:00:00Z").html
    option = '<option value="2026-03-20T00:00:00Z" selected>since 2026-03-20T00:00:00Z</option>'
    assert option in html
    assert html.count("selected>") == 1


@pytest.mark.parametrize("shown", ["31a6457b", "31a6457b55b3678"])
def test_the_shown_beginning_of_an_accounts_key_finds_its_tasks(api, shown):
    api.submit(id="t1", account_key="31a6457b55b3678a")
    api.submit(id="t2", account_key="31a64500000000ff")
    answer = api.ask("GET", f"/tasks?state=waiting&account={shown}&where=a%3Db")
    assert answer.status == 303
    address = "/tasks?state=waiting&account=31a6457b55b3678a&payload.a=b"
    assert unquote(answer.headers["location"]).replace("%3D", "=") == address
    assert shown_ids(show(api, "?account=31a6457b55b3678a")) == ["t1"]


def test_the_tasks_of_no_account_are_found_by_the_shown_word(api):
    api.submit(id="t1")
    api.submit(id="t2", account={"key": "k"})
    assert ">none</a>" in show(api).html
    address = api.ask("GET", "/tasks?account=none").headers["location"]
    assert shown_ids(show(api, address.removeprefix("/tasks"))) == ["t1"]


@pytest.mark.parametrize(
    "account", ["31a6457", "31a6457c", "an-accou", "beef0123", "31A6457B", "none"]
)
def test_a_key_that_is_whole_or_means_no_single_account_stays(api, account):
    for key in ("31a6457b55b3678a", "an-account", "beef0123", "beef0123beef0123", "none"):
        api.submit(account_key=key)
    assert f'name="account" value="{account}"' in show(api, f"?account={account}").html


@pytest.mark.parametrize("where", ["odd", "%3DParis"])
def test_a_field_without_a_name_is_refused_in_words(filled, where):
    answer = filled.ask("GET", f"/tasks?where={where}")
    assert answer.status == 422
    assert "expected NAME=VALUE, such as city=Paris" in answer.text


def test_no_task_that_matches_is_said(filled):
    assert "No task matches." in show(filled, "?action=gone").text


def test_the_states_have_counts_of_the_chosen_action(filled):
    assert "all 3 waiting 1 running 0 done 1 failed 1 cancelled 0 dead 0" in show(filled).text
    assert "all 1 waiting 0 running 0 done 0 failed 1" in show(filled, "?action=report").text


@pytest.mark.parametrize(
    "query", ["?account=an-account", "?text=Lisbon", "?created_after=1970-01-02T00:00:00Z"]
)
def test_the_states_have_no_counts_that_other_filters_would_change(filled, query):
    assert "all waiting running done failed cancelled dead" in show(filled, query).text


@pytest.mark.parametrize(
    ("query", "states"),
    [("", ["all"]), ("?state=dead", ["dead"]), ("?state=failed&state=dead", ["failed", "dead"])],
)
def test_the_states_that_are_shown_are_marked(filled, query, states):
    marked = re.findall(r'aria-current="true"[^>]*>(\w+)', show(filled, query).html)
    assert marked == states


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "3 tasks"),
        ("?action=report", "1 task matches"),
        ("?action=gone", "0 tasks match"),
        ("?state=done&state=failed", "2 tasks match"),
        ("?text=Lisbon", "1 task matches"),
    ],
)
def test_the_tasks_are_counted(filled, query, text):
    assert text in show(filled, query).text


def test_a_count_that_takes_long_is_capped(api):
    tasks = [make_task("report", {"n": 1}) for _ in range(1_001)]
    api.run(api.queue.submit(tasks))
    assert "1,000+ tasks match" in show(api, "?where=n%3D1").text
    assert "1,001 tasks match" in show(api, "?action=report").text


def test_an_older_page_counts_all_tasks_of_its_filters(api):
    api.run(api.queue.submit([make_task("report", {"n": 1}) for _ in range(60)]))
    first = show(api, "?where=n%3D1")
    older = re.search(r'href="/tasks(\?[^"]*cursor=[^"]*)"', first.html)[1].replace("&amp;", "&")
    assert "60 tasks match" in show(api, older).text


@pytest.fixture
def searched(api, monkeypatch):
    """A hub with 5 tasks, whose pages look for a text in 2 tasks."""
    monkeypatch.setattr("arbprov.localhub.api.filters.MOST_SEARCHED", 2)
    monkeypatch.setattr("arbprov.localhub.page.task_list.MOST_SEARCHED", 2)
    for name, city in {"a": "Rome", "b": "Paris", "c": "Lima", "d": "Paris", "e": "Lima"}.items():
        api.submit(id=name, payload={"city": city})
    return api


def test_a_search_for_a_text_goes_on_in_older_tasks(searched):
    found, said, query = [], [], "?text=Paris"
    while query and len(found) < 4:
        answer = show(searched, query)
        found.append(shown_ids(answer))
        said.append(
            re.search(r"\d \w* ?tasks? match\w*( in the 2 that were searched)?", answer.text)[0]
        )
        older = re.search(
            r'href="/tasks(\?[^"]*cursor=[^"]*)" rel="next">Search older', answer.html
        )
        query = older and older[1].replace("&amp;", "&")
    assert found == [["d"], ["b"], []]
    assert said == [
        "1 task matches in the 2 that were searched",
        "1 older task matches in the 2 that were searched",
        "0 older tasks match",
    ]


def test_a_search_without_a_hit_so_far_offers_older_tasks(searched):
    assert "No task matches so far. Search older tasks" in show(searched, "?text=Rome").text
    assert "No task matches. Show all tasks" in show(searched, "?text=Rome&action=gone").text


def test_only_tasks_that_meet_the_other_filters_are_searched(searched):
    searched.run(searched.queue.cancel(["a", "b"], "not needed"))
    assert shown_ids(show(searched, "?text=Rome&state=cancelled")) == ["a"]


def test_a_search_without_a_text_goes_through_all_tasks(searched):
    assert shown_ids(show(searched, "?where=city%3DParis")) == ["d", "b"]


def test_all_that_a_text_matches_are_changed_however_old(searched):
    assert "Cancel 2 tasks?" in searched.ask("GET", "/matching/cancel?text=Paris").text
    searched.send_form("/matching/cancel", [("text", "Paris"), ("expect", "2")])
    assert searched.stored("b").state == "cancelled"


def test_pages_follow_each_other_without_gaps(api):
    ids = [task.id for task in (make_task("report") for _ in range(120))]
    api.run(api.queue.submit([make_task("report", id=name) for name in ids]))
    found, query = [], "?action=report"
    for _ in range(3):
        answer = show(api, query)
        found += shown_ids(answer)
        older = re.search(r'href="/tasks(\?[^"]*cursor=[^"]*)"', answer.html)
        if older:
            query = older[1].replace("&amp;", "&")
    assert found == ids[::-1]
    assert older is None
    assert "← Newest" in answer.text


def test_only_the_first_page_updates_itself(api):
    api.run(api.queue.submit([make_task("report") for _ in range(60)]))
    first = show(api)
    query = re.search(r'href="/tasks(\?[^"]*cursor=[^"]*)"', first.html)[1]
    assert ("data-live" in first.html, "data-live" in show(api, query).html) == (True, False)


def test_the_version_of_the_rows_changes_with_them(api):
    def versions():
        return re.findall(r'data-version="(\w+)"', show(api).html)

    api.submit()
    before = versions()
    assert versions() == before
    api.take()
    assert set(versions()).isdisjoint(before)


# All that match.


def test_changing_all_that_match_asks_first_and_counts(filled):
    answer = filled.ask("GET", "/matching/retry?state=failed")
    assert "Retry 1 task?" in answer.text
    assert 'name="expect" value="1"' in answer.html
    assert filled.stored("t2").state == "failed"


def test_a_filter_that_no_task_meets_offers_nothing_to_change(filled):
    answer = filled.ask("GET", "/matching/cancel?state=done")
    assert "Cancel 0 tasks?" in answer.text
    assert "<button class=" not in answer.html.partition("<main")[2]


def test_no_filter_at_all_is_said(filled):
    assert "all tasks of the hub" in filled.ask("GET", "/matching/cancel").text


def test_all_that_match_are_retried(filled):
    form = [("state", "failed"), ("error_type", "LookupError"), ("expect", "1")]
    answer = filled.send_form("/matching/retry", form)
    assert answer.status == 303
    assert answer.headers["location"] == "/tasks?error_type=LookupError&did=retried.1"
    assert filled.stored("t2").state == "waiting"
    assert "1 task waits again." in show(filled, "?did=retried.1").text


def test_all_that_match_are_cancelled(filled):
    answer = filled.send_form("/matching/cancel", [("account", "an-account"), ("expect", "1")])
    assert answer.headers["location"] == "/tasks?account=an-account&did=cancelled.1"
    assert filled.stored("t3").state == "cancelled"


def test_a_field_of_the_payload_says_which_are_changed(filled):
    filled.send_form(
        "/matching/retry", [("payload.city", "Paris"), ("state", "done"), ("expect", "1")]
    )
    assert [filled.stored(name).state for name in ("t1", "t2")] == ["waiting", "failed"]


def test_more_tasks_than_were_shown_are_not_changed(filled):
    filled.submit("report", id="t4")
    answer = filled.send_form("/matching/cancel", [("expect", "1")])
    assert answer.status == 409
    assert "2 tasks would be changed now" in answer.text
    assert filled.stored("t3").state == "waiting"


@pytest.mark.parametrize("expect", ["", "-1", "x", "1" * 11])
def test_a_form_without_a_count_changes_nothing(filled, expect):
    assert filled.send_form("/matching/cancel", [("expect", expect)]).status == 422
    assert filled.stored("t3").state == "waiting"


# Pauses.


@pytest.mark.parametrize("name", ["forecast", "a/b ü"])
def test_an_action_is_paused_and_resumed_from_its_list(api, name):
    api.submit(name)
    page = show(api, f"?action={quote(name)}")
    assert "Pause action" in page.text
    back = f"/tasks?action={quote(name)}&did=run"
    form = {"kind": "action", "name": name, "back": back}
    answer = api.send_form("/pauses", form)
    assert unquote(answer.headers["location"]) == f"/tasks?action={name}&did=paused"
    assert api.run(api.queue.take("weather", renews=False)) is None
    assert "Resume action" in show(api, f"?action={quote(name)}").text
    answer = api.send_form("/pauses/end", form)
    assert unquote(answer.headers["location"]) == f"/tasks?action={name}&did=resumed"
    assert api.take()


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "odd", "name": "a"},
        {"kind": "action"},
        {"kind": "action", "name": "a\0"},
        {"kind": "action", "name": "a" * 201},
    ],
    ids=str,
)
def test_what_cannot_be_paused_is_refused(api, form):
    assert api.send_form("/pauses", form).status == 422


def test_a_pause_never_leads_to_another_site(api):
    form = {"kind": "action", "name": "a", "back": "//evil.example"}
    assert api.send_form("/pauses", form).headers["location"] == "/limits?did=paused"


def test_the_result_of_a_form_is_said_once_more_in_words(api):
    assert "Paused. Tasks that run already finish." in show(api, "?did=paused").text
    assert "<script" not in show(api, f"?did={quote('<script>')}").html.partition("<main")[2]
