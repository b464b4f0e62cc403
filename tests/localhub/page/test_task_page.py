"""A task's page: its attempts, its texts, why it waits, and what is done with it."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from urllib.parse import quote

import attrs
import pytest

from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.reports import ActionReport, ProviderReport
from arbprov.localhub.submitting import make_task
from arbprov.responses import INVALID_RESULT

XSS = "<script>alert('x')</script>\"'&"
SECRET = {"name": "Acme GmbH", "api_key": "hunter22"}


def show(api, name="t1", query="", **options):
    answer = api.ask("GET", f"/tasks/{quote(name, safe='')}{query}", **options)
    assert answer.status == 200, answer.text
    return answer


def envelope(message, **response):
    return json.dumps({"message": message, "data": {"response": response}})


def test_a_task_shows_what_it_was_given_and_what_came_of_it(api):
    api.submit(id="t1", payload={"city": "Paris"}, idempotency_key="once", traceparent="00-a-b-c")
    api.finish()
    text = show(api).text
    assert '{ "city": "Paris" }' in text
    assert '"rows": 1' in text
    assert "Idempotency key once" in text
    assert "Trace 00-a-b-c" in text
    assert "Last at weather" in text


def test_attempts_are_kept_over_retries(api):
    api.submit(id="t1")
    api.finish("error", envelope("first", type="KeyError"))
    assert api.send_form("/tasks/t1/retry", {}).headers["location"] == "/tasks/t1?did=retried.1"
    api.finish("success")
    text = show(api, query="?did=retried.1").text
    assert "1 task waits again." in text
    rows = re.findall(r"\b([12]) weather now (?:[\d.]+ m?s) (\w+)", text)
    assert rows == [("2", "success"), ("1", "error")]
    assert "Envelope of attempt 1" in text
    assert "first" in text


def test_another_result_of_an_attempt_is_shown_as_kept_aside(api):
    api.submit(id="t1")
    api.finish("success")
    api.record("t1", "success", envelope("another"))
    text = show(api).text
    assert "Envelope of attempt 1, and 1 more" in text
    assert "Kept aside, since the attempt had a result" in text


def test_of_very_many_attempts_the_latest_are_shown(api):
    api.submit(id="t1", max_deliveries=1_000)
    for number in range(102):
        api.finish("error", envelope(f"attempt {number}"))
        api.run(api.queue.retry(["t1"]))
    assert "The latest 100 of 102." in show(api).text


def test_problems_are_shown_at_their_paths(api):
    api.submit(id="t1")
    problem = {"path": "lines[0].price", "message": "expected a number, got a string"}
    api.finish("error", envelope("no", problems=[problem, "odd"]))
    assert "Problems lines[0].price expected a number, got a string Attempts" in show(api).text


@pytest.mark.parametrize("result", ["no JSON", "[1]", '{"data": {"response": {"problems": 1}}}'])
def test_an_odd_envelope_is_shown_as_it_is(api, result):
    api.submit(id="t1")
    api.finish("error", result)
    text = show(api).text
    assert "Problems" not in text
    assert "Envelope" in text


def test_a_running_task_says_where_it_runs(api):
    api.submit(id="t1")
    api.take()
    text = show(api).text
    assert "running on provider weather , began now" in text
    assert "Lease ends in" in text


def test_a_task_that_has_not_ended_looks_again_since_polls_are_no_changes(api):
    api.submit(id="t1")
    assert 'id="task" data-live data-every="5"' in show(api).html
    api.finish()
    assert 'id="task" data-live data-version' in show(api).html


def test_each_attempt_says_how_it_ended_and_why(api):
    api.submit(id="t1")
    api.finish("error", envelope("no such city", type="LookupError"))
    api.run(api.queue.retry(["t1"]))
    api.finish("warning", envelope("two rows are missing"))
    api.run(api.queue.retry(["t1"]))
    api.finish("success", envelope("all is well"))
    api.run(api.queue.retry(["t1"]))
    api.finish("limit", envelope("no calls left", wait_time=60, limit="5/minute"))
    ends = re.findall(r'data-label="End">(.*?)</td>', show(api).html, re.DOTALL)
    assert [" ".join(re.sub("<[^>]*>", " ", end).split()) for end in ends] == [
        "over a limit 5/minute no calls left",
        "success",
        "warning two rows are missing",
        "error LookupError no such city",
    ]


def test_problems_of_a_result_are_not_shown_as_those_of_the_payload(api):
    problem = {"path": "days", "message": "nan is not a JSON number"}
    api.submit(id="t1")
    text = f"{INVALID_RESULT}days: nan is not a JSON number"
    api.finish("error", envelope(text, error=text, problems=[problem]))
    shown = unescape(show(api).text)
    assert f"failed invalid result {text}" in shown
    assert "Problems" not in shown


def test_an_attempt_does_not_repeat_the_problems(api):
    api.submit(id="t1")
    problem = {"path": "days", "message": "expected a number"}
    api.finish("error", envelope("days: expected a number", problems=[problem]))
    text = show(api).text.partition("Payload")[0]
    assert "error invalid payload" in text
    assert "days: expected a number" not in text


def test_a_task_says_how_long_it_waited_for_its_first_attempt(api, monkeypatch):
    api.submit(id="t1")
    assert "Waited" not in show(api).text
    api.finish("error", envelope("no"))
    api.run(api.queue.retry(["t1"]))
    api.take()
    attempts = api.run(api.queue.store.attempts("t1"))
    at = api.stored("t1").created_at
    first = attrs.evolve(attempts[0], started_at=at + 90, ended_at=at + 95)

    async def read(id):
        return [first, attempts[1]]

    monkeypatch.setattr(api.queue.store, "attempts", read)
    assert "Waited 1 min 30 s" in show(api).text


def test_a_task_ran_for_as_long_as_its_last_attempt(api, monkeypatch):
    api.submit(id="t1")
    api.finish("error", envelope("no"))
    api.run(api.queue.retry(["t1"]))
    api.run(api.queue.cancel(["t1"], "enough"))
    (attempt,) = api.run(api.queue.store.attempts("t1"))
    begin = attempt.started_at

    async def read(id):
        first = attrs.evolve(attempt, ended_at=begin + 5)
        return [first, attrs.evolve(attempt, number=2, ended_at=begin + 9)]

    monkeypatch.setattr(api.queue.store, "attempts", read)
    assert "Ran for 9.0 s Deliveries" in show(api).text


def test_bars_show_when_the_attempts_ran(api, monkeypatch):
    api.submit(id="t1")
    api.finish("error", envelope("no"))
    api.run(api.queue.retry(["t1"]))
    api.take()
    attempts = api.run(api.queue.store.attempts("t1"))
    at = api.stored("t1").created_at
    monkeypatch.setattr(PageHub, "now", lambda self: at + 100)

    async def read(id):
        first = attrs.evolve(attempts[0], started_at=at + 10, ended_at=at + 20)
        return [first, attrs.evolve(attempts[1], started_at=at + 75)]

    monkeypatch.setattr(api.queue.store, "attempts", read)
    bars = re.findall(
        r'class="when (\w+)".*?class="fill" x="(.*?)" width="(.*?)"', show(api).html, re.DOTALL
    )
    assert bars == [("running", "90.0", "30.0"), ("error", "12.0", "12.0")]


def test_a_cancelled_task_says_why(api):
    api.submit(id="t1")
    api.run(api.queue.cancel(["t1"], "no longer needed"))
    assert "cancelled no longer needed" in show(api).text


def test_times_that_were_asked_for_are_shown(api):
    api.submit(id="t1", not_before=4e9, ttl=4e9, provider="weather", priority=7)
    text = show(api).text
    for words in ("Not before in", "Expires in", "Only for weather", "Priority 7"):
        assert words in text


def test_all_texts_are_escaped(api):
    text = XSS.replace('"', '\\"')
    api.submit(XSS, id=XSS, payload={XSS: XSS}, account={XSS: XSS}, provider=XSS, account_key=XSS)
    api.run(api.queue.take(XSS, renews=False))
    problem = f'{{"path": "{text}", "message": "{text}"}}'
    response = f'{{"type": "{text}", "problems": [{problem}]}}'
    api.record(XSS, "error", f'{{"message": "{text}", "data": {{"response": {response}}}}}')
    html = show(api, XSS, "?account=shown&did=%3Cscript%3E").html
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(") >= 12


# Copies.


def command_of(answer):
    found = re.search(r'id="command-line">([^<]*)<', answer.html)
    return found and shlex.split(unescape(found[1]))


def test_a_command_runs_the_task_once_more(api):
    payload = {"city": "L'Aquila $HOME `id` Zürich", "days": [1, None, True]}
    api.submit("a b", id="t1", payload=payload, provider="we ather", account=SECRET)
    answer = show(api)
    *words, text, option, provider = command_of(answer)
    assert words == ["arbprov", "call", "a b"]
    assert json.loads(text) == payload
    assert (option, provider) == ("--provider", "we ather")
    assert "Zürich" in text
    assert "add its account with --account" in answer.text


@pytest.mark.parametrize("payload", [{"a": "\u009b31m"}, {"a": "\u202e"}, {"\x7f": 1}])
def test_a_command_has_no_character_that_a_terminal_would_act_on(api, payload):
    api.submit(id="t1", payload=payload)
    text = command_of(show(api))[3]
    assert text.isascii()
    assert json.loads(text) == payload


@pytest.mark.parametrize(
    ("action", "payload", "provider"),
    [
        ("a", b"no JSON", ""),
        ("a", b"[1]", ""),
        ("a", b'{"a": "%s"}' % (b"x" * 100_000), ""),
        ("a\nb", b"{}", ""),
        ("--help", b"{}", ""),
        ("a", b"{}", "w\x1b[31m"),
    ],
)
def test_what_no_shell_can_run_has_no_command(api, action, payload, provider):
    api.run(api.queue.submit([make_task(action, payload, id="t1", provider=provider)]))
    assert command_of(show(api)) is None
    assert 'id="command"' not in show(api).html


def test_a_task_is_downloaded_as_json_without_its_accounts_values(api):
    api.submit(id="a/b", payload={"city": "Paris"}, account=SECRET)
    api.finish()
    assert 'href="/tasks/a%2Fb/download"' in show(api, "a/b").html
    answer = api.ask("GET", "/tasks/a%2Fb/download")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="task.json"'
    assert answer.json["payload"] == {"city": "Paris"}
    assert answer.json["history"][0]["result"]["message"] == "done"
    assert "hunter22" not in answer.html


# Accounts.


def test_an_account_is_masked_until_it_is_asked_for(api):
    api.submit(id="t1", account=SECRET)
    answer = show(api)
    assert "hunter22" not in answer.html
    assert "Show its values" in answer.text
    assert '"api_key": "hunter22"' in show(api, query="?account=shown").text


def test_a_reader_cannot_see_an_account(api):
    api.submit(id="t1", account=SECRET)
    answer = show(api, token=api.readers)
    assert "hunter22" not in answer.html
    assert "Ac…H" not in answer.html
    assert "Show its values" not in answer.text
    answer = api.ask("GET", "/tasks/t1?account=shown", token=api.readers)
    assert answer.status == 403
    assert "hunter22" not in answer.html


# Why it waits.


def report(api, *actions, provider="weather"):
    reported = tuple(ActionReport(name=name) for name in actions)
    api.hub.reports.put(ProviderReport(provider=provider, process="1", actions=reported))


WAITS = {
    "no provider polls this hub": lambda api: None,
    "no provider with this action": lambda api: (
        api.hub.reports.note_poll("weather", reports=True),
        report(api, "report"),
    ),
    "next of its account and action": lambda api: (
        api.hub.reports.note_poll("weather", reports=True),
        report(api, "forecast"),
    ),
    "paused: action forecast": lambda api: api.send_form(
        "/pauses", {"kind": "action", "name": "forecast"}
    ),
}


@pytest.mark.parametrize("text", WAITS)
def test_a_waiting_task_says_why(api, text):
    api.submit(id="t1")
    WAITS[text](api)
    assert f"waiting {text}" in show(api).text


def test_a_provider_that_does_not_report_may_have_any_action(api):
    api.submit(id="t1")
    api.hub.reports.note_poll("another")
    api.hub.reports.note_poll("weather")
    report(api, "report")
    assert "next of its account" in show(api).text


def test_a_task_for_a_provider_that_does_not_run_says_so(api):
    api.submit(id="t1", provider="ads")
    api.hub.reports.note_poll("weather")
    assert "its provider ads does not poll this hub" in show(api).text


def test_a_task_behind_others_says_behind_how_many(api):
    for number in range(3):
        api.submit(id=f"t{number}")
    api.hub.reports.note_poll("weather")
    assert "behind 2 tasks of the same account and action" in show(api, "t2").text


LIMITED = '{"message": "no", "data": {"response": {"wait_time": %s, "limit": "5/minute"}}}'


def test_a_task_that_a_limit_holds_says_which_of_which_account(api):
    api.submit(id="t1", account_key="0123456789abcdef")
    api.finish("limit", LIMITED % 60)
    assert "held by 5/minute of account 01234567 until" in show(api).text


# What is done with it.


def test_a_task_that_has_not_ended_cannot_be_retried(api):
    api.submit(id="t1")
    answer = api.send_form("/tasks/t1/retry", {})
    assert answer.status == 409
    assert "it is waiting" in answer.text


def test_a_task_is_cancelled_once(api):
    api.submit(id="t1")
    answer = api.send_form("/tasks/t1/cancel", {})
    assert answer.headers["location"] == "/tasks/t1?did=cancelled.1"
    assert api.stored("t1").state == "cancelled"
    assert api.send_form("/tasks/t1/cancel", {}).status == 409


def test_running_again_makes_a_new_task_that_is_like_it(api):
    api.submit(id="t1", payload={"a": 1}, account=SECRET, account_key="mine", priority=3)
    answer = api.send_form("/tasks/t1/again", {})
    name = re.fullmatch(r"/tasks/(\w+)\?did=run", answer.headers["location"])[1]
    old, new = api.stored("t1"), api.stored(name)
    for field in ("action", "payload", "account", "account_key", "priority", "provider"):
        assert getattr(new, field) == getattr(old, field)
    assert "The task is submitted." in show(api, name, "?did=run").text


@pytest.mark.parametrize("verb", ["retry", "cancel", "again"])
def test_an_unknown_task_is_refused(api, verb):
    assert api.send_form(f"/tasks/unknown/{verb}", {}).status == 404


def test_an_id_with_a_slash_has_a_page(api):
    api.submit(id="a/b c")
    assert "a/b c" in show(api, "a/b c").text
    answer = api.send_form("/tasks/a%2Fb%20c/cancel", {})
    assert answer.headers["location"] == "/tasks/a%2Fb%20c?did=cancelled.1"
