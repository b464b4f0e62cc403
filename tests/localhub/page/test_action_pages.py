"""Actions: their figures, and the form that runs one."""

from __future__ import annotations

import json
import re
import threading
from html import unescape

import pytest
from support.waiting import wait_until

from arbprov.localhub.page import action_pages
from arbprov.localhub.reports import ActionReport, ProviderReport
from arbprov.localhub.tasks import State
from arbprov.wire.accounts import find_account_key

XSS = "<script>alert('x')</script>\"'&"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where to."},
        "days": {"type": "integer", "default": 3},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
        "unit": {"enum": ["C", "F"]},
        "raw": {},
    },
    "required": ["city"],
    "$defs": {
        "Line": {
            "type": "object",
            "properties": {"article": {"type": "string"}},
            "required": ["article"],
        }
    },
}
ACCOUNT = {"type": "object", "properties": {"api_key": {"type": "string"}}}


def report(api, **values):
    """Have a provider report the action `forecast`."""
    values = {"payload_schema": SCHEMA, "account_schema": {"type": "object"}, **values}
    action = ActionReport(name="forecast", description="Forecast for a city.", **values)
    api.hub.reports.put(ProviderReport(provider="weather", process="1", actions=(action,)))


def envelope(message, **response):
    return json.dumps({"message": message, "data": {"response": response}})


def show(api, target, **options):
    answer = api.ask("GET", target, **options)
    assert answer.status == 200, answer.text
    return answer


def run(api, fields, **headers):
    """Send the form, and return the task that was submitted."""
    answer = api.send_form("/actions/forecast", fields, **headers)
    assert answer.status == 303, answer.text
    name = re.fullmatch(r"/tasks/(\w+)\?did=run", answer.headers["location"])[1]
    return api.stored(name)


def refused(api, fields):
    answer = api.send_form("/actions/forecast", fields)
    assert answer.status == 422
    assert api.all_tasks() == []
    return answer


# The list.


def test_a_hub_without_actions_says_how_to_start_a_provider(api):
    assert "No provider has reported its actions" in show(api, "/actions").text


def test_actions_show_their_figures(api):
    report(api)
    for _ in range(3):
        api.submit()
        api.finish()
    api.submit()
    api.finish("error", envelope("no", type="LookupError"))
    api.submit("report")
    answer = show(api, "/actions")
    row = answer.text.split("forecast Forecast for a city.")[1].split("report")[0]
    assert re.fullmatch(r" 0 0 1 0\.8 [\d.]+ m?s [\d.]+ m?s LookupError 1 ", row)
    assert 'aria-label="4 forecast ended in the last 5 min, 4 within 10.0 s at most"' in answer.html


def test_each_kind_of_failure_leads_to_its_tasks(api):
    api.submit()
    api.finish("error", envelope("no", type="LookupError"))
    dead = api.submit(ttl=0.001)
    wait_until(lambda: api.stored(dead).state is State.DEAD)
    queries = re.findall(
        r'<span class="error">.*?href="/tasks([^"]*)">1<', show(api, "/actions/forecast").html
    )
    assert len(queries) == 2
    for query in queries:
        assert show(api, f"/tasks{unescape(query)}").html.count('class="c-action"') == 2


def test_each_action_has_the_providers_that_report_it(api):
    for provider, name in [("weather", "forecast"), ("ads", "forecast"), ("ads", "report")]:
        action = ActionReport(name=name)
        report = ProviderReport(provider=provider, process=name, actions=(action,))
        api.hub.reports.put(report)
    assert "Provider ads Provider weather" in show(api, "/actions/forecast").text
    text = show(api, "/actions/report").text
    assert "Provider ads" in text
    assert "Provider weather" not in text


def test_the_list_reads_the_pauses_once(api, monkeypatch):
    for name in ("forecast", "report", "total"):
        api.submit(name)
    calls = []
    pauses = api.queue.store.pauses

    async def count():
        calls.append(1)
        return await pauses()

    monkeypatch.setattr(api.queue.store, "pauses", count)
    show(api, "/actions")
    assert len(calls) == 1


def test_the_figures_of_an_action_are_live(api):
    def version():
        html = show(api, "/actions/forecast").html
        return re.search(r'id="figures" data-live data-every="5" data-version="(\w+)"', html)[1]

    report(api)
    assert 'id="live-state"' in show(api, "/actions/forecast").html
    before = version()
    assert version() == before
    api.submit()
    assert version() != before


def test_a_paused_action_is_marked(api):
    report(api)
    api.send_form("/pauses", {"kind": "action", "name": "forecast"})
    assert "forecast paused" in show(api, "/actions").text


def test_the_texts_of_actions_are_escaped(api):
    schema = {"type": "object", "properties": {XSS: {"type": "string", "description": XSS}}}
    action = ActionReport(
        name=XSS, description=XSS, payload_schema=schema, account_schema=schema, limits=(XSS,)
    )
    api.hub.reports.put(ProviderReport(provider=XSS, process=XSS, version=XSS, actions=(action,)))
    path = "/actions/%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%22%27%26"
    for target in ("/actions", path, "/providers"):
        html = show(api, target).html
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html


# The form.


def test_the_form_has_a_field_for_each_property(api):
    report(api, limits=("5/minute",))
    html = show(api, "/actions/forecast").html
    for name in ("payload/city", "payload/days", "payload/lines/__1__/article", "payload/unit"):
        assert f'name="{name}"' in html
    assert 'placeholder="3 (default)"' in html
    assert "Where to." in html
    assert "5/minute" in html


@pytest.mark.parametrize(
    ("choices", "labels"),
    [
        (["Z\u00fcrich", "Gen\u00e8ve"], ["Z\u00fcrich", "Gen\u00e8ve"]),
        (["1", 1, "2"], ['"1"', "1", "2"]),
        (["true", True, 1.5], ['"true"', "true", "1.5"]),
        ([None, "", '"quoted"'], ['""', '"quoted"']),
        ([None], []),
    ],
)
def test_a_choice_is_shown_as_its_value(api, choices, labels):
    report(api, payload_schema={"type": "object", "properties": {"unit": {"enum": choices}}})
    html = show(api, "/actions/forecast").html
    select = re.search(r'name="payload/unit".*?</select>', html, re.DOTALL)[0]
    assert [unescape(one) for one in re.findall(r">([^<]*)</option>", select)] == ["", *labels]


def test_a_choice_with_an_umlaut_is_sent_as_its_value(api):
    choices = {"type": "object", "properties": {"unit": {"enum": ["Z\u00fcrich"]}}}
    report(api, payload_schema=choices)
    value = re.search(r'<option value="([^"]+)">Z', show(api, "/actions/forecast").html)[1]
    task = run(api, {"mode": "form", "payload/unit": unescape(value)})
    assert json.loads(task.payload) == {"unit": "Z\u00fcrich"}
    html = show(api, f"/actions/forecast?from={task.id}").html
    assert f'<option value="{value}" selected>Z\u00fcrich</option>' in html


def test_an_action_that_no_provider_reports_takes_json(api):
    api.submit()
    answer = show(api, "/actions/forecast")
    assert 'name="payload_text"' in answer.html
    assert "No provider reports this action now" in answer.text
    assert "Edit as" not in answer.text


def test_an_unknown_action_says_so(api):
    assert "The hub has no task of this action" in show(api, "/actions/gone").text


def test_a_reader_has_no_form(api):
    report(api)
    assert "Your token may only read" in show(api, "/actions/forecast", token=api.readers).text


def test_the_form_becomes_a_task(api):
    report(api)
    fields = [
        ("mode", "form"),
        ("payload/city", "Paris"),
        ("payload/days", "5"),
        ("payload/lines/n2", ""),
        ("payload/lines/n2/article", "a"),
        ("payload/unit", '"C"'),
        ("payload/raw", "[1]"),
        ("account_text", '{"key": "k"}'),
        ("provider", " weather "),
        ("priority", "7"),
        ("delay", "60"),
    ]
    task = run(api, fields)
    assert json.loads(task.payload) == {
        "city": "Paris",
        "days": 5,
        "lines": [{"article": "a"}],
        "unit": "C",
        "raw": [1],
    }
    assert task.account_key == find_account_key(b'{"key": "k"}')
    assert (task.provider, task.priority) == ("weather", 7)
    assert 50 < task.not_before - task.created_at < 70


def test_an_account_with_a_schema_has_fields(api):
    report(api, account_schema=ACCOUNT)
    task = run(api, {"mode": "form", "payload/city": "Paris", "account/api_key": "k"})
    assert json.loads(task.account) == {"api_key": "k"}


def test_an_account_that_is_left_blank_is_none(api):
    report(api, account_schema=ACCOUNT)
    assert run(api, {"mode": "form", "payload/city": "Paris"}).account == b""


def test_an_action_without_an_account_does_not_ask_for_one(api):
    report(api, account_schema=None)
    assert "account_text" not in show(api, "/actions/forecast").html


def test_a_payload_may_be_sent_as_json(api):
    report(api)
    task = run(api, {"mode": "json", "payload_text": '{"odd": [1, null]}'})
    assert task.payload == b'{"odd": [1, null]}' or json.loads(task.payload) == {"odd": [1, None]}


def test_an_empty_payload_is_an_object(api):
    assert run(api, {"payload_text": ""}).payload == b"{}"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"payload_text": "{"}, "JSON"),
        ({"payload_text": "[]"}, "expected an object, got an array"),
        ({"payload_text": "{}", "account_text": "3"}, "expected an object, got an integer"),
        ({"payload_text": "{}", "account_text": "{x"}, "JSON"),
        ({"payload_text": "{}", "priority": "high"}, "expected a number from -1,000 to 1,000"),
        ({"payload_text": "{}", "priority": "1001"}, "expected a number from -1,000 to 1,000"),
        ({"payload_text": "{}", "delay": "nan"}, "expected a number"),
        ({"payload_text": "{}", "provider": "a" * 201}, "at most 200 bytes"),
        ({"mode": "form", "payload/city": "x", "payload/raw": "{"}, "JSON"),
    ],
    ids=str,
)
def test_what_cannot_be_submitted_is_said_beside_its_field(api, fields, text):
    report(api)
    answer = refused(api, fields)
    assert text in answer.text
    for name, value in fields.items():
        if name != "mode":
            assert value in answer.text or f'value="{value}"' in answer.html


def finish_soon(api, status, result):
    """Be a provider that has a result for the next task."""

    def work():
        while (delivery := api.run(api.queue.take("weather", renews=False))) is None:
            pass
        api.record(delivery.id, status, result)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_problems_of_a_result_are_shown_beside_their_fields_without_a_reload(api):
    report(api)
    problems = [
        {"path": "days", "message": "expected an integer, got a string"},
        {"path": "lines[0].article", "message": "required field is missing"},
    ]
    thread = finish_soon(api, "error", envelope("no", problems=problems))
    fields = [("mode", "form"), ("payload/days", "many"), ("payload/lines/n1", "")]
    answer = api.send_form("/actions/forecast", fields, hx_request="true")
    thread.join()
    assert answer.html.startswith('<section id="run"')
    beside = dict(re.findall(r'data-path="([^"]*)">([^<]+)<', answer.html))
    assert beside == {
        "days": "expected an integer, got a string",
        "lines[0].article": "required field is missing",
    }
    assert 'value="many"' in answer.html
    assert 'name="payload/lines/0/article"' in answer.html
    assert answer.html.count('aria-invalid="true"') == 2


def test_the_result_is_shown_beside_the_form(api):
    report(api)
    thread = finish_soon(api, "success", envelope("done", rows=17))
    answer = api.send_form(
        "/actions/forecast", {"mode": "form", "payload/city": "Paris"}, hx_request="true"
    )
    thread.join()
    assert '"rows": 17' in answer.text
    assert 'value="Paris"' in answer.html
    assert "every 1s" not in answer.html


def test_a_result_that_takes_long_is_asked_for_again(api, monkeypatch):
    monkeypatch.setattr(action_pages, "_PATIENCE", 0.01)
    report(api)
    answer = api.send_form("/actions/forecast", {"payload_text": "{}"}, hx_request="true")
    pattern = r'hx-get="(/actions/forecast/outcome\?task=\w+)" hx-trigger="every 1s"'
    target = re.search(pattern, answer.html)
    assert "waiting" in show(api, target[1]).text
    problem = {"path": "days", "message": "no"}
    api.finish("error", envelope("no", problems=[problem]))
    part = show(api, target[1])
    assert "every 1s" not in part.html
    assert '<div class="messages" data-problem-path="days" hidden>no</div>' in part.html


def test_a_task_is_edited_and_run_again(api):
    report(api)
    api.submit(id="t1", payload={"city": "Paris", "days": 2}, account={"key": "s3cret"}, priority=4)
    problem = {"path": "days", "message": "too few"}
    api.finish("error", envelope("no", problems=[problem]))
    answer = show(api, "/actions/forecast?from=t1")
    assert 'value="Paris"' in answer.html
    assert 'data-path="days">too few<' in answer.html
    assert "s3cret" not in answer.html
    fields = {"mode": "form", "payload/city": "Rome", "account_from": "t1", "priority": "4"}
    task = run(api, fields)
    assert json.loads(task.payload) == {"city": "Rome"}
    assert json.loads(task.account) == {"key": "s3cret"}
    assert task.account_key == api.stored("t1").account_key


def test_another_account_may_be_entered(api):
    api.submit(id="t1", account={"key": "s3cret"})
    task = run(api, {"payload_text": "{}", "account_from": "t1", "account_text": '{"key": "b"}'})
    assert json.loads(task.account) == {"key": "b"}


@pytest.mark.parametrize("payload", [{"town": "Paris"}, {"city": "Paris", "days": "3"}])
def test_a_payload_that_no_field_can_show_is_edited_as_json(api, payload):
    report(api)
    api.submit(id="t1", payload=payload)
    answer = show(api, "/actions/forecast?from=t1")
    assert '<textarea id="payload-text"' in answer.html
    assert "Edit as fields" in answer.text


def test_a_payload_that_is_not_json_is_shown_as_it_is(api):
    from arbprov.localhub.submitting import make_task

    api.run(api.queue.submit([make_task("forecast", b"not JSON", id="t1")]))
    assert "not JSON</textarea>" in show(api, "/actions/forecast?from=t1").html


def test_what_was_entered_is_kept_when_json_is_chosen_and_fields_again(api):
    report(api)
    fields = {"mode": "form", "payload/city": "Paris", "payload/days": "x", "account_text": "{}"}
    html = api.send_form("/actions/forecast/mode", fields, hx_request="true").html
    assert "&#34;days&#34;: &#34;x&#34;" in html
    text = '{"city": "Paris", "days": 4}'
    html = api.send_form("/actions/forecast/mode", {"mode": "json", "payload_text": text}).html
    assert 'value="Paris"' in html
    assert 'value="4"' in html


@pytest.mark.parametrize("payload", ['{"odd": 1}', '{"city": 7}'])
def test_json_that_the_fields_would_lose_stays_as_json(api, payload):
    report(api)
    answer = api.send_form("/actions/forecast/mode", {"mode": "json", "payload_text": payload})
    assert "the fields can't show all of this payload" in answer.text
    assert '<textarea id="payload-text"' in answer.html


def test_text_that_is_not_json_stays_as_json(api):
    report(api)
    answer = api.send_form("/actions/forecast/mode", {"mode": "json", "payload_text": "{"})
    assert '<textarea id="payload-text"' in answer.html
    assert api.all_tasks() == []
